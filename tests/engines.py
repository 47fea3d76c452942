"""Engines for tests: a corpus on which engines could differ, the scan through the command, and servers started and stopped by id."""

from __future__ import annotations

import gzip
import json
import os
import random
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

INFRA = Path(__file__).parent.parent / "infra"
ENGINES = str(INFRA / "engines.py")
FOREBEAR = str(Path(sys.executable).parent / "forebear")
BUCKET = 80
"""Documents of one template: more than the 64 that are compared pair by pair."""

_WORDS = [f"{first}{second}" for first in ("ba", "co", "di", "fu", "ge", "ha") for second in ("rn", "lt", "mp", "nd", "st", "x")]


def build_corpus(folder: Path, *, shards: int = 4, documents: int = 60) -> Path:
    """Copies and near-copies across shards, a bucket too large for all pairs, rows of every fault, a shard cut short.

    Returns:
        The folder.
    """
    draw = random.Random(11)
    unique = [_text(draw) for _ in range(shards * documents)]
    near = [_changed(text, draw) for text in unique[::6]]
    template = [_changed(unique[0], draw) for _ in range(BUCKET)]
    whole = [*unique, *unique[::9], *near, *template, "You are a worthless idiot and everyone hates you, you stupid fool."]
    draw.shuffle(whole)
    rows = [json.dumps({"id": str(n), "source": "web" if n % 3 else "books", "text": text}).encode() for n, text in enumerate(whole)]
    rows += [b'{"id": "broken", "text": ', b'{"id": "number", "text": 7}', b'{"id": "nothing"}', b'{"id": "null", "text": null}']
    rows += [b'{"id": "bytes", "text": "\xff\xfe"}', b'{"id": "empty", "text": ""}']
    folder.mkdir(parents=True)
    for n in range(shards):
        (folder / f"{n}.jsonl").write_bytes(b"".join(row + b"\n" for row in rows[n::shards]))
    shutil.copy(folder / "0.jsonl", folder / "the-same-bytes.jsonl")
    cut = gzip.compress(b"".join(row + b"\n" for row in rows[::7]), mtime=0)
    (folder / "cut.jsonl.gz").write_bytes(cut[: len(cut) * 2 // 3])
    return folder


def _text(draw: random.Random) -> str:
    return " ".join(f"{draw.choice(_WORDS)}{draw.randrange(40)}" for _ in range(draw.randrange(120, 240)))


def _changed(text: str, draw: random.Random) -> str:
    """The text with one word changed: a similarity of .92 or more."""
    words = text.split()
    words[draw.randrange(len(words))] = f"changed{draw.randrange(10**6)}"
    return " ".join(words)


@dataclass(frozen=True)
class Result:
    """What a scan's command answered."""

    answer: dict[str, Any]
    ledger: Path

    @property
    def digest(self) -> str:
        """The run digest."""
        return str(self.answer["run_digest"])


def command(ledger: Path, corpus: Path, *, runner: str | None = None, workers: int = 1, beam: tuple[str, ...] = ()) -> list[str]:
    """The command line of a scan."""
    named = ["--runner", runner] if runner else []
    return [FOREBEAR, "--ledger", str(ledger), "scan", str(corpus), "--json", *named, "--workers", str(workers), "--", *beam]


def scan(ledger: Path, corpus: Path, **how: Any) -> Result:
    """Scan through the command, as a user does; errored rows make its exit code 1."""
    done = subprocess.run(command(ledger, corpus, **how), capture_output=True, text=True, timeout=600, env=environment())
    assert done.returncode in (0, 1), done.stdout[-2000:] + done.stderr[-4000:]
    return Result(json.loads(done.stdout), ledger)


def environment() -> dict[str, str]:
    """This Python first on the PATH: Beam's worker pools start `python`."""
    return {**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}


def need(*programs: str) -> None:
    """Skip, saying so, where a program is missing."""
    missing = [name for name in programs if shutil.which(name) is None]
    if missing:
        pytest.skip(f"ENGINE NOT TESTED: no {', '.join(missing)} on the PATH")


@dataclass(frozen=True)
class Engine:
    """A running engine: Beam's options for it, its processes by name, the folder of their logs."""

    options: tuple[str, ...]
    processes: dict[str, int]
    folder: Path

    def log(self, name: str) -> str:
        """What a server has written."""
        return (self.folder / f"{name}.log").read_text(errors="replace")


@contextmanager
def engine(name: str, folder: Path) -> Iterator[Engine]:
    """Start an engine by the script of `infra`, and stop it whatever happens."""
    state = folder / f"{name}.state"
    try:
        started = subprocess.run(
            [sys.executable, ENGINES, "start", name, "--state", str(state)],
            capture_output=True,
            text=True,
            timeout=900,
            env=environment(),
        )
        if started.returncode == 2 and "Maven could not resolve" in started.stderr:
            pytest.skip(f"ENGINE NOT TESTED: {started.stderr[:300]}")
        assert started.returncode == 0, started.stderr
        what = json.loads(state.read_text())
        processes = {process["name"]: process["pid"] for process in what["processes"]}
        yield Engine(tuple(what["options"]), processes, Path(what["folder"]))
    finally:
        if state.exists():
            subprocess.run([sys.executable, ENGINES, "stop", "--state", str(state)], check=True, timeout=120)


def wait_for(what: str, found: Callable[[], Any], *, seconds: float = 240) -> Any:
    """Wait until something is found; fail by its name."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if value := found():
            return value
        time.sleep(0.05)
    raise AssertionError(f"waited {seconds:.0f} s in vain for {what}")


def records(ledger: Path, pattern: str) -> list[Path]:
    """Records that a job has left."""
    return [path for path in ledger.glob(f"jobs/*/{pattern}") if not path.name.startswith(".")]


def children(pid: int, naming: str) -> list[int]:
    """Processes below one whose command line names something."""
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            line = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except (OSError, ValueError):
            continue
        if parent == pid and naming in line:
            found.append(int(entry.name))
    return found


def job_server_jar(name: str) -> str:
    """The jar that stands for the one Beam would download."""
    built = subprocess.run([sys.executable, ENGINES, "jar", name], capture_output=True, text=True, timeout=900, check=False)
    if built.returncode == 2:
        pytest.skip(f"ENGINE NOT TESTED: {built.stderr[:300]}")
    return built.stdout.strip()
