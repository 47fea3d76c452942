"""Proofs that an entry is in a ledger's list: the audit paths of RFC 6962, section 2.1.1.

Always true here: a proof carries the entry's own bytes, so whoever has the head's root needs nothing else; it is checked as
RFC 9162, section 2.1.3.2, says.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

from forebear.schemas.digests import leaf_hash, merkle_root, node_hash

__all__ = ["audit_path", "audit_paths", "root_from_path"]


def audit_paths(leaves: Sequence[bytes], wanted: Sequence[int]) -> list[list[bytes]]:
    """The audit paths of some leaf hashes, nearest sibling first."""

    @cache
    def root(first: int, last: int) -> bytes:
        return merkle_root(leaves[first:last])

    def path(at: int, first: int, last: int) -> list[bytes]:
        if last - first == 1:
            return []
        middle = first + (1 << (last - first - 1).bit_length() - 1)
        if at < middle:
            return [*path(at, first, middle), root(middle, last)]
        return [*path(at, middle, last), root(first, middle)]

    return [path(at, 0, len(leaves)) for at in wanted]


def audit_path(leaves: Sequence[bytes], at: int) -> list[bytes]:
    """The audit path of one leaf hash."""
    return audit_paths(leaves, [at])[0]


def root_from_path(data: bytes, path: Sequence[bytes], *, index: int, size: int) -> bytes | None:
    """The root that a leaf's bytes and a path lead to, or None where the path does not fit the tree (RFC 9162, 2.1.3.2)."""
    if not 0 <= index < size:
        return None
    at, last, found = index, size - 1, leaf_hash(data)
    for sibling in path:
        if last == 0:
            return None
        if at & 1 or at == last:
            found = node_hash(sibling, found)
            while at and not at & 1:
                at, last = at >> 1, last >> 1
        else:
            found = node_hash(found, sibling)
        at, last = at >> 1, last >> 1
    return found if last == 0 else None
