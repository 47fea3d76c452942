"""fastText's softmax classifiers made ready for the kernel: one integer a feature and label.

A softmax classifier averages the rows of a text's features and multiplies by the output matrix. Both are linear, so each
feature's contribution to each label's logit is computed once, when the model is loaded, relative to the first label:
a two-label model of any dimension costs one integer addition a feature. Always true here: what is made of one file is the
same on every machine; a model that does not fit is refused by returning None, never approximated.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from decimal import Decimal, localcontext

import numpy as np
import numpy.typing as npt

from forebear.tracer.detect.compiled import kernel
from forebear.tracer.detect.detector import GRID
from forebear.tracer.detect.fasttext_file import FastTextFile

__all__ = ["AS_IS", "FNV_PRIME", "FNV_START", "FOLDED", "FusedModel", "byte_map", "fuse"]

AS_IS = "as-is"
FOLDED = "ascii-folded-1"

FNV_START = np.uint32(2166136261)
FNV_PRIME = np.uint32(16777619)

_SEPARATORS = b" \n\r\t\v\f\0"  # fastText's white space; all else, U+00A0 too, is part of a word
_MOST_LABELS = 64
_LEAST_BITS = 16


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


@kernel
def _fill(slots, ends, letters, bytes_of):  # type: ignore[no-untyped-def]
    mask = slots.shape[0] - 1
    for word in range(ends.shape[0] - 1):
        code = FNV_START
        for i in range(ends[word], ends[word + 1]):
            code = np.uint32((code ^ np.uint32(bytes_of[letters[i]])) * FNV_PRIME)
        slot = np.int64(code) & mask
        while slots[slot] != -1:
            slot = (slot + 1) & mask
        slots[slot] = (np.int64(code) << 32) | word
