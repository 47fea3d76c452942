"""Commitments without disclosure: a published ledger that commits to a run's documents under one salt.

Always true here: the published values are HMAC-SHA-256 of document digests with the salt as key, so who lacks the salt cannot test a
guess; the record that a published head commits to holds the tree's root and a hash of the salt, so one salt serves all answers. The
private ledger is only read.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterable, Iterator
from datetime import datetime
from typing import Any

import numpy as np

from forebear.schemas.canonical import canonical_json, parse_json
from forebear.schemas.digests import digest_name
from forebear.schemas.enums import EntryKind
from forebear.schemas.errors import UsageError
from forebear.schemas.moments import utc_text
from forebear.schemas.records import Entry, RunManifest
from forebear.tracer.ledger.absence import (
    Documents,
    Gap,
    document_path,
    find_gap,
    root_of_document,
    root_of_documents,
    root_of_gap,
    sorted_documents,
)
from forebear.tracer.ledger.ledger import Ledger
from forebear.tracer.ledger.run_facts import documents_of_run

__all__ = ["answer_challenge", "check_answer", "publish_salted", "salt_commitment", "salted_value", "salts_of"]

SALT_BYTES = 32
SALTED_SCHEMA = "forebear/salted/1"


def salted_value(salt: bytes, document: bytes) -> bytes:
    """What stands for a document digest in a published ledger."""
    return hmac.digest(salt, document, "sha256")


def salt_commitment(salt: bytes) -> str:
    """What the published record says of its salt: SHA-256(0x04 || salt)."""
    if len(salt) != SALT_BYTES:
        raise UsageError(
            "not_a_salt", expected="32 random bytes", found=f"{len(salt)} bytes", remedy="Keep one salt for each published ledger."
        )
    return digest_name(hashlib.sha256(b"\x04" + salt).digest())


def salts_of(published: Ledger) -> set[str]:
    """The salts to which a published ledger commits: one, or none yet.

    Raises:
        UsageError: `not_a_salted_ledger`: it holds something else than salted records and key records.
    """
    found = set()
    for number, _, entry in published.entries():
        if entry.kind is EntryKind.KEY:
            continue
        record = parse_json(published.get_object(entry.object)) if entry.kind is EntryKind.ADVISORY else None
        if not isinstance(record, dict) or record.get("schema") != SALTED_SCHEMA:
            raise UsageError(
                "not_a_salted_ledger",
                expected="a new folder, or a ledger of salted records alone",
                found=f"a {entry.kind.value} entry, number {number}",
                remedy="Name another folder: what a private ledger says is not published.",
            )
        found.add(str(record.get("salt")))
    return found


def publish_salted(private: Ledger, published: Ledger, *, salt: bytes, run: str, now: datetime) -> dict[str, Any]:
    """Add to a published ledger the record that commits to a private run's documents; gives the record.

    Args:
        private: Where the run is; it is only read.
        published: A ledger of its own, which may be handed to anybody.
        salt: 32 random bytes, one for the whole published ledger.
        run: Digest of the run.

    Raises:
        UsageError: No such run; or the published ledger holds something else, or was made under another salt.
    """
    if any(one != salt_commitment(salt) for one in salts_of(published)):
        raise UsageError(
            "another_salt",
            expected="the salt to which the published ledger commits",
            found="another",
            remedy="Give the file that its first export wrote; one published ledger has one salt.",
        )
    manifest = private.find_run(run)[2]
    values = _salted(private, manifest, salt)
    record = {
        "schema": SALTED_SCHEMA,
        "run": manifest.run_digest,
        "documents": sum(len(part) for part in values),
        "root": digest_name(root_of_documents(values)),
        "salt": salt_commitment(salt),
    }
    digest = published.put_object(canonical_json(record))
    published.append(Entry(EntryKind.ADVISORY, digest, utc_text(now), {"salted": manifest.run_digest}))
    return record


def answer_challenge(private: Ledger, *, salt: bytes, run: str, document: bytes) -> dict[str, Any]:
    """Whether a document is among a run's, as a path or a gap in the salted tree; for an auditor who has the salt."""
    values = _salted(private, private.find_run(run)[2], salt)
    sought = salted_value(salt, document)
    siblings = document_path(values, sought)
    if siblings is not None:
        return {"present": True, "siblings": siblings}
    return {"present": False, "gap": find_gap(values, sought)}


def check_answer(record: dict[str, Any], answer: dict[str, Any], *, salt: bytes, document: bytes) -> bool | None:
    """True or False as the answer proves presence or absence under the record; None where it proves nothing."""
    if record.get("salt") != salt_commitment(salt):
        return None
    sought = salted_value(salt, document)
    gap = answer.get("gap")
    root = root_of_document(sought, answer["siblings"]) if answer["present"] else root_of_gap(sought, gap) if isinstance(gap, Gap) else None
    return bool(answer["present"]) if root is not None and digest_name(root) == record.get("root") else None


def _salted(ledger: Ledger, manifest: RunManifest, salt: bytes) -> list[Documents]:
    """The salted values of a run's documents, rising."""
    salt_commitment(salt)
    return list(_sorted(_values(sorted_documents(lambda: documents_of_run(ledger, manifest), manifest.rows["in"]), salt)))


def _values(documents: Iterable[Documents], salt: bytes) -> Iterator[bytes]:
    for part in documents:
        packed = part.tobytes()
        yield from (salted_value(salt, packed[at : at + 32]) for at in range(0, len(packed), 32))


def _sorted(values: Iterable[bytes]) -> Iterator[Documents]:
    ordered = sorted(values)
    if ordered:
        yield np.frombuffer(b"".join(ordered), np.uint8).reshape(-1, 32)
