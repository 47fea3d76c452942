"""`scan --dry-run`: what a scan would need, from a sample of its inputs; nothing is written."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

from forebear.tracer.corpus.inputs import InputFile
from forebear.tracer.scan.forecast import Forecast, forecast
from forebear.tracer.scan.plan import Plan

__all__ = ["dry_run"]


def dry_run(files: Sequence[InputFile], plan: Plan, *, workers: int, as_json: bool) -> int:
    """Say rows, cost, time and disk; the exit code is 0."""
    found = forecast(files, plan, workers=workers)
    if as_json:
        sys.stdout.write(json.dumps(found.to_json()) + "\n")
    else:
        _show(found, Console(), workers)
    return 0


def _show(found: Forecast, console: Console, workers: int) -> None:
    table = Table(box=None, show_header=False, title="Estimates, from a sample; nothing was written", title_justify="left")
    about = "" if found.exact else "about "
    table.add_row("files", f"{found.files:,} with {found.bytes / 1e6:,.1f} MB")
    table.add_row("rows", f"{about}{found.rows:,} with about {found.text_bytes / 1e6:,.1f} MB of text")
    table.add_row("cost", f"about {found.seconds_per_million:,.0f} worker-seconds for each million rows")
    table.add_row("time", f"about {found.seconds:,.0f} s with {workers} workers on this machine, after starting")
    need = found.need
    table.add_row("disk", f"about {need.ledger / 1e6:,.1f} MB in the ledger, {need.work / 1e6:,.1f} MB to work with until it ends")
    if need.clean:
        table.add_row("", f"at most about {need.clean / 1e6:,.1f} MB of cleaned shards")
    dropped, errored = found.found["dropped_by_policy"], found.found["errored"]
    table.add_row(
        "sample", f"{found.sampled:,} rows: {dropped:,} would be dropped by policy, {errored:,} are errors (duplicates not looked for)"
    )
    console.print(table)
