"""Open Parquet and Arrow IPC files: their schema, and their record batches as far as they can be read.

Always true here: of a damaged file the rows before the first page (Parquet) or record batch (Arrow) that cannot be read count,
however many are asked for at a time.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.ipc as ipc
import pyarrow.parquet as pq

from forebear.tracer.corpus.inflate import damaged
from forebear.tracer.corpus.places import unreadable
from forebear.tracer.corpus.source import Source

__all__ = ["IPC_MAGIC", "Table", "damage_or_failure", "group_bounds", "open_table"]

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

    def batches(
        self, columns: Sequence[str] | None = None, *, rows: int = 2048, first: int = 0, stop: int | None = None
    ) -> Iterator[pa.RecordBatch]:
        """Record batches from row `first` on.

        Args:
            columns: Names of top-level columns; None is all of them.
            rows: Most rows of a batch of Parquet; record batches of Arrow IPC come as they were written.
            first: Where to begin; of Parquet, row groups before it are not read.
            stop: Row before which to end, where that is known; of Parquet, row groups from it on are not read.

        Raises:
            Damaged: After the last row that can be read.
            DataError: ``unreadable_file`` or ``source_changed``.
        """
        if self.parquet is None:
            return _ipc_batches(self.source, self.schema, columns, first=first)
        return _parquet_batches(self.source, self.parquet, columns, rows=rows, first=first, stop=stop)

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
            _require_sound_counts(parquet)
            table = Table(source, parquet.schema_arrow, parquet)
        else:
            table = Table(source, _ipc_reader(source)[0].schema)
        table.schema.names  # noqa: B018 - a name that is no UTF-8 shows itself here
    except _BROKEN as error:
        raise damage_or_failure(source, error) from error
    return table


def _require_sound_counts(parquet: Any) -> None:
    counts = np.diff(group_bounds(parquet))
    if (counts < 0).any() or counts.sum() != parquet.metadata.num_rows:
        raise ValueError(f"row groups of {counts.tolist()} rows in a file of {parquet.metadata.num_rows}")


def damage_or_failure(source: Source, error: BaseException) -> Exception:
    """The damage that an exception of Arrow's tells of, unless the system failed or the file changed under the reader."""
    if isinstance(error, OSError) and error.errno is not None:
        return unreadable(source.path, error)
    source.check_unchanged()
    words = " ".join(str(error).split()) or type(error).__name__
    return damaged(f"{'Parquet' if source.format == 'parquet' else 'Arrow'} data damaged: {words[:300]}")


def group_bounds(parquet: Any) -> npt.NDArray[np.int64]:
    """First rows of the row groups, and the number of rows at the end."""
    metadata = parquet.metadata
    return np.cumsum([0, *(metadata.row_group(n).num_rows for n in range(metadata.num_row_groups))], dtype=np.int64)


def _rows_at_once(parquet: Any, rows: int) -> int:
    """Rows to read at a time so that the heaviest row group's average row keeps a batch near 8 MiB."""
    # Of row groups alone: to ask for a damaged column's metadata ends the process (pyarrow 25 lets the exception escape).
    groups = [parquet.metadata.row_group(n) for n in range(parquet.metadata.num_row_groups)]
    heaviest = max((group.total_byte_size / max(group.num_rows, 1) for group in groups), default=1.0)
    return max(1, min(rows, int(_TARGET_BYTES / max(heaviest, 1.0))))


def _parquet_batches(
    source: Source, parquet: Any, columns: Sequence[str] | None, *, rows: int, first: int, stop: int | None
) -> Iterator[pa.RecordBatch]:
    bounds = group_bounds(parquet)
    most = _rows_at_once(parquet, rows)
    for group in range(parquet.metadata.num_row_groups):
        start, end = int(bounds[group]), int(bounds[group + 1])
        if end > first and (stop is None or start < stop):
            yield from _group_batches(source, parquet, columns, group=group, rows=most, skip=max(0, first - start))


def _group_batches(
    source: Source, parquet: Any, columns: Sequence[str] | None, *, group: int, rows: int, skip: int
) -> Iterator[pa.RecordBatch]:
    """A row group from its row `skip` on; where a read fails, again in finer steps, to the last row that can be read.

    Group by group, because a column whose pages say too few rows would else borrow those of the next group.
    """
    error: BaseException | None = None
    for size in dict.fromkeys((rows, min(rows, _FINER), 1)):
        try:
            for batch in _from_row(parquet, columns, group=group, size=size, skip=skip):
                skip += batch.num_rows
                yield batch
        except _BROKEN as failure:
            error = failure
        else:
            promised = parquet.metadata.row_group(group).num_rows
            if skip == promised:
                return
            error = ValueError(f"a row group of {promised} rows has {skip}")
            break
    assert error is not None
    raise damage_or_failure(source, error) from error


def _from_row(parquet: Any, columns: Sequence[str] | None, *, group: int, size: int, skip: int) -> Iterator[pa.RecordBatch]:
    for batch in parquet.iter_batches(batch_size=size, row_groups=[group], columns=columns, use_threads=False):
        if skip >= batch.num_rows:
            skip -= batch.num_rows
            continue
        kept = batch.slice(skip)
        skip = 0
        kept.validate()
        yield kept


def _ipc_reader(source: Source, options: ipc.IpcReadOptions | None = None) -> tuple[Any, Any]:
    """A reader of an Arrow IPC file, and the stream's handle where it is read as a stream.

    A file of the file format is read by its footer. Where that is cut off, the stream that follows the magic is read: its
    whole record batches are the prefix that counts. (Not every writer frames that stream, so the footer comes first.)
    """
    handle = source.open()
    if handle.read(len(IPC_MAGIC)) == IPC_MAGIC:
        try:
            return ipc.open_file(handle, options=options), None
        except _BROKEN:
            handle.seek(_IPC_BODY)
    else:
        handle.seek(0)
    return ipc.open_stream(handle, options=options), handle


def _ipc_batches(source: Source, schema: pa.Schema, columns: Sequence[str] | None, *, first: int) -> Iterator[pa.RecordBatch]:
    options = ipc.IpcReadOptions(use_threads=False)
    if columns is not None:
        options.included_fields = sorted(schema.names.index(name) for name in columns)
    try:
        reader, stream = _ipc_reader(source, options)
        found = iter(reader) if stream is not None else map(reader.get_batch, range(reader.num_record_batches))
        for batch in found:
            if first >= batch.num_rows:
                first -= batch.num_rows
                continue
            batch.validate()
            yield batch.slice(first)
            first = 0
        if stream is not None:
            _require_end(source, stream)
    except _BROKEN as error:
        raise damage_or_failure(source, error) from error


def _require_end(source: Source, stream: Any) -> None:
    """A stream cut off between two record batches reads as a shorter one; only its end mark tells."""
    at = stream.tell()
    stream.seek(0)
    of_file = stream.read(len(IPC_MAGIC)) == IPC_MAGIC  # then its footer was not there to be read
    stream.seek(max(0, at - len(_END_OF_STREAM)))
    if of_file or at != source.size or stream.read(len(_END_OF_STREAM)) != _END_OF_STREAM:
        source.check_unchanged()
        raise damaged("Arrow data does not end as it should: cut off, or followed by other bytes")
