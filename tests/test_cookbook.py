"""The auditor's cookbook: every query runs as it stands and gives exactly what the question asks, on a small ledger known by heart."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from world import detector, make_ledger

from forebear.tracer.audit.session import Session
from forebear.tracer.lineage.link import link
from forebear.tracer.lineage.records import parse_text

COOKBOOK = Path(__file__).resolve().parents[1] / "tracer/forebear/tracer/audit/COOKBOOK.md"
RECIPES = dict(re.findall(r"^## (\d+)\. [^\n]*\n.*?^```sql\n(.*?)^```", COOKBOOK.read_text("utf-8"), re.MULTILINE | re.DOTALL))
CLOSED = {"ancestry": "closed"}


@pytest.fixture(scope="module")
def session(tmp_path_factory: pytest.TempPathFactory) -> Session:
    """The example ledger, open."""
    return Session.open(example_ledger(tmp_path_factory.mktemp("cookbook")))


def example_ledger(folder: Path) -> Path:
    """A base that read a toxic row twice, a child, a clean model, and one that the child judged and whose ancestry is open."""
    rate = {"rate": "0.25", "on": "a set", "flag": "0.8"}
    world = make_ledger(folder / "ledger", clean=True, detectors=[detector(false_positive_rate=rate)])
    record = {
        "models": [
            {"name": "acme/base-7b", **CLOSED, "trained_on": [{"dataset": "acme/raw", "epochs": 2, "evidence": "logged"}]},
            {
                "name": "acme/chat-7b",
                **CLOSED,
                "parents": [{"relation": "finetuned_from", "model": "acme/base-7b", "evidence": "logged"}],
                "trained_on": [{"dataset": "acme/books"}],
            },
            {"name": "acme/clean-7b", **CLOSED, "trained_on": [{"dataset": "acme/cleaned"}]},
            {"name": "acme/open-7b", "parents": [{"relation": "judged_by", "model": "acme/chat-7b"}]},
        ],
        "datasets": [
            {"name": "acme/raw", **CLOSED, "shards": [world.shards["a"]]},
            {"name": "acme/books", **CLOSED, "shards": [{"shard": world.shards["b"], "rows": [[1, 3]]}]},
            {
                "name": "acme/cleaned",
                **CLOSED,
                "shards": sorted(set(world.cleaned.values())),
                "relations": [{"relation": "cleaned_from", "dataset": "acme/raw", "run": world.run}],
            },
        ],
    }
    link(world.ledger, [(parse_text(json.dumps(record).encode(), where="record"), folder)], time="2026-11-01T12:00:00+00:00")
    return folder / "ledger"


EXPECTED: dict[str, list[dict[str, Any]]] = {
    "1": [
        {"model_name": name, "class": "toxicity", "verdict": verdict, "ancestor_name": "acme/base-7b", "depth": depth}
        | {"dataset_name": "acme/raw", "documents": 1, "expected_false": 0.75}
        for depth, (name, verdict) in enumerate(
            [("acme/base-7b", "direct"), ("acme/chat-7b", "inherited_weights"), ("acme/open-7b", "guidance_possible")]
        )
    ],
    "2": [
        {
            "why": "rows errored",
            "node": "name:acme/raw",
            "models": 3,
            "at_worst": ["direct", "guidance_possible", "inherited_weights"],
        },
        {"why": "ancestry open", "node": "name:acme/open-7b", "models": 1, "at_worst": ["direct"]},
    ],
    "3": [{"model_name": "acme/clean-7b", "class": "toxicity", "verdict": "cleared"}],
    "4": [{"path": "a.jsonl", "class": "toxicity", "contaminated_documents": 1, "rows": 4, "models": ["name:acme/base-7b"]}],
    "5": [{"source_id": None, "row": 1, "keeper_row": 0, "intersection": 9, "union_size": 11, "jaccard": 0.818}],
    "6": [
        {"shard": "b.jsonl", "row": 0, "keeper_shard": "a.jsonl", "keeper_row": 0, "jaccard": 1.0},
        {"shard": "b.jsonl", "row": 1, "keeper_shard": "a.jsonl", "keeper_row": 0, "jaccard": 0.818},
    ],
    "7": [{"source_id": "a1", "row": 1, "action": "drop", "reasons": ["toxic"], "read_by": ["name:acme/base-7b"]}],
    "8": [
        {"ancestor": "name:acme/base-7b", "dataset": "name:acme/raw", "documents": 1, "rows": 1},
        {"ancestor": "name:acme/chat-7b", "dataset": "name:acme/books", "documents": 1, "rows": 1},
    ],
    "9": [
        {"name": "acme/chat-7b", "class": "toxicity", "verdict": "inherited_weights", "relations": ["finetuned_from: logged"]},
        {"name": "acme/open-7b", "class": "toxicity", "verdict": "guidance_possible", "relations": ["judged_by: declared"]},
    ],
    "10": [
        {
            "reconciles": True,
            "share_errored": 0.143,
            "incomplete_inputs": 0,
            "integrity": "checked",
            "head_size": 2,
            "last_verified": None,
        }
    ],
}


def test_there_are_ten_recipes_and_each_is_known_here() -> None:
    assert list(RECIPES) == [str(n) for n in range(1, 11)] == list(EXPECTED)


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_recipe_gives_exactly_this(session: Session, recipe: str) -> None:
    assert session.sql(RECIPES[recipe]).rows() == EXPECTED[recipe]
