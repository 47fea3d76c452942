"""The house: what the wheel holds, what an auditor's installation needs, and that the namespace belongs to nobody."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import zipfile
from collections.abc import Callable
from email.message import Message
from email.parser import Parser
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
from scanning import write_jsonl

ROOT = Path(__file__).resolve().parents[1]
PARTS = ("schemas", "tracer", "pipelines")
EXTRAS = {"pipelines", "detoxify", "datasets", "gcp", "test", "all"}
NOT_BASE = ("apache_beam", "numba", "fasttext", "datasketch", "scipy", "zstandard", "datasets", "detoxify", "torch")

# Everything in the wheel that is neither Python, SQL nor py.typed. SPEC.md is not: it is for those who have no forebear.
DATA = {
    "forebear/schemas/certificate.schema.json",
    "forebear/schemas/training_record.schema.json",
    "forebear/tracer/audit/COOKBOOK.md",
    "forebear/tracer/certify/BY_HAND.md",
    "forebear/tracer/detect/builtin/card.json",
    "forebear/tracer/detect/builtin/card.md",
    "forebear/tracer/detect/builtin/toxicity.bin",
}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-cache-dir", "-w", str(folder), str(ROOT)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    if done.returncode and re.search(r"No matching distribution found for hatchling|No module named pip", done.stdout + done.stderr):
        pytest.skip("no wheel can be built here: the build backend (hatchling) cannot be fetched")
    assert done.returncode == 0, done.stderr
    (path,) = folder.glob("forebear-*.whl")
    return zipfile.ZipFile(path)


@pytest.fixture(scope="module")
def metadata(wheel: zipfile.ZipFile) -> Message:
    (name,) = (name for name in wheel.namelist() if name.endswith(".dist-info/METADATA"))
    return Parser().parsestr(wheel.read(name).decode())


def shipped(wheel: zipfile.ZipFile) -> set[str]:
    return {name for name in wheel.namelist() if ".dist-info/" not in name}


def test_the_wheel_holds_the_three_parts_as_they_stand_in_the_tree(wheel: zipfile.ZipFile) -> None:
    found = shipped(wheel)
    for part in PARTS:
        paths = {path.relative_to(ROOT / part) for path in (ROOT / part / "forebear").rglob("*") if path.is_file()}
        expected = {path.as_posix() for path in paths if not any(name.startswith((".", "__pycache__")) for name in path.parts)}
        assert {name for name in found if name.startswith(f"forebear/{part}/")} == expected
        assert f"forebear/{part}/py.typed" in found


def test_the_wheel_holds_nothing_else(wheel: zipfile.ZipFile) -> None:
    found = shipped(wheel)
    assert {"/".join(name.split("/")[:2]) for name in found} == {f"forebear/{part}" for part in PARTS}
    assert {name for name in found if not name.endswith((".py", ".sql", "/py.typed"))} == DATA


def test_the_wheel_is_small(wheel: zipfile.ZipFile) -> None:
    assert sum(entry.compress_size for entry in wheel.infolist()) < 4_000_000


def test_the_namespace_has_no_init_that_would_hide_the_other_parts(wheel: zipfile.ZipFile) -> None:
    assert "forebear/__init__.py" not in wheel.namelist()
    assert not [part for part in PARTS if (ROOT / part / "forebear" / "__init__.py").exists()]


def test_the_version_is_told_once(metadata: Message) -> None:
    assert metadata["Version"] == version("forebear")
    sources = [path for part in PARTS for path in (ROOT / part).rglob("*.py")]
    assert len(sources) > 50
    assert not [path.name for path in sources if "__version__ =" in path.read_text() or f'"{version("forebear")}"' in path.read_text()]


def test_the_licence_is_in_the_wheel(wheel: zipfile.ZipFile, metadata: Message) -> None:
    assert metadata["License-Expression"] == "Apache-2.0"
    assert any(name.endswith("/licenses/LICENSE") for name in wheel.namelist())


def required(metadata: Message, extra: str | None) -> set[str]:
    """Names that an installation with an extra asks for; None: the base."""
    found = set()
    for line in metadata.get_all("Requires-Dist") or []:
        wanted, _, condition = line.partition(";")
        marked = re.search(r"extra == ['\"]([\w-]+)['\"]", condition)
        if (marked[1] if marked else None) == extra:
            found.add(re.split(r"[\s<>=!\[~(]", wanted.strip())[0].lower())
    return found


def test_the_extras_are_those_of_the_contract(metadata: Message) -> None:
    assert set(metadata.get_all("Provides-Extra") or []) == EXTRAS
    assert "gcp" not in " ".join(line for line in metadata.get_all("Requires-Dist") or [] if "extra == 'all'" in line)


def test_an_auditor_installs_no_beam_and_no_kernels(metadata: Message) -> None:
    base = required(metadata, None)
    assert {"duckdb", "pyarrow", "obstore", "typer", "rich", "pyyaml"} <= base
    forbidden = {name.replace("_", "-") for name in NOT_BASE}
    assert not {name for name in base if name in forbidden or name.startswith("fasttext")}
    assert {"apache-beam", "numba", "datasketch", "scipy"} <= required(metadata, "pipelines")


BLOCK = """
import importlib.abc, sys
class Blocked(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {blocked!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)
sys.meta_path.insert(0, Blocked())
"""


def without(blocked: tuple[str, ...], code: str, *arguments: object, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Run code in a process in which some modules are not there."""
    command = [sys.executable, "-c", BLOCK.format(blocked=blocked) + code, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, cwd=cwd, env={**os.environ, "COLUMNS": "120"})


def test_every_module_of_an_auditor_imports_without_the_extras() -> None:
    code = """
import importlib, pkgutil
import forebear.schemas, forebear.tracer.audit, forebear.tracer.certify, forebear.tracer.ledger, forebear.tracer.lineage
names = ["forebear.tracer.cli", "forebear.tracer.policy", "forebear.tracer.render", "forebear.pipelines.cli"]
for package in (forebear.schemas, forebear.tracer.audit, forebear.tracer.certify, forebear.tracer.ledger, forebear.tracer.lineage):
    names += [found.name for found in pkgutil.walk_packages(package.__path__, package.__name__ + ".")]
for name in names:
    importlib.import_module(name)
print(len(names))
"""
    done = without(NOT_BASE, code)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 40


CLI = "from forebear.pipelines.cli import main\nmain()"


@pytest.fixture(scope="module")
def ledger(tmp_path_factory: pytest.TempPathFactory, forebear: Callable[..., Any]) -> Path:
    folder = tmp_path_factory.mktemp("auditor")
    file = write_jsonl(folder / "a.jsonl", [{"id": str(n), "text": f"A walk in the park, number {n}."} for n in range(3)])
    record = folder / "record.yaml"
    record.write_text(
        "models: [{name: m, ancestry: closed, trained_on: [{dataset: d, stage: pretrain}]}]\n"
        f"datasets: [{{name: d, ancestry: closed, shards: [{file}]}}]\n"
    )
    assert forebear("scan", file, "--ledger", folder / "ledger", "--json").code == 0
    assert forebear("link", record, "--ledger", folder / "ledger", "--json").code == 0
    return folder / "ledger"


ASKED = {
    "trace": (("trace", "m"), "not_exposed"),
    "sql": (("sql", "SELECT count(*) AS n FROM audit.decision"), "3"),
    "runs": (("runs",), "sha256:"),
    "why": (("why", "1"), "keep"),
    "verify": (("verify", "--full"), ""),
    "policy": (("policy",), "toxicity"),
    "rules": (("rules",), "finetuned_from"),
    "impact": (("impact", "a.jsonl"), "documents"),
}


@pytest.mark.parametrize("command", ASKED)
def test_an_auditor_can_ask_without_the_extras(command: str, ledger: Path) -> None:
    arguments, words = ASKED[command]
    done = without(NOT_BASE, CLI, "--ledger", ledger, *arguments, cwd=ledger.parent)
    assert done.returncode == (1 if command == "impact" else 0), done.stderr
    assert words in done.stdout


@pytest.mark.parametrize("command", [("scan", "x.jsonl"), ("commit", "job"), ("demo",)])
def test_what_needs_the_pipelines_says_how_to_get_them(command: tuple[str, ...], tmp_path: Path) -> None:
    done = without(NOT_BASE, CLI, *command, cwd=tmp_path)
    assert done.returncode == 2
    assert "pip install 'forebear[pipelines]'" in done.stderr
    assert "Traceback" not in done.stderr
    assert not list(tmp_path.iterdir())


def test_help_loads_neither_duckdb_nor_arrow_nor_beam() -> None:
    done = without((*NOT_BASE, "duckdb", "pyarrow", "polars", "obstore", "numpy"), CLI, "--help")
    assert done.returncode == 0, done.stderr
    assert "scan" in done.stdout
