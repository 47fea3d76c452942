"""Heads against entries: what a stored or a remembered head says of the list, as findings and notes, without IO.

Always true here: the entries are the truth and the stored head is a hint that follows them; one that lags behind is no fault,
one that knows of more, or of others, is.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from forebear.schemas.digests import digest_name, leaf_hash, merkle_root
from forebear.schemas.errors import IntegrityError
from forebear.schemas.records import Head
from forebear.tracer.ledger.findings import Findings
from forebear.tracer.ledger.key_records import KeyRecord, keys_in_force
from forebear.tracer.ledger.layout import is_prefix, parse_head
from forebear.tracer.ledger.notes import Signed, signed_by

if TYPE_CHECKING:
    from forebear.tracer.ledger.keys import PublicKey

__all__ = ["check_head", "check_signature", "check_since"]

_HEAD_REMEDY = "Compare the entries with a head remembered elsewhere; the next entry writes `head` anew."
_SIGN_REMEDY = "Ask whoever keeps the ledger to sign it: `forebear key sign KEY`; or give the key that is in force."
_FORGED_REMEDY = "Do not trust this ledger: the head was changed after it was signed, or its signature was made up."
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


def check_signature(
    data: bytes | None, entries: list[bytes], key: PublicKey, *, records: Sequence[tuple[int, KeyRecord]], found: Findings
) -> bool:
    """Whether the stored head covers every entry and is signed by a key, or by one that it handed over to.

    Args:
        data: The stored head.
        key: The key given from outside.
        records: The key records among the entries, by number.
    """
    from forebear.tracer.ledger.keys import PublicKey

    try:
        head = None if data is None else parse_head(data)
    except IntegrityError:
        head = None
    expected = f"a head over {len(entries)} entries signed by {key.key_id}"
    if data is None or head is None or head.size != len(entries) or not is_prefix(head, entries):
        what = "none that can be used" if head is None else f"one over {head.size} entries"
        found.add("head", "not_signed", expected=expected, found=what, remedy=_SIGN_REMEDY)
        return False
    built_right = [(n, one) for n, one in records if one.head.size <= n and is_prefix(one.head, entries)]
    force = keys_in_force(key, built_right, size=head.size)
    said = {raw: signed_by(data, PublicKey(raw)) for raw in force}
    if Signed.YES in said.values():
        signer = next(raw for raw, one in said.items() if one is Signed.YES)
        if force[signer] >= 0:
            told = f"{PublicKey(signer).key_id}, to which the key handed over in entry {force[signer]}"
            found.note("head", "key_rotated", expected=key.key_id, found=told, remedy="Give the newer key from now on.")
        return True
    if Signed.FORGED in said.values():
        found.add("head", "signature_invalid", expected=expected, found="a signature that does not verify", remedy=_FORGED_REMEDY)
    elif not force:
        found.add("head", "key_revoked", expected=expected, found="the key was withdrawn", remedy="Ask for the key in force.")
    else:
        found.add("head", "not_signed", expected=expected, found="no signature by a key in force", remedy=_SIGN_REMEDY)
    return False
