"""The ledger: immutable objects named by digest, an append-only list of entries, and the head, which is a hint.

Always true here: bytes of an object are hashed each time they are read, in the very buffer that is then used; an entry is
created by a conditional put of the next number, so writers form one order and none is lost; the entries are the truth and the
head follows them. Write order: objects, entry, head. Nothing is appended to a list that is damaged.
"""

from __future__ import annotations

import os
import random
import re
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa

from forebear.schemas.digests import digest_name, leaf_hash, merkle_root, sha256_name
from forebear.schemas.enums import EntryKind
from forebear.schemas.errors import IntegrityError, UsageError
from forebear.schemas.records import Entry, Head, RunManifest
from forebear.schemas.tables import LOG, read_parquet
from forebear.tracer.ledger.layout import MAX_ENTRY, MAX_HEAD, entry_number, entry_path, first_gaps, is_prefix, object_path, parse_head
from forebear.tracer.ledger.notes import sign_head
from forebear.tracer.ledger.store import Store

if TYPE_CHECKING:
    from forebear.tracer.ledger.keys import PrivateKey

__all__ = ["Ledger"]

_PREFIX = re.compile(r"[0-9a-f]{12,64}")
_ATTEMPTS = 1000  # conflicts with other writers before an append gives up: each means that another one landed


class Ledger:
    """A ledger in a store; made by `Ledger.open`.

    Args:
        store: Where its bytes lie.
        limit: How many entries are looked at; None for all there are.
        signer: Signs the heads that this writer puts; None: they are not signed.
    """

    def __init__(self, store: Store, *, limit: int | None = None, signer: PrivateKey | None = None) -> None:
        self.signer = signer
        self.store = store
        self.limit = limit
        self._entries: list[tuple[int, bytes, Entry]] = []
        self._manifests: dict[str, RunManifest] = {}

    @classmethod
    def open(cls, url: str | Path, *, create: bool = False) -> Ledger:
        """The ledger at a path or URL; with `create`, one that begins with its first write.

        Where FOREBEAR_KEY names a private key's file, heads are signed with it.

        Raises:
            UsageError: There is no ledger, or something else is there.
        """
        return cls(Store.open(url, create=create), signer=_signer(os.environ.get("FOREBEAR_KEY")))

    def at(self, head_size: int) -> Ledger:
        """The ledger as of an older head: the first `head_size` entries.

        Raises:
            UsageError: There are not that many.
        """
        there = len(self.entries())
        if not 0 <= head_size <= there:
            raise UsageError(
                "unknown_head",
                expected=f"a head of 0 to {there} entries",
                found=str(head_size),
                remedy="Give the size of a head that this ledger has had.",
            )
        return Ledger(self.store, limit=head_size)

    # Objects

    def put_object(self, data: bytes) -> str:
        """Store bytes under their digest; the same bytes again cost a look.

        Raises:
            IntegrityError: Other bytes lie under that name.
        """
        name = sha256_name(data)
        path = object_path(name)
        there = self.store.size(path)
        if there == len(data) and not self.store.refresh(path):
            there = None  # `gc` set it aside meanwhile
        if there is None and not self.store.put_new(path, data):
            there = self.store.size(path)
        if there not in {None, len(data)}:
            raise IntegrityError(
                "size_mismatch",
                expected=f"{len(data)} bytes in {name}",
                found=f"{there} bytes",
                remedy=f"The object is damaged: remove {path} and run again, which writes it anew.",
            )
        return name

    def get_object(self, digest: str) -> bytes:
        """The bytes of an object, hashed as they were read.

        Raises:
            IntegrityError: `object_missing`, or `digest_mismatch`.
        """
        data = self.store.get(object_path(digest))
        found = sha256_name(data)
        if found != digest:
            raise IntegrityError(
                "digest_mismatch",
                expected=digest,
                found=f"{found} ({len(data)} bytes)",
                remedy="Restore the object from a copy of the ledger, or remove it and scan again.",
            )
        return data

    def read_table(self, digest: str, schema: pa.Schema, *, columns: list[str] | None = None) -> pa.Table:
        """An object as a table of a schema, digest and page checksums verified.

        Raises:
            IntegrityError: It is missing, damaged, or no such table.
        """
        data = self.get_object(digest)
        try:
            return read_parquet(data, schema, columns=columns)
        except (OSError, ValueError, pa.ArrowException) as error:
            raise IntegrityError(
                "unreadable_table",
                expected=f"Parquet with the columns {schema.names} in {digest}",
                found=str(error)[:300],
                remedy="It was written so: scan again with this version of forebear, and tell who wrote it.",
            ) from error

    def read_log(self, ref_digest: str, *, columns: list[str] | None = None) -> pa.Table:
        """A log pack."""
        return self.read_table(ref_digest, LOG, columns=columns)

    # Entries

    def entries(self) -> list[tuple[int, bytes, Entry]]:
        """(number, bytes, entry) of the contiguous entries from 0; what was read once is not read again.

        Raises:
            IntegrityError: An entry is malformed, or entries follow a hole.
        """
        known = self._entries
        numbers = self._numbers() if self.limit is None or len(known) < self.limit else []
        stop = _contiguous(numbers) if numbers else len(known)
        for n in range(len(known), stop if self.limit is None else min(stop, self.limit)):
            data = self.store.get_range(entry_path(n), 0, MAX_ENTRY + 1)
            known.append((n, data, Entry.from_bytes(data)))
        return list(known)

    def head(self) -> Head:
        """The head, recomputed from the entries."""
        return _head(self.entries())

    def stored_head(self) -> Head | None:
        """The head as it is stored, or None where there is none.

        Raises:
            IntegrityError: It is malformed.
        """
        data = self._head_bytes()
        return None if data is None else parse_head(data)

    def append(self, entry: Entry) -> Head:
        """Add an entry whose object is stored, and move the head on.

        Returns: The head right after this entry.

        Raises:
            IntegrityError: The object is missing, or the list of entries is damaged or shorter than its head.
        """
        assert self.limit is None, "a view of an older head takes no entries"
        if self.store.size(object_path(entry.object)) is None:
            raise IntegrityError(
                "object_missing",
                expected=f"the object {entry.object} of a new {entry.kind} entry",
                found="none in the ledger",
                remedy="Store the object first.",
            )
        data = entry.to_bytes()
        for attempt in range(_ATTEMPTS):
            n = len(self._sound_entries())
            # The head first catches up, so that a writer killed here leaves it at most one entry behind.
            self._advance_head()
            if self.store.put_new(entry_path(n), data) or self._is_ours(n, data):
                self._advance_head()
                return _head(self.entries()[: n + 1])
            time.sleep(random.uniform(0, min(0.2, 0.002 * (attempt + 1))))  # noqa: S311 - jitter, no secret
        raise UsageError(
            "too_busy",
            expected=f"a free number for an entry within {_ATTEMPTS} attempts",
            found="another writer was always first",
            remedy="Run the command again.",
        )

    def _is_ours(self, n: int, data: bytes) -> bool:
        """Whether the conflicting entry is the very one: a bucket may create it and lose the answer."""
        return self.store.local_path("head") is None and self.store.get(entry_path(n)) == data

    def _sound_entries(self) -> list[tuple[int, bytes, Entry]]:
        """The entries, unless the stored head knows of more or of others: adding to those would hide a loss."""
        try:
            stored = self.stored_head()  # before the entries: others may append meanwhile
        except IntegrityError:
            stored = None  # unreadable: the entries are the truth, and it is written anew
        entries = self.entries()
        if stored is not None and not is_prefix(stored, [data for _, data, _ in entries]):
            raise IntegrityError(
                "head_inconsistent",
                expected=f"the {stored.size} entries with root {digest_name(stored.root)} that the head names",
                found=f"{len(entries)} entries with another root",
                remedy="Restore the entries from a copy; or, to accept the loss, remove the file `head`.",
            )
        return entries

    def _advance_head(self) -> None:
        """Write the head of the entries there are, until no newer ones are seen; never an older over a newer."""
        while True:
            entries = self.entries()
            data = self._head_bytes()
            try:
                stored = parse_head(data) if data is not None else None
            except IntegrityError:
                stored = None
            if not entries or (stored is not None and stored.size >= len(entries)):
                return
            # A slower writer may still put an older head after this; so it looks again once it has.
            self.store.put("head", self._note(_head(entries)))

    def sign_head(self) -> Head:
        """Put the head of the entries there are, signed; an unsigned one of the same size is replaced.

        Raises:
            IntegrityError: The entries are damaged, or not those of the stored head.
        """
        assert self.signer is not None, "signing takes a key"
        head = _head(self._sound_entries())
        self.store.put("head", self._note(head))
        self._advance_head()
        return head

    def catch_up(self) -> None:
        """Move the stored head on to the entries there are: a writer may have been killed between the two."""
        self._advance_head()

    def stored_note(self) -> bytes | None:
        """The bytes of the stored head, with its signatures."""
        return self._head_bytes()

    def _note(self, head: Head) -> bytes:
        return head.to_bytes() if self.signer is None else sign_head(head, self.signer)

    def _head_bytes(self) -> bytes | None:
        try:
            return self.store.get_range("head", 0, MAX_HEAD + 1)
        except IntegrityError:
            return None  # there is none

    def _numbers(self) -> list[int]:
        found = {n for path, _ in self.store.list("entries") if (n := entry_number(path)) is not None}
        # A listing is no snapshot: one that others write to meanwhile may show a later entry and not an earlier one.
        return sorted(found | {n for n in first_gaps(found) if self.store.size(entry_path(n)) is not None})

    # Runs

    def run_entries(self) -> list[tuple[int, Entry]]:
        """(number, entry) of the entries that add a run."""
        return [(n, entry) for n, _, entry in self.entries() if entry.kind is EntryKind.RUN]

    def manifest(self, digest: str) -> RunManifest:
        """A run's manifest by its digest.

        Raises:
            IntegrityError: It is missing, damaged or malformed.
        """
        if digest not in self._manifests:
            self._manifests[digest] = RunManifest.from_bytes(self.get_object(digest))
        return self._manifests[digest]

    def runs(self) -> list[tuple[int, str, RunManifest]]:
        """(entry number, manifest digest, manifest) of every run, oldest first."""
        return [(n, entry.object, self.manifest(entry.object)) for n, entry in self.run_entries()]

    def find_run(self, text: str) -> tuple[int, str, RunManifest]:
        """The run that a digest names: its manifest's or its run digest, whole or 12 hex digits and more.

        Where several runs have the same run digest (the same scan again), it is the newest.

        Raises:
            UsageError: `unknown_run`, or `ambiguous_run` with the candidates.
        """
        prefix = text.removeprefix("sha256:").lower()
        runs = self.runs() if _PREFIX.fullmatch(prefix) else []
        found = [run for run in runs if prefix in (run[1][7 : 7 + len(prefix)], run[2].run_digest[7 : 7 + len(prefix)])]
        if len({manifest.run_digest for _, _, manifest in found}) > 1:
            raise UsageError(
                "ambiguous_run",
                expected="one run",
                found=", ".join(sorted({digest for _, digest, _ in found})),
                remedy="Give more digits.",
            )
        if not found:
            raise UsageError(
                "unknown_run",
                expected="the digest of a run, or at least its first 12 hex digits",
                found=repr(text[:80]),
                remedy="`forebear runs` lists those of this ledger.",
            )
        return found[-1]


def _signer(path: str | None) -> PrivateKey | None:
    if not path:
        return None
    from forebear.tracer.ledger.keys import load_private

    return load_private(path)


def _head(entries: list[tuple[int, bytes, Entry]]) -> Head:
    return Head(len(entries), merkle_root(leaf_hash(data) for _, data, _ in entries))


def _contiguous(numbers: list[int]) -> int:
    """How many entries there are, unless one is missing between others."""
    if numbers != list(range(len(numbers))):
        hole = next(n for n, number in enumerate(numbers) if n != number)
        raise IntegrityError(
            "entry_missing",
            expected=f"{entry_path(hole)}, for there are later ones",
            found="none",
            remedy="Restore the entry from a copy of the ledger.",
        )
    return len(numbers)
