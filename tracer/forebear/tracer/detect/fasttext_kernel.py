"""fastText's softmax classifiers as one fused, compiled pass over Arrow buffers.

Always true here: all arithmetic of a score is on integers, so it does not depend on order, machine or compiler; words, their
hashes and n-grams are found as fastText finds them (a window's line breaks count as spaces, `</s>` closes every window);
a score differs from the library's by less than 2e-4, beyond the grid's rounding.
"""

from __future__ import annotations

from decimal import Decimal, localcontext

import numpy as np
import numpy.typing as npt

from forebear.tracer.detect.compiled import kernel
from forebear.tracer.detect.detector import GRID
from forebear.tracer.detect.fasttext_file import LABEL_PREFIX
from forebear.tracer.detect.fasttext_fused import FNV_PRIME, FNV_START, FusedModel
from forebear.tracer.detect.windows import TextBytes, Windows

__all__ = ["NUMERICS", "score_windows"]

NUMERICS = "fixed-point-1"
"""How scores are computed; raised when a computed score can change."""

_EOS = np.frombuffer(b"</s>", np.uint8)
_LABEL = np.frombuffer(LABEL_PREFIX.encode(), np.uint8)
_IDENTITY = np.arange(256, dtype=np.uint8)
_TABLE_BITS = 11  # exp(-d) is the product of two tables over d in units of 2^-16: its high bits and its low 11 bits
_TABLE_STEPS = 24 * 65536


def score_windows(
    model: FusedModel, texts: TextBytes, *, windows: Windows
) -> tuple[npt.NDArray[np.int16], npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Score each text by its worst window, the earliest among equals.

    Returns:
        Score on the grid, int16 (n,), and the byte range of that window in its text, int64 (n,) each; 0, 0, 0 for a text
        without a window.
    """
    count = len(texts)
    score, start, stop = np.zeros(count, np.int16), np.zeros(count, np.int64), np.zeros(count, np.int64)
    _score(
        texts.data, texts.offsets, windows.document, windows.start, windows.stop,
        model.bytes_of, model.mapped, model.slots, model.ends, model.letters, model.rows,
        model.bits, model.word_ngrams, model.bucket, model.labels, model.chosen, model.bounds,
        *_EXPONENTIALS, score, start, stop,
    )  # fmt: skip
    return score, start, stop


def _exponentials() -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """exp(-d) in 2^-30: for the high and for the low bits of d in units of 2^-16."""
    low = 1 << _TABLE_BITS
    with localcontext() as context:
        context.prec = 30
        one = Decimal(2**30)
        coarse = [int((Decimal(-n * low) / 65536).exp() * one + Decimal("0.5")) for n in range(_TABLE_STEPS // low + 1)]
        fine = [int((Decimal(-n) / 65536).exp() * one + Decimal("0.5")) for n in range(low)]
    return np.array(coarse, np.int64), np.array(fine, np.int64)


_EXPONENTIALS = _exponentials()


@kernel
def _find(code, data, begin, stop, mapped, slots, ends, letters):  # type: ignore[no-untyped-def]
    """The word that `data[begin:stop]` is, -1 where it is none."""
    mask = slots.shape[0] - 1
    slot = np.int64(code) & mask
    while True:
        entry = slots[slot]
        if entry == -1:
            return np.int64(-1)
        if np.uint32(entry >> 32) == code:
            word = entry & 0xFFFFFFFF
            first = ends[word]
            if ends[word + 1] - first == stop - begin:
                same = True
                for i in range(stop - begin):
                    if letters[first + i] != mapped[data[begin + i]]:
                        same = False
                        break
                if same:
                    return word
        slot = (slot + 1) & mask


@kernel
def _is(data, begin, stop, literal, prefix):  # type: ignore[no-untyped-def]
    """Whether `data[begin:stop]` is the literal, or begins with it."""
    length = len(literal)
    if stop - begin < length or (not prefix and stop - begin != length):
        return False
    for i in range(length):  # noqa: SIM110 - numba compiles no generator expressions
        if data[begin + i] != literal[i]:
            return False
    return True


@kernel
def _share(totals, features, bits, chosen, coarse, fine):  # type: ignore[no-untyped-def]
    """Softmax over labels: the chosen ones' share on the grid, halves up."""
    largest = np.int64(0)  # label 0's logit is 0
    for total in totals:
        largest = max(largest, total)
    part = whole = np.int64(0)
    for label in range(chosen.shape[0]):
        total = totals[label - 1] if label else np.int64(0)
        distance = (largest - total) // (features << (bits - 16))
        high = distance >> _TABLE_BITS
        weight = np.int64(0)
        if high < coarse.shape[0]:
            weight = (coarse[high] * fine[distance & ((1 << _TABLE_BITS) - 1)]) >> 30
        whole += weight
        if chosen[label]:
            part += weight
    return (2 * GRID * part + whole) // (2 * whole)


@kernel
def _score(  # type: ignore[no-untyped-def]
    data, offsets, document, start, stop,
    bytes_of, mapped, slots, ends, letters, rows,
    bits, word_ngrams, bucket, labels, chosen, bounds,
    coarse, fine, best_score, best_start, best_stop,
):  # fmt: skip
    columns = labels - 1
    words = ends.shape[0] - 1
    totals = np.zeros(max(1, columns), np.int64)
    runs = np.zeros(max(1, word_ngrams), np.int64)
    eos_code = FNV_START
    for letter in _EOS:
        eos_code = np.uint32((eos_code ^ np.uint32(letter)) * FNV_PRIME)
    for window in range(document.shape[0]):
        total = features = np.int64(0)
        totals[:] = 0
        tokens = 0
        i = start[window]
        end = stop[window]
        closed = False  # the line has been ended by </s>, its own or one in the text
        while not closed:
            while i < end and bytes_of[data[i]] < 0:
                i += 1
            if i < end:
                begin = i
                code = FNV_START
                while i < end:
                    byte = bytes_of[data[i]]
                    if byte < 0:
                        break
                    code = np.uint32((code ^ np.uint32(byte)) * FNV_PRIME)
                    i += 1
                first = data[begin]
                if first == 95 and _is(data, begin, i, _LABEL, True):  # fastText passes over labels in a text
                    continue
                closed = first == 60 and _is(data, begin, i, _EOS, False)
                word = _find(code, data, begin, i, mapped, slots, ends, letters)
            else:
                closed = True
                code = eos_code
                word = _find(code, _EOS, 0, 4, _IDENTITY, slots, ends, letters)
            if word >= 0:
                features += 1
                if columns == 1:
                    total += rows[word]
                else:
                    for j in range(columns):
                        totals[j] += rows[word * columns + j]
            signed = np.int64(np.int32(code))
            for n in range(min(tokens, word_ngrams - 1), 0, -1):
                runs[n] = runs[n - 1] * 116049371 + signed
                row = words + np.int64(np.uint64(runs[n]) % np.uint64(bucket))
                features += 1
                if columns == 1:
                    total += rows[row]
                else:
                    for j in range(columns):
                        totals[j] += rows[row * columns + j]
            runs[0] = signed
            tokens += 1
        n = document[window]
        value = np.int64(best_score[n])
        if features == 0:  # nothing that the model knows: fastText answers with no label at all
            value = np.int64(0)
        elif bounds.shape[0]:
            if chosen[0]:
                total = -total
            while value < GRID and total >= bounds[value] * features:
                value += 1
        else:
            if columns == 1:
                totals[0] = total
            value = max(value, _share(totals[:columns], features, bits, chosen, coarse, fine))
        if value > best_score[n] or best_stop[n] == 0:
            best_score[n] = value
            best_start[n] = start[window] - offsets[n]
            best_stop[n] = stop[window] - offsets[n]
