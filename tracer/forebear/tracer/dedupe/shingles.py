"""Shingles of normalised text as 64-bit hashes: what signatures are drawn from and what Jaccard similarity is measured on.

Always true here: the compiled kernel and the plain functions give the same hashes for every text; a text shorter than a shingle
is one shingle; a text without a token has none. Hashing is FNV-1a (Fowler, Noll, Vo) over a token's UTF-8 bytes, finished with
MurmurHash3's fmix64, and a polynomial over the tokens of a shingle, finished likewise: each token is hashed once, not once for
each shingle that it stands in.
"""

from __future__ import annotations

from functools import cache
from typing import Any, NamedTuple

import numba as nb
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from forebear.schemas import normalise
from forebear.schemas.case_tables import CASE_IGNORABLE, CASED, LOWER_RUNS

__all__ = ["DEFAULT", "ShingleOptions", "character_tables", "shingle_hashes", "shingle_sets", "text_buffers", "token_hash"]

U64 = npt.NDArray[np.uint64]
I64 = npt.NDArray[np.int64]
U8 = npt.NDArray[np.uint8]

_FNV_BASIS, _FNV_PRIME = np.uint64(0xCBF29CE484222325), np.uint64(0x100000001B3)
_POLYNOMIAL = np.uint64(0x9E3779B97F4A7C15)
_MIX1, _MIX2, _S33 = np.uint64(0xFF51AFD7ED558CCD), np.uint64(0xC4CEB9FE1A85EC53), np.uint64(33)
_MASK = (1 << 64) - 1


class ShingleOptions(NamedTuple):
    """Tokens in a shingle: `ngram` words, or `characters` code points where most of a text is in scripts without spaces."""

    ngram: int = 5
    characters: int = 5


DEFAULT = ShingleOptions()


def _mix_plain(value: int) -> int:
    value ^= value >> 33
    value = value * int(_MIX1) & _MASK
    value ^= value >> 33
    value = value * int(_MIX2) & _MASK
    return value ^ value >> 33


def token_hash(token: str) -> int:
    """The 64-bit hash of one normalised token: FNV-1a over its UTF-8 bytes, then fmix64."""
    value = int(_FNV_BASIS)
    for byte in token.encode():
        value = (value ^ byte) * int(_FNV_PRIME) & _MASK
    return _mix_plain(value)


def shingle_hashes(text: str, options: ShingleOptions = DEFAULT) -> list[int]:
    """The hashes of a text's shingles in order, repetitions included, in plain Python."""
    dense = normalise.is_spaceless(text)
    tokens = [token_hash(token) for token in (normalise.code_points(text) if dense else normalise.words(text))]
    size = options.characters if dense else options.ngram
    if not tokens:
        return []
    windows = [tokens[i : i + size] for i in range(max(1, len(tokens) - size + 1))]
    return [_mix_plain(_polynomial_plain(window)) for window in windows]


def _polynomial_plain(tokens: list[int]) -> int:
    value = 0
    for token in tokens:
        value = (value * int(_POLYNOMIAL) + token) & _MASK
    return value


class CharacterTables(NamedTuple):
    """Unicode 14.0 properties of the code points below 0x20000, and what ranges say above.

    `kind`: bit 0 white space, bit 1 cased, bit 2 case-ignorable, bit 3 of a script without spaces. `lower`: the lower-case
    code point.
    """

    kind: U8
    lower: npt.NDArray[np.uint32]


_SPACE, _CASED, _IGNORABLE, _DENSE = 1, 2, 4, 8
_CODE_POINTS = 0x110000


@cache
def character_tables() -> CharacterTables:
    """Tables over all code points, built once in a process."""
    kind = np.zeros(_CODE_POINTS, dtype="u1")
    marks = ((normalise.WHITE_SPACE, _SPACE), (CASED, _CASED), (CASE_IGNORABLE, _IGNORABLE), (normalise.SPACELESS, _DENSE))
    for ranges, bit in marks:
        for first, last in ranges:
            kind[first : last + 1] |= bit
    lower = np.arange(_CODE_POINTS, dtype="u4")
    for first, last, step, delta in LOWER_RUNS:
        lower[first : last + 1 : step] += np.uint32(delta % (1 << 32))
    return CharacterTables(kind, lower)


@nb.njit(inline="always")
def _mix(value: np.uint64) -> np.uint64:
    value ^= value >> _S33
    value *= _MIX1
    value ^= value >> _S33
    value *= _MIX2
    return value ^ (value >> _S33)


@nb.njit(inline="always")
def _decode(data: U8, at: int) -> tuple[int, int]:
    """Code point at a byte offset of valid UTF-8, and the offset after it."""
    first = nb.int64(data[at])
    if first < 0x80:
        return first, at + 1
    if first < 0xE0:
        return ((first & 0x1F) << 6) | (nb.int64(data[at + 1]) & 0x3F), at + 2
    if first < 0xF0:
        value = ((first & 0x0F) << 12) | ((nb.int64(data[at + 1]) & 0x3F) << 6) | (nb.int64(data[at + 2]) & 0x3F)
        return value, at + 3
    value = ((first & 0x07) << 18) | ((nb.int64(data[at + 1]) & 0x3F) << 12)
    return value | ((nb.int64(data[at + 2]) & 0x3F) << 6) | (nb.int64(data[at + 3]) & 0x3F), at + 4


@nb.njit(inline="always")
def _feed(state: np.uint64, byte: int) -> np.uint64:
    return (state ^ nb.uint64(byte)) * _FNV_PRIME


@nb.njit
def _feed_code_point(state: np.uint64, point: int) -> np.uint64:
    """Continue FNV-1a over the UTF-8 bytes of a code point."""
    if point < 0x80:
        return _feed(state, point)
    if point < 0x800:
        return _feed(_feed(state, 0xC0 | point >> 6), 0x80 | point & 0x3F)
    if point < 0x10000:
        state = _feed(state, 0xE0 | point >> 12)
    else:
        state = _feed(_feed(state, 0xF0 | point >> 18), 0x80 | point >> 12 & 0x3F)
    return _feed(_feed(state, 0x80 | point >> 6 & 0x3F), 0x80 | point & 0x3F)


@nb.njit
def _sigma_is_final(data: U8, after: int, stop: int, kind: U8) -> bool:
    """Whether no cased letter follows, case-ignorable ones passed over (Unicode 14.0, 3.13, Final_Sigma)."""
    while after < stop:
        point, after = _decode(data, after)
        if not kind[point] & _IGNORABLE:
            return not kind[point] & _CASED
    return True


@nb.njit
def _feed_lower(state: np.uint64, data: U8, at: int, stop: int, cased_before: bool, kind: U8, lower: Any) -> np.uint64:
    """Continue FNV-1a over the lower case of the code point at `at`."""
    point, after = _decode(data, at)
    if point == 0x3A3:
        final = cased_before and _sigma_is_final(data, after, stop, kind)
        return _feed_code_point(state, 0x3C2 if final else 0x3C3)
    if point == 0x130:
        return _feed_code_point(_feed(state, 0x69), 0x307)
    return _feed_code_point(state, nb.int64(lower[point]))


@nb.njit
def hash_words(data: U8, start: int, stop: int, kind: U8, lower: Any, out: U64) -> tuple[int, int, int]:
    """Hash the normalised words of data[start:stop] into `out`.

    Returns:
        Words; code points of scripts without spaces; code points that are no white space.
    """
    words, dense, solid = 0, 0, 0
    state, inside, cased = _FNV_BASIS, False, False
    at = start
    while at < stop:
        byte = data[at]
        if byte < 0x80:
            flags = kind[byte]
            if flags & _SPACE:
                if inside:
                    out[words] = _mix(state)
                    words += 1
                    state, inside, cased = _FNV_BASIS, False, False
            else:
                state = (state ^ nb.uint64(lower[byte])) * _FNV_PRIME
                inside = True
                solid += 1
                if not flags & _IGNORABLE:
                    cased = (flags & _CASED) != 0
            at += 1
            continue
        point, after = _decode(data, at)
        flags = kind[point]
        if flags & _SPACE:
            if inside:
                out[words] = _mix(state)
                words += 1
                state, inside, cased = _FNV_BASIS, False, False
        else:
            state = _feed_lower(state, data, at, stop, cased, kind, lower)
            inside = True
            solid += 1
            dense += (flags & _DENSE) != 0
            if not flags & _IGNORABLE:
                cased = (flags & _CASED) != 0
        at = after
    if inside:
        out[words] = _mix(state)
        words += 1
    return words, dense, solid


@nb.njit
def hash_code_points(data: U8, start: int, stop: int, kind: U8, lower: Any, out: U64) -> int:
    """Hash the normalised code points of data[start:stop], white space left out, into `out`; returns their number."""
    n, at, cased = 0, start, False
    while at < stop:
        point, after = _decode(data, at)
        flags = kind[point]
        if flags & _SPACE:
            cased = False
        elif point == 0x130:  # the one letter whose lower case is two code points
            out[n] = _mix(_feed(_FNV_BASIS, 0x69))
            out[n + 1] = _mix(_feed_code_point(_FNV_BASIS, 0x307))
            n += 2
            cased = True
        else:
            out[n] = _mix(_feed_lower(_FNV_BASIS, data, at, stop, cased, kind, lower))
            n += 1
            if not flags & _IGNORABLE:
                cased = (flags & _CASED) != 0
        at = after
    return n


@nb.njit
def distinct_shingles(tokens: U64, count: int, size: int, out: U64, table: U64) -> int:
    """Write the distinct shingle hashes of `count` tokens into `out`, in order of first appearance; returns their number.

    `table` is scratch, a power of two long and at least twice the number of tokens; its content does not matter.
    """
    if count == 0:
        return 0
    size = min(size, count)
    shingles = count - size + 1
    bits = 1
    while (1 << bits) < 2 * shingles:
        bits += 1
    mask, shift = nb.uint64((1 << bits) - 1), nb.uint64(64 - bits)
    table[: 1 << bits] = 0
    power, rolling = nb.uint64(1), nb.uint64(0)
    for i in range(size):
        rolling = rolling * _POLYNOMIAL + tokens[i]
        if i:
            power *= _POLYNOMIAL
    found, zero_seen = 0, False
    for i in range(shingles):
        value = _mix(rolling)
        if value == 0:  # zero marks a free slot, so it is kept count of apart
            if not zero_seen:
                zero_seen = True
                out[found] = value
                found += 1
        else:
            slot = value >> shift
            while table[slot] != 0 and table[slot] != value:
                slot = (slot + nb.uint64(1)) & mask
            if table[slot] == 0:
                table[slot] = value
                out[found] = value
                found += 1
        if i + 1 < shingles:
            rolling = (rolling - tokens[i] * power) * _POLYNOMIAL + tokens[i + size]
    return found


@nb.njit
def document_shingles(
    data: U8, start: int, stop: int, kind: U8, lower: Any, sizes: tuple[int, int], tokens: U64, out: U64, table: U64
) -> tuple[int, int]:
    """Distinct shingles of one document into `out`; returns (words, shingles)."""
    words, dense, solid = hash_words(data, start, stop, kind, lower, tokens)
    if 2 * dense > solid:
        points = hash_code_points(data, start, stop, kind, lower, tokens)
        return words, distinct_shingles(tokens, points, sizes[1], out, table)
    return words, distinct_shingles(tokens, words, sizes[0], out, table)


@nb.njit(cache=True, nogil=True)
def _sets(data: U8, offsets: I64, kind: U8, lower: Any, sizes: tuple[int, int], scratch: int) -> tuple[I64, U64]:
    tokens = np.empty(scratch, dtype=np.uint64)
    table = np.empty(_table_length(scratch), dtype=np.uint64)
    bounds = np.zeros(len(offsets), dtype=np.int64)
    values = np.empty(1024, dtype=np.uint64)
    out = np.empty(scratch, dtype=np.uint64)
    for n in range(len(offsets) - 1):
        found = document_shingles(data, offsets[n], offsets[n + 1], kind, lower, sizes, tokens, out, table)[1]
        end = bounds[n] + found
        if end > len(values):
            grown = np.empty(max(end, 2 * len(values)), dtype=np.uint64)
            grown[: bounds[n]] = values[: bounds[n]]
            values = grown
        out[:found].sort()
        values[bounds[n] : end] = out[:found]
        bounds[n + 1] = end
    return bounds, values[: bounds[-1]].copy()


@nb.njit
def _table_length(tokens: int) -> int:
    length = 2
    while length < 2 * tokens:
        length *= 2
    return length


def text_buffers(texts: pa.Array) -> tuple[U8, I64]:
    """UTF-8 data and offsets (int64, n + 1) of a large_string array, nulls as empty texts."""
    texts = texts.cast(pa.large_string()).fill_null("") if texts.null_count or texts.type != pa.large_string() else texts
    _, offsets, data = texts.buffers()
    view = np.frombuffer(offsets, dtype="i8")[texts.offset : texts.offset + len(texts) + 1] if offsets else np.zeros(1, "i8")
    return np.frombuffer(data, dtype="u1") if data is not None and data.size else np.zeros(1, "u1"), view


def scratch_length(offsets: I64) -> int:
    """Tokens that the longest text can have: one for each byte, and one."""
    return int(np.diff(offsets).max(initial=0)) + 1


def shingle_sets(texts: pa.Array, options: ShingleOptions = DEFAULT) -> tuple[I64, U64]:
    """The distinct shingle hashes of each text, ascending.

    Returns:
        Bounds (int64, n + 1) and values (uint64): text k has values[bounds[k]:bounds[k + 1]].
    """
    data, offsets = text_buffers(texts)
    kind, lower = character_tables()
    bounds, values = _sets(data, offsets, kind, lower, tuple(options), scratch_length(offsets))
    return bounds, values
