"""Checking a certificate: signature, files, proofs and, given a ledger, every statement.

Always true here: nothing that a certificate says is taken before its signature holds where a key was given; without a key nothing
is authentic, however well it fits; files are compared by what the folder holds, never opened by names that a certificate gives. A
finding wins over what could not be told, and what was not looked at is said.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from forebear.schemas.canonical import parse_json
from forebear.schemas.digests import digest_bytes, digest_name, sha256_name
from forebear.schemas.enums import Verdict
from forebear.schemas.errors import DataError, ForebearError, UsageError
from forebear.schemas.records import Entry
from forebear.tracer.certify import wording
from forebear.tracer.certify.dsse import MAX_ENVELOPE, Envelope, read_envelope
from forebear.tracer.certify.folder import LEFT_OUT, ModelFolder, Progress, read_folder
from forebear.tracer.certify.hugging_face import find_section, section_digest
from forebear.tracer.certify.release import CERTIFICATE, FOLDER, README, SECTION
from forebear.tracer.certify.signers import Signers, read_signers
from forebear.tracer.certify.statement import PREDICATE_TYPE, SCHEMA, STATEMENT_TYPE, subjects_of
from forebear.tracer.ledger.keys import PublicKey
from forebear.tracer.ledger.merkle import root_from_path

__all__ = ["Checked", "Finding", "check_certificate", "gate", "known_verdict", "parse_statement"]

_ORDER = [one.value for one in Verdict]
_NEEDED = {"verdict": str, "at_worst": str, "complete": bool, "model": dict, "exposures": dict, "unknown": dict, "heads": list,
           "as_of": dict, "ancestry": dict, "datasets": list, "runs": list, "proofs": dict, "documents": dict}  # fmt: skip
_GONE = "Get the file again from where the model is released."
_MAX_README = 16 << 20


@dataclass(frozen=True)
class Finding:
    """One thing that is not as the certificate says."""

    object: str
    kind: str
    expected: str
    found: str
    remedy: str

    def to_json(self) -> dict[str, str]:
        """As answers carry it."""
        return dict(vars(self))


@dataclass
class Checked:
    """What a check found. `told` is false where something that decides could not be looked at."""

    authentic: bool | None = None
    statement: Mapping[str, Any] | None = None
    findings: list[Finding] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    told: bool = True
    files: int = 0
    proofs: int = 0
    ledger: str = "not given"
    verdict_now: str | None = None
    at_worst_now: str | None = None

    @property
    def predicate(self) -> Mapping[str, Any]:
        """The predicate of the statement."""
        found: Mapping[str, Any] = {} if self.statement is None else self.statement["predicate"]
        return found

    @property
    def exit_code(self) -> int:
        """1 a finding; else 2 where something decisive could not be told; else 0."""
        if self.findings:
            return 1
        return 0 if self.authentic and self.told else 2

    def find(self, what: str, kind: str, *, expected: str, found: str, remedy: str = _GONE) -> None:
        """Add a finding."""
        self.findings.append(Finding(what, kind, expected, found, remedy))

    def to_json(self) -> dict[str, Any]:
        """The answer of `forebear verify-certificate --json`."""
        said = self.predicate
        found: dict[str, Any] = {"schema": "forebear/verify-certificate/1", "ok": self.exit_code == 0, "authentic": self.authentic}
        found |= {name: said.get(name) for name in ("model", "verdict", "at_worst", "complete", "heads")}
        found |= {"as_of": wording.as_of(said) if said else None, "verdict_now": self.verdict_now}
        found |= {"checked": {"files": self.files, "proofs": self.proofs, "ledger": self.ledger}}
        return {**found, "findings": [one.to_json() for one in self.findings], "notes": self.notes}


def check_certificate(path: Path, *, key: PublicKey | None, ledger: str | None = None, progress: Progress | None = None) -> Checked:
    """Check a model's folder, or a certificate alone.

    Args:
        path: The folder, or the certificate's file.
        key: The publisher's key, from outside the folder.
        ledger: A ledger to hold the statements against.
        progress: Told of bytes as files are hashed.

    Raises:
        UsageError: There is no certificate, or the folder holds what cannot be read.
        DataError: The certificate is none.
    """
    certificate, folder = _places(path)
    envelope = read_envelope(_read(certificate, MAX_ENVELOPE + 1))
    checked = Checked()
    signers = _signers(key, ledger)
    signer = _check_signature(checked, envelope, signers)
    if checked.authentic is False:
        return checked
    checked.statement = parse_statement(envelope.payload)
    if signers is not None and signer is not None:
        _check_force(checked, signers, signer)
    _check_files(checked, folder, progress)
    _check_proofs(checked)
    if ledger is not None:
        _check_ledger(checked, ledger)
    return checked


def _places(path: Path) -> tuple[Path, Path | None]:
    """The certificate and the folder that it is about."""
    if path.is_dir():
        return path / CERTIFICATE, path
    inside = path.parent.name == FOLDER and path.name == CERTIFICATE.rsplit("/", 1)[-1]
    return path, path.parent.parent if inside else None


def _read(path: Path, limit: int) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(limit)
    except OSError as error:
        found = error.strerror or str(error)
        remedy = "Name a folder with forebear/certificate.dsse.json in it, or a certificate."
        raise UsageError("no_certificate", expected=f"a certificate at {path}", found=found, remedy=remedy) from error


def _signers(key: PublicKey | None, ledger: str | None) -> Signers | None:
    if key is None or ledger is None:
        return None if key is None else Signers(key)
    from forebear.tracer.ledger.ledger import Ledger

    return read_signers(key, Ledger.open(ledger))


def _check_signature(checked: Checked, envelope: Envelope, signers: Signers | None) -> PublicKey | None:
    """Whether a key that is believed signed; gives that key."""
    if signers is None:
        checked.notes.append("no key was given: nothing says whose certificate this is")
        return None
    signer = signers.signer(envelope)
    checked.authentic = signer is not None
    if signer is not None:
        return signer
    key = signers.trusted
    claimed = [one if one.startswith("sha256:") else f"sha256:{one}" for one, _ in envelope.signatures]
    if key.key_id in claimed:
        found, remedy = "a signature that does not fit: the certificate was edited after it was signed", _GONE
    else:
        found = f"signatures that say they are of {', '.join(claimed)[:300]}"
        remedy = "Ask the publisher which key was in force then; a key that came with the model proves nothing."
    checked.find(CERTIFICATE, "bad_signature", expected=f"a signature by {key.key_id}", found=found, remedy=remedy)
    return None


def _check_force(checked: Checked, signers: Signers, signer: PublicKey) -> None:
    """What the ledger says of the key that signed: withdrawn, handed over before, or handed over to."""
    size = checked.predicate["heads"][0]["size"]
    remedy = "Ask the publisher for a certificate by the key in force."
    if (entry := signers.withdrawn(signer)) is not None:
        found = f"entry {entry} of the ledger withdraws it"
        checked.find(signer.key_id, "key_revoked", expected="a key that nobody withdrew", found=found, remedy=remedy)
    elif not signers.in_force(signer, size=size):
        found = "it had handed over to another key before, or was not yet handed over to"
        checked.find(signer.key_id, "key_not_in_force", expected=f"a key in force at head {size}", found=found, remedy=remedy)
    elif signer != signers.trusted:
        checked.notes.append(f"signed by {signer.key_id}, to which {signers.trusted.key_id} handed over in the ledger")


def parse_statement(payload: bytes) -> dict[str, Any]:
    """The statement in an envelope's payload.

    Raises:
        DataError: It is no birth certificate of a version that is known here.
    """
    try:
        value: dict[str, Any] = parse_json(payload)
        predicate = value["predicate"]
        said = value["_type"], value["predicateType"], predicate["schema"]
        if said != (STATEMENT_TYPE, PREDICATE_TYPE, SCHEMA):
            raise ValueError(f"type {said!r:.200}")
        wrong = [name for name, kind in _NEEDED.items() if not isinstance(predicate.get(name), kind)]
        if wrong or predicate["verdict"] not in _ORDER or predicate["at_worst"] not in _ORDER or not predicate["heads"]:
            raise ValueError(f"fields {', '.join(wrong) or 'verdict, at_worst, heads'}")
        if not isinstance(value["subject"], list) or not value["subject"]:
            raise ValueError("no subject")
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise DataError(
            "not_a_certificate",
            expected=f"an in-toto statement with a predicate {PREDICATE_TYPE}",
            found=f"{type(error).__name__}: {str(error)[:200]}",
            remedy="Check it with the version of forebear that made it, or a newer one.",
        ) from error
    return value


# -- files ------------------------------------------------------------------------------------------------------------


def _check_files(checked: Checked, folder: Path | None, progress: Progress | None) -> None:
    files = checked.predicate["files"]
    if folder is None or files is None:
        why = "the certificate names no files" if files is None else "a certificate alone was given, not the model's folder"
        checked.notes.append(f"files were not compared: {why}")
        checked.told = False
        return
    there = read_folder(folder, follow_links=True, progress=progress)
    checked.files = len(there.files)
    checked.notes += [f"{one.path} was read through a symbolic link" for one in there.files if one.link]
    try:
        _check_subjects(checked, files)
        _compare_files(checked, files["listed"], there)
        _check_documents(checked, folder)
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise _malformed("files", error) from error


def _check_subjects(checked: Checked, files: Mapping[str, Any]) -> None:
    """The statement's subjects must be what its own list of files gives, left out as here."""
    assert checked.statement is not None
    if tuple(files["left_out"]) != LEFT_OUT:
        found = ", ".join(map(str, files["left_out"]))
        checked.find("left_out", "other_rules", expected=", ".join(LEFT_OUT), found=found, remedy="Use the version that made it.")
    expected = subjects_of(wording.name_of(checked.predicate["model"]), files["listed"])
    if checked.statement["subject"] != expected:
        found = "subjects that are not the files of its predicate"
        checked.find(CERTIFICATE, "inconsistent_certificate", expected="subjects that follow from its files", found=found)


def _compare_files(checked: Checked, listed: list[Mapping[str, Any]], there: ModelFolder) -> None:
    said = {one["path"]: one["digest"] for one in listed}
    found = {one.path: one.sha256 for one in there.files}
    for path in sorted(said.keys() | found.keys()):
        if path not in found:
            checked.find(path, "file_missing", expected=said[path], found="no such file")
        elif path not in said:
            remedy = "Remove it: it was not there when the certificate was made."
            checked.find(path, "extra_file", expected="no such file", found=found[path], remedy=remedy)
        elif said[path] != found[path]:
            checked.find(path, "file_differs", expected=said[path], found=found[path])


def _check_documents(checked: Checked, folder: Path) -> None:
    """What was released beside the certificate: gone is a note, other than it was a finding."""
    for name, digest in sorted(checked.predicate["documents"].items()):
        if name == SECTION:
            _check_section(checked, folder / README, digest)
            continue
        if not name.startswith(f"{FOLDER}/") or "/" in name.removeprefix(f"{FOLDER}/"):
            raise ValueError(f"a document at {name!r:.80}")
        if not (folder / name).is_file():
            checked.notes.append(f"{name} is not there")
        elif (found := sha256_name(_read(folder / name, MAX_ENVELOPE))) != digest:
            checked.find(name, "document_differs", expected=digest, found=found)


def _check_section(checked: Checked, readme: Path, digest: str) -> None:
    if not readme.is_file():
        checked.notes.append("README.md is not there")
        return
    text = _read(readme, _MAX_README).decode(errors="replace")
    try:
        section = find_section(text)
    except DataError as error:
        found, remedy = error.found, "Get the README again, or remove our section from it."
        checked.find(README, "readme_differs", expected="our section as it was written", found=found, remedy=remedy)
        return
    if section is None:
        checked.notes.append("README.md no longer has forebear's section")
    elif (found := section_digest(section)) != digest:
        remedy = "Do not trust what the README says between forebear's markers; the certificate holds."
        checked.find(README, "readme_differs", expected=f"our section with digest {digest}", found=found, remedy=remedy)


# -- proofs -----------------------------------------------------------------------------------------------------------


def _check_proofs(checked: Checked) -> None:
    """Every entry that the answers rest on is in the head that they are as of."""
    try:
        head, proofs = checked.predicate["heads"][0], checked.predicate["proofs"]
        proved: dict[int, str] = {}
        for one in proofs["listed"]:
            data = base64.b64decode(one["data"], validate=True)
            path = [digest_bytes(step) for step in one["path"]]
            root = root_from_path(data, path, index=one["entry"], size=head["size"])
            if root is None or digest_name(root) != head["root"]:
                found = "a proof that leads elsewhere"
                checked.find(f"entry {one['entry']}", "bad_proof", expected=f"a path to the head's root {head['root']}", found=found)
                continue
            proved[one["entry"]] = Entry.from_bytes(data).object
        for run in checked.predicate["runs"]:
            if run["entry"] in proved and proved[run["entry"]] != run["run"]:
                found = f"{proved[run['entry']]} at entry {run['entry']}"
                checked.find(f"run {run['run']}", "bad_proof", expected="an entry that adds it", found=found)
            elif run["entry"] not in proved and not proofs["omitted"]:
                checked.find(f"run {run['run']}", "bad_proof", expected=f"a proof of entry {run['entry']}", found="none")
        checked.proofs = len(proved)
    except (KeyError, TypeError, AttributeError, ValueError, binascii.Error, ForebearError) as error:
        raise _malformed("proofs", error) from error


# -- the ledger -------------------------------------------------------------------------------------------------------


def _check_ledger(checked: Checked, url: str) -> None:
    """Every statement computed again at the certificate's head, and what is known since."""
    from forebear.tracer.audit.session import Session
    from forebear.tracer.certify.statement import FROM_LEDGER, claims

    head, model = checked.predicate["heads"][0], checked.predicate["model"]["id"]
    now = Session.open(url)
    if now.head.size < head["size"]:
        checked.ledger, checked.told = "older than the certificate", False
        checked.notes.append(f"the ledger has {now.head.size} entries, the certificate is as of {head['size']}: not compared")
        return
    then = Session.open(url, head=head["size"])
    if then.head.to_json() != head:
        checked.ledger = "another one"
        found = f"{then.head.to_json()['root']} at {head['size']} entries"
        remedy = "Name the ledger that the certificate was made from; if this is it, its history was rewritten."
        checked.find("head", "other_ledger", expected=head["root"], found=found, remedy=remedy)
        return
    checked.ledger = "compared"
    computed = claims(then, model)
    for name in FROM_LEDGER:
        if checked.predicate.get(name) != computed[name]:
            remedy = f"Made by forebear {checked.predicate.get('forebear')}: compare with that version before you doubt the publisher."
            checked.find(
                name, "statement_differs", expected=str(computed[name])[:300], found=str(checked.predicate.get(name))[:300], remedy=remedy
            )
    _since(checked, now, model)


def _since(checked: Checked, now: Any, model: str) -> None:
    """What the ledger says of the model today, where it has grown."""
    from forebear.schemas.enums import EntryKind

    head = checked.predicate["heads"][0]["size"]
    if now.head.size == head:
        return
    later = [n for n, _, entry in now.ledger.entries() if n >= head and entry.kind is EntryKind.ADVISORY]
    trace = now.trace(model)
    checked.verdict_now, checked.at_worst_now = trace.verdict.value, trace.at_worst.value
    said = f"{len(later)} of them advisories" if later else "none of them an advisory"
    checked.notes.append(f"the ledger has {now.head.size - head} later entries, {said}; the verdict there is {trace.verdict.value}")
    touching = [entry for entry in trace.advisories if entry >= head]
    worse = _ORDER.index(trace.verdict.value) < min(_ORDER.index("unknown"), _ORDER.index(checked.predicate["verdict"]))
    remedy = "Ask the publisher for a new certificate, and what they make of it."
    if touching:
        found = f"entries {', '.join(map(str, touching[:20]))}, published after head {head}"
        checked.find("advisories", "superseded", expected="no later advisory about it", found=found, remedy=remedy)
    if worse:
        found = f"{trace.verdict.value} as of head {now.head.size}"
        checked.find("verdict", "superseded", expected=checked.predicate["verdict"], found=found, remedy=remedy)


# -- the gate ---------------------------------------------------------------------------------------------------------


def known_verdict(text: str) -> str:
    """The text, where it is a verdict.

    Raises:
        UsageError: There is no such verdict.
    """
    if text not in _ORDER:
        raise UsageError("unknown_verdict", expected=f"one of {', '.join(_ORDER)}", found=repr(text), remedy="Name a verdict.")
    return text


def gate(checked: Checked, required: str) -> int:
    """0 where the verdict is the required one or better; 1 where an exposure forbids it, 2 where something unknown does.

    A requirement milder than `unknown` is held against the worst that could be true; `unknown` itself accepts what is not known.

    Raises:
        UsageError: There is no such verdict.
    """
    known_verdict(required)
    if not checked.predicate:
        return 2
    limit, unknown = _ORDER.index(required), _ORDER.index("unknown")
    verdict = min(_ORDER.index(one) for one in (checked.predicate["verdict"], checked.verdict_now) if one is not None)
    at_worst = min(_ORDER.index(one) for one in (checked.predicate["at_worst"], checked.at_worst_now) if one is not None)
    if verdict < limit and verdict < unknown:
        return 1
    if verdict < limit or (limit < unknown and at_worst < limit):
        return 2
    return 0


def _malformed(what: str, error: Exception) -> DataError:
    return DataError(
        "malformed_certificate",
        expected=f"{what} as certificate.schema.json has them",
        found=f"{type(error).__name__}: {str(error)[:200]}",
        remedy="Get the certificate again; if it is the one that was released, tell its publisher.",
    )
