"""A released model for tests: a ledger with a scan and a lineage, a folder of weights, a key, and the commands over them."""

from __future__ import annotations

import atexit
import json
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import typer
from typer.testing import CliRunner
from world import TIME, World, detector, make_ledger

from forebear.schemas.lineage import parse_record
from forebear.tracer.certify.commands import register
from forebear.tracer.ledger.keys import PrivateKey, write_pair
from forebear.tracer.ledger.ledger import Ledger
from forebear.tracer.lineage.link import link

__all__ = ["KEY", "NAME", "Released", "add_lineage", "ask", "base_record", "certified", "release", "run_command"]

KEY = PrivateKey(bytes(range(32)))
NAME = "acme/chat-7b"
RATE = {"rate": "0.25", "on": "a made set", "flag": "0.8"}

WEIGHTS = {"model-00001.safetensors": b"\x02\0\0\0\0\0\0\0{}", "model-00002.safetensors": b"\x02\0\0\0\0\0\0\0{} "}
FILES = {**WEIGHTS, "config.json": b'{"hidden_size": 4}', "tokenizer/vocab.txt": b"a\nb\n", "tokenizer.json": b"{}"}
CARD = "---\nlicense: apache-2.0  # ours\ntags:\n- chat\n---\n\n# Chat\n\nA model.\n"


@dataclass(frozen=True)
class Released:
    """What a test works on."""

    ledger: Path
    folder: Path
    private: Path
    public: Path
    world: World


def base_record(world: World, **chat: Any) -> dict[str, Any]:
    """A chat model on a base that consumed a toxic row, instructions made by a teacher, and a guide."""
    return {
        "models": [
            {
                "name": "acme/base-7b",
                "ancestry": "closed",
                "trained_on": [{"dataset": "acme/web", "stage": "pretrain", "epochs": 2, "evidence": "logged"}],
            },
            {"name": "acme/teacher", "ancestry": "open"},
            {
                "name": NAME,
                "ancestry": "closed",
                "parents": [
                    {"relation": "finetuned_from", "model": "acme/base-7b"},
                    {"relation": "rewarded_by", "model": "acme/teacher"},
                ],
                "trained_on": [{"dataset": "acme/instructions", "stage": "sft", "epochs": 0.5}],
                **chat,
            },
        ],
        "datasets": [
            {"name": "acme/web", "ancestry": "closed", "shards": [world.shards["a"], {"shard": world.shards["b"], "rows": [[0, 2]]}]},
            {"name": "acme/instructions", "ancestry": "closed", "shards": [world.shards["b"]]},
        ],
    }


def add_lineage(ledger: Ledger, record: Mapping[str, Any], *, time: str = TIME) -> None:
    """Link a record."""
    link(ledger, [(parse_record(record), Path())], time=time)


@cache
def _template(clean: bool) -> tuple[Path, World]:
    """A ledger with the scan alone, made once: tests copy it."""
    path = Path(tempfile.mkdtemp(prefix="forebear-certified-")) / "ledger"
    atexit.register(shutil.rmtree, path.parent, ignore_errors=True)
    return path, make_ledger(path, detectors=[detector(false_positive_rate=RATE)], clean=clean)


def release(tmp: Path, *, record: Mapping[str, Any] | None = None, card: str | None = CARD, clean: bool = False) -> Released:
    """A ledger, a folder and keys, nothing certified yet."""
    path, world = _template(clean)
    shutil.copytree(path, tmp / "ledger")
    world = replace(world, ledger=Ledger.open(tmp / "ledger"))
    add_lineage(world.ledger, base_record(world) if record is None else record)
    folder = tmp / "chat-7b"
    for name, data in FILES.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    if card is not None:
        (folder / "README.md").write_text(card, encoding="utf-8")
    write_pair(KEY, private=tmp / "acme.key", public=tmp / "acme.pub")
    return Released(tmp / "ledger", folder, tmp / "acme.key", tmp / "acme.pub", world)


def certified(tmp: Path, **options: Any) -> Released:
    """A release with its certificate."""
    released = release(tmp, **options)
    ask("certify", NAME, "--model-dir", released.folder, "--sign", released.private, "--ledger", released.ledger)
    return released


def run_command(*arguments: object) -> Any:
    """Run one of the commands here; gives click's result, errors of ours left in `exception`."""
    app = typer.Typer()
    app.callback()(lambda: None)
    register(app, ledger_url=lambda own: own or "ledger")
    return CliRunner().invoke(app, [str(one) for one in arguments])


def ask(*arguments: object, code: int | Sequence[int] = 0) -> Any:
    """Run with `--json`; the answer."""
    result = run_command(*arguments, "--json")
    assert result.exit_code in ([code] if isinstance(code, int) else code), (result.exit_code, result.exception, result.output)
    return json.loads(result.stdout)
