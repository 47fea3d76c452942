"""Making proofs: that a document's decision, an object or a document's absence is what a head commits to.

Always true here: a proof is one JSON object that is checked without the ledger (`proof_check`); it is made from bytes that were hashed
as they were read; it holds digests, row facts and entries, never a text. Most are a few kilobytes, whatever the size of the ledger.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from forebear.schemas.canonical import canonical_json, row_leaves, row_texts
from forebear.schemas.digests import digest_bytes, digest_name, leaf_hash, merkle_root
from forebear.schemas.enums import EntryKind
from forebear.schemas.errors import IntegrityError, UsageError
from forebear.schemas.records import RunManifest, run_digest_leaves
from forebear.schemas.tables import DIGEST, LOG, SHARDS
from forebear.tracer.ledger.absence import document_path, find_gap, sorted_documents
from forebear.tracer.ledger.key_records import KeyRecord
from forebear.tracer.ledger.layout import MAX_HEAD, is_prefix, parse_head
from forebear.tracer.ledger.ledger import Ledger
from forebear.tracer.ledger.merkle import audit_path, consistency_path
from forebear.tracer.ledger.parts import RANGE_ROWS, run_scope
from forebear.tracer.ledger.proof_check import PROOF_SCHEMA
from forebear.tracer.ledger.run_facts import documents_of_run, object_leaves, run_facts

__all__ = ["prove", "prove_consistency", "prove_fork"]

Run = tuple[int, str, RunManifest]


def prove(ledger: Ledger, subject: str, *, run: str | None = None) -> dict[str, Any]:
    """A proof about a document or an object.

    An object (or a run, a record) of the ledger: that a head commits to it. A document that the run logged: what was decided about its
    first row. Any other digest: that no document of the run has it.

    Args:
        ledger: At the head (`Ledger.at`) that the proof shall lead to.
        subject: A whole digest.
        run: Digest of the run; default: the newest that has the document, else the newest.

    Raises:
        UsageError: No digest; no such run; no run; or a run without a tree of documents.
        IntegrityError: The ledger is damaged where the proof would come from.
    """
    wanted = digest_bytes(subject)
    found = _object(ledger, subject) if run is None else None
    if found is not None:
        return found
    runs = [ledger.find_run(run)] if run is not None else ledger.runs()[::-1]
    if not runs:
        raise UsageError(
            "no_run",
            expected="a ledger with a run, or an object of it",
            found="neither",
            remedy="`forebear scan` logs a run; an absence can be proved of a run alone.",
        )
    for one in runs:
        place = _first_row(ledger, one[2], wanted)
        if place is not None:
            return _decision(ledger, one, wanted, place=place)
    return _absence(ledger, runs[0], wanted, others=len(runs) - 1)


def prove_consistency(ledger: Ledger, old: int) -> dict[str, Any]:
    """That the head continues the one over the first `old` entries.

    Raises:
        UsageError: There was no such head.
    """
    leaves = [leaf_hash(data) for _, data, _ in ledger.entries()]
    before = ledger.at(old).head()
    if not old:
        raise UsageError("unknown_head", expected="a head of at least one entry", found="0", remedy="Any head continues it.")
    path = _texts(consistency_path(leaves, old))
    return {**_about(ledger, "consistency", before.to_json()["root"]), "old": before.to_json(), "path": path}


def prove_fork(ledger: Ledger, remembered: bytes) -> dict[str, Any] | None:
    """Two heads that cannot both be of one history: one remembered elsewhere, and this ledger's; None where they can.

    Args:
        remembered: A head as it was kept, with its signatures.
    """
    old = parse_head(remembered)
    entries = ledger.entries()
    if not 0 < old.size <= len(entries):
        return None
    here = ledger.at(old.size).head()
    if here.root == old.root:
        return None
    path = _texts(consistency_path([leaf_hash(data) for _, data, _ in entries], old.size))
    proof = _about(ledger, "fork", digest_name(old.root))
    return {**proof, "remembered": remembered.decode("utf-8", "replace"), "old": here.to_json(), "path": path}


def _about(ledger: Ledger, kind: str, subject: object) -> dict[str, Any]:
    """What every proof begins with; the note is signed where the stored head is, and is of this size."""
    head = ledger.head()
    note = ledger.stored_note()
    if note is None or len(note) > MAX_HEAD or not note.startswith(head.to_bytes() + b"\n"):
        note = head.to_bytes()
    keys = _key_records(ledger)
    return {"schema": PROOF_SCHEMA, "kind": kind, "subject": subject, "note": note.decode(), **({"keys": keys} if keys else {})}


def _key_records(ledger: Ledger) -> list[dict[str, Any]]:
    """What keys said of keys up to the head, so that an older key leads to the one that signs; void records are left out."""
    entries, shown = ledger.entries(), []
    texts = [data for _, data, _ in entries]
    for number, _, entry in entries:
        if entry.kind is not EntryKind.KEY:
            continue
        try:
            data = ledger.get_object(entry.object)
            head = KeyRecord.from_bytes(data).head
        except IntegrityError:
            continue
        if 0 < head.size <= number and is_prefix(head, texts):
            path = _texts(consistency_path(list(map(leaf_hash, texts)), head.size))
            shown.append({"record": data.decode(), "entry": _entry(ledger, number), "path": path})
    return shown


def _entry(ledger: Ledger, number: int) -> dict[str, Any]:
    entries = ledger.entries()
    path = audit_path([leaf_hash(data) for _, data, _ in entries], number)
    return {"text": entries[number][1].decode(), "index": number, "path": _texts(path)}


def _of_run(ledger: Ledger, run: Run, *needed: str) -> dict[str, Any]:
    """The entry of a run; with the manifest where the entry lacks a fact that is needed."""
    number, digest, manifest = run
    said: dict[str, Any] = {"entry": _entry(ledger, number)}
    facts, true = ledger.entries()[number][2].facts, run_facts(manifest)
    if any(name not in facts or facts[name] != true.get(name) for name in needed):
        said["manifest"] = ledger.get_object(digest).decode()
    return said


def _object(ledger: Ledger, subject: str) -> dict[str, Any] | None:
    for number, _, entry in reversed(ledger.entries()):
        if entry.object == subject:
            return {**_about(ledger, "object", subject), "entry": _entry(ledger, number)}
    for run in ledger.runs()[::-1]:
        leaves = object_leaves(run[2])
        for at, leaf in enumerate(leaves):
            if leaf.startswith(canonical_json([subject])[:-1] + b","):
                path = _texts(audit_path(list(map(leaf_hash, leaves)), at))
                listed = {"text": leaf.decode(), "index": at, "size": len(leaves), "path": path}
                return {**_about(ledger, "object", subject), **_of_run(ledger, run, "objects_root"), "listed": listed}
    return None


def _first_row(ledger: Ledger, manifest: RunManifest, document: bytes) -> tuple[bytes, int] | None:
    """The first (shard, row) of a document in a run's log."""
    found = []
    value = pa.scalar(document, DIGEST)
    for ref in manifest.log:
        table = ledger.read_log(ref.object, columns=["shard", "row", "document"])
        rows = table.filter(pc.fill_null(pc.equal(table["document"], value), fill_value=False))
        found += list(zip(rows["shard"].to_pylist(), rows["row"].to_pylist(), strict=True))
    return min(found, default=None)


def _decision(ledger: Ledger, run: Run, document: bytes, *, place: tuple[bytes, int]) -> dict[str, Any]:
    manifest = run[2]
    shard, number = place
    shards = ledger.read_table(manifest.shards.object, SHARDS).to_pylist()
    (row,) = [one for one in shards if one["shard"] == shard]
    text, path = _row_path(ledger, row, number)
    siblings = document_path(_sorted(ledger, manifest), document)
    assert siblings is not None, "the document was found in the log"
    return {
        **_about(ledger, "decision", digest_name(document)),
        **_of_run(ledger, run, "run_digest", "absence_root"),
        "run": _shard_path(manifest, shards, shard),
        "row": {"text": text, "path": _texts(path)},
        "documents": {"siblings": _labels(siblings)},
    }


def _absence(ledger: Ledger, run: Run, document: bytes, *, others: int) -> dict[str, Any]:
    if run[2].absence_root is None:
        raise UsageError(
            "no_absence_tree",
            expected="a run whose manifest has the root of the tree over its documents",
            found=f"none in {run[1]}",
            remedy="Scan the corpus again with this version of forebear.",
        )
    gap = find_gap(_sorted(ledger, run[2]), document)
    assert gap is not None, "the document is not in the log"
    sides = {side: None if label is None else _text(label) for side, label in (("left", gap.left), ("right", gap.right))}
    return {
        **_about(ledger, "absence", digest_name(document)),
        **_of_run(ledger, run, "absence_root"),
        "documents": {**sides, "siblings": _labels(gap.siblings)},
        "other_runs": others,
    }


def _sorted(ledger: Ledger, manifest: RunManifest) -> list[Any]:
    return list(sorted_documents(lambda: documents_of_run(ledger, manifest), manifest.rows["in"]))


def _shard_path(manifest: RunManifest, shards: Sequence[dict[str, Any]], shard: bytes) -> dict[str, Any]:
    """The path from a shard's leaf to the run digest."""
    listed = [(digest_name(one["shard"]), one["source"], one["rows"], digest_name(one["log_digest"])) for one in shards]
    leaves = run_digest_leaves(scope=run_scope(manifest), shards=listed)
    (mine,) = [one for one in listed if one[0] == digest_name(shard)]
    text = canonical_json(list(mine))
    at = leaves.index(leaf_hash(text))
    return {"text": text.decode(), "index": at, "size": len(leaves), "path": _texts(audit_path(leaves, at))}


def _row_path(ledger: Ledger, shard: dict[str, Any], number: int) -> tuple[str, list[bytes]]:
    """A row's canonical text and its path to the part root: within its aligned range, then over the ranges."""
    roots, text, path = [], "", []
    for span in shard["log"]:
        log = ledger.read_table(digest_name(span["pack"]), LOG).slice(span["offset"], span["rows"])
        rows = log["row"].to_numpy()
        leaves = row_leaves(log)
        at = int(np.searchsorted(rows, number))
        if at < len(rows) and rows[at] == number:
            text, path = row_texts(log.slice(at, 1))[0].as_py(), audit_path(leaves, at)
        roots.append(merkle_root(leaves))
    upper = audit_path(roots, number // RANGE_ROWS)
    return text, [*path, *upper]


def _text(raw: bytes) -> str:
    return base64.b64encode(raw).decode()


def _texts(hashes: Sequence[bytes]) -> list[str]:
    return [_text(one) for one in hashes]


def _labels(siblings: Sequence[tuple[str, bytes]]) -> list[str]:
    return [side + _text(label) for side, label in siblings]
