"""Advisories read back: what they make bad in the lineage, from their entry on.

Always true here: what an advisory names counts as an exposure of a class of its own, whatever detectors say; rows of a named shard
follow into the shards that runs wrote from it; a named document is bad wherever a scan saw it, and unknown where none did. The log
of a shard is read only when a dataset that lists it is asked about.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from forebear.schemas.advisory import CLASS, Advisory
from forebear.schemas.digests import digest_bytes
from forebear.schemas.enums import EntryKind, Grade
from forebear.tracer.audit.facts import ERRORED, NOT_SCANNED, RowFacts, RowGap, Usage
from forebear.tracer.audit.rows import segments_of
from forebear.tracer.audit.scans import Scans
from forebear.tracer.audit.targets import Logged, ShardDocuments, TargetRows, distinct_documents, used_rows
from forebear.tracer.lineage.graph import MODEL, Graph
from forebear.tracer.lineage.relations import GRADES, RULES

if TYPE_CHECKING:
    from forebear.tracer.ledger.ledger import Ledger

__all__ = ["Advised", "Published", "makings_of", "read_advisories"]

Ints = npt.NDArray[np.int64]
_CONTRADICTED = GRADES.index(Grade.CONTRADICTED)


@dataclass(frozen=True)
class Published:
    """An advisory as the ledger has it: its entry's number, its object, and what it says."""

    entry: int
    object: str
    advisory: Advisory

    def to_json(self) -> dict[str, Any]:
        """As the answers that it touches mention it."""
        said = {name: getattr(self.advisory, name) for name in ("reason", "authority", "time")}
        return {"entry": self.entry, "object": self.object, **said}


def read_advisories(ledger: Ledger) -> list[Published]:
    """The advisories of a ledger, oldest first."""
    entries = [(n, entry.object) for n, _, entry in ledger.entries() if entry.kind is EntryKind.ADVISORY]
    return [Published(n, name, Advisory.from_bytes(ledger.get_object(name))) for n, name in entries]


def makings_of(graph: Graph, prompts: Sequence[str]) -> list[int]:
    """Positions of the relations by which a model made something with one of some system prompts."""
    wanted, edges = set(prompts), graph.edges
    with_more = np.flatnonzero(edges.more >= 0).tolist() if wanted else []
    return [
        at
        for at in with_more
        if graph.more[edges.more[at]].get("system_prompt") in wanted
        and RULES[edges.rule[at]].parent == "model"
        and RULES[edges.rule[at]].walked
        and edges.grade[at] != _CONTRADICTED
    ]


class Advised:
    """What advisories make bad: models, makings, and rows of datasets.

    `models` and `makings` give, by position in the graph and in its edges, the entries of the advisories that name them.

    Args:
        graph: The lineage.
        scans: What runs logged.
        published: The advisories.
    """

    def __init__(self, graph: Graph, scans: Scans, published: Sequence[Published]) -> None:
        self.published = {one.entry: one for one in published}
        self.models: dict[int, set[int]] = {}
        self.makings: dict[int, set[int]] = {}
        self._graph, self._scans = graph, scans
        self._logged = ShardDocuments(scans)
        self._rows: dict[int, TargetRows] = {}
        self._documents: dict[bytes, set[int]] = {}
        for one in published:
            for name in one.advisory.models:
                for node in graph.candidates(name, kind=MODEL):
                    self.models.setdefault(node, set()).add(one.entry)
            for making in makings_of(graph, one.advisory.system_prompts):
                self.makings.setdefault(making, set()).add(one.entry)
            for document in one.advisory.documents:
                self._documents.setdefault(digest_bytes(document), set()).add(one.entry)
            if one.advisory.shards:
                rows = self._rows[one.entry] = TargetRows(graph, scans, self._logged)
                for shard in one.advisory.shards:
                    rows.add(shard, None)
        self._wanted = pa.array(list(self._documents), pa.binary(32))
        self._judged: dict[tuple[int, Usage | None], tuple[RowFacts, frozenset[int]]] = {}

    def judge(self, dataset: int, usage: Usage | None) -> tuple[RowFacts, frozenset[int]]:
        """Facts of the rows that a dataset lists (narrowed to a usage log's where one is given), and whose advisories they are."""
        key = (dataset, usage)
        if key not in self._judged:
            self._judged[key] = self._judge(dataset, usage)
        return self._judged[key]

    def _judge(self, dataset: int, usage: Usage | None) -> tuple[RowFacts, frozenset[int]]:
        if not self._rows and not self._documents:
            return RowFacts(), frozenset()
        tally = _Tally()
        for at, ranges in segments_of(self._graph, dataset, usage):
            self._add(tally, self._graph.shards[at], ranges)
        return tally.facts(), frozenset(tally.entries)

    def _add(self, tally: _Tally, shard: str, ranges: tuple[tuple[int, int], ...] | None) -> None:
        naming = [entry for entry, rows in self._rows.items() if shard in rows]
        place = self._scans.shard(shard)
        if not naming and not self._documents:
            return
        logged = self._logged(place)
        if logged is None:
            counted = None if ranges is None else sum(last - first for first, last in ranges)
            if naming:  # its digest names it, whatever stands in it
                tally.uncounted(counted, naming)
            elif self._documents:
                tally.gap(NOT_SCANNED, counted, counted)
            return
        bad = used_rows(None, len(logged.words), ranges) if naming else np.empty(0, np.int64)
        if len(bad):
            tally.entries.update(naming)
        if self._documents:
            used = used_rows(None, len(logged.words), ranges)
            bad = np.union1d(bad, self._named(tally, logged, used))
            if not naming:
                tally.gap(ERRORED, int(logged.errored[used].sum()), len(used))
        tally.add(logged, bad)

    def _named(self, tally: _Tally, logged: Logged, used: Ints) -> Ints:
        """Used rows that hold a named document."""
        documents = logged.document.take(pa.array(used))
        hit = pc.is_in(documents, value_set=self._wanted).to_numpy(zero_copy_only=False)
        for raw in documents.filter(pa.array(hit)).unique().to_pylist():
            tally.entries |= self._documents[raw]
        return np.asarray(used[hit])


class _Tally:
    """Sums over the shards of a dataset."""

    def __init__(self) -> None:
        self.entries: set[int] = set()
        self._documents: list[pa.Array] = []
        self._words = 0
        self._rows = 0
        self._unknown = (False, False)  # whether rows, and documents, could not be counted
        self._gaps: dict[str, tuple[int | None, int | None]] = {}

    def add(self, logged: Logged, rows: Ints) -> None:
        self._documents.append(logged.document.take(pa.array(rows)))
        self._words += int(logged.words[rows].sum())
        self._rows += len(rows)

    def uncounted(self, rows: int | None, entries: Sequence[int]) -> None:
        self._rows += rows or 0
        self._unknown = (self._unknown[0] or rows is None, True)
        self.entries.update(entries)

    def gap(self, why: str, rows: int | None, of: int | None) -> None:
        if rows == 0:
            return
        known = self._gaps.get(why, (0, 0))
        self._gaps[why] = (_plus(known[0], rows), _plus(known[1], of))

    def facts(self) -> RowFacts:
        counted = None if self._unknown[1] else distinct_documents(self._documents)
        return RowFacts(
            documents=counted,
            rows=None if self._unknown[0] else self._rows,
            words=None if self._unknown[1] else self._words,
            reasons={CLASS: counted} if counted else {},
            gaps=tuple(RowGap(why, rows, of) for why, (rows, of) in sorted(self._gaps.items())),
        )


def _plus(a: int | None, b: int | None) -> int | None:
    return None if a is None or b is None else a + b
