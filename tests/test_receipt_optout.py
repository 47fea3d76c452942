"""Receipts: where a document was dropped or kept, who had consumed it, and what is not known."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner
from world import Document, World, add_run, make_ledger

from forebear.schemas.digests import sha256_name
from forebear.schemas.errors import UsageError
from forebear.schemas.lineage import parse_record
from forebear.tracer.audit.publish import publish
from forebear.tracer.audit.session import Session
from forebear.tracer.cli import app
from forebear.tracer.lineage.link import link

TIME = "2026-11-02T00:00:00.000000Z"
HARBOUR = "something else altogether, about harbours"
DIGEST = sha256_name(HARBOUR.encode())
OTHERS = [Document("one text", {"toxicity": 10}), Document("another text", {"toxicity": 10})]
CLOSED = {"ancestry": "closed"}


@pytest.fixture
def world(tmp_path: Path) -> World:
    """Entry 0: a run kept the document. 1: `early` read it. 2: a run dropped it. 3: `late` read the raw shard, `careful` the clean one."""
    world = make_ledger(tmp_path / "ledger", shards={"b": [*OTHERS, Document(HARBOUR, {"toxicity": 700}, "books")]})
    shard = world.shards["b"]
    add(world, [trained("early", "raw")], [listing("raw", shard)])
    rows = [*OTHERS, Document(HARBOUR, {"toxicity": 700}, "books", action="drop", reasons=("denylisted",))]
    dropped = add_run(world.ledger, shards={"b": rows}, clean=True)
    assert dropped.shards["b"] == shard
    late = [trained("late", "mix"), trained("careful", "clean"), {"name": "child", **CLOSED, "parents": [grown("late")]}]
    mix = {"name": "mix", **CLOSED, "relations": [{"relation": "mixed_from", "dataset": "raw"}]}
    add(world, late, [mix, listing("clean", sha256_name(b"cleaned elsewhere"))])
    return world


def trained(name: str, dataset: str) -> dict[str, Any]:
    return {"name": name, **CLOSED, "trained_on": [{"dataset": dataset, "stage": "pretrain"}]}


def listing(name: str, shard: str) -> dict[str, Any]:
    return {"name": name, **CLOSED, "shards": [shard]}


def grown(model: str) -> dict[str, str]:
    return {"relation": "finetuned_from", "model": model}


def add(world: World, models: list[Any], datasets: list[Any]) -> None:
    link(world.ledger, [(parse_record({"models": models, "datasets": datasets}), Path())], time=TIME)


def document(world: World, digest: str = DIGEST) -> dict[str, Any]:
    (found,) = Session(world.ledger).receipt([digest])["documents"]
    return found


def test_every_run_says_what_it_did_and_why(world: World) -> None:
    said = [(one["entry"], one["shard"], one["row"], one["action"], one["reasons"]) for one in document(world)["decisions"]]
    shard = world.shards["b"]
    assert said == [(0, shard, 2, "keep", []), (2, shard, 2, "drop", ["denylisted"])]


def test_models_that_consumed_it_stand_before_or_since_it_was_first_dropped(world: World) -> None:
    found = document(world)
    assert found["first_dropped"] == 2
    assert [(one["model"]["name"], one["dataset"], one["when"]) for one in found["consumed"]] == [
        ("early", "raw", "before"),
        ("late", "raw", "since"),
    ]


def test_descendants_are_reached_too(world: World) -> None:
    found = document(world)
    assert {one["name"]: one["channel"] for one in found["reached"]} == {"early": "documents", "late": "documents", "child": "weights"}


def test_a_shard_that_nobody_scanned_is_not_known(world: World) -> None:
    answer = Session(world.ledger).receipt([DIGEST])
    assert (answer["complete"], [(one["node"], one["why"]) for one in answer["unknown"]]) == (False, [("name:clean", "rows not scanned")])


def test_a_document_that_no_run_logged_says_so(world: World) -> None:
    found = document(world, sha256_name(b"never seen"))
    assert (found["logged"], found["decisions"], found["consumed"], found["first_dropped"]) == (False, [], [], None)


def test_a_document_that_was_never_dropped_has_no_before(world: World) -> None:
    kept = document(make_world_without_drop(world))
    assert {one["when"] for one in kept["consumed"]} == {None}


def make_world_without_drop(world: World) -> World:
    return World(world.ledger.at(2), world.run, world.manifest, world.shards, world.cleaned)


def test_rows_that_a_usage_log_leaves_out_were_not_consumed(world: World, tmp_path: Path) -> None:
    log = tmp_path / "usage.jsonl"
    log.write_text(json.dumps({"model": "partly", "shard": world.shards["b"], "first_row": 0, "last_row": 2, "stage": "pretrain"}) + "\n")
    record = {"models": [{"name": "partly", **CLOSED, "trained_on": [{"dataset": "raw", "stage": "pretrain", "usage": "complete"}]}]}
    link(world.ledger, [(parse_record(record), Path())], time=TIME, usage=[log])
    assert "partly" not in {one["model"]["name"] for one in document(world)["consumed"]}


def test_an_advisory_about_it_is_mentioned(world: World) -> None:
    publish(world.ledger, Session(world.ledger), [DIGEST], reason="withdrawn", authority="its author", time=TIME)
    assert [one["reason"] for one in document(world)["advisories"]] == ["withdrawn"]


@pytest.mark.parametrize("text", ["harbours", "sha256:abc", DIGEST[:30]])
def test_anything_but_a_whole_digest_is_wrong_use(world: World, text: str) -> None:
    with pytest.raises(UsageError) as caught:
        Session(world.ledger).receipt([text])
    assert caught.value.kind == "not_a_document"


def test_the_command_answers_for_a_text_and_exits_1_where_a_model_was_reached(world: World, tmp_path: Path) -> None:
    (tmp_path / "text").write_text(HARBOUR)
    call = ["receipt", "--text-file", str(tmp_path / "text"), "--ledger", str(tmp_path / "ledger")]
    said = CliRunner().invoke(app, [*call, "--json"])
    assert (said.exit_code, json.loads(said.stdout)["documents"][0]["document"]) == (1, DIGEST)
    shown = CliRunner().invoke(app, call)
    assert "consumed by early in raw before it was first dropped" in " ".join(shown.stdout.split())
