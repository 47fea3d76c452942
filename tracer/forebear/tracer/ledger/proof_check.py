"""Checking a proof without the ledger: a state machine over one JSON object, without IO.

Always true here: every hash is computed from what the proof shows, up to the head that its note names; a proof carries that head itself,
so by itself it proves nothing: only a key or a head that the reader had before makes it authentic. What cannot be parsed is an invalid
proof, never a failure.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NoReturn

from forebear.schemas.canonical import parse_json
from forebear.schemas.digests import digest_bytes, digest_name, sha256_name
from forebear.schemas.enums import EntryKind
from forebear.schemas.errors import ForebearError, IntegrityError
from forebear.schemas.records import Entry, Head, RunManifest
from forebear.tracer.ledger.absence import Gap, root_of_document, root_of_gap
from forebear.tracer.ledger.key_records import KeyRecord, keys_in_force
from forebear.tracer.ledger.merkle import is_consistent, root_from_path
from forebear.tracer.ledger.notes import Signed, signed_by
from forebear.tracer.ledger.reconcile import require_shape
from forebear.tracer.ledger.run_facts import run_facts

if TYPE_CHECKING:
    from forebear.tracer.ledger.keys import PublicKey

__all__ = ["MAX_PROOF", "PROOF_SCHEMA", "ProofReport", "check_proof", "row_fields"]

PROOF_SCHEMA = "forebear/proof/1"
MAX_PROOF = 16 << 20
"""Proofs are a few kilobytes; one that has to carry a manifest may be larger."""

_FIELDS = (
    "shard", "row", "document", "source_id", "source", "bytes", "words", "action", "reasons", "keeper_document", "keeper_shard",
    "keeper_row", "intersection", "union_size", "cluster", "evidence",
)  # fmt: skip
_MAX_PATH = 64


@dataclass
class ProofReport:
    """What a proof shows.

    Args:
        ok: Whether its hashes lead from what it claims to its head.
        authentic: Whether that head is the given one, or signed by the given key or one to which the proof shows that it handed over;
            None where neither was given.
        claims: What is shown, by name; empty where it does not hold.
        wrong: Why it does not hold.
    """

    ok: bool
    authentic: bool | None
    kind: str
    subject: str
    head: Mapping[str, object] | None
    claims: Mapping[str, Any] = field(default_factory=dict)
    wrong: tuple[str, ...] = ()

    @property
    def exit_code(self) -> int:
        """0: proved; 1: disproved; 2: sound, but nothing says whose."""
        if not self.ok or self.authentic is False:
            return 1
        return 0 if self.authentic else 2

    def to_json(self) -> dict[str, Any]:
        """The answer of `verify-proof --json`."""
        said = {"ok": self.ok, "authentic": self.authentic, "kind": self.kind, "subject": self.subject, "head": self.head}
        return {"schema": "forebear/verify-proof/1", **said, "claims": dict(self.claims), "wrong": list(self.wrong)}


class _Invalid(Exception):  # noqa: N818 - no failure of this program
    """A proof does not hold."""


def check_proof(data: bytes, *, key: PublicKey | None = None, head: Head | None = None) -> ProofReport:
    """Check a proof.

    Args:
        data: The proof's bytes.
        key: A key from outside, by which the proof's head must be signed.
        head: A head remembered elsewhere, which the proof's head must be.
    """
    unasked = key is None and head is None
    unknown = None if unasked else False
    try:
        if len(data) > MAX_PROOF:
            raise _Invalid(f"{len(data)} bytes, where at most {MAX_PROOF} are read")
        proof = parse_json(data)
        if not isinstance(proof, dict) or proof.get("schema") != PROOF_SCHEMA:
            raise _Invalid(f"no {PROOF_SCHEMA}")
        kind, subject = str(proof.get("kind"))[:40], str(proof.get("subject"))[:80]
    except (ValueError, RecursionError, _Invalid) as error:
        return ProofReport(False, unknown, "", "", None, wrong=(_told(error),))
    try:
        note = _text(proof, "note").encode()
        named = Head.from_bytes(note)
        if kind not in _CHECKS:
            _refuse("a kind of proof: " + ", ".join(_CHECKS), kind)
        claims = _CHECKS[kind](proof, named)
        records = _key_records(proof, named)
    except (ForebearError, ValueError, TypeError, KeyError, RecursionError, OverflowError, _Invalid) as error:
        return ProofReport(False, unknown, kind, subject, None, wrong=(_told(error),))
    wrong = _strangeness(named, head)
    if key is not None:
        unsigned, rotated = _signature(proof, note, key, records=records, size=named.size)
        wrong += unsigned
        claims = {**claims, **({"key_rotated": rotated} if rotated else {})}
    authentic = None if unasked else not wrong
    return ProofReport(True, authentic, kind, subject, named.to_json(), claims, tuple(wrong))


def _strangeness(named: Head, head: Head | None) -> list[str]:
    """Why the proof's head is not the remembered one."""
    if head is None or head == named:
        return []
    told = f"the proof leads to {named.to_json()}, and {head.to_json()} was remembered"
    return [f"{told}: ask for a proof at that head (`prove --head {head.size}`)"]


def _signature(
    proof: Mapping[str, Any], note: bytes, key: PublicKey, *, records: Sequence[tuple[int, KeyRecord]], size: int
) -> tuple[list[str], str | None]:
    """Why the head is not signed by the key, or one it handed over to; and to which it did, where that one signed."""
    from forebear.tracer.ledger.keys import PublicKey

    force = keys_in_force(key, records, size=size)
    signers = [raw for raw in force if signed_by(note, PublicKey(raw)) is Signed.YES]
    wrong = []
    if not signers:
        told = f"the proof's head is not signed by {key.key_id}, nor by a key to which it shows that this one handed over"
        if key.raw not in force:
            told = f"{key.key_id} signs no longer, as the proof shows (it handed over, or was withdrawn), and no successor signed its head"
        wrong.append(f"{told}: ask for a proof under a head that `forebear key sign` signed, or for the key in force")
    if proof["kind"] == "fork" and signed_by(_text(proof, "remembered").encode(), key) is not Signed.YES:
        wrong.append(f"the remembered head is not signed by {key.key_id}: only two signed heads convict")
    later = [raw for raw in signers if force[raw] >= 0]
    if not later or key.raw in signers:
        return wrong, None
    return wrong, f"signed by {PublicKey(later[0]).key_id}, to which the key handed over in entry {force[later[0]]}"


def _key_records(proof: Mapping[str, Any], head: Head) -> list[tuple[int, KeyRecord]]:
    """The key records that the proof shows, each under the head and built on a part of its history; in order."""
    found: list[tuple[int, KeyRecord]] = []
    for shown in proof.get("keys", []):
        entry, data = _entry(shown, head), _text(shown, "record").encode()
        number = _number(shown["entry"], "index")
        if entry.kind is not EntryKind.KEY or entry.object != sha256_name(data) or (found and number <= found[-1][0]):
            _refuse("key records under their entries, in order", number)
        record = KeyRecord.from_bytes(data)
        if record.head.size > number or not is_consistent((record.head.size, record.head.root), (head.size, head.root), _path(shown)):
            _refuse("a key record that builds on this history", record.head.to_json())
        found.append((number, record))
    return found


def _object(proof: Mapping[str, Any], head: Head) -> dict[str, Any]:
    entry = _entry(proof, head)
    subject = _digest(proof, "subject")
    if "listed" not in proof:
        if entry.object != subject:
            _refuse("the entry's object", entry.object)
        return {"entry": proof["entry"]["index"], "as": f"the object of a {entry.kind.value} entry"}
    listed = proof["listed"]
    value = parse_json(_text(listed, "text").encode())
    if not isinstance(value, list) or len(value) != 2 or value[0] != subject:
        _refuse("the listed object", value)
    _require_root("objects_root", _climb(listed), _fact(proof, entry, "objects_root"))
    return {"entry": proof["entry"]["index"], "as": "an object of its run", "run": entry.object, "bytes": value[1]}


def _decision(proof: Mapping[str, Any], head: Head) -> dict[str, Any]:
    entry = _entry(proof, head)
    document = _digest(proof, "subject")
    fields = row_fields(_text(proof["row"], "text"))
    leaf = parse_json(_text(proof["run"], "text").encode())
    if not isinstance(leaf, list) or len(leaf) != 4:
        _refuse("a leaf of a shard", leaf)
    shard, _, rows, root = leaf
    row = int(fields["row"] or "")
    if f"sha256:{fields['shard']}" != shard or f"sha256:{fields['document']}" != document:
        _refuse("the row's shard and document", f"{fields['shard']}, {fields['document']}")
    found = root_from_path(_text(proof["row"], "text").encode(), _path(proof["row"]), index=row, size=rows)
    _require_root("the part root", found, root)
    _require_root("the run digest", _climb(proof["run"]), _fact(proof, entry, "run_digest"))
    siblings = _siblings(proof["documents"])
    if _fact(proof, entry, "absence_root", optional=True) is not None:
        _require_root("absence_root", root_of_document(digest_bytes(document), siblings), _fact(proof, entry, "absence_root"))
    return {"run": entry.object, "logged": entry.time, "decision": fields}


def _absence(proof: Mapping[str, Any], head: Head) -> dict[str, Any]:
    entry = _entry(proof, head)
    document = _digest(proof, "subject")
    shown = proof["documents"]
    left, right = (None if shown[side] is None else _raw(shown[side], 96) for side in ("left", "right"))
    root = root_of_gap(digest_bytes(document), Gap(left, right, _siblings(shown)))
    _require_root("absence_root", root, _fact(proof, entry, "absence_root"))
    return {"run": entry.object, "logged": entry.time, "absent": "no row that this run logged has this document"}


def _consistency(proof: Mapping[str, Any], head: Head) -> dict[str, Any]:
    old = _old(proof)
    if not is_consistent((old.size, old.root), (head.size, head.root), _path(proof)):
        _refuse("a path between the two heads", "one that does not lead from one to the other")
    if proof["kind"] == "consistency":
        _require_root("the subject", old.root, _digest(proof, "subject"))
    return {"old": old.to_json()}


def _fork(proof: Mapping[str, Any], head: Head) -> dict[str, Any]:
    remembered, here = Head.from_bytes(_text(proof, "remembered").encode()), _old(proof)
    _consistency(proof, head)
    _require_root("the subject", remembered.root, _digest(proof, "subject"))
    if remembered.size != here.size or remembered.root == here.root:
        _refuse("two heads of one size and different roots", f"{remembered.to_json()}, {here.to_json()}")
    return {"remembered": remembered.to_json(), "here": here.to_json(), "fork": "no history has both"}


_CHECKS = {"object": _object, "decision": _decision, "absence": _absence, "consistency": _consistency, "fork": _fork}


def _entry(proof: Mapping[str, Any], head: Head) -> Entry:
    """The proof's entry, once its path leads to the head."""
    shown = proof["entry"]
    text = _text(shown, "text").encode()
    if root_from_path(text, _path(shown), index=_number(shown, "index"), size=head.size) != head.root:
        _refuse("the head's root from the entry", "another")
    return Entry.from_bytes(text)


def _fact(proof: Mapping[str, Any], entry: Entry, name: str, *, optional: bool = False) -> str | None:
    """A fact of a run: what its manifest says where the proof shows it, else what its entry says."""
    if entry.kind is not EntryKind.RUN:
        _refuse("the entry of a run", entry.kind.value)
    value = entry.facts.get(name)
    if "manifest" in proof:
        data = _text(proof, "manifest").encode()
        if sha256_name(data) != entry.object:
            _refuse("the manifest that the entry names", sha256_name(data))
        manifest = RunManifest.from_bytes(data)
        require_shape(manifest)
        true = run_facts(manifest).get(name)
        if name in entry.facts and value != true:
            _refuse(f"the manifest's {name} in the entry", value)
        if true is None and optional:
            return None
        value = true
    if not isinstance(value, str):
        _refuse(f"{name} in the entry or the manifest", value)
    return value


def row_fields(text: str) -> dict[str, str | None]:
    """The sixteen fields of a canonical row text; lists as the netstrings of their elements."""
    data, at = text.encode(), 0
    values: list[str | None] = []
    while at < len(data):
        if data[at : at + 2] == b"~,":
            values.append(None)
            at += 2
            continue
        size, mark, _ = data[at : at + 12].partition(b":")
        if not mark or not size.isdigit() or (size != b"0" and size[:1] == b"0"):
            _refuse("netstrings", text[:40])
        start = at + len(size) + 1
        at = start + int(size) + 1
        if data[at - 1 : at] != b",":
            _refuse("netstrings", text[:40])
        values.append(data[start : at - 1].decode())
    if len(values) != len(_FIELDS):
        _refuse(f"{len(_FIELDS)} fields", len(values))
    return dict(zip(_FIELDS, values, strict=True))


def _climb(shown: Mapping[str, Any]) -> bytes | None:
    return root_from_path(_text(shown, "text").encode(), _path(shown), index=_number(shown, "index"), size=_number(shown, "size"))


def _require_root(name: str, found: bytes | None, expected: object) -> None:
    if found is None or digest_name(found) != expected:
        _refuse(f"{name} {expected}", "another" if found is None else digest_name(found))


def _old(proof: Mapping[str, Any]) -> Head:
    shown = proof["old"]
    return Head(_number(shown, "size"), digest_bytes(_text(shown, "root")))


def _siblings(shown: Mapping[str, Any]) -> tuple[tuple[str, bytes], ...]:
    return tuple((one[:1], _raw(one[1:], 96)) for one in _list(shown, "siblings"))


def _path(shown: Mapping[str, Any]) -> list[bytes]:
    return [_raw(one, 32) for one in _list(shown, "path")]


def _list(shown: Mapping[str, Any], name: str) -> Sequence[str]:
    value = shown[name]
    if not isinstance(value, list) or len(value) > _MAX_PATH or not all(isinstance(one, str) for one in value):
        _refuse(f"at most {_MAX_PATH} texts in {name}", "something else")
    return value


def _raw(text: object, size: int) -> bytes:
    try:
        raw = base64.b64decode(str(text), validate=True)
    except (ValueError, binascii.Error):
        raw = b""
    if len(raw) != size:
        _refuse(f"{size} bytes in base64", str(text)[:40])
    return raw


def _number(shown: Mapping[str, Any], name: str) -> int:
    value = shown[name]
    if type(value) is not int or not 0 <= value < 1 << 62:
        _refuse(f"a number in {name}", value)
    return value


def _text(shown: Mapping[str, Any], name: str) -> str:
    value = shown[name]
    if not isinstance(value, str):
        _refuse(f"a text in {name}", value)
    return value


def _digest(shown: Mapping[str, Any], name: str) -> str:
    text = _text(shown, name)
    digest_bytes(text)
    return text


def _refuse(expected: str, found: object) -> NoReturn:
    raise _Invalid(f"expected {expected}; found {str(found)[:200]}")


def _told(error: Exception) -> str:
    if isinstance(error, IntegrityError | _Invalid):
        return str(error)
    return f"{type(error).__name__}: {str(error)[:200]}"
