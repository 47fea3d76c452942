"""Outside evidence: what dolma and decon flag becomes an advisory over documents of the log, and never a scan of ours."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from conftest import SHARED
from world import Document, make_ledger

from forebear.schemas.digests import sha256_name
from forebear.tracer.audit.session import Session
from forebear.tracer.ledger.ledger import Ledger
from forebear.tracer.lineage.link import link
from forebear.tracer.lineage.records import parse_text

TEXTS = ["the first text of all", "a second one, quite other", "and a third that is long", "the fourth and last"]


def world(folder: Path, texts: Mapping[str, str] | None = None) -> Path:
    """A ledger whose one clean shard has ids, and a closed model that was trained on it."""
    ids = texts or {f"id{n}": text for n, text in enumerate(TEXTS)}
    documents = [Document(text, {"toxicity": 10}, source_id=name) for name, text in ids.items()]
    made = make_ledger(folder / "ledger", shards={"000": documents})
    closed = {"ancestry": "closed"}
    record = {
        "models": [{"name": "m", **closed, "trained_on": [{"dataset": "d"}]}],
        "datasets": [{"name": "d", **closed, "shards": [made.shards["000"]]}],
    }
    link(made.ledger, [(parse_text(json.dumps(record).encode(), where="r"), folder)], time="2026-11-01T12:00:00+00:00")
    return folder / "ledger"


def attributes(path: Path, *records: Any) -> Path:
    path.write_bytes(gzip.compress("".join(json.dumps(one) + "\n" for one in records).encode()))
    return path


def line(name: str, **values: Any) -> dict[str, Any]:
    return {"id": name, "attributes": values}


def test_what_dolma_flags_is_an_exposure_of_a_class_of_its_own(forebear: Callable[..., Any], tmp_path: Path) -> None:
    ledger = world(tmp_path)
    assert Session.open(ledger).trace("m").verdict == "not_exposed"
    file = attributes(tmp_path / "a.json.gz", line("id0", toxicity=0.9), line("id1", toxicity=0.1), line("gone", toxicity=0.95))
    answer = forebear("import", "dolma", file, "--attribute", "toxicity", "--at-least", "0.8", "--ledger", ledger, "--json")
    assert answer.code == 0
    told = answer.json
    assert (told["documents"], told["below"], told["references"]) == (1, 1, {"resolved": 1, "not_recorded": 0, "unresolved": 1})
    assert [(one["what"], one["why"]) for one in told["unresolved"]] == [("gone", "no row of the log has this id")]
    trace = Session.open(ledger).trace("m")
    assert {name: verdict.value for name, verdict in trace.verdicts.items()} == {"toxicity": "not_exposed", "advisory": "direct"}
    assert [(one.category, one.documents) for one in trace.exposures] == [("advisory", 1)]


def test_the_entry_says_whose_word_it_is_and_keeps_no_id(forebear: Callable[..., Any], tmp_path: Path) -> None:
    ledger = world(tmp_path)
    file = attributes(tmp_path / "a.json.gz", line("id0", toxicity=0.9))
    options = ["--attribute", "toxicity", "--at-least", "0.8", "--authority", "acme safety"]
    told = forebear("import", "dolma", file, *options, "--ledger", ledger, "--json").json
    kept = Ledger.open(ledger).get_object(told["object"]).decode()
    assert told["advisory"]["authority"] == "acme safety"
    assert "outside evidence, not scanned here: dolma toxicity at 0.8 or above" in kept
    assert sha256_name(TEXTS[0].encode()) in kept
    assert "id0" not in kept
    (notes,) = [json.loads(forebear("trace", "m", "--ledger", ledger, "--json").out)["advisories"]]
    assert [one["authority"] for one in notes] == ["acme safety"]


SCORES: dict[str, tuple[Any, str, bool]] = {
    "a number": (0.8, "t", True),
    "a lower number": (0.7, "t", False),
    "the highest of spans": ([[0, 5, 0.1], [5, 9, 0.9]], "t", True),
    "spans that are all lower": ([[0, 5, 0.1]], "t", False),
    "no span": ([], "t", False),
    "a nested attribute": ({"email": [[0, 5, 1.0]]}, "t.email", True),
    "an attribute that is not there": (0.9, "other", False),
    "a text": ("high", "t", False),
}


@pytest.mark.parametrize("what", SCORES)
def test_scores_of_dolma(forebear: Callable[..., Any], tmp_path: Path, what: str) -> None:
    value, name, flagged = SCORES[what]
    file = attributes(tmp_path / "a.json.gz", line("id0", t=value))
    answer = forebear("import", "dolma", file, "--attribute", name, "--at-least", "0.8", "--ledger", world(tmp_path), "--json")
    assert answer.code == (0 if flagged else 2)


def test_an_id_that_several_documents_have_means_none(forebear: Callable[..., Any], tmp_path: Path) -> None:
    documents = [Document(text, {"toxicity": 10}, source_id="same") for text in TEXTS[:2]]
    make_ledger(tmp_path / "ledger", shards={"000": documents})
    file = attributes(tmp_path / "a.json.gz", line("same", t=1))
    answer = forebear("import", "dolma", file, "--attribute", "t", "--at-least", "0.8", "--ledger", tmp_path / "ledger", "--json")
    assert (answer.code, answer.error["kind"]) == (2, "nothing_to_import")
    assert "2 documents of the log have this id" in answer.error["found"]


def report(path: Path, *rows: tuple[str, Any, float]) -> Path:
    keys = ("training_file", "training_line", "contamination_score")
    path.write_text("".join(json.dumps(dict(zip(keys, row, strict=True)) | {"training_overlap_text": "x"}) + "\n" for row in rows))
    return path


def test_decon_reports_name_documents_by_file_and_line(forebear: Callable[..., Any], tmp_path: Path) -> None:
    ledger = world(tmp_path)
    rows = [("000", 1, 0.9), ("000", 1, 0.95), ("000.jsonl", 2, 0.85), ("000", 9, 1.0), ("elsewhere", 0, 1.0), ("000", -1, 1.0)]
    answer = forebear("import", "decon", report(tmp_path / "r.jsonl", *rows), "--ledger", ledger, "--json")
    assert answer.code == 0
    why = {one["what"]: one["why"] for one in answer.json["unresolved"]}
    assert why == {"000:9": "the log has no document at this row", "elsewhere:0": "no scanned shard has a file of this name"}
    assert len(answer.json["refused"]) == 1
    assert answer.json["assumed"] == {"line k is row k, without blank lines": 2}
    kept = Ledger.open(ledger).get_object(answer.json["object"]).decode()
    assert [sha256_name(text.encode()) in kept for text in TEXTS] == [False, True, True, False]


def test_a_floor_leaves_out_lower_scores_of_decon(forebear: Callable[..., Any], tmp_path: Path) -> None:
    file = report(tmp_path / "r.jsonl", ("000", 0, 0.5), ("000", 1, 0.9))
    answer = forebear("import", "decon", file, "--at-least", "0.8", "--ledger", world(tmp_path), "--json")
    assert (answer.json["documents"], answer.json["below"]) == (1, 1)


WRONG: dict[str, tuple[list[str], str]] = {
    "no attribute": (["--at-least", "0.5"], "missing_argument"),
    "no score": (["--attribute", "t"], "missing_argument"),
    "a score that is no number": (["--attribute", "t", "--at-least", "nan"], "bad_score"),
}


@pytest.mark.parametrize("what", WRONG)
def test_what_counts_as_flagged_must_be_said(forebear: Callable[..., Any], tmp_path: Path, what: str) -> None:
    options, kind = WRONG[what]
    file = attributes(tmp_path / "a.json.gz", line("id0", t=1))
    answer = forebear("import", "dolma", file, *options, "--ledger", world(tmp_path), "--json")
    assert (answer.code, answer.error["kind"]) == (2, kind)
    assert len(Ledger.open(tmp_path / "ledger").entries()) == 2


def test_a_damaged_file_gives_what_comes_before_the_damage_and_is_named(forebear: Callable[..., Any], tmp_path: Path) -> None:
    good = "".join(json.dumps(line(f"id{n % 4}", t=1)) + "\n" for n in range(20_000)).encode()
    (tmp_path / "cut.json.gz").write_bytes(gzip.compress(good)[:-2000])
    (tmp_path / "bad.jsonl").write_bytes(b'\xff\xfe\n{"id": "id0"}\n[1]\n')
    paths = [tmp_path / "cut.json.gz", tmp_path / "bad.jsonl"]
    answer = forebear("import", "dolma", *paths, "--attribute", "t", "--at-least", "1", "--ledger", world(tmp_path), "--json")
    assert answer.code == 0
    assert answer.json["documents"] == 4
    assert len(answer.json["refused"]) == 4


def test_human_output_names_what_is_unresolved(forebear: Callable[..., Any], tmp_path: Path) -> None:
    file = attributes(tmp_path / "a.json.gz", line("id0", t=1), line("\x1b[31mgone", t=1))
    answer = forebear("import", "dolma", file, "--attribute", "t", "--at-least", "1", "--ledger", world(tmp_path))
    assert "1 documents flagged by dolma files" in answer.out
    assert "unresolved: \\x1b[31mgone" in answer.out


@pytest.mark.shared_data
def test_dolmas_own_attribute_files(forebear: Callable[..., Any], tmp_path: Path) -> None:
    """The ids, documents and toxicity scores that dolma ships for its own tests."""
    folder = SHARED / "text_dolma_fixtures" / "tests" / "data" / "provided"
    with gzip.open(folder / "documents" / "000.json.gz", "rt", encoding="utf-8") as lines:
        texts = {one["id"]: one["text"] for one in map(json.loads, lines)}
    with gzip.open(folder / "attributes" / "toxicity" / "000.json.gz", "rt", encoding="utf-8") as lines:
        scores = {one["id"]: one["attributes"].get("toxicity", 0) for one in map(json.loads, lines)}
    flagged = {sha256_name(texts[name].encode()) for name, score in scores.items() if score >= 0.7 and name in texts}
    ledger = world(tmp_path, texts)
    options = ["--attribute", "toxicity", "--at-least", "0.7", "--ledger", ledger, "--json"]
    told = forebear("import", "dolma", folder / "attributes" / "toxicity", *options).json
    assert told["documents"] == len(flagged) > 0
    assert told["refused"] == told["unresolved"] == []
