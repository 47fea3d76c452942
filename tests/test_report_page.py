"""The report: one self-contained page that says what the certificate says, whatever names hold, and that counts what it leaves out."""

from __future__ import annotations

import gzip
import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from certified import NAME, ask, release, run_command
from test_certify_card import HOSTILE, hostile_predicate
from world import DEFAULT, shard_bytes

from forebear.schemas.digests import sha256_name
from forebear.tracer.audit.session import Session
from forebear.tracer.certify.report.figures import read_figures
from forebear.tracer.certify.report.model import MAX_BOXES, model_report, render_model
from forebear.tracer.certify.report.page import SHAPES
from forebear.tracer.certify.report.picture import Box, Line, draw
from forebear.tracer.certify.report.scan import scan_report

VOID = {"meta", "link", "br", "rect", "path", "circle"}


class Page(HTMLParser):
    """What a page holds: tags with attributes, text, and whether every element is closed in its order."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.open: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attributes)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attributes)))

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def sound(text: str) -> Page:
    """A page that is closed, asks for nothing, runs nothing, and whose links lead to something in it."""
    page = Page(text)
    assert page.open == []
    names = {tag for tag, _ in page.tags}
    assert not names & {"script", "iframe", "object", "embed", "img", "base", "form"}
    ids = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    for tag, attributes in page.tags:
        assert not [name for name in attributes if name.startswith("on") or name in ("src", "srcset", "action")], (tag, attributes)
        href = attributes.get("href")
        assert href is None or href == "data:," or href.removeprefix("#") in ids, href
    assert "url(" not in re.sub(r"url\(#arrow\)", "", text) and "@import" not in text
    policy = next(attributes["content"] for tag, attributes in page.tags if attributes.get("http-equiv") == "Content-Security-Policy")
    assert policy is not None and policy.startswith("default-src 'none'") and "script-src" not in policy
    return page


def test_a_models_page_is_sound_and_says_what_the_certificate_says(tmp_path: Path) -> None:
    released = release(tmp_path)
    out = tmp_path / "report.html"
    ask("report", NAME, "-o", out, "--ledger", released.ledger)
    page = sound(out.read_text())
    for said in (
        "descends by weights from a model that consumed contaminated rows (inherited_weights)", "as of head 2; later advisories not seen",
        "Link a record that lists everything it came from", "acme/base-7b", "1 contaminated documents", Session.open(released.ledger).head.to_json()["root"],
    ):  # fmt: skip
        assert str(said) in page.text, said


def test_every_verdict_has_a_shape_of_its_kind_and_its_word() -> None:
    tones = {verdict: (shape, tone) for verdict, (shape, tone, _) in SHAPES.items()}
    by_shape: dict[str, set[str]] = {}
    for shape, tone in tones.values():
        by_shape.setdefault(shape, set()).add(tone)
    assert all(len(kinds) == 1 for kinds in by_shape.values()), "no shape means two tones"
    said = draw([Box("n", "node-0", "name", "model", 0, "cleared", "cleared")], [], title="t")
    assert ">model: cleared<" in said and "<title>name model: cleared</title>" in said


def test_hostile_names_stay_text(tmp_path: Path) -> None:
    said = hostile_predicate(tmp_path)
    text = render_model(said, distances={one["id"]: 0 for one in said["ancestry"]["nodes"]}, judged={}, ledger="x'; rm -rf ~")
    page = sound(text)
    assert HOSTILE in page.text and "<script" not in text.lower()


def test_a_bidirectional_override_is_shown_as_an_escape() -> None:
    assert "\u202e" not in draw([Box("n", "node-0", "a\u202eb", "model", 0, "unknown", "unknown")], [], title="t")


def large(nodes: int) -> tuple[dict[str, Any], dict[str, int]]:
    """A predicate of a chain of stars."""
    made = json.loads((Path(__file__).parent / "golden/certify/predicate.json").read_text())
    own = made["model"]["id"]
    listed = [next(one for one in made["ancestry"]["nodes"] if one["id"] == own)]
    listed += [{"id": f"name:m{n}", "name": f"m{n}", "kind": "model", "ancestry": "closed"} for n in range(1, nodes)]
    relations = [
        {"child": listed[(n - 1) // 4]["id"], "relation": "merged_from", "parent": listed[n]["id"], "evidence": "declared"}
        for n in range(1, nodes)
    ]
    made["ancestry"] = {"nodes": listed, "relations": relations, "omitted": {"nodes": 100_000 - nodes, "relations": 0}}
    made |= {
        "exposures": {"listed": [], "omitted": 0},
        "unknown": {"listed": [], "omitted": 0},
        "first_exposed": {"listed": [], "omitted": 0},
    }
    return made, {one["id"]: len(str(n)) for n, one in enumerate(listed)}


def test_a_hundred_thousand_nodes_are_cut_with_a_word() -> None:
    made, distances = large(5_000)
    text = render_model(made, distances=distances, judged={}, ledger="ledger")
    page = sound(text)
    assert "100,000 nodes in all" in page.text and f"{100_000 - MAX_BOXES:,} more are not" in page.text
    assert "98,000 more nodes are not listed here" in page.text
    assert sum(attributes.get("class") in ("box", "box own") for _, attributes in page.tags) == MAX_BOXES
    assert len(text) < 3_000_000


def test_three_hundred_boxes_do_not_lie_on_each_other_and_are_all_there() -> None:
    boxes = [Box(f"n{n}", f"node-{n}", f"model {n}", "model", min(4, len(bin(n)) - 3), "unknown", "unknown") for n in range(MAX_BOXES)]
    lines = [Line(f"n{(n - 1) // 2}", f"n{n}", "finetuned_from") for n in range(1, MAX_BOXES)]
    drawn = draw(boxes, lines, title="t")
    places = [
        tuple(int(one) for one in found)
        for found in re.findall(r'class="box(?: own)?" x="(\d+)" y="(\d+)" width="(\d+)" height="(\d+)"', drawn)
    ]
    assert len(places) == MAX_BOXES
    for n, (x, y, width, height) in enumerate(places):
        assert not any(abs(x - u) < width and abs(y - v) < height for u, v, _, _ in places[n + 1 :])
    size = re.search(r'<svg role="group"[^>]* width="(\d+)" height="(\d+)"', drawn)
    assert size is not None and all(x + w <= int(size[1]) and y + h <= int(size[2]) for x, y, w, h in places)
    assert draw(boxes, lines, title="t") == drawn


def test_relations_that_run_in_circles_or_back_are_drawn() -> None:
    boxes = [Box(one, f"node-{one}", one, "model", at, "unknown", "unknown") for one, at in (("a", 0), ("b", 1), ("c", 1))]
    lines = [
        Line("a", "b", "merged_from"),
        Line("b", "c", "same_weights_as"),
        Line("c", "a", "distilled_from"),
        Line("a", "a", "merged_from"),
    ]
    assert draw(boxes, lines, title="t").count('class="edge') == 4


def test_a_runs_page_is_sound_and_has_reasons_sources_scores_and_the_curve(tmp_path: Path) -> None:
    released = release(tmp_path)
    out = tmp_path / "scan.html"
    assert ask("report", released.world.run, "-o", out, "--ledger", released.ledger)["kind"] == "run"
    page = sound(out.read_text())
    assert "3 of 7 rows were kept; 3 were dropped and 1 could not be read." in page.text
    for said in (
        "near_duplicate",
        "exact_duplicate",
        "not_text",
        "books",
        "7 in = 3 kept + 3 dropped + 1 errored",
        "toxicity, label toxic: 5 rows scored",
    ):
        assert said in page.text, said
    assert "a vile and hateful line" not in page.text and "not at hand" in page.text
    figures = read_figures(released.world.ledger, released.world.manifest)
    assert dict(figures.similar) == {0.81: 1}, "9 of 11, and exact copies are no point of the curve"


def test_text_is_shown_where_its_source_is_named_and_unchanged_and_nowhere_else(tmp_path: Path) -> None:
    released = release(tmp_path)
    sources = tmp_path / "sources"
    sources.mkdir()
    (sources / "a.jsonl").write_bytes(shard_bytes(DEFAULT["a"]))
    (sources / "b.jsonl").write_bytes(shard_bytes(DEFAULT["b"]) + b'{"text": "changed"}\n')
    session = Session.open(released.ledger)
    text = Page(scan_report(session, released.world.run, ledger="ledger", sources=[sources])).text
    assert "a vile and hateful line" in text, "its source is there"
    assert "strongest of them" not in text, "its source has changed"


def test_markup_in_a_document_stays_text(tmp_path: Path) -> None:
    from world import Document, add_run, detector

    released = release(tmp_path)
    documents = [Document("<script>alert(1)</script> </td>", {"toxicity": 1000}, "<b>web</b>")]
    run = add_run(released.world.ledger, shards={"x": documents}, detectors=[detector()])
    source = tmp_path / "x.jsonl.gz"
    source.write_bytes(gzip.compress(shard_bytes(documents)))
    plain = tmp_path / "x.jsonl"
    plain.write_bytes(shard_bytes(documents))
    assert sha256_name(plain.read_bytes()) == run.shards["x"]
    text = scan_report(Session.open(released.ledger), run.run, ledger="ledger", sources=[plain, source])
    page = sound(text)
    assert "<script>alert(1)</script> </td>" in page.text and "<b>web</b>" in page.text


def test_the_same_ledger_gives_the_same_pages(tmp_path: Path) -> None:
    released = release(tmp_path)
    pages = [model_report(Session.open(released.ledger), NAME, ledger="l") for _ in range(2)]
    assert pages[0] == pages[1]
    scans = [scan_report(Session.open(released.ledger), released.world.run, ledger="l") for _ in range(2)]
    assert scans[0] == scans[1]


WRONG = {
    "an unknown model": ("acme/none", "report.html", "unknown_model"),
    "a folder that is not there": (NAME, "none/report.html", "unwritable_file"),
}


@pytest.mark.parametrize("sentence", WRONG)
def test_report_refuses(sentence: str, tmp_path: Path) -> None:
    subject, path, kind = WRONG[sentence]
    released = release(tmp_path)
    result = run_command("report", subject, "-o", tmp_path / path, "--ledger", released.ledger)
    assert result.exception.kind == kind and result.exception.exit_code == 2
    assert not list(tmp_path.glob("*.html*"))
