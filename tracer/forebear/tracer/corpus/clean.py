"""Cleaned shards: the kept rows of a source, everything else about them as it was.

Always true here: row k of the result is the k-th kept row of the source; the same source and rows give the same bytes; the result
is whole under its name or not there at all, and never takes the place of other bytes.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import secrets
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.ipc as ipc
import pyarrow.parquet as pq

from forebear.schemas.errors import DataError, IntegrityError, UsageError
from forebear.tracer.corpus.inflate import Damaged
from forebear.tracer.corpus.inputs import ReaderOptions, file_digest
from forebear.tracer.corpus.jsonl import lines
from forebear.tracer.corpus.places import is_url
from forebear.tracer.corpus.rows import ascending
from forebear.tracer.corpus.source import Source
from forebear.tracer.corpus.table_files import IPC_MAGIC, Table, open_table

__all__ = ["Cleaned", "write_cleaned"]

_GROUP_BYTES = 64 << 20
_GROUP_ROWS = 1 << 17
_SUFFIXES = {
    "jsonl": (".jsonl", ".ndjson", ".json"),
    "jsonl.gz": (".jsonl.gz", ".ndjson.gz", ".json.gz"),
    "jsonl.zst": (".jsonl.zst", ".ndjson.zst", ".json.zst", ".jsonl.zstd", ".ndjson.zstd", ".json.zstd"),
    "parquet": (".parquet",),
    "arrow": (".arrow", ".feather", ".ipc"),
}


@dataclass(frozen=True)
class Cleaned:
    """A cleaned shard as it lies on disk.

    Args:
        path: Where.
        sha256: Its digest, ``sha256:<hex>``.
        rows: Its rows.
        bytes: Its size.
    """

    path: str
    sha256: str
    rows: int
    bytes: int


def write_cleaned(source: Source, *, options: ReaderOptions, kept: npt.NDArray[np.int64], folder: str, name_hint: str) -> Cleaned:
    """Write the kept rows of a shard into a folder, in the shard's own format and compression.

    Args:
        source: The shard.
        options: As it was read.
        kept: int64, strictly ascending rows, counted over every row of the shard, errors included.
        folder: A local folder; made where it is missing.
        name_hint: The file's name, where no other file has it; its suffix is made to fit the format.

    Raises:
        DataError: A kept row cannot be read again, or the source changed.
        UsageError: The folder is a URL, cannot be written, or the rows do not ascend.
        IntegrityError: Another file has even the name that carries this one's digest.
    """
    rows = ascending(kept)
    if is_url(folder):
        raise _not_writable(folder, "a URL")
    stem, suffix = _name(name_hint, source.format)
    temporary = Path(folder) / f".{stem}.{secrets.token_hex(8)}.tmp"
    try:
        Path(folder).mkdir(parents=True, exist_ok=True)
        digest, size = _write(source, options, rows, temporary)
        placed = _put_in_place(temporary, Path(folder), stem=stem, suffix=suffix, digest=digest)
    except OSError as error:
        raise _not_writable(folder, error.strerror or str(error)) from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
    return Cleaned(str(placed), digest, len(rows), size)


class _Hashed(io.RawIOBase):
    """A file that hashes what is written to it."""

    def __init__(self, inner: BinaryIO) -> None:
        self._inner = inner
        self._state = hashlib.sha256()
        self.size = 0

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        view = memoryview(data)
        self._inner.write(view)
        self._state.update(view)
        self.size += view.nbytes
        return view.nbytes

    def tell(self) -> int:
        return self.size

    def name(self) -> str:
        return f"sha256:{self._state.hexdigest()}"


def _write(source: Source, options: ReaderOptions, kept: npt.NDArray[np.int64], path: Path) -> tuple[str, int]:
    with path.open("xb") as inner:
        sink = _Hashed(inner)
        if source.format.startswith("jsonl"):
            _write_jsonl(source, kept, sink)
        else:
            _write_columnar(source, options, kept, sink)
        inner.flush()
        os.fsync(inner.fileno())
        return sink.name(), sink.size


def _write_jsonl(source: Source, kept: npt.NDArray[np.int64], sink: _Hashed) -> None:
    compress, finish = _compressor(source.format)
    first = at = 0
    with contextlib.suppress(Damaged):  # kept rows lie before the damage, or _require_all says that one does not
        for some in lines(source) if len(kept) else ():
            stop = int(np.searchsorted(kept, first + len(some)))
            if stop > at:
                picked = (some[n] for n in (kept[at:stop] - first).tolist())
                sink.write(compress(b"".join(line + b"\n" for line in picked)))
                at = stop
            first += len(some)
    _require_all(source, at, kept)
    sink.write(finish())


def _compressor(kind: str) -> tuple[Callable[[bytes], bytes], Callable[[], bytes]]:
    """A streaming compressor whose output names no time and no file, and does not depend on how the input is cut."""
    if kind == "jsonl.gz":
        gzip = zlib.compressobj(6, zlib.DEFLATED, 31)  # zlib's own header has neither
        return gzip.compress, gzip.flush
    if kind == "jsonl.zst":
        import zstandard

        zstd = zstandard.ZstdCompressor(level=3, write_checksum=True).compressobj()
        return zstd.compress, zstd.flush
    return lambda data: data, lambda: b""


def _write_columnar(source: Source, options: ReaderOptions, kept: npt.NDArray[np.int64], sink: _Hashed) -> None:
    try:
        table = open_table(source)
    except Damaged as damage:
        if len(kept):
            raise _lost(source, damage.found) from damage
        table = None
    schema = table.schema if table is not None else _stand_in(options)
    count = _rows_in_group(table)
    with _writer(source, schema, sink) as writer:
        at = 0
        for group in _groups(table, kept, count) if table is not None and len(kept) else ():
            writer.write_table(group, count)
            at += group.num_rows
        _require_all(source, at, kept)


def _stand_in(options: ReaderOptions) -> pa.Schema:
    """The schema of a shard whose own cannot be read, and of which no row is kept."""
    names = dict.fromkeys((options.text_field, options.id_field, options.source_field))
    return pa.schema([pa.field(name, pa.string()) for name in names])


@contextlib.contextmanager
def _writer(source: Source, schema: pa.Schema, sink: _Hashed) -> Iterator[Any]:
    handle = pa.PythonFile(sink, mode="w")
    if source.format == "parquet":
        with pq.ParquetWriter(handle, schema, compression="zstd", write_page_checksum=True) as parquet:
            yield parquet
    else:
        with source.open() as original:
            of_file = original.read(len(IPC_MAGIC)) == IPC_MAGIC
        options = ipc.IpcWriteOptions(use_threads=False, emit_dictionary_deltas=of_file)
        with (ipc.new_file if of_file else ipc.new_stream)(handle, schema, options=options) as arrow:
            yield arrow


def _rows_in_group(table: Table | None) -> int:
    """Rows written at a time: near 64 MiB by the source's own account of its bytes, so that the choice is the same each time."""
    if table is None or table.parquet is None:
        return 1024  # as Hugging Face's writer; record batches are what a reader must hold
    metadata = table.parquet.metadata
    size = sum(metadata.row_group(n).total_byte_size for n in range(metadata.num_row_groups))
    average = max(1.0, size / max(metadata.num_rows, 1))
    return max(1, min(_GROUP_ROWS, int(_GROUP_BYTES / average)))


def _groups(table: Table, kept: npt.NDArray[np.int64], count: int) -> Iterator[pa.Table]:
    """The kept rows in tables of exactly `count` rows, the last one shorter, however the source cuts its own."""
    held: list[pa.RecordBatch] = []
    rows = 0
    for batch in _kept_batches(table, kept):
        start = 0
        while start < batch.num_rows:
            part = batch.slice(start, count - rows)
            held.append(part)
            rows += part.num_rows
            start += part.num_rows
            if rows == count:
                yield pa.Table.from_batches(held, table.schema).combine_chunks()
                held, rows = [], 0
    if held:
        yield pa.Table.from_batches(held, table.schema).combine_chunks()


def _kept_batches(table: Table, kept: npt.NDArray[np.int64]) -> Iterator[pa.RecordBatch]:
    first = at = 0
    try:
        for batch in table.batches():
            stop = int(np.searchsorted(kept, first + batch.num_rows))
            if stop > at:
                yield batch.take(pa.array(kept[at:stop] - first))
            at, first = stop, first + batch.num_rows
            if at == len(kept):
                break
    except Damaged as damage:
        raise _lost(table.source, damage.found) from damage
    table.source.check_unchanged()


def _require_all(source: Source, written: int, kept: npt.NDArray[np.int64]) -> None:
    if written != len(kept):
        raise _lost(source, f"{written} of {len(kept)} kept rows")


def _lost(source: Source, found: str) -> DataError:
    return DataError(
        "unreadable_file",
        expected=f"every kept row of {source.path} to be readable in all its columns",
        found=found,
        remedy="Restore the file, or scan it again and clean what that scan keeps.",
    )


def _name(hint: str, kind: str) -> tuple[str, str]:
    """Stem and suffix of the result: the hint's own where its suffix fits the format."""
    name = hint.replace("\\", "/").rstrip("/").rpartition("/")[2].lstrip("._") or "shard"
    lower = name.lower()
    for suffix in _SUFFIXES[kind]:
        if lower.endswith(suffix) and len(name) > len(suffix):
            return name[: -len(suffix)], name[-len(suffix) :]
    for suffix in sorted((s for group in _SUFFIXES.values() for s in group), key=len, reverse=True):
        if lower.endswith(suffix) and len(name) > len(suffix):
            return name[: -len(suffix)], _SUFFIXES[kind][0]
    return name, _SUFFIXES[kind][0]


def _put_in_place(temporary: Path, folder: Path, *, stem: str, suffix: str, digest: str) -> Path:
    """Give a finished file its name: the hint's, or with a part of its digest where other bytes have that."""
    for name in (f"{stem}{suffix}", f"{stem}-{digest[7:19]}{suffix}", f"{stem}-{digest[7:]}{suffix}"):
        final = folder / name
        if _claim(temporary, final) or _same(final, digest):
            _sync_folder(folder)
            return final
    raise IntegrityError(
        "name_taken",
        expected=f"{final} to hold the bytes of its digest",
        found="other bytes",
        remedy="Move that file away; nothing was overwritten.",
    )


def _claim(temporary: Path, final: Path) -> bool:
    """Name the file, if nothing has that name; a hard link does it in one step and refuses what exists."""
    try:
        os.link(temporary, final)
    except FileExistsError:
        return False
    except OSError:
        return _claim_without_links(temporary, final)
    return True


def _claim_without_links(temporary: Path, final: Path) -> bool:
    # Some file systems have no hard links: an exclusive empty file takes the name first. Killed between the two steps, it
    # stays empty, and the next run chooses the name with the digest.
    try:
        final.touch(exist_ok=False)
    except FileExistsError:
        return False
    temporary.replace(final)
    return True


def _same(path: Path, digest: str) -> bool:
    return path.is_file() and file_digest(str(path))[0] == digest


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _not_writable(folder: str, found: str) -> UsageError:
    return UsageError(
        "folder_not_writable",
        expected=f"a local folder to write cleaned shards in: {folder}",
        found=found,
        remedy="Give --clean a folder on this machine that can be written and has room.",
    )
