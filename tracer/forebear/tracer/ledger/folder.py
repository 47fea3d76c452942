"""A folder as a ledger's store.

Always true here: a file appears under its name whole and already on disk (written under a temporary name, fsynced, then
linked), creation never replaces, and the folder's own entry is fsynced before a write returns: so after a power cut no entry
names an object that is not there. Only plain files are read, so a pipe or a device under a ledger's name cannot hang a reader.
`obstore` is not used for folders: it neither fsyncs nor lists files whose names it finds odd, and `verify` must see those.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import secrets
import stat
from collections.abc import Iterator
from pathlib import Path

from forebear.schemas.errors import ForebearError, IntegrityError, UsageError

__all__ = ["Folder"]

_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
_DENIED = frozenset({errno.EACCES, errno.EPERM, errno.EROFS})
_NO_LINKS = frozenset({errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK, errno.EXDEV})


class Folder:
    """Bytes under a folder, by relative path.

    Args:
        root: The folder; it is made when first written to.
    """

    def __init__(self, root: Path) -> None:
        self.root = root

    def get(self, path: str) -> bytes:
        """All bytes of a file."""
        with self._opened(path) as (fd, size):
            return _read(fd, 0, size)

    def get_range(self, path: str, start: int, length: int) -> bytes:
        """At most `length` bytes of a file, from `start` on."""
        with self._opened(path) as (fd, size):
            return _read(fd, start, max(0, min(length, size - start)))

    def size(self, path: str) -> int | None:
        """A plain file's size in bytes; None where there is none."""
        try:
            found = (self.root / path).stat()
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise _refused(error, self.root / path) from error
        return found.st_size if stat.S_ISREG(found.st_mode) else None

    def create(self, path: str, data: bytes) -> bool:
        """Write a file that is not there yet; False, and nothing written, where the name is taken."""
        target = self.root / path
        try:
            if target.exists():
                return False
            with self._staged(target, data, durable=True) as temporary:
                try:
                    os.link(temporary, target, follow_symlinks=False)
                except FileExistsError:
                    return False
                except OSError as error:
                    raise _unlinked(error, target) from error
            _sync(target.parent)
        except OSError as error:
            raise _refused(error, target) from error
        return True

    def replace(self, path: str, data: bytes, *, durable: bool) -> None:
        """Write a file, in place of an older one if need be; readers see one or the other, whole."""
        target = self.root / path
        try:
            with self._staged(target, data, durable=durable) as temporary:
                temporary.replace(target)
            if durable:
                _sync(target.parent)
        except OSError as error:
            raise _refused(error, target) from error

    def delete(self, path: str) -> None:
        """Remove a file; it is no error if there is none."""
        try:
            (self.root / path).unlink(missing_ok=True)
        except OSError as error:
            raise _refused(error, self.root / path) from error

    def names(self) -> list[str]:
        """The names directly below the folder; folders end in a slash.

        Raises:
            FileNotFoundError: There is no such folder.
            UsageError: It is a file, or must not be read.
        """
        try:
            with os.scandir(self.root) as found:
                return sorted(one.name + "/" * one.is_dir() for one in found)
        except FileNotFoundError:
            raise
        except OSError as error:
            raise _refused(error, self.root) from error

    def list(self, prefix: str) -> list[tuple[str, int]]:
        """(path, size) of every file below a folder, sorted by path; what is no plain file has the size -1."""
        start = self.root / prefix
        try:
            return sorted(_walk(start, prefix.rstrip("/")))
        except (FileNotFoundError, NotADirectoryError):
            return []
        except OSError as error:
            raise _refused(error, start) from error

    def modified(self, path: str) -> float | None:
        """When a file was last written or refreshed, in seconds since 1970."""
        try:
            return (self.root / path).stat(follow_symlinks=False).st_mtime
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise _refused(error, self.root / path) from error

    def refresh(self, path: str) -> bool:
        """Set a file's time of modification to now; False where there is none. Another owner's file stays as it is."""
        try:
            os.utime(self.root / path)
        except FileNotFoundError:
            return False
        except PermissionError:
            return True  # whoever may not write here may not collect here either
        except OSError as error:
            raise _refused(error, self.root / path) from error
        return True

    def set_aside(self, path: str) -> str | None:
        """Rename a file to a temporary's name beside it."""
        aside = f"{path.partition('#')[0]}#{secrets.randbelow(10**15)}"
        try:
            (self.root / path).rename(self.root / aside)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise _refused(error, self.root / path) from error
        return aside

    def put_back(self, aside: str, path: str) -> None:
        """Undo `set_aside`."""
        try:
            with contextlib.suppress(FileExistsError):
                os.link(self.root / aside, self.root / path)
            (self.root / aside).unlink(missing_ok=True)
        except OSError as error:
            raise _refused(error, self.root / path) from error

    @contextlib.contextmanager
    def exclusive(self, path: str) -> Iterator[None]:
        """Hold a lock on a file; the kernel lets go of it when the process ends."""
        target = self.root / path
        try:
            _make(target.parent)
            fd = os.open(target, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except OSError as error:
            raise _refused(error, target) from error
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            yield
        except BlockingIOError as error:
            remedy = "Wait until it is done, then run the same command again."
            raise UsageError("busy", expected=f"nobody else to hold {target}", found="another process", remedy=remedy) from error
        finally:
            os.close(fd)

    @contextlib.contextmanager
    def _opened(self, path: str) -> Iterator[tuple[int, int]]:
        target = self.root / path
        try:
            # A pipe would block the opening itself.
            fd = os.open(target, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        except (FileNotFoundError, NotADirectoryError) as error:
            raise _missing(target, "no such file") from error
        except OSError as error:
            raise _refused(error, target) from error
        try:
            found = os.fstat(fd)
            if not stat.S_ISREG(found.st_mode):
                raise _missing(target, "something that is no plain file")
            yield fd, found.st_size
        except OSError as error:
            raise _refused(error, target) from error
        finally:
            os.close(fd)

    @contextlib.contextmanager
    def _staged(self, target: Path, data: bytes, *, durable: bool) -> Iterator[Path]:
        """The data under a temporary name beside the target, gone afterwards."""
        _make(target.parent)
        temporary = target.with_name(f"{target.name}#{secrets.randbelow(10**15)}")
        try:
            fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
            with os.fdopen(fd, "wb", buffering=0) as file:
                view = memoryview(data)
                while len(view):
                    view = view[file.write(view) :]
                if durable:
                    os.fsync(fd)
            yield temporary
        finally:
            temporary.unlink(missing_ok=True)


def _make(folder: Path) -> None:
    if folder.is_dir():
        return
    _make(folder.parent)
    with contextlib.suppress(FileExistsError):
        folder.mkdir()
        _sync(folder.parent)
    if not folder.is_dir():
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(folder))


def _sync(folder: Path) -> None:
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    except OSError as error:
        # Some network file systems have no fsync of a folder; the files themselves are on disk.
        if error.errno not in {errno.EINVAL, errno.EOPNOTSUPP}:
            raise
    finally:
        os.close(fd)


def _read(fd: int, start: int, length: int) -> bytes:
    data = os.pread(fd, length, start)
    if len(data) < length:  # the kernel gives at most 2 GiB at once, and a file may have been cut meanwhile
        pieces = [data]
        while pieces[-1] and sum(map(len, pieces)) < length:
            got = sum(map(len, pieces))
            pieces.append(os.pread(fd, length - got, start + got))
        data = b"".join(pieces)
    return data


def _walk(folder: Path, path: str) -> Iterator[tuple[str, int]]:
    with os.scandir(folder) as found:
        entries = list(found)
    for entry in entries:
        name = os.fsencode(entry.name).decode("utf-8", "backslashreplace")
        below = f"{path}/{name}" if path else name
        # A ledger's own folders may be links to another disk; links further down belong to no layout.
        try:
            if entry.is_dir(follow_symlinks=not path):
                yield from _walk(Path(entry.path), below)
            else:
                yield below, _size(entry)
        except FileNotFoundError:
            continue  # another writer's temporary, gone while we looked


def _size(entry: os.DirEntry[str]) -> int:
    found = entry.stat(follow_symlinks=False)
    if stat.S_ISLNK(found.st_mode):
        with contextlib.suppress(OSError):  # a link may lead nowhere, or in a circle
            found = entry.stat()
    return found.st_size if stat.S_ISREG(found.st_mode) else -1


def _missing(target: Path, found: str) -> IntegrityError:
    return IntegrityError(
        "object_missing",
        expected=f"a file {target}",
        found=found,
        remedy="Restore it from a copy of the ledger, or scan the corpus again.",
    )


def _unlinked(error: OSError, target: Path) -> OSError | UsageError:
    if error.errno not in _NO_LINKS:
        return error
    return UsageError(
        "no_conditional_put",
        expected="a file system that can create a name only if it is free (hard links)",
        found=f"{error.strerror} at {target}",
        remedy="Put the ledger on a local disk, or in a bucket.",
    )


def _refused(error: OSError, target: Path) -> ForebearError:
    """The message for a system error at a path."""
    kind, remedy = "store_failed", "Look at the disk and its mount, then try again."
    if error.errno in _FULL:
        kind, remedy = "disk_full", "Free some space and run the same command again: finished work is taken up."
    elif error.errno in _DENIED:
        kind, remedy = "not_permitted", "Give yourself the permission, or name another folder with --ledger."
    elif error.errno in {errno.ENOTDIR, errno.EISDIR, errno.ENAMETOOLONG, errno.ELOOP}:
        kind, remedy = "not_a_ledger", "Name a folder that holds a ledger, or a new one, with --ledger."
    return UsageError(kind, expected=f"to use {target}", found=error.strerror or str(error), remedy=remedy)
