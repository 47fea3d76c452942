"""What a scan will need, before it runs: rows, time and disk, from a sample of its inputs.

Always true here: nothing is written; a file's rows are counted where its format tells them (Parquet) and else estimated from its first
bytes; every figure is an estimate and is called one.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from forebear.schemas.errors import DataError, UsageError
from forebear.schemas.tables import EVIDENCE, parquet_bytes
from forebear.tracer.corpus.inputs import InputFile, ReaderOptions
from forebear.tracer.corpus.places import open_input
from forebear.tracer.corpus.rows import Batch, Source, read_rows
from forebear.tracer.dedupe.bands import band_table
from forebear.tracer.scan.evidence import judge, warm_up
from forebear.tracer.scan.packs import best_scores, threshold_column
from forebear.tracer.scan.plan import Plan

__all__ = ["Forecast", "Need", "Sample", "forecast", "needed_disk", "require_room", "sample_inputs"]

SAMPLE_FILES = 8
SAMPLE_BYTES = 1 << 20
SAMPLE_ROWS = 2048

COUNTED_FILES = 100
"""The footers of so many Parquet files are read for their rows; of more, rows are estimated."""

LOG_FACTOR = 1.9
"""Bytes of log for each byte of evidence of the same rows: the same columns, and shard, row, action and keepers."""

ROSTER_BYTES = 53
"""Bytes of roster for each row."""

READ_AGAIN = 0.2
"""Share of the documents whose shingle sets are expected in the work place: those with a candidate."""

READING = 1.1
"""Seconds of reading and judging for each second of judging."""

ROW_SECONDS = 20e-6
"""Seconds of all other steps for each row, whatever its length: bands, candidates, decisions, log."""


@dataclass(frozen=True)
class Sample:
    """First rows of some files, and what they say of all.

    Args:
        batches: The rows that were read.
        rows: Rows expected in all files.
        exact: Whether every file's own count made that.
        text_bytes: Bytes of text for each row.
    """

    batches: tuple[Batch, ...]
    rows: int
    exact: bool
    text_bytes: float


@dataclass(frozen=True)
class Need:
    """Bytes that a scan is expected to write: in the ledger, in the work place, in the folder of cleaned shards."""

    ledger: int
    work: int
    clean: int


@dataclass(frozen=True)
class Forecast:
    """Estimates; seconds without start-up."""

    rows: int
    exact: bool
    files: int
    bytes: int
    text_bytes: int
    seconds: float
    seconds_per_million: float
    need: Need
    sampled: int
    found: Mapping[str, int]

    def to_json(self) -> dict[str, Any]:
        """As `scan --dry-run --json` says it."""
        return {
            "schema": "forebear/dry-run/1",
            "estimate": True,
            "files": self.files,
            "bytes": self.bytes,
            "rows": self.rows,
            "rows_counted": self.exact,
            "text_bytes": self.text_bytes,
            "seconds": round(self.seconds, 1),
            "worker_seconds_per_million_rows": round(self.seconds_per_million, 1),
            "disk": {"ledger": self.need.ledger, "work": self.need.work, "clean": self.need.clean},
            "sample": {"rows": self.sampled, **self.found},
        }


def sample_inputs(files: Sequence[InputFile], reader: ReaderOptions) -> Sample:
    """Read the first rows of a few files spread over the list."""
    chosen = [files[n] for n in sorted(set(np.linspace(0, len(files) - 1, min(SAMPLE_FILES, len(files))).astype(int).tolist()))]
    batches: list[Batch] = []
    bytes_per_row: list[tuple[int, int]] = []
    for file in chosen:
        try:
            taken, size = _first_rows(file, reader)
        except (DataError, OSError, ValueError):
            continue  # what cannot be read is the scan's matter
        batches += taken
        bytes_per_row.append((size, sum(len(one) for one in taken)))
    read, rows = (sum(pair[k] for pair in bytes_per_row) for k in (0, 1))
    countable = len(files) <= COUNTED_FILES and all(file.format == "parquet" for file in files)
    counted = [_counted(file) for file in files] if countable else [None]
    exact = None not in counted
    total = sum(count or 0 for count in counted) if exact else round(sum(file.size for file in files) * rows / max(1, read))
    text = sum(len(data) for one in batches for data in one.texts.cast(pa.large_binary()).to_pylist() if data is not None)
    return Sample(tuple(batches), total, exact, text / max(1, rows))


def _first_rows(file: InputFile, reader: ReaderOptions) -> tuple[list[Batch], int]:
    """(batches, bytes of the file that they take up)."""
    if file.format.startswith("jsonl"):
        with open_input(file.path) as handle:
            head = handle.read(SAMPLE_BYTES)
        whole = len(head) >= file.size
        batches = list(read_rows(Source.from_bytes(head, name=file.path), options=reader))
        # A file that was cut here ends in a row of its own making.
        return batches if whole else _without_last(batches), len(head)
    source = Source.from_path(file.path, whole_below=0)
    taken = [next(read_rows(source, options=reader, rows=SAMPLE_ROWS, missing_ok=True))]
    rows = _counted(file) if file.format == "parquet" else None
    size = file.size * len(taken[0]) / rows if rows else sum(column.nbytes for column in (taken[0].texts, taken[0].source_id))
    return taken, int(size)


def _without_last(batches: list[Batch]) -> list[Batch]:
    last = batches[-1]
    keep = len(last) - 1
    columns = (column.slice(0, keep) for column in (last.texts, last.source_id, last.source, last.error))
    return [*batches[:-1], Batch(last.first_row, *columns)] if keep else batches[:-1]


def _counted(file: InputFile) -> int | None:
    try:
        with open_input(file.path) as handle:
            return int(pq.read_metadata(handle).num_rows)
    except (DataError, OSError, pa.ArrowException):
        return None


def forecast(files: Sequence[InputFile], plan: Plan, *, workers: int) -> Forecast:
    """Judge the sample and extrapolate."""
    sample = sample_inputs(files, plan.reader)
    warm_up(plan)
    began = time.perf_counter()
    judged = [judge(batch, plan) for batch in sample.batches if len(batch)]
    spent = time.perf_counter() - began
    evidence = pa.concat_tables([table for table, _ in judged]) if judged else EVIDENCE.empty_table()
    read = max(1, evidence.num_rows)
    row = READING * spent / read + ROW_SECONDS
    size, total = sum(file.size for file in files), sample.rows
    bands = [found for _, found in judged if found is not None]
    band_bytes = len(parquet_bytes(band_table(np.concatenate(bands), evidence["shingles"].fill_null(0).to_numpy() > 0))) if bands else 0
    kept = len(parquet_bytes(evidence)) * (1 + LOG_FACTOR) + band_bytes
    shingles = float(np.nansum(evidence["shingles"].fill_null(0).to_numpy()))
    work = total * ROSTER_BYTES + total * 8 * READ_AGAIN * shingles / read
    return Forecast(
        rows=total,
        exact=sample.exact,
        files=len(files),
        bytes=size,
        text_bytes=round(sample.text_bytes * total),
        seconds=total * row / _speed_up(workers),
        seconds_per_million=1e6 * row,
        need=Need(round(total * kept / read), round(work), size if plan.clean else 0),
        sampled=evidence.num_rows,
        found={"errored": evidence.num_rows - evidence["error"].null_count, "dropped_by_policy": _dropped(evidence, plan)},
    )


def _dropped(evidence: pa.Table, plan: Plan) -> int:
    dropped = np.zeros(evidence.num_rows, dtype=bool)
    for _, record in plan.detectors:
        dropped |= best_scores(evidence, record) >= threshold_column(evidence["source"], record, "drop")
    return int(dropped.sum())


def _speed_up(workers: int) -> float:
    """Workers share memory and disk: two do 1.5 times the work of one."""
    return 1 + 0.5 * (min(workers, os.cpu_count() or 1) - 1)


def needed_disk(files: Sequence[InputFile], reader: ReaderOptions, *, clean: bool) -> Need:
    """A floor of what a scan writes, from the first rows alone: 90 bytes of log and band table for each row, rosters, cleaned shards."""
    rows = sample_inputs(files, reader).rows
    return Need(90 * rows, ROSTER_BYTES * rows, sum(file.size for file in files) // 2 if clean else 0)


def require_room(need: Need, places: Mapping[str, str | None]) -> None:
    """Refuse a scan that cannot fit: on each disk, what goes there against what is free.

    Args:
        need: What is needed.
        places: Where `ledger`, `work` and `clean` are; buckets and None are passed over.

    Raises:
        UsageError: `disk_full`.
    """
    by_disk: dict[int, tuple[Path, int]] = {}
    for name, place in places.items():
        if place is None or "://" in place:
            continue
        there = _existing(Path(place).absolute())
        disk = there.stat().st_dev
        before = by_disk.get(disk, (there, 0))
        by_disk[disk] = (there, before[1] + int(getattr(need, name)))
    for there, wanted in by_disk.values():
        free = shutil.disk_usage(there).free
        if wanted > free:
            raise UsageError(
                "disk_full",
                expected=f"about {wanted / 1e6:,.0f} MB free at {there} (a low estimate, from a sample of the inputs)",
                found=f"{free / 1e6:,.0f} MB",
                remedy="Free some space, or put the ledger, --work-dir or --clean on another disk.",
            )


def _existing(path: Path) -> Path:
    while not path.exists():
        path = path.parent
    return path
