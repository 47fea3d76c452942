"""fastText's softmax classifiers as one fused, compiled pass over Arrow buffers.

Always true here: all arithmetic of a score is on integers, so it does not depend on order, machine or compiler; words, their
hashes and n-grams are found as fastText finds them (a window's line breaks count as spaces, `</s>` closes every window);
a score differs from the library's by less than 2e-4.

A softmax classifier averages the rows of a text's features and multiplies by the output matrix. Both are linear, so each
feature's contribution to each label's logit is computed once, when the model is loaded, relative to the first label:
a two-label model of any dimension costs one integer addition a feature.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from decimal import Decimal, localcontext

import numpy as np
import numpy.typing as npt

from forebear.tracer.detect.compiled import kernel
from forebear.tracer.detect.detector import GRID
from forebear.tracer.detect.fasttext_file import LABEL_PREFIX, FastTextFile
from forebear.tracer.detect.windows import TextBytes, Windows

__all__ = ["AS_IS", "FOLDED", "NUMERICS", "FusedModel", "byte_map", "fuse", "score_windows"]

NUMERICS = "fixed-point-1"
"""How scores are computed; raised when a computed score can change."""

AS_IS = "as-is"
FOLDED = "ascii-folded-1"

_SEPARATORS = b" \n\r\t\v\f\0"  # fastText's white space; all else, U+00A0 too, is part of a word
_EOS = np.frombuffer(b"</s>", np.uint8)
_LABEL = np.frombuffer(LABEL_PREFIX.encode(), np.uint8)
_FNV_START = np.uint32(2166136261)
_FNV_PRIME = np.uint32(16777619)
_IDENTITY = np.arange(256, dtype=np.uint8)
_MOST_LABELS = 64
_LEAST_BITS = 16
_TABLE_BITS = 11  # exp(-d) is the product of two tables over d in units of 2^-16: its high bits and its low 11 bits
_TABLE_STEPS = 24 * 65536


@dataclasses.dataclass(frozen=True)
class FusedModel:
    """A classifier ready for the kernel: V words, B buckets, L labels.

    Args:
        bytes_of: What each byte becomes in the hash, sign-extended to 32 bits (fastText's quirk), -1 for a separator.
        mapped: What each byte becomes when it is compared with a word.
        slots: Open-addressing table of hash << 32 | word, -1 where empty; its size is a power of two.
        ends: Ends of the words in `letters`, int64 (V + 1,).
        letters: The words' bytes, one after the other.
        rows: Contribution of each word, then bucket, to the logits of labels 1..L-1, int32, (V + B) * (L - 1).
        bits: Binary digits after the point in `rows`.
        word_ngrams: Longest word n-gram.
        bucket: B.
        labels: L.
        chosen: Whether a label's probability counts, bool (L,).
        bounds: For two labels: the smallest logit of label 1 over label 0 that reaches a value of the grid, in `bits`,
            int64 (GRID,) for the values 1..GRID. Else empty.
    """

    bytes_of: npt.NDArray[np.int64]
    mapped: npt.NDArray[np.uint8]
    slots: npt.NDArray[np.int64]
    ends: npt.NDArray[np.int64]
    letters: npt.NDArray[np.uint8]
    rows: npt.NDArray[np.int32]
    bits: int
    word_ngrams: int
    bucket: int
    labels: int
    chosen: npt.NDArray[np.bool_]
    bounds: npt.NDArray[np.int64]


def byte_map(mapping: str) -> npt.NDArray[np.uint8]:
    """What a mapping makes of each byte; 0 stands for a separator.

    `as-is` keeps the text; `ascii-folded-1` lowers ASCII letters, makes every digit a 0, and separates at ASCII
    punctuation but the apostrophe. Bytes beyond ASCII stay, so that UTF-8 stays UTF-8.
    """
    table = np.arange(256, dtype=np.uint8)
    table[list(_SEPARATORS)] = 0
    if mapping == AS_IS:
        return table
    assert mapping == FOLDED, mapping
    for byte in range(128):
        character = chr(byte)
        if character.isdigit():
            table[byte] = ord("0")
        elif character.isalpha():
            table[byte] = ord(character.lower())
        elif character != "'":
            table[byte] = 0
    return table


def fuse(model: FastTextFile, labels: Sequence[str], *, mapping: str = AS_IS) -> FusedModel | None:
    """Make a model ready for the kernel.

    Args:
        model: The file as read.
        labels: Labels whose summed probability is the score.
        mapping: What is made of the text's bytes first.

    Returns:
        None where the kernel does not compute it: another loss than softmax, quantised, character n-grams, more than 64
        labels, weights that are not finite or too large for 16 binary digits after the point.
    """
    if model.loss != "softmax" or model.quantized or model.maxn > 0 or len(model.labels) > _MOST_LABELS:
        return None
    contributions = _contributions(model)
    bits = _bits(contributions)
    if bits < _LEAST_BITS:
        return None
    table = byte_map(mapping)
    chosen = np.array([label in labels for label in model.labels], np.bool_)
    lengths = np.cumsum([0, *(len(word) for word in model.words)], dtype=np.int64)
    letters = np.frombuffer(b"".join(model.words) or b"\0", np.uint8)
    signed = table.astype(np.int8).astype(np.int64) & 0xFFFFFFFF
    return FusedModel(
        bytes_of=np.where(table == 0, -1, signed),
        mapped=table,
        slots=_index(lengths, letters),
        ends=lengths,
        letters=letters,
        rows=np.floor(contributions * 2.0**bits + 0.5).astype(np.int32).reshape(-1),
        bits=bits,
        word_ngrams=model.word_ngrams,
        bucket=model.bucket,
        labels=len(model.labels),
        chosen=chosen,
        bounds=_bounds(bits) if len(model.labels) == 2 and chosen.sum() == 1 else np.zeros(0, np.int64),
    )


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


def _contributions(model: FastTextFile) -> npt.NDArray[np.float64]:
    """Of every feature to the logits of labels 1..L-1 over label 0, float64 (V + B, L - 1).

    Summed column by column with separate multiplications and additions, so that the result is the same on every machine
    (a matrix product's order of summation is the BLAS's own affair).
    """
    assert model.input is not None
    assert model.output is not None
    output = model.output.astype(np.float64)
    relative = output[1:] - output[0]
    result = np.zeros((len(model.input), len(relative)), np.float64)
    step = 65536
    for first in range(0, len(result), step):
        part = model.input[first : first + step].astype(np.float64)
        for d in range(part.shape[1]):
            for label in range(len(relative)):
                result[first : first + step, label] += part[:, d] * relative[label, d]
    return result


def _bits(contributions: npt.NDArray[np.float64]) -> int:
    """Digits after the point that 32-bit rows leave room for, 24 at most; 0 where a weight is not finite."""
    largest = float(np.abs(contributions).max(initial=0.0))
    if not np.isfinite(contributions).all():
        return 0
    return min(24, 30 - int(np.frexp(largest)[1]))


def _index(ends: npt.NDArray[np.int64], letters: npt.NDArray[np.uint8]) -> npt.NDArray[np.int64]:
    size = 1 << max(4, int(2 * len(ends)).bit_length())
    slots = np.full(size, -1, np.int64)
    identity = np.arange(256, dtype=np.uint8).astype(np.int8).astype(np.int64) & 0xFFFFFFFF
    _fill(slots, ends, letters, identity)  # the vocabulary was mapped before training
    return slots


def _bounds(bits: int) -> npt.NDArray[np.int64]:
    """logit((k - 1/2) / GRID) for k = 1..GRID in fixed point, rounded up, by exact decimal arithmetic."""
    with localcontext() as context:
        context.prec = 40
        scale = Decimal(2**bits)
        odds = [Decimal(2 * k - 1) / Decimal(2 * GRID - 2 * k + 1) for k in range(1, GRID + 1)]
        return np.array([int((odd.ln() * scale).to_integral_value("ROUND_CEILING")) for odd in odds], np.int64)


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
def _fill(slots, ends, letters, bytes_of):  # type: ignore[no-untyped-def]
    mask = slots.shape[0] - 1
    for word in range(ends.shape[0] - 1):
        code = _FNV_START
        for i in range(ends[word], ends[word + 1]):
            code = np.uint32((code ^ np.uint32(bytes_of[letters[i]])) * _FNV_PRIME)
        slot = np.int64(code) & mask
        while slots[slot] != -1:
            slot = (slot + 1) & mask
        slots[slot] = (np.int64(code) << 32) | word


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
    eos_code = _FNV_START
    for letter in _EOS:
        eos_code = np.uint32((eos_code ^ np.uint32(letter)) * _FNV_PRIME)
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
                code = _FNV_START
                while i < end:
                    byte = bytes_of[data[i]]
                    if byte < 0:
                        break
                    code = np.uint32((code ^ np.uint32(byte)) * _FNV_PRIME)
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
