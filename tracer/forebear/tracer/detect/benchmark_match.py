"""Finding benchmark items in documents: seeds looked up, runs extended over edits, the best stretch of a document measured.

Always true here: the score is the share of a part's own tokens that equal runs cover inside one stretch of the document, half
as long again as the part, so that what long documents hold here and there does not add up. A run is extended over at most three
tokens changed, added or left out, and only where equal tokens follow. The time is linear in the document. Follows decon
(AllenAI 2025: sample, look up, expand) in what it does, with every n-gram of the document looked up: a bitmap makes
that cheap.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from forebear.tracer.detect.benchmark_index import NGRAM, Lookup
from forebear.tracer.detect.benchmark_tokens import CharacterClasses, tokenise_into
from forebear.tracer.detect.compiled import kernel
from forebear.tracer.detect.detector import GRID

__all__ = ["FLOOR", "find_parts"]

I64 = npt.NDArray[np.int64]

FLOOR = GRID // 4
"""Scores below a quarter are not reported: that is what any two texts of one kind share."""

_GAP = 3  # tokens changed, added or left out that a run is extended over
_SLACK = 16  # tokens by which a stretch may be longer than half as long again
_FORWARDS, _BACKWARDS = np.int64(1), np.int64(-1)
_POLYNOMIAL = np.uint64(0x9E3779B97F4A7C15)
_MIX1, _S32 = np.uint64(0xD6E8FEB86659FD93), np.uint64(32)
_POWER = np.uint64(pow(0x9E3779B97F4A7C15, NGRAM - 1, 1 << 64))


@kernel
def _equal_from(tokens, i, part, j, step):  # type: ignore[no-untyped-def]
    """How many tokens are equal from tokens[i] and part[j] on, forwards or backwards."""
    count = 0
    while 0 <= i < len(tokens) and 0 <= j < len(part) and tokens[i] == part[j]:
        count += 1
        i += step
        j += step
    return count


@kernel
def _bridge(tokens, i, part, j, step):  # type: ignore[no-untyped-def]
    """The smallest gap (in the document, in the part) behind which tokens are equal again; (0, 0) where there is none."""
    for size in range(1, 2 * _GAP + 1):
        for a in range(max(0, size - _GAP), min(_GAP, size) + 1):
            b = size - a
            left = len(part) - (j + step * b) if step > 0 else j + step * b + 1
            if left < 1:
                continue
            need = min(2, left) if a == b else 3
            if _equal_from(tokens, i + step * a, part, j + step * b, step) >= need:
                return a, b
    return 0, 0


@kernel
def _room(rows, count):  # type: ignore[no-untyped-def]
    """The table itself, or one twice as long with the same rows (copied one by one: a slice compiles for seconds)."""
    if count < len(rows):
        return rows
    grown = np.empty((2 * len(rows), rows.shape[1]), np.int64)
    for n in range(count):
        for k in range(rows.shape[1]):
            grown[n, k] = rows[n, k]
    return grown


@kernel
def _extend(tokens, i, part, j, step, p, runs, count):  # type: ignore[no-untyped-def]
    """Add runs (part, first token in the document, first in the part, length) beyond (i, j); returns them and their end."""
    while True:
        equal = _equal_from(tokens, i, part, j, step)
        if equal:
            runs = _room(runs, count)
            runs[count, 0] = p
            runs[count, 1] = i if step > 0 else i - equal + 1
            runs[count, 2] = j if step > 0 else j - equal + 1
            runs[count, 3] = equal
            count += 1
            i += step * equal
            j += step * equal
        a, b = _bridge(tokens, i, part, j, step)
        if a == 0 and b == 0:
            return runs, count, i
        i += step * a
        j += step * b


@kernel
def _cover(counts, weight, at, length, change):  # type: ignore[no-untyped-def]
    """Cover (change 1) or uncover (-1) some tokens of a part; returns how the covered weight changes."""
    gained = np.int64(0)
    for k in range(at, at + length):
        if change > 0:
            gained += weight[k] if counts[k] == 0 else 0
            counts[k] += 1
        else:
            counts[k] -= 1
            gained -= weight[k] if counts[k] == 0 else 0
    return gained


@kernel
def _best_stretch(runs, begin, end, weight, length, counts):  # type: ignore[no-untyped-def]
    """(covered weight, first token, one past the last) of the best stretch; runs of one part by document order."""
    for k in range(length):
        counts[k] = 0
    span = length + length // 2 + _SLACK
    best = first = last = covered = np.int64(0)
    left = begin
    for right in range(begin, end):
        covered += _cover(counts, weight, runs[right, 2], runs[right, 3], 1)
        stop = runs[right, 1] + runs[right, 3]
        while left < right and stop - runs[left, 1] > span:
            covered += _cover(counts, weight, runs[left, 2], runs[left, 3], -1)
            left += 1
        while left < right:  # what adds nothing at the front is not evidence
            lost = _cover(counts, weight, runs[left, 2], runs[left, 3], -1)
            if lost < 0:
                _cover(counts, weight, runs[left, 2], runs[left, 3], 1)
                break
            left += 1
        if covered > best:
            best, first, last = covered, runs[left, 1], stop
    return best, first, last


@kernel
def _whole_part(runs, begin, end, length):  # type: ignore[no-untyped-def]
    for n in range(begin, end):
        if runs[n, 3] == length:
            return np.int64(1), runs[n, 1], runs[n, 1] + length
    return np.int64(0), np.int64(0), np.int64(0)


@kernel
def _seek(tokens, lookup, reach, runs):  # type: ignore[no-untyped-def]
    """All runs of equal tokens of a document and the parts whose seeds stand in it; returns them and their number."""
    shift = np.uint64(64 - 6 - int(np.round(np.log2(len(lookup.bits)))))
    slot_shift, mask = shift + np.uint64(3), len(lookup.slots) - 1
    count, rolling = np.int64(0), np.uint64(0)
    for i in range(len(tokens) - NGRAM + 1):
        if i == 0:
            for k in range(NGRAM):
                rolling = rolling * _POLYNOMIAL + tokens[k]
        else:
            rolling = (rolling - tokens[i - 1] * _POWER) * _POLYNOMIAL + tokens[i + NGRAM - 1]
        value = rolling ^ (rolling >> _S32)
        value *= _MIX1
        value ^= value >> _S32
        high = value >> shift
        if not (lookup.bits[high >> np.uint64(6)] >> (high & np.uint64(63))) & np.uint64(1):
            continue
        slot = np.int64(value >> slot_shift)
        while lookup.slots[slot] >= 0 and lookup.seeds[lookup.slots[slot]] != value:
            slot = (slot + 1) & mask
        seed = lookup.slots[slot]
        if seed < 0:
            continue
        before, known = np.int64(-1), False
        for n in range(lookup.post_bounds[seed], lookup.post_bounds[seed + 1]):
            p, j = np.int64(lookup.post_part[n]), np.int64(lookup.post_at[n])
            if p != before:  # all places of a part are tried from one token, or none: else repetition costs its square
                before, known = p, reach[p] > i
            if known:
                continue
            part = lookup.tokens[lookup.bounds[p] : lookup.bounds[p + 1]]
            if _equal_from(tokens, i, part, j, _FORWARDS) < NGRAM:
                continue
            # Forwards from the seed, then backwards from before it.
            runs, count, end = _extend(tokens, i, part, j, _FORWARDS, p, runs, count)
            runs, count, _ = _extend(tokens, i - 1, part, j - 1, _BACKWARDS, p, runs, count)
            reach[p] = max(reach[p], end)
    return runs, count


@kernel
def _before(runs, a, b):  # type: ignore[no-untyped-def]
    for k in range(4):
        if runs[a, k] != runs[b, k]:
            return runs[a, k] < runs[b, k]
    return False


@kernel
def _sort_runs(runs, count):  # type: ignore[no-untyped-def]
    """Sort runs by part, then by place in the document (Shell's sort: a library sort compiles for seconds)."""
    gap = 1
    while gap < count // 3:
        gap = 3 * gap + 1
    while gap > 0:
        for n in range(gap, count):
            at = n
            while at >= gap and _before(runs, at, at - gap):
                for k in range(4):
                    runs[at, k], runs[at - gap, k] = runs[at - gap, k], runs[at, k]
                at -= gap
        gap //= 3


@kernel
def _find(data, offsets, kind, fold, lookup, longest, room):  # type: ignore[no-untyped-def]
    hashes, begins, ends = np.empty(room, np.uint64), np.empty(room, np.int64), np.empty(room, np.int64)
    runs = np.empty((256, 4), np.int64)
    reach = np.zeros(len(lookup.bounds) - 1, np.int64)
    counts = np.zeros(longest, np.int32)
    found = np.empty((64, 5), np.int64)
    n_found = 0
    for n in range(len(offsets) - 1):
        size = tokenise_into(data, offsets[n], offsets[n + 1], kind, fold, hashes, begins, ends)
        if size < NGRAM:
            continue
        runs, count = _seek(hashes[:size], lookup, reach, runs)
        if count == 0:
            continue
        _sort_runs(runs, count)
        at = 0
        while at < count:
            p, stop, cover = runs[at, 0], at, np.int64(0)
            while stop < count and runs[stop, 0] == p:
                cover += runs[stop, 3]
                stop += 1
            reach[p] = 0
            length = lookup.bounds[p + 1] - lookup.bounds[p]
            total = lookup.total[p]
            begin, at = at, stop
            if lookup.whole[p]:
                best, first, last = _whole_part(runs, begin, stop, length)
                score = best * GRID
            else:
                weight = lookup.weight[lookup.bounds[p] : lookup.bounds[p + 1]]
                if cover * GRID < FLOOR * total:
                    continue
                best, first, last = _best_stretch(runs, begin, stop, weight, length, counts)
                score = (best * GRID + total - 1) // total  # rounded up, so that a share at a threshold reaches it
            if score < FLOOR:
                continue
            found = _room(found, n_found)
            found[n_found, 0], found[n_found, 1], found[n_found, 2] = n, p, score
            found[n_found, 3], found[n_found, 4] = begins[first], ends[last - 1]
            n_found += 1
    return found[:n_found]


def find_parts(data: npt.NDArray[np.uint8], offsets: I64, *, classes: CharacterClasses, lookup: Lookup) -> I64:
    """What of an index stands in a column of texts.

    Returns:
        (k, 5): position in the column (ascending), part, score on the grid, first byte, one past the last byte.
    """
    longest = int(np.diff(lookup.bounds).max(initial=0)) + 1
    room = int(np.diff(offsets).max(initial=0)) + 1
    found: I64 = _find(data, offsets, *classes, lookup, longest, room)
    return found
