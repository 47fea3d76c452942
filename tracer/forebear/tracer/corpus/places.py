"""Where bytes lie: local paths, and any URL that pyarrow or fsspec opens, behind five plain functions.

Always true here: a path without a scheme takes the local way and touches no other library; a URL stays a URL, so that what
is listed can be opened again; and listings come sorted by name.
"""

from __future__ import annotations

import os
import re
import stat
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import pyarrow as pa
import pyarrow.fs as pafs

from forebear.schemas.errors import DataError, UsageError

__all__ = ["Entry", "Kind", "absolute", "children", "describe", "is_url", "join", "open_input", "unreadable"]

_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")


class Kind(StrEnum):
    """What stands at a path."""

    FILE = "file"
    FOLDER = "folder"
    OTHER = "other"
    """A pipe, socket or device: opening one may wait for ever."""
    DANGLING = "dangling"
    """A name that cannot be followed: a link to nothing, or a stat that is refused."""


@dataclass(frozen=True)
class Entry:
    """One name in a folder.

    Args:
        path: The whole path or URL.
        kind: What stands there.
        size: Bytes of a file, else 0.
        link: Whether it is a symbolic link.
        stamp: What changes when the content does: inode, size, mtime in ns, and last the ctime in ns, which a writer cannot set.
    """

    path: str
    kind: Kind
    size: int = 0
    link: bool = False
    stamp: tuple[int, ...] = ()

    @property
    def name(self) -> str:
        """The last part of the path."""
        return self.path.rstrip("/").rpartition("/")[2]


def is_url(path: str) -> bool:
    """Whether the path names a scheme, as in ``s3://bucket/key``."""
    return _URL.match(path) is not None


def absolute(path: str) -> str:
    """The path as it is remembered: local ones absolute, symbolic links kept; ``file://`` becomes local."""
    if path[:7].lower() == "file://":
        path = unquote(urlsplit(path).path)
    if is_url(path):
        return path.rstrip("/")
    return os.path.abspath(path)  # noqa: PTH100 - Path.absolute keeps "..", resolve follows links


def join(folder: str, name: str) -> str:
    """A name in a folder; the query of a URL stays at its end."""
    if not is_url(folder):
        return os.path.join(folder, name)  # noqa: PTH118 - text in, text out
    bare, mark, query = folder.partition("?")
    return f"{bare.rstrip('/')}/{name}{mark}{query}"


def describe(path: str) -> Entry | None:
    """What stands at a path, links followed; None where there is nothing at all."""
    if is_url(path):
        filesystem, inner = _remote(path)
        try:
            info = filesystem.get_file_info(inner)
        except OSError as error:
            raise unreadable(path, error) from error
        return None if info.type == pafs.FileType.NotFound else _remote_entry(path, info)
    try:
        facts = Path(path).stat()
    except (FileNotFoundError, NotADirectoryError):
        return Entry(path, Kind.DANGLING, link=True) if os.path.lexists(path) else None
    except OSError:
        return Entry(path, Kind.DANGLING)
    return _local_entry(path, facts, link=Path(path).is_symlink())


def children(path: str) -> list[Entry]:
    """The names in a folder, sorted by name.

    Raises:
        OSError: The folder cannot be listed.
    """
    if not is_url(path):
        found = []
        with os.scandir(path) as names:
            for item in names:
                try:
                    found.append(_local_entry(item.path, item.stat(), link=item.is_symlink()))
                except OSError:
                    found.append(Entry(item.path, Kind.DANGLING, link=True))
        return sorted(found, key=lambda entry: entry.path)
    filesystem, inner = _remote(path)
    infos = filesystem.get_file_info(pafs.FileSelector(inner))
    return sorted((_remote_entry(join(path, info.base_name), info) for info in infos), key=lambda entry: entry.path)


def open_input(path: str) -> Any:
    """A readable, seekable Arrow file over the bytes at a path.

    Raises:
        DataError: ``unreadable_file``: it is gone or cannot be opened.
    """
    try:
        if not is_url(path):
            return pa.OSFile(path, "rb")
        filesystem, inner = _remote(path)
        return filesystem.open_input_file(inner)
    except OSError as error:
        raise unreadable(path, error) from error


def unreadable(path: str, error: OSError) -> DataError:
    """The error for a file that is gone, refused, or fails while it is read."""
    return DataError(
        "unreadable_file",
        expected=f"{path} to be there and readable",
        found=error.strerror or str(error),
        remedy="Restore the file or its permissions, or leave it out of the inputs.",
    )


def _local_entry(path: str, facts: os.stat_result, *, link: bool) -> Entry:
    if stat.S_ISDIR(facts.st_mode):
        return Entry(path, Kind.FOLDER, link=link, stamp=(facts.st_dev, facts.st_ino))
    if not stat.S_ISREG(facts.st_mode):
        return Entry(path, Kind.OTHER, link=link)
    stamp = (facts.st_dev, facts.st_ino, facts.st_size, facts.st_mtime_ns, facts.st_ctime_ns)
    return Entry(path, Kind.FILE, facts.st_size, link, stamp)


def _remote_entry(path: str, info: Any) -> Entry:
    if info.type == pafs.FileType.Directory:
        return Entry(path, Kind.FOLDER)
    if info.type != pafs.FileType.File:
        return Entry(path, Kind.OTHER)
    # A store gives no inode and no ctime: the trailing zero keeps the stamp's shape.
    return Entry(path, Kind.FILE, info.size or 0, False, (info.size or 0, info.mtime_ns or 0, 0))


def _remote(path: str) -> tuple[Any, str]:
    """The file system of a URL, and the path inside it."""
    bare, mark, query = path.partition("?")
    scheme, _, rest = bare.partition("://")
    authority, slash, inside = rest.partition("/")
    filesystem, root = _filesystem(f"{scheme}://{authority}{mark}{query}")
    return filesystem, f"{root.rstrip('/')}{slash}{inside}"


@lru_cache(maxsize=16)
def _filesystem(uri: str) -> tuple[Any, str]:
    # One connection for a bucket, not one for each of its files.
    try:
        found: tuple[Any, str] = pafs.FileSystem.from_uri(uri)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        return _through_fsspec(uri, error)
    return _patient(found[0]), found[1]


def _patient(filesystem: Any) -> Any:
    """S3 with more tries than Arrow's three, which an outage of a few seconds uses up."""
    if not isinstance(filesystem, getattr(pafs, "S3FileSystem", ())):
        return filesystem
    reduced: Any = filesystem.__reduce__()
    rebuild, (options,) = reduced
    return rebuild({**options, "retry_strategy": pafs.AwsStandardS3RetryStrategy(max_attempts=8)})


def _through_fsspec(uri: str, reason: Exception) -> tuple[Any, str]:
    try:
        from fsspec.core import url_to_fs  # type: ignore[import-untyped,unused-ignore]

        filesystem, root = url_to_fs(uri)
    except (ImportError, ValueError, OSError) as error:
        raise UsageError(
            "unknown_scheme",
            expected="a path, or a URL that pyarrow.fs or fsspec opens",
            found=f"{uri}: {reason}; {error}",
            remedy="Install the fsspec package of that scheme, or copy the files to where they can be read.",
        ) from error
    return pafs.PyFileSystem(pafs.FSSpecHandler(filesystem)), str(root)
