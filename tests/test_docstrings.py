"""Examples in docstrings are true: they are run as they stand, in a folder that holds the ledger they speak of."""

from __future__ import annotations

import doctest
import importlib
import io
import re
from pathlib import Path

import pytest
from test_cookbook import example_ledger

ROOT = Path(__file__).resolve().parents[1]
MODULES = sorted(
    path.relative_to(ROOT / part).with_suffix("").as_posix().replace("/", ".").removesuffix(".__init__")
    for part in ("schemas", "tracer", "pipelines")
    for path in (ROOT / part / "forebear").rglob("*.py")
    if re.search(r"^\s*>>> ", path.read_text("utf-8"), re.MULTILINE)
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return example_ledger(tmp_path_factory.mktemp("docstrings")).parent


def test_the_python_api_has_examples() -> None:
    examples = [one for test in doctest.DocTestFinder().find(importlib.import_module("forebear.tracer.audit")) for one in test.examples]
    assert len(examples) >= 12
    assert not any(doctest.SKIP in one.options for one in examples)


@pytest.mark.parametrize("name", MODULES)
def test_examples_of_a_module(name: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    said, runner = io.StringIO(), doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE)
    for test in doctest.DocTestFinder(exclude_empty=True).find(importlib.import_module(name)):
        runner.run(test, out=said.write)
    assert runner.failures == 0, said.getvalue()
