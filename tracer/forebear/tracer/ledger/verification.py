"""Entries about the ledger itself: what a verification looked at, and what keys say of keys.

Always true here: a record of a verification says its level and what it did not look at, whatever it found; it is no evidence that the
ledger is sound now, only of what was checked then, and by a version of this program.
"""

from __future__ import annotations

from collections import Counter
from datetime import datetime
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, Literal

from forebear.schemas.canonical import canonical_json
from forebear.schemas.enums import EntryKind
from forebear.schemas.errors import IntegrityError
from forebear.schemas.moments import utc_text
from forebear.schemas.records import Entry, Head
from forebear.tracer.ledger.findings import VerifyReport
from forebear.tracer.ledger.key_records import key_record
from forebear.tracer.ledger.ledger import Ledger

if TYPE_CHECKING:
    from forebear.tracer.ledger.keys import PrivateKey, PublicKey

__all__ = ["add_key_record", "record_verification"]


def record_verification(ledger: Ledger, report: VerifyReport, *, now: datetime) -> dict[str, Any]:
    """Add an entry that says what was checked and found; gives its object and the new head, or why there could be none."""
    value = {
        "schema": "forebear/verification/1",
        "level": report.level,
        "ok": report.ok,
        "authentic": report.authentic,
        "checked": dict(report.checked),
        "head": None if report.head is None else dict(report.head),
        "findings": dict(sorted(Counter(one.kind for one in report.findings).items())),
        "not_looked_at": [one.found for one in report.notes if one.kind == "not_hashed"],
        "version": version("forebear"),
    }
    try:
        record = ledger.put_object(canonical_json(value))
        facts = {"level": report.level, "ok": report.ok, "findings": len(report.findings)}
        head = ledger.append(Entry(EntryKind.VERIFICATION, record, utc_text(now), facts))
    except IntegrityError as error:  # nothing is appended to a damaged list
        return {"object": None, "why": str(error)}
    return {"object": record, "head": head.to_json()}


def add_key_record(ledger: Ledger, action: Literal["rotate", "revoke"], key: PublicKey, *, by: PrivateKey, why: str, now: datetime) -> Head:
    """Add the entry by which one key hands over to another, or is withdrawn; signed over the head on which it builds."""
    record = ledger.put_object(key_record(action, key, by=by, head=ledger.head(), why=why))
    return ledger.append(Entry(EntryKind.KEY, record, utc_text(now), {"action": action, "key": key.key_id}))
