"""The demo: real text made on the spot, what is planted is found, and what it says to try next works as it is written."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sysconfig
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

SCRIPTS = sysconfig.get_path("scripts")
ENVIRONMENT = {**os.environ, "PATH": f"{SCRIPTS}{os.pathsep}{os.environ.get('PATH', '')}", "COLUMNS": "160"}


@dataclass(frozen=True)
class Shown:
    """A demo that ran in a folder of its own."""

    folder: Path
    seconds: float
    out: str
    err: str

    @property
    def next(self) -> list[list[str]]:
        """The commands that it says to try next."""
        tail = self.out.partition("Try next:")[2]
        return [shlex.split(line) for line in tail.splitlines() if line.startswith("  forebear ")]


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory) -> Shown:
    folder = tmp_path_factory.mktemp("demo")
    began = time.monotonic()
    done = subprocess.run(["forebear", "demo"], cwd=folder, env=ENVIRONMENT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return Shown(folder, time.monotonic() - began, done.stdout, done.stderr)


def test_it_takes_under_a_minute(shown: Shown) -> None:
    assert shown.seconds < 60


def test_it_shows_the_trace_of_a_model_whose_grandparent_saw_what_was_found(shown: Shown, forebear: Callable[..., Any]) -> None:
    trace = shown.out.partition("$ forebear trace demo/child")[2]
    assert "inherited_weights" in trace
    assert "demo/grandparent" in trace
    ledger = shown.folder / "forebear-demo" / "ledger"
    answer = forebear("trace", "demo/child", "--ledger", ledger, "--json")
    assert (answer.code, answer.json["verdict"]) == (1, "inherited_weights")
    assert {one["name"] for one in answer.json["first_exposed"]} == {"demo/grandparent"}
    assert {one["depth"] for one in answer.json["exposures"] if one["ancestor"]["name"] == "demo/grandparent"} == {2}


VERDICTS = {
    "demo/grandparent": "direct",
    "demo/child": "inherited_weights",
    "demo/clean-base": "cleared",
    "demo/clean-chat": "cleared",
    "demo/merged": "unknown",
}


def test_its_six_models_have_their_verdicts(shown: Shown, forebear: Callable[..., Any]) -> None:
    answer = forebear("trace", "--all", "--ledger", shown.folder / "forebear-demo" / "ledger", "--json")
    found = {one["model"]["name"]: one["verdict"] for one in map(json.loads, answer.out.splitlines())}
    # Its own shard has nothing planted in it; a false alarm in some Python's documentation would make it worse.
    assert found.pop("demo/parent") in ("inherited_weights", "direct")
    assert found == VERDICTS


def test_every_planted_thing_is_found(shown: Shown, forebear: Callable[..., Any]) -> None:
    planted = {what: int(n) for n, what in re.findall(r"(\d+) (toxic comments|exact copies|near copies|broken rows)", shown.out)}
    assert len(planted) == 4
    query = "SELECT reason, count(*) AS n FROM (SELECT unnest(reasons) AS reason FROM audit.decision) GROUP BY reason"
    said = forebear("sql", query, "--ledger", shown.folder / "forebear-demo" / "ledger", "--json").json
    counts = {row["reason"]: row["n"] for row in said["rows"]}
    assert counts["toxic"] >= planted["toxic comments"]
    assert counts["exact_duplicate"] >= planted["exact copies"]
    assert counts["near_duplicate"] >= planted["near copies"]
    assert counts["unreadable"] + counts["not_text"] == planted["broken rows"]


def test_the_three_commands_to_try_next_work_as_they_are_written(shown: Shown) -> None:
    assert len(shown.next) == 3
    for command in shown.next:
        done = subprocess.run(command, cwd=shown.folder, env=ENVIRONMENT, capture_output=True, text=True, timeout=100)
        assert done.returncode in (0, 1), f"{command}: {done.stderr}"
        assert done.stdout.strip()
        assert not done.stderr


def test_every_step_is_shown_as_a_command_that_a_reader_can_repeat(shown: Shown) -> None:
    steps = [shlex.split(line[2:]) for line in shown.out.splitlines() if line.startswith("$ forebear")]
    assert [step[1] for step in steps] == ["scan", "link", "trace"]
    again = [*steps[0][: steps[0].index("--clean")], "--ledger", "again", "--json"]
    done = subprocess.run(again, cwd=shown.folder, env=ENVIRONMENT, capture_output=True, text=True, timeout=100)
    assert done.returncode == 1
    assert json.loads(done.stdout)["run_digest"] in shown.out


def test_nothing_is_logged_beside_what_it_says(shown: Shown) -> None:
    assert not re.search("Traceback|WARNING|INFO|ERROR", shown.err)


def test_a_folder_that_holds_something_is_left_alone(tmp_path: Path, forebear: Callable[..., Any]) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    answer = forebear("demo", tmp_path)
    assert (answer.code, answer.out) == (2, "")
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]
