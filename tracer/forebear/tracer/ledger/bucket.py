"""A bucket (S3, Google Cloud Storage, Azure) as a ledger's store, through `obstore`.

Always true here: creation is a conditional put that the service itself decides, so of racing writers one wins; requests are
tried again with growing pauses, long enough for half a minute's outage. Options come from the environment as `obstore` reads
it (AWS_ENDPOINT_URL, AWS_ACCESS_KEY_ID, ...); plain http is allowed only where such an endpoint asks for it.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

from forebear.schemas.errors import IntegrityError, UsageError

__all__ = ["Bucket"]

_RETRY = {
    "max_retries": 1000,  # the time is what bounds them: pauses are drawn at random and may be short
    "backoff": {"init_backoff": timedelta(seconds=0.1), "max_backoff": timedelta(seconds=5), "base": 2},
    "retry_timeout": timedelta(seconds=60),
}
_ENDPOINTS = ("AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT", "AZURE_STORAGE_ENDPOINT", "AZURE_ENDPOINT")

# What a refused listing says; `obstore` gives it no class of its own.
_DENIALS = ("AccessDenied", "403 Forbidden", "401 Unauthorized", "AuthenticationFailed")


class Bucket:
    """Bytes in a bucket below a prefix, by relative path.

    Args:
        url: s3://bucket/prefix, gs://bucket/prefix or az://container/prefix.
    """

    def __init__(self, url: str) -> None:
        from obstore.store import from_url as typed

        from_url: Any = typed
        self.url = url
        options: dict[str, Any] = {"timeout": timedelta(seconds=120), "connect_timeout": timedelta(seconds=5)}
        if any(os.environ.get(name, "").startswith("http://") for name in _ENDPOINTS):
            options["allow_http"] = True
        with self._errors(""):
            self._store: Any = from_url(url, client_options=options, retry_config=_RETRY)

    def get(self, path: str) -> bytes:
        """All bytes of an object."""
        import obstore

        with self._errors(path):
            return bytes(obstore.get(self._store, path).bytes())

    def get_range(self, path: str, start: int, length: int) -> bytes:
        """At most `length` bytes of an object, from `start` on."""
        import obstore
        from obstore.exceptions import BaseError

        if length <= 0:
            return b""
        with self._errors(path):
            try:
                return bytes(obstore.get(self._store, path, options={"range": (start, start + length)}).bytes())
            except BaseError:
                # A range that begins at the end or beyond is an error of its own to every service (HTTP 416).
                size = self.size(path)
                if size is None or start < size:
                    raise
        return b""

    def size(self, path: str) -> int | None:
        """An object's size in bytes; None where there is none."""
        import obstore

        with self._errors(path):
            try:
                return int(obstore.head(self._store, path)["size"])
            except FileNotFoundError:
                return None

    def create(self, path: str, data: bytes) -> bool:
        """Write an object that is not there yet; False, and nothing written, where the name is taken."""
        import obstore
        from obstore.exceptions import AlreadyExistsError, PreconditionError

        with self._errors(path):
            try:
                # A multipart upload cannot be conditional.
                obstore.put(self._store, path, data, mode="create", use_multipart=False)
            except (AlreadyExistsError, PreconditionError):
                return False
        return True

    def replace(self, path: str, data: bytes, *, durable: bool) -> None:  # noqa: ARG002 - a bucket is always durable
        """Write an object, in place of an older one if need be."""
        import obstore

        with self._errors(path):
            obstore.put(self._store, path, data)

    def delete(self, path: str) -> None:
        """Remove an object; it is no error if there is none."""
        import obstore

        with self._errors(path):
            try:
                obstore.delete(self._store, path)
            except FileNotFoundError:
                return

    def names(self) -> list[str]:
        """The names directly below the prefix; those with more below them end in a slash."""
        import obstore

        with self._errors(""):
            found = obstore.list_with_delimiter(self._store)
        folders = [name.rstrip("/") + "/" for name in found["common_prefixes"]]
        return sorted([*folders, *(one["path"] for one in found["objects"])])

    def list(self, prefix: str) -> list[tuple[str, int]]:
        """(path, size) of every object below a prefix, sorted by path."""
        import obstore

        with self._errors(prefix):
            found = [one for page in obstore.list(self._store, prefix or None) for one in page]
        return sorted((one["path"], int(one["size"])) for one in found)

    def modified(self, path: str) -> float | None:
        """When an object was last written, in seconds since 1970."""
        import obstore

        with self._errors(path):
            try:
                return float(obstore.head(self._store, path)["last_modified"].timestamp())
            except FileNotFoundError:
                return None

    def refresh(self, path: str) -> bool:
        """A bucket keeps no such note: whether the object is there is known already."""
        return bool(path)

    def set_aside(self, path: str) -> str | None:
        """Refused: a bucket has no rename, so a writer that has just found the object would lose it."""
        raise UsageError(
            "not_in_a_bucket",
            expected="a ledger in a folder, where an orphan can be set aside before it is removed",
            found=self.url,
            remedy=f"Look at what `forebear gc --dry-run` lists; remove {path} by hand while nobody writes to the ledger.",
        )

    def put_back(self, aside: str, path: str) -> None:
        """Nothing was set aside."""
        raise AssertionError((aside, path))

    @contextmanager
    def exclusive(self, path: str) -> Iterator[None]:  # noqa: ARG002 - nothing is removed from a bucket
        """No lock: nothing is removed from a bucket."""
        yield

    @contextmanager
    def _errors(self, path: str) -> Iterator[None]:
        from obstore.exceptions import BaseError, NotSupportedError, PermissionDeniedError, UnauthenticatedError

        where = f"{self.url.rstrip('/')}/{path}"
        credentials = "Set the credentials of the bucket in the environment, with the right to list, read and write."
        try:
            yield
        except FileNotFoundError as error:
            raise IntegrityError(
                "object_missing",
                expected=f"an object {where}",
                found="none",
                remedy="Restore it from a copy of the ledger, or scan the corpus again.",
            ) from error
        except (PermissionDeniedError, UnauthenticatedError, PermissionError) as error:
            raise UsageError("not_permitted", expected=f"to use {where}", found=_line(error), remedy=credentials) from error
        except (NotSupportedError, NotImplementedError) as error:
            remedy = "Use a service with conditional puts (S3, Google Cloud Storage, Azure, MinIO), or a local folder."
            expected = f"{where} to be created only where it is not"
            raise UsageError("no_conditional_put", expected=expected, found=_line(error), remedy=remedy) from error
        except (BaseError, OSError, ValueError) as error:
            kind, remedy = "store_unreachable", "Check the URL, the endpoint and the network, then run the same command again."
            if any(word in str(error) for word in _DENIALS):
                kind, remedy = "not_permitted", credentials
            raise UsageError(kind, expected=f"to use {where}", found=_line(error), remedy=remedy) from error


def _line(error: BaseException) -> str:
    return f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0][:300]}"
