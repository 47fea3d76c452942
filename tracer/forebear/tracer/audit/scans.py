"""The runs of a ledger as arrays: which shards they scanned, which rows they flagged, which shards they wrote.

Always true here: a shard is its digest, whoever scanned or listed it; tables come hash-verified through the ledger and are read
once; the log itself is read only for the shards and columns that a question needs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from forebear.schemas.digests import digest_bytes, digest_name
from forebear.schemas.tables import CLEANED, FLAGGED, LOG, SHARDS
from forebear.tracer.audit.asked import Run

__all__ = ["Flagged", "Scans", "TableSource"]

Ints = npt.NDArray[np.int64]
_PACKS_KEPT = 16


class TableSource(Protocol):
    """Where tables come from: a ledger."""

    def read_table(self, digest: str, schema: pa.Schema, *, columns: list[str] | None = None) -> pa.Table:
        """An object as a table of a schema."""
        ...


@dataclass(frozen=True)
class Flagged:
    """Flagged and errored rows of all runs, sorted by (shard, row); `detector` is -1 for errored rows.

    `document` numbers distinct documents (a row without one has a number of its own); `source` indexes `Scans.sources`.
    """

    run: Ints
    shard: Ints
    row: Ints
    document: Ints
    source: Ints
    words: Ints
    detector: Ints
    score: Ints
    kept: npt.NDArray[np.bool_]

    def take(self, chosen: npt.NDArray[Any]) -> Flagged:
        """These rows."""
        return Flagged(**{name: column[chosen] for name, column in vars(self).items()})


class Scans:
    """All runs of a ledger, read once.

    Args:
        source: The ledger.
        runs: Its runs, oldest first.
    """

    def __init__(self, source: TableSource, runs: Sequence[Run]) -> None:
        self._source = source
        self.runs = list(runs)
        self.sources: dict[str, int] = {"": 0}
        self.detectors: dict[str, int] = {}
        self._index: dict[bytes, int] = {}
        self._documents: dict[bytes, int] = {}
        self._nameless = 0
        self._packs: dict[tuple[str, tuple[str, ...]], pa.Table] = {}
        for _, _, manifest in runs:
            for one in manifest.detectors:
                self.detectors.setdefault(one.digest, len(self.detectors))
        self._shard_tables = [self._read(manifest.shards.object, SHARDS, _SHARD_COLUMNS) for _, _, manifest in runs]
        self._cleaned_tables = [
            None if manifest.cleaned is None else self._read(manifest.cleaned.object, CLEANED, None) for _, _, manifest in runs
        ]
        self._places = [self._intern(table["shard"]) for table in self._shard_tables]
        self.derived = self._derived()
        self.names = [digest_name(raw) for raw in self._index]
        self._rows = self._row_counts()
        self._positions: dict[tuple[int, int], int] = {}
        for run, places in enumerate(self._places):
            self._positions.update(((run, shard), at) for at, shard in enumerate(places.tolist()))

    @property
    def size(self) -> int:
        """How many shards are known."""
        return len(self._index)

    @property
    def rows(self) -> Ints:
        """Rows of each shard."""
        return self._rows

    def shard(self, digest: str) -> int:
        """Position of a shard, -1 where no run scanned or wrote it."""
        return self._index.get(digest_bytes(digest), -1)

    def place(self, raw: bytes) -> int:
        """Position of a shard by its 32 raw bytes, -1 where no run scanned or wrote it."""
        return self._index.get(raw, -1)

    def find(self, prefix: str) -> list[str]:
        """Shards whose hex digits begin so."""
        return sorted(name for name in self.names if name.startswith(prefix, 7))

    def scanned(self, run: int) -> Ints:
        """Shards that a run scanned."""
        return self._places[run]

    def errored_count(self, run: int) -> Ints:
        """Errored rows of the shards that a run scanned, in the order of `scanned`."""
        return np.asarray(self._shard_tables[run]["errored"], np.int64)

    def log(self, run: int, shard: int, columns: list[str]) -> pa.Table:
        """Columns of a run's log of one shard, in row order."""
        spans = self._shard_tables[run]["log"][self._positions[run, shard]].as_py()
        parts = []
        for span in sorted(spans, key=lambda one: one["first_row"]):
            pack = self._pack(digest_name(span["pack"]), columns)
            parts.append(pack.slice(span["offset"], span["rows"]))
        wanted = pa.schema([LOG.field(name) for name in columns])
        return pa.concat_tables(parts) if parts else wanted.empty_table()

    def has(self, run: int, shard: int) -> bool:
        """Whether a run scanned a shard."""
        return (run, shard) in self._positions

    def source_number(self, name: str | None) -> int:
        """Number of a source."""
        return self.sources.setdefault(name or "", len(self.sources))

    @cached_property
    def flagged(self) -> Flagged:
        """The flagged tables of all runs."""
        tables = [self._read(manifest.flagged.object, FLAGGED, _FLAGGED_COLUMNS) for _, _, manifest in self.runs]
        run = np.repeat(np.arange(len(tables)), [len(one) for one in tables])
        table = pa.concat_tables(tables) if tables else pa.schema([FLAGGED.field(one) for one in _FLAGGED_COLUMNS]).empty_table()
        shard = self._intern(table["shard"], known=True)
        row = table["row"].to_numpy()
        found = Flagged(
            run,
            shard,
            row,
            self.document_numbers(table["document"]),
            self.source_numbers(table["source"]),
            table["words"].fill_null(0).to_numpy(),
            self._detector_numbers(table["detector"]),
            table["score"].fill_null(0).to_numpy().astype(np.int64),
            pc.equal(table["action"], "keep").to_numpy(),
        )
        return found.take(np.lexsort((row, shard)))

    @cached_property
    def kept(self) -> dict[tuple[int, int], Ints]:
        """Rows kept of (run, shard), filled by `kept_rows`."""
        return {}

    def kept_rows(self, run: int, shard: int) -> Ints:
        """Rows of a shard that a run kept, ascending: row k of what it wrote is the k-th of them."""
        found = self.kept.get((run, shard))
        if found is None:
            table = self.log(run, shard, ["row", "action"])
            keep = pc.equal(table["action"], "keep").to_numpy()
            found = self.kept[run, shard] = table["row"].to_numpy()[keep]
        return found

    def document_numbers(self, column: pa.ChunkedArray) -> Ints:
        """Distinct documents numbered; a row without one gets a number of its own, below zero."""
        encoded = _encoded(column)
        known = self._documents
        numbers = np.array([known.setdefault(raw, len(known)) for raw in encoded.dictionary.to_pylist()] or [0], np.int64)
        at = encoded.indices.fill_null(-1).to_numpy(zero_copy_only=False).astype(np.int64)
        missing = np.flatnonzero(at < 0)
        found: Ints = numbers[np.maximum(at, 0)]
        found[missing] = -1 - self._nameless - np.arange(len(missing))
        self._nameless += len(missing)
        return found

    def pack(self, digest: str, columns: list[str]) -> pa.Table:
        """Columns of a whole log pack, read anew: for looks through the whole log, which no cache would hold."""
        return self._read(digest, LOG, columns)

    def _pack(self, digest: str, columns: list[str]) -> pa.Table:
        key = (digest, tuple(columns))
        if key not in self._packs:
            while len(self._packs) >= _PACKS_KEPT:
                self._packs.pop(next(iter(self._packs)))
            self._packs[key] = self._source.read_table(digest, LOG, columns=columns)
        return self._packs[key]

    def _read(self, digest: str, schema: pa.Schema, columns: list[str] | None) -> pa.Table:
        return self._source.read_table(digest, schema, columns=columns)

    def _intern(self, column: pa.ChunkedArray, *, known: bool = False) -> Ints:
        encoded = _encoded(column)
        index = self._index
        raws = encoded.dictionary.to_pylist()
        numbers = [index[raw] if known else index.setdefault(raw, len(index)) for raw in raws]
        return np.asarray(np.array(numbers, np.int64)[encoded.indices.to_numpy()]) if raws else np.empty(0, np.int64)

    def _derived(self) -> dict[int, list[tuple[int, int]]]:
        """Shards that runs wrote -> (run, source shard), without those that are their own source."""
        found: dict[int, list[tuple[int, int]]] = {}
        for run, table in enumerate(self._cleaned_tables):
            if table is None:
                continue
            sources, shards = self._intern(table["source"]), self._intern(table["shard"])
            for source, shard in zip(sources.tolist(), shards.tolist(), strict=True):
                if source != shard:
                    found.setdefault(shard, []).append((run, source))
        return found

    def _row_counts(self) -> Ints:
        rows = np.zeros(len(self._index), np.int64)
        for places, table in zip(self._places, self._shard_tables, strict=True):
            np.maximum.at(rows, places, table["rows"].to_numpy())
        for table in self._cleaned_tables:
            if table is not None:
                np.maximum.at(rows, self._intern(table["shard"]), table["rows"].to_numpy())
        return rows

    def source_numbers(self, column: pa.ChunkedArray) -> Ints:
        """Sources numbered."""
        encoded = _encoded(column.fill_null(""))
        names = encoded.dictionary.to_pylist()
        numbers = np.array([self.source_number(name) for name in names], np.int64)
        return numbers[encoded.indices.to_numpy()] if names else np.empty(0, np.int64)

    def _detector_numbers(self, column: pa.ChunkedArray) -> Ints:
        encoded = _encoded(column.fill_null(bytes(32)))
        names = [digest_name(raw) for raw in encoded.dictionary.to_pylist()]
        numbers = np.array([self.detectors.get(name, -1) for name in names], np.int64)
        return numbers[encoded.indices.to_numpy()] if names else np.empty(0, np.int64)


_SHARD_COLUMNS = ["shard", "rows", "errored", "log"]
_FLAGGED_COLUMNS = ["shard", "row", "document", "source", "words", "action", "detector", "score"]


def _encoded(column: pa.ChunkedArray) -> pa.DictionaryArray:
    whole = pa.concat_arrays(column.chunks) if column.num_chunks else pa.array([], column.type)
    return whole.dictionary_encode()
