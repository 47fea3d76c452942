"""Orphans: objects to which nothing leads, and what puts that were cut off left behind; finding them, and removing them.

Always true here: nothing that an entry, a record or the index leads to is touched, whatever its age; nothing younger than the given
age is touched, and a put that finds an object makes it young; an orphan is first renamed and then looked at once more, so a writer that
comes in between either finds it young and back, or finds nothing and writes it anew. A damaged ledger is not cleaned at all, for there
nobody can say what leads where.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

from forebear.schemas.canonical import parse_json
from forebear.schemas.digests import is_digest, sha256_name
from forebear.schemas.enums import EntryKind
from forebear.schemas.errors import ForebearError, IntegrityError
from forebear.tracer.ledger.layout import is_ignored, is_prefix, is_temporary, object_digest, object_path
from forebear.tracer.ledger.ledger import Ledger
from forebear.tracer.ledger.reconcile import manifest_refs

__all__ = ["Orphan", "collector", "find_orphans", "recover_set_aside", "referenced", "remove_orphans"]

_PUT_SECONDS = 600.0  # a put that takes longer is taken for dead


@dataclass(frozen=True)
class Orphan:
    """A file to which nothing leads.

    Args:
        age: Seconds since it was put, or found by a put.
    """

    path: str
    bytes: int
    age: float

    def to_json(self) -> dict[str, Any]:
        """As `gc --json` lists it."""
        return {"path": self.path, "bytes": self.bytes, "age": max(0, round(self.age))}


def collector(ledger: Ledger) -> AbstractContextManager[None]:
    """Be the only collector: a second one is refused."""
    return ledger.store.exclusive("jobs/gc.lock")


def referenced(ledger: Ledger) -> set[str]:
    """Objects that entries lead to, with those that their records name and those that the index offers for reuse.

    Raises:
        IntegrityError: Entries, a manifest or a record are damaged: what they lead to cannot be known.
    """
    stored = ledger.stored_head()  # before the entries: others may append meanwhile
    entries = ledger.entries()
    if stored is not None and not is_prefix(stored, [data for _, data, _ in entries]):
        raise IntegrityError(
            "head_inconsistent",
            expected="entries that the head names",
            found="others, or fewer",
            remedy="`forebear verify` says what is damaged; restore it first: a damaged ledger is not cleaned.",
        )
    found: set[str] = set()
    for _, _, entry in entries:
        found.add(entry.object)
        if entry.kind is EntryKind.RUN:
            found |= {ref.object for ref in manifest_refs(ledger.manifest(entry.object))}
        else:
            found |= set(_named(_record(ledger, entry.object)))
    return found | _offered(ledger)


def find_orphans(ledger: Ledger, *, now: float) -> list[Orphan]:
    """Every orphan, young ones too, by path.

    Args:
        now: The time, in seconds since 1970.

    Raises:
        IntegrityError: The ledger is damaged.
    """
    # Listed before the entries are read: what is listed and not referenced then has had its chance to be.
    listed = ledger.store.list("")
    kept = referenced(Ledger(ledger.store))
    orphans = []
    for path, size in listed:
        digest = object_digest(path)
        if is_ignored(path) or (digest in kept if digest is not None else not is_temporary(path)):
            continue
        modified = ledger.store.modified(path)
        if modified is not None:
            orphans.append(Orphan(path, size, now - modified))
    return orphans


def remove_orphans(ledger: Ledger, orphans: list[Orphan], *, now: float, older_than: float) -> list[Orphan]:
    """Remove those orphans that are old enough, and still are when nobody can find them any more; gives those removed.

    No other collector may be at work (`collector`).

    Args:
        now: The time, in seconds since 1970.
        older_than: Seconds.

    Raises:
        UsageError: The ledger is in a bucket.
    """
    aside = []
    for orphan in orphans:
        name = ledger.store.set_aside(orphan.path) if orphan.age > older_than else None
        if name is not None:
            aside.append((orphan, name))
    try:
        kept = {object_path(digest) for digest in referenced(Ledger(ledger.store))}
    except ForebearError:
        kept = {orphan.path for orphan, _ in aside}
    removed = []
    for orphan, name in aside:
        modified = ledger.store.modified(name)
        if orphan.path in kept or modified is None or now - modified <= older_than:
            ledger.store.put_back(name, orphan.path)
        else:
            ledger.store.discard(name)
            removed.append(orphan)
    return removed


def recover_set_aside(ledger: Ledger, *, now: float) -> None:
    """Give objects their names again that a collector had set aside when it was killed."""
    for path, _ in ledger.store.list("objects"):
        whole = path.partition("#")[0]
        digest = object_digest(whole)
        if not is_temporary(path) or digest is None or ledger.store.size(whole) is not None:
            continue
        # Not of a put in progress: that one still needs its temporary.
        modified = ledger.store.modified(path)
        if modified is not None and now - modified > _PUT_SECONDS and sha256_name(ledger.store.get(path)) == digest:
            ledger.store.put_back(path, whole)


def _record(ledger: Ledger, digest: str) -> Any:
    try:
        return parse_json(ledger.get_object(digest))
    except (ValueError, RecursionError) as error:
        raise IntegrityError(
            "malformed_record",
            expected=f"canonical JSON in {digest}",
            found=str(error)[:200],
            remedy="`forebear verify` says what else is damaged; a damaged ledger is not cleaned.",
        ) from error


def _offered(ledger: Ledger) -> set[str]:
    """Objects of the index: the next scan may take them up at any moment."""
    found: set[str] = set()
    for path, _ in ledger.store.list("index/packs"):
        try:
            found |= set(_named(json.loads(ledger.store.get(path))))
        except (ValueError, RecursionError, IntegrityError):
            continue  # a cache: what cannot be read offers nothing
    return found


def _named(value: Any) -> Iterator[str]:
    """Objects that a record refers to, as mappings with `object`, a digest."""
    todo = [value]
    while todo:
        one = todo.pop()
        if isinstance(one, dict):
            name = one.get("object")
            if isinstance(name, str) and is_digest(name):
                yield name
            todo.extend(one.values())
        elif isinstance(one, list):
            todo.extend(one)
