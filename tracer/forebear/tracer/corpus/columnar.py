"""Rows of Parquet and Arrow IPC files.

Always true here: only the columns asked for are read; of a damaged file the rows before the first page (Parquet) or record batch
(Arrow) that cannot be read count, however many are asked for at a time; and no string leaves here that is not valid UTF-8.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.ipc as ipc
import pyarrow.parquet as pq

from forebear.schemas.enums import Reason
from forebear.schemas.errors import DataError
from forebear.tracer.corpus.batch import Batch, unreadable_rest
from forebear.tracer.corpus.inflate import Damaged
from forebear.tracer.corpus.inputs import ReaderOptions
from forebear.tracer.corpus.places import unreadable
from forebear.tracer.corpus.source import Source

__all__ = ["IPC_MAGIC", "Table", "columnar_rows", "columnar_texts", "open_table"]

IPC_MAGIC = b"ARROW1"
_IPC_BODY = 8  # the magic is padded to eight bytes; then a stream follows (Arrow columnar format, IPC file format)
_END_OF_STREAM = b"\xff\xff\xff\xff\x00\x00\x00\x00"
# What Arrow raises on bytes that are not what they should be; errors of the system below it have an errno.
_BROKEN = (pa.ArrowException, OSError, ValueError, IndexError, MemoryError)
_FINER = 64  # rows asked for at a time when a larger read failed; then one by one
_TARGET_BYTES = 8 << 20


@dataclass(frozen=True)
class Table:
    """An open columnar file.

    Args:
        source: Its bytes.
        schema: Its columns.
        parquet: The open Parquet file, or None for Arrow IPC.
    """

    source: Source
    schema: pa.Schema
    parquet: Any = None

    def batches(self, columns: Sequence[str] | None = None, *, rows: int = 2048, first: int = 0) -> Iterator[pa.RecordBatch]:
        """Record batches from row `first` on.

        Args:
            columns: Names of top-level columns; None is all of them.
            rows: Most rows of a batch of Parquet; record batches of Arrow IPC come as they were written.
            first: Where to begin; for Parquet, row groups before it are not read.

        Raises:
            Damaged: After the last row that can be read.
            DataError: ``unreadable_file`` or ``source_changed``.
        """
        if self.parquet is None:
            return _stream_batches(self.source, self.schema, columns, first)
        return _parquet_batches(self.source, self.parquet, columns, rows=rows, first=first)

    def rows_without_columns(self) -> Iterator[int]:
        """Numbers of rows, some at a time, of a file of which no column is asked for."""
        if self.parquet is not None:
            yield int(self.parquet.metadata.num_rows)
            return
        for batch in self.batches([]):
            yield batch.num_rows


def open_table(source: Source) -> Table:
    """Open a Parquet or Arrow IPC file and read its schema.

    Raises:
        Damaged: It has none that can be read.
        DataError: ``unreadable_file`` or ``source_changed``.
    """
    try:
        if source.format == "parquet":
            # Without pre-buffering a column chunk is read as it is needed: memory stays within a row group's page.
            parquet = pq.ParquetFile(source.open(), pre_buffer=False, page_checksum_verification=True)
            return Table(source, parquet.schema_arrow, parquet)
        with _stream(source) as handle:
            return Table(source, ipc.open_stream(handle).schema)
    except _BROKEN as error:
        raise _damaged(source, error) from error


def columnar_rows(
    source: Source, *, options: ReaderOptions, rows: int, max_bytes: int, missing_ok: bool = False
) -> Iterator[Batch]:
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
        yield unreadable_rest(first, str(damage), source=options.source)


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
    bounds = _group_bounds(table.parquet)
    counts = np.diff(np.searchsorted(wanted, bounds))
    return [(int(bounds[n]), int(bounds[n + 1])) for n in np.flatnonzero(counts)]


def _texts_between(
    table: Table, column: str, wanted: npt.NDArray[np.int64], first: int, stop: int
) -> Iterator[tuple[npt.NDArray[np.int64], pa.Array]]:
    stop = min(stop, int(wanted[np.searchsorted(wanted, stop) - 1]) + 1)
    for record in table.batches([column], first=first):
        picked = wanted[slice(*np.searchsorted(wanted, [first, first + record.num_rows]))]
        if len(picked):
            texts, _ = _as_text(record.column(0).take(pa.array(picked - first)))
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
        raise _damaged(source, error) from error


def _columns_of(first: int, record: pa.RecordBatch, options: ReaderOptions) -> Batch:
    columns = {name: record.column(n) for n, name in reversed(list(enumerate(record.schema.names)))}
    count = record.num_rows
    if options.text_field in columns:
        texts, error = _as_text(columns[options.text_field])
    else:
        texts, error = pa.nulls(count, pa.large_string()), _constant(count, Reason.NOT_TEXT.value)
    own = _as_id(columns[options.id_field]) if options.id_field in columns else pa.nulls(count, pa.string())
    if options.source is not None:
        source = _constant(count, options.source)
    elif options.source_field in columns:
        source = _as_text(columns[options.source_field])[0].cast(pa.string())
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


def _plain(column: pa.Array) -> pa.Array:
    """The column without extension or run-end encoding."""
    kind = column.type
    if isinstance(kind, pa.BaseExtensionType):
        return _plain(column.storage)
    if pa.types.is_run_end_encoded(kind):
        return _plain(pc.run_end_decode(column))
    return column


def _is_string(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))


def _as_text(column: pa.Array) -> tuple[pa.Array, pa.Array]:
    """A column as texts (large_string) and errors (string): what is no string is `not_text`, bad bytes are `invalid_utf8`."""
    plain = _plain(column)
    if pa.types.is_dictionary(plain.type):
        # Judged before it is decoded: decoding trusts offsets and indices that a damaged file may have wrong.
        texts, error = _as_text(plain.dictionary)
        return texts.take(plain.indices), error.take(plain.indices)
    if not _is_string(plain.type):
        error = pc.if_else(plain.is_valid(), pa.scalar(Reason.NOT_TEXT.value, pa.string()), pa.scalar(None, pa.string()))
        return pa.nulls(len(plain), pa.large_string()), error
    try:
        plain.validate(full=True)
    except pa.ArrowInvalid:
        return _mend(plain)
    return plain.cast(pa.large_string()), pa.nulls(len(plain), pa.string())


def _mend(column: pa.Array) -> tuple[pa.Array, pa.Array]:
    raw = column.cast(pa.binary_view() if pa.types.is_string_view(column.type) else pa.large_binary())
    try:
        raw.validate(full=True)
    except pa.ArrowInvalid as error:
        raise Damaged(f"a column's offsets are damaged: {error}") from error
    texts: list[str | None] = []
    errors: list[str | None] = []
    for value in raw:
        data = value.as_py()
        try:
            texts.append(None if data is None else data.decode())
            errors.append(None)
        except UnicodeDecodeError:
            texts.append(None)
            errors.append(Reason.INVALID_UTF8.value)
    return pa.array(texts, pa.large_string()), pa.array(errors, pa.string())


def _as_id(column: pa.Array) -> pa.Array:
    """Strings as they are; integers, booleans and floats as JSON writes them; null for anything else."""
    plain = _plain(column)
    kind = plain.type
    if pa.types.is_floating(kind):
        return pa.array([None if value is None else json.dumps(value) for value in plain.to_pylist()], pa.string())
    if pa.types.is_integer(kind) or pa.types.is_boolean(kind):
        return plain.cast(pa.string())
    return _as_text(plain)[0].cast(pa.string())


def _missing(source: Source, field: str, names: Sequence[str]) -> DataError:
    return DataError(
        "missing_text_column",
        expected=f"a column named {field!r} in {source.path}",
        found=f"columns {', '.join(map(repr, names)) or '(none)'}",
        remedy="Name the column of the text with --text-field.",
    )


def _damaged(source: Source, error: BaseException) -> Exception:
    """The damage that an exception of Arrow's tells of, unless the system failed or the file changed under the reader."""
    if isinstance(error, OSError) and error.errno is not None:
        return unreadable(source.path, error)
    source.check_unchanged()
    words = " ".join(str(error).split()) or type(error).__name__
    return Damaged(f"{'Parquet' if source.format == 'parquet' else 'Arrow'} data damaged: {words[:300]}")


def _group_bounds(parquet: Any) -> npt.NDArray[np.int64]:
    """First rows of the row groups, and the number of rows at the end."""
    metadata = parquet.metadata
    return np.cumsum([0, *(metadata.row_group(n).num_rows for n in range(metadata.num_row_groups))], dtype=np.int64)


def _rows_at_once(parquet: Any, columns: Sequence[str] | None, rows: int) -> int:
    """Rows to read at a time so that the heaviest row group's average row keeps a batch near 8 MiB."""
    heaviest = 1.0
    for n in range(parquet.metadata.num_row_groups):
        group = parquet.metadata.row_group(n)
        chunks = (group.column(i) for i in range(group.num_columns))
        size = sum(c.total_uncompressed_size for c in chunks if columns is None or c.path_in_schema.split(".")[0] in columns)
        heaviest = max(heaviest, size / max(group.num_rows, 1))
    return max(1, min(rows, int(_TARGET_BYTES / heaviest)))


def _parquet_batches(
    source: Source, parquet: Any, columns: Sequence[str] | None, *, rows: int, first: int
) -> Iterator[pa.RecordBatch]:
    """Batches from `first` on; where a read fails, again from its row group in finer steps, to the last row that can be read."""
    total = int(parquet.metadata.num_rows)
    error: BaseException | None = None
    most = _rows_at_once(parquet, columns, rows)
    for size in dict.fromkeys((most, min(most, _FINER), 1)):
        try:
            for batch in _from_row(parquet, columns, size=size, first=first):
                first += batch.num_rows
                yield batch
        except _BROKEN as failure:
            error = failure
        else:
            if first < total:
                raise Damaged(f"Parquet data damaged: {total} rows promised, {first} there")
            return
    assert error is not None
    raise _damaged(source, error) from error


def _from_row(parquet: Any, columns: Sequence[str] | None, *, size: int, first: int) -> Iterator[pa.RecordBatch]:
    bounds = _group_bounds(parquet)
    start = int(np.searchsorted(bounds, first, side="right")) - 1
    groups = range(start, len(bounds) - 1)
    if not groups:
        return
    skip = first - int(bounds[start])
    for batch in parquet.iter_batches(batch_size=size, row_groups=list(groups), columns=columns, use_threads=False):
        if skip >= batch.num_rows:
            skip -= batch.num_rows
            continue
        kept = batch.slice(skip)
        skip = 0
        kept.validate()
        yield kept


def _stream(source: Source) -> Any:
    """The IPC stream of a file: all of it, or what follows the magic of the file format (its footer only repeats places)."""
    handle = source.open()
    if handle.read(len(IPC_MAGIC)) == IPC_MAGIC:
        handle.seek(_IPC_BODY)
    else:
        handle.seek(0)
    return handle


def _stream_batches(source: Source, schema: pa.Schema, columns: Sequence[str] | None, first: int) -> Iterator[pa.RecordBatch]:
    options = ipc.IpcReadOptions(use_threads=False)
    if columns is not None:
        options.included_fields = sorted(schema.names.index(name) for name in columns)
    try:
        with _stream(source) as handle:
            for batch in ipc.open_stream(handle, options=options):
                if first >= batch.num_rows:
                    first -= batch.num_rows
                    continue
                batch.validate()
                yield batch.slice(first)
                first = 0
            at = handle.tell()
            _require_end(source, handle, at)
    except _BROKEN as error:
        raise _damaged(source, error) from error


def _require_end(source: Source, handle: Any, at: int) -> None:
    """A stream cut off between two record batches reads as a shorter one; only its end mark tells."""
    handle.seek(0)
    of_file = handle.read(len(IPC_MAGIC)) == IPC_MAGIC
    handle.seek(max(0, at - len(_END_OF_STREAM)))
    mark = handle.read(len(_END_OF_STREAM))
    handle.seek(max(0, source.size - len(IPC_MAGIC)))
    ended = handle.read(len(IPC_MAGIC)) == IPC_MAGIC if of_file else at == source.size
    if mark != _END_OF_STREAM or not ended:
        source.check_unchanged()
        raise Damaged("Arrow data does not end as it should: cut off, or followed by other bytes")
