"""Which files a ledger consists of, and what its head may say: rules over names and bytes, without IO.

Always true here: paths derive from digests and numbers alone, never from the text of a manifest.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence, Set

from forebear.schemas.digests import digest_bytes, leaf_hash, merkle_root
from forebear.schemas.records import Head

__all__ = [
    "MAX_ENTRY",
    "MAX_HEAD",
    "entry_number",
    "entry_path",
    "first_gaps",
    "is_ignored",
    "is_prefix",
    "is_temporary",
    "object_digest",
    "object_path",
    "parse_head",
]

MAX_ENTRY = 1 << 20
"""An entry is a few hundred bytes; more than this is no entry."""
MAX_HEAD = 1 << 16

_ENTRY = re.compile(r"entries/([0-9]{12})")
_OBJECT = re.compile(r"objects/sha256/([0-9a-f]{2})/(\1[0-9a-f]{62})")
_TEMPORARY = re.compile(r"(?:head|entries/[0-9]{12}|objects/sha256/([0-9a-f]{2})/\1[0-9a-f]{62})#[0-9]+")


def object_path(digest: str) -> str:
    """Where an object lies.

    Raises:
        UsageError: The text is no digest.
    """
    name = digest_bytes(digest).hex()
    return f"objects/sha256/{name[:2]}/{name}"


def object_digest(path: str) -> str | None:
    """The digest that a path names, or None if it is no object's."""
    found = _OBJECT.fullmatch(path)
    return f"sha256:{found[2]}" if found else None


def entry_path(number: int) -> str:
    """Where the entry of a number lies: twelve digits, so that names sort as numbers."""
    return f"entries/{number:012}"


def entry_number(path: str) -> int | None:
    """The number that a path names, or None if it is no entry's."""
    found = _ENTRY.fullmatch(path)
    return int(found[1]) if found else None


def first_gaps(numbers: Set[int]) -> list[int]:
    """The first hundred numbers that are missing below the highest; more than a few are damage, however many."""
    missing = (n for n in range(max(numbers, default=-1)) if n not in numbers)
    return list(itertools.islice(missing, 100))


def is_temporary(path: str) -> bool:
    """Whether a file is what a put that was cut off leaves behind: the name it was meant for, `#` and a number."""
    return _TEMPORARY.fullmatch(path) is not None


def is_ignored(path: str) -> bool:
    """Whether a file is a cache or a job's state, which is no evidence."""
    return path.startswith(("jobs/", "index/"))


def parse_head(data: bytes) -> Head:
    """A stored head, nothing but signature lines after it.

    Raises:
        IntegrityError: `malformed_record`.
    """
    return Head.from_bytes(data)


def is_prefix(head: Head, entries: Sequence[bytes]) -> bool:
    """Whether a head is that of the first `head.size` entries."""
    return head.size <= len(entries) and head.root == merkle_root(map(leaf_hash, entries[: head.size]))
