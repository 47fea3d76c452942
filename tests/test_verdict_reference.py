"""The engine says what VERDICTS.md says: compared with a plain-Python reference on random worlds.

`FOREBEAR_WORLDS` sets how many (default 100 of each kind).
"""

from __future__ import annotations

import os
import random

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from reference_verdicts import reference
from verdict_worlds import engine, evidence_world, graph_world, read_engine

from forebear.schemas.enums import Verdict

WORLDS = int(os.environ.get("FOREBEAR_WORLDS", "100"))
many = settings(max_examples=WORLDS, deadline=None, suppress_health_check=list(HealthCheck))
randoms = st.integers(0, 2**40).map(random.Random)


@given(randoms)
@many
def test_every_model_of_a_mixed_graph_is_judged_as_the_page_says(rng: random.Random) -> None:
    ledger, case, record = graph_world(rng)
    graph, walker = engine(ledger, case, record)
    for kind, name in case.recorded:
        if kind == "model":
            assert read_engine(graph, walker, name) == reference(case, name)


@given(randoms)
@many
def test_rows_of_several_runs_cleaned_shards_and_keepers_are_judged_as_the_page_says(rng: random.Random) -> None:
    ledger, case, record = evidence_world(rng)
    graph, walker = engine(ledger, case, record)
    assert read_engine(graph, walker, "m0") == reference(case, "m0")


@given(randoms, st.sampled_from([500, 560, 720]))
@settings(many, max_examples=max(1, WORLDS // 3))
def test_another_threshold_is_judged_from_logged_scores(rng: random.Random, threshold: int) -> None:
    ledger, case, record = evidence_world(rng)
    graph, walker = engine(ledger, case, record, threshold=threshold / 1024)
    assert read_engine(graph, walker, "m0") == reference(case, "m0", threshold=threshold)


def test_over_some_thousand_random_worlds_every_verdict_occurs() -> None:
    """So that agreement means something."""
    missing = {one.value for one in Verdict}
    for seed in range(3000):
        _, case, _ = graph_world(random.Random(seed))
        missing.discard(reference(case, "m0")["verdict"])
        if not missing:
            break
    assert not missing
