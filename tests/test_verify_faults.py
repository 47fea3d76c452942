"""Seeded faults in a small real ledger: every one is found, none is an exception, and the undamaged ledger passes."""

from __future__ import annotations

import os
import random
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from world import DEFAULT, Document, add_record, add_run, make_ledger

from forebear.tracer.ledger.ledger import Ledger
from forebear.tracer.ledger.verify import verify

FAULTS = int(os.environ.get("FOREBEAR_FAULTS", "88"))
"""Seeded faults in all, shared out over the kinds; 1,000 take a few minutes: FOREBEAR_FAULTS=1000."""


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two runs, one of them over two packs and with cleaned shards, and a lineage record."""
    path = tmp_path_factory.mktemp("sound") / "ledger"
    world = make_ledger(path, packs=2, clean=True)
    add_run(world.ledger, shards={"c": [Document("a third shard", {"toxicity": 5})]}, against=[world.manifest.run_digest])
    add_record(world.ledger, {"schema": "forebear/lineage/1", "models": []})
    return path


def flip(file: Path, rng: random.Random, files: list[Path]) -> None:
    data = bytearray(file.read_bytes())
    data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    file.write_bytes(data)


def truncate(file: Path, rng: random.Random, files: list[Path]) -> None:
    data = file.read_bytes()
    file.write_bytes(data[: rng.randrange(len(data))])


def append(file: Path, rng: random.Random, files: list[Path]) -> None:
    file.write_bytes(file.read_bytes() + rng.choice([b"\n", b"\0", b"x" * 100]))


def delete(file: Path, rng: random.Random, files: list[Path]) -> None:
    file.unlink()


def empty(file: Path, rng: random.Random, files: list[Path]) -> None:
    file.write_bytes(b"")


def swap(file: Path, rng: random.Random, files: list[Path]) -> None:
    other = rng.choice([one for one in files if one != file])
    here, there = file.read_bytes(), other.read_bytes()
    file.write_bytes(there)
    other.write_bytes(here)


def rename(file: Path, rng: random.Random, files: list[Path]) -> None:
    file.rename(file.with_name("f" * 64 if len(file.name) == 64 else f"{file.name}9"))


def extra(file: Path, rng: random.Random, files: list[Path]) -> None:
    name = rng.choice(["notes.txt", "0" * 64, ".hidden", f"{file.name}.bak", f"{file.name}#", "00000000000a"])
    file.with_name(name).write_bytes(rng.choice([b"", b"something"]))


def link(file: Path, rng: random.Random, files: list[Path]) -> None:
    file.unlink()
    file.symlink_to("/nonexistent")


def folder(file: Path, rng: random.Random, files: list[Path]) -> None:
    file.unlink()
    file.mkdir()


def pipe(file: Path, rng: random.Random, files: list[Path]) -> None:
    file.unlink()
    os.mkfifo(file)


KINDS: dict[str, Callable[[Path, random.Random, list[Path]], None]] = {
    f.__name__: f for f in (flip, truncate, append, delete, empty, swap, rename, extra, link, folder, pipe)
}


def damaged(sound: Path, copy: Path, kind: str, seed: int) -> str:
    """A copy with one fault; says which."""
    rng = random.Random(seed)
    shutil.copytree(sound, copy)
    files = sorted(path for path in copy.rglob("*") if path.is_file())
    file = rng.choice(files)
    KINDS[kind](file, rng, files)
    return f"{kind} {file.relative_to(copy)} (seed {seed})"


def test_the_undamaged_ledger_passes_at_every_level(sound: Path) -> None:
    ledger = Ledger.open(sound)
    for level, sample in (("quick", None), ("full", None), ("sample", (1, 2))):
        assert verify(ledger, level=level, sample=sample).findings == ()


@pytest.mark.parametrize("kind", KINDS)
def test_full_finds_every_fault(sound: Path, tmp_path: Path, kind: str) -> None:
    missed = []
    for seed in range(-(-FAULTS // len(KINDS))):
        what = damaged(sound, tmp_path / str(seed), kind, seed)
        report = verify(Ledger.open(tmp_path / str(seed)), level="full")
        if report.ok:
            missed.append(what)
        assert all(one.object and one.expected != "" and one.found != "" and one.remedy for one in report.findings), what
        assert report.to_json()["ok"] is False or what in missed
    assert missed == []


@pytest.mark.parametrize("kind", ["delete", "empty", "truncate", "append", "rename", "extra"])
def test_quick_finds_what_names_and_sizes_show(sound: Path, tmp_path: Path, kind: str) -> None:
    for seed in range(10):
        what = damaged(sound, tmp_path / str(seed), kind, seed)
        report = verify(Ledger.open(tmp_path / str(seed)))
        only_orphan = "object" in what and kind == "extra"
        assert not report.ok or only_orphan, what


def test_all_the_samples_together_find_a_flipped_bit(sound: Path, tmp_path: Path) -> None:
    what = damaged(sound, tmp_path / "copy", "flip", 3)
    ledger = Ledger.open(tmp_path / "copy")
    assert any(not verify(ledger, level="sample", sample=(n, 4)).ok for n in range(1, 5)), what


def test_default_world_has_every_action() -> None:
    """The faults above strike a ledger that has something to lose."""
    assert {one.action for rows in DEFAULT.values() for one in rows} >= {None, "drop", "error"}
