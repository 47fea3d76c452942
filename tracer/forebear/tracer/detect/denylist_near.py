"""Near copies of listed texts: every document's shingles against an index in memory, and the exact Jaccard similarity.

Always true here: no listed text at or above the similarity is missed, and what is reported is measured. Of a listed text of n
shingles only n - ceil(t * n) + 1 are indexed, the ones that fewest listed texts share: a document as similar as t lacks fewer
than that, so it has at least one of them (prefix filtering: Bayardo, Ma, Srikant, "Scaling up all pairs similarity
search", 2007).
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from forebear.tracer.dedupe.shingles import (
    ShingleOptions,
    _table_length,
    character_tables,
    document_shingles,
    scratch_length,
    shingle_sets,
    text_buffers,
)
from forebear.tracer.dedupe.similarity import intersection_size
from forebear.tracer.detect.compiled import kernel

__all__ = ["NearIndex", "build_near_index", "find_near"]

I64 = npt.NDArray[np.int64]
U64 = npt.NDArray[np.uint64]


@dataclass(frozen=True)
class NearIndex:
    """Shingle sets of the listed texts, and where the indexed ones stand.

    Args:
        options: Shingle sizes.
        jaccard: The least similarity that is reported.
        bounds: Text k has values[bounds[k]:bounds[k + 1]], ascending.
        values: The sets.
        keys: Indexed shingles, ascending, none twice.
        key_bounds: Shingle k stands in the texts entries[key_bounds[k]:key_bounds[k + 1]].
        entries: Listed texts.
        bits: Bitmap over the shingles' low bits.
    """

    options: ShingleOptions
    jaccard: Fraction
    bounds: I64
    values: U64
    keys: U64
    key_bounds: I64
    entries: npt.NDArray[np.int32]
    bits: U64


def build_near_index(texts: pa.Array, options: ShingleOptions, *, jaccard: Fraction) -> NearIndex:
    """Index listed texts for a similarity."""
    bounds, values = shingle_sets(texts, options)
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    keys, entries = [np.zeros(0, "u8")], [np.zeros(0, "i4")]
    for n in range(len(bounds) - 1):
        own = slice(bounds[n], bounds[n + 1])
        size = int(bounds[n + 1] - bounds[n])
        indexed = size - -(-size * jaccard.numerator // jaccard.denominator) + 1 if size else 0
        rarest = np.argsort(counts[inverse[own]], kind="stable")[: min(size, max(1, indexed))]
        keys.append(values[own][rarest])
        entries.append(np.full(len(rarest), n, "i4"))
    key, entry = np.concatenate(keys), np.concatenate(entries)
    order = np.argsort(key, kind="stable")
    unique, first = np.unique(key[order], return_index=True)
    return NearIndex(options, jaccard, bounds, values, unique, np.append(first, len(key)).astype("i8"), entry[order], _bitmap(unique))


def _bitmap(keys: U64) -> U64:
    words = 16
    while words * 64 < 16 * len(keys):
        words *= 2
    bits = np.zeros(words, "u8")
    low = keys & np.uint64(words * 64 - 1)
    np.bitwise_or.at(bits, (low >> np.uint64(6)).astype("i8"), np.uint64(1) << (low & np.uint64(63)))
    return bits


@kernel
def _near(  # type: ignore[no-untyped-def]
    data, offsets, kind, lower, sizes, room, table_room, bounds, values, keys, key_bounds, entries, bits, numerator, denominator
):
    tokens, own, table = np.empty(room, np.uint64), np.empty(room, np.uint64), np.empty(table_room, np.uint64)
    mask = np.uint64(len(bits) * 64 - 1)
    seen = np.full(len(bounds) - 1, -1, np.int64)
    candidates = np.empty(len(bounds) - 1, np.int64)
    found = np.empty((16, 4), np.int64)
    total = 0
    for n in range(len(offsets) - 1):
        size = document_shingles(data, offsets[n], offsets[n + 1], kind, lower, sizes, tokens, own, table)[1]
        count = 0
        for k in range(size):
            low = own[k] & mask
            if not (bits[low >> np.uint64(6)] >> (low & np.uint64(63))) & np.uint64(1):
                continue
            at = np.searchsorted(keys, own[k])
            if at == len(keys) or keys[at] != own[k]:
                continue
            for e in entries[key_bounds[at] : key_bounds[at + 1]]:
                if seen[e] != n:
                    seen[e] = n
                    candidates[count] = e
                    count += 1
        if count == 0:
            continue
        own[:size].sort()
        for c in range(count):
            e = candidates[c]
            listed = values[bounds[e] : bounds[e + 1]]
            common = intersection_size(own[:size], listed)
            union = size + len(listed) - common
            if common * denominator < union * numerator:
                continue
            if total == len(found):
                grown = np.empty((2 * total, 4), np.int64)
                grown[:total] = found
                found = grown
            found[total, 0], found[total, 1], found[total, 2], found[total, 3] = n, e, common, union
            total += 1
    return found[:total]


def find_near(texts: pa.Array, index: NearIndex) -> I64:
    """Listed texts that documents are near to.

    Returns:
        (k, 4): position in the column (ascending), listed text, shingles in both, shingles in either.
    """
    data, offsets = text_buffers(texts)
    room = scratch_length(offsets)
    sizes: tuple[Any, ...] = tuple(index.options)
    arrays = (index.bounds, index.values, index.keys, index.key_bounds, index.entries, index.bits)
    found: I64 = _near(
        data, offsets, *character_tables(), sizes, room, _table_length(room), *arrays,
        index.jaccard.numerator, index.jaccard.denominator,
    )  # fmt: skip
    return found
