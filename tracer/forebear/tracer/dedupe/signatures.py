"""MinHash signatures and band hashes of a whole Arrow column at once, by a compiled kernel.

Always true here: signatures are bit-identical to ``datasketch.MinHash`` 2.x (scheme ``affine32``) of the same seed over the same
32-bit shingle hashes (the low half of `shingles`' 64-bit ones). Source: Broder, "On the resemblance and containment of
documents" (1997); Leskovec, Rajaraman, Ullman, "Mining of Massive Datasets", 3.4 (banding).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

import numba as nb
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from forebear.schemas.canonical import canonical_json
from forebear.schemas.digests import sha256_name
from forebear.tracer.dedupe.shingles import (
    I64,
    U8,
    U64,
    ShingleOptions,
    _mix,
    _table_length,
    character_tables,
    document_shingles,
    scratch_length,
    text_buffers,
)

__all__ = ["DEFAULT", "SignatureOptions", "Sketch", "permutations", "signatures", "sketch"]

U32 = npt.NDArray[np.uint32]

_BAND = np.uint64(0x9E3779B97F4A7C15)


@dataclass(frozen=True)
class SignatureOptions:
    """What steers signatures: shingle sizes, bands x rows permutations, seed."""

    ngram: int = 5
    characters: int = 5
    bands: int = 14
    rows: int = 8
    seed: int = 1

    @property
    def shingles(self) -> ShingleOptions:
        """The shingle sizes alone."""
        return ShingleOptions(self.ngram, self.characters)

    def to_json(self) -> dict[str, object]:
        """What enters the run digest."""
        sizes = {"ngram": self.ngram, "characters": self.characters, "bands": self.bands, "rows": self.rows, "seed": self.seed}
        return {"scheme": "minhash/affine32", "shingle_hash": "fnv1a64-fmix64/1", "normalisation": "unicode-14.0/1", **sizes}

    @property
    def digest(self) -> str:
        """Digest of everything that changes a signature or a band hash."""
        return sha256_name(canonical_json(self.to_json()))


DEFAULT = SignatureOptions()


@dataclass(frozen=True)
class Sketch:
    """What the kernel says of n texts: words, distinct shingles (0: no token, never clustered), band hashes (n x bands)."""

    words: I64
    shingles: I64
    bands: U64


@cache
def permutations(count: int, seed: int) -> U32:
    """Parameters (2 x count, uint32) of h -> a*h + b mod 2**32, a odd, as datasketch 2.x draws them for `affine32`."""
    draw = np.random.RandomState(seed)
    a = draw.randint(0, 1 << 31, count, dtype=np.uint32) * np.uint32(2) + np.uint32(1)
    b = draw.randint(0, 1 << 32, count, dtype=np.uint32)
    return np.array([a, b])


@nb.njit(inline="always")
def _mix32(value: np.uint32) -> np.uint32:
    # numba widens products of uint32, hence the casts.
    value = np.uint32(value ^ (value >> np.uint32(16)))
    value = np.uint32(value * np.uint32(0x85EBCA6B))
    value = np.uint32(value ^ (value >> np.uint32(13)))
    value = np.uint32(value * np.uint32(0xC2B2AE35))
    return np.uint32(value ^ (value >> np.uint32(16)))


@nb.njit
def _minima(hashes: U32, a: U32, b: U32, out: U32) -> None:
    """For every permutation the least image of the hashes (one permutation at a time: the loop over hashes is a vector one)."""
    for k in range(len(a)):
        ak, bk, least = a[k], b[k], np.uint32(0xFFFFFFFF)
        for i in range(len(hashes)):
            image = np.uint32(np.uint32(ak * hashes[i]) + bk)
            if image < least:
                least = image
        out[k] = least


@nb.njit
def _sign(shingles: U64, count: int, a: U32, b: U32, mixed: U32, out: U32) -> None:
    for i in range(count):
        mixed[i] = _mix32(nb.uint32(shingles[i] & nb.uint64(0xFFFFFFFF)))
    _minima(mixed[:count], a, b, out)


@nb.njit
def _band_hashes(signature: U32, rows: int, out: U64) -> None:
    for band in range(len(out)):
        value = _mix(nb.uint64(band + 1))
        for i in range(band * rows, (band + 1) * rows):
            value = _mix(value * _BAND + nb.uint64(signature[i]))
        out[band] = value


@nb.njit(cache=True, nogil=True)
def _sketch(
    data: U8, offsets: I64, kind: U8, lower: Any, sizes: tuple[int, int], perms: U32, rows: int, scratch: int
) -> tuple[I64, I64, U64, U32]:
    n = len(offsets) - 1
    tokens, found = np.empty(scratch, dtype=np.uint64), np.empty(scratch, dtype=np.uint64)
    table, mixed = np.empty(_table_length(scratch), dtype=np.uint64), np.empty(scratch, dtype=np.uint32)
    words, shingles = np.zeros(n, dtype=np.int64), np.zeros(n, dtype=np.int64)
    bands = np.zeros((n, perms.shape[1] // rows), dtype=np.uint64)
    signatures = np.full((n, perms.shape[1]), np.uint32(0xFFFFFFFF), dtype=np.uint32)
    a, b = perms[0], perms[1]
    for k in range(n):
        count = document_shingles(data, offsets[k], offsets[k + 1], kind, lower, sizes, tokens, found, table)
        words[k], shingles[k] = count
        if shingles[k]:
            _sign(found, shingles[k], a, b, mixed, signatures[k])
            _band_hashes(signatures[k], rows, bands[k])
    return words, shingles, bands, signatures


def _run(texts: pa.Array, options: SignatureOptions) -> tuple[I64, I64, U64, U32]:
    data, offsets = text_buffers(texts)
    kind, lower = character_tables()
    perms = permutations(options.bands * options.rows, options.seed)
    result: tuple[I64, I64, U64, U32] = _sketch(
        data, offsets, kind, lower, tuple(options.shingles), perms, options.rows, scratch_length(offsets)
    )
    return result


def sketch(texts: pa.Array, options: SignatureOptions = DEFAULT) -> Sketch:
    """Words, distinct shingles and band hashes of a column of texts (nulls count as empty)."""
    words, shingles, bands, _ = _run(texts, options)
    return Sketch(words, shingles, bands)


def signatures(texts: pa.Array, options: SignatureOptions = DEFAULT) -> U32:
    """MinHash signatures, n x (bands * rows) uint32; a text without a token has the largest value everywhere."""
    return _run(texts, options)[3]
