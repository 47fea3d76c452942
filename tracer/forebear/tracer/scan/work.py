"""Intermediate blocks of a scan: named bytes in a folder or bucket that every worker sees.

Always true here: a block is put whole or not at all, under a name that says what it is; putting the same block twice (a retried
bundle) does no harm; on a local disk a block is read through a memory map, so that reading some of it costs some of it.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlparse

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from forebear.schemas.errors import IntegrityError, UsageError
from forebear.tracer.ledger.bucket import Bucket

__all__ = ["Work", "arrays_block", "block_arrays"]


class Work:
    """Named blocks below one place."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._folder = _local(url)
        self._bucket = Bucket(url) if self._folder is None else None

    def put(self, name: str, data: bytes | pa.Buffer) -> None:
        """Store a block, whole or not at all."""
        if self._bucket is not None:
            self._bucket.replace(name, bytes(data), durable=False)
            return
        path = self._path(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=".put-")
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(data)
            Path(temporary).replace(path)
        except BaseException:
            Path(temporary).unlink(missing_ok=True)
            raise

    def get(self, name: str) -> pa.Buffer:
        """A block's bytes; KeyError where there is none."""
        if self._bucket is not None:
            return pa.py_buffer(_held(self._bucket, name))
        path = self._path(name)
        if not path.exists():
            raise KeyError(name)
        if not path.stat().st_size:
            return pa.py_buffer(b"")
        with pa.memory_map(str(path)) as mapped:
            return mapped.read_buffer()

    def has(self, name: str) -> bool:
        """Whether there is a block of this name."""
        return self._bucket.size(name) is not None if self._bucket is not None else self._path(name).is_file()

    def put_json(self, name: str, value: Any) -> None:
        """Store a small record."""
        self.put(name, json.dumps(value, sort_keys=True).encode())

    def get_json(self, name: str) -> Any:
        """Read a small record."""
        return json.loads(bytes(self.get(name)))

    def names(self, folder: str) -> list[str]:
        """Names below a folder, sorted."""
        if self._bucket is not None:
            return [name for name, _ in self._bucket.list(folder)]
        top = self._path(folder)
        if not top.is_dir():
            return []
        return sorted(str(p.relative_to(self._path(""))) for p in top.rglob("*") if p.is_file() and not p.name.startswith("."))

    def clear(self, folder: str = "") -> None:
        """Remove every block below a folder; a place that cannot be cleared is left, since blocks are no evidence."""
        if self._bucket is None:
            shutil.rmtree(self._path(folder), ignore_errors=True)
            return
        with contextlib.suppress(UsageError):
            for name in self.names(folder):
                self._bucket.delete(name)

    def _path(self, name: str) -> Path:
        assert self._folder is not None
        return self._folder / name


def _held(bucket: Bucket, name: str) -> bytes:
    try:
        return bucket.get(name)
    except IntegrityError as error:
        raise KeyError(name) from error


def _local(url: str) -> Path | None:
    parsed = urlparse(url)
    if parsed.scheme == "file":
        return Path(unquote(parsed.path))
    return None if "://" in url else Path(url)


def arrays_block(**arrays: npt.NDArray[Any]) -> bytes:
    """Arrays of one length as Arrow IPC bytes: what travels between steps."""
    batch = pa.record_batch({name: pa.array(value) for name, value in arrays.items()})
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, batch.schema) as writer:
        writer.write_batch(batch)
    return bytes(sink.getvalue())


def block_arrays(blocks: Sequence[bytes | pa.Buffer], names: tuple[str, ...]) -> list[npt.NDArray[Any]]:
    """The arrays of several blocks, end to end, in the order of names; no block gives empty uint64 arrays."""
    tables = [pa.ipc.open_stream(block).read_all() for block in blocks]
    if not tables:
        return [np.zeros(0, "u8") for _ in names]
    whole = pa.concat_tables(tables)
    return [whole[name].to_numpy() for name in names]
