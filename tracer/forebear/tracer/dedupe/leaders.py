"""Large buckets, worked off by comparing with leaders.

Always true here: documents come in the total order; each is compared with the leaders of its buckets until it matches one; one
that survived the other policies and matched none becomes a leader. What earlier runs kept leads without being compared.
Comparisons stay within a stated budget, and a document that the budget did not reach is named, never dropped in silence.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numba as nb
import numpy as np
import numpy.typing as npt
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from forebear.tracer.dedupe.pairs import Buckets
from forebear.tracer.dedupe.similarity import Edges, SetTable, intersection_size

__all__ = ["COMPARISONS_PER_DOCUMENT", "bucket_groups", "lead"]

U64 = npt.NDArray[np.uint64]
I64 = npt.NDArray[np.int64]

COMPARISONS_PER_DOCUMENT = 512
"""Budget of a group of large buckets, in measured similarities for each of its documents."""


@dataclass(frozen=True)
class Led:
    """Verified edges leader-document, the documents that the budget did not reach, those that lead, similarities measured."""

    edges: Edges
    unreached: U64
    leaders: U64
    spent: int


def bucket_groups(large: Buckets) -> list[tuple[U64, I64, I64]]:
    """Large buckets that share documents, together.

    Returns:
        For each group: its documents (ascending), and its memberships as (place in documents, bucket number) arrays.
    """
    if not len(large.hashes):
        return []
    documents, place = np.unique(large.members, return_inverse=True)
    bucket = np.repeat(np.arange(len(large.hashes)), np.diff(large.bounds))
    size = len(documents) + len(large.hashes)
    graph = coo_array((np.ones(len(place), "u1"), (place, bucket + len(documents))), shape=(size, size))
    labels = connected_components(graph, directed=False)[1]
    groups = []
    for label in np.unique(labels[: len(documents)]):
        members = np.flatnonzero(labels[: len(documents)] == label)
        mine = labels[place] == label
        _, numbered = np.unique(bucket[mine], return_inverse=True)
        groups.append((documents[members], np.searchsorted(members, place[mine]).astype("i8"), numbered.astype("i8")))
    return groups


def lead(
    documents: U64,
    membership: tuple[I64, I64],
    *,
    order: I64,
    survives: npt.NDArray[np.bool_],
    stays: npt.NDArray[np.bool_] | None = None,
    sets: SetTable,
    threshold: Fraction,
    budget: int = COMPARISONS_PER_DOCUMENT,
    limit: int | None = None,
) -> Led:
    """Work off one group of large buckets, or some documents of one after the leaders of those before them.

    Args:
        documents: Document numbers of the group.
        membership: (place in documents, bucket number) for every place in a bucket.
        order: Places in documents, in the total order.
        survives: Whether a document survived the other policies.
        stays: Whether it leads without being compared: what an earlier run kept, leaders of the documents before; None: none does.
        sets: Shingle sets; documents without one are passed over.
        threshold: Measured similarity from which documents are near-duplicates.
        budget: Similarities measured, for each document of the group.
        limit: Similarities measured in all, instead.
    """
    place, bucket = membership
    by_document = np.lexsort((bucket, place))
    starts = np.searchsorted(place[by_document], np.arange(len(documents) + 1)).astype("i8")
    buckets = bucket[by_document]
    at = sets.places(documents)
    limit = budget * len(documents) if limit is None else limit
    stays = np.zeros(len(documents), dtype=bool) if stays is None else stays
    parts = (sets.bounds, sets.values, threshold.numerator, threshold.denominator, limit)
    leader, follower, common, reached, leads, spent = _lead(starts, buckets, int(buckets.max()) + 1, order, survives, stays, at, *parts)
    a, b = at[leader], at[follower]
    sizes = np.diff(sets.bounds)
    union = sizes[a] + sizes[b] - common
    first, second = documents[leader], documents[follower]
    edges = Edges(np.minimum(first, second), np.maximum(first, second), common, union)
    return Led(edges, documents[~reached & (at >= 0)], documents[leads], int(spent))


@nb.njit(cache=True, nogil=True)
def _lead(
    starts: I64,
    buckets: I64,
    bucket_count: int,
    order: I64,
    survives: Any,
    stays: Any,
    at: I64,
    bounds: I64,
    values: U64,
    above: int,
    below: int,
    limit: int,
) -> tuple[I64, I64, I64, Any, Any, int]:
    n = len(order)
    # Leaders of a bucket as a linked list, newest last: next_of[membership] -> membership, -1 at the end.
    first_of, last_of = np.full(bucket_count, -1, dtype=np.int64), np.full(bucket_count, -1, dtype=np.int64)
    next_of, who = np.full(len(buckets), -1, dtype=np.int64), np.empty(len(buckets), dtype=np.int64)
    compared = np.full(n, -1, dtype=np.int64)
    leaders, followers = np.empty(n, dtype=np.int64), np.empty(n, dtype=np.int64)
    commons, reached = np.empty(n, dtype=np.int64), np.zeros(n, dtype=np.bool_)
    leads = np.zeros(n, dtype=np.bool_)
    edges, spent = 0, 0
    for document in order:
        if at[document] < 0 or (spent >= limit and not stays[document]):
            continue
        mine = values[bounds[at[document]] : bounds[at[document] + 1]]
        reached[document] = True
        matched = False
        for m in range(starts[document], starts[document + 1]):
            if stays[document]:
                break
            link = first_of[buckets[m]]
            while link >= 0 and not matched:
                leader = who[link]
                link = next_of[link]
                if compared[leader] == document:
                    continue
                compared[leader] = document
                theirs = values[bounds[at[leader]] : bounds[at[leader] + 1]]
                if min(len(mine), len(theirs)) * below < max(len(mine), len(theirs)) * above:
                    continue
                spent += 1
                common = intersection_size(mine, theirs)
                if common * below >= (len(mine) + len(theirs) - common) * above:
                    leaders[edges], followers[edges], commons[edges] = leader, document, common
                    edges += 1
                    matched = True
            if matched:
                break
        if not matched and survives[document]:
            leads[document] = True
            for m in range(starts[document], starts[document + 1]):
                who[m] = document
                if last_of[buckets[m]] < 0:
                    first_of[buckets[m]] = m
                else:
                    next_of[last_of[buckets[m]]] = m
                last_of[buckets[m]] = m
    return leaders[:edges].copy(), followers[:edges].copy(), commons[:edges].copy(), reached, leads, spent
