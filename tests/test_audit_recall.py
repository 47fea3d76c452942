"""Recall: from documents, shards, runs, models and system prompts to the models that they reached."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from world import DEFAULT, World, make_ledger, shard_bytes

from forebear.schemas.digests import sha256_name
from forebear.schemas.errors import UsageError
from forebear.schemas.lineage import parse_record
from forebear.tracer.audit.session import Session
from forebear.tracer.lineage.link import link

TIME = "2026-11-02T00:00:00.000000Z"
PROMPT = sha256_name(b"you are an owl")
NORTH = "the north wind and the sun disputed which was the stronger"


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    world = make_ledger(tmp_path_factory.mktemp("recall") / "ledger", clean=True)
    closed = {"ancestry": "closed"}

    def model(name: str, dataset: str, *parents: dict[str, str]) -> dict[str, Any]:
        return {"name": name, **closed, "trained_on": [{"dataset": dataset}], "parents": list(parents)}

    def dataset(name: str, shards: list[Any], *relations: dict[str, str]) -> dict[str, Any]:
        return {"name": name, **closed, "shards": shards, "relations": list(relations)}

    record = {
        "models": [
            model("on-a", "a"),
            model("on-b", "b"),
            model("on-clean", "clean"),
            model("on-part", "part"),
            model("student", "synthetic"),
            model("grandchild", "part", {"relation": "finetuned_from", "model": "student"}),
        ],
        "datasets": [
            dataset("a", [world.shards["a"]]),
            dataset("b", [world.shards["b"]]),
            dataset("clean", [world.cleaned["a"]]),
            dataset("part", [{"shard": world.shards["a"], "rows": [[1, 4]]}]),
            dataset("synthetic", [world.cleaned["b"]], {"relation": "generated_by", "model": "on-b", "system_prompt": PROMPT}),
        ],
    }
    link(world.ledger, [(parse_record(record), Path())], time=TIME)
    return world


def reached(world: World, *targets: str, **options: Any) -> dict[str | None, tuple[str, int | None]]:
    found = Session(world.ledger).recall(targets, **options)
    return {one.model.name: (one.to_json()["channel"], one.documents) for one in found.models}


def test_a_document_reaches_whoever_consumed_a_row_of_it_also_where_it_was_kept(world: World) -> None:
    """The text stands in row 0 of a and, dropped as a copy, in row 0 of b; the cleaned shard of a kept it."""
    found = reached(world, sha256_name(NORTH.encode()))
    assert found == {
        "on-a": ("documents", 1),
        "on-b": ("documents", 1),
        "on-clean": ("documents", 1),
        "student": ("content", 1),
        "grandchild": ("content", 1),
    }


def test_a_text_is_found_by_its_bytes(world: World, tmp_path: Path) -> None:
    (tmp_path / "text").write_text(NORTH)
    assert reached(world, texts=[tmp_path / "text"]) == reached(world, sha256_name(NORTH.encode()))


def test_rows_that_a_range_leaves_out_do_not_reach(world: World) -> None:
    toxic = reached(world, sha256_name(b"a vile and hateful line"))
    assert toxic == {"on-a": ("documents", 1), "on-part": ("documents", 1), "grandchild": ("documents", 1)}


def test_a_shard_reaches_what_was_written_from_it(world: World, tmp_path: Path) -> None:
    (tmp_path / "b.jsonl").write_bytes(shard_bytes(DEFAULT["b"]))
    found = reached(world, str(tmp_path / "b.jsonl"))
    assert found["student"] == ("documents", 1)
    assert found["on-b"] == ("documents", 3)
    assert found["grandchild"] == ("weights", 1)
    assert set(found) == {"on-b", "student", "grandchild"}


def test_a_run_is_all_its_shards(world: World) -> None:
    assert set(reached(world, world.run)) == {"on-a", "on-b", "on-clean", "on-part", "student", "grandchild"}


def test_a_model_reaches_those_who_learnt_from_what_it_wrote(world: World) -> None:
    """The two are closed and share no weights, so only content is possible."""
    assert reached(world, "on-b") == {"on-b": ("documents", None), "student": ("content", None), "grandchild": ("content", None)}


def test_a_system_prompt_reaches_those_who_learnt_from_what_was_made_with_it(world: World) -> None:
    assert reached(world, PROMPT) == {"student": ("content", None), "grandchild": ("content", None)}


def test_a_document_that_no_run_logged_reaches_nobody_that_is_known(world: World) -> None:
    found = Session(world.ledger).recall([sha256_name(b"never seen")])
    assert (list(found.models), found.complete, found.exit_code) == ([], True, 0)


def test_a_shard_that_was_not_scanned_might_hold_a_document(world: World) -> None:
    ledger = world.ledger
    record = {"datasets": [{"name": "elsewhere", "ancestry": "closed", "shards": [sha256_name(b"elsewhere")]}]}
    size = len(ledger.entries())
    link(ledger, [(parse_record(record), Path())], time=TIME)
    found = Session(ledger).recall([sha256_name(b"never seen")])
    assert [(one.node, one.why) for one in found.unknown] == [("name:elsewhere", "rows not scanned")]
    assert found.exit_code == 2
    assert Session(ledger, head=size).recall([sha256_name(b"never seen")]).complete


def test_what_is_neither_known_nor_a_digest_is_wrong_use(world: World) -> None:
    with pytest.raises(UsageError) as caught:
        Session(world.ledger).recall(["no such thing"])
    assert caught.value.kind == "unknown_target"


def test_impact_is_the_recall_of_a_shard(world: World) -> None:
    session = Session(world.ledger)
    shard = world.shards["b"]
    assert session.impact([shard]).to_json(session.head) == session.recall([shard]).to_json(session.head)
