"""Verification: whether a ledger still is what was written.

Always true here: nothing is changed, nothing is fetched that a manifest names by anything but a digest, and damage becomes
findings, never an exception. `quick` looks at entries, head, manifests, presence and sizes; `full` hashes every object and
derives everything again from the log; `sample` hashes a share of the objects. One log pack is in memory at a time.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from forebear.schemas.canonical import canonical_json, parse_json
from forebear.schemas.digests import digest_name, is_digest, leaf_hash, merkle_root
from forebear.schemas.enums import EntryKind
from forebear.schemas.errors import ForebearError, IntegrityError, UsageError
from forebear.schemas.records import Entry, Head, ObjectRef, RunManifest
from forebear.schemas.tables import BANDS, CLEANED, FLAGGED, LOG, SHARDS
from forebear.tracer.ledger.findings import Findings, VerifyReport
from forebear.tracer.ledger.heads import check_head, check_signature, check_since
from forebear.tracer.ledger.keepers import KEEPER_COLUMNS
from forebear.tracer.ledger.key_records import KeyRecord
from forebear.tracer.ledger.layout import (
    MAX_ENTRY,
    MAX_HEAD,
    entry_number,
    entry_path,
    first_gaps,
    is_ignored,
    is_temporary,
    object_digest,
    object_path,
)
from forebear.tracer.ledger.ledger import Ledger
from forebear.tracer.ledger.reconcile import RunCheck, manifest_refs, require_shape
from forebear.tracer.ledger.run_facts import run_absence_root, run_facts

if TYPE_CHECKING:
    from forebear.tracer.ledger.keys import PublicKey

__all__ = ["LEVELS", "VerifyReport", "verify"]

LEVELS = ("quick", "sample", "full")
_CHUNK = 8 << 20
_SMALL_RECORD = 16 << 20


def verify(
    ledger: Ledger,
    *,
    level: str = "quick",
    sample: tuple[int, int] | None = None,
    since: Head | None = None,
    key: PublicKey | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> VerifyReport:
    """Check a whole ledger.

    Args:
        level: quick, full, or sample.
        sample: (n, of): which of how many equal shares of the objects are hashed; with level sample.
        since: A head remembered elsewhere, which the entries must continue.
        key: The key, from outside, by which (or by one that it handed over to) the head must be signed.
        progress: Called with (objects looked at, objects in all).

    Raises:
        UsageError: No such level or sample, or the store cannot be read at all.
    """
    if level not in LEVELS or (level == "sample") != (sample is not None) or (sample and not 0 < sample[0] <= sample[1]):
        raise UsageError(
            "unknown_level",
            expected="quick, full, or sample with a share such as 1/10",
            found=f"{level} {sample or ''}".strip(),
            remedy="Use --quick, --full or --sample N/T.",
        )
    return _Verification(ledger, level, sample=sample, progress=progress).report(since, key)


@dataclass(frozen=True)
class _Listing:
    """What the store holds, by what it is."""

    objects: Mapping[str, int]
    entries: Mapping[int, int]


class _Verification:
    """The course of one verification."""

    def __init__(
        self,
        ledger: Ledger,
        level: str,
        *,
        sample: tuple[int, int] | None,
        progress: Callable[[int, int], None] | None,
    ) -> None:
        self.ledger = ledger
        self.store = ledger.store
        self.level = level
        self.sample = sample
        self.found = Findings()
        self.referenced: set[str] = set()
        self.hashed: dict[str, int] = {}
        self.rows = 0
        # Against the order of writing (objects, entry, head), so that a scan in progress looks like no damage.
        self.head = self._head_bytes()
        self.listing = self._listed(self._numbers())
        self._progress = progress

    def report(self, since: Head | None, key: PublicKey | None) -> VerifyReport:
        """Look at everything, in the order in which readers trust it: entries, head, objects."""
        entries = self._entries()
        raw = [data for data, _ in entries]
        check_head(self.head, raw, self.found)
        records = self._key_records(entries)
        said = [] if since is None else [check_since(since, raw, self.found)]
        if key is not None:
            said.append(check_signature(self.head, raw, key, records=records, found=self.found))
        authentic = all(said) if said else None
        runs = [run for _, entry in entries if entry is not None for run in self._entry(entry)]
        self._facts(entries, dict(runs))
        for digest, manifest in runs:
            self._run(digest, manifest)
        self._orphans()
        self._say_what_was_not_looked_at()
        head = Head(len(raw), merkle_root(map(leaf_hash, raw))).to_json()
        looked = self.referenced if self.level == "quick" else set(self.hashed)
        checked = {"objects": len(looked), "bytes": sum(self.hashed.values()), "rows": self.rows}
        return VerifyReport(self.level, checked, head, authentic, tuple(self.found.findings), tuple(self.found.notes))

    # Names

    def _head_bytes(self) -> bytes | None:
        try:
            return self.store.get_range("head", 0, MAX_HEAD + 1)
        except IntegrityError:
            return None

    def _numbers(self) -> dict[int, int]:
        listed = ((entry_number(path), size) for path, size in self.store.list("entries"))
        found = {number: size for number, size in listed if number is not None and size >= 0}
        # A listing is no snapshot: it may show a later entry and not an earlier one.
        for n in first_gaps(found.keys()):
            if (size := self.store.size(entry_path(n))) is not None:
                found[n] = size
        return found

    def _listed(self, entries: Mapping[int, int]) -> _Listing:
        objects: dict[str, int] = {}
        temporaries = []
        for path, size in self.store.list(""):
            digest = object_digest(path)
            if is_ignored(path):
                continue
            if size >= 0 and digest is not None:
                objects[digest] = size
            elif size >= 0 and (path == "head" or entry_number(path) is not None):
                continue
            elif is_temporary(path):
                temporaries.append(path)
            else:
                self.found.add(
                    path,
                    "extra_file",
                    expected="nothing but entries, objects and the head",
                    found=f"{size} bytes" if size >= 0 else "something that is no plain file",
                    remedy="Move it out of the ledger; forebear did not write it under this name.",
                )
        if temporaries:
            found = f"{len(temporaries)} left by writes that were cut off, such as {temporaries[0]}"
            self.found.note("objects", "temporaries", expected="none", found=found, remedy="`forebear gc` removes them.")
        return _Listing(objects, entries)

    # Entries

    def _entries(self) -> list[tuple[bytes, Entry | None]]:
        numbers = sorted(self.listing.entries)
        if numbers != list(range(len(numbers))):
            hole = next(n for n, number in enumerate(numbers) if n != number)
            self.found.add(entry_path(hole), "entry_missing", expected=f"an entry, for there is one of number {numbers[-1]}", found="none")
        entries: list[tuple[bytes, Entry | None]] = []
        for n in range(len(numbers)):
            if n not in self.listing.entries:
                break
            entries.append(self._entry_at(n))
        # What follows a hole is no part of the ledger, but its objects are not orphans either.
        for n in numbers[len(entries) :]:
            _, entry = self._entry_at(n)
            if entry is not None:
                self._entry(entry)
        return entries

    def _entry_at(self, n: int) -> tuple[bytes, Entry | None]:
        data = b""
        try:
            data = self.store.get_range(entry_path(n), 0, MAX_ENTRY + 1)
            return data, Entry.from_bytes(data)
        except ForebearError as error:
            self.found.add_error(entry_path(n), error)
            return data, None

    def _key_records(self, entries: Sequence[tuple[bytes, Entry | None]]) -> list[tuple[int, KeyRecord]]:
        """Key records by entry number; what is missing or malformed is said elsewhere, or here."""
        records = []
        for n, (_, entry) in enumerate(entries):
            if entry is None or entry.kind is not EntryKind.KEY or entry.object not in self.listing.objects:
                continue
            try:
                records.append((n, KeyRecord.from_bytes(self.ledger.get_object(entry.object))))
            except ForebearError as error:
                self.found.add_error(entry.object, error)
        return records

    # What entries name

    def _entry(self, entry: Entry) -> Iterator[tuple[str, RunManifest]] | list[tuple[str, RunManifest]]:
        """Check an entry's object; gives the run that it adds, if it adds one."""
        known = entry.object in self.referenced
        if not self._present(entry.object, None):
            return []
        if entry.kind is EntryKind.RUN:
            return self._manifest(entry.object)
        # An entry does not say how large its record is, so only its bytes can tell whether it is whole.
        small = self.listing.objects[entry.object] <= _SMALL_RECORD
        if not known and (small or self._is_looked_at(entry.object)):
            self._document(entry.object)
        return []

    def _manifest(self, digest: str) -> list[tuple[str, RunManifest]]:
        data = self._read(digest)
        if data is None:
            return []
        try:
            manifest = RunManifest.from_bytes(data)
            require_shape(manifest)
        except IntegrityError as error:
            self.found.add_error(digest, error)
            return []
        for ref in manifest_refs(manifest):
            self._present(ref.object, ref.bytes)
        return [(digest, manifest)]

    def _facts(self, entries: Sequence[tuple[bytes, Entry | None]], runs: Mapping[str, RunManifest]) -> None:
        """What entries say of their runs in the facts that proofs rest on."""
        for n, (_, entry) in enumerate(entries):
            if entry is None or entry.kind is not EntryKind.RUN or entry.object not in runs:
                continue
            expected = run_facts(runs[entry.object])
            said = {name: entry.facts[name] for name in expected if name in entry.facts}
            wanted = {name: value for name, value in expected.items() if name in said}
            self.found.compare(entry_path(n), "facts_mismatch", expected=wanted, found=said)

    def _document(self, digest: str) -> None:
        """A record that is no run: canonical JSON; objects that it refers to, as {"object", "bytes"}, must be there."""
        data = self._read(digest)
        if data is None:
            return
        try:
            value = parse_json(data)
            if canonical_json(value) != data:
                raise ValueError("not in canonical form")
        except (ValueError, TypeError, RecursionError) as error:
            self.found.add(digest, "malformed_record", expected="canonical JSON", found=f"{type(error).__name__}: {error}")
            return
        for name, size in _references(value):
            if self._present(name, size) and self._is_looked_at(name):
                self._read(name)

    def _present(self, digest: str, size: int | None) -> bool:
        """Whether an object is there, in its size (where that is known)."""
        self.referenced.add(digest)
        there = self.listing.objects.get(digest)
        if there is None:
            expected = "an object" if size is None else f"an object of {size} bytes"
            self.found.add(digest, "object_missing", expected=expected, found="none")
            return False
        if (size is not None and there != size) or there == 0:
            expected = "a record" if size is None else f"{size} bytes"
            self.found.add(digest, "size_mismatch", expected=expected, found=f"{there} bytes")
            return False
        return True

    # Bytes

    def _is_looked_at(self, digest: str) -> bool:
        if self.level == "sample" and self.sample is not None:
            return int(digest[7:22], 16) % self.sample[1] == self.sample[0] - 1
        return self.level == "full"

    def _read(self, digest: str) -> bytes | None:
        """An object's bytes, or None and a finding."""
        try:
            data = self.ledger.get_object(digest)
        except ForebearError as error:
            self.found.add_error(digest, error)
            self.hashed.setdefault(digest, 0)
            return None
        self.hashed[digest] = len(data)
        self._tell()
        return data

    def _table(self, ref: ObjectRef, schema: pa.Schema, columns: list[str] | None = None) -> pa.Table | None:
        if self.listing.objects.get(ref.object) != ref.bytes:
            return None  # said already
        try:
            table = self.ledger.read_table(ref.object, schema, columns=columns)
        except ForebearError as error:
            self.found.add_error(ref.object, error)
            self.hashed.setdefault(ref.object, 0)
            return None
        self.hashed[ref.object] = ref.bytes
        self._tell()
        return table

    def _tell(self) -> None:
        if self._progress is not None:
            self._progress(len(self.hashed), len(self.listing.objects))

    # Runs

    def _run(self, digest: str, manifest: RunManifest) -> None:
        if self.level == "sample":
            for ref, schema in _tables(manifest):
                if self._is_looked_at(ref.object) and (table := self._table(ref, schema)) is not None:
                    self.rows += table.num_rows if schema is LOG else 0
        if self.level == "full":
            self._run_in_full(RunCheck(digest, manifest, self.found))

    def _run_in_full(self, check: RunCheck) -> None:
        for ref, schema in _tables(check.manifest):
            table = self._table(ref, schema)
            if table is None:
                check.lose(ref)
            elif schema is LOG:
                check.log(ref, table)
                self.rows += table.num_rows
            elif schema is SHARDS:
                check.shards(table)
            elif schema is BANDS:
                check.bands(ref, table)
            elif schema is FLAGGED:
                check.flagged(table)
            else:
                check.cleaned(ref, table)
        check.finish()
        self._absence(check)
        self._keepers(check)

    def _absence(self, check: RunCheck) -> None:
        """The tree over the run's documents, where the manifest has its root."""
        manifest = check.manifest
        if manifest.absence_root is None or check.lost:
            return
        try:
            root = digest_name(run_absence_root(self.ledger, manifest))
        except ForebearError:
            return  # said already
        self.found.compare(check.run, "absence_root_mismatch", expected=manifest.absence_root, found=root)

    def _keepers(self, check: RunCheck) -> None:
        """Look the keepers up: in the run's own log, then in those of the runs it was held against."""
        if check.lost:
            return
        refs = {ref.object: ref for ref in check.manifest.log}
        for pack in check.packs_of(check.keepers.shards()):
            table = self._table(refs[pack], LOG, KEEPER_COLUMNS)
            if table is not None:
                check.keepers.resolve(table)
        for run in check.manifest.against:
            self._resolve_against(run, check)
        check.keepers.finish()

    def _resolve_against(self, run: str, check: RunCheck) -> None:
        wanted = check.keepers.shards()
        try:
            _, _, other = self.ledger.find_run(run)
            shards = self.ledger.read_table(other.shards.object, SHARDS, columns=["shard", "log"]).to_pylist() if wanted else []
            packs = {place["pack"] for row in shards if digest_name(row["shard"]) in wanted for place in row["log"]}
            for pack in sorted(packs):
                check.keepers.resolve(self.ledger.read_log(digest_name(pack), columns=KEEPER_COLUMNS))
        except ForebearError as error:
            self.found.add_error(check.run, error)

    # The rest

    def _orphans(self) -> None:
        orphans = sorted(self.listing.objects.keys() - self.referenced)
        sound = 0
        for digest in orphans:
            if self._is_looked_at(digest) and not self._is_named_rightly(digest):
                continue
            sound += 1
        if sound:
            size = sum(self.listing.objects[digest] for digest in orphans)
            found = f"{sound} objects, {size} bytes, such as {orphans[0]}"
            self.found.note(
                "objects",
                "orphans",
                expected="objects that an entry leads to",
                found=found,
                remedy="They are no evidence. `forebear gc` removes what no scan in progress may need.",
            )

    def _is_named_rightly(self, digest: str) -> bool:
        state, start = hashlib.sha256(), 0
        try:
            while chunk := self.store.get_range(object_path(digest), start, _CHUNK):
                state.update(chunk)
                start += len(chunk)
        except ForebearError as error:
            self.found.add_error(digest, error)
            return False
        self.hashed[digest] = start
        name = digest_name(state.digest())
        remedy = "No entry leads to it: move it out of the ledger."
        return self.found.compare(digest, "digest_mismatch", expected=digest, found=name, remedy=remedy)

    def _say_what_was_not_looked_at(self) -> None:
        left = len(self.listing.objects) - len(self.hashed.keys() & self.listing.objects.keys())
        if self.level != "full" and left:
            what = f"{left} of {len(self.listing.objects)} objects looked at by name and size alone; nothing derived again"
            self.found.note("objects", "not_hashed", expected="every byte hashed", found=what, remedy="Use --full for all of it.")


def _tables(manifest: RunManifest) -> Iterator[tuple[ObjectRef, pa.Schema]]:
    """The tables of a run, shards first, for the others are compared with them."""
    yield manifest.shards, SHARDS
    yield from ((ref, LOG) for ref in manifest.log)
    yield from ((ref, BANDS) for ref in manifest.bands)
    yield manifest.flagged, FLAGGED
    if manifest.cleaned is not None:
        yield manifest.cleaned, CLEANED


def _references(value: Any) -> Iterator[tuple[str, int]]:
    """Objects that a record refers to: mappings with `object`, a digest, and `bytes`, a size."""
    stack = [value]
    while stack:
        one = stack.pop()
        if isinstance(one, dict):
            name, size = one.get("object"), one.get("bytes")
            if isinstance(name, str) and is_digest(name) and type(size) is int:
                yield name, size
            stack.extend(one.values())
        elif isinstance(one, list):
            stack.extend(one)
