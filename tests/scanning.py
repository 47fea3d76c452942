"""Scans for tests: real files in, the real pipeline on the real runner, and the log as rows."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from forebear.pipelines.options import beam_options
from forebear.pipelines.scan import Scanned, ScanOptions, run_scan
from forebear.schemas.tables import CLEANED, LOG, SHARDS
from forebear.tracer.corpus.inputs import ReaderOptions, discover
from forebear.tracer.ledger.ledger import Ledger
from forebear.tracer.policy import Policy, load_policy

FLAG_TOXICITY = '[toxicity]\naction = "flag"\n'
NO_TOXICITY = '[toxicity]\naction = "off"\n'


def write_jsonl(path: Path, documents: Iterable[dict[str, Any]]) -> Path:
    """Documents as JSON lines, gzipped where the name says so."""
    path.parent.mkdir(parents=True, exist_ok=True)
    data = "".join(json.dumps(document, ensure_ascii=False) + "\n" for document in documents).encode()
    path.write_bytes(gzip.compress(data, mtime=0) if path.suffix == ".gz" else data)
    return path


def policy_of(folder: Path, toml: str) -> Policy:
    """A policy from TOML text."""
    path = folder / "policy.toml"
    path.write_text(toml, encoding="utf-8")
    return load_policy(path)


def scan(
    ledger: Path, inputs: Sequence[Path | str], *, policy: Policy | None = None, workers: int = 1, beam: Sequence[str] = (), **options: Any
) -> Scanned:
    """Scan into a ledger; `options` are those of `ScanOptions`, and `reader`."""
    reader = options.pop("reader", ReaderOptions())
    return run_scan(
        Ledger.open(str(ledger), create=True),
        discover([str(one) for one in inputs]),
        policy=policy or load_policy(None),
        reader=reader,
        options=ScanOptions(workers=workers, **options),
        beam_options=beam_options(runner=None, workers=workers, extra=beam),
    )


def log_rows(ledger: Path, scanned: Scanned) -> list[dict[str, Any]]:
    """The log of a run, in (shard, row) order."""
    opened = Ledger.open(str(ledger))
    tables = [opened.read_table(ref.object, LOG) for ref in scanned.committed.manifest.log]
    return pa.concat_tables(tables).sort_by([("shard", "ascending"), ("row", "ascending")]).to_pylist()


def by_id(ledger: Path, scanned: Scanned) -> dict[str, dict[str, Any]]:
    """The log by the rows' own ids."""
    return {row["source_id"]: row for row in log_rows(ledger, scanned)}


def shard_rows(ledger: Path, scanned: Scanned) -> list[dict[str, Any]]:
    """The shards table of a run."""
    return Ledger.open(str(ledger)).read_table(scanned.committed.manifest.shards.object, SHARDS).to_pylist()


def cleaned_rows(ledger: Path, scanned: Scanned) -> list[dict[str, Any]]:
    """The cleaned shards of a run."""
    reference = scanned.committed.manifest.cleaned
    assert reference is not None
    return Ledger.open(str(ledger)).read_table(reference.object, CLEANED).to_pylist()
