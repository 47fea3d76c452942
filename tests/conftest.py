"""What every test may rely on: hypothesis without chance or deadlines, marks that skip where their ground is absent, and the command.

Always true here: a fixture reaches the project through its command line alone, or changes this process and puts it back.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"
NOBODY = 65534

# The same examples on every machine, however loaded; HYPOTHESIS_PROFILE=search looks for new ones.
settings.register_profile("same", derandomize=True, deadline=None)
settings.register_profile("search", deadline=None, max_examples=2000)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "same"))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip, and say so, what needs data that is not here, and engines where they are not wanted."""
    absent = {} if SHARED.is_dir() else {"shared_data": f"{SHARED} is not there"}
    if os.environ.get("FOREBEAR_ENGINES") == "0":
        absent["engine"] = "ENGINE NOT TESTED: FOREBEAR_ENGINES=0"
    for item in items:
        for mark, reason in absent.items():
            if item.get_closest_marker(mark):
                item.add_marker(pytest.mark.skip(reason=reason))


@dataclass(frozen=True)
class Answer:
    """What a command said."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> dict[str, Any]:
        """Standard output as the one object that `--json` promises."""
        (line,) = self.out.splitlines()
        answer: dict[str, Any] = json.loads(line)
        return answer

    @property
    def error(self) -> dict[str, str]:
        """The error that standard output and standard error both tell, without a traceback."""
        error: dict[str, str] = self.json["error"]
        assert self.json["schema"] == "forebear/error/1"
        assert "Traceback" not in self.err + self.out
        for part in ("expected", "found", "remedy"):
            assert error[part], f"the message has no {part}"
            assert " ".join(error[part].split()) in self.err
        return error


def run_command(*arguments: object) -> Answer:
    """The `forebear` command in this process, as its entry point runs it."""
    from forebear.pipelines import cli

    out, err, before = io.StringIO(), io.StringIO(), sys.argv
    cli._beam_arguments.clear()
    sys.argv = ["forebear", *map(str, arguments)]
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            cli.main()
    except SystemExit as done:
        assert isinstance(done.code, int)
        return Answer(done.code, out.getvalue(), err.getvalue())
    finally:
        sys.argv = before
    raise AssertionError("the command did not exit")


@pytest.fixture(scope="session")
def forebear() -> Callable[..., Answer]:
    """The command in this process: arguments in, `Answer` out."""
    return run_command


@pytest.fixture
def ordinary_user() -> Iterator[Path]:
    """A folder of an ordinary user, as whom the test runs: to root nothing is forbidden."""
    folder = Path(tempfile.mkdtemp(prefix="forebear-user-"))
    was_root = os.geteuid() == 0
    if was_root:
        os.chown(folder, NOBODY, NOBODY)
        os.seteuid(NOBODY)
    try:
        yield folder
    finally:
        if was_root:
            os.seteuid(0)
        shutil.rmtree(folder, ignore_errors=True)
