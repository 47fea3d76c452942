"""Exact Jaccard similarity, measured on the distinct shingle hashes of both documents as intersection and union.

Always true here: what is logged is measured, never estimated from a signature; two integers, so that anyone may check the ratio.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

import numba as nb
import numpy as np
import numpy.typing as npt

__all__ = ["Edges", "SetTable", "intersection_size", "measure"]

U64 = npt.NDArray[np.uint64]
I64 = npt.NDArray[np.int64]


@dataclass(frozen=True)
class SetTable:
    """Shingle sets of some documents: set of documents[k] (ascending numbers) is values[bounds[k]:bounds[k + 1]], ascending."""

    documents: U64
    bounds: I64
    values: U64

    def places(self, documents: U64) -> I64:
        """Where documents stand in the table; -1 for one that is not in it."""
        at = np.searchsorted(self.documents, documents)
        at[at == len(self.documents)] = 0
        found = self.documents[at] == documents if len(self.documents) else np.zeros(len(documents), bool)
        return np.where(found, at, -1).astype("i8")


@dataclass(frozen=True)
class Edges:
    """Verified edges: measured intersection and union of left[k] and right[k]."""

    left: U64
    right: U64
    intersection: I64
    union: I64


@nb.njit(cache=True, nogil=True)
def intersection_size(a: U64, b: U64) -> int:
    """Common elements of two ascending sets."""
    i, j, common = 0, 0, 0
    while i < len(a) and j < len(b):
        x, y = a[i], b[j]
        common += x == y
        i += x <= y
        j += y <= x
    return common


@nb.njit(cache=True, nogil=True)
def _intersections(left: I64, right: I64, bounds: I64, values: U64) -> I64:
    out = np.empty(len(left), dtype=np.int64)
    for k in range(len(left)):
        a, b = left[k], right[k]
        out[k] = intersection_size(values[bounds[a] : bounds[a + 1]], values[bounds[b] : bounds[b + 1]])
    return out


def measure(left: U64, right: U64, sets: SetTable, *, threshold: Fraction) -> tuple[Edges, int]:
    """Measure candidate pairs.

    Returns:
        The edges at or above the threshold, and how many pairs could not be measured because a text was not at hand.
    """
    a, b = sets.places(left), sets.places(right)
    there = (a >= 0) & (b >= 0)
    left, right, a, b = left[there], right[there], a[there], b[there]
    intersection = _intersections(a, b, sets.bounds, sets.values)
    sizes = np.diff(sets.bounds)
    union = sizes[a] + sizes[b] - intersection
    enough = intersection * threshold.denominator >= union * threshold.numerator
    edges = Edges(left[enough], right[enough], intersection[enough], union[enough])
    return edges, int(len(there) - there.sum())
