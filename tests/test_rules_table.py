"""The rule table is one: what `forebear rules` prints is what SPEC lists, and its caps are verdicts that README explains."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from test_spec_document import code, table

from forebear.schemas.enums import Relation

ROOT = Path(__file__).resolve().parents[1]


def printed(forebear: Callable[..., Any]) -> list[dict[str, Any]]:
    rules: list[dict[str, Any]] = forebear("rules", "--json").json["rules"]
    return rules


def test_the_command_prints_the_rows_of_spec_in_their_order(forebear: Callable[..., Any]) -> None:
    listed = [
        (
            code(row["relation"]),
            row["child"],
            row["parent"],
            "not walked" if row["walked"] == "no" else row["cap at most"],
            row["mode of a dataset parent"] or None,
        )
        for row in table("16. Verdicts", "relation")
    ]
    assert [(row["relation"], row["child"], row["parent"], row["cap"], row["mode"]) for row in printed(forebear)] == listed


def test_the_table_for_people_has_a_line_for_each_rule(forebear: Callable[..., Any]) -> None:
    said = forebear("rules").out
    for row in printed(forebear):
        assert re.search(rf"{row['relation']}\s*[|│]\s*{row['child']}\s*[|│]\s*{row['parent']}\s*[|│]\s*{row['cap']}", said), row


def test_every_relation_has_a_rule_and_every_rule_a_reason(forebear: Callable[..., Any]) -> None:
    rules = printed(forebear)
    assert {row["relation"] for row in rules} == {relation.value for relation in Relation}
    assert all(row["source"] or row["condition"] for row in rules)


def test_every_cap_is_a_verdict_that_the_readme_explains(forebear: Callable[..., Any]) -> None:
    part = (ROOT / "README.md").read_text("utf-8").partition("## What a verdict says")[2]
    explained = re.findall(r"^\| `(\w+)` \| ", part, re.MULTILINE)
    caps = {row["cap"] for row in printed(forebear)} - {"unchanged", "not walked"}
    assert caps and caps <= set(explained)


def test_the_one_row_that_clears_is_not_there(forebear: Callable[..., Any]) -> None:
    """Only bytes clear: no relation has `cleared` or `not_exposed` as its cap."""
    assert not {row["cap"] for row in printed(forebear)} & {"cleared", "not_exposed", "unknown"}
