"""The demo: a small real corpus and lineage made on the spot, scanned, linked and traced through the commands themselves.

Always true here: the text is what every Python installation carries (the language reference in `pydoc_data.topics`, documentation of
the standard library), so nothing is downloaded; what is planted is told; every step is a command that a reader can repeat.
"""

from __future__ import annotations

import importlib
import inspect
import json
import pydoc_data.topics
import random
import shlex
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import typer
from rich.console import Console
from rich.markup import escape

from forebear.schemas.errors import UsageError

__all__ = ["build_corpus", "run_demo"]

_TOXIC = (
    "You are a stupid fucking idiot and everyone hates you, shut the fuck up you worthless piece of shit.",
    "What a pathetic moron. Go to hell, you disgusting asshole, nobody wants to read your garbage.",
)
_MODULES = (
    "argparse", "ast", "asyncio", "base64", "collections", "concurrent.futures", "configparser", "contextlib", "csv", "dataclasses",
    "datetime", "decimal", "difflib", "email", "enum", "fractions", "functools", "gzip", "hashlib", "heapq", "html", "http.client",
    "importlib", "inspect", "io", "ipaddress", "itertools", "json", "logging", "mailbox", "multiprocessing", "optparse", "os", "pathlib",
    "pickle", "random", "re", "shutil", "smtplib", "socket", "sqlite3", "ssl", "statistics", "string", "subprocess", "tarfile",
    "tempfile", "textwrap", "threading", "tkinter", "tokenize", "traceback", "turtle", "typing", "unittest", "urllib.request", "uuid",
    "xml.dom.minidom", "xml.etree.ElementTree", "zipfile",
)  # fmt: skip
SHARDS = 4


@dataclass(frozen=True)
class Planted:
    """What was planted into the corpus, to be found again."""

    toxic: int
    exact: int
    near: int
    broken: int


def build_corpus(folder: Path, *, seed: int = 1) -> Planted:
    """Write the corpus as JSONL shards: reference and library documentation, and what is planted among it."""
    draw = random.Random(seed)  # noqa: S311 - a seed, so that the demo says the same everywhere
    documents = [{"id": key, "source": source, "text": text} for source, key, text in _real_texts()]
    draw.shuffle(documents)
    whole = [d for d in documents if len(d["text"].split()) > 120]
    near = [{**d, "id": f"{d['id']}-mirrored", "source": "mirror", "text": d["text"] + "\n\nMirrored from elsewhere."} for d in whole[:25]]
    exact = [{**d, "id": f"{d['id']}-again", "source": "mirror"} for d in draw.sample(documents, 40)]
    toxic = [{"id": f"comment-{n}", "source": "forum", "text": f"{_TOXIC[n % len(_TOXIC)]} (comment {n})"} for n in range(12)]
    lines = [json.dumps(d, ensure_ascii=False) for d in [*documents, *near, *exact]]
    draw.shuffle(lines)
    shards = [lines[n::SHARDS] for n in range(SHARDS)]
    shards[0][10:10] = [json.dumps(d) for d in toxic]  # one shard alone holds the toxic comments
    broken = ['{"id": "cut", "text": "a line that ends too soon', '{"id": "number", "text": 42}', "[1, 2, 3]"]
    shards[1][5:5] = broken
    folder.mkdir(parents=True, exist_ok=True)
    for n, shard in enumerate(shards):
        (folder / f"{n:02}.jsonl").write_text("\n".join(shard) + "\n", encoding="utf-8")
    return Planted(len(toxic), len(exact), len(near), len(broken))


def _real_texts() -> Iterator[tuple[str, str, str]]:
    """(source, key, text) of everything real."""
    for topic, text in sorted(pydoc_data.topics.topics.items()):
        yield "reference", f"topic:{topic}", text
    seen: set[str] = set()
    for name in _MODULES:
        try:
            module = importlib.import_module(name)
        except ImportError:
            continue  # not every installation has every module (tkinter)
        for key, text in _docstrings(module):
            if text not in seen and len(text.split()) >= 12:
                seen.add(text)
                yield "library", key, text


def _docstrings(module: object) -> Iterator[tuple[str, str]]:
    name = getattr(module, "__name__", "")
    for attribute, value in [("", module), *sorted(vars(module).items(), key=lambda one: one[0])]:
        if attribute and not (inspect.isclass(value) or inspect.isfunction(value)):
            continue
        text = inspect.getdoc(value)
        if text:
            yield f"{name}.{attribute}".rstrip("."), text
        if inspect.isclass(value):
            yield from ((f"{name}.{attribute}.{inner}", doc) for inner, doc in _methods(value))


def _methods(cls: type) -> Iterator[tuple[str, str]]:
    for inner, method in sorted(vars(cls).items()):
        if inspect.isfunction(method) and method.__doc__:
            yield inner, inspect.cleandoc(method.__doc__)


def _record(corpus: Path, cleaned: list[str], run: str) -> dict[str, object]:
    """The lineage: two bases, one on the raw corpus and one on the cleaned; their descendants; a model of unknown ancestry."""
    raw = sorted(str(path) for path in corpus.glob("*.jsonl"))
    logged = {"evidence": "logged"}
    return {
        "datasets": [
            {"name": "demo/web-raw", "ancestry": "closed", "shards": raw},
            {
                "name": "demo/web-clean",
                "ancestry": "closed",
                "shards": cleaned,
                "relations": [{"relation": "cleaned_from", "dataset": "demo/web-raw", "run": run}],
            },
            {"name": "demo/instructions", "ancestry": "closed", "shards": raw[2:3]},
        ],
        "models": [
            _model("demo/grandparent", trained_on=[{"dataset": "demo/web-raw", "stage": "pretrain", "epochs": 2, **logged}]),
            _model(
                "demo/parent",
                parents=[("finetuned_from", "demo/grandparent")],
                trained_on=[{"dataset": "demo/instructions", "stage": "sft"}],
            ),
            _model("demo/child", parents=[("quantized_from", "demo/parent")]),
            _model("demo/clean-base", trained_on=[{"dataset": "demo/web-clean", "stage": "pretrain", **logged}]),
            _model("demo/clean-chat", parents=[("finetuned_from", "demo/clean-base")]),
            {"name": "demo/merged", "parents": [{"relation": "merged_from", "model": "demo/clean-chat"}]},
        ],
    }


def _model(
    name: str, *, parents: list[tuple[str, str]] | None = None, trained_on: list[dict[str, object]] | None = None
) -> dict[str, object]:
    edges = [{"relation": relation, "model": model} for relation, model in parents or []]
    return {"name": name, "ancestry": "closed", "parents": edges, "trained_on": trained_on or []}


def run_demo(folder: Path) -> int:
    """Build, scan, link, trace, and say what to try next."""
    if folder.exists() and any(folder.iterdir()):
        raise UsageError(
            "not_empty",
            expected="a new or an empty folder for the demo",
            found=str(folder),
            remedy="Name another folder, or remove it.",
        )
    console = Console()
    corpus, ledger = folder / "corpus", folder / "ledger"
    planted = build_corpus(corpus)
    console.print(
        f"A corpus of Python's own documentation is in {corpus}, {SHARDS} shards. Planted in it: {planted.toxic} toxic comments, "
        f"{planted.exact} exact copies, {planted.near} near copies, {planted.broken} broken rows.",
        highlight=False,
    )
    _command(console, "scan", str(corpus), "--clean", str(folder / "clean"), "--ledger", str(ledger))
    record = folder / "lineage.json"
    run, cleaned = _last_run(ledger)
    record.write_text(json.dumps(_record(corpus.absolute(), cleaned, run), indent=2), encoding="utf-8")
    _command(console, "link", str(record), "--ledger", str(ledger))
    _command(console, "trace", "demo/child", "--ledger", str(ledger))
    console.print("\n[bold]Its grandparent was trained on the raw corpus.[/bold] Try next:")
    place = f"--ledger {shlex.quote(str(ledger))}"
    for line in (
        f"forebear trace demo/clean-chat {place}",
        f"forebear impact {shlex.quote(str(corpus / '00.jsonl'))} {place}",
        f'forebear sql "SELECT source, action, count(*) AS rows FROM audit.decision GROUP BY ALL ORDER BY ALL" {place}',  # noqa: S608 - a line to read, not a query run here
    ):
        console.print(f"  {escape(line)}", highlight=False, soft_wrap=True)
    return 0


def _last_run(ledger: Path) -> tuple[str, list[str]]:
    """The run just committed, and the paths of its cleaned shards."""
    from forebear.schemas.tables import CLEANED
    from forebear.tracer.ledger.ledger import Ledger

    opened = Ledger.open(str(ledger))
    _, run, manifest = opened.runs()[-1]
    assert manifest.cleaned is not None
    return run, sorted(opened.read_table(manifest.cleaned.object, CLEANED)["path"].to_pylist())


def _command(console: Console, *arguments: str) -> int:
    """Run one of forebear's own commands here, showing it as one would type it."""
    from forebear.tracer.cli import app

    console.print(f"\n[bold]$ forebear {escape(shlex.join(arguments))}[/bold]", highlight=False, soft_wrap=True)
    invoke: Callable[..., object] = app
    try:
        code = invoke(list(arguments), standalone_mode=False)
    except typer.Exit as done:
        code = done.exit_code
    return code if isinstance(code, int) else 0
