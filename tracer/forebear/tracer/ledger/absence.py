"""The second tree of a run: its distinct documents, sorted, so that a path can prove that one is not among them.

Always true here: a node's hash covers the smallest and the largest document below each of its two children, so it commits to the range
of both; a path is followed only while ranges rise from left to right, so no document can have both a valid path and a valid gap under one
root, however the tree was made. Leaves (0x02) and nodes (0x03) are hashed apart from each other and from those of RFC 6962 (0x00, 0x01).
A tree proves what was logged, never what a corpus held.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from forebear.schemas.digests import EMPTY_ROOT
from forebear.tracer.ledger.parts import raw_digests

__all__ = [
    "Documents",
    "Gap",
    "absence_root",
    "document_path",
    "find_gap",
    "root_of_document",
    "root_of_documents",
    "root_of_gap",
    "sorted_documents",
]

Documents = npt.NDArray[np.uint8]
"""Document digests, shape (n, 32)."""

_CHUNK = 1 << 16  # leaves of a subtree that is hashed at once
_AT_ONCE = 1 << 24  # rows whose documents are in memory at once: 512 MiB


@dataclass(frozen=True)
class Gap:
    """Where a document would stand and does not.

    Args:
        left: Label (smallest, largest, hash: 96 bytes) of the subtree left of the gap; of the only leaf where there is no other.
        right: Label of the subtree right of it; None where the tree has one leaf or none.
        siblings: Labels of the siblings on the way up, `L` before one on the left, `R` before one on the right.
    """

    left: bytes | None
    right: bytes | None
    siblings: tuple[tuple[str, bytes], ...]


def absence_root(read: Callable[[], Iterable[pa.ChunkedArray]], rows: int) -> bytes:
    """The root of the tree over the documents of a run.

    Args:
        read: Gives the `document` columns of the run's log packs; called more than once where there are many rows.
        rows: How many rows they have, about.
    """
    return root_of_documents(sorted_documents(read, rows))


def root_of_documents(documents: Iterable[Documents]) -> bytes:
    """The root of the tree over distinct documents in rising order."""
    return _hash(_root_label(documents))


def sorted_documents(read: Callable[[], Iterable[pa.ChunkedArray]], rows: int, *, at_once: int = _AT_ONCE) -> Iterator[Documents]:
    """The distinct documents of a run in rising order, in arrays that follow each other."""
    passes = max(1, -(-rows // at_once))
    for n in range(passes):
        low, high = (n << 16) // passes, ((n + 1) << 16) // passes
        parts = [_between(raw_digests(column.drop_null()), low, high) for column in read()]
        whole = np.concatenate([*parts, np.zeros((0, 32), np.uint8)])
        if len(whole):
            texts = np.sort(np.ascontiguousarray(whole).view("S32").ravel())
            new = np.concatenate([[True], texts[1:] != texts[:-1]])
            yield np.ascontiguousarray(texts[new]).view(np.uint8).reshape(-1, 32)


def document_path(documents: Iterable[Documents], document: bytes) -> tuple[tuple[str, bytes], ...] | None:
    """The siblings of a document's leaf up to the root, or None where it is not in the tree."""
    levels = _levels(documents)
    at = _place(levels[0], document)
    if at is None or levels[0][at][:32] != document:
        return None
    return tuple(_siblings(levels, 0, at))


def find_gap(documents: Iterable[Documents], document: bytes) -> Gap | None:
    """The gap in which a document would stand, or None where it is in the tree."""
    levels = _levels(documents)
    leaves = levels[0]
    if len(leaves) < 2:
        return None if leaves and leaves[0][:32] == document else Gap(leaves[0] if leaves else None, None, ())
    at = _place(leaves, document)
    if at is None or (at == len(leaves) - 1 and leaves[at][:32] < document):  # outside the whole range: the root says so itself
        left, right = levels[-2]
        return Gap(left, right, ())
    if leaves[at][:32] == document:
        return None
    height, right_at = 0, at + 1
    while at >> 1 != right_at >> 1:
        at, right_at, height = at >> 1, right_at >> 1, height + 1
    return Gap(levels[height][at], levels[height][right_at], tuple(_siblings(levels, height + 1, at >> 1)))


def root_of_document(document: bytes, siblings: Sequence[tuple[str, bytes]]) -> bytes | None:
    """The root that a document's path leads to, or None where ranges do not rise."""
    label = _climb(_leaf(document), siblings) if len(document) == 32 else None
    return None if label is None else _hash(label)


def root_of_gap(document: bytes, gap: Gap) -> bytes | None:
    """The root under which a document is absent, or None where the gap does not show that it is."""
    if gap.left is None:
        return EMPTY_ROOT if gap.right is None and not gap.siblings else None
    if gap.right is None:
        alone = len(gap.left) == 96 and gap.left == _leaf(gap.left[:32]) and gap.left[:32] != document
        return _hash(gap.left) if alone and not gap.siblings else None
    node = _climb(gap.left, [("R", gap.right)])
    inside = gap.left[32:64] < document < gap.right[:32]
    outside = not gap.siblings and (document < gap.left[:32] or document > gap.right[32:64])
    label = _climb(node, gap.siblings) if node is not None and len(document) == 32 and (inside or outside) else None
    return None if label is None else _hash(label)


def _between(documents: Documents, low: int, high: int) -> Documents:
    if (low, high) == (0, 1 << 16):
        return documents
    first = documents[:, 0].astype(np.int64) << 8 | documents[:, 1]
    return documents[(first >= low) & (first < high)]


def _leaf(document: bytes) -> bytes:
    return document + document + hashlib.sha256(b"\x02" + document).digest()


def _node(left: bytes, right: bytes) -> bytes:
    return left[:32] + right[32:64] + hashlib.sha256(b"\x03" + left + right).digest()


def _hash(label: bytes | None) -> bytes:
    return EMPTY_ROOT if label is None else label[64:]


def _above(level: list[bytes]) -> list[bytes]:
    """The level above: neighbours in pairs, an odd last one carried up unchanged."""
    sha256 = hashlib.sha256
    pairs = [
        left[:32] + right[32:64] + sha256(b"\x03" + left + right).digest() for left, right in zip(level[::2], level[1::2], strict=False)
    ]
    return [*pairs, level[-1]] if len(level) & 1 else pairs


def _root_label(documents: Iterable[Documents]) -> bytes | None:
    level = [_reduced(leaves) for leaves in _chunks(documents)]
    return _reduced(level) if level else None


def _reduced(level: list[bytes]) -> bytes:
    while len(level) > 1:
        level = _above(level)
    return level[0]


def _chunks(documents: Iterable[Documents]) -> Iterator[list[bytes]]:
    """Leaves, `_CHUNK` at a time: complete subtrees but for the last."""
    held = b""
    for part in documents:
        held += part.tobytes()
        whole = len(held) // (32 * _CHUNK) * 32 * _CHUNK
        for start in range(0, whole, 32 * _CHUNK):
            yield _leaves(held[start : start + 32 * _CHUNK])
        held = held[whole:]
    if held:
        yield _leaves(held)


def _leaves(packed: bytes) -> list[bytes]:
    sha256 = hashlib.sha256
    each = [packed[at : at + 32] for at in range(0, len(packed), 32)]
    return [one + one + sha256(b"\x02" + one).digest() for one in each]


def _levels(documents: Iterable[Documents]) -> list[list[bytes]]:
    levels = [[leaf for chunk in _chunks(documents) for leaf in chunk]]
    while len(levels[-1]) > 1:
        levels.append(_above(levels[-1]))
    return levels


def _place(leaves: list[bytes], document: bytes) -> int | None:
    """The last leaf that is not beyond a document."""
    import bisect

    at = bisect.bisect_right(leaves, document + b"\xff" * 64) - 1
    return at if at >= 0 else None


def _siblings(levels: Sequence[list[bytes]], height: int, at: int) -> Iterator[tuple[str, bytes]]:
    for level in levels[height:-1]:
        if at & 1:
            yield "L", level[at - 1]
        elif at + 1 < len(level):
            yield "R", level[at + 1]
        at >>= 1


def _climb(label: bytes, siblings: Sequence[tuple[str, bytes]] | Any) -> bytes | None:
    """The label of the node that siblings lead to, or None where a range is turned round or reaches into the next."""
    for side, sibling in siblings:
        left, right = (sibling, label) if side == "L" else (label, sibling)
        rises = len(left) == len(right) == 96 and left[:32] <= left[32:64] < right[:32] <= right[32:64]
        if side not in {"L", "R"} or not rises:
            return None
        label = _node(left, right)
    return label
