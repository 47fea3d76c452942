"""The flex template: its parameters, its program, its image."""

from __future__ import annotations

import importlib.metadata
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from engines import FOREBEAR, INFRA, build_corpus, scan

FOLDER = INFRA / "dataflow"
LAUNCH = FOLDER / "launch.py"


@pytest.fixture(scope="module")
def parameters() -> dict[str, dict[str, object]]:
    return {one["name"]: one for one in json.loads((FOLDER / "metadata.json").read_text())["parameters"]}


def _launch(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, str(LAUNCH), *arguments], capture_output=True, text=True, timeout=300, check=False)


def test_parameters_are_those_that_the_program_takes(parameters: dict[str, dict[str, object]]) -> None:
    assert set(re.findall(r"--(\w+)", _launch("--help").stdout)) - {"help"} == set(parameters)


def test_parameters_without_which_the_program_does_not_start_are_not_optional(parameters: dict[str, dict[str, object]]) -> None:
    missing = _launch().stderr
    required = {name for name, one in parameters.items() if not one["isOptional"]}
    assert required == set(re.findall(r"--(\w+)", missing.rpartition("required:")[2]))


REGEXES = {
    "a bucket is a ledger": ("ledger", "gs://bucket/ledger", True),
    "a local folder is no ledger": ("ledger", "/ledger", False),
    "no policy is the built-in one": ("policy", "", True),
    "a policy is TOML": ("policy", "gs://bucket/policy.json", False),
    "parts are counted from one": ("deal_out", "0", False),
}


@pytest.mark.parametrize("case", REGEXES)
def test_values(case: str, parameters: dict[str, dict[str, object]]) -> None:
    name, value, taken = REGEXES[case]
    patterns = parameters[name]["regexes"]
    assert isinstance(patterns, list)
    assert all(re.search(pattern, value) for pattern in patterns) is taken


def test_a_launched_scan_is_ended_by_commit_with_the_digest_of_the_command(tmp_path: Path) -> None:
    """The template's program on this machine's runner: it commits nothing itself."""
    corpus, ledger = build_corpus(tmp_path / "corpus", shards=3, documents=20), tmp_path / "ledger"
    launched = _launch("--runner=FnApiRunner", f"--ledger={ledger}", f"--inputs={corpus}", "--deal_out=4")
    assert launched.returncode == 0, launched.stderr
    assert not (ledger / "entries").exists(), "nothing is committed yet"
    (job,) = re.findall(r"forebear commit (\S+)", launched.stdout)
    done = subprocess.run([FOREBEAR, "--ledger", str(ledger), "commit", job, "--json"], capture_output=True, text=True, check=False)
    assert json.loads(done.stdout)["run_digest"] == scan(tmp_path / "other", corpus).digest


def test_a_wrong_parameter_says_what_to_do(tmp_path: Path) -> None:
    done = _launch("--runner=FnApiRunner", f"--ledger={tmp_path / 'ledger'}", f"--inputs={tmp_path / 'nowhere'}")
    assert done.returncode == 2
    assert "nowhere" in done.stderr
    assert "Traceback" not in done.stderr


def test_the_image_has_the_beam_that_is_tested_and_the_program_where_the_launcher_looks() -> None:
    text = (FOLDER / "Dockerfile").read_text()
    assert f"ARG BEAM={importlib.metadata.version('apache-beam')}\n" in text
    (program,) = re.findall(r"FLEX_TEMPLATE_PYTHON_PY_FILE=(\S+)", text)
    copied = dict(re.findall(r"^COPY (infra/\S+) (\S+)$", text, re.MULTILINE))
    assert (INFRA.parent / "infra" / "dataflow" / "launch.py").exists()
    assert copied["infra/dataflow/launch.py"] == program
