"""Pictures of a trace: what is drawn, how verdicts are told, hostile names, and limits that are kept and said."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from world import World, make_ledger

from forebear.schemas.enums import Verdict
from forebear.tracer.audit.session import Session
from forebear.tracer.ledger.ledger import Ledger
from forebear.tracer.lineage.link import link
from forebear.tracer.lineage.records import parse_text
from forebear.tracer.pictures import _SHAPES, MERMAID_CHARACTERS, Caps, _dot_text, _mermaid_text, dot, mermaid

NODE = re.compile(r'  n\d+(\{\{|\[\[|\{|\[/|\(\[|\(|\[\(|\[)"[^"\n]*"(\}\}|\]\]|\}|/\]|\\\]|\]\)|\)|\)\]|\]):::[a-z_]+')
EDGE = re.compile(r'  n\d+ (-->|<-->|-\.->)\|"[^"\n]*"\| n\d+')
OTHER = re.compile(
    r'flowchart BT|  cut>"[^"\n]*"\]|  classDef [a-z_]+ fill:#[0-9a-f]{6},stroke:#444,color:#111|  style n\d+ stroke-width:4px'
)
DOT = re.compile(r'digraph ancestors \{|  rankdir=BT;|\}|  (node|n\d+|n\d+ -> n\d+|cut) \[([a-z]+=("([^"\\]|\\\\|\\")*"|\w+)(, )?)+\];')


def record(ledger: Ledger, value: Any) -> Session:
    link(ledger, [(parse_text(json.dumps(value).encode(), where="r"), Path())], time="2026-11-01T12:00:00+00:00")
    return Session(ledger)


@pytest.fixture(scope="module")
def session(tmp_path_factory: pytest.TempPathFactory) -> Session:
    """One model of every verdict that a small world gives, two names of one model, and relations that are not walked."""
    world: World = make_ledger(tmp_path_factory.mktemp("pictures") / "ledger", clean=True)
    closed, clean = {"ancestry": "closed"}, sorted(set(world.cleaned.values()))
    value = {
        "models": [
            {"name": "dirty", **closed, "trained_on": [{"dataset": "raw"}]},
            {"name": "tuned", **closed, "parents": [{"relation": "finetuned_from", "model": "dirty"}]},
            {"name": "taught", **closed, "parents": [{"relation": "distilled_from", "model": "dirty"}]},
            {"name": "judged", **closed, "parents": [{"relation": "judged_by", "model": "dirty"}]},
            {"name": "clean", **closed, "trained_on": [{"dataset": "cleaned"}]},
            {"name": "fresh", **closed, "trained_on": [{"dataset": "empty"}]},
            {
                "name": "chat",
                **closed,
                "parents": [
                    {"relation": "merged_from", "model": name} for name in ("tuned", "taught", "judged", "clean", "fresh", "nobody")
                ]
                + [
                    {"relation": "tokenizer_from", "model": "tokens"},
                    {"relation": "same_weights_as", "model": "other"},
                    {"relation": "finetuned_from", "model": "denied", "evidence": "contradicted"},
                ],
            },
            {"name": "other", **closed},
        ],
        "datasets": [
            {"name": "raw", **closed, "shards": [world.shards["a"]]},
            {"name": "cleaned", **closed, "shards": clean, "relations": [{"relation": "cleaned_from", "dataset": "raw"}]},
            {"name": "empty", **closed, "shards": [world.shards["empty"]]},
        ],
    }
    return record(world.ledger, value)


def test_every_line_of_a_flowchart_is_one_that_mermaid_knows(session: Session) -> None:
    text = mermaid(session, [session.trace("chat")])
    assert [line for line in text.splitlines() if not (NODE.fullmatch(line) or EDGE.fullmatch(line) or OTHER.fullmatch(line))] == []


def test_every_line_of_a_graph_is_one_that_graphviz_knows(session: Session) -> None:
    text = dot(session, [session.trace("chat")])
    assert [line for line in text.splitlines() if not DOT.fullmatch(line)] == []


def test_verdicts_are_told_by_words_and_shapes(session: Session) -> None:
    text = mermaid(session, [session.trace("chat")])
    expected = {
        '{{"dirty: direct"}}:::direct',
        '[["tuned: inherited_weights"]]:::inherited_weights',
        '{"taught: subliminal_possible"}:::subliminal_possible',
        '[/"judged: guidance_possible"\\]:::guidance_possible',
        '("clean: cleared"):::cleared',
        '["fresh: not_exposed"]:::not_exposed',
        '(["nobody: unknown"]):::unknown',
        '[("raw: 1 contaminated documents")]:::dataset',
    }
    drawn = {line.lstrip(" n0123456789") for line in text.splitlines()}
    assert expected <= drawn


def test_no_two_verdicts_share_a_shape() -> None:
    assert {*map(str, Verdict), "dataset"} == set(map(str, _SHAPES))
    assert len({shape[:2] for shape in _SHAPES.values()}) == len({shape[2] for shape in _SHAPES.values()}) == len(_SHAPES)


def test_what_passes_nothing_is_dotted_and_what_is_walked_both_ways_is_drawn_once(session: Session) -> None:
    lines = mermaid(session, [session.trace("chat")]).splitlines()
    assert sum('-.->|"tokenizer_from"|' in line for line in lines) == 1
    assert sum('-.->|"finetuned_from #40;contradicted#41;"|' in line for line in lines) == 1
    assert sum("same_weights_as" in line for line in lines) == 1
    assert any('<-->|"same_weights_as"|' in line for line in lines)


def test_one_picture_of_several_models_draws_each_node_once(session: Session) -> None:
    text = dot(session, [session.trace("tuned"), session.trace("dirty")])
    assert text.count('label="dirty: direct"') == 1
    assert text.count("penwidth=4") == 2


def test_a_picture_that_is_cut_says_how_much_it_leaves_out(session: Session) -> None:
    whole = mermaid(session, [session.trace("chat")])
    assert "not drawn" not in whole
    cut = mermaid(session, [session.trace("chat")], caps=Caps(nodes=4, edges=100))
    left = int(re.search(r'cut>"at least (\d+) more relations are not drawn', cut)[1])  # type: ignore[index]
    names = re.findall(r'"(\w+): [a-z_]+"', cut)
    mirror = session.graph.edges.mirror  # the way back of `same_weights_as`, drawn once
    own = [sum(not mirror[at] for at in session.graph.edges_of(session.graph.find(name))) for name in names]
    assert (len(names), own[0]) == (4, 9)
    assert left == sum(own) - sum(bool(EDGE.fullmatch(line)) for line in cut.splitlines())
    assert "more relations are not drawn" in dot(session, [session.trace("chat")], caps=Caps(nodes=100, edges=3))


def test_a_large_lineage_stays_within_mermaids_limits(tmp_path: Path) -> None:
    names = [f"{n:04d}" + "(" * 500 for n in range(600)]
    parents = [{"relation": "merged_from", "model": name} for name in names]
    session = record(Ledger.open(tmp_path / "ledger", create=True), {"models": [{"name": "m", "parents": parents}]})
    text = mermaid(session, [session.trace("m")])
    assert len(text) <= MERMAID_CHARACTERS
    drawn = sum(bool(EDGE.fullmatch(line)) for line in text.splitlines())
    assert 50 < drawn < 500
    assert f"{600 - drawn} more relations are not drawn" in text


HOSTILE = 'x"]; click n0 href "javascript:alert(1)" %%{init: {}}%% <img src=x onerror=alert(1)> `#quot; end \\'


def test_a_hostile_name_breaks_neither_language(tmp_path: Path) -> None:
    value = {"models": [{"name": HOSTILE, "parents": [{"relation": "finetuned_from", "model": "[/b/]"}]}]}
    session = record(Ledger.open(tmp_path / "ledger", create=True), value)
    trace = session.trace(HOSTILE)
    text = mermaid(session, [trace])
    assert [line for line in text.splitlines() if not (NODE.fullmatch(line) or EDGE.fullmatch(line) or OTHER.fullmatch(line))] == []
    assert "<" not in text
    assert [line for line in dot(session, [trace]).splitlines() if not DOT.fullmatch(line)] == []


@given(st.text())
def test_escaped_text_keeps_no_sign_that_either_language_reads(text: str) -> None:
    assert not set(_mermaid_text(text)) & set('"<>[]{}()|`&\\%')
    decoded = re.sub(r"#(\d+);", lambda found: chr(int(found[1])), _mermaid_text(text))
    assert decoded == text
    assert re.fullmatch(r'([^"\\]|\\\\|\\")*', _dot_text(text), re.DOTALL)


def test_the_command_prints_the_picture_alone_with_the_verdicts_exit_code(session: Session, forebear: Callable[..., Any]) -> None:
    url = session.ledger.store.url
    answer = forebear("trace", "tuned", "--mermaid", "--ledger", url)
    assert (answer.code, answer.out.splitlines()[0], answer.err) == (1, "flowchart BT", "")
    answer = forebear("trace", "clean", "--dot", "--ledger", url)
    assert (answer.code, answer.out.splitlines()[0]) == (0, "digraph ancestors {")
    answer = forebear("trace", "--all", "--dot", "--ledger", url)
    assert answer.out.count("penwidth=4") == 8


def test_one_form_of_answer_at_a_time(session: Session, forebear: Callable[..., Any]) -> None:
    answer = forebear("trace", "tuned", "--mermaid", "--json", "--ledger", session.ledger.store.url)
    assert (answer.code, answer.error["kind"]) == (2, "too_many_arguments")
