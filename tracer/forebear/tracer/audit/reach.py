"""Reach: from datasets, generators and models down to every model below them.

Always true here: it is the walk of `trace` gone the other way, so the two agree; each model is settled once, at its worst channel,
so a whole graph is one pass; answers for single models are made only as they are looked at.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, overload

import numpy as np
import numpy.typing as npt

from forebear.schemas.enums import Grade, Relation, Verdict
from forebear.tracer.audit.answer import Budget, Node, Step, Steps
from forebear.tracer.audit.family import Families
from forebear.tracer.lineage.graph import Graph
from forebear.tracer.lineage.relations import CAPS, CHANNELS, GRADES, RULES

__all__ = ["Reached", "ReachedModels", "Sources", "merge", "reach"]

Ints = npt.NDArray[np.int64]
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
class Sources:
    """Where a reach begins.

    Args:
        datasets: Datasets that hold target rows -> documents among them, None where nobody counted.
        models: Models that are bad in themselves.
        makings: Positions of relations by which a bad generation made a dataset.
    """

    datasets: Mapping[int, int | None]
    models: Sequence[int] = ()
    makings: Sequence[int] = ()


@dataclass(frozen=True)
class Reached:
    """A model that target rows reached, by its worst channel; `path` leads to the ancestor that consumed them.

    `match` is how the rows were found: exact, near (measured) or candidate (its text is not at hand).
    """

    model: Node
    cap: int
    documents: int | None
    dataset: Node
    steps: Steps
    match: str = "exact"

    @property
    def path(self) -> tuple[Step, ...]:
        """From the model to the ancestor that consumed."""
        return self.steps.written

    def to_json(self, budget: Budget | None = None) -> dict[str, Any]:
        """As CONTRACT's recall has it."""
        budget = budget or Budget()
        found: dict[str, Any] = {**self.model.to_json(), "channel": CHANNELS[self.cap].value, "verdict": CAPS[self.cap].value}
        found |= {"documents": self.documents, "match": self.match, "dataset": self.dataset.name or self.dataset.id}
        return {**found, **budget.path(self.steps, stop=len(self.steps))}


class ReachedModels(Sequence[Reached]):
    """Reached models in order, made one by one as they are looked at: there may be millions.

    Args:
        nodes: Positions of the models in the graph.
        caps: The worst channel of each, as an index into `CAPS`.
        make: Gives the n-th.
    """

    def __init__(self, nodes: Ints, caps: Ints, make: Callable[[int], Reached]) -> None:
        self.nodes, self.caps = nodes, caps
        self._size, self._make = len(nodes), make

    def __len__(self) -> int:
        return self._size

    @overload
    def __getitem__(self, at: int) -> Reached: ...

    @overload
    def __getitem__(self, at: slice) -> list[Reached]: ...

    def __getitem__(self, at: int | slice) -> Reached | list[Reached]:
        places = range(self._size)[at]
        return self._make(places) if isinstance(places, int) else [self._make(one) for one in places]


def reach(
    graph: Graph,
    families: Families,
    sources: Sources,
    *,
    narrowed: Callable[[int, int], int | None] | None = None,
) -> ReachedModels:
    """Every model that bad rows, models and generations reach, by its worst channel.

    Args:
        graph: The lineage.
        families: Who may share weights with whom.
        sources: Where to begin.
        narrowed: Documents of target rows of a dataset that a usage log says were read along an edge.

    Returns: Models, worst channel first, then by number of models between, then as the ledger came to know them.
    """
    return _Reach(graph, families, sources, narrowed=narrowed or (lambda dataset, _: sources.datasets[dataset])).run()


def _first_of_each(models: Ints, nexts: Ints, edges: Ints) -> Ints:
    """Positions of the least (next, edge) of each model, in the order of models; most models stand there once."""
    order = np.argsort(models, kind="stable")
    ordered = models[order]
    new = np.ones(len(ordered), "?")
    new[1:] = ordered[1:] != ordered[:-1]
    if new.all():
        return order
    again = ~new
    again[:-1] |= ~new[1:]
    several = order[again]
    order[again] = several[np.lexsort((edges[several], nexts[several], models[several]))]
    return np.asarray(order[new])


def merge(levels: Sequence[tuple[str, ReachedModels]]) -> ReachedModels:
    """Models reached by ever weaker matches: each at its strongest, and again where a weaker one reaches it by a worse channel.

    Args:
        levels: (match, models), strongest first; the rows of each are among those of the next.
    """
    if len(levels) == 1:
        return levels[0][1]
    best: dict[int, int] = {}
    picks: list[tuple[int, int, int]] = []  # (cap, level, place in it)
    for level, (_, models) in enumerate(levels):
        for place, (node, cap) in enumerate(zip(models.nodes.tolist(), models.caps.tolist(), strict=True)):
            if cap < best.get(node, len(CAPS)):
                best[node] = cap
                picks.append((cap, level, place))
    picks.sort()
    chosen = np.array([levels[level][1].nodes[place] for _, level, place in picks], np.int64)

    def make(at: int) -> Reached:
        _, level, place = picks[at]
        return replace(levels[level][1][place], match=levels[level][0])

    return ReachedModels(chosen, np.array([cap for cap, _, _ in picks], np.int64), make)


class _Reach:
    """One pass from datasets down: models are settled cap by cap, and within a cap by number of edges."""

    def __init__(
        self,
        graph: Graph,
        families: Families,
        sources: Sources,
        *,
        narrowed: Callable[[int, int], int | None],
    ) -> None:
        self._graph, self._families, self._narrowed, self._sources = graph, families, narrowed, sources
        self._origins: list[tuple[int, int | None]] = sorted(
            sources.datasets.items()
        )  # (dataset, documents) that arrive; a narrowed use adds one of its own
        size = len(graph.ids)
        self._cap = np.full(size, len(CAPS), np.int64)
        self._next = np.full(size, -1, np.int64)  # the model that it was reached through, -1: it consumed
        self._edge = np.full(size, -1, np.int64)  # the edge to it, -1: see _between
        self._hit = np.full(size, -1, np.int64)  # which of _origins arrived
        self._level = np.zeros(size, np.int64)  # models between
        self._length = np.zeros(size, np.int64)  # edges to the ancestor that consumed
        self._between: dict[tuple[int, int, int], tuple[int, ...]] = {}  # edges over datasets from a model to the next
        self._buckets: list[list[tuple[Ints, Ints, Ints, Ints]]] = [[] for _ in CAPS]
        self._seen: set[tuple[_Met, int]] = set()
        edges = graph.edges
        self._passing = _WALKED[edges.rule] & (edges.grade != _CONTRADICTED_GRADE)
        self._order, self._bounds = graph.children

    def run(self) -> ReachedModels:
        for hit, (dataset, _) in enumerate(list(self._origins)):
            self._down_datasets((dataset, False, 0, -1), came_from=-1, hit=hit, edges=())
        for model in self._sources.models:
            one = np.array([model])
            self._buckets[0].append((one, one * 0 - 1, one * 0 - 1, self._origin(model) + one * 0))
        for edge in self._sources.makings:
            rule, made = int(self._graph.edges.rule[edge]), int(self._graph.edges.child[edge])
            maker = int(self._graph.edges.parent[edge])
            if not _TO_DATASET[rule]:  # a model that learnt from the maker itself
                other = int(_OTHER_CAP[rule])
                cap = other if other >= 0 and self._families.unrelated(made, maker) else int(_RULE_CAP[rule])
                one = np.array([made])
                self._buckets[cap].append((one, one * 0 - 1, one * 0 - 1, self._origin(made) + one * 0))
                continue
            family = maker if _OTHER_CAP[rule] >= 0 else -1
            self._down_datasets((made, True, int(_RULE_CAP[rule]), family), came_from=-1, hit=self._origin(made), edges=())
        for cap in range(len(CAPS)):
            while self._buckets[cap]:
                self._settle(cap)
        return self._answer()

    def _origin(self, node: int) -> int:
        self._origins.append((node, None))
        return len(self._origins) - 1

    def _settle(self, cap: int) -> None:
        """Give every model that waits at a cap its place, and pass on from those that are new."""
        waiting, self._buckets[cap] = self._buckets[cap], []
        models, nexts, edges, hits = (np.concatenate(column) for column in zip(*waiting, strict=True))
        free = self._cap[models] > cap
        models, nexts, edges, hits = models[free], nexts[free], edges[free], hits[free]
        chosen = _first_of_each(models, nexts, edges)
        models = models[chosen]
        self._cap[models] = cap
        self._next[models], self._edge[models], self._hit[models] = nexts[chosen], edges[chosen], hits[chosen]
        self._level[models] = np.where(nexts[chosen] >= 0, self._level[nexts[chosen]] + 1, 0)
        self._length[models] = np.where(nexts[chosen] >= 0, self._length[nexts[chosen]] + 1, 0)
        for one, following in zip(models[edges[chosen] < 0].tolist(), nexts[chosen][edges[chosen] < 0].tolist(), strict=True):
            if following >= 0:
                self._length[one] += len(self._between[self._key(one, following)]) - 1
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
            caps = np.where(self._families.unrelated_all(models, maker), _CONTENT, cap)
        for model, edge, one in zip(models.tolist(), at.tolist(), caps.tolist(), strict=True) if came_from >= 0 else ():
            if self._cap[model] > one:
                self._between.setdefault((model, one, came_from), (edge, *edges))
        for one in np.unique(caps).tolist():
            mine = models[caps == one]
            wide = np.full(len(mine), came_from)
            self._buckets[one].append((mine, wide, np.full(len(mine), -1), np.full(len(mine), hit)))

    def _key(self, model: int, following: int) -> tuple[int, int, int]:
        return model, int(self._cap[model]), following

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

    def _answer(self) -> ReachedModels:
        graph = self._graph
        found = np.flatnonzero(self._cap < len(CAPS))
        found = found[np.lexsort((self._level[found], self._cap[found]))]
        origins = [(Node(graph.name(dataset), graph.ids[dataset]), documents) for dataset, documents in self._origins]

        def make(at: int) -> Reached:
            one = int(found[at])
            dataset, documents = origins[self._hit[one]]
            steps = Steps(int(self._length[one]), lambda: self._path(one))
            return Reached(Node(graph.name(one), graph.ids[one]), int(self._cap[one]), documents, dataset, steps)

        return ReachedModels(found, self._cap[found], make)

    def _path(self, model: int) -> tuple[Step, ...]:
        graph, steps = self._graph, []
        while self._next[model] >= 0:
            following, edge = int(self._next[model]), int(self._edge[model])
            for one in (edge,) if edge >= 0 else self._between[self._key(model, following)]:
                relation = RULES[graph.edges.rule[one]].relation.value
                steps.append(Step(relation, graph.ids[graph.edges.child[one]], graph.ids[graph.edges.parent[one]]))
            model = following
        return tuple(steps)
