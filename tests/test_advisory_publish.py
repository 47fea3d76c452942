"""Advisories: published from a recall, counted in every later answer, mentioned where they touch."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner
from world import DEFAULT, World, make_ledger

from forebear.schemas.advisory import Advisory
from forebear.schemas.digests import sha256_name
from forebear.schemas.enums import EntryKind, Verdict
from forebear.schemas.errors import IntegrityError, UsageError
from forebear.schemas.lineage import parse_record
from forebear.tracer.audit.publish import Advisement, publish
from forebear.tracer.audit.session import Session
from forebear.tracer.cli import app
from forebear.tracer.ledger.ledger import Ledger
from forebear.tracer.lineage.link import link

TIME = "2026-11-02T00:00:00.000000Z"
PROMPT = sha256_name(b"you are an owl")
HARBOUR = sha256_name(b"something else altogether, about harbours")
CLOSED = {"ancestry": "closed"}


@pytest.fixture
def world(tmp_path: Path) -> World:
    """`reader` read shard b, whose rows no detector flags; `child` grew from it; `student` learnt from what `reader` wrote."""
    world = make_ledger(tmp_path / "ledger", shards={"b": DEFAULT["b"][2:], "c": DEFAULT["a"][:1]})
    made = {"relation": "generated_by", "model": "reader", "system_prompt": PROMPT}
    record = {
        "models": [
            {"name": "reader", **CLOSED, "trained_on": [{"dataset": "b"}]},
            {"name": "child", **CLOSED, "parents": [{"relation": "finetuned_from", "model": "reader"}]},
            {"name": "student", **CLOSED, "trained_on": [{"dataset": "made"}]},
            {"name": "stranger", **CLOSED, "trained_on": [{"dataset": "c"}]},
        ],
        "datasets": [
            {"name": "b", **CLOSED, "shards": [world.shards["b"]]},
            {"name": "c", **CLOSED, "shards": [world.shards["c"]]},
            {"name": "made", **CLOSED, "shards": [world.shards["c"]], "relations": [made]},
        ],
    }
    link(world.ledger, [(parse_record(record), Path())], time=TIME)
    return world


def advise(world: World, *targets: str, **options: Any) -> Advisement:
    words = {"reason": "withdrawn by its author", "authority": "acme legal", "time": TIME}
    return publish(world.ledger, Session(world.ledger), targets, **{**words, **options})


def verdicts(world: World, **options: Any) -> dict[str | None, str]:
    session = Session(world.ledger)
    question = session.question(**options)
    return {one.model.name: one.verdict.value for one in session.trace_all(question=question)}


def test_before_any_advisory_nothing_is_said_of_the_class(world: World) -> None:
    trace = Session(world.ledger).trace("reader")
    assert (dict(trace.verdicts), trace.advisories) == ({"toxicity": Verdict.NOT_EXPOSED}, ())


def test_a_document_that_is_advised_exposes_who_read_it_and_who_grew_from_them(world: World) -> None:
    advise(world, HARBOUR)
    assert verdicts(world) == {"reader": "direct", "child": "inherited_weights", "student": "content_possible", "stranger": "not_exposed"}


def test_a_class_of_its_own_leaves_what_detectors_say_as_it_was(world: World) -> None:
    advise(world, world.shards["b"])
    trace = Session(world.ledger).trace("reader")
    assert dict(trace.verdicts) == {"advisory": Verdict.DIRECT, "toxicity": Verdict.NOT_EXPOSED}
    (exposure,) = trace.exposures
    assert (exposure.category, exposure.documents, exposure.rows, dict(exposure.reasons)) == ("advisory", 1, 1, {"advisory": 1})


def test_a_model_that_is_advised_exposes_itself_its_children_and_its_students(world: World) -> None:
    advise(world, "reader")
    assert verdicts(world) == {"reader": "direct", "child": "inherited_weights", "student": "content_possible", "stranger": "not_exposed"}
    (exposure,) = Session(world.ledger).trace("child").exposures
    assert (exposure.dataset.name, exposure.documents, exposure.rows) == ("reader", None, None)


def test_a_prompt_that_is_advised_exposes_only_who_learnt_from_what_was_made_with_it(world: World) -> None:
    advise(world, PROMPT)
    assert verdicts(world) == {"reader": "not_exposed", "child": "not_exposed", "student": "content_possible", "stranger": "not_exposed"}


def test_a_text_is_advised_by_its_digest_and_never_enters_the_ledger(world: World, tmp_path: Path) -> None:
    (tmp_path / "text").write_text("something else altogether, about harbours")
    advised = advise(world, texts=[tmp_path / "text"])
    assert advised.advisory.documents == (HARBOUR,)
    stored = [path.read_bytes() for path in (tmp_path / "ledger").rglob("*") if path.is_file()]
    assert not any(b"about harbours" in data for data in stored)


def test_an_answer_as_of_an_older_head_does_not_see_it(world: World) -> None:
    size = len(world.ledger.entries())
    advise(world, HARBOUR)
    assert Session(world.ledger, head=size).trace("reader").verdict is Verdict.NOT_EXPOSED


def test_a_question_about_one_detector_mentions_an_advisory_and_does_not_count_it(world: World) -> None:
    entry = advise(world, HARBOUR).entry
    session = Session(world.ledger)
    trace = session.trace("reader", question=session.question(detectors=["toxicity"]))
    assert (trace.verdict, trace.advisories) == (Verdict.NOT_EXPOSED, (entry,))
    assert [(one["entry"], one["authority"]) for one in session.notes(trace)["advisories"]] == [(entry, "acme legal")]


def test_a_question_about_advisories_alone_leaves_detectors_out(world: World) -> None:
    advise(world, PROMPT)
    assert verdicts(world, detectors=["advisory"])["student"] == "content_possible"
    assert verdicts(world, detectors=["advisory"])["stranger"] == "not_exposed"


def test_advisories_do_not_stand_in_for_a_detector_that_was_never_run(tmp_path: Path) -> None:
    ledger = Ledger.open(tmp_path / "ledger", create=True)
    record = {"models": [{"name": "m", **CLOSED}, {"name": "bad", **CLOSED}]}
    link(ledger, [(parse_record(record), Path())], time=TIME)
    publish(ledger, Session(ledger), ["bad"], reason="r", authority="a", time=TIME)
    assert Session(ledger).trace("m").verdict is Verdict.UNKNOWN


def test_a_floor_of_documents_does_not_hide_what_nobody_counted(world: World) -> None:
    advise(world, "reader")
    session = Session(world.ledger)
    assert session.trace("child", question=session.question(at_least=100)).verdict is Verdict.INHERITED_WEIGHTS


def test_an_advised_document_might_stand_in_a_shard_that_nobody_scanned(world: World) -> None:
    record = {
        "models": [{"name": "other", **CLOSED, "trained_on": [{"dataset": "e"}]}],
        "datasets": [{"name": "e", **CLOSED, "shards": [sha256_name(b"elsewhere")]}],
    }
    link(world.ledger, [(parse_record(record), Path())], time=TIME)
    advise(world, HARBOUR)
    trace = Session(world.ledger).trace("other")
    assert {(one.category, one.why) for one in trace.unknown} == {("advisory", "rows not scanned"), ("toxicity", "rows not scanned")}


def test_sql_sees_the_class(world: World) -> None:
    advise(world, HARBOUR)
    rows = Session(world.ledger).sql("SELECT model_name, verdict FROM audit.contaminated_models WHERE class = 'advisory' ORDER BY 1").rows()
    assert [tuple(row.values()) for row in rows] == [
        ("child", "inherited_weights"),
        ("reader", "direct"),
        ("student", "content_possible"),
    ]


def test_the_command_publishes_and_trace_mentions_it(world: World, tmp_path: Path) -> None:
    call = ["--ledger", str(tmp_path / "ledger"), "--json"]
    said = CliRunner().invoke(app, ["advisory", HARBOUR, "--reason", "withdrawn", "--authority", "acme legal, 2026-10-01", *call])
    answer = json.loads(said.stdout)
    assert (said.exit_code, answer["schema"], answer["documents"]) == (0, "forebear/advised/1", [HARBOUR])
    entry = world.ledger.entries()[answer["entry"]][2]
    assert (entry.kind, entry.object) == (EntryKind.ADVISORY, answer["object"])
    traced = CliRunner().invoke(app, ["trace", "child", *call])
    mentioned = json.loads(traced.stdout)
    assert traced.exit_code == 1
    assert [(one["entry"], one["reason"]) for one in mentioned["advisories"]] == [(answer["entry"], "withdrawn")]
    assert mentioned["exposures"][0]["advisories"] == [answer["entry"]]


@pytest.mark.parametrize(
    "fault",
    [{"reason": ""}, {"authority": " "}, {"reason": "two\nlines"}, {"reason": "x" * 1001}, {"documents": ("abc",)}, {"documents": ()}],
)
def test_an_advisory_without_reason_authority_or_a_digest_is_wrong_use(fault: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        Advisory(**{"reason": "r", "authority": "a", "time": TIME, "documents": (HARBOUR,), **fault})


digests = st.binary(max_size=8).map(sha256_name)
many = st.lists(digests, max_size=3).map(tuple)


@given(many, many, st.lists(digests, min_size=1, max_size=2).map(tuple))
def test_bytes_give_the_advisory_back(documents: Any, shards: Any, prompts: Any) -> None:
    advisory = Advisory("why", "who", TIME, documents=documents, shards=shards, models=("name:m",), system_prompts=prompts)
    assert Advisory.from_bytes(advisory.to_bytes()) == advisory


@pytest.mark.parametrize("change", [b" ", b'{"schema":"forebear/advisory/1"}', b"[]", b"\xff"])
def test_bytes_that_are_no_advisory_are_refused(change: bytes) -> None:
    good = Advisory("why", "who", TIME, documents=(HARBOUR,)).to_bytes()
    for bad in (good + change, change):
        with pytest.raises(IntegrityError):
            Advisory.from_bytes(bad)


def test_names_in_another_order_are_the_same_advisory() -> None:
    one = Advisory("why", "who", TIME, documents=(HARBOUR, PROMPT))
    assert one == dataclasses.replace(one, documents=(PROMPT, HARBOUR, PROMPT))
