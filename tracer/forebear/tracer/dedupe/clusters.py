"""Who is kept: the decision over verified edges and exact copies of a whole run.

Always true here: a document is removed only if a kept document that comes earlier in the total order has a verified edge to it
(or is the same document); it names the one with the highest Jaccard similarity, then the earliest. Nothing is removed on
transitive closure; a document that another policy dropped is never a keeper; one that an earlier run kept stays.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numba as nb
import numpy as np
import numpy.typing as npt
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from forebear.tracer.dedupe.similarity import Edges

__all__ = ["Copies", "Decided", "Documents", "decide", "total_order"]

U64 = npt.NDArray[np.uint64]
I64 = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Documents:
    """The documents that edges or copies name, with what the total order needs; k-th row everywhere, numbers ascending.

    `rank` is the source's priority (0 first; -1: an earlier run kept it), `digest` the document's SHA-256 as n x 4 big-endian
    words, `shard` the rank of the shard's digest among all shards.
    """

    number: U64
    rank: I64
    bytes: I64
    digest: U64
    shard: I64
    row: I64
    survives: npt.NDArray[np.bool_]
    shingles: I64


@dataclass(frozen=True)
class Copies:
    """Exact copies: member[k] has the same document as representative[k]."""

    representative: U64
    member: U64


@dataclass(frozen=True)
class Decided:
    """For each of `documents`: place of the keeper (-1: none), whether it is the same document, measured integers, and the place
    of the document whose digest names the cluster."""

    keeper: I64
    exact: npt.NDArray[np.bool_]
    intersection: I64
    union: I64
    cluster: I64


def total_order(documents: Documents) -> I64:
    """Places sorted by (source priority, bytes descending, document digest, shard digest, row)."""
    words = [documents.digest[:, k] for k in (3, 2, 1, 0)]
    return np.lexsort((documents.row, documents.shard, *words, -documents.bytes, documents.rank)).astype("i8")


def decide(documents: Documents, edges: Edges, copies: Copies) -> Decided:
    """Decide over all verified edges and copies; `documents` holds every document that they name."""
    n = len(documents.number)
    order = total_order(documents)
    position = np.empty(n, dtype="i8")
    position[order] = np.arange(n)
    left, right = _places(documents, edges.left), _places(documents, edges.right)
    may_go = documents.survives & (documents.rank >= 0)
    keeper, intersection, union = _greedy(position, order, (documents.survives, may_go), left, right, edges)
    exact = np.zeros(n, dtype=bool)
    representative, member = _places(documents, copies.representative), _places(documents, copies.member)
    _pass_to_copies(documents, keeper, intersection, union, exact, representative, member)
    cluster = _clusters(documents, np.concatenate([left, representative]), np.concatenate([right, member]))
    return Decided(keeper, exact, intersection, union, cluster)


def _places(documents: Documents, numbers: U64) -> I64:
    return np.searchsorted(documents.number, numbers).astype("i8")


def _greedy(position: I64, order: I64, states: tuple[Any, Any], left: I64, right: I64, edges: Edges) -> tuple[I64, I64, I64]:
    """Greedy over the total order; adjacency holds, for each document, its earlier neighbours."""
    earlier = np.where(position[left] < position[right], left, right)
    later = np.where(position[left] < position[right], right, left)
    sort = np.lexsort((position[earlier], later))
    starts = np.searchsorted(later[sort], np.arange(len(order) + 1)).astype("i8")
    return _keepers(order, *states, starts, earlier[sort], edges.intersection[sort], edges.union[sort])


@nb.njit(cache=True, nogil=True)
def _keepers(order: I64, survives: Any, may_go: Any, starts: I64, earlier: I64, common: I64, union: I64) -> tuple[I64, I64, I64]:
    n = len(order)
    keeper = np.full(n, -1, dtype=np.int64)
    best_common, best_union = np.zeros(n, dtype=np.int64), np.zeros(n, dtype=np.int64)
    for document in order:
        if not may_go[document]:
            continue
        for k in range(starts[document], starts[document + 1]):
            other = earlier[k]
            if not survives[other] or keeper[other] >= 0:
                continue
            # Compared as fractions; a tie stays with the earlier document, since neighbours come in the total order.
            if keeper[document] < 0 or common[k] * best_union[document] > best_common[document] * union[k]:
                keeper[document], best_common[document], best_union[document] = other, common[k], union[k]
    return keeper, best_common, best_union


def _pass_to_copies(documents: Documents, keeper: I64, intersection: I64, union: I64, exact: Any, representative: I64, member: I64) -> None:
    """Copies of a kept document are exact duplicates of it; copies of a removed one have its keeper."""
    alive = documents.survives[member] & documents.survives[representative]
    representative, member = representative[alive], member[alive]
    removed = keeper[representative] >= 0
    keeper[member] = np.where(removed, keeper[representative], representative)
    size = documents.shingles[member]  # the same text; of a representative that an earlier run kept it is not known
    intersection[member] = np.where(removed, intersection[representative], size)
    union[member] = np.where(removed, union[representative], size)
    exact[member] = ~removed


def _clusters(documents: Documents, left: I64, right: I64) -> I64:
    """For each document the place of the one with the smallest digest in its component."""
    n = len(documents.number)
    graph = coo_array((np.ones(len(left), "u1"), (left, right)), shape=(n, n))
    labels = connected_components(graph, directed=False)[1]
    by_digest = np.lexsort([documents.digest[:, k] for k in (3, 2, 1, 0)])
    first = np.full(labels.max(initial=-1) + 1, -1, dtype="i8")
    ordered = by_digest[::-1]
    first[labels[ordered]] = ordered  # the smallest is written last
    return first[labels]
