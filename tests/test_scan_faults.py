"""A scan that dies at any instant: the ledger reads as before, and the next scan, or `commit`, ends with the same run digest.

FOREBEAR_KILLS=N kills at N instants instead of a few; FOREBEAR_SEED chooses others.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sysconfig
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from real_texts import topics
from scanning import write_jsonl
from test_scan_decisions import BAD, corpus_of

from forebear.pipelines import scan as driver
from forebear.tracer.scan import commit as finaliser

FOREBEAR = str(Path(sysconfig.get_path("scripts")) / "forebear")
KILLS = int(os.environ.get("FOREBEAR_KILLS", "3"))
SEED = int(os.environ.get("FOREBEAR_SEED", "11"))
ERRORED = 1  # the exit code of every scan of this corpus: it holds a broken row


@dataclass(frozen=True)
class World:
    """A corpus with something of every kind in it, the digest of a scan of it that lived, and how long such a scan takes."""

    corpus: Path
    digest: str
    seconds: float


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory, forebear: Callable[..., Any]) -> World:
    folder = tmp_path_factory.mktemp("faults")
    documents = [*corpus_of(topics()[:30]), {"id": "toxic", "text": BAD}]
    for n in range(4):
        write_jsonl(folder / "in" / f"{n}.jsonl", documents[n::4])
    with (folder / "in" / "0.jsonl").open("ab") as file:
        file.write(b'{"text": "cut\n')
    began = time.monotonic()
    done = subprocess.run([FOREBEAR, "scan", folder / "in", "--ledger", folder / "whole", "--json"], capture_output=True, text=True)
    seconds = time.monotonic() - began
    answer = json.loads(done.stdout)
    assert done.returncode == ERRORED
    assert {"toxic", "exact_duplicate", "near_duplicate", "unreadable"} <= set(answer["reasons"])
    return World(folder / "in", answer["run_digest"], seconds)


def instants() -> list[tuple[float, int]]:
    """(share of a scan's time, workers), spread over the scan: one instant in each of as many equal parts."""
    draw = random.Random(SEED)
    return [(round((n + draw.random()) / KILLS, 3), 1 + n % 2) for n in range(KILLS)]


def entries(ledger: Path) -> list[bytes]:
    return [path.read_bytes() for path in sorted(ledger.glob("entries/*"))]


@pytest.mark.parametrize(("share", "workers"), instants())
def test_killed_at_any_instant_the_ledger_is_sound_and_the_next_scan_ends_the_same(
    share: float, workers: int, world: World, tmp_path: Path, forebear: Callable[..., Any]
) -> None:
    ledger = tmp_path / "ledger"
    first = forebear("scan", world.corpus / "1.jsonl", "--ledger", ledger, "--json")
    before = entries(ledger)
    assert (first.code, len(before)) == (0, 1)
    command = [FOREBEAR, "scan", world.corpus, "--ledger", ledger, "--workers", str(workers)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True) as victim:
        time.sleep(0.3 + share * (world.seconds - 0.3))
        os.killpg(victim.pid, signal.SIGKILL)
    verified = forebear("verify", "--full", "--ledger", ledger, "--json")
    assert (verified.code, verified.json["findings"]) == (0, [])
    assert entries(ledger)[:1] == before
    again = forebear("scan", world.corpus, "--ledger", ledger, "--json")
    assert (again.code, again.json["run_digest"]) == (ERRORED, world.digest)
    assert forebear("verify", "--full", "--ledger", ledger, "--json").code == 0


class DriverDiedError(RuntimeError):
    """What a test raises where the driver is to die."""


def die(*_: object, **__: object) -> None:
    raise DriverDiedError


def job_of(ledger: Path) -> str:
    (job,) = (path.name for path in (ledger / "jobs").iterdir())
    return job


@pytest.fixture(scope="module")
def left_behind(world: World, tmp_path_factory: pytest.TempPathFactory, forebear: Callable[..., Any]) -> Path:
    """A ledger whose driver died when every worker was done and nothing was committed."""
    ledger = tmp_path_factory.mktemp("left") / "ledger"
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(driver, "commit_job", die)
        assert forebear("scan", world.corpus, "--ledger", ledger, "--json").code == 3
    assert not entries(ledger)
    return ledger


@pytest.fixture
def dead_driver(left_behind: Path, tmp_path: Path) -> Path:
    """A copy of that ledger for one test."""
    return Path(shutil.copytree(left_behind, tmp_path / "ledger"))


def test_a_run_whose_driver_died_is_finished_by_commit_with_the_same_digest_once(
    dead_driver: Path, world: World, forebear: Callable[..., Any]
) -> None:
    job = job_of(dead_driver)
    listed = forebear("runs", "--ledger", dead_driver, "--json").json
    assert listed["runs"] == []
    assert job in json.dumps(listed), "a job that did not end is listed"
    first = forebear("commit", job, "--ledger", dead_driver, "--json")
    assert (first.code, first.json["run_digest"], first.json["head"]["size"]) == (ERRORED, world.digest, 1)
    second = forebear("commit", job, "--ledger", dead_driver, "--json")
    assert (second.json["run"], second.json["head"]) == (first.json["run"], first.json["head"])
    assert len(entries(dead_driver)) == 1
    assert forebear("verify", "--full", "--ledger", dead_driver).code == 0
    assert job not in json.dumps(forebear("runs", "--ledger", dead_driver, "--json").json["jobs"])


def test_what_a_dead_driver_left_is_taken_up_by_the_next_scan(dead_driver: Path, world: World, forebear: Callable[..., Any]) -> None:
    again = forebear("scan", world.corpus, "--ledger", dead_driver, "--json")
    assert (again.json["run_digest"], again.json["reused"]["shards"]) == (world.digest, 4)


STEPS = {
    "before anything is read of the job": "_records",
    "before the shards' table is stored": "_stored",
    "after every object is stored, before the entry": "_append_once",
}


@pytest.mark.parametrize("claim", STEPS)
def test_a_commit_that_dies_on_its_way_is_finished_by_the_next(
    claim: str, dead_driver: Path, world: World, forebear: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    job = job_of(dead_driver)
    with monkeypatch.context() as patched:
        patched.setattr(finaliser, STEPS[claim], die)
        assert forebear("commit", job, "--ledger", dead_driver, "--json").code == 3
    assert not entries(dead_driver)
    done = forebear("commit", job, "--ledger", dead_driver, "--json")
    assert (done.json["run_digest"], done.json["head"]["size"]) == (world.digest, 1)


def test_a_commit_that_dies_after_its_entry_adds_no_second_one(
    dead_driver: Path, world: World, forebear: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    job, append = job_of(dead_driver), finaliser._append_once

    def then_die(*given: Any) -> None:
        append(*given)
        raise DriverDiedError

    with monkeypatch.context() as patched:
        patched.setattr(finaliser, "_append_once", then_die)
        assert forebear("commit", job, "--ledger", dead_driver, "--json").code == 3
    assert len(entries(dead_driver)) == 1
    done = forebear("commit", job, "--ledger", dead_driver, "--json")
    assert (done.json["run_digest"], done.json["head"]["size"]) == (world.digest, 1)


LOST = {
    "one pack has no log": lambda job: next(iter((job / "logs").iterdir())).unlink(),
    "no pack has a log": lambda job: shutil.rmtree(job / "logs"),
    "nothing was decided": lambda job: (job / "decided.json").unlink(),
}


@pytest.mark.parametrize("claim", LOST)
def test_a_job_that_is_not_done_is_refused(claim: str, dead_driver: Path, forebear: Callable[..., Any]) -> None:
    job = job_of(dead_driver)
    LOST[claim](dead_driver / "jobs" / job)
    refused = forebear("commit", job, "--ledger", dead_driver, "--json")
    assert (refused.code, refused.error["kind"]) == (2, "job_not_done")
    assert not entries(dead_driver)


def test_a_job_that_never_was_is_refused(dead_driver: Path, forebear: Callable[..., Any]) -> None:
    refused = forebear("commit", "20260101T000000-abcdef", "--ledger", dead_driver, "--json")
    assert (refused.code, refused.error["kind"]) == (2, "unknown_job")


def test_a_log_that_does_not_reconcile_is_not_committed(dead_driver: Path, forebear: Callable[..., Any]) -> None:
    """A worker's reference that counts a row too few: the log's own rows say otherwise."""
    job = job_of(dead_driver)
    path = next(iter((dead_driver / "jobs" / job / "logs").iterdir()))
    reference = json.loads(path.read_text())
    reference["spans"][0]["kept"] -= 1
    path.write_text(json.dumps(reference))
    refused = forebear("commit", job, "--ledger", dead_driver, "--json")
    assert (refused.code, refused.error["kind"]) == (1, "not_reconciled")
    assert not entries(dead_driver)
