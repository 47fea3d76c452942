"""Names of bytes: the Merkle hashing is that of RFC 6962, by its published vectors and by its recursive definition."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from forebear.schemas.digests import (
    EMPTY_ROOT,
    MerkleTree,
    digest_bytes,
    digest_name,
    documents_digest,
    documents_range,
    is_digest,
    leaf_hash,
    merkle_root,
    node_hash,
    sha256_name,
)
from forebear.schemas.errors import UsageError

INPUTS = ["", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f"]
ROOTS = [
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
]
"""The reference vectors of Certificate Transparency: roots over the first n inputs."""


@pytest.mark.parametrize("count", range(1, 9))
def test_roots_are_those_of_the_published_vectors(count: int) -> None:
    leaves = [leaf_hash(bytes.fromhex(text)) for text in INPUTS[:count]]
    assert merkle_root(leaves).hex() == ROOTS[count - 1]


def test_the_root_of_nothing_is_the_hash_of_an_empty_string() -> None:
    assert merkle_root([]) == MerkleTree().root() == EMPTY_ROOT == hashlib.sha256().digest()


def by_definition(leaves: list[bytes]) -> bytes:
    """RFC 6962, section 2.1, word for word."""
    if len(leaves) <= 1:
        return leaves[0] if leaves else EMPTY_ROOT
    k = 1 << (len(leaves) - 1).bit_length() - 1
    return node_hash(by_definition(leaves[:k]), by_definition(leaves[k:]))


@given(st.integers(0, 70))
def test_the_root_is_that_of_the_recursive_definition(count: int) -> None:
    leaves = [leaf_hash(bytes([n])) for n in range(count)]
    assert merkle_root(leaves) == by_definition(leaves)


@given(st.integers(0, 4), st.integers(0, 9), st.integers(0, 20))
def test_whole_subtrees_may_take_the_place_of_their_leaves(height: int, subtrees: int, more: int) -> None:
    size = 1 << height
    leaves = [leaf_hash(bytes([n])) for n in range(subtrees * size + more)]
    tree = MerkleTree()
    for n in range(subtrees):
        tree.add_subtree(height, by_definition(leaves[n * size : (n + 1) * size]))
    tree.add_leaves(leaves[subtrees * size :])
    assert tree.size == len(leaves)
    assert tree.root() == by_definition(leaves)


def test_no_leaf_passes_for_a_node() -> None:
    left, right = leaf_hash(b"a"), leaf_hash(b"b")
    assert leaf_hash(left + right) != node_hash(left, right)


@given(st.binary(max_size=40))
def test_a_digest_reads_back(data: bytes) -> None:
    name = sha256_name(data)
    assert is_digest(name)
    assert digest_bytes(name) == hashlib.sha256(data).digest()
    assert digest_name(digest_bytes(name)) == name


NOT_DIGESTS = {
    "upper case": "sha256:" + "A" * 64,
    "too short": "sha256:" + "a" * 63,
    "too long": "sha256:" + "a" * 65,
    "no algorithm": "a" * 64,
    "another algorithm": "sha512:" + "a" * 64,
    "a new line after it": "sha256:" + "a" * 64 + "\n",
    "other digits": "sha256:" + "١" * 64,
    "nothing": "",
}


@pytest.mark.parametrize("sentence", NOT_DIGESTS)
def test_a_digest_is_not_written_with(sentence: str) -> None:
    assert not is_digest(NOT_DIGESTS[sentence])
    with pytest.raises(UsageError) as caught:
        digest_bytes(NOT_DIGESTS[sentence])
    assert caught.value.kind == "not_a_digest"


def test_the_documents_digest_hashes_the_hashes_of_ranges() -> None:
    first, second = documents_range(b"a" * 64), documents_range(memoryview(b"b" * 32))
    assert first == hashlib.sha256(b"a" * 64).digest()
    assert documents_digest([first, second]) == hashlib.sha256(first + second).digest()
    assert documents_digest([]) == hashlib.sha256().digest()
