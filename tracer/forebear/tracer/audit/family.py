"""Families of models: who may share weights with whom.

Always true here: two models are unrelated only if they lie in different components over weight-passing relations (of any grade,
contradicted ones too), `same_weights_as` and aliases, *and* every weight ancestor of both, themselves included, is closed.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from forebear.schemas.enums import Relation
from forebear.tracer.lineage.graph import Graph
from forebear.tracer.lineage.relations import RULES

__all__ = ["Families"]

_FAMILY = np.array([rule.weights or rule.relation is Relation.SAME_WEIGHTS_AS for rule in RULES])


class Families:
    """Components and closedness over weights, found for the models that are asked about and remembered."""

    def __init__(self, graph: Graph) -> None:
        self._graph = graph
        self._closed = graph.closed
        self._component = np.full(len(graph.ids), -1, np.int64)
        self._known_closed: dict[int, bool] = {}
        self._undirected: tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]] | None = None

    def unrelated(self, consumer: int, maker: int) -> bool:
        """Whether two models are demonstrably of different families."""
        if not (self._all_closed(consumer) and self._all_closed(maker)):
            return False
        return self._family(consumer) != self._family(maker)

    def _all_closed(self, model: int) -> bool:
        """Whether every weight ancestor of a model, itself included, is closed."""
        if model not in self._known_closed:
            self._known_closed[model] = self._walk_closed(model)
        return self._known_closed[model]

    def _walk_closed(self, model: int) -> bool:
        graph = self._graph
        seen, todo = {model}, [model]
        while todo:
            node = todo.pop()
            if not self._closed[node]:
                return False
            for at in graph.edges_of(node):
                parent = int(graph.edges.parent[at])
                if _FAMILY[graph.edges.rule[at]] and parent not in seen:
                    seen.add(parent)
                    todo.append(parent)
        return True

    def _family(self, model: int) -> int:
        """The number of a model's component; it is walked once, by whole frontiers, since hubs have 10^5 children."""
        if self._component[model] >= 0:
            return int(self._component[model])
        starts, ends = self._neighbours()
        frontier = np.array([model])
        self._component[model] = model
        while len(frontier):
            counts = starts[frontier + 1] - starts[frontier]
            at = np.repeat(starts[frontier] - np.append(0, np.cumsum(counts)[:-1]), counts) + np.arange(counts.sum())
            near = np.unique(ends[at])
            frontier = near[self._component[near] < 0]
            self._component[frontier] = model
        return model

    def _neighbours(self) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        if self._undirected is None:
            edges = self._graph.edges
            chosen = _FAMILY[edges.rule]
            one, other = edges.child[chosen], edges.parent[chosen]
            left, right = np.concatenate([one, other]), np.concatenate([other, one])
            order = np.argsort(left, kind="stable")
            self._undirected = np.searchsorted(left[order], np.arange(len(self._graph.ids) + 1)), right[order]
        return self._undirected
