"""The index in which documents look up the n-grams of a benchmark's items, in memory.

Always true here: parts with the same tokens are indexed once, under the first item that has them. An n-gram that three
or more parts share, and at least one in two hundred, is boilerplate: it is no seed, and tokens that stand in boilerplate alone
count neither for nor against an item. What cannot be sought by itself (too short) is counted, never guessed at.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from forebear.tracer.detect.benchmark_tokens import Tokens, tokenise
from forebear.tracer.detect.windows import text_bytes

__all__ = ["FEWEST", "NGRAM", "WHOLE_BELOW", "Index", "Lookup", "Part", "build_index", "ngram_hashes"]

U64 = npt.NDArray[np.uint64]
I64 = npt.NDArray[np.int64]
I32 = npt.NDArray[np.int32]

NGRAM = 5
"""Tokens in a seed; a part shorter than that is not sought."""

FEWEST = NGRAM

WHOLE_BELOW = 13
"""A part of fewer tokens counts only where the whole of it is met: 13 is GPT-3's n-gram (Brown et al. 2020, appendix C)."""

_SHARED_BY = 3
_SHARED_SHARE = 200
_SEEDS_IN_PART = 2  # places of one n-gram in one part that are tried; a part may repeat itself for ever
_POLYNOMIAL = np.uint64(0x9E3779B97F4A7C15)
_MIX1, _S32 = np.uint64(0xD6E8FEB86659FD93), np.uint64(32)


@dataclass(frozen=True)
class Part:
    """A question, an answer or a passage of an item."""

    item: int
    label: str
    text: str


class Lookup(NamedTuple):
    """What the kernel reads.

    Args:
        bits: Bitmap over the high bits of seeds, to pass over nearly every n-gram of a document.
        slots: Open-addressed table of seeds; -1 for none, else a place in `seeds`.
        seeds: The seeds, ascending.
        post_bounds: Seed k has the postings post_bounds[k]:post_bounds[k + 1].
        post_part: Part of a posting.
        post_at: Token of the part at which the seed begins.
        bounds: Part p has tokens[bounds[p]:bounds[p + 1]].
        tokens: Token hashes of all parts.
        weight: 1 for a token of the item's own, 0 for boilerplate.
        total: Sum of a part's weights.
        whole: Whether only the whole part counts.
    """

    bits: U64
    slots: I32
    seeds: U64
    post_bounds: I64
    post_part: I32
    post_at: I32
    bounds: I64
    tokens: U64
    weight: npt.NDArray[np.uint8]
    total: I64
    whole: npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Index:
    """A benchmark's parts, ready to be looked up.

    Args:
        lookup: The arrays.
        parts: The distinct parts, as `lookup` numbers them.
        question: For an answer too short to say anything alone, the question that must be met too; else -1.
        unsought: Parts with too few tokens.
    """

    lookup: Lookup
    parts: tuple[Part, ...]
    question: I64
    unsought: int


def build_index(parts: Sequence[Part]) -> Index:
    """Index the parts of a benchmark."""
    raw = text_bytes(pa.array([part.text for part in parts], pa.large_string()))
    tokens = tokenise(raw.data, raw.offsets)
    chosen, place, unsought = _distinct(tokens)
    kept = tuple(parts[k] for k in chosen)
    bounds = np.concatenate([[0], np.cumsum([tokens.bounds[k + 1] - tokens.bounds[k] for k in chosen])]).astype("i8")
    joined = [tokens.hashes[tokens.bounds[k] : tokens.bounds[k + 1]] for k in chosen]
    hashes = np.concatenate([np.zeros(0, "u8"), *joined])
    lookup = _lookup(hashes, bounds)
    return Index(lookup, kept, _questions(parts, kept, place, bounds=bounds), unsought)


def _distinct(tokens: Tokens) -> tuple[list[int], dict[int, int], int]:
    """Parts worth seeking, each once; for every part its place among them; how many have too few tokens."""
    seen: dict[bytes, int] = {}
    chosen: list[int] = []
    place: dict[int, int] = {}
    unsought = 0
    for k in range(len(tokens.bounds) - 1):
        own = tokens.hashes[tokens.bounds[k] : tokens.bounds[k + 1]]
        if len(own) < FEWEST:
            unsought += 1
            continue
        place[k] = seen.setdefault(own.tobytes(), len(chosen))
        if place[k] == len(chosen):
            chosen.append(k)
    return chosen, place, unsought


def _questions(parts: Sequence[Part], kept: Sequence[Part], place: dict[int, int], *, bounds: I64) -> I64:
    asked = {parts[k].item: p for k, p in place.items() if parts[k].label == "question"}
    found = np.full(len(kept), -1, "i8")
    for p, part in enumerate(kept):
        if part.label == "answer" and bounds[p + 1] - bounds[p] < WHOLE_BELOW:
            found[p] = asked.get(part.item, p)  # itself: there is no question to wait for
    return found


def ngram_hashes(tokens: U64, size: int = NGRAM) -> U64:
    """The hash of every n-gram of a run of tokens, in order."""
    count = max(0, len(tokens) - size + 1)
    value = np.zeros(count, "u8")
    with np.errstate(over="ignore"):
        for k in range(size):
            value = value * _POLYNOMIAL + tokens[k : k + count]
        value ^= value >> _S32
        value = value * _MIX1
    return value ^ (value >> _S32)


def _lookup(hashes: U64, bounds: I64) -> Lookup:
    parts = len(bounds) - 1
    grams = ngram_hashes(hashes)
    part = np.repeat(np.arange(parts), np.diff(bounds))[: len(grams)]
    at = (np.arange(len(grams)) - bounds[part]) if parts else np.zeros(0, "i8")
    within = at + NGRAM <= np.diff(bounds)[part] if parts else np.zeros(0, bool)
    grams, part, at = grams[within], part[within], at[within]
    shared = _shared(grams, part, parts)
    weight = _weights(bounds, part[~shared], at[~shared])
    total = np.add.reduceat(weight.astype("i8"), bounds[:-1]) if parts else np.zeros(0, "i8")
    whole = (np.diff(bounds) < WHOLE_BELOW) | (total < NGRAM)
    chosen = _seeds(grams, part, at, shared=shared, parts=parts)
    return _table(grams[chosen], part[chosen], at[chosen], Lookup(*_EMPTY, bounds, hashes, weight, total, whole))


_NOTHING = np.zeros(0, "i4")
_EMPTY = (np.zeros(1, "u8"), _NOTHING, np.zeros(0, "u8"), np.zeros(1, "i8"), _NOTHING, _NOTHING)


def _shared(grams: U64, part: I64, parts: int) -> npt.NDArray[np.bool_]:
    """Which n-grams are boilerplate."""
    pairs = np.unique(np.stack([grams, part.astype("u8")], axis=1), axis=0) if len(grams) else np.zeros((0, 2), "u8")
    distinct, counts = np.unique(pairs[:, 0], return_counts=True)
    many = counts >= max(_SHARED_BY, parts / _SHARED_SHARE)
    return np.isin(grams, distinct[many])


def _weights(bounds: I64, part: I64, at: I64) -> npt.NDArray[np.uint8]:
    """1 for every token that some n-gram of the part's own covers."""
    edges = np.zeros(bounds[-1] + 1, "i8")
    first = bounds[part] + at
    np.add.at(edges, first, 1)
    np.add.at(edges, first + NGRAM, -1)
    return (np.cumsum(edges[:-1]) > 0).astype("u1")


def _seeds(grams: U64, part: I64, at: I64, *, shared: npt.NDArray[np.bool_], parts: int) -> npt.NDArray[np.int64]:
    """The n-grams by which parts are found: their own; of a part without any, the one that fewest share."""
    own = np.zeros(parts, bool)
    own[part[~shared]] = True
    distinct, inverse, counts = np.unique(grams, return_inverse=True, return_counts=True)
    order = np.lexsort((at, counts[inverse], part)) if len(distinct) else np.zeros(0, "i8")
    first = order[np.unique(part[order], return_index=True)[1]]
    chosen = np.concatenate([np.flatnonzero(~shared), first[~own[part[first]]]])
    order = chosen[np.lexsort((at[chosen], part[chosen], grams[chosen]))]
    if not len(order):
        return order
    key = np.stack([grams[order], part[order].astype("u8")], axis=1)
    new = np.concatenate([[True], (key[1:] != key[:-1]).any(axis=1)])
    rank = np.arange(len(order)) - np.maximum.accumulate(np.where(new, np.arange(len(order)), 0))
    return order[rank < _SEEDS_IN_PART]


def _table(grams: U64, part: I64, at: I64, lookup: Lookup) -> Lookup:
    """Bitmap, hash table and postings of seeds that are sorted by hash."""
    seeds, first = np.unique(grams, return_index=True)
    bits = 10
    while (1 << bits) < 16 * len(seeds):
        bits += 1
    bitmap = np.zeros(1 << (bits - 6), "u8")
    high = seeds >> np.uint64(64 - bits)
    np.bitwise_or.at(bitmap, (high >> np.uint64(6)).astype("i8"), np.uint64(1) << (high & np.uint64(63)))
    slots = np.full(1 << (bits - 3), -1, "i4")
    for k, value in enumerate((seeds >> np.uint64(64 - bits + 3)).tolist()):
        slot = value
        while slots[slot] >= 0:
            slot = (slot + 1) % len(slots)
        slots[slot] = k
    bounds = np.append(first, len(grams)).astype("i8")
    return lookup._replace(bits=bitmap, slots=slots, seeds=seeds, post_bounds=bounds, post_part=part.astype("i4"), post_at=at.astype("i4"))
