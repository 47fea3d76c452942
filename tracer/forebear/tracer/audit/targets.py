"""Target rows: which rows a recall takes as bad, and which datasets list them.

Always true here: a target is a shard's rows by its digest, all of them or some; rows of a shard that a run wrote from it follow;
documents are found by their digest in the logs of every run.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from forebear.schemas.digests import digest_bytes, digest_name, is_digest
from forebear.schemas.enums import Action
from forebear.schemas.errors import UsageError
from forebear.tracer.audit.facts import Usage
from forebear.tracer.audit.rows import segments_of
from forebear.tracer.audit.scans import Scans
from forebear.tracer.lineage.graph import Graph

if TYPE_CHECKING:
    from forebear.tracer.audit.session import Session

__all__ = ["Logged", "ShardDocuments", "TargetRows", "distinct_documents", "find_documents", "find_shard", "used_rows"]

Ints = npt.NDArray[np.int64]


def find_shard(session: Session, text: str) -> str:
    """A shard's digest from a file, a digest or a prefix.

    Raises:
        UsageError: Neither a run nor a lineage entry knows it, or several are meant.
    """
    graph, scans = session.graph, session.scans
    if Path(text).is_file():
        with Path(text).open("rb") as file:
            digest = digest_name(hashlib.file_digest(file, "sha256").digest())
        found = [digest] if graph.shard(digest) is not None or scans.shard(digest) >= 0 else []
    elif is_digest(text):
        found = [text] if graph.shard(text) is not None or scans.shard(text) >= 0 else []
    else:
        prefix = text.removeprefix("sha256:")
        known = {*scans.find(prefix), *(one for one in graph.shards if one.startswith(prefix, 7))} if len(prefix) >= 12 else set()
        found = sorted(known)
    if len(found) == 1:
        return found[0]
    raise UsageError(
        "ambiguous_shard" if found else "unknown_shard",
        expected="a shard that a run scanned or a record lists: file, digest or prefix of 12 hex digits",
        found=f"{text!r}" + (f" could be {', '.join(found[:5])}" if found else ""),
        remedy="Give the whole digest." if found else "Scan it, or link the record that lists it.",
    )


def find_documents(scans: Scans, documents: Sequence[str]) -> dict[str, Ints]:
    """Rows of scanned shards that hold some documents, by shard; log packs are read one at a time."""
    wanted = pa.array([digest_bytes(one) for one in documents], pa.binary(32))
    found: dict[str, list[int]] = {}
    for pack in dict.fromkeys(ref.object for _, _, manifest in scans.runs for ref in manifest.log):
        table = scans.pack(pack, ["shard", "row", "document"])
        hit = table.filter(pc.is_in(table["document"], value_set=wanted))
        for shard, row in zip(hit["shard"].to_pylist(), hit["row"].to_pylist(), strict=True):
            found.setdefault(digest_name(shard), []).append(row)
    return {shard: np.unique(np.array(rows, np.int64)) for shard, rows in found.items()}


@dataclass(frozen=True)
class Logged:
    """What is known of a shard's rows, n of them: documents (32 bytes or null), words, and rows that errored without a document."""

    document: pa.Array
    words: Ints
    errored: npt.NDArray[np.bool_]


class ShardDocuments:
    """The documents of shards, from their own scans and, for a shard that a run wrote, from its source's rows that were kept."""

    def __init__(self, scans: Scans) -> None:
        self._scans = scans
        self._known: dict[int, Logged | None] = {}
        self._open: set[int] = set()

    def __call__(self, place: int) -> Logged | None:
        """What is known of a shard's rows; None where neither it nor a source of it was scanned."""
        if place < 0 or place in self._open:
            return None
        if place not in self._known:
            self._open.add(place)
            found = self._read(place)
            self._open.discard(place)
            if self._open:  # inside a cycle of derivations an answer is not whole yet
                return found
            self._known[place] = found
        return self._known[place]

    def _read(self, place: int) -> Logged | None:
        scans, found = self._scans, None
        for run in range(len(scans.runs)):
            if scans.has(run, place):
                table = scans.log(run, place, ["document", "words", "action"])
                document = table["document"].combine_chunks()
                errored = pc.and_(document.is_null(), pc.equal(table["action"].combine_chunks(), Action.ERROR.value))
                words = table["words"].fill_null(0).to_numpy()
                found = _filled(found, Logged(document, words, errored.to_numpy(zero_copy_only=False)))
        for run, source in scans.derived.get(place, ()):
            if found is not None and not found.document.null_count:
                break
            if (whole := self(source)) is not None:
                kept = scans.kept_rows(run, source)
                found = _filled(found, Logged(whole.document.take(pa.array(kept)), whole.words[kept], whole.errored[kept]))
        return found


def _filled(known: Logged | None, more: Logged) -> Logged:
    """Two accounts of the same rows: a document that either has is known."""
    if known is None:
        return more
    document = pc.coalesce(known.document, more.document)
    there = document.is_valid().to_numpy(zero_copy_only=False)
    return Logged(document, np.maximum(known.words, more.words), (known.errored | more.errored) & ~there)


class TargetRows:
    """Rows taken as bad: added shard by shard, followed into what was written from it, looked up by dataset."""

    def __init__(self, graph: Graph, scans: Scans, documents: ShardDocuments | None = None) -> None:
        self._graph, self._scans = graph, scans
        self._documents_of = documents or ShardDocuments(scans)
        self._rows: dict[str, Ints | None] = {}
        self._written: dict[int, list[tuple[int, int]]] = {}
        for shard, ways in scans.derived.items():
            for run, source in ways:
                self._written.setdefault(source, []).append((run, shard))

    def add(self, shard: str, rows: Ints | None) -> None:
        """Take rows of a shard (None: all) as bad, and the same rows in the shards that were written from it."""
        todo: list[tuple[str, Ints | None]] = [(shard, rows)]
        while todo:  # chains of shards written from one another may be long
            shard, rows = todo.pop()
            if shard in self._rows:
                known = self._rows[shard]
                if known is None:
                    continue
                rows = None if rows is None else np.union1d(known, rows)
                if rows is not None and len(rows) == len(known):
                    continue
            self._rows[shard] = rows
            place = self._scans.shard(shard)
            for run, written in self._written.get(place, ()) if place >= 0 else ():
                scans, moved = self._scans, None
                if rows is not None:
                    kept = scans.kept_rows(run, place)
                    moved = np.searchsorted(kept, rows[np.isin(rows, kept)])
                if scans.rows[written] and (moved is None or len(moved)):
                    todo.append((scans.names[written], moved))

    def __contains__(self, shard: str) -> bool:
        return shard in self._rows

    def rows(self, shard: str) -> Ints | None:
        """Target rows of a shard that is one; None: all of them."""
        return self._rows[shard]

    def datasets(self) -> dict[int, int | None]:
        """Datasets that list target rows -> distinct documents among them, None where no run tells."""
        graph = self._graph
        places = [place for one in self._rows if (place := graph.shard(one)) is not None]
        if not places:
            return {}
        listing = np.unique(graph.listed[np.isin(graph.listed[:, 1], places), 0])
        found = {dataset: self._documents(dataset, None) for dataset in listing.tolist()}
        return {dataset: documents for dataset, documents in found.items() if documents != 0}

    def narrowed(self, dataset: int, edge: int) -> int | None:
        """Distinct documents of target rows that a usage log says were read along a relation to a dataset."""
        edges = self._graph.edges
        return self._documents(dataset, ((int(edges.child[edge]), int(edges.stage[edge])),))

    def unscanned(self) -> list[int]:
        """Datasets that list a shard which no run scanned or wrote."""
        graph, scans = self._graph, self._scans
        missing = np.array([scans.shard(name) < 0 for name in graph.shards] or [False])
        return np.unique(graph.listed[missing[graph.listed[:, 1]], 0]).tolist() if len(graph.listed) else []

    def _documents(self, dataset: int, usage: Usage | None) -> int | None:
        """Distinct documents of the target rows that a dataset lists; None where a shard was not scanned, nor its source."""
        graph, parts = self._graph, []
        for place, ranges in segments_of(graph, dataset, usage):
            shard = graph.shards[place]
            if shard not in self._rows:
                continue
            logged = self._documents_of(self._scans.shard(shard))
            if logged is None:
                return None
            parts.append(logged.document.take(pa.array(used_rows(self._rows[shard], len(logged.words), ranges))))
        return distinct_documents(parts)


def distinct_documents(parts: list[pa.Array]) -> int:
    """How many different documents there are; each row without one is one of its own."""
    documents = pa.chunked_array(parts, pa.binary(32))
    distinct: int = pc.count_distinct(documents, mode="only_valid").as_py()
    return distinct + int(documents.null_count)


def used_rows(target: Ints | None, size: int, ranges: tuple[tuple[int, int], ...] | None) -> Ints:
    """Target rows (None: all `size` of them) that lie in some ranges (None: everywhere)."""
    used = np.arange(size) if target is None else target
    if ranges is None:
        return used
    hit = np.zeros(len(used), "?")
    for first, last in ranges:
        hit |= (used >= first) & (used < last)
    return used[hit]
