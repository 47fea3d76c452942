"""Tokens by which benchmark items are found again in a corpus, apart from the normalisation that signs documents.

Always true here: case, quotes, punctuation, invisible characters and white space are folded; numbers, formulas and code are
kept. A token is a run of letters and digits ("don't" and "don’t" are one token, "1,000" is "1000", "3.50" stays whole), one
character of a script without spaces, one mathematical symbol, or an ASCII operator with the same spacing on both sides
("a*b" and "a * b", but not the asterisks of "the *word* is" nor a bullet). Every token knows its bytes. The classes of characters
are fixed ranges, so tokens are the same under every Python version.
"""

from __future__ import annotations

from functools import cache
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from forebear.schemas.case_tables import LOWER_RUNS
from forebear.schemas.normalise import SPACELESS
from forebear.tracer.detect.compiled import kernel

__all__ = ["CharacterClasses", "Tokens", "character_classes", "tokenise", "tokenise_into"]

U64 = npt.NDArray[np.uint64]
I64 = npt.NDArray[np.int64]

SEPARATOR, WORD, ALONE, IGNORED, OPERATOR = 0, 1, 2, 3, 4

_OPERATORS = "+-*/=<>^%&|~"
_LONGEST_OPERATOR = 3  # characters; longer runs are rules and ornaments

_SEPARATORS = (
    (0x00, 0x2F), (0x3A, 0x40), (0x5B, 0x60), (0x7B, 0xA9), (0xAB, 0xB1), (0xB4, 0xB4), (0xB6, 0xB8), (0xBB, 0xBB), (0xBF, 0xBF),
    (0x2C2, 0x2C5), (0x2D2, 0x2DF), (0x37E, 0x37E), (0x387, 0x387), (0x55A, 0x55F), (0x589, 0x58A), (0x5BE, 0x5BE),
    (0x5C0, 0x5C0), (0x5C3, 0x5C3), (0x5F3, 0x5F4), (0x600, 0x60F), (0x61B, 0x61F), (0x66A, 0x66D), (0x6D4, 0x6D4),
    (0x700, 0x70D), (0x964, 0x965), (0x970, 0x970), (0xE3F, 0xE3F), (0xE4F, 0xE4F), (0xE5A, 0xE5B), (0xF01, 0xF17),
    (0x104A, 0x104F), (0x10FB, 0x10FB), (0x1360, 0x1368), (0x1680, 0x1680), (0x17D4, 0x17DA), (0x1800, 0x180E),
    (0x2000, 0x206F), (0x207D, 0x207E), (0x208D, 0x208E), (0x20A0, 0x20CF), (0x2300, 0x245F), (0x2500, 0x27BF),
    (0x2800, 0x28FF), (0x2B00, 0x2BFF), (0x2E00, 0x2E7F), (0x3000, 0x3004), (0x3008, 0x3020), (0x3030, 0x3030),
    (0x303D, 0x303F), (0x30FB, 0x30FB), (0xE000, 0xF8FF), (0xFE10, 0xFE1F), (0xFE30, 0xFE6F), (0xFF01, 0xFF0F),
    (0xFF1A, 0xFF20), (0xFF3B, 0xFF40), (0xFF5B, 0xFF65), (0xFFE0, 0xFFFF), (0x1F000, 0x1FAFF), (0xE0000, 0x10FFFF),
)  # fmt: skip
_SYMBOLS = ((0xB1, 0xB1), (0xD7, 0xD7), (0xF7, 0xF7), (0x2190, 0x22FF), (0x27C0, 0x27EF), (0x27F0, 0x27FF), (0x2900, 0x2AFF))
_IGNORED = (
    (0x27, 0x27), (0x60, 0x60), (0xAD, 0xAD), (0xB4, 0xB4), (0x2BC, 0x2BC), (0x180B, 0x180E), (0x2018, 0x201B), (0x2032, 0x2032),
    (0x200B, 0x200F), (0x202A, 0x202E), (0x2060, 0x2064), (0xFE00, 0xFE0F), (0xFEFF, 0xFEFF), (0xFF07, 0xFF07),
)  # fmt: skip
_MINUS = 0x2212

_BASIS, _PRIME = np.uint64(0xCBF29CE484222325), np.uint64(0x100000001B3)
_MIX1, _MIX2, _S33 = np.uint64(0xFF51AFD7ED558CCD), np.uint64(0xC4CEB9FE1A85EC53), np.uint64(33)


class CharacterClasses(NamedTuple):
    """For every code point its class (uint8), and what it is folded to (uint32)."""

    kind: npt.NDArray[np.uint8]
    fold: npt.NDArray[np.uint32]


class Tokens(NamedTuple):
    """Tokens of n texts end to end: text k has those from bounds[k] to bounds[k + 1]; bytes counted from the text's first."""

    bounds: I64
    hashes: U64
    start: I64
    stop: I64


@cache
def character_classes() -> CharacterClasses:
    """The tables, built once in a process."""
    kind = np.full(0x110000, WORD, dtype="u1")
    for ranges, value in ((_SEPARATORS, SEPARATOR), (_SYMBOLS, ALONE), (SPACELESS, ALONE), (_IGNORED, IGNORED)):
        for first, last in ranges:
            span = slice(first, last + 1)
            # Punctuation inside a block of letters stays punctuation.
            kind[span] = np.where(kind[span] == SEPARATOR, SEPARATOR, value) if ranges is SPACELESS else value
    for point in [*map(ord, _OPERATORS), _MINUS]:
        kind[point] = OPERATOR
    fold = np.arange(0x110000, dtype="u4")
    for first, last, step, delta in LOWER_RUNS:
        fold[first : last + 1 : step] += np.uint32(delta % (1 << 32))
    fold[0x130], fold[0x3C2], fold[_MINUS] = 0x69, 0x3C3, ord("-")  # dotted I, final sigma, minus
    fold[0xFF10:0xFF1A] = np.arange(0x30, 0x3A)  # full-width digits
    return CharacterClasses(kind, fold)


@kernel
def _mixed(value):  # type: ignore[no-untyped-def]
    value ^= value >> _S33
    value *= _MIX1
    value ^= value >> _S33
    value *= _MIX2
    return value ^ (value >> _S33)


@kernel
def _decode(data, at):  # type: ignore[no-untyped-def]
    """Code point at a byte offset of valid UTF-8, and the offset after it."""
    first = np.int64(data[at])
    if first < 0x80:
        return first, at + 1
    if first < 0xE0:
        return ((first & 0x1F) << 6) | (np.int64(data[at + 1]) & 0x3F), at + 2
    if first < 0xF0:
        value = ((first & 0x0F) << 12) | ((np.int64(data[at + 1]) & 0x3F) << 6) | (np.int64(data[at + 2]) & 0x3F)
        return value, at + 3
    value = ((first & 0x07) << 18) | ((np.int64(data[at + 1]) & 0x3F) << 12)
    return value | ((np.int64(data[at + 2]) & 0x3F) << 6) | (np.int64(data[at + 3]) & 0x3F), at + 4


@kernel
def _is_digit(data, at, stop):  # type: ignore[no-untyped-def]
    return at < stop and 0x30 <= data[at] <= 0x39


@kernel
def _inside_number(data, at, stop):  # type: ignore[no-untyped-def]
    """Whether the point or comma at `at`, after a digit, belongs to a number: "3.50", "1,000" but not "1,2" nor "1,2000"."""
    if data[at] == 0x2E:
        return _is_digit(data, at + 1, stop)
    three = _is_digit(data, at + 1, stop) and _is_digit(data, at + 2, stop) and _is_digit(data, at + 3, stop)
    return three and not _is_digit(data, at + 4, stop)


@kernel
def _operator(data, at, start, stop, kind, fold):  # type: ignore[no-untyped-def]
    """(hash of the operator at `at` or 0 where it is none, end of the run of operator characters)."""
    state, end, length, last = _BASIS, at, 0, np.uint32(0)
    while end < stop:
        point, after = _decode(data, end)
        if kind[point] != OPERATOR:
            break
        state = (state ^ np.uint64(fold[point])) * _PRIME
        length += 1
        end = after
        last = fold[point]
    before = at > start and data[at - 1] > 0x20
    behind = end < stop and data[end] > 0x20
    if length > _LONGEST_OPERATOR or before != behind or end >= stop:
        return np.uint64(0), end
    if length == 1 and last == 0x2D:  # a hyphen or dash, unless a number follows
        digit = end
        while digit < stop and data[digit] == 0x20:
            digit += 1
        if not _is_digit(data, digit, stop):
            return np.uint64(0), end
    return _mixed(state), end


@kernel
def tokenise_into(data, start, stop, kind, fold, hashes, begins, ends):  # type: ignore[no-untyped-def]
    """Tokens of data[start:stop] into the three arrays, which hold one for each byte; returns their number."""
    count = 0
    at = end = begin = start
    inside = False
    fresh = True  # nothing but white space since the last line feed
    state = _BASIS
    while at < stop:
        byte = data[at]
        if byte < 0x80:
            point, after = np.int64(byte), at + 1
        else:
            point, after = _decode(data, at)
        cls = kind[point]
        if cls == WORD:
            if not inside:
                begin, state, inside, fresh = at, _BASIS, True, False
            state = (state ^ np.uint64(fold[point])) * _PRIME
            end = at = after
            continue
        if cls == IGNORED:
            at = after
            continue
        if inside and (byte == 0x2E or byte == 0x2C) and 0x30 <= data[at - 1] <= 0x39 and _inside_number(data, at, stop):
            if byte == 0x2E:
                state = (state ^ np.uint64(byte)) * _PRIME
            at = after
            continue
        if inside:
            hashes[count], begins[count], ends[count] = _mixed(state), begin - start, end - start
            count += 1
            inside = False
        if cls == SEPARATOR:
            fresh = byte == 10 or (fresh and byte <= 0x20)
            at = after
            continue
        if cls == ALONE:
            value, fresh = _mixed((_BASIS ^ np.uint64(fold[point])) * _PRIME), False
        else:
            value, after = _operator(data, at, start, stop, kind, fold)
            value = np.uint64(0) if fresh else value
            fresh = False
        if value:
            hashes[count], begins[count], ends[count] = value, at - start, after - start
            count += 1
        at = after
    if inside:
        hashes[count], begins[count], ends[count] = _mixed(state), begin - start, end - start
        count += 1
    return count


@kernel
def _tokenise(data, offsets, kind, fold, room):  # type: ignore[no-untyped-def]
    hashes, begins, ends = np.empty(room, np.uint64), np.empty(room, np.int64), np.empty(room, np.int64)
    bounds = np.zeros(len(offsets), np.int64)
    for n in range(len(offsets) - 1):
        at = bounds[n]
        found = tokenise_into(data, offsets[n], offsets[n + 1], kind, fold, hashes[at:], begins[at:], ends[at:])
        bounds[n + 1] = at + found
    total = bounds[-1]
    return bounds, hashes[:total].copy(), begins[:total].copy(), ends[:total].copy()


def tokenise(data: npt.NDArray[np.uint8], offsets: I64) -> Tokens:
    """The tokens of texts k = data[offsets[k]:offsets[k + 1]], UTF-8."""
    room = int(offsets[-1] - offsets[0]) + 1
    return Tokens(*_tokenise(data, offsets, *character_classes(), room))
