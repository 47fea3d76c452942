"""README is true: its commands exist with the options it gives them, its record validates, its tables are the enums, its links lead somewhere."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import typer
import yaml

import forebear.schemas.enums as enums
from forebear.pipelines.cli import app
from forebear.tracer.lineage.records import read_record

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


@dataclass(frozen=True)
class Block:
    """A fenced block and the heading above it."""

    heading: str
    language: str
    lines: tuple[str, ...]


def blocks(text: str) -> Iterator[Block]:
    heading, fence, held = "", None, list[str]()
    for line in text.splitlines():
        if line.startswith("```"):
            if fence is None:
                fence, held = line[3:].strip(), []
            else:
                yield Block(heading, fence, tuple(held))
                fence = None
        elif fence is not None:
            held.append(line)
        elif line.startswith("#"):
            heading = line.lstrip("# ")


SHELL = [block for block in blocks(README) if block.language in ("sh", "bash", "console")]
COMMANDS = [
    words
    for block in SHELL
    for line in block.lines
    for part in re.split(r"&&", line)
    if (words := shlex.split(part, comments=True)) and Path(words[0]).name == "forebear"
]


def test_there_is_something_to_check() -> None:
    assert len(COMMANDS) >= 8
    assert {words[1] for words in COMMANDS} >= {"demo", "scan", "trace", "link", "verify", "sql"}


@pytest.mark.parametrize("words", COMMANDS, ids=shlex.join)
def test_a_command_line_parses(words: list[str]) -> None:
    """Options and arguments as the command declares them; nothing is run."""
    given = words[1 : words.index("--")] if "--" in words else words[1:]
    group: Any = typer.main.get_command(app)
    with group.make_context("forebear", given) as above:
        rest = [*getattr(above, "_protected_args", []), *above.args]
        name, command, left = group.resolve_command(above, rest)
        command.make_context(name, left, parent=above)


def command_lines(block: Block) -> list[str]:
    """What remains to be typed after the clone: what a newcomer copies."""
    return [line for line in block.lines if line.strip() and not line.startswith(("#", "git clone", "cd "))]


def test_the_first_block_is_one_command_line_that_runs_the_demo() -> None:
    (line,) = command_lines(SHELL[0])
    assert line.endswith("forebear demo")
    assert "'.[pipelines]'" in line


def test_the_block_under_test_is_one_command_line_that_runs_the_tests() -> None:
    (line,) = command_lines(next(block for block in SHELL if "Test" in block.heading))
    assert "pytest" in line
    assert "'.[test]'" in line


def test_ci_runs_that_same_line() -> None:
    assert "README.md" in (ROOT / ".ci" / "run").read_text()


def test_the_record_is_one_that_link_reads(tmp_path: Path) -> None:
    (record,) = ("\n".join(block.lines) for block in blocks(README) if block.language == "yaml")
    (tmp_path / "release.yaml").write_text(record)
    read = read_record(tmp_path / "release.yaml")
    assert {model.reference.name for model in read.models} == {"acme/chat-7b"}
    assert {dataset.reference.name for dataset in read.datasets} == {"acme/instructions"}
    schema = json.loads((ROOT / "schemas/forebear/schemas/training_record.schema.json").read_text())
    jsonschema.validate(yaml.safe_load(record), schema)


def rows(table: str) -> list[str]:
    """The first cells of the table below a line that begins so."""
    lines = README.partition(table)[2].splitlines()
    cells = [line.split("|")[1].strip(" `") for line in lines if line.startswith("|")]
    return cells[2:]


def test_the_verdicts_are_those_there_are_worst_first() -> None:
    assert rows("## What a verdict says") == [verdict.value for verdict in enums.Verdict]


LINKS = re.findall(r"\]\(([^)#]+)[^)]*\)", README)


@pytest.mark.parametrize("link", sorted({link for link in LINKS if "://" not in link}))
def test_a_link_leads_somewhere(link: str) -> None:
    assert (ROOT / link).exists()


def test_every_command_that_is_mentioned_exists() -> None:
    group: Any = typer.main.get_command(app)
    assert {words[1] for words in COMMANDS} <= set(group.commands)


def test_help_names_every_command_with_one_line(forebear: Callable[..., Any]) -> None:
    answer = forebear("--help")
    group: Any = typer.main.get_command(app)
    assert answer.code == 0
    for name, command in group.commands.items():
        assert re.search(rf"^\s*{re.escape(name)}\s+\S", answer.out, re.MULTILINE), f"{name} has no help"
        assert command.help
