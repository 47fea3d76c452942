"""Large buckets worked off piece by piece give what they give at once, whatever the pieces and the budget."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from forebear.tracer.dedupe.leaders import bucket_groups, lead
from forebear.tracer.dedupe.pairs import Buckets
from forebear.tracer.dedupe.similarity import SetTable


def table(sets: dict[int, set[int]]) -> SetTable:
    lengths = [len(sets[name]) for name in sorted(sets)]
    values = [value for name in sorted(sets) for value in sorted(sets[name])]
    return SetTable(np.array(sorted(sets), "u8"), np.concatenate([[0], np.cumsum(lengths)]).astype("i8"), np.array(values, "u8"))


@settings(max_examples=150, deadline=None)
@given(
    st.lists(st.sets(st.integers(0, 9), min_size=1, max_size=5), min_size=2, max_size=24),
    st.lists(st.lists(st.integers(0, 23), min_size=2, max_size=20, unique=True), min_size=1, max_size=3),
    st.lists(st.integers(1, 7), min_size=24, max_size=24),
    st.integers(0, 40),
    st.lists(st.booleans(), min_size=24, max_size=24),
)
def test_pieces_give_the_edges_the_unreached_and_the_leaders_of_the_whole(texts, buckets, pieces, limit, alive):
    members = [[one for one in bucket if one < len(texts)] for bucket in buckets]
    members = [one for one in members if one]
    if not members:
        return
    bounds = np.cumsum([0, *map(len, members)]).astype("i8")
    large = Buckets(np.arange(len(members), dtype="u8"), bounds, np.array([d for one in members for d in one], "u8"))
    sets = table(dict(enumerate(texts)))
    for documents, place, bucket in bucket_groups(large):
        n = len(documents)
        survives = np.array(alive[:n])
        parts = {"sets": sets, "threshold": Fraction(1, 2)}
        whole = lead(documents, (place, bucket), order=np.arange(n), survives=survives, limit=limit, **parts)
        leads, left, edges, unreached, start = np.zeros(n, bool), limit, [], [], 0
        for size in pieces:
            mine = np.zeros(n, bool)
            mine[start : start + size] = True
            taken = np.flatnonzero(mine | leads)
            here = (mine | leads)[place]
            led = lead(
                documents[taken],
                (np.searchsorted(taken, place[here]), bucket[here]),
                order=np.arange(len(taken)),
                survives=survives[taken],
                stays=leads[taken],
                limit=left,
                **parts,
            )
            edges += zip(*(column.tolist() for column in vars(led.edges).values()), strict=True)
            unreached += led.unreached.tolist()
            left -= led.spent
            leads[np.searchsorted(documents, led.leaders)] = True
            start += size
            if start >= n:
                break
        assert edges == list(zip(*(column.tolist() for column in vars(whole.edges).values()), strict=True))
        assert unreached == whole.unreached.tolist()
        assert documents[leads].tolist() == whole.leaders.tolist()
