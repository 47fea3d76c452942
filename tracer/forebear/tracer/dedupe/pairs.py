"""Candidate pairs: documents that share a band.

Always true here: a bucket of up to `ALL_PAIRS` documents gives every pair in it; a larger one is handed on whole, to be worked
off by `leaders`. A pair that cannot reach the threshold, because one document has too few shingles for the other's, is left out:
Jaccard similarity is at most the ratio of the sizes. Two documents that earlier runs kept are no pair: both stay.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numba as nb
import numpy as np
import numpy.typing as npt

__all__ = ["ALL_PAIRS", "Buckets", "Candidates", "candidates", "unique_pairs"]

U64 = npt.NDArray[np.uint64]
I64 = npt.NDArray[np.int64]

ALL_PAIRS = 64
"""The largest bucket in which every pair is a candidate (at most 2,016 pairs)."""


@dataclass(frozen=True)
class Buckets:
    """Large buckets: bucket k is members[bounds[k]:bounds[k + 1]], with its band hash."""

    hashes: U64
    bounds: I64
    members: U64


@dataclass(frozen=True)
class Candidates:
    """Pairs left[k] < right[k] of document numbers, each once, and the buckets too large for pairs."""

    left: U64
    right: U64
    large: Buckets


def candidates(hashes: U64, documents: U64, sizes: I64, *, threshold: Fraction) -> Candidates:
    """Candidate pairs of one range of hashes.

    Args:
        hashes: Band hashes, in any order.
        documents: Document numbers, in the same order.
        sizes: Distinct shingles of each of those documents, in the same order; -1 for one that an earlier run kept, whose are not
            known.
        threshold: Measured similarity from which documents are near-duplicates.
    """
    order = np.lexsort((documents, hashes))
    hashes, documents, sizes = hashes[order], documents[order], sizes[order]
    starts = np.flatnonzero(np.concatenate([[True], hashes[1:] != hashes[:-1]])) if len(hashes) else np.zeros(0, "i8")
    stops = np.append(starts[1:], len(hashes))
    lengths = stops - starts
    small = (lengths > 1) & (lengths <= ALL_PAIRS)
    left, right = _pairs(starts[small], stops[small], documents, sizes, threshold.numerator, threshold.denominator)
    left, right = unique_pairs(left, right)
    return Candidates(left, right, _large(hashes, documents, starts, stops, lengths > ALL_PAIRS))


def unique_pairs(left: U64, right: U64) -> tuple[U64, U64]:
    """Each pair once, sorted."""
    order = np.lexsort((right, left))
    left, right = left[order], right[order]
    if not len(left):
        return left, right
    new = np.concatenate([[True], (left[1:] != left[:-1]) | (right[1:] != right[:-1])])
    return left[new], right[new]


def _large(hashes: U64, documents: U64, starts: I64, stops: I64, large: npt.NDArray[np.bool_]) -> Buckets:
    lengths = (stops - starts)[large]
    bounds = np.concatenate([[0], np.cumsum(lengths)]).astype("i8")
    members = [documents[start:stop] for start, stop in zip(starts[large], stops[large], strict=True)]
    return Buckets(hashes[starts[large]], bounds, np.concatenate(members) if members else np.zeros(0, "u8"))


@nb.njit(cache=True, nogil=True)
def _pairs(starts: I64, stops: I64, documents: U64, sizes: I64, above: int, below: int) -> tuple[Any, Any]:
    room = 0
    for k in range(len(starts)):
        n = stops[k] - starts[k]
        room += n * (n - 1) // 2
    left, right = np.empty(room, dtype=np.uint64), np.empty(room, dtype=np.uint64)
    found = 0
    for k in range(len(starts)):
        for i in range(starts[k], stops[k]):
            for j in range(i + 1, stops[k]):
                low, high = min(sizes[i], sizes[j]), max(sizes[i], sizes[j])
                if low * below >= high * above if low >= 0 else high >= 0:
                    left[found], right[found] = documents[i], documents[j]
                    found += 1
    return left[:found].copy(), right[:found].copy()
