"""One run digest everywhere: each engine really runs the scan, on a corpus on which engines could differ."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import grpc
import pytest
from apache_beam.portability.api import beam_job_api_pb2 as job_api
from apache_beam.portability.api import beam_job_api_pb2_grpc
from engines import BUCKET, Result, build_corpus, engine, job_server_jar, need, scan

from forebear.tracer.ledger.ledger import Ledger


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_corpus(tmp_path_factory.mktemp("engines") / "corpus")


@pytest.fixture(scope="module")
def one_process(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Result:
    return scan(tmp_path_factory.mktemp("one") / "ledger", corpus)


def test_the_corpus_holds_what_engines_could_get_wrong(one_process: Result) -> None:
    reasons = one_process.answer["reasons"]
    assert {"exact_duplicate", "near_duplicate", "toxic", "unreadable", "invalid_utf8", "not_text"} <= set(reasons)
    assert reasons["near_duplicate"] > BUCKET, "the template is not all there is"
    assert [one["why"] for one in one_process.answer["incomplete"]] == ["gzip data cut off before its end"]
    assert one_process.answer["shards"] == 5, "the same bytes under two names are one shard"
    manifest = json.loads(Ledger.open(str(one_process.ledger)).get_object(one_process.answer["run"]))
    assert manifest["environment"]["large_buckets"][0]["documents"] > 64


def test_two_processes(corpus: Path, one_process: Result, tmp_path: Path) -> None:
    assert scan(tmp_path / "ledger", corpus, workers=2).digest == one_process.digest


@pytest.mark.engine
@pytest.mark.parametrize("name", ["loopback", "spark", "flink"])
def test_a_job_server(name: str, corpus: Path, one_process: Result, tmp_path: Path) -> None:
    need(*(() if name == "loopback" else ("java", "mvn")))
    with engine(name, tmp_path) as server:
        result = scan(tmp_path / "ledger", corpus, runner="PortableRunner", beam=server.options)
        if name != "loopback":  # Beam's local job service does not keep the jobs that are done
            assert _jobs_done(server.options) == 1, "the job server saw no finished job: the scan did not run there"
    assert result.digest == one_process.digest


def _jobs_done(options: tuple[str, ...]) -> int:
    endpoint = next(option.partition("=")[2] for option in options if option.startswith("--job_endpoint="))
    with grpc.insecure_channel(endpoint) as channel:
        found = beam_job_api_pb2_grpc.JobServiceStub(channel).GetJobs(job_api.GetJobsRequest(), timeout=30)
    return sum(job.state == job_api.JobState.DONE for job in found.job_info)


@pytest.mark.engine
@pytest.mark.parametrize("name", ["spark", "flink"])
def test_the_runner_that_starts_its_own_job_server(name: str, corpus: Path, one_process: Result, tmp_path: Path) -> None:
    """What a user types where the network is open, with the jar of `infra` for the one that Beam would download."""
    need("java", "mvn")
    jar = f"--{name}_job_server_jar={job_server_jar(name)}"
    result = scan(tmp_path / "ledger", corpus, runner=f"{name.title()}Runner", beam=(jar,))
    assert result.digest == one_process.digest


@pytest.fixture(scope="module")
def prism() -> Path:
    """The program, built by `go install` where it is not there yet."""
    need("go")
    home = subprocess.run(["go", "env", "GOBIN", "GOPATH"], capture_output=True, text=True, check=True).stdout.split("\n")
    program = Path(home[0] or Path(home[1]) / "bin") / "prism"
    if not program.exists():
        package = "github.com/apache/beam/sdks/v2/go/cmd/prism@v2.77.0"
        built = subprocess.run(["go", "install", package], capture_output=True, text=True, check=False)
        if built.returncode:
            pytest.skip(f"ENGINE NOT TESTED: go install {package}: {built.stderr[-300:]}")
    return program


@pytest.mark.engine
def test_prism(prism: Path, corpus: Path, one_process: Result, tmp_path: Path) -> None:
    started = tmp_path / "started"
    wrapped = tmp_path / "prism"
    wrapped.write_text(f'#!/bin/sh\ntouch {started}\nexec {prism} "$@"\n')
    wrapped.chmod(0o755)
    result = scan(tmp_path / "ledger", corpus, runner="PrismRunner", beam=(f"--prism_location={wrapped}",))
    assert started.exists()
    assert result.digest == one_process.digest


@pytest.mark.engine
def test_a_missing_program_is_said(tmp_path: Path) -> None:
    """Without Java and Maven the script names them and starts nothing."""
    environment = {**os.environ, "PATH": str(tmp_path)}
    script = [sys.executable, str(Path(__file__).parent.parent / "infra" / "engines.py"), "--cache", str(tmp_path / "cache")]
    done = subprocess.run(
        [*script, "start", "flink", "--state", str(tmp_path / "state")],
        capture_output=True,
        text=True,
        env=environment,
        check=False,
    )
    assert done.returncode == 2
    assert "java and mvn" in done.stderr
    assert not (tmp_path / "state").exists()
