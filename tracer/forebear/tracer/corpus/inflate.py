"""Decompression that keeps the longest whole prefix of a damaged stream.

Always true here: the bytes that come out depend on the bytes that went in alone, not on how they were cut into steps. A decoder
that meets damage throws away what that step had already decoded, so such a step is decoded again from the state before it, one
compressed byte at a time; what was decoded before the byte at which the decoder gives up is the prefix.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from typing import Any

from forebear.schemas.errors import DataError
from forebear.tracer.corpus.source import Source

__all__ = ["Damaged", "damaged", "decompressed"]

_OUTPUT = 1 << 20  # a step gives at most this many bytes at once (gzip)
_GZIP_STEP = 1 << 18
# zstd offers no bound on a call's output, and one block of 4 bytes may stand for 128 KiB: the step bounds it, to 128 MiB.
_ZSTD_STEP = 1 << 12
_MAX_WINDOW = 1 << 31  # zstd --ultra --long=31


class Damaged(DataError):  # noqa: N818 - most who meet it turn it into a row
    """A file ends here in damage; what came before it counts, and readers turn this into one `unreadable` row."""


def damaged(found: str) -> Damaged:
    """The damage in words."""
    return Damaged(
        "damaged_file",
        expected="a file that is whole",
        found=found,
        remedy="Restore it from where it came; until then what lies before the damage counts.",
    )


def decompressed(source: Source, *, step: int | None = None) -> Iterator[bytes]:
    """The decompressed bytes of a gzip or zstd file, several members or frames included.

    Args:
        source: The file.
        step: Compressed bytes to decode at a time; the result does not depend on it.

    Raises:
        Damaged: After the last byte that could be decoded: truncation, corruption, or bytes after the end.
    """
    return _gunzip(source, step or _GZIP_STEP) if source.format == "jsonl.gz" else _unzstd(source, step or _ZSTD_STEP)


def _gunzip(source: Source, step: int) -> Iterator[bytes]:
    member: Any = None
    members = 0
    for chunk in source.chunks(step):
        tail = chunk
        while tail:
            if member is None:
                # Zero bytes after a member are padding to a block's end, as gzip itself takes them.
                tail = tail.lstrip(b"\0") if members else tail
                if not tail:
                    break
                member, members = zlib.decompressobj(wbits=31), members + 1
            before = member.copy()
            try:
                data = member.decompress(tail, _OUTPUT)
            except zlib.error as error:
                yield from _gunzip_bytewise(before, tail)
                raise damaged(f"gzip data damaged: {error}") from error
            if data:
                yield data
            tail = member.unconsumed_tail
            if member.eof:
                tail, member = member.unused_data, None
    if member is not None:
        yield member.flush()  # a step's bound may have held back what its input already told
    if member is not None or not members:
        raise damaged("gzip data cut off before its end")


def _gunzip_bytewise(member: Any, tail: bytes) -> Iterator[bytes]:
    yield member.decompress(b"")
    for at in range(len(tail)):
        try:
            yield member.decompress(tail[at : at + 1])
        except zlib.error:
            return


def _unzstd(source: Source, step: int) -> Iterator[bytes]:
    import zstandard

    def new_frame() -> Any:
        return zstandard.ZstdDecompressor(max_window_size=_MAX_WINDOW).decompressobj()

    frame: Any = None
    frame_start = position = emitted = frames = 0  # offsets in the file; bytes of this frame given so far
    for chunk in source.chunks(step):
        tail = chunk
        while tail:
            if frame is None:
                frame, frame_start, emitted, frames = new_frame(), position, 0, frames + 1
            try:
                data = frame.decompress(tail)
            except zstandard.ZstdError as error:
                yield from _unzstd_bytewise(source, new_frame(), start=frame_start, whole=position - frame_start, emitted=emitted)
                raise damaged(f"zstd data damaged: {error}") from error
            if data:
                emitted += len(data)
                yield data
            rest = frame.unused_data if frame.eof else b""
            position += len(tail) - len(rest)
            tail = rest
            if frame.eof:
                frame = None
    if frame is not None or not frames:
        raise damaged("zstd data cut off before its end")


def _unzstd_bytewise(source: Source, frame: Any, *, start: int, whole: int, emitted: int) -> Iterator[bytes]:
    """What the failing step of a frame gives: the frame decoded again up to that step, then byte by byte.

    Args:
        source: The file.
        frame: A fresh decoder.
        start: Offset of the frame in the file.
        whole: Bytes of the frame before the failing step.
        emitted: Decompressed bytes that those gave; they are not given again.
    """
    import zstandard

    given = 0
    for chunk in source.chunks(_ZSTD_STEP, start=start):
        head, tail = chunk[:whole], chunk[whole:]
        whole -= len(head)
        if head:
            given += len(frame.decompress(head))
        assert given <= emitted or not tail, "the same bytes decode to the same bytes"
        for at in range(len(tail)):
            try:
                data = frame.decompress(tail[at : at + 1])
            except zstandard.ZstdError:
                return
            if data:
                yield data
