"""Heads against entries: what a stored or a remembered head says of the list, as findings and notes, without IO.

Always true here: the entries are the truth and the stored head is a hint that follows them; one that lags behind is no fault,
one that knows of more, or of others, is.
"""

from __future__ import annotations

from forebear.schemas.digests import digest_name, leaf_hash, merkle_root
from forebear.schemas.errors import IntegrityError
from forebear.schemas.records import Head
from forebear.tracer.ledger.findings import Findings
from forebear.tracer.ledger.layout import is_prefix, parse_head

__all__ = ["check_head", "check_since"]

_HEAD_REMEDY = "Compare the entries with a head remembered elsewhere; the next entry writes `head` anew."
_LOST_REMEDY = "Restore the entries and `head` from a copy of the ledger."


def check_head(data: bytes | None, entries: list[bytes], found: Findings) -> None:
    """The stored head against the entries (rules of SPEC; a head is a hint that follows them)."""
    there = len(entries)
    if data is None:
        if there == 1:
            found.note("head", "head_missing", expected="a head", found="none yet; the next entry writes it")
        elif there:
            found.add("head", "head_missing", expected=f"a head over {there} entries", found="none", remedy=_HEAD_REMEDY)
        return
    try:
        head = parse_head(data)
    except IntegrityError as error:
        found.add("head", "head_malformed", expected=error.expected, found=error.found, remedy=_HEAD_REMEDY)
        return
    if head.size > there:
        kind, what = "head_beyond_entries", f"{there} entries"
        found.add("head", kind, expected=f"the {head.size} entries that the head names", found=what, remedy=_LOST_REMEDY)
    elif not is_prefix(head, entries):
        root = digest_name(merkle_root(map(leaf_hash, entries[: head.size])))
        found.add(
            "head",
            "head_inconsistent",
            expected=f"root {digest_name(head.root)} over {head.size} entries",
            found=root,
            remedy=_LOST_REMEDY,
        )
    elif head.size < there:
        found.note("head", "head_behind", expected=f"{there} entries", found=f"{head.size}; the next entry moves it on")


def check_since(since: Head, entries: list[bytes], found: Findings) -> bool:
    """Whether the entries continue a head remembered elsewhere."""
    if since.size > len(entries):
        expected, what = (
            f"at least the {since.size} entries of the remembered head",
            f"{len(entries)}: an older state of the ledger",
        )
        found.add("entries", "rolled_back", expected=expected, found=what, remedy=_LOST_REMEDY)
        return False
    if not is_prefix(since, entries):
        root = digest_name(merkle_root(map(leaf_hash, entries[: since.size])))
        expected = f"root {digest_name(since.root)} over the first {since.size} entries"
        found.add("entries", "forked", expected=expected, found=root, remedy="Keep both heads: together they prove the fork.")
        return False
    return True
