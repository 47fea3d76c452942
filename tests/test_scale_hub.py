"""Data sets of the hub as inputs, against a stand-in server on loopback through HF_ENDPOINT."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hub_server import COMMIT, Hub, hub
from scanning import scan

from forebear.pipelines.hub import hub_survey, is_hub
from forebear.schemas.errors import UsageError

pytest.importorskip("huggingface_hub")

FOREBEAR = str(Path(sys.executable).parent / "forebear")
ROWS = [{"id": str(n), "text": " ".join(f"w{n}x{k}" for k in range(30))} for n in range(40)]
ROWS += [{"id": "near", "text": ROWS[0]["text"] + " more"}, {"id": "copy", "text": ROWS[1]["text"]}]


def parquet(rows: list[dict[str, str]]) -> bytes:
    sink = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows), sink)
    return sink.getvalue()


@pytest.fixture(scope="module")
def server():
    lines = "".join(json.dumps(row) + "\n" for row in ROWS[1::2]).encode()
    files = {"README.md": b"# web", ".gitattributes": b"*", "data/a.parquet": parquet(ROWS[::2]), "data/b.jsonl": lines}
    with hub({**files, "other/small.jsonl": b'{"text": "x"}\n'}) as running:
        yield running


def forebear(server: Hub, home: Path, *arguments: str, ok: int = 0) -> Any:
    environment = {**os.environ, "HF_ENDPOINT": server.url, "HF_HOME": str(home), "HF_HUB_DISABLE_TELEMETRY": "1"}
    done = subprocess.run([FOREBEAR, *arguments, "--json"], env=environment, capture_output=True, text=True, timeout=200)
    assert done.returncode == ok, done.stderr[-3000:]
    return json.loads(done.stdout)


def test_a_pinned_data_set_is_scanned_as_its_files(server, tmp_path):
    (tmp_path / "in" / "data").mkdir(parents=True)
    for name in ("data/a.parquet", "data/b.jsonl"):
        (tmp_path / "in" / name).write_bytes(server.files[name])
    expected = scan(tmp_path / "local", [tmp_path / "in"]).committed.manifest
    answer = forebear(server, tmp_path / "hf", "scan", "hf:acme/web@v1/data/*", "--ledger", str(tmp_path / "l"))
    assert answer["run_digest"] == expected.run_digest
    assert answer["reasons"] == {"exact_duplicate": 1, "near_duplicate": 1}
    query = "SELECT path FROM audit.shard ORDER BY path"
    paths = [next(iter(row.values())) for row in forebear(server, tmp_path / "hf", "sql", query, "--ledger", str(tmp_path / "l"))["rows"]]
    assert paths == [f"hf://datasets/acme/web@{COMMIT}/data/{name}" for name in ("a.parquet", "b.jsonl")]


def test_a_file_that_is_not_what_the_hub_says_is_incomplete(server, tmp_path, monkeypatch):
    facts = Hub.facts

    def lying(self: Hub, path: str) -> dict[str, Any]:
        found = facts(self, path)
        return {**found, "lfs": {**found["lfs"], "sha256": "0" * 64, "oid": "0" * 64}} if path == "data/b.jsonl" else found  # type: ignore[dict-item]

    monkeypatch.setattr(Hub, "facts", lying)
    answer = forebear(server, tmp_path / "hf", "scan", "hf:acme/web@main/data/*", "--ledger", str(tmp_path / "l"), ok=1)
    assert answer["shards"] == 1
    assert [one["path"].rpartition("/")[2] for one in answer["incomplete"]] == ["b.jsonl"]


WRONG = {
    "no revision": ("hf:acme/web", "no_revision"),
    "a revision that is not there": ("hf:acme/web@v9", "unknown_dataset"),
    "a data set that is not there": ("hf:acme/none@main", "unknown_dataset"),
    "a pattern that matches nothing": ("hf:acme/web@v1/train/*", "no_match"),
    "no name": ("hf:@v1", "not_a_dataset"),
}


@pytest.mark.parametrize("claim", WRONG)
def test_what_cannot_be_pinned_is_wrong_use(server, claim, monkeypatch):
    text, kind = WRONG[claim]
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", server.url)
    with pytest.raises(UsageError) as caught:
        hub_survey([text])
    assert caught.value.kind == kind


def test_a_branch_is_taken_as_the_commit_it_stands_at(server, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", server.url)
    found = hub_survey(["hf:acme/web@main"])
    assert {one.path.rpartition("@")[2].partition("/")[0] for one in found.files} == {COMMIT}
    assert [one.rpartition("/")[2] for one in found.skipped] == [".gitattributes", "README.md"]
    assert [one.expected is not None for one in found.files] == [True, True, False]


def test_other_inputs_are_not_taken_for_data_sets():
    assert [is_hub(text) for text in ("hf:a/b@c", "hf://datasets/a/b@c/d.parquet", "hf.jsonl", "corpus/hf:x")] == [
        True,
        False,
        False,
        False,
    ]
