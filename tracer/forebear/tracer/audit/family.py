"""Families of models: who may share weights with whom.

Always true here: two models are unrelated only if they lie in different components over weight-passing relations (of any grade,
contradicted ones too), `same_weights_as` and aliases, *and* every weight ancestor of both, themselves included, is closed.
"""

from __future__ import annotations

from functools import cached_property

import numpy as np
import numpy.typing as npt

from forebear.schemas.enums import Relation
from forebear.tracer.lineage.graph import Graph
from forebear.tracer.lineage.relations import RULES

__all__ = ["Families"]

_FAMILY = np.array([rule.weights or rule.relation is Relation.SAME_WEIGHTS_AS for rule in RULES])

_MANY = 200  # consumers asked about before all are settled at once
_WALKS = 64  # models looked at one by one before all are settled at once


class Families:
    """Components and closedness over weights, found for the models that are asked about and remembered."""

    def __init__(self, graph: Graph) -> None:
        self._graph = graph
        self._closed = graph.closed
        self._group = np.full(len(graph.ids), -1, np.int64)  # models with closed ancestry, by families as far as they are known
        self._joined: list[int] = []
        self._asked = 0
        self._not_closed: set[int] = set()
        self._open_above: npt.NDArray[np.bool_] | None = None

    def unrelated(self, consumer: int, maker: int) -> bool:
        """Whether two models are demonstrably of different families."""
        if not (self._all_closed(consumer) and self._all_closed(maker)):
            return False
        # A shared ancestor settles it without a look at the whole graph.
        if self._root(int(self._group[consumer])) == self._root(int(self._group[maker])):
            return False
        return bool(self._components[consumer] != self._components[maker])

    def unrelated_all(self, consumers: npt.NDArray[np.int64], maker: int) -> npt.NDArray[np.bool_]:
        """`unrelated` of each of some consumers and one maker; many are settled at once."""
        self._asked += len(consumers)
        if self._asked < _MANY:
            return np.array([self.unrelated(one, maker) for one in consumers.tolist()], np.bool_)
        if self._open_above is None:
            self._open_above = self._spread_open()
        found = ~self._open_above[consumers]
        if self._open_above[maker] or not found.any():
            return np.zeros(len(consumers), np.bool_)
        return np.asarray(found & (self._components[consumers] != self._components[maker]))

    def _all_closed(self, model: int) -> bool:
        """Whether every weight ancestor of a model, itself included, is closed."""
        if self._group[model] >= 0:
            return True
        if self._open_above is None and len(self._not_closed) >= _WALKS:
            self._open_above = self._spread_open()
        if self._open_above is not None and self._open_above[model]:
            return False
        if model in self._not_closed:
            return False
        closed = self._walk_closed(model)
        if not closed:
            self._not_closed.add(model)
        return closed

    def _spread_open(self) -> npt.NDArray[np.bool_]:
        """Every model with an open weight ancestor, itself included: at once, by whole frontiers from the open ones down."""
        edges, (order, bounds) = self._graph.edges, self._graph.children
        found = ~self._closed
        frontier = np.flatnonzero(found)
        while len(frontier):
            at = _targets(bounds, order, frontier)
            near = np.unique(edges.child[at[_FAMILY[edges.rule[at]]]])
            frontier = near[~found[near]]
            found[frontier] = True
        return found

    def _walk_closed(self, model: int) -> bool:
        """Walk up to what is known to be closed; everything met on the way then is known too, and of one family."""
        graph, seen, todo = self._graph, {model}, [model]
        met: set[int] = set()
        while todo:
            node = todo.pop()
            if self._group[node] >= 0:
                met.add(int(self._group[node]))
                continue
            if not self._closed[node]:
                return False
            above = [int(graph.edges.parent[at]) for at in graph.edges_of(node) if _FAMILY[graph.edges.rule[at]]]
            new = [parent for parent in above if parent not in seen]
            seen.update(new)
            todo += new
        group = len(self._joined)
        self._joined.append(group)
        for one in met:
            self._joined[self._root(one)] = group
        known = np.fromiter(seen, np.int64, len(seen))
        self._group[known[self._group[known] < 0]] = group
        return True

    def _root(self, group: int) -> int:
        """The group that a group was joined into."""
        while self._joined[group] != group:
            self._joined[group] = self._joined[self._joined[group]]
            group = self._joined[group]
        return group

    @cached_property
    def _components(self) -> npt.NDArray[np.int64]:
        """The smallest member of every node's family: pointers to smaller neighbours, doubled, then what they joined again."""
        edges = self._graph.edges
        chosen = _FAMILY[edges.rule]
        one, other = edges.child[chosen], edges.parent[chosen]
        label = np.arange(len(self._graph.ids))
        while True:
            one, other = label[one], label[other]
            apart = one != other
            if not apart.any():
                return label
            one, other = one[apart], other[apart]
            smaller = np.arange(len(label))
            np.minimum.at(smaller, one, other)
            np.minimum.at(smaller, other, one)
            while not np.array_equal(smaller, following := smaller[smaller]):
                smaller = following
            label = smaller[label]


def _targets(starts: npt.NDArray[np.int64], ends: npt.NDArray[np.int64], nodes: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """The ends of all edges of some nodes, where those of node n are ends[starts[n]:starts[n + 1]]."""
    counts = starts[nodes + 1] - starts[nodes]
    at = np.repeat(starts[nodes] - np.append(0, np.cumsum(counts)[:-1]), counts) + np.arange(counts.sum())
    return np.asarray(ends[at])
