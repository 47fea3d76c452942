"""What an earlier or a killed scan finished is taken up: no evidence is made twice, and no decision changes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from scanning import NO_TOXICITY, policy_of, scan, write_jsonl

from forebear.tracer.ledger.ledger import Ledger
from forebear.tracer.scan.jobs import clear_dead_jobs, dead_jobs, is_dead, this_process


def made(folder: Path, shards: int, *, first: int = 0) -> list[Path]:
    """Shards of four documents, one of them in every shard."""
    everywhere = {"id": "same", "text": " ".join(f"common{k}" for k in range(40))}
    return [
        write_jsonl(
            folder / f"{n:03}.jsonl",
            [{"id": f"{n}-{i}", "text": " ".join(f"s{n}w{i}x{k}" for k in range(30))} for i in range(3)] + [everywhere],
        )
        for n in range(first, first + shards)
    ]


def evidence_files(ledger: Path) -> dict[str, int]:
    """Evidence in the index, by path, with the time it was written."""
    return {str(path): path.stat().st_mtime_ns for path in (ledger / "index" / "evidence").rglob("*") if path.is_file()}


def packs(ledger: Path) -> list[dict]:
    return [json.loads(path.read_bytes()) for path in (ledger / "index" / "packs").rglob("*.json")]


def test_one_shard_more_than_a_hundred_costs_the_evidence_of_one_and_gives_the_digest_of_a_fresh_scan(tmp_path):
    policy = policy_of(tmp_path, NO_TOXICITY)
    files = made(tmp_path / "in", 101)
    scan(tmp_path / "l", files[:100], policy=policy)
    before = evidence_files(tmp_path / "l")
    known = {span["shard"] for pack in packs(tmp_path / "l") for span in pack["spans"]}
    grown = scan(tmp_path / "l", files, policy=policy)
    after = evidence_files(tmp_path / "l")
    (new,) = set(after) - set(before)
    assert {path: after[path] for path in before} == before
    assert [
        span["shard"] for pack in packs(tmp_path / "l") if pack["evidence"] in new for span in pack["spans"] if span["shard"] in known
    ] == []
    fresh = scan(tmp_path / "fresh", files, policy=policy)
    assert grown.committed.manifest.run_digest == fresh.committed.manifest.run_digest
    assert (grown.committed.reused, fresh.committed.reused) == (100, 0)


KILLED = """
import os, signal, sys
from pathlib import Path
sys.path.insert(0, {tests!r})
from scanning import policy_of, scan, NO_TOXICITY
from forebear.tracer.ledger.store import Store
from forebear.tracer.scan import evidence
evidence.PACK_BYTES = 1
put, seen = Store.put, []
def dying(self, path, data):
    put(self, path, data)
    if path.startswith("index/packs/"):
        seen.append(path)
        if len(seen) == 2:
            os.kill(os.getpid(), signal.SIGKILL)
Store.put = dying
folder = Path({folder!r})
scan(folder / "l", sorted((folder / "in").iterdir()), policy=policy_of(folder, NO_TOXICITY))
"""


@pytest.fixture
def killed(tmp_path):
    """A ledger whose first scan was killed once two of six packs were finished."""
    made(tmp_path / "in", 6)
    code = KILLED.format(tests=str(Path(__file__).parent), folder=str(tmp_path))
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, timeout=300)
    assert done.returncode == -signal.SIGKILL, done.stderr.decode()[-2000:]
    assert len(evidence_files(tmp_path / "l")) == 2
    return tmp_path


def test_a_killed_scan_repeats_no_finished_shard_s_evidence(killed):
    policy, files = policy_of(killed, NO_TOXICITY), sorted((killed / "in").iterdir())
    before = evidence_files(killed / "l")
    again = scan(killed / "l", files, policy=policy)
    after = evidence_files(killed / "l")
    assert {path: after[path] for path in before} == before
    shards = [span["shard"] for pack in packs(killed / "l") for span in pack["spans"]]
    assert len(shards) == len(set(shards)) == 6
    assert again.committed.reused == 2
    assert again.committed.manifest.run_digest == scan(killed / "fresh", files, policy=policy).committed.manifest.run_digest


def test_the_next_scan_clears_what_a_dead_job_worked_with_and_keeps_its_records(killed):
    ledger = Ledger.open(str(killed / "l"))
    (job,) = dead_jobs(ledger)
    assert any((killed / "l" / "jobs" / job / "work").rglob("*"))
    scan(killed / "l", sorted((killed / "in").iterdir()), policy=policy_of(killed, NO_TOXICITY))
    assert not (killed / "l" / "jobs" / job / "work").exists()
    assert (killed / "l" / "jobs" / job / "plan.json").exists()


def test_a_job_that_may_still_run_is_left_alone(killed):
    ledger = Ledger.open(str(killed / "l"))
    (job,) = dead_jobs(ledger)
    plan = killed / "l" / "jobs" / job / "plan.json"
    record = json.loads(plan.read_text())
    for owner in ({}, this_process(), {**record["owner"], "host": "elsewhere"}, {**record["owner"], "namespace": "pid:[1]"}):
        plan.write_text(json.dumps({**record, "owner": owner}))
        assert clear_dead_jobs(ledger) == []


DEAD = {
    "this process lives": ({}, False),
    "no process of that number": ({"pid": 2**22 + 1}, True),
    "another process has its number": ({"began": "1"}, True),
    "another machine": ({"host": "elsewhere", "pid": 2**22 + 1}, False),
    "another container": ({"namespace": "pid:[1]", "pid": 2**22 + 1}, False),
    "a machine that booted since, and says which it is": ({"boot": "x", "machine": "m"}, True),
}


@pytest.mark.parametrize("claim", DEAD)
def test_which_process_is_surely_gone(claim, monkeypatch):
    changed, dead = DEAD[claim]
    here = {**this_process(), "machine": "m"}
    monkeypatch.setattr("forebear.tracer.scan.jobs._text", lambda path: "m" if path == "/etc/machine-id" else here["boot"])
    assert is_dead({**here, **changed}) is dead
    assert os.getpid() == here["pid"]
