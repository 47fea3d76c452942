"""A real Spark cluster on this machine: a master, two workers, Python workers in a pool; and what dies there."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from engines import FOREBEAR, Engine, Result, build_corpus, children, command, engine, environment, need, records, scan, wait_for

pytestmark = [pytest.mark.engine, pytest.mark.slow]

BATCHES = 8
"""Batches dealt out, so that there is a middle in which something can die."""


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_corpus(tmp_path_factory.mktemp("cluster") / "corpus", shards=16, documents=150)


@pytest.fixture(scope="module")
def one_process(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Result:
    return scan(tmp_path_factory.mktemp("one") / "ledger", corpus)


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    need("java", "mvn")
    with engine("spark-cluster", tmp_path_factory.mktemp("cluster")) as running:
        yield running


def _driver(cluster: Engine, ledger: Path, corpus: Path) -> subprocess.Popen[str]:
    started = command(ledger, corpus, runner="PortableRunner", workers=BATCHES, beam=cluster.options)
    return subprocess.Popen(started, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=environment())


def _executors(cluster: Engine) -> list[int]:
    workers = [pid for name, pid in cluster.processes.items() if name.startswith("worker-")]
    return [pid for worker in workers for pid in children(worker, "CoarseGrainedExecutorBackend")]


def test_a_cluster_gives_the_same_digest(cluster: Engine, corpus: Path, one_process: Result, tmp_path: Path) -> None:
    result = scan(tmp_path / "ledger", corpus, runner="PortableRunner", workers=BATCHES, beam=cluster.options)
    assert result.digest == one_process.digest
    assert cluster.log("python-workers").count("Starting worker") >= 2, "both executors had Python workers"


def test_an_executor_that_is_killed_in_the_middle_changes_nothing(
    cluster: Engine, corpus: Path, one_process: Result, tmp_path: Path
) -> None:
    ledger = tmp_path / "ledger"
    driver = _driver(cluster, ledger, corpus)
    try:
        wait_for("a first pack", lambda: records(ledger, "packs/*.json"))
        victims = _executors(cluster)
        os.kill(victims[0], signal.SIGKILL)
        assert not records(ledger, "decided.json"), "it was not the middle any more"
        answer, _ = driver.communicate(timeout=600)
    finally:
        driver.kill()
        driver.wait()
    assert len(victims) == 2
    assert json.loads(answer)["run_digest"] == one_process.digest
    assert "Lost executor" in cluster.log("job-server")


def test_a_run_whose_driver_is_killed_is_finished_by_commit(cluster: Engine, corpus: Path, one_process: Result, tmp_path: Path) -> None:
    ledger = tmp_path / "ledger"
    driver = _driver(cluster, ledger, corpus)
    wait_for("a first pack", lambda: records(ledger, "packs/*.json"))
    driver.kill()
    driver.wait()
    assert not records(ledger, "done.json")
    (job,) = {path.parent.name for path in records(ledger, "plan.json")}
    early = _commit(ledger, job)
    # The cluster goes on without its driver. Unless it is done already, nothing is committed yet, and the answer says so.
    if early.returncode == 2:
        assert "job_not_done" in early.stdout + early.stderr
        (decided,) = wait_for("decisions, which the cluster makes without the driver", lambda: records(ledger, "decided.json"))
        packs = len(json.loads(decided.read_text())["packs"])
        wait_for("the logs of all packs", lambda: len(records(ledger, "logs/*.json")) == packs)
    done = _commit(ledger, job)
    assert json.loads(done.stdout)["run_digest"] == one_process.digest, done.stderr
    assert json.loads(_commit(ledger, job).stdout)["head"]["size"] == 1, "committed twice, entered once"


def _commit(ledger: Path, job: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [FOREBEAR, "--ledger", str(ledger), "commit", job, "--json"], capture_output=True, text=True, check=False, timeout=120
    )
