"""Names of bytes: SHA-256 digests and the Merkle hashing of RFC 6962.

Always true here: a digest is written ``sha256:<64 lower-case hex digits>`` for people and SQL, and is 32 raw bytes in Arrow
and Parquet. Leaves and nodes are hashed apart (0x00, 0x01), so no leaf can pass for a node.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable

from forebear.schemas.errors import UsageError

__all__ = [
    "EMPTY_ROOT",
    "MerkleTree",
    "digest_bytes",
    "digest_name",
    "documents_digest",
    "documents_range",
    "is_digest",
    "leaf_hash",
    "merkle_root",
    "node_hash",
    "sha256_name",
]

EMPTY_ROOT = hashlib.sha256(b"").digest()
"""MTH({}) of RFC 6962, section 2.1: the hash of an empty string."""

_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")


def is_digest(text: str) -> bool:
    """Whether the text is a whole digest as forebear writes it."""
    return _DIGEST.fullmatch(text) is not None


def digest_name(raw: bytes) -> str:
    """The written form of 32 raw bytes."""
    return "sha256:" + raw.hex()


def digest_bytes(name: str) -> bytes:
    """The 32 raw bytes of a written digest.

    Raises:
        UsageError: The text is not ``sha256:`` and 64 lower-case hex digits.
    """
    if not is_digest(name):
        raise UsageError(
            "not_a_digest",
            expected="sha256: and 64 lower-case hex digits",
            found=repr(name[:80]),
            remedy="Give the whole digest, as forebear prints it.",
        )
    return bytes.fromhex(name[7:])


def sha256_name(data: bytes) -> str:
    """The written SHA-256 digest of some bytes."""
    return digest_name(hashlib.sha256(data).digest())


def leaf_hash(data: bytes) -> bytes:
    """Leaf hash of RFC 6962, section 2.1: SHA-256(0x00 || data)."""
    return hashlib.sha256(b"\x00" + data).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """Node hash of RFC 6962, section 2.1: SHA-256(0x01 || left || right)."""
    return hashlib.sha256(b"\x01" + left + right).digest()


class MerkleTree:
    """The root of RFC 6962 over leaves that arrive in order, in memory logarithmic in their number.

    Subtrees of aligned ranges may be added whole (`add_subtree`), which is why packing a large log changes no digest.
    """

    def __init__(self) -> None:
        self.size = 0
        self._stack: list[tuple[int, bytes]] = []  # (height, hash) of complete subtrees, left to right, heights falling

    def add_leaf(self, leaf: bytes) -> None:
        """Append one leaf hash."""
        self._push(0, leaf)

    def add_leaves(self, leaves: Iterable[bytes]) -> None:
        """Append leaf hashes in order."""
        for leaf in leaves:
            self._push(0, leaf)

    def add_subtree(self, height: int, root: bytes) -> None:
        """Append a complete subtree of 2**height leaves; the tree's size must be a multiple of that."""
        assert self.size % (1 << height) == 0, "a subtree starts at a multiple of its size"
        self._push(height, root)

    def root(self) -> bytes:
        """MTH of all leaves so far."""
        if not self._stack:
            return EMPTY_ROOT
        root = self._stack[-1][1]
        for _, left in reversed(self._stack[:-1]):
            root = node_hash(left, root)
        return root

    def _push(self, height: int, value: bytes) -> None:
        self.size += 1 << height
        stack = self._stack
        while stack and stack[-1][0] == height:
            value = node_hash(stack.pop()[1], value)
            height += 1
        stack.append((height, value))


def merkle_root(leaves: Iterable[bytes]) -> bytes:
    """Root over leaf hashes in order (RFC 6962, section 2.1)."""
    tree = MerkleTree()
    tree.add_leaves(leaves)
    return tree.root()


def documents_range(packed: bytes | memoryview) -> bytes:
    """SHA-256 over the document digests of at most 2**20 rows, packed as 32 bytes each (zero bytes where a row has none)."""
    return hashlib.sha256(packed).digest()


def documents_digest(ranges: Iterable[bytes]) -> bytes:
    """The content digest of a shard: SHA-256 over the `documents_range` of each aligned range of 2**20 rows.

    It does not depend on how the shard is compressed, encoded or which other columns it has.
    """
    return hashlib.sha256(b"".join(ranges)).digest()
