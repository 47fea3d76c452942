"""What goes into a scan and what is said before and after: dry runs, room on disks, pairs side by side, hot buckets, many and large files."""

from __future__ import annotations

import json
import shutil
from collections import namedtuple
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from scanning import NO_TOXICITY, policy_of, scan, write_jsonl
from typer.testing import CliRunner

from forebear.pipelines.cli import app
from forebear.pipelines.progress import _Counts
from forebear.schemas.errors import UsageError
from forebear.tracer.corpus.inputs import ReaderOptions, discover
from forebear.tracer.ledger.ledger import Ledger
from forebear.tracer.scan.commit import job_work
from forebear.tracer.scan.forecast import Need, forecast, require_room, sample_inputs
from forebear.tracer.scan.plan import Plan
from forebear.tracer.scan.shown import removed_pairs


def documents(count: int, *, words: int = 40) -> list[dict[str, str]]:
    return [{"id": str(n), "text": " ".join(f"w{n:04}x{k}" for k in range(words))} for n in range(count)]


def as_files(folder: Path, rows: list[dict[str, str]], kind: str) -> list[Path]:
    folder.mkdir(parents=True, exist_ok=True)
    if kind == "parquet":
        paths = [folder / f"{n}.parquet" for n in range(3)]
        for n, path in enumerate(paths):
            pq.write_table(pa.Table.from_pylist(rows[n::3]), path)
        return paths
    return [write_jsonl(folder / f"{n}.{kind}", rows[n::3]) for n in range(3)]


@pytest.mark.parametrize("kind", ["jsonl", "jsonl.gz", "parquet"])
def test_a_sample_tells_how_many_rows_there_are(tmp_path, kind, monkeypatch):
    monkeypatch.setattr("forebear.tracer.scan.forecast.SAMPLE_BYTES", 40_000)
    sample = sample_inputs(discover([str(path) for path in as_files(tmp_path, documents(6000), kind)]), ReaderOptions())
    assert sample.exact is (kind == "parquet")
    assert abs(sample.rows - 6000) <= (0 if sample.exact else 600)
    assert abs(sample.text_bytes - 349) < 20


def test_a_dry_run_s_disk_is_near_what_the_scan_then_writes(tmp_path):
    files = as_files(tmp_path / "in", documents(4000), "jsonl")
    policy = policy_of(tmp_path, "")
    told = forecast(discover([str(one) for one in files]), Plan("", "", "", policy, ReaderOptions()), workers=1)
    scan(tmp_path / "l", files, policy=policy)
    written = sum(path.stat().st_size for path in (tmp_path / "l").rglob("*") if path.is_file() and "jobs" not in path.parts)
    assert told.rows == 4000
    assert 0.6 < told.need.ledger / written < 1.6


def test_dry_run_writes_nothing_and_answers_in_json(tmp_path):
    files = as_files(tmp_path / "in", documents(300), "jsonl")
    done = CliRunner().invoke(app, ["scan", str(files[0].parent), "--ledger", str(tmp_path / "l"), "--dry-run", "--json"])
    assert done.exit_code == 0, done.output
    answer = json.loads(done.stdout)
    assert (answer["schema"], answer["rows"], answer["files"]) == ("forebear/dry-run/1", 300, 3)
    assert set(answer["disk"]) == {"ledger", "work", "clean"}
    assert not (tmp_path / "l").exists()


ROOM = {
    "all on one disk, and together too much": (Need(40, 40, 40), {"ledger": "l", "work": "w", "clean": "c"}, True),
    "the same in buckets": (Need(40, 40, 40), {"ledger": "s3://b/l", "work": "s3://b/w", "clean": None}, False),
    "as much as there is": (Need(50, 50, 0), {"ledger": "l", "work": "w", "clean": None}, False),
}


@pytest.mark.parametrize("claim", ROOM)
def test_a_scan_that_cannot_fit_is_refused(tmp_path, claim, monkeypatch):
    need, places, refused = ROOM[claim]
    monkeypatch.setattr(shutil, "disk_usage", lambda place: namedtuple("Usage", "total used free")(200, 100, 100))
    here = {name: str(tmp_path / "not" / "yet" / place) if place and "://" not in place else place for name, place in places.items()}
    if not refused:
        require_room(need, here)
        return
    with pytest.raises(UsageError) as caught:
        require_room(need, here)
    assert caught.value.kind == "disk_full"


def test_a_full_work_disk_is_said_before_anything_is_written(tmp_path, monkeypatch):
    files = as_files(tmp_path / "in", documents(300), "jsonl")
    monkeypatch.setattr(shutil, "disk_usage", lambda place: namedtuple("Usage", "total used free")(2000, 1000, 1000))
    arguments = ["scan", str(files[0].parent), "--ledger", str(tmp_path / "l"), "--work-dir", str(tmp_path / "w")]
    done = CliRunner().invoke(app, arguments)
    assert isinstance(done.exception, UsageError)
    assert done.exception.kind == "disk_full"
    assert not (tmp_path / "l").exists()
    assert not (tmp_path / "w").exists()


@pytest.fixture(scope="module")
def removed(tmp_path_factory):
    """A run with 40 near-duplicates of growing distance and a template of 100 documents."""
    folder = tmp_path_factory.mktemp("removed")
    rows = []
    for n in range(40):
        words = [f"w{n}x{k}" for k in range(200)]
        rows += [{"id": f"a{n}", "text": " ".join(words)}, {"id": f"b{n}", "text": " ".join(words[: 199 - n // 2])}]
    template = " ".join(f"t{k}" for k in range(200))
    rows += [{"id": f"t{n}", "text": f"{template} n{n}"} for n in range(100)]
    path = write_jsonl(folder / "in.jsonl", rows)
    return folder, path, rows, scan(folder / "l", [path], policy=policy_of(folder, NO_TOXICITY), work=str(folder / "work"))


def test_pairs_are_spread_over_their_similarities_with_both_texts(removed):
    folder, _, rows, done = removed
    found, total = removed_pairs(Ledger.open(str(folder / "l")), done.committed.run, count=10)
    assert (len(found), total) == (10, done.committed.manifest.reasons["near_duplicate"])
    similarities = [pair.jaccard for pair in found]
    assert similarities == sorted(similarities)
    assert similarities[0] < 0.95 < similarities[-1]
    for pair in found:
        assert pair.removed.text == rows[pair.removed.row]["text"] != pair.keeper.text == rows[pair.keeper.row]["text"]
    again, _ = removed_pairs(Ledger.open(str(folder / "l")), done.committed.run[:19], count=10)
    assert again == found


def test_pairs_says_how_many_it_left_out_and_shows_both_sides(removed):
    folder, _, _, done = removed
    arguments = ["pairs", done.committed.run, "--count", "3", "--ledger", str(folder / "l")]
    answer = json.loads(CliRunner().invoke(app, [*arguments, "--json"]).stdout)
    assert (answer["schema"], len(answer["pairs"])) == ("forebear/pairs/1", 3)
    assert answer["omitted"] == done.committed.manifest.reasons["near_duplicate"] - 3
    assert "Jaccard" in CliRunner().invoke(app, arguments).stdout


def test_pairs_of_a_source_that_changed_say_so(removed):
    folder, path, _, done = removed
    kept = path.read_bytes()
    try:
        path.write_bytes(kept + b"\n{}\n")
        (pair,), _ = removed_pairs(Ledger.open(str(folder / "l")), done.committed.run, count=1)
    finally:
        path.write_bytes(kept)
    assert pair.removed.text is None
    assert "to stay as it was" in (pair.removed.why or "")


def test_large_buckets_and_partitions_are_in_the_manifest_and_the_progress(removed):
    folder, _, _, done = removed
    environment = done.committed.manifest.environment
    assert environment["large_buckets"][0]["documents"] == 100
    assert environment["partitions"] >= 1
    (job,) = (folder / "l" / "jobs").iterdir()
    counts = _Counts(job_work(str(folder / "l"), job.name))
    counts.look()
    assert "large buckets, up to 100 documents in one" in counts.line(1)


def test_the_work_place_is_empty_once_the_run_is_committed(removed):
    folder, *_ = removed
    assert [path for path in (folder / "work").rglob("*") if path.is_file()] == []


def test_more_edges_than_one_worker_decides_over_are_refused_with_a_way_out(removed, monkeypatch):
    folder, path, *_ = removed
    monkeypatch.setattr("forebear.tracer.scan.decide.MOST_EDGES", 3)
    with pytest.raises(UsageError) as caught:
        scan(folder / "other", [path], policy=policy_of(folder, NO_TOXICITY))
    assert caught.value.kind == "too_many_edges"
    assert "--against" in caught.value.remedy


def test_a_thousand_tiny_files_share_packs(tmp_path):
    for n in range(1000):
        write_jsonl(tmp_path / "in" / f"{n:04}.jsonl", [{"id": str(n), "text": f"one two three {n}"}])
    done = scan(tmp_path / "l", [tmp_path / "in"], policy=policy_of(tmp_path, NO_TOXICITY))
    assert done.committed.manifest.shards.rows == 1000
    assert len(done.committed.manifest.log) <= 3


def test_blocks_chunks_and_pieces_of_large_buckets_change_nothing(tmp_path, monkeypatch):
    rows = documents(30) + [{"id": f"n{n}", "text": f"{one['text']} more"} for n, one in enumerate(documents(30))]
    families = [" ".join(f"f{n % 2 if k % 9 == 0 else ''}t{k}" for k in range(200)) for n in range(200)]
    rows += [{"id": f"t{n}", "text": f"{text} n{n} n{n // 2}"} for n, text in enumerate(families)]
    path = write_jsonl(tmp_path / "in.jsonl", rows)
    policy = policy_of(tmp_path, NO_TOXICITY)
    whole = scan(tmp_path / "one", [path], policy=policy).committed.manifest
    monkeypatch.setattr("forebear.tracer.scan.sets.BLOCK_SHINGLES", 50)
    monkeypatch.setattr("forebear.tracer.scan.near.CHUNK_SHINGLES", 100)
    cut = scan(tmp_path / "cut", [path], policy=policy).committed.manifest
    assert cut.run_digest == whole.run_digest
    assert cut.reasons["near_duplicate"] > 30 + 100
    assert max(one["documents"] for one in cut.environment["large_buckets"]) > 64
