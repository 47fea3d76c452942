"""Rows of a shard, whatever its format.

Always true here: rows are counted from 0 over every input row, errors included; a shard with damage ends in one `unreadable`
row that stands for the rest, and only its last batch says so.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from forebear.schemas.errors import UsageError
from forebear.tracer.corpus.batch import Batch
from forebear.tracer.corpus.columnar import columnar_rows, columnar_texts
from forebear.tracer.corpus.inputs import ReaderOptions
from forebear.tracer.corpus.jsonl import jsonl_rows, jsonl_texts
from forebear.tracer.corpus.source import Source

__all__ = ["Batch", "Source", "read_rows", "read_texts"]


def read_rows(
    file: Source,
    *,
    options: ReaderOptions,
    rows: int = 2048,
    max_bytes: int = 8 << 20,
    missing_ok: bool = False,
    step: int | None = None,
) -> Iterator[Batch]:
    """Every row of a shard, in order.

    Args:
        file: The shard.
        options: Which fields are text, id and source.
        rows: Most rows of a batch.
        max_bytes: A batch ends with the row that reaches this many bytes.
        missing_ok: A columnar file without the text column gives `not_text` rows instead of an error.
        step: Bytes of a JSONL file to take at a time; changes no row.

    Raises:
        DataError: ``missing_text_column``, ``unreadable_file`` or ``source_changed``.
    """
    if file.format.startswith("jsonl"):
        return jsonl_rows(file, options=options, rows=rows, max_bytes=max_bytes, step=step)
    return columnar_rows(file, options=options, rows=rows, max_bytes=max_bytes, missing_ok=missing_ok)


def read_texts(file: Source, *, options: ReaderOptions, wanted: npt.NDArray[np.int64]) -> Iterator[tuple[npt.NDArray[np.int64], pa.Array]]:
    """The texts of some rows again, in order: pairs of row numbers and a large_string array of the same length.

    A row without a text is null; rows that the file does not have, or that damage has swallowed, are left out.

    Args:
        file: The shard.
        options: As it was read before.
        wanted: int64, strictly ascending rows.

    Raises:
        UsageError: The rows do not ascend.
        DataError: As `read_rows`.
    """
    rows = ascending(wanted)
    if file.format.startswith("jsonl"):
        return jsonl_texts(file, options=options, wanted=rows)
    return columnar_texts(file, options=options, wanted=rows)


def ascending(rows: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """The rows as int64, refused where they do not ascend strictly from 0 or more."""
    numbers = np.asarray(rows, dtype=np.int64)
    if len(numbers) and (numbers[0] < 0 or (np.diff(numbers) <= 0).any()):
        raise UsageError(
            "rows_not_ascending",
            expected="rows that ascend, each once, from 0",
            found=f"{len(numbers)} rows that do not",
            remedy="Sort them and drop repetitions.",
        )
    return numbers
