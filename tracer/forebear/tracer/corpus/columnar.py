"""Rows of Parquet and Arrow IPC files.

Always true here: only the columns asked for are read; a file without the text column says which columns it has; batches are cut
by rows and by bytes of text, which changes no row.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from forebear.schemas.enums import Reason
from forebear.schemas.errors import DataError
from forebear.tracer.corpus.batch import Batch, unreadable_rest
from forebear.tracer.corpus.columns import as_id, as_text
from forebear.tracer.corpus.inflate import Damaged
from forebear.tracer.corpus.inputs import ReaderOptions
from forebear.tracer.corpus.source import Source
from forebear.tracer.corpus.table_files import Table, damage_or_failure, group_bounds, open_table

__all__ = ["columnar_rows", "columnar_texts", "open_table"]


def columnar_rows(source: Source, *, options: ReaderOptions, rows: int, max_bytes: int, missing_ok: bool = False) -> Iterator[Batch]:
    """The rows of a Parquet or Arrow IPC file in batches of at most `rows` rows and about `max_bytes` bytes of text.

    Raises:
        DataError: ``missing_text_column`` unless `missing_ok`; ``unreadable_file``; ``source_changed``.
    """
    first = 0
    try:
        table = open_table(source)
        if options.text_field not in table.schema.names and not missing_ok:
            raise _missing(source, options.text_field, table.schema.names)
        for record in _records(table, options, rows):
            yield from _cut(_batch(source, first, record, options), rows, max_bytes)
            first += record.num_rows
        source.check_unchanged()
    except Damaged as damage:
        yield unreadable_rest(first, damage.found, source=options.source)


def columnar_texts(
    source: Source, *, options: ReaderOptions, wanted: npt.NDArray[np.int64]
) -> Iterator[tuple[npt.NDArray[np.int64], pa.Array]]:
    """The texts of some rows; of Parquet only the row groups that hold some are read."""
    if not len(wanted):
        return
    try:
        table = open_table(source)
        if options.text_field not in table.schema.names:
            return
        for first, stop in _ranges(table, wanted):
            yield from _texts_between(table, options.text_field, wanted, first, stop)
    except Damaged:
        return
    source.check_unchanged()


def _ranges(table: Table, wanted: npt.NDArray[np.int64]) -> list[tuple[int, int]]:
    """Half-open ranges of rows to read: the Parquet row groups that hold wanted rows, or all up to the last wanted."""
    if table.parquet is None:
        return [(0, int(wanted[-1]) + 1)]
    bounds = group_bounds(table.parquet)
    counts = np.diff(np.searchsorted(wanted, bounds))
    return [(int(bounds[n]), int(bounds[n + 1])) for n in np.flatnonzero(counts)]


def _texts_between(
    table: Table, column: str, wanted: npt.NDArray[np.int64], first: int, stop: int
) -> Iterator[tuple[npt.NDArray[np.int64], pa.Array]]:
    stop = min(stop, int(wanted[np.searchsorted(wanted, stop) - 1]) + 1)
    for record in table.batches([column], first=first, stop=stop):
        picked = wanted[slice(*np.searchsorted(wanted, [first, first + record.num_rows]))]
        if len(picked):
            texts, _ = as_text(record.column(0).take(pa.array(picked - first)))
            yield picked, texts
        first += record.num_rows
        if first >= stop:
            return


def _records(table: Table, options: ReaderOptions, rows: int) -> Iterator[pa.RecordBatch]:
    """Record batches of the fields that exist; where none does, batches of no column but the right length."""
    fields = [options.text_field, options.id_field, *([options.source_field] if options.source is None else [])]
    names = [name for name in dict.fromkeys(fields) if name in table.schema.names]
    if names:
        yield from table.batches(names, rows=rows)
        return
    for left in table.rows_without_columns():
        for start in range(0, left, rows):
            yield pa.record_batch([pa.nulls(min(rows, left - start))], names=[""])


def _batch(source: Source, first: int, record: pa.RecordBatch, options: ReaderOptions) -> Batch:
    try:
        return _columns_of(first, record, options)
    except (pa.ArrowException, IndexError) as error:
        raise damage_or_failure(source, error) from error


def _columns_of(first: int, record: pa.RecordBatch, options: ReaderOptions) -> Batch:
    columns = {name: record.column(n) for n, name in reversed(list(enumerate(record.schema.names)))}
    count = record.num_rows
    if options.text_field in columns:
        texts, error = as_text(columns[options.text_field])
    else:
        texts, error = pa.nulls(count, pa.large_string()), _constant(count, Reason.NOT_TEXT.value)
    own = as_id(columns[options.id_field]) if options.id_field in columns else pa.nulls(count, pa.string())
    if options.source is not None:
        source = _constant(count, options.source)
    elif options.source_field in columns:
        source = as_text(columns[options.source_field])[0].cast(pa.string())
    else:
        source = pa.nulls(count, pa.string())
    return Batch(first, texts, own, source, error)


def _constant(count: int, value: str) -> pa.Array:
    return pa.repeat(pa.scalar(value, pa.string()), count)


def _cut(batch: Batch, rows: int, max_bytes: int) -> Iterator[Batch]:
    """Cut a batch after each row that reaches `max_bytes`, and after `rows` rows."""
    count = len(batch)
    if not count:
        return
    texts = batch.texts
    offsets = np.frombuffer(texts.buffers()[1], dtype="i8")[texts.offset : texts.offset + count + 1]
    if count <= rows and offsets[-1] - offsets[0] <= max_bytes:
        yield batch
        return
    start = 0
    while start < count:
        full = int(np.searchsorted(offsets, offsets[start] + max_bytes))
        stop = min(max(full, start + 1), start + rows, count)
        columns = (column.slice(start, stop - start) for column in (texts, batch.source_id, batch.source, batch.error))
        yield Batch(batch.first_row + start, *columns)
        start = stop


def _missing(source: Source, field: str, names: Sequence[str]) -> DataError:
    return DataError(
        "missing_text_column",
        expected=f"a column named {field!r} in {source.path}",
        found=f"columns {', '.join(map(repr, names)) or '(none)'}",
        remedy="Name the column of the text with --text-field.",
    )
