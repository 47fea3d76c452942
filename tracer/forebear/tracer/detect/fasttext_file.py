"""Reading a fastText classifier's file (.bin or .ftz), format version 11 or 12, without the library.

Always true here: the file is read once, mapped, and named by the SHA-256 of those bytes; every count it states is checked
against its length before anything is believed, so a damaged or foreign file is wrong use with a message, never a crash.
Layout: fastText's `FastText::saveModel`, `Args::save`, `Dictionary::save`, `DenseMatrix::save`.
"""

from __future__ import annotations

import dataclasses
import hashlib
import mmap
import struct
from pathlib import Path

import numpy as np
import numpy.typing as npt

from forebear.schemas.digests import digest_name
from forebear.schemas.errors import UsageError

__all__ = ["LABEL_PREFIX", "FastTextFile", "read_fasttext"]

LABEL_PREFIX = "__label__"

_MAGIC = 793712314
_LOSSES = {1: "hs", 2: "ns", 3: "softmax", 4: "ova"}
_SUPERVISED = 3
_ARGS = struct.Struct("<12id")
_COUNTS = struct.Struct("<3i2q")
_ENTRY = struct.Struct("<qb")


@dataclasses.dataclass(frozen=True)
class FastTextFile:
    """What a classifier's file holds.

    Args:
        path: Where it was read.
        digest: `sha256:...` of its bytes.
        loss: "softmax", "ova", "hs" or "ns".
        word_ngrams: Longest word n-gram.
        bucket: Rows that hashed n-grams share.
        minn: Shortest character n-gram.
        maxn: Longest; 0 where the model has none.
        words: The vocabulary's words in UTF-8, in the order of their rows.
        labels: Labels, without `__label__`, in the order of the output matrix.
        quantized: A product-quantised model; then the matrices are None.
        input: Rows of words, then of buckets, float32 (words + bucket, dim); mapped, not read.
        output: One row a label, float32 (labels, dim).
    """

    path: Path
    digest: str
    loss: str
    word_ngrams: int
    bucket: int
    minn: int
    maxn: int
    words: list[bytes]
    labels: list[str]
    quantized: bool
    input: npt.NDArray[np.float32] | None
    output: npt.NDArray[np.float32] | None


def read_fasttext(path: str | Path) -> FastTextFile:
    """Read a supervised fastText model.

    Raises:
        UsageError: There is no such file, or it is not a fastText classifier.
    """
    path = Path(path)
    if not path.is_file():
        raise _refused(path, "a fastText classifier's file (.bin or .ftz)", "no file there", kind="no_model")
    if path.stat().st_size < 8 + _ARGS.size + _COUNTS.size:
        raise _refused(path, "a fastText classifier's file (.bin or .ftz)", f"{path.stat().st_size} bytes")
    with path.open("rb") as file:
        data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    try:
        return _parse(path, data)
    except (struct.error, UnicodeDecodeError, ValueError) as error:
        raise _refused(path, "a whole fastText model", f"a damaged one ({error})") from error


def _refused(path: Path, expected: str, found: str, *, kind: str = "not_a_classifier") -> UsageError:
    return UsageError(
        kind,
        expected=f"{path} to be {expected}",
        found=found,
        remedy='Give a model that fastText trained with "supervised", or leave the option out for the built-in one.',
    )


def _parse(path: Path, data: mmap.mmap) -> FastTextFile:
    magic, version = struct.unpack_from("<2i", data, 0)
    if magic != _MAGIC or version not in (11, 12):
        raise _refused(path, "a fastText model of format version 11 or 12", f"a file that begins {data[:8].hex()}")
    *integers, _ = _ARGS.unpack_from(data, 8)
    dim, _, _, _, _, word_ngrams, loss, model, bucket, minn, maxn, _ = integers
    if model != _SUPERVISED:
        raise _refused(path, "a classifier (trained with labels)", "fastText word vectors, which have no labels")
    if loss not in _LOSSES or dim < 1 or bucket < 0 or word_ngrams > 64 or maxn > 64:
        raise ValueError("impossible settings")
    words, labels, pruned, at = _dictionary(data, 8 + _ARGS.size)
    maxn = 0 if version == 11 else maxn  # as fastText: old classifiers have no character n-grams
    if bucket == 0 and (word_ngrams > 1 or maxn > 0):
        raise ValueError("n-grams without buckets")
    if not labels:
        raise _refused(path, "a classifier (trained with labels)", "a model without labels")
    quantized = data[at] != 0
    inputs = outputs = None
    if not quantized:
        if pruned >= 0:
            raise ValueError("pruned without being quantised")
        inputs, at = _matrix(data, at + 1, len(words) + bucket, dim)
        outputs, at = _matrix(data, at + 1, len(labels), dim)
    return FastTextFile(
        path=path,
        digest=digest_name(hashlib.sha256(data).digest()),
        loss=_LOSSES[loss],
        word_ngrams=max(1, word_ngrams),
        bucket=bucket,
        minn=minn,
        maxn=maxn,
        words=words,
        labels=labels,
        quantized=quantized,
        input=inputs,
        output=outputs,
    )


def _dictionary(data: mmap.mmap, at: int) -> tuple[list[bytes], list[str], int, int]:
    """Words, labels, how many buckets were kept by pruning (-1: not pruned), and where the dictionary ends."""
    size, n_words, n_labels, _, pruned = _COUNTS.unpack_from(data, at)
    at += _COUNTS.size
    if n_words < 0 or n_labels < 0 or size != n_words + n_labels or size > len(data) // (_ENTRY.size + 1):
        raise ValueError("impossible counts of words")
    entries: list[bytes] = []
    for n in range(size):
        stop = data.find(b"\0", at)
        if stop < 0:
            raise ValueError("a word without an end")
        entries.append(data[at:stop])
        _, kind = _ENTRY.unpack_from(data, stop + 1)
        if kind != (n >= n_words):  # words are 0 and come first, labels are 1
            raise ValueError("words and labels are mixed")
        at = stop + 1 + _ENTRY.size
    if pruned > (len(data) - at) // 8:
        raise ValueError("impossible count of pruned buckets")
    at += 8 * max(0, pruned)
    if at >= len(data):
        raise ValueError("it ends inside its dictionary")
    labels = [entry.decode().removeprefix(LABEL_PREFIX) for entry in entries[n_words:]]
    return entries[:n_words], labels, pruned, at


def _matrix(data: mmap.mmap, at: int, rows: int, columns: int) -> tuple[npt.NDArray[np.float32], int]:
    stated = struct.unpack_from("<2q", data, at)
    if stated != (rows, columns):
        raise ValueError(f"a matrix of {stated[0]} x {stated[1]} where {rows} x {columns} is meant")
    stop = at + 16 + 4 * rows * columns
    if stop > len(data):
        raise ValueError(f"{len(data)} bytes where {stop} are meant")
    values = np.frombuffer(data, "<f4", rows * columns, at + 16)  # unaligned: read through copies of its parts
    return values.reshape(rows, columns), stop
