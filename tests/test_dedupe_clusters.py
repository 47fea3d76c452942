"""Pairs, leaders and the decision, against brute force."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from forebear.tracer.dedupe.bands import band_table, detection_probability, hash_ranges
from forebear.tracer.dedupe.clusters import Copies, Documents, decide, total_order
from forebear.tracer.dedupe.leaders import bucket_groups, lead
from forebear.tracer.dedupe.pairs import ALL_PAIRS, candidates
from forebear.tracer.dedupe.similarity import Edges, SetTable, measure

LOW = Fraction(1, 1000)


def u64(values):
    return np.array(values, dtype="u8")


def i64(values):
    return np.array(values, dtype="i8")


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 12), st.integers(1, 9)), max_size=40, unique_by=lambda e: e[:2]))
def test_candidates_are_every_pair_that_shares_a_hash_and_may_reach_the_threshold(entries):
    threshold = Fraction(1, 2)
    size = {document: 1 + document % 9 for _, document, _ in entries}
    found = candidates(
        u64([h for h, _, _ in entries]),
        u64([d for _, d, _ in entries]),
        i64([size[d] for _, d, _ in entries]),
        threshold=threshold,
    )
    buckets = {}
    for h, d, _ in entries:
        buckets.setdefault(h, set()).add(d)
    expected = {
        (a, b)
        for members in buckets.values()
        for a in members
        for b in members
        if a < b and Fraction(min(size[a], size[b]), max(size[a], size[b])) >= threshold
    }
    assert list(zip(found.left.tolist(), found.right.tolist(), strict=True)) == sorted(expected)


def test_a_bucket_above_the_limit_is_handed_on_whole_and_gives_no_pairs():
    n = ALL_PAIRS + 1
    found = candidates(u64([7] * n), u64(range(n)), i64([5] * n), threshold=LOW)
    assert (len(found.left), found.large.hashes.tolist(), found.large.members.tolist()) == (0, [7], list(range(n)))


def test_hash_ranges_cover_every_hash_once():
    spans = hash_ranges(7)
    assert (spans[0].first, spans[-1].last) == (0, 2**64 - 1)
    assert all(b.first == a.last + 1 for a, b in zip(spans, spans[1:], strict=False))


def test_band_tables_leave_out_rows_without_a_token_and_are_sorted():
    table = band_table(u64([[5, 1], [9, 9], [5, 0]]), np.array([True, False, True]))
    assert table.to_pydict() == {"hash": [0, 1, 5, 5], "position": [2, 0, 0, 2]}


def test_the_s_curve_is_the_published_one():
    assert detection_probability(0.8, bands=20, rows=5) == pytest.approx(0.9996, abs=1e-4)  # Mining of Massive Datasets, 3.4.2


def table(sets: dict[int, set[int]]) -> SetTable:
    numbers = sorted(sets)
    bounds = np.cumsum([0] + [len(sets[n]) for n in numbers])
    return SetTable(u64(numbers), i64(bounds), u64([v for n in numbers for v in sorted(sets[n])]))


@settings(max_examples=200, deadline=None)
@given(st.dictionaries(st.integers(0, 9), st.sets(st.integers(0, 12), min_size=1), min_size=2), st.integers(1, 10))
def test_measured_edges_are_the_exact_jaccard_at_or_above_the_threshold(sets, tenths):
    threshold = Fraction(tenths, 10)
    pairs = [(a, b) for a in sets for b in sets if a < b]
    edges, unmeasured = measure(u64([a for a, _ in pairs]), u64([b for _, b in pairs]), table(sets), threshold=threshold)
    expected = [
        (a, b, len(sets[a] & sets[b]), len(sets[a] | sets[b]))
        for a, b in pairs
        if Fraction(len(sets[a] & sets[b]), len(sets[a] | sets[b])) >= threshold
    ]
    assert list(zip(*(getattr(edges, f).tolist() for f in ("left", "right", "intersection", "union")), strict=True)) == expected
    assert unmeasured == 0


def test_a_pair_whose_text_is_not_at_hand_is_counted_and_gives_no_edge():
    edges, unmeasured = measure(u64([1, 1]), u64([2, 3]), table({1: {1}, 2: {1}}), threshold=LOW)
    assert (edges.right.tolist(), unmeasured) == ([2], 1)


def documents(n: int, survives=None, rank=None) -> Documents:
    """n documents whose total order is their number."""
    digest = np.zeros((n, 4), "u8")
    digest[:, 0] = np.arange(n)
    return Documents(
        number=u64(range(n)),
        rank=i64(rank or [0] * n),
        bytes=i64([100] * n),
        digest=digest,
        shard=i64([0] * n),
        row=i64(range(n)),
        survives=np.array(survives or [True] * n),
        shingles=i64([10] * n),
    )


def edges_of(*rows) -> Edges:
    columns = list(zip(*rows, strict=True)) if rows else [(), (), (), ()]
    return Edges(u64(columns[0]), u64(columns[1]), i64(columns[2]), i64(columns[3]))


NONE = Copies(u64([]), u64([]))


def test_nothing_is_removed_on_transitive_closure():
    decided = decide(documents(3), edges_of((0, 1, 9, 10), (1, 2, 9, 10)), NONE)
    assert decided.keeper.tolist() == [-1, 0, -1]


def test_the_keeper_named_is_the_most_similar_then_the_earliest():
    decided = decide(documents(4), edges_of((0, 2, 8, 10), (1, 2, 9, 10), (0, 3, 9, 10), (1, 3, 18, 20)), NONE)
    assert decided.keeper.tolist() == [-1, -1, 1, 0]


def test_a_document_that_another_policy_dropped_is_never_a_keeper():
    decided = decide(documents(3, survives=[False, True, True]), edges_of((0, 1, 9, 10), (0, 2, 9, 10)), NONE)
    assert decided.keeper.tolist() == [-1, -1, -1]


def test_a_dropped_document_may_still_name_the_cluster():
    decided = decide(documents(2, survives=[False, True]), edges_of((0, 1, 9, 10)), NONE)
    assert decided.cluster.tolist() == [0, 0]


def test_copies_of_a_kept_document_are_exact_duplicates_with_its_whole_set():
    decided = decide(documents(2), edges_of(), Copies(u64([0]), u64([1])))
    assert (decided.keeper[1], decided.exact[1], decided.intersection[1], decided.union[1]) == (0, True, 10, 10)


def test_copies_of_a_removed_document_inherit_its_keeper_and_measure():
    decided = decide(documents(3), edges_of((0, 1, 8, 10)), Copies(u64([1]), u64([2])))
    assert (decided.keeper[2], decided.exact[2], decided.intersection[2], decided.union[2]) == (0, False, 8, 10)


def test_source_priority_comes_before_length_in_the_total_order():
    facts = documents(3, rank=[1, 0, 1])
    assert total_order(facts).tolist() == [1, 0, 2]


def test_longer_documents_come_first():
    facts = documents(2)
    facts.bytes[1] = 200
    assert total_order(facts).tolist() == [1, 0]


@settings(max_examples=300, deadline=None)
@given(
    st.integers(2, 9).flatmap(
        lambda n: st.tuples(
            st.just(n),
            st.sets(st.tuples(st.integers(0, n - 1), st.integers(0, n - 1)), max_size=16),
            st.lists(st.booleans(), min_size=n, max_size=n),
            st.permutations(range(n)),
        )
    )
)
def test_decision_follows_its_definition_whatever_the_order_of_edges(case):
    n, pairs, survives, shuffled = case
    rows = sorted({(min(a, b), max(a, b), 5 + (a * b) % 5, 10) for a, b in pairs if a != b})
    rows = [rows[k] for k in np.argsort([shuffled[k % n] for k in range(len(rows))], kind="stable")]
    decided = decide(documents(n, survives=survives), edges_of(*rows), NONE)
    kept: set[int] = set()
    for document in range(n):
        near = [(Fraction(c, u), -a, a) for a, b, c, u in rows if b == document and a in kept]
        expected = max(near)[2] if near and survives[document] else -1
        assert decided.keeper[document] == expected
        if survives[document] and expected == -1:
            kept.add(document)
    labels = connected_components(
        coo_array((np.ones(len(rows)), ([r[0] for r in rows], [r[1] for r in rows])), shape=(n, n)), directed=False
    )[1]
    assert decided.cluster.tolist() == [int(np.flatnonzero(labels == labels[d])[0]) for d in range(n)]


def group_of(sets: dict[int, set[int]], buckets: list[list[int]]):
    from forebear.tracer.dedupe.pairs import Buckets

    bounds = np.cumsum([0] + [len(b) for b in buckets])
    return bucket_groups(Buckets(u64(range(len(buckets))), i64(bounds), u64([d for b in buckets for d in b])))


def test_every_document_of_a_large_bucket_meets_a_leader_or_leads():
    families = {n: set(range(100 * (n % 5), 100 * (n % 5) + 50)) | {10_000 + n} for n in range(200)}
    ((numbers, place, bucket),) = group_of(families, [list(range(200))])
    led = lead(
        numbers,
        (place, bucket),
        order=np.arange(200),
        survives=np.ones(200, bool),
        sets=table(families),
        threshold=Fraction(4, 5),
    )
    assert len(led.edges.left) == 195
    assert set(led.edges.left.tolist()) == {0, 1, 2, 3, 4}
    assert len(led.unreached) == 0


def test_what_the_budget_does_not_reach_is_named():
    apart = {n: {2 * n, 2 * n + 1} for n in range(100)}
    ((numbers, place, bucket),) = group_of(apart, [list(range(100))])
    led = lead(numbers, (place, bucket), order=np.arange(100), survives=np.ones(100, bool), sets=table(apart), threshold=LOW, budget=1)
    assert 0 < len(led.unreached) < 100
    assert max(set(range(100)) - set(led.unreached.tolist())) < min(led.unreached.tolist())


def test_large_buckets_that_share_a_document_are_worked_off_together():
    assert len(group_of({}, [[0, 1], [1, 2], [3, 4]])) == 2


def test_a_leader_is_never_a_document_that_another_policy_dropped():
    same = {n: {1, 2, 3} for n in range(70)}
    survives = np.ones(70, bool)
    survives[0] = False
    ((numbers, place, bucket),) = group_of(same, [list(range(70))])
    led = lead(numbers, (place, bucket), order=np.arange(70), survives=survives, sets=table(same), threshold=Fraction(4, 5))
    assert set(led.edges.left.tolist()) == {1}


def test_pyarrow_columns_of_bands_have_the_declared_types():
    assert band_table(np.zeros((0, 14), "u8"), np.zeros(0, bool)).schema.types == [pa.uint64(), pa.uint32()]
