"""The `scan` command over `run_scan`: from a request to an exit code."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from forebear.pipelines.options import LOCAL, beam_options
from forebear.pipelines.progress import watching
from forebear.pipelines.scan import ScanOptions, run_scan
from forebear.pipelines.summary import scan_json, show_scan
from forebear.schemas.errors import DataError, UsageError
from forebear.tracer.corpus.inputs import InputFile, ReaderOptions, Survey, survey
from forebear.tracer.corpus.source import Source
from forebear.tracer.corpus.table_files import open_table
from forebear.tracer.ledger.ledger import Ledger
from forebear.tracer.policy import load_policy
from forebear.tracer.scan.plan import build_detectors

__all__ = ["ScanRequest", "scan_command"]


@dataclass(frozen=True)
class ScanRequest:
    """What the command line asked for."""

    inputs: tuple[str, ...]
    lists: tuple[str, ...] = ()
    policy: Path | None = None
    toxicity_model: Path | None = None
    fields: tuple[str, str, str] = ("text", "id", "source")
    source: str | None = None
    clean: Path | None = None
    runner: str | None = None
    workers: int = 1
    work_dir: str | None = None
    max_errored: float = 1.0
    beam: tuple[str, ...] = ()


def scan_command(request: ScanRequest, ledger_url: str, *, as_json: bool, began: float) -> int:
    """Scan, say what was found, and return the exit code: 1 where rows errored or shards are incomplete."""
    policy = load_policy(request.policy, toxicity_model=str(request.toxicity_model) if request.toxicity_model else None)
    build_detectors(policy)
    beam = beam_options(runner=request.runner, workers=request.workers, extra=request.beam)
    reader = ReaderOptions(*request.fields, source=request.source)
    found = _leave_out(survey(request.inputs, lists=request.lists), own=(ledger_url, request.clean, request.work_dir))
    _require_text_column(found.files, reader)
    ledger = Ledger.open(ledger_url, create=True)
    options = ScanOptions(
        clean=str(request.clean.absolute()) if request.clean else None,
        work=request.work_dir,
        workers=request.workers,
        max_errored=request.max_errored,
        runner=request.runner if request.runner and request.runner not in LOCAL else LOCAL[0],
    )
    with watching(sum(file.size for file in found.files)) as watcher:
        scanned = run_scan(
            ledger, found.files, policy=policy, reader=reader, options=options, beam_options=beam, began=began, watch=watcher.see
        )
    if as_json:
        sys.stdout.write(json.dumps(scan_json(scanned), ensure_ascii=False) + "\n")
    else:
        show_scan(scanned, Console())
        _say_skipped(found.skipped)
    run = scanned.committed.manifest
    return 1 if run.rows["errored"] or run.incomplete else 0


def _leave_out(found: Survey, *, own: Sequence[str | Path | None]) -> Survey:
    """Without what lies in the ledger, or in the folders that this scan writes to, where an input folder holds them."""
    places = tuple(f"{Path(str(place).removeprefix('file://')).absolute()}/" for place in own if place and "://" not in str(place))
    kept = [file for file in found.files if not file.path.startswith(places)]
    left = [file.path for file in found.files if file.path.startswith(places)]
    if not kept:
        raise UsageError(
            "no_inputs",
            expected="inputs outside the ledger and the folders that the scan writes to",
            found=f"{len(found.files)} files, all inside them",
            remedy="Name the corpus, or put the ledger and --clean elsewhere.",
        )
    return Survey(kept, [*found.skipped, *left])


def _require_text_column(files: Sequence[InputFile], reader: ReaderOptions) -> None:
    """Refuse inputs none of which can have the text column; a JSONL file may have it in any row."""
    missing: dict[str, list[str]] = {}
    for file in files:
        if file.format.startswith("jsonl"):
            return
        try:
            names = open_table(Source.from_path(file.path, whole_below=0)).schema.names
        except (DataError, OSError, ValueError):
            return  # a file that cannot be opened is the scan's matter
        if reader.text_field in names:
            return
        missing[file.path] = names
    path, names = next(iter(missing.items()))
    raise UsageError(
        "missing_text_column",
        expected=f"a column {reader.text_field!r} in at least one input",
        found=f"columns {', '.join(names)} in {path}",
        remedy="Name the column of the text with --text-field.",
    )


def _say_skipped(skipped: Sequence[str]) -> None:
    if skipped:
        shown = ", ".join(skipped[:3]) + (f" and {len(skipped) - 3:,} more" if len(skipped) > 3 else "")
        Console(stderr=True).print(f"left out (not data, hidden, or of no known format): {shown}", style="dim", markup=False)
