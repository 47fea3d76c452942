"""Where a ledger's bytes lie: a folder or a bucket, behind one set of verbs.

Always true here: objects, entries and whatever else is evidence are created once and never replaced or removed; only the head,
jobs and the index may be. A place that holds something else than a ledger is refused before anything is written there.
"""

from __future__ import annotations

import re
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Protocol
from urllib.parse import unquote, urlsplit

from forebear.schemas.errors import UsageError
from forebear.tracer.ledger.bucket import Bucket
from forebear.tracer.ledger.folder import Folder
from forebear.tracer.ledger.layout import is_temporary

__all__ = ["Store"]

_BUCKETS = frozenset({"s3", "s3a", "gs", "az", "azure", "adl", "abfs", "abfss"})
_FOLDERS = frozenset({"entries/", "index/", "jobs/", "objects/"})
_ENTRY = re.compile(r"[0-9]{12}")


class _Backend(Protocol):
    def get(self, path: str) -> bytes: ...
    def get_range(self, path: str, start: int, length: int) -> bytes: ...
    def size(self, path: str) -> int | None: ...
    def create(self, path: str, data: bytes) -> bool: ...
    def replace(self, path: str, data: bytes, *, durable: bool) -> None: ...
    def delete(self, path: str) -> None: ...
    def names(self) -> list[str]: ...
    def list(self, prefix: str) -> list[tuple[str, int]]: ...
    def modified(self, path: str) -> float | None: ...
    def refresh(self, path: str) -> bool: ...
    def set_aside(self, path: str) -> str | None: ...
    def put_back(self, aside: str, path: str) -> None: ...
    def exclusive(self, path: str) -> AbstractContextManager[None]: ...


class Store:
    """Bytes by relative path; made by `Store.open`. Pickles as its URL, so workers may be handed one."""

    def __init__(self, url: str, backend: _Backend) -> None:
        self.url = url
        self._backend = backend

    @classmethod
    def open(cls, url: str | Path, *, create: bool = False) -> Store:
        """The store at a local path or a file://, s3://, gs:// or az:// URL.

        Args:
            url: Where; options of buckets come from the environment.
            create: Whether a place with nothing in it will do: a ledger begins there with the first write.

        Raises:
            UsageError: There is no ledger, something else is there, or it must not be read.
        """
        store = cls._at(str(url))
        _require_ledger(store, create=create)
        return store

    @classmethod
    def _at(cls, url: str) -> Store:
        scheme = urlsplit(url).scheme.lower() if "://" in url else ""
        if scheme in _BUCKETS:
            return cls(url, Bucket(url))
        if scheme not in {"", "file"}:
            raise UsageError(
                "unknown_store",
                expected="a folder, or a URL that begins with file://, s3://, gs:// or az://",
                found=repr(url[:200]),
                remedy="Name one with --ledger.",
            )
        path = Path(unquote(urlsplit(url).path) if scheme else url).absolute()
        return cls(str(path), Folder(path))

    def __reduce__(self) -> tuple[object, ...]:
        return _reopened, (self.url,)

    def __repr__(self) -> str:
        return f"Store({self.url!r})"

    def get(self, path: str) -> bytes:
        """All bytes at a path.

        Raises:
            IntegrityError: `object_missing`.
            UsageError: The place cannot be read.
        """
        return self._backend.get(_checked(path))

    def get_range(self, path: str, start: int, length: int) -> bytes:
        """At most `length` bytes from `start` on; fewer where the end comes first."""
        return self._backend.get_range(_checked(path), start, length)

    def size(self, path: str) -> int | None:
        """The size in bytes, or None where there is nothing (or no plain file)."""
        return self._backend.size(_checked(path))

    def put_new(self, path: str, data: bytes) -> bool:
        """Create a path; False where it exists, whatever it holds. Of racing writers exactly one gets True.

        The bytes are on disk, under this name, when it returns.
        """
        return self._backend.create(_checked(path), data)

    def put(self, path: str, data: bytes) -> None:
        """Write a path that may be replaced: the head, or one under jobs/ or index/."""
        assert _is_replaceable(path), f"{path} is evidence: it is created once"
        self._backend.replace(_checked(path), data, durable=not path.startswith("index/"))

    def delete(self, path: str) -> None:
        """Remove a path under jobs/ or index/."""
        assert _is_replaceable(path) and path != "head", f"{path} is evidence: it is never removed"
        self._backend.delete(_checked(path))

    def names(self) -> list[str]:
        """The names at the top; folders end in a slash."""
        return self._backend.names()

    def list(self, prefix: str) -> list[tuple[str, int]]:
        """(path, size) of everything below a prefix such as ``entries/`` (all with an empty one), sorted by path."""
        return self._backend.list(_checked(prefix.rstrip("/")) + "/" if prefix.rstrip("/") else "")

    def modified(self, path: str) -> float | None:
        """When a path was last put, or found by a put, in seconds since 1970; None where there is nothing."""
        return self._backend.modified(_checked(path))

    def refresh(self, path: str) -> bool:
        """Note that a path has been put again, so that `gc` takes it for young; False where it is not there any more."""
        return self._backend.refresh(_checked(path))

    def set_aside(self, path: str) -> str | None:
        """Give an orphan or a temporary the name of a temporary; None where it is not there any more."""
        return self._backend.set_aside(_checked(path))

    def put_back(self, aside: str, path: str) -> None:
        """Give what was set aside its name again, unless another writer has written it anew."""
        self._backend.put_back(_checked(aside), _checked(path))

    def exclusive(self, path: str) -> AbstractContextManager[None]:
        """Hold a lock that ends with this process at the latest; a second holder is refused."""
        assert path.startswith("jobs/"), "a lock is no evidence"
        return self._backend.exclusive(_checked(path))

    def discard(self, aside: str) -> None:
        """Remove a temporary."""
        assert is_temporary(aside), f"{aside} is evidence: it is never removed"
        self._backend.delete(_checked(aside))

    def local_path(self, path: str) -> Path | None:
        """Where a path lies on this machine's disk, or None for a bucket."""
        return self._backend.root / _checked(path) if isinstance(self._backend, Folder) else None


def _reopened(url: str) -> Store:
    return Store._at(url)


def _is_replaceable(path: str) -> bool:
    return path == "head" or path.startswith(("jobs/", "index/"))


def _checked(path: str) -> str:
    # Paths are made from digests, numbers and job names alone; none may climb out of the ledger.
    if not path or any(part in {"", ".", ".."} for part in path.split("/")) or "\0" in path or "\\" in path:
        raise UsageError(
            "not_a_path",
            expected="a relative path inside the ledger",
            found=repr(path[:200]),
            remedy="Report this as a bug: paths are derived from digests.",
        )
    return path


def _require_ledger(store: Store, *, create: bool) -> None:
    """Refuse a place that holds something else; `jobs/` or `index/` alone is a first scan that was killed."""
    try:
        names = store.names()
    except FileNotFoundError:
        names = []
    if not names:
        if create:
            return
        raise UsageError(
            "no_ledger",
            expected=f"a ledger at {store.url}",
            found="nothing",
            remedy="Name one with --ledger or FOREBEAR_LEDGER; `forebear scan` begins a new one.",
        )
    if not _is_ledger(store, names):
        raise UsageError(
            "not_a_ledger",
            expected=f"a ledger, or nothing yet, at {store.url}",
            found=f"other things, such as {names[0][:100]!r}",
            remedy="Name a ledger, or a new or empty folder, with --ledger.",
        )


def _is_ledger(store: Store, names: list[str]) -> bool:
    own = _FOLDERS | {"head"}
    if all(name.partition("#")[0] in own for name in names):
        return True
    # A ledger with foreign files beside it still opens (`verify` names them), but only on evidence that it is one.
    if "head" in names and store.get_range("head", 0, 64).startswith(b"forebear/ledger/"):
        return True
    if "entries/" in names and any(_ENTRY.fullmatch(path.rpartition("/")[2]) for path, _ in store.list("entries")):
        return True
    return "objects/" in names and any(path.startswith("objects/sha256/") for path, _ in store.list("objects"))
