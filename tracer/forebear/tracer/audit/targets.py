"""Target rows: which rows a recall takes as bad, and which datasets list them.

Always true here: a target is a shard's rows by its digest, all of them or some; rows of a shard that a run wrote from it follow;
documents are found by their digest in the logs of every run.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from forebear.schemas.digests import digest_bytes, digest_name, is_digest
from forebear.schemas.errors import UsageError
from forebear.schemas.tables import LOG
from forebear.tracer.audit.facts import Usage
from forebear.tracer.audit.rows import segments_of

if TYPE_CHECKING:
    from forebear.tracer.audit.session import Session

__all__ = ["TargetRows", "find_documents", "find_shard"]

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


def find_documents(session: Session, documents: Sequence[str]) -> dict[str, Ints]:
    """Rows of scanned shards that hold some documents, by shard; log packs are read one at a time."""
    wanted = pa.array([digest_bytes(one) for one in documents], pa.binary(32))
    found: dict[str, list[int]] = {}
    for pack in dict.fromkeys(ref.object for _, _, manifest in session.runs for ref in manifest.log):
        table = session.ledger.read_table(pack, LOG, columns=["shard", "row", "document"])
        hit = table.filter(pc.is_in(table["document"], value_set=wanted))
        for shard, row in zip(hit["shard"].to_pylist(), hit["row"].to_pylist(), strict=True):
            found.setdefault(digest_name(shard), []).append(row)
    return {shard: np.unique(np.array(rows, np.int64)) for shard, rows in found.items()}


class TargetRows:
    """Rows taken as bad: added shard by shard, followed into what was written from it, looked up by dataset."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._rows: dict[str, Ints | None] = {}
        self._written: dict[int, list[tuple[int, int]]] = {}
        for shard, ways in session.scans.derived.items():
            for run, source in ways:
                self._written.setdefault(source, []).append((run, shard))

    def add(self, shard: str, rows: Ints | None) -> None:
        """Take rows of a shard (None: all) as bad, and the same rows in the shards that were written from it."""
        if shard in self._rows:
            known = self._rows[shard]
            if known is None:
                return
            rows = None if rows is None else np.union1d(known, rows)
            if rows is not None and len(rows) == len(known):
                return
        self._rows[shard] = rows
        place = self._session.scans.shard(shard)
        for run, written in self._written.get(place, ()) if place >= 0 else ():
            scans, moved = self._session.scans, None
            if rows is not None:
                kept = scans.kept_rows(run, place)
                moved = np.searchsorted(kept, rows[np.isin(rows, kept)])
            if scans.rows[written] and (moved is None or len(moved)):
                self.add(scans.names[written], moved)

    def datasets(self) -> dict[int, int | None]:
        """Datasets that list target rows -> distinct documents among them, None where no run tells."""
        graph = self._session.graph
        places = [place for one in self._rows if (place := graph.shard(one)) is not None]
        if not places:
            return {}
        listing = np.unique(graph.listed[np.isin(graph.listed[:, 1], places), 0])
        found = {dataset: self._documents(dataset, None) for dataset in listing.tolist()}
        return {dataset: documents for dataset, documents in found.items() if documents != 0}

    def narrowed(self, dataset: int, edge: int) -> int | None:
        """Distinct documents of target rows that a usage log says were read along a relation to a dataset."""
        edges = self._session.graph.edges
        return self._documents(dataset, ((int(edges.child[edge]), int(edges.stage[edge])),))

    def unscanned(self) -> list[int]:
        """Datasets that list a shard which no run scanned or wrote."""
        graph, scans = self._session.graph, self._session.scans
        missing = np.array([scans.shard(name) < 0 for name in graph.shards] or [False])
        return np.unique(graph.listed[missing[graph.listed[:, 1]], 0]).tolist() if len(graph.listed) else []

    def _documents(self, dataset: int, usage: Usage | None) -> int | None:
        """Distinct documents of the target rows that a dataset lists; None where a shard was not scanned, nor its source."""
        graph, seen, nameless = self._session.graph, set(), 0
        for place, ranges in segments_of(graph, dataset, usage):
            shard = graph.shards[place]
            if shard not in self._rows:
                continue
            logged = self._logged(self._session.scans.shard(shard))
            if logged is None:
                return None
            target = self._rows[shard]
            used = np.arange(len(logged)) if target is None else target
            if ranges is not None:
                used = used[np.any([(used >= first) & (used < last) for first, last in ranges], axis=0)]
            documents = [logged[row] for row in used.tolist()]
            nameless += documents.count(None)
            seen.update(documents)
        return len(seen - {None}) + nameless

    def _logged(self, place: int) -> list[bytes | None] | None:
        """The documents of a shard's rows, from its own scan or its source's."""
        scans = self._session.scans
        if place < 0:
            return None
        for run in range(len(scans.runs)):
            if scans.has(run, place):
                documents: list[bytes | None] = scans.log(run, place, ["document"])["document"].to_pylist()
                return documents
        for run, source in scans.derived.get(place, ()):
            whole = self._logged(source)
            if whole is not None:
                return [whole[row] for row in scans.kept_rows(run, source).tolist()]
        return None
