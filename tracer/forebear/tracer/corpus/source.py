"""The bytes of one shard, opened once: small files whole in memory, large ones as a file that must not change.

Always true here: what is hashed and what is read are the same bytes. A file in memory cannot change; a file that is streamed
is compared by its stamp, before and after, and by its digest where the stamp alone cannot tell.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import Any

import pyarrow as pa

from forebear.schemas.errors import DataError
from forebear.tracer.corpus.formats import format_of
from forebear.tracer.corpus.inputs import file_digest
from forebear.tracer.corpus.places import Entry, Kind, absolute, describe, open_input, unreadable

__all__ = ["WHOLE_BELOW", "Source"]

WHOLE_BELOW = 256 << 20
"""Files smaller than this are read into memory once."""


class Source:
    """One file to read rows from; make it with `from_path`, in the process that reads it.

    Attributes:
        path: Where it lies.
        format: ``jsonl``, ``jsonl.gz``, ``jsonl.zst``, ``parquet`` or ``arrow``, told by its first bytes, then its name.
        size: Bytes.
        data: All of them, or None where the file is streamed.
    """

    def __init__(self, path: str, *, kind: str, size: int, data: bytes | None, stamp: tuple[int, ...]) -> None:
        self.path = path
        self.format = kind
        self.size = size
        self.data = data
        self._stamp = stamp
        self._digest: str | None = None

    @classmethod
    def from_path(cls, path: str, *, expected: str | None = None, whole_below: int = WHOLE_BELOW) -> Source:
        """Open a file for reading.

        Args:
            path: Path or URL.
            expected: Digest that the bytes must have.
            whole_below: Files smaller than this many bytes are read whole.

        Raises:
            DataError: ``unreadable_file``; ``source_changed`` where it changes as it is read or is not what was expected.
        """
        place = absolute(path)
        entry = _present(place)
        with open_input(place) as handle:
            data = _read(place, handle, None) if entry.size < whole_below else None
            head = _read(place, handle, 8) if data is None else data[:8]
        kind = format_of(head, place) or "jsonl"
        source = cls(place, kind=kind, size=entry.size, data=data, stamp=entry.stamp)
        if data is not None and (len(data) != entry.size or _present(place).stamp[:-1] != entry.stamp[:-1]):
            raise source._changed(f"{len(data)} bytes read, another size or time after")
        if expected is not None and source.sha256() != expected:
            raise source._changed(source.sha256(), expected)
        return source

    @classmethod
    def from_bytes(cls, data: bytes, *, name: str) -> Source:
        """A source of bytes that are already here; `name` tells the format where the bytes do not."""
        kind = format_of(data[:8], name) or "jsonl"
        return cls(name, kind=kind, size=len(data), data=data, stamp=())

    def sha256(self) -> str:
        """The digest of the shard's bytes, ``sha256:<hex>``."""
        if self._digest is None:
            if self.data is not None:
                self._digest = f"sha256:{hashlib.sha256(self.data).hexdigest()}"
            else:
                digest, size = file_digest(self.path)
                if size != self.size:
                    raise self._changed(f"{size} bytes")
                self._digest = digest
                self.check_unchanged()
        return self._digest

    def open(self) -> Any:
        """A seekable Arrow file over the bytes."""
        return pa.BufferReader(self.data) if self.data is not None else open_input(self.path)

    def chunks(self, step: int, *, start: int = 0) -> Iterator[bytes]:
        """The bytes from `start` on, at most `step` at a time."""
        with self.open() as handle:
            handle.seek(start)
            while chunk := _read(self.path, handle, step):
                yield chunk

    def check_unchanged(self) -> None:
        """Compare with what was opened; readers call this when they are done, and before they call a shard damaged.

        Raises:
            DataError: ``source_changed``, or ``unreadable_file`` where it is gone.
        """
        if self.data is not None:
            return
        now = _present(self.path).stamp
        if now == self._stamp:
            return
        if now[:-1] != self._stamp[:-1] or self._digest is None:
            raise self._changed("another size, time or inode")
        # Only the ctime differs: new permissions, or a write that put the mtime back. The bytes decide.
        digest, _ = file_digest(self.path)
        if digest != self._digest:
            raise self._changed(digest, self._digest)
        self._stamp = now

    def _changed(self, found: str, expected: str | None = None) -> DataError:
        return DataError(
            "source_changed",
            expected=f"{self.path} to stay as it was: {expected or f'{self.size} bytes'}",
            found=found,
            remedy="Scan again when nothing writes to it.",
        )


def _present(path: str) -> Entry:
    entry = describe(path)
    if entry is None or entry.kind is not Kind.FILE:
        found = "nothing there" if entry is None else f"a {entry.kind} name" if entry.kind is Kind.DANGLING else f"a {entry.kind}"
        raise DataError(
            "unreadable_file",
            expected=f"{path} to be a file that can be read",
            found=found,
            remedy="Restore the file or its permissions, or leave it out of the inputs.",
        )
    return entry


def _read(path: str, handle: Any, step: int | None) -> bytes:
    try:
        data: bytes = handle.read() if step is None else handle.read(step)
    except OSError as error:
        raise unreadable(path, error) from error
    return data
