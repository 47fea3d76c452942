"""Removed near-duplicates beside their keepers, with their texts, read from the sources: what a person looks at before trusting a run.

Always true here: which pairs are shown depends on the run alone; texts are read from the sources and stay outside the ledger; a source that
is gone or not what was scanned gives no text, and says so.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from forebear.schemas.digests import digest_name
from forebear.schemas.enums import Reason
from forebear.schemas.errors import DataError
from forebear.schemas.records import RunManifest
from forebear.schemas.tables import SHARDS
from forebear.tracer.corpus.inputs import ReaderOptions
from forebear.tracer.corpus.rows import Source, read_texts
from forebear.tracer.ledger.ledger import Ledger
from forebear.tracer.scan.against import earlier_reader

__all__ = ["Pair", "Side", "removed_pairs"]

_COLUMNS = ["shard", "row", "document", "source_id", "reasons", "keeper_document", "keeper_shard", "keeper_row"]
_COLUMNS += ["intersection", "union_size"]


@dataclass(frozen=True)
class Side:
    """One document of a pair; `why` says why there is no text."""

    shard: str
    row: int
    document: str
    path: str | None
    text: str | None
    why: str | None


@dataclass(frozen=True)
class Pair:
    """A removed document and the one it was removed for."""

    removed: Side
    keeper: Side
    intersection: int
    union: int

    @property
    def jaccard(self) -> float:
        """Measured similarity."""
        return self.intersection / self.union


def removed_pairs(ledger: Ledger, run: str, *, count: int) -> tuple[list[Pair], int]:
    """Near-duplicates of a run spread evenly over their similarities, the least similar first, and how many there are in all.

    Raises:
        UsageError: There is no such run.
    """
    _, digest, manifest = ledger.find_run(run)
    rows = _chosen(ledger, manifest, count)
    total = manifest.reasons.get(Reason.NEAR_DUPLICATE.value, 0)
    sources = _Sources(ledger, digest, manifest)
    wanted = [(row["shard"], row["row"], row["document"]) for row in rows]
    wanted += [(row["keeper_shard"], row["keeper_row"], row["keeper_document"]) for row in rows]
    sides = sources.sides([(digest_name(shard), row, digest_name(document)) for shard, row, document in wanted])
    pairs = zip(rows, sides[: len(rows)], sides[len(rows) :], strict=True)
    return [Pair(removed, keeper, row["intersection"], row["union_size"]) for row, removed, keeper in pairs], total


def _chosen(ledger: Ledger, manifest: RunManifest, count: int) -> list[dict[str, Any]]:
    """Rows spread evenly over the order of (similarity, document, shard, row); one log pack is in memory at a time."""
    keys: list[tuple[np.ndarray[Any, Any], int]] = []
    for n, ref in enumerate(manifest.log):
        near = _near(ledger.read_log(ref.object, columns=_COLUMNS))
        keys.append((near["intersection"].to_numpy() / np.maximum(1, near["union_size"].to_numpy()), n))
    similarity = np.concatenate([np.zeros(0), *(part for part, _ in keys)])
    pack = np.repeat([n for _, n in keys], [len(part) for part, _ in keys]).astype("i8")
    at = np.concatenate([np.zeros(0, "i8"), *(np.arange(len(part)) for part, _ in keys)])
    order = np.lexsort((at, pack, similarity))
    places = order[np.unique(np.linspace(0, len(order) - 1, min(count, len(order))).round().astype("i8"))] if len(order) else order
    found: dict[int, dict[str, Any]] = {}
    for n in np.unique(pack[places]).tolist():
        near = _near(ledger.read_log(manifest.log[n].object, columns=_COLUMNS))
        mine = places[pack[places] == n]
        found |= dict(zip(mine.tolist(), near.take(pa.array(at[mine])).to_pylist(), strict=True))
    return [found[place] for place in places.tolist()]


def _near(log: pa.Table) -> pa.Table:
    lists = log["reasons"].combine_chunks()
    near = pc.equal(lists.flatten(), Reason.NEAR_DUPLICATE.value).to_numpy(zero_copy_only=False)
    mask = np.zeros(log.num_rows, dtype=bool)
    mask[pc.list_parent_indices(lists).to_numpy(zero_copy_only=False)[near]] = True
    return log.filter(pa.array(mask & log["keeper_row"].is_valid().to_numpy()))


class _Sources:
    """Where the shards of a run, and of those it was held against, lie, and how they were read."""

    def __init__(self, ledger: Ledger, digest: str, manifest: RunManifest) -> None:
        runs = [(digest, manifest), *(ledger.find_run(run)[1:] for run in manifest.against)]
        self._shards: dict[str, tuple[str, ReaderOptions]] = {}
        for name, one in reversed(runs):
            table = ledger.read_table(one.shards.object, SHARDS, columns=["shard", "paths"])
            reader = earlier_reader(name, ledger)
            self._shards |= {digest_name(row["shard"]): (row["paths"][0], reader) for row in table.to_pylist()}

    def sides(self, wanted: Sequence[tuple[str, int, str]]) -> list[Side]:
        """(shard, row, document) with their texts, each shard opened once."""
        texts: dict[tuple[str, int], str | None] = {}
        why: dict[str, str] = {}
        for shard in sorted({shard for shard, _, _ in wanted}):
            rows = np.array(sorted({row for name, row, _ in wanted if name == shard}), dtype="i8")
            try:
                texts |= {(shard, row): text for row, text in self._texts(shard, rows)}
            except DataError as error:
                why[shard] = str(error)
        return [Side(shard, row, document, self._path(shard), texts.get((shard, row)), why.get(shard)) for shard, row, document in wanted]

    def _path(self, shard: str) -> str | None:
        known: Mapping[str, tuple[str, ReaderOptions]] = self._shards
        return known[shard][0] if shard in known else None

    def _texts(self, shard: str, rows: np.ndarray[Any, Any]) -> Iterator[tuple[int, str]]:
        path, reader = self._shards[shard]
        source = Source.from_path(path, expected=shard)
        for numbers, texts in read_texts(source, options=reader, wanted=rows):
            yield from zip(numbers.tolist(), texts.to_pylist(), strict=True)
