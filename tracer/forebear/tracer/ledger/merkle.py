"""Audit paths and consistency proofs of RFC 6962, section 2.1, made from leaf hashes and checked without them.

Always true here: hashes are given nearest the leaf first; what is checked follows RFC 9162, sections 2.1.3.2 and 2.1.4.2, and a path of
any other length than the tree's shape asks for is refused.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

from forebear.schemas.digests import leaf_hash, merkle_root, node_hash

__all__ = ["audit_path", "audit_paths", "consistency_path", "is_consistent", "root_from_hash", "root_from_path"]


def audit_paths(leaves: Sequence[bytes], wanted: Sequence[int]) -> list[list[bytes]]:
    """The audit paths of some leaf hashes, nearest sibling first (RFC 6962, section 2.1.1)."""

    @cache
    def root(first: int, last: int) -> bytes:
        return merkle_root(leaves[first:last])

    def path(at: int, first: int, last: int) -> list[bytes]:
        if last - first == 1:
            return []
        middle = first + _left_size(last - first)
        if at < middle:
            return [*path(at, first, middle), root(middle, last)]
        return [*path(at, middle, last), root(first, middle)]

    return [path(at, 0, len(leaves)) for at in wanted]


def audit_path(leaves: Sequence[bytes], at: int) -> list[bytes]:
    """The audit path of one leaf hash."""
    return audit_paths(leaves, [at])[0]


def root_from_path(data: bytes, path: Sequence[bytes], *, index: int, size: int) -> bytes | None:
    """The root that a leaf's bytes and a path lead to, or None where the path does not fit the tree."""
    return root_from_hash(leaf_hash(data), path, index=index, size=size)


def root_from_hash(leaf: bytes, path: Sequence[bytes], *, index: int, size: int) -> bytes | None:
    """The root that a leaf's hash and a path lead to, or None where the path does not fit the tree (RFC 9162, 2.1.3.2)."""
    if not 0 <= index < size:
        return None
    at, last, found = index, size - 1, leaf
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


def consistency_path(leaves: Sequence[bytes], old: int) -> list[bytes]:
    """The proof that the tree over the first `old` leaves is a prefix of the one over all (RFC 6962, section 2.1.2)."""
    assert 0 < old <= len(leaves), "a consistency proof is between two trees that are not empty"

    def path(old: int, first: int, last: int, *, whole: bool) -> list[bytes]:
        size = last - first
        if old == size:
            return [] if whole else [merkle_root(leaves[first:last])]
        left = _left_size(size)
        if old <= left:
            return [*path(old, first, first + left, whole=whole), merkle_root(leaves[first + left : last])]
        return [*path(old - left, first + left, last, whole=False), merkle_root(leaves[first : first + left])]

    return path(old, 0, len(leaves), whole=True)


def is_consistent(old: tuple[int, bytes], new: tuple[int, bytes], path: Sequence[bytes]) -> bool:
    """Whether a tree, as (size, root), is a prefix of another (RFC 9162, section 2.1.4.2)."""
    (first, old_root), (second, new_root) = old, new
    if not 0 < first <= second:
        return False
    if first == second:
        return not path and old_root == new_root
    todo = [old_root, *path] if first & (first - 1) == 0 else list(path)
    if not todo:
        return False
    at, last = first - 1, second - 1
    while at & 1:
        at, last = at >> 1, last >> 1
    small = large = todo[0]
    for sibling in todo[1:]:
        if last == 0:
            return False
        if at & 1 or at == last:
            small, large = node_hash(sibling, small), node_hash(sibling, large)
            while at and not at & 1:
                at, last = at >> 1, last >> 1
        else:
            large = node_hash(large, sibling)
        at, last = at >> 1, last >> 1
    return last == 0 and small == old_root and large == new_root


def _left_size(size: int) -> int:
    """The largest power of two below a size."""
    return 1 << (size - 1).bit_length() - 1
