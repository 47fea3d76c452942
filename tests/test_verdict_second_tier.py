"""What a second tier covers: with its first tier what that covers, by itself only the rows that it scored."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from world import Document, World, detector, make_ledger

from forebear.schemas.lineage import parse_record
from forebear.tracer.audit.answer import Trace
from forebear.tracer.audit.session import Session
from forebear.tracer.lineage.link import link

TIME = "2026-11-02T00:00:00.000000Z"
CLOSED = {"ancestry": "closed"}
FIRST = detector("toxicity")
SECOND = replace(detector("detoxify"), parameters={"first": FIRST.digest, "sample": "0.001"})
ROWS = [
    Document("plain", {"toxicity": 10}),
    Document("suspicious", {"toxicity": 400, "detoxify": 300}),
    Document("bad", {"toxicity": 500, "detoxify": 900}),
    Document("lost", action="error", reasons=("detector_failed",)),
]


def trace(world: World, shards: list[Any], *detectors: str) -> Trace:
    record = {
        "models": [{"name": "m", **CLOSED, "trained_on": [{"dataset": "d"}]}],
        "datasets": [{"name": "d", **CLOSED, "shards": shards}],
    }
    link(world.ledger, [(parse_record(record), Path())], time=TIME)
    session = Session(world.ledger)
    return session.trace("m", question=session.question(detectors=detectors))


def unknown(found: Trace) -> list[tuple[str, int | None, int | None]]:
    return [(one.why, one.rows, one.of) for one in found.unknown]


@pytest.fixture
def world(tmp_path: Path) -> World:
    return make_ledger(tmp_path / "ledger", shards={"a": ROWS}, detectors=[FIRST, SECOND], clean=True)


def test_a_class_is_covered_where_its_first_tier_is(world: World) -> None:
    found = trace(world, [world.shards["a"]])
    assert ([one.rows for one in found.exposures], unknown(found)) == ([1], [("rows errored", 1, 4)])


def test_both_tiers_by_name_are_the_class(world: World) -> None:
    found = trace(world, [world.shards["a"]], "toxicity", "detoxify")
    assert unknown(found) == [("rows errored", 1, 4)]


def test_a_second_tier_by_name_does_not_know_the_rows_that_it_did_not_score(world: World) -> None:
    found = trace(world, [world.shards["a"]], "detoxify")
    assert ([one.rows for one in found.exposures], unknown(found)) == ([1], [("detector not run", 2, 4)])


def test_rows_that_it_scored_are_known(world: World) -> None:
    found = trace(world, [{"shard": world.shards["a"], "rows": [[1, 2]]}], "detoxify")
    assert (found.verdict.value, found.complete) == ("not_exposed", True)


def test_what_a_run_wrote_is_covered_as_its_source_was(world: World) -> None:
    found = trace(world, [world.cleaned["a"]], "detoxify")
    assert unknown(found) == [("detector not run", 1, 2)]


def test_false_alarms_are_expected_among_scored_rows_only(tmp_path: Path) -> None:
    measured = replace(SECOND, false_positive_rate={"rate": "0.5", "on": "a set"})
    world = make_ledger(tmp_path / "ledger", shards={"a": ROWS}, detectors=[FIRST, measured])
    (exposure,) = trace(world, [world.shards["a"]], "detoxify").exposures
    assert exposure.expected_false == 1.0
