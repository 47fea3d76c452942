"""The formats that are read, told by a file's first bytes, then by its name.

Always true here: bytes win over names, so that a Parquet file named ``.jsonl`` is read as Parquet.
"""

from __future__ import annotations

import re

from forebear.schemas.errors import DataError
from forebear.tracer.corpus.places import is_url, open_input

__all__ = ["SUFFIXES", "format_by_name", "format_of", "sniff"]

SUFFIXES = {
    **{f".{word}": "jsonl" for word in ("jsonl", "ndjson", "json")},
    **{f".{word}.gz": "jsonl.gz" for word in ("jsonl", "ndjson", "json")},
    **{f".{word}.{end}": "jsonl.zst" for word in ("jsonl", "ndjson", "json") for end in ("zst", "zstd")},
    ".parquet": "parquet",
    **{f".{word}": "arrow" for word in ("arrow", "feather", "ipc")},
}
_MAGIC = {
    b"PAR1": "parquet",
    b"ARROW1": "arrow",
    b"\xff\xff\xff\xff": "arrow",  # the continuation mark that opens an IPC stream
    b"\x1f\x8b": "jsonl.gz",
    b"\x28\xb5\x2f\xfd": "jsonl.zst",
}
_SKIPPABLE = re.compile(rb"[\x50-\x5f]\x2a\x4d\x18")  # zstd files may open with a skippable frame (RFC 8878, 3.1.2)


def sniff(path: str) -> str | None:
    """The format of a file: by its first bytes, then by its name; None where neither tells.

    A file that cannot be read has the format of its name.
    """
    try:
        with open_input(path) as handle:
            head: bytes = handle.read(8)
    except (DataError, OSError):
        head = b""
    return format_of(head, path)


def format_of(head: bytes, path: str) -> str | None:
    """The format told by a file's first eight bytes, else by its name."""
    for magic, name in _MAGIC.items():
        if head.startswith(magic):
            return name
    return "jsonl.zst" if _SKIPPABLE.match(head) else format_by_name(path)


def format_by_name(path: str) -> str | None:
    """The format told by a file's suffix, upper case or lower."""
    name = (path.partition("?")[0] if is_url(path) else path).rpartition("/")[2].lower()
    return next((known for suffix, known in SUFFIXES.items() if name.endswith(suffix)), None)
