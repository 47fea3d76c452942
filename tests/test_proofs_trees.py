"""The trees behind proofs: every path that is made leads to the root, and none that was not made does."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from forebear.schemas.digests import EMPTY_ROOT, leaf_hash, merkle_root
from forebear.schemas.tables import DIGEST
from forebear.tracer.ledger import absence
from forebear.tracer.ledger.absence import Gap, absence_root, document_path, find_gap, root_of_document, root_of_gap, sorted_documents
from forebear.tracer.ledger.merkle import audit_path, consistency_path, is_consistent, root_from_path


def leaves(count: int) -> list[bytes]:
    return [leaf_hash(str(n).encode()) for n in range(count)]


@given(st.data(), st.integers(1, 70))
def test_an_audit_path_leads_to_the_root_of_its_leaf_alone(data: st.DataObject, size: int) -> None:
    at, other = data.draw(st.integers(0, size - 1)), data.draw(st.integers(0, size - 1))
    path = audit_path(leaves(size), at)
    root = merkle_root(leaves(size))
    assert root_from_path(str(at).encode(), path, index=at, size=size) == root
    assert (root_from_path(str(other).encode(), path, index=other, size=size) == root) == (other == at)
    assert root_from_path(str(at).encode(), [*path, root], index=at, size=size) is None
    assert not path or root_from_path(str(at).encode(), path[:-1], index=at, size=size) != root


@given(st.data(), st.integers(1, 70))
def test_a_consistency_proof_holds_for_its_two_trees_alone(data: st.DataObject, size: int) -> None:
    old = data.draw(st.integers(1, size))
    path = consistency_path(leaves(size), old)
    first, second = (old, merkle_root(leaves(old))), (size, merkle_root(leaves(size)))
    assert is_consistent(first, second, path)
    forged = (old, merkle_root([*leaves(old)[:-1], leaf_hash(b"forged")]))
    assert not is_consistent(forged, second, path)
    assert not is_consistent(first, (size, hashlib.sha256(b"forged").digest()), path)
    assert not is_consistent(first, second, [*path, second[1]])
    if path:
        assert not is_consistent(first, second, path[:-1])


# RFC 6962, section 2.1.3, names the nodes of a tree of seven leaves d0 to d6.
def test_the_paths_of_the_rfc_s_own_example() -> None:
    d = leaves(7)
    g, h = merkle_root(d[0:2]), merkle_root(d[2:4])
    k, j = merkle_root(d[0:4]), d[6]
    i, ell = merkle_root(d[4:6]), merkle_root(d[4:7])
    assert audit_path(d, 0) == [d[1], h, ell]
    assert audit_path(d, 3) == [d[2], g, ell]
    assert audit_path(d, 4) == [d[5], j, k]
    assert audit_path(d, 6) == [i, k]
    assert consistency_path(d, 3) == [d[2], d[3], g, ell]
    assert consistency_path(d, 4) == [ell]
    assert consistency_path(d, 6) == [i, j, k]


def column(documents: Sequence[bytes | None]) -> pa.ChunkedArray:
    return pa.chunked_array([pa.array(documents, DIGEST)])


def digests(numbers: Sequence[int]) -> list[bytes]:
    return [hashlib.sha256(str(n).encode()).digest() for n in numbers]


def tree(documents: Sequence[bytes]) -> tuple[list[absence.Documents], bytes]:
    parts = list(sorted_documents(lambda: [column(documents)], len(documents)))
    return parts, absence_root(lambda: [column(documents)], len(documents))


@given(st.sets(st.integers(0, 60), max_size=50), st.integers(0, 60))
def test_a_document_has_a_path_or_a_gap_and_never_both(numbers: set[int], asked: int) -> None:
    parts, root = tree(digests(sorted(numbers)))
    (document,) = digests([asked])
    path, gap = document_path(parts, document), find_gap(parts, document)
    assert (path is not None) == (asked in numbers) == (gap is None)
    if path is not None:
        assert root_of_document(document, path) == root
    if gap is not None:
        assert root_of_gap(document, gap) == root
        for present in digests(sorted(numbers)):
            assert root_of_gap(present, gap) != root


def test_nothing_a_liar_draws_gives_one_document_both_proofs() -> None:
    """Trees whose leaves are out of order: whatever the shape, a hidden leaf has no valid path where a gap over it is valid."""
    rng = np.random.default_rng(3)
    both = attempts = 0
    for _ in range(300):
        numbers = rng.permutation(12)[: rng.integers(2, 9)].tolist()
        levels = [[absence._leaf(one) for one in digests(numbers)]]
        while len(levels[-1]) > 1:
            levels.append(absence._above(levels[-1]))
        root = levels[-1][0][64:]
        for at, document in enumerate(digests(numbers)):
            present = root_of_document(document, tuple(absence._siblings(levels, 0, at))) == root
            for height, level in enumerate(levels[:-1]):
                for left in range(0, len(level) - 1, 2):
                    gap = Gap(level[left], level[left + 1], tuple(absence._siblings(levels, height + 1, left >> 1)))
                    attempts += 1
                    both += present and root_of_gap(document, gap) == root
    assert both == 0
    assert attempts > 5_000


def test_labels_that_lie_about_their_range_lead_nowhere() -> None:
    documents = sorted(digests(range(4)))
    parts, root = tree(documents)
    gap = find_gap(parts, (int.from_bytes(documents[0], "big") + 1).to_bytes(32, "big"))
    assert gap is not None and gap.left is not None and gap.right is not None
    for left, right in ((gap.right, gap.left), (gap.left, gap.left), (bytes(96), gap.right), (gap.left[:95], gap.right)):
        assert root_of_gap(documents[1], Gap(left, right, gap.siblings)) != root


def test_the_empty_tree_and_the_tree_of_one_leaf() -> None:
    one, other = digests([1, 2])
    assert absence_root(list, 0) == EMPTY_ROOT
    assert root_of_gap(one, Gap(None, None, ())) == EMPTY_ROOT
    parts, root = tree([one])
    assert root == hashlib.sha256(b"\x02" + one).digest()
    gap = find_gap(parts, other)
    assert gap is not None and root_of_gap(other, gap) == root
    assert root_of_gap(one, gap) is None


def test_rows_without_a_document_and_copies_change_nothing() -> None:
    documents = digests(range(9))
    assert absence_root(lambda: [column([*documents, None, documents[3]]), column([None])], 12) == tree(documents)[1]


@pytest.mark.parametrize("chunk", [1, 2, 4, 64])
def test_how_much_is_in_memory_at_once_changes_nothing(monkeypatch: pytest.MonkeyPatch, chunk: int) -> None:
    documents = digests(range(137))
    root = tree(documents)[1]
    monkeypatch.setattr(absence, "_CHUNK", chunk)
    assert absence_root(lambda: [column(documents)], 137) == root
    in_passes = list(sorted_documents(lambda: [column(documents[:70]), column(documents[70:])], 137, at_once=10))
    assert len(in_passes) == 14
    assert b"".join(part.tobytes() for part in in_passes) == b"".join(sorted(documents))


def test_a_node_of_one_tree_is_none_of_the_other() -> None:
    one, other = digests([1, 2])
    assert len({leaf_hash(one), hashlib.sha256(b"\x02" + one).digest(), merkle_root([one, other]), tree([one, other])[1]}) == 4
