"""Recall: from known-bad rows down to every model that they reached.

Always true here: it is the walk of `trace` with every target row taken as bad, gone the other way, so the two agree; each model
is settled once at its worst channel, so a whole graph is one pass. Rows of a shard that a run wrote are rows of its source.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from forebear.schemas.digests import is_digest
from forebear.schemas.enums import Grade, Relation, Verdict
from forebear.schemas.errors import UsageError
from forebear.schemas.records import Head
from forebear.tracer.audit.answer import Node, Step, Unknown
from forebear.tracer.audit.facts import CONTRADICTED, NO_SHARDS, OPEN, Usage
from forebear.tracer.audit.rows import Segments, segments_of
from forebear.tracer.lineage.graph import DATASET, MODEL, Graph
from forebear.tracer.lineage.relations import CAPS, CHANNELS, GRADES, RULES

if TYPE_CHECKING:
    from forebear.tracer.audit.family import Families
    from forebear.tracer.audit.session import Session

__all__ = ["Reached", "Recalled", "impact", "reach"]

Ints = npt.NDArray[np.int64]
_LISTED_UNKNOWN = 1000
_CONTRADICTED_GRADE = GRADES.index(Grade.CONTRADICTED)
_CONTENT = CAPS.index(Verdict.CONTENT_POSSIBLE)
_RULE_CAP = np.array([0 if rule.cap is None else CAPS.index(rule.cap) for rule in RULES])
_OTHER_CAP = np.array([-1 if rule.unrelated_cap is None else CAPS.index(rule.unrelated_cap) for rule in RULES])
_WALKED = np.array([rule.walked for rule in RULES])
_FROM_DATASET = np.array([rule.parent == "dataset" for rule in RULES])
_TO_DATASET = np.array([rule.child == "dataset" for rule in RULES])
_TRAINED = next(n for n, rule in enumerate(RULES) if rule.relation is Relation.TRAINED_ON)

_Met = tuple[int, bool, int, int]
"""(dataset, whether any mode will do, cap, maker whose family decides or -1): how a dataset must be met to count."""


@dataclass(frozen=True)
class Reached:
    """A model that target rows reached, by its worst channel; `path` leads to the ancestor that consumed them."""

    model: Node
    cap: int
    documents: int | None
    dataset: Node
    path: tuple[Step, ...]

    def to_json(self) -> dict[str, Any]:
        """As CONTRACT's recall has it."""
        found: dict[str, Any] = {**self.model.to_json(), "channel": CHANNELS[self.cap].value, "verdict": CAPS[self.cap].value}
        found |= {"documents": self.documents, "match": "exact", "dataset": self.dataset.name or self.dataset.id}
        return {**found, "path": [one.to_json() for one in self.path]}


@dataclass(frozen=True)
class Recalled:
    """The answer of an impact or a recall."""

    target: tuple[str, ...]
    models: tuple[Reached, ...]
    unknown: tuple[Unknown, ...]
    omitted: int

    @property
    def complete(self) -> bool:
        """Nothing is unknown."""
        return not self.unknown

    @property
    def exit_code(self) -> int:
        """1 any model reached; else 2 anything unknown; else 0."""
        return 1 if self.models else 2 if self.unknown else 0

    def to_json(self, head: Head) -> dict[str, Any]:
        """As CONTRACT's recall has it."""
        found: dict[str, Any] = {"schema": "forebear/recall/1", "target": list(self.target), "complete": self.complete}
        found |= {"head": head.to_json(), "models": [one.to_json() for one in self.models]}
        found |= {"unknown": [one.to_json() for one in self.unknown]}
        return {**found, "omitted": self.omitted} if self.omitted else found


def impact(session: Session, shards: Sequence[str]) -> Recalled:
    """Every model that some shards reached.

    Args:
        session: The ledger.
        shards: Files, digests or prefixes of known digests.

    Raises:
        UsageError: A shard that neither a run nor a lineage entry knows.
    """
    targets = tuple(dict.fromkeys(_resolve(session, one) for one in shards))
    rows = _Targets(session, _written_from(session, targets))
    reached = reach(session.graph, session.families, rows.hits(), narrowed=rows.narrowed)
    unknown, omitted = _unknown(session.graph)
    return Recalled(targets, tuple(reached), tuple(unknown), omitted)


def _resolve(session: Session, text: str) -> str:
    """A shard's digest from a file, a digest or a prefix."""
    import hashlib

    graph, scans = session.graph, session.scans
    if Path(text).is_file():
        with Path(text).open("rb") as file:
            digest = "sha256:" + hashlib.file_digest(file, "sha256").hexdigest()
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


def _written_from(session: Session, targets: Sequence[str]) -> set[str]:
    """The targets, and every shard with rows that a run wrote from one of them."""
    scans = session.scans
    written: dict[int, list[int]] = {}
    for shard, ways in scans.derived.items():
        for _, source in ways:
            written.setdefault(source, []).append(shard)
    found, todo = set(targets), [place for one in targets if (place := scans.shard(one)) >= 0]
    while todo:
        for shard in written.get(todo.pop(), ()):
            if scans.rows[shard] and scans.names[shard] not in found:
                found.add(scans.names[shard])
                todo.append(shard)
    return found


class _Targets:
    """Target rows: all rows of some shards."""

    def __init__(self, session: Session, shards: set[str]) -> None:
        self._session = session
        self._places = {place for one in shards if (place := session.graph.shard(one)) is not None}

    def hits(self) -> dict[int, int | None]:
        """Datasets that list target rows -> distinct documents among them, None where no run tells."""
        graph = self._session.graph
        if not self._places:
            return {}
        listing = np.unique(graph.listed[np.isin(graph.listed[:, 1], list(self._places)), 0])
        found = {dataset: self._documents(dataset, None) for dataset in listing.tolist()}
        return {dataset: documents for dataset, documents in found.items() if documents != 0}

    def narrowed(self, dataset: int, edge: int) -> int | None:
        """Distinct documents of target rows that a usage log says were read along a relation to a dataset."""
        edges = self._session.graph.edges
        return self._documents(dataset, ((int(edges.child[edge]), int(edges.stage[edge])),))

    def _documents(self, dataset: int, usage: Usage | None) -> int | None:
        segments = segments_of(self._session.graph, dataset, usage)
        return _documents(self._session, [(shard, ranges) for shard, ranges in segments if shard in self._places])


def _documents(session: Session, used: Segments) -> int | None:
    """Distinct documents of used rows; None where a shard was not scanned, nor its source."""
    scans, rowless = session.scans, 0
    seen: set[bytes | None] = set()
    for shard, ranges in used:
        logged = _logged_documents(session, scans.shard(session.graph.shards[shard]))
        if logged is None:
            return None
        rows = range(len(logged)) if ranges is None else [n for a, b in ranges for n in range(a, min(b, len(logged)))]
        rowless += sum(1 for n in rows if logged[n] is None)
        seen.update(logged[n] for n in rows if logged[n] is not None)
    return len(seen) + rowless


def _logged_documents(session: Session, place: int) -> list[bytes | None] | None:
    scans = session.scans
    if place < 0:
        return None
    for run in range(len(scans.runs)):
        if scans.has(run, place):
            documents: list[bytes | None] = scans.log(run, place, ["document"])["document"].to_pylist()
            return documents
    for run, source in scans.derived.get(place, ()):
        whole = _logged_documents(session, source)
        if whole is not None:
            return [whole[row] for row in scans.kept_rows(run, source).tolist()]
    return None


def reach(
    graph: Graph,
    families: Families,
    hits: Mapping[int, int | None],
    *,
    narrowed: Callable[[int, int], int | None] | None = None,
) -> list[Reached]:
    """Every model that rows of some datasets reach, by its worst channel.

    Args:
        graph: The lineage.
        families: Who may share weights with whom.
        hits: Datasets that hold target rows -> documents among them.
        narrowed: Documents of target rows of a dataset that a usage log says were read along an edge.

    Returns: Models, worst channel first, then by number of edges and id.
    """
    return _Reach(graph, families, hits, narrowed=narrowed or (lambda dataset, _: hits[dataset])).run()


class _Reach:
    """One pass from datasets down: models are settled cap by cap, and within a cap by number of edges."""

    def __init__(
        self,
        graph: Graph,
        families: Families,
        hits: Mapping[int, int | None],
        *,
        narrowed: Callable[[int, int], int | None],
    ) -> None:
        self._graph, self._families, self._narrowed = graph, families, narrowed
        self._origins = sorted(hits.items())  # (dataset, documents) that arrive; a narrowed use adds one of its own
        size = len(graph.ids)
        self._cap = np.full(size, len(CAPS), np.int64)
        self._next = np.full(size, -1, np.int64)  # the model that it was reached through, -1: it consumed
        self._edge = np.full(size, -1, np.int64)  # the edge to it, -1: see _between
        self._hit = np.full(size, -1, np.int64)  # which of _origins arrived
        self._level = np.zeros(size, np.int64)
        self._between: dict[int, tuple[int, ...]] = {}  # edges over datasets from a model to the next
        self._buckets: list[list[tuple[Ints, Ints, Ints, Ints]]] = [[] for _ in CAPS]
        self._seen: set[tuple[_Met, int]] = set()
        edges = graph.edges
        self._passing = _WALKED[edges.rule] & (edges.grade != _CONTRADICTED_GRADE)
        order = np.argsort(edges.parent, kind="stable")
        self._order = order
        self._bounds = np.searchsorted(edges.parent[order], np.arange(size + 1))

    def run(self) -> list[Reached]:
        for hit, (dataset, _) in enumerate(list(self._origins)):
            self._down_datasets((dataset, False, 0, -1), came_from=-1, hit=hit, edges=())
        for cap in range(len(CAPS)):
            while self._buckets[cap]:
                self._settle(cap)
        return self._answer()

    def _settle(self, cap: int) -> None:
        """Give every model that waits at a cap its place, and pass on from those that are new."""
        waiting, self._buckets[cap] = self._buckets[cap], []
        models, nexts, edges, hits = (np.concatenate(column) for column in zip(*waiting, strict=True))
        free = self._cap[models] > cap
        models, nexts, edges, hits = models[free], nexts[free], edges[free], hits[free]
        order = np.lexsort((edges, nexts, models))
        models, first = np.unique(models[order], return_index=True)
        chosen = order[first]
        self._cap[models] = cap
        self._next[models], self._edge[models], self._hit[models] = nexts[chosen], edges[chosen], hits[chosen]
        self._level[models] = np.where(nexts[chosen] >= 0, self._level[nexts[chosen]] + 1, 0)
        self._down_models(models, cap)

    def _down_models(self, models: Ints, cap: int) -> None:
        """From settled models to their children."""
        graph = self._graph
        at = self._edges_to(models)
        at = at[self._passing[at]]
        rule = graph.edges.rule[at]
        plain = ~_TO_DATASET[rule] & (_OTHER_CAP[rule] < 0)
        self._push(at[plain], np.maximum(cap, _RULE_CAP[rule[plain]]))
        for edge in at[~plain].tolist():
            number, child, parent = int(graph.edges.rule[edge]), int(graph.edges.child[edge]), int(graph.edges.parent[edge])
            passes, other = int(_RULE_CAP[number]), int(_OTHER_CAP[number])
            if not _TO_DATASET[number]:
                passes = other if self._families.unrelated(child, parent) else passes
                self._push(np.array([edge]), np.array([max(cap, passes)]))
                continue
            maker = parent if other >= 0 and max(cap, passes) < other else -1
            state: _Met = (child, True, max(cap, passes), maker)
            self._down_datasets(state, came_from=parent, hit=int(self._hit[parent]), edges=(edge,))

    def _down_datasets(self, state: _Met, *, came_from: int, hit: int, edges: tuple[int, ...]) -> None:
        """From a dataset to whoever consumed it, directly or through what was made of it."""
        graph, todo = self._graph, deque([(state, edges)])
        while todo:
            state, edges = todo.popleft()
            dataset, any_mode, cap, maker = state
            # Which target rows they are matters only where a usage log may leave them out.
            key = (state, -1 if any_mode else hit)
            if key in self._seen:
                continue
            self._seen.add(key)
            at = self._edges_to(np.array([dataset]))
            at = at[self._passing[at]]
            rules = graph.edges.rule[at]
            consumers = at[rules == _TRAINED]
            if not any_mode:  # its very bytes were consumed, so a usage log may tell which
                consumers = self._narrow(consumers, cap, hit)
            self._consumers(consumers, cap, maker, came_from, hit, edges)
            for edge in at[_FROM_DATASET[rules] & _TO_DATASET[rules]].tolist():
                rule, child = RULES[graph.edges.rule[edge]], int(graph.edges.child[edge])
                below = (edge, *edges)
                if rule.cap is not None:
                    todo.append(((child, True, max(cap, CAPS.index(rule.cap)), -1), below))
                elif any_mode:
                    todo.append(((child, True, cap, maker), below))
                elif rule.mode == "kept" and not len(graph.listed_of(child)):
                    todo.append(((child, False, cap, maker), below))

    def _narrow(self, at: Ints, cap: int, hit: int) -> Ints:
        """Consumers without a usage log; those with one are reached by what it says was read, if anything."""
        edges, usage = self._graph.edges, self._graph.usage
        logged = [n for n in np.flatnonzero(edges.complete[at]).tolist() if self._use(int(at[n])) in usage]
        for edge in at[logged].tolist():
            dataset = self._origins[hit][0]
            documents = self._narrowed(dataset, edge)
            if documents != 0:
                self._origins.append((dataset, documents))
                self._consumers(np.array([edge]), cap, -1, -1, len(self._origins) - 1, ())
        return np.delete(at, logged)

    def _use(self, edge: int) -> tuple[int, int]:
        return int(self._graph.edges.child[edge]), int(self._graph.edges.stage[edge])

    def _consumers(self, at: Ints, cap: int, maker: int, came_from: int, hit: int, edges: tuple[int, ...]) -> None:
        if not len(at):
            return
        models = self._graph.edges.child[at]
        caps = np.full(len(models), cap)
        if maker >= 0:
            caps = np.array([_CONTENT if self._families.unrelated(one, maker) else cap for one in models.tolist()])
        for model, edge, one in zip(models.tolist(), at.tolist(), caps.tolist(), strict=True) if came_from >= 0 else ():
            if self._cap[model] > one:
                self._between.setdefault(self._key(model, one, came_from), (edge, *edges))
        for one in np.unique(caps).tolist():
            mine = models[caps == one]
            wide = np.full(len(mine), came_from)
            self._buckets[one].append((mine, wide, np.full(len(mine), -1), np.full(len(mine), hit)))

    def _key(self, model: int, cap: int, came_from: int) -> int:
        return (model * len(CAPS) + cap) * (len(self._graph.ids) + 1) + came_from

    def _push(self, at: Ints, caps: Ints) -> None:
        edges = self._graph.edges
        for cap in np.unique(caps).tolist():
            mine = at[caps == cap]
            parents = edges.parent[mine]
            self._buckets[cap].append((edges.child[mine], parents, mine, self._hit[parents]))

    def _edges_to(self, nodes: Ints) -> Ints:
        starts = self._bounds[nodes]
        counts = self._bounds[nodes + 1] - starts
        at = np.repeat(starts - np.append(0, np.cumsum(counts)[:-1]), counts) + np.arange(counts.sum())
        return np.asarray(self._order[at])

    def _answer(self) -> list[Reached]:
        graph = self._graph
        found = np.flatnonzero(self._cap < len(CAPS)).tolist()
        found.sort(key=lambda one: (self._cap[one], self._level[one], graph.ids[one]))
        origins = [(Node(graph.name(dataset), graph.ids[dataset]), documents) for dataset, documents in self._origins]
        answer = []
        for one in found:
            dataset, documents = origins[self._hit[one]]
            node = Node(graph.name(one), graph.ids[one])
            answer.append(Reached(node, int(self._cap[one]), documents, dataset, tuple(self._path(one))))
        return answer

    def _path(self, model: int) -> list[Step]:
        graph, steps = self._graph, []
        while self._next[model] >= 0:
            following, edge = int(self._next[model]), int(self._edge[model])
            key = self._key(model, int(self._cap[model]), following)
            for one in (edge,) if edge >= 0 else self._between[key]:
                relation = RULES[graph.edges.rule[one]].relation.value
                steps.append(Step(relation, graph.ids[graph.edges.child[one]], graph.ids[graph.edges.parent[one]]))
            model = following
        return steps


def _unknown(graph: Graph) -> tuple[list[Unknown], int]:
    """What nobody can tell of, in the whole graph, capped; and how many were left out."""
    edges, size = graph.edges, len(graph.ids)
    pointed = np.zeros(size, "?")
    pointed[edges.parent[_WALKED[edges.rule]]] = True
    matters = pointed | (graph.kind == MODEL)
    parts = np.zeros(size, "?")
    kept = np.array([rule.mode == "kept" for rule in RULES])
    parts[edges.child[kept[edges.rule] & (edges.grade != _CONTRADICTED_GRADE)]] = True
    consumed = np.zeros(size, "?")
    consumed[edges.parent[edges.rule == _TRAINED]] = True
    lists = np.diff(graph.listed_start) > 0
    doubted = np.zeros(size, "?")
    doubted[edges.parent[_WALKED[edges.rule] & (edges.grade == _CONTRADICTED_GRADE)]] = True
    absent = matters & ~graph.recorded
    reasons = [
        ("model not recorded", absent & (graph.kind == MODEL)),
        ("dataset not recorded", absent & (graph.kind == DATASET)),
        (OPEN, matters & graph.recorded & ~graph.closed),
        (NO_SHARDS, consumed & ~lists & ~parts & (graph.kind == DATASET)),
        (CONTRADICTED, doubted),
    ]
    total = sum(int(mask.sum()) for _, mask in reasons)
    found: list[Unknown] = []
    for why, mask in reasons:
        nodes = np.flatnonzero(mask)[: _LISTED_UNKNOWN - len(found)].tolist()
        found += [Unknown(graph.ids[node], why, Verdict.DIRECT) for node in nodes]
    return sorted(found, key=lambda one: (one.node, one.why)), total - len(found)
