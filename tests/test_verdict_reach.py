"""`impact` is the walk of `trace` gone the other way: on random graphs the two agree."""

from __future__ import annotations

import os
import random

import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from reference_verdicts import Case, Row, Run, reference, unrelated
from verdict_worlds import graph_of, graph_world

from forebear.tracer.audit.family import Families
from forebear.tracer.audit.reach import Sources, reach
from forebear.tracer.audit.rows import segments_of
from forebear.tracer.lineage.graph import MODEL, Graph

WORLDS = int(os.environ.get("FOREBEAR_WORLDS", "60"))


@given(st.integers(0, 2**40).map(random.Random), st.integers(0, 3))
@settings(max_examples=WORLDS, deadline=None, suppress_health_check=list(HealthCheck))
def test_a_shard_reaches_the_models_whose_trace_finds_its_rows_bad(rng: random.Random, which: int) -> None:
    _, case, record = graph_world(rng)
    graph = graph_of(case, record)
    target = sorted({shard for listed in case.lists.values() for shard, _ in listed} or {"none"})
    shard = target[which % len(target)]
    expected = {}
    ends = [*case.recorded, *(end for edge in case.edges for end in (edge.child, edge.parent))]
    for kind, name in dict.fromkeys(ends):  # also models that are only pointed at: `same_weights_as` reaches them
        if kind == "model":
            verdict = reference(_all_bad(case, shard), name)["verdict"]
            if verdict not in ("unknown", "cleared", "not_exposed"):
                expected[name] = verdict
    found = reach(graph, Families(graph), Sources(_hits(graph, shard)), narrowed=lambda dataset, edge: _used(graph, shard, dataset, edge))
    assert {one.model.name: one.to_json()["verdict"] for one in found} == expected
    for one in found:
        assert not one.path or (one.path[0].child, len({step.child for step in one.path})) == (one.model.id, len(one.path))


def _all_bad(case: Case, target: str) -> Case:
    """The same world, with a run that found every row of the target bad and scanned everything."""
    shards = {shard for listed in case.lists.values() for shard, _ in listed}
    logs = {shard: [Row(f"{shard} {n}", {"t": 1000 if shard == target else 0}) for n in range(9)] for shard in shards}
    return Case(case.recorded, case.edges, case.lists, [Run({"t": ("target", {"": 500})}, logs)], case.usage)


def _hits(graph: Graph, shard: str) -> dict[int, int | None]:
    place = graph.shard(shard)
    return {int(row[0]): 1 for row in graph.listed.tolist() if row[1] == place}


def _used(graph: Graph, shard: str, dataset: int, edge: int) -> int:
    key = (int(graph.edges.child[edge]), int(graph.edges.stage[edge]))
    return sum(1 for one, _ in segments_of(graph, dataset, (key,)) if one == graph.shard(shard))


@given(st.integers(0, 2**40).map(random.Random))
@settings(max_examples=WORLDS, deadline=None)
def test_families_of_many_are_those_of_each(rng: random.Random) -> None:
    _, case, record = graph_world(rng)
    graph = graph_of(case, record)
    models = [n for n in range(len(graph.ids)) if graph.kind[n] == MODEL]
    many = np.array(models * 200)
    for maker in models:
        expected = [unrelated(case, graph.ids[one][5:], graph.ids[maker][5:]) for one in models]
        assert Families(graph).unrelated_all(many, maker).tolist() == expected * 200
        one_by_one = Families(graph)
        assert [one_by_one.unrelated(one, maker) for one in models] == expected
