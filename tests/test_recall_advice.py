"""A recall and the advisory that it becomes agree: whom the recall reaches, the advisory exposes, by the same channel."""

from __future__ import annotations

import os
import random

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from reference_verdicts import Advice
from verdict_worlds import engine, graph_world

from forebear.schemas.digests import sha256_name
from forebear.schemas.enums import Verdict
from forebear.tracer.audit.advisories import makings_of
from forebear.tracer.audit.family import Families
from forebear.tracer.audit.reach import Sources, reach
from forebear.tracer.audit.scans import Scans
from forebear.tracer.audit.targets import TargetRows, find_documents
from forebear.tracer.lineage.graph import MODEL, Graph

WORLDS = int(os.environ.get("FOREBEAR_WORLDS", "60"))


@given(st.integers(0, 2**40).map(random.Random))
@settings(max_examples=WORLDS, deadline=None, suppress_health_check=list(HealthCheck))
def test_a_recall_reaches_whom_its_advisory_exposes(rng: random.Random) -> None:
    ledger, case, record = graph_world(rng)
    case.advice = case.advice[:1] or [Advice(models=frozenset(["m1"]))]
    graph, walker = engine(ledger, case, record)
    exposed = {}
    for node in range(len(graph.ids)):
        if graph.kind[node] == MODEL:
            mine = [one.verdict for one in walker.trace(node).exposures if one.category == "advisory"]
            if mine:
                exposed[graph.ids[node]] = min(mine, key=list(Verdict).index)
    reached = recalled(graph, Scans(ledger, ledger.runs), case.advice[0])
    assert reached == exposed


def recalled(graph: Graph, scans: Scans, advice: Advice) -> dict[str, str]:
    rows = TargetRows(graph, scans)
    for shard in sorted(advice.shards):
        rows.add(shard, None)
    texts = [sha256_name(text.encode()) for text in sorted(advice.documents)]
    for shard, found in find_documents(scans, texts).items() if texts else ():
        rows.add(shard, found)
    models = [at for name in sorted(advice.models) for at in graph.candidates(name)]
    sources = Sources(rows.datasets(), models, makings_of(graph, sorted(advice.prompts)))
    return {one.model.id: one.to_json()["verdict"] for one in reach(graph, Families(graph), sources, narrowed=rows.narrowed)}
