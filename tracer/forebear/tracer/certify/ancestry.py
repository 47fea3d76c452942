"""What a model came from, as lists: nodes, relations with their grades, and the shards of every dataset met.

Always true here: nodes are met nearest first and, within a distance, in the order of their ids, so that one graph gives one list; what
is past a cap is counted, and for shards committed to by a root over all of them; relations that pass nothing are listed and not
followed.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from forebear.schemas.canonical import canonical_json
from forebear.schemas.digests import digest_name, leaf_hash, merkle_root
from forebear.schemas.enums import Grade
from forebear.tracer.lineage.graph import DATASET, STAGES, Graph
from forebear.tracer.lineage.relations import GRADES, RULES

__all__ = ["Ancestry", "Caps", "dataset_shards", "read_ancestry"]

_CONTRADICTED = GRADES.index(Grade.CONTRADICTED)


@dataclass(frozen=True)
class Caps:
    """How much of what is listed: nodes, relations, and shards of each dataset."""

    nodes: int = 20_000
    relations: int = 50_000
    shards: int = 10_000


@dataclass(frozen=True)
class Ancestry:
    """Everything that a node came from; `at` are the nodes' positions in the graph, nearest first, the node itself first."""

    at: tuple[int, ...]
    distance: tuple[int, ...]
    edges: tuple[int, ...]

    def to_json(self, graph: Graph, caps: Caps) -> dict[str, Any]:
        """As the certificate carries it."""
        nodes = [_node(graph, at) for at in self.at[: caps.nodes]]
        relations = [_relation(graph, at) for at in self.edges[: caps.relations]]
        omitted = {"nodes": len(self.at) - len(nodes), "relations": len(self.edges) - len(relations)}
        return {"nodes": nodes, "relations": relations, "omitted": omitted}

    def datasets(self, graph: Graph) -> list[int]:
        """The datasets among the nodes."""
        return [at for at in self.at if graph.kind[at] == DATASET]

    def entries(self, graph: Graph) -> set[int]:
        """Numbers of the ledger's entries that said any of it."""
        said = {int(graph.edges.entry[at]) for at in self.edges}
        for dataset in self.datasets(graph):
            said.update(graph.listed_of(dataset)[:, 4].tolist())
        return {one for one in said if one >= 0}


def read_ancestry(graph: Graph, node: int) -> Ancestry:
    """Everything that a node came from, over the relations that pass something."""
    distance, order, edges, depth = {node: 0}, [node], [], 0
    seen: set[tuple[int, int, int, int]] = set()
    level = [node]
    while level:
        depth += 1
        found: set[int] = set()
        for one in level:
            for at in _sorted_edges(graph, one):
                key = _key(graph, at)
                if key not in seen:
                    seen.add(key)
                    edges.append(at)
                parent = int(graph.edges.parent[at])
                if parent not in distance and _followed(graph, at):
                    found.add(parent)
        level = sorted(found, key=lambda one: graph.ids[one])
        distance.update((one, depth) for one in level)
        order += level
    return Ancestry(tuple(order), tuple(distance[one] for one in order), tuple(edges))


def _followed(graph: Graph, at: int) -> bool:
    return RULES[graph.edges.rule[at]].walked and int(graph.edges.grade[at]) != _CONTRADICTED


def _sorted_edges(graph: Graph, node: int) -> list[int]:
    edges = graph.edges
    return sorted(graph.edges_of(node), key=lambda at: (graph.ids[edges.parent[at]], edges.rule[at], edges.stage[at]))


def _key(graph: Graph, at: int) -> tuple[int, int, int, int]:
    """What makes a relation one: a relation that is walked both ways is met twice and is one all the same."""
    edges = graph.edges
    ends = int(edges.child[at]), int(edges.parent[at])
    child, parent = ends[::-1] if edges.mirror[at] else ends
    return child, int(edges.rule[at]), parent, int(edges.stage[at])


def _node(graph: Graph, at: int) -> dict[str, Any]:
    dataset = graph.kind[at] == DATASET
    if not graph.recorded[at]:
        ancestry = "not recorded"
    else:
        ancestry = "closed" if graph.closed[at] else "open"
    found = {"id": graph.ids[at], "name": graph.name(at), "kind": "dataset" if dataset else "model", "ancestry": ancestry}
    return {**found, "digest": graph.digests[at]} if at in graph.digests else found


def _relation(graph: Graph, at: int) -> dict[str, Any]:
    edges = graph.edges
    child, rule, parent, stage = _key(graph, at)
    found: dict[str, Any] = {
        "child": graph.ids[child],
        "relation": RULES[rule].relation.value,
        "parent": graph.ids[parent],
        "evidence": GRADES[edges.grade[at]].value,
    }
    if stage >= 0:
        found["stage"] = STAGES[stage].value
    if not np.isnan(edges.epochs[at]):
        found["epochs"] = float(edges.epochs[at])
    if edges.complete[at]:
        found["usage"] = "complete"
    return {**found, **graph.more[edges.more[at]]} if edges.more[at] >= 0 else found


def dataset_shards(graph: Graph, dataset: int, caps: Caps) -> dict[str, Any]:
    """A dataset's shards by digest, with the rows that it is narrowed to, and a root over all of them.

    The root is RFC 6962's over the leaves of the canonical JSON of `[shard, ranges or null]`, sorted by shard.
    """
    listed = list(_shards(graph, dataset))
    root = merkle_root(leaf_hash(canonical_json([shard, rows])) for shard, rows in listed)
    shown = [{"digest": shard} if rows is None else {"digest": shard, "rows": rows} for shard, rows in listed[: caps.shards]]
    name, identity = graph.name(dataset), graph.ids[dataset]
    found: dict[str, Any] = {"id": identity, "name": name, "shards": shown, "listed": len(listed), "root": digest_name(root)}
    return {**found, "omitted": len(listed) - len(shown)}


def _shards(graph: Graph, dataset: int) -> Iterator[tuple[str, list[list[int]] | None]]:
    ranges: dict[int, list[list[int]] | None] = {}
    for _, shard, first, last, _ in graph.listed_of(dataset).tolist():
        known = ranges.setdefault(shard, [])
        if first < 0 or known is None:
            ranges[shard] = None
        else:
            known.append([first, last])
    for shard in sorted(ranges, key=lambda one: graph.shards[one]):
        rows = ranges[shard]
        yield graph.shards[shard], None if rows is None else sorted(rows)
