"""The `scan` command over `run_scan`: from a request to an exit code."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from apache_beam.runners.runner import create_runner
from rich.console import Console

from forebear.pipelines.dry_run import dry_run
from forebear.pipelines.hub import hub_survey, is_hub
from forebear.pipelines.options import LOCAL, beam_options
from forebear.pipelines.progress import watching
from forebear.pipelines.scan import ScanOptions, run_scan
from forebear.pipelines.steps import storage_failure
from forebear.pipelines.summary import scan_json, show_scan
from forebear.schemas.errors import DataError, UsageError
from forebear.schemas.records import RunManifest
from forebear.tracer.corpus.inputs import InputFile, ReaderOptions, Survey, survey
from forebear.tracer.corpus.source import Source
from forebear.tracer.corpus.table_files import open_table
from forebear.tracer.ledger.ledger import Ledger
from forebear.tracer.policy import load_policy
from forebear.tracer.scan.forecast import needed_disk, require_room
from forebear.tracer.scan.plan import Plan, build_detectors

__all__ = ["ScanRequest", "scan_command", "scan_exit_code"]


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
    against: tuple[str, ...] = ()
    dry_run: bool = False
    beam: tuple[str, ...] = ()


def scan_command(request: ScanRequest, ledger_url: str, *, as_json: bool, began: float) -> int:
    """Scan, say what was found, and return the exit code."""
    _require_share(request.max_errored)
    policy = load_policy(request.policy, toxicity_model=str(request.toxicity_model) if request.toxicity_model else None)
    build_detectors(policy)
    beam = beam_options(runner=request.runner, workers=request.workers, extra=request.beam)
    _require_runner(request.runner)
    reader = ReaderOptions(*request.fields, source=request.source)
    found = _leave_out(_survey(request), own=(ledger_url, request.clean, request.work_dir))
    _require_text_column(found.files, reader)
    clean = str(request.clean.absolute()) if request.clean else None
    if request.dry_run:
        return dry_run(found.files, Plan("", "", "", policy, reader, clean), workers=request.workers, as_json=as_json)
    places = {"ledger": ledger_url, "work": request.work_dir or ledger_url, "clean": clean}
    require_room(needed_disk(found.files, reader, clean=clean is not None), places)
    ledger = Ledger.open(ledger_url, create=True)
    options = ScanOptions(
        clean=clean,
        work=request.work_dir,
        workers=request.workers,
        max_errored=request.max_errored,
        against=request.against,
        runner=request.runner if request.runner and request.runner not in LOCAL else LOCAL[0],
    )
    with watching(sum(file.size for file in found.files)) as watcher:
        try:
            scanned = run_scan(
                ledger, found.files, policy=policy, reader=reader, options=options, beam_options=beam, began=began, watch=watcher.see
            )
        except OSError as error:
            raise storage_failure(error) or error from error
    if as_json:
        sys.stdout.write(json.dumps(scan_json(scanned), ensure_ascii=False) + "\n")
    else:
        show_scan(scanned, Console())
        _say_skipped(found.skipped)
    return scan_exit_code(scanned.committed.manifest)


def scan_exit_code(run: RunManifest) -> int:
    """1 where rows errored, shards are incomplete, or pairs could not be measured since their source went; else 0."""
    return 1 if run.rows["errored"] or run.incomplete or run.environment["unmeasured"] else 0


def _require_share(max_errored: float) -> None:
    if not 0 <= max_errored <= 1:
        raise UsageError(
            "wrong_value",
            expected="--max-errored from 0 to 1",
            found=str(max_errored),
            remedy="Write a share: 0.01 is one row in a hundred.",
        )


def _require_runner(name: str | None) -> None:
    """Refuse a runner that Beam does not know before anything is written."""
    try:
        create_runner(name or LOCAL[0])
    except (ValueError, ImportError, AttributeError) as error:
        raise UsageError(
            "unknown_runner", expected="a runner that Beam knows", found=str(error), remedy="Leave out --runner to scan on this machine."
        ) from error


def _survey(request: ScanRequest) -> Survey:
    """The files that the inputs name, on disks, in buckets and on the hub."""
    hub = [one for one in request.inputs if is_hub(one)]
    rest = [one for one in request.inputs if not is_hub(one)]
    found = survey(rest, lists=request.lists) if rest or request.lists or not hub else Survey([])
    remote = hub_survey(hub) if hub else Survey([])
    files = {one.path: one for one in [*found.files, *remote.files]}
    return Survey([files[path] for path in sorted(files)], sorted({*found.skipped, *remote.skipped} - files.keys()))


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
