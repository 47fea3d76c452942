"""Recall of a text: near matches through the band tables of real scans, measured where the text is at hand, else candidates."""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from scanning import NO_TOXICITY, policy_of, scan, write_jsonl
from typer.testing import CliRunner

from forebear.schemas.errors import UsageError
from forebear.schemas.lineage import parse_record
from forebear.tracer.audit.near import find_near
from forebear.tracer.audit.recall import Recalled
from forebear.tracer.audit.session import Session
from forebear.tracer.cli import app
from forebear.tracer.ledger.ledger import Ledger
from forebear.tracer.lineage.link import link

TIME = "2026-11-02T00:00:00.000000Z"
WORDS = [f"word{n}" for n in range(60)]
TEXT = " ".join(WORDS)
NEAR = " ".join([*WORDS, "more"])  # 56 of 57 shingles
FAR = " ".join([*WORDS[:40], *(f"other{n}" for n in range(20))])  # 36 of 76 shingles: under the policy's 0.8
CLOSED = {"ancestry": "closed"}


class Corpus(NamedTuple):
    """A scanned corpus: one model on each shard."""

    ledger: Path
    files: dict[str, Path]
    text: Path


@pytest.fixture
def corpus(tmp_path: Path) -> Corpus:
    files = {
        name: write_jsonl(tmp_path / f"{name}.jsonl", [{"text": text}, {"text": f"filler of {name}, nothing to see"}])
        for name, text in (("exact", TEXT), ("near", NEAR), ("far", FAR))
    }
    scan(tmp_path / "ledger", list(files.values()), policy=policy_of(tmp_path, NO_TOXICITY))
    record = {
        "models": [{"name": f"on-{name}", **CLOSED, "trained_on": [{"dataset": name}]} for name in files],
        "datasets": [{"name": name, **CLOSED, "shards": [str(path)]} for name, path in files.items()],
    }
    link(Ledger.open(tmp_path / "ledger"), [(parse_record(record), tmp_path)], time=TIME)
    (tmp_path / "text").write_text(TEXT)
    return Corpus(tmp_path / "ledger", files, tmp_path / "text")


def matches(found: Recalled) -> dict[str | None, str]:
    return {one.model.name: one.match for one in found.models}


def test_copies_are_exact_and_what_measures_enough_is_near(corpus: Corpus) -> None:
    found = Session.open(corpus.ledger).recall([], texts=[corpus.text])
    assert matches(found) == {"on-exact": "exact", "on-near": "near"}
    assert [one.documents for one in found.models] == [1, 1]
    assert found.complete


def test_rows_that_share_a_band_and_measure_less_are_no_match(tmp_path: Path) -> None:
    """Ten rows at 48 of 64 shingles: without their file some are candidates, with it none is a match."""
    texts = [" ".join([*WORDS[:52], *(f"end{k}x{n}" for n in range(8))]) for k in range(10)]
    source = write_jsonl(tmp_path / "a.jsonl", [{"text": text} for text in texts])
    scan(tmp_path / "ledger", [source], policy=policy_of(tmp_path, NO_TOXICITY))
    session = Session.open(tmp_path / "ledger")
    assert not any(find_near(session, [TEXT]).measured.values())
    source.unlink()
    assert any(find_near(session, [TEXT]).candidates.values())


def test_a_row_whose_file_is_gone_or_changed_stays_a_candidate(corpus: Corpus) -> None:
    corpus.files["near"].unlink()
    corpus.files["exact"].write_text("other bytes\n")
    assert matches(Session.open(corpus.ledger).recall([], texts=[corpus.text])) == {"on-exact": "exact", "on-near": "candidate"}


def test_a_text_that_is_nowhere_itself_finds_what_is_like_it(corpus: Corpus, tmp_path: Path) -> None:
    (tmp_path / "text").write_text(TEXT.upper() + " ending")
    assert matches(Session.open(corpus.ledger).recall([], texts=[tmp_path / "text"])) == {"on-exact": "near", "on-near": "near"}


@pytest.mark.parametrize("text", ["", "  \n ", "altogether different words that nobody wrote down anywhere in here"])
def test_a_text_without_a_token_or_a_likeness_finds_nothing(corpus: Corpus, tmp_path: Path, text: str) -> None:
    (tmp_path / "text").write_text(text)
    found = Session.open(corpus.ledger).recall([], texts=[tmp_path / "text"])
    assert (matches(found), found.exit_code) == ({}, 0)


def test_rows_in_a_cleaned_shard_are_found_through_their_source(tmp_path: Path) -> None:
    source = write_jsonl(tmp_path / "a.jsonl", [{"text": "filler words that stay as they are"}, {"text": NEAR}])
    scan(tmp_path / "ledger", [source], policy=policy_of(tmp_path, NO_TOXICITY), clean=str(tmp_path / "clean"))
    cleaned = next((tmp_path / "clean").rglob("*.jsonl*"))
    record = {
        "models": [{"name": "m", **CLOSED, "trained_on": [{"dataset": "d"}]}],
        "datasets": [{"name": "d", **CLOSED, "shards": [str(cleaned)]}],
    }
    link(Ledger.open(tmp_path / "ledger"), [(parse_record(record), tmp_path)], time=TIME)
    (tmp_path / "text").write_text(TEXT)
    assert matches(Session.open(tmp_path / "ledger").recall([], texts=[tmp_path / "text"])) == {"m": "near"}


def test_a_run_that_signed_nothing_leaves_its_shards_unknown(tmp_path: Path) -> None:
    source = write_jsonl(tmp_path / "a.jsonl", [{"text": NEAR}])
    scan(tmp_path / "ledger", [source], policy=policy_of(tmp_path, NO_TOXICITY + '[duplicates]\naction = "off"\n'))
    (tmp_path / "text").write_text(TEXT)
    session = Session.open(tmp_path / "ledger")
    found = session.recall([], texts=[tmp_path / "text"])
    assert [(one.node, one.why) for one in found.unknown] == [(session.scans.names[0], "no signatures to look near matches up in")]
    assert found.exit_code == 2


def test_without_the_kernels_a_text_is_refused_and_its_digest_still_answers(corpus: Corpus, monkeypatch: pytest.MonkeyPatch) -> None:
    real = importlib.import_module

    def without(name: str, *rest: Any) -> Any:
        if name.startswith("forebear.tracer.dedupe"):
            raise ImportError("No module named 'numba'")
        return real(name, *rest)

    monkeypatch.setattr(importlib, "import_module", without)
    session = Session.open(corpus.ledger)
    with pytest.raises(UsageError) as caught:
        session.recall([], texts=[corpus.text])
    assert caught.value.kind == "extra_missing"
    digest = session.sql("SELECT document FROM audit.decision WHERE words = 60 ORDER BY bytes LIMIT 1").rows()[0]["document"]
    assert matches(session.recall([digest]))


def test_bytes_that_are_no_text_are_wrong_use(corpus: Corpus, tmp_path: Path) -> None:
    (tmp_path / "bytes").write_bytes(b"\xff\xfe")
    for path in (tmp_path / "bytes", tmp_path / "nowhere"):
        with pytest.raises(UsageError) as caught:
            Session.open(corpus.ledger).recall([], texts=[path])
        assert caught.value.kind == "unreadable_text"


def test_the_answer_says_how_each_model_was_matched(corpus: Corpus) -> None:
    said = CliRunner().invoke(app, ["recall", "--text-file", str(corpus.text), "--ledger", str(corpus.ledger), "--json"])
    answer = json.loads(said.stdout)
    assert (said.exit_code, {one["name"]: one["match"] for one in answer["models"]}) == (1, {"on-exact": "exact", "on-near": "near"})


def test_a_worse_channel_by_a_weaker_match_is_shown_beside_the_stronger_match(corpus: Corpus) -> None:
    """`both` read the near text itself, and grew from a model that read the very text."""
    record = {
        "models": [
            {
                "name": "both",
                **CLOSED,
                "parents": [{"relation": "finetuned_from", "model": "on-exact"}],
                "trained_on": [{"dataset": "near"}],
            }
        ]
    }
    link(Ledger.open(corpus.ledger), [(parse_record(record), Path())], time=TIME)
    found = Session.open(corpus.ledger).recall([], texts=[corpus.text])
    mine = [(one.match, one.to_json()["channel"]) for one in found.models if one.model.name == "both"]
    assert sorted(mine) == [("exact", "weights"), ("near", "documents")]
