"""What a scan found: as CONTRACT's JSON object for programs, and as a page for people."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console, Group
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from forebear.pipelines.scan import Scanned
from forebear.schemas.records import RunManifest
from forebear.tracer.scan.audit_sample import describe_tiers

__all__ = ["scan_json", "show_scan", "show_tables"]

ALARM = 0.5
"""A source that loses more than this share of its rows is pointed out."""


def scan_json(scanned: Scanned) -> dict[str, Any]:
    """CONTRACT's `scan --json`."""
    run = scanned.committed.manifest
    return {
        "schema": "forebear/scan/1",
        "run": scanned.committed.run,
        "run_digest": run.run_digest,
        "head": scanned.committed.head.to_json(),
        "shards": run.shards.rows,
        "rows": dict(run.rows),
        "incomplete": list(run.incomplete),
        "reasons": dict(run.reasons),
        "sources": {name: dict(counts) for name, counts in run.sources.items()},
        "clean": list(scanned.committed.cleaned),
        "reused": {"shards": scanned.committed.reused},
        "overflow": len(run.overflow),
        "unmeasured": run.environment["unmeasured"],
        "large_buckets": list(run.environment["large_buckets"]),
        "seconds": {"start": round(scanned.start, 3), "scan": round(scanned.scan, 3)},
    }


def show_scan(scanned: Scanned, console: Console) -> None:
    """Print the page."""
    run = scanned.committed.manifest
    rows = run.rows
    rate = rows["in"] / max(scanned.scan, 1e-9)
    head = Text.assemble(
        (f"{rows['in']:,}", "bold"), f" rows in {run.shards.rows:,} shards: ",
        (f"{rows['kept']:,} kept", "green"), ", ", (f"{rows['dropped']:,} dropped", "yellow"), ", ",
        (f"{rows['errored']:,} errored", "red" if rows["errored"] else "dim"),
        f"   ({scanned.scan:,.1f} s, {rate:,.0f} rows/s, after {scanned.start:,.1f} s of starting)",
    )  # fmt: skip
    parts: list[Any] = [head, _reasons(run), _sources(run), _curve(run)]
    parts += _notes(run, scanned)
    parts.append(Text.assemble("run ", (scanned.committed.run, "cyan"), "\nrun digest ", (run.run_digest, "cyan")))
    console.print(Group(*(part for part in parts if part is not None)))


def show_tables(tables: Sequence[tuple[str, Sequence[str], Sequence[Sequence[str]]]]) -> None:
    """Print tables of texts: (title, header, rows)."""
    console = Console()
    for title, header, rows in tables:
        table = Table(*header, title=title, title_justify="left", box=None)
        for row in rows:
            table.add_row(*(escape(cell) for cell in row))
        console.print(table)


def _reasons(run: RunManifest) -> Table | None:
    if not run.reasons:
        return None
    table = Table("reason", "rows", "share", title="Why", title_justify="left", box=None)
    for reason, count in sorted(run.reasons.items(), key=lambda one: -one[1]):
        table.add_row(reason, f"{count:,}", f"{count / max(1, run.rows['in']):.2%}")
    return table


def _sources(run: RunManifest) -> Table | None:
    table = Table("source", "rows", "dropped", "errored", "", title="By source", title_justify="left", box=None)
    for name, counts in sorted(run.sources.items(), key=lambda one: -one[1]["in"])[:20]:
        share = counts["dropped"] / max(1, counts["in"])
        alarm = Text("loses more than half", "bold red") if share > ALARM else ""
        table.add_row(
            escape(name) or "(none)", f"{counts['in']:,}", f"{counts['dropped']:,} ({share:.1%})", f"{counts['errored']:,}", alarm
        )
    if len(run.sources) > 20:
        table.add_row(f"... {len(run.sources) - 20} more", "", "", "", "see --json")
    return table if run.sources else None


def _curve(run: RunManifest) -> Table | None:
    if not run.curve:
        return None
    shown = [point for point in run.curve if point["jaccard"] in {"0.60", "0.70", "0.80", "0.90", "0.95"}]
    table = Table(*(point["jaccard"] for point in shown), box=None, title_justify="left")
    table.title = f"Chance that a pair of that similarity is compared ({_bands(run)})"
    table.add_row(*(f"{float(point['probability']):.0%}" for point in shown))
    return table


def _bands(run: RunManifest) -> str:
    signature: Mapping[str, Any] = run.signature or {}
    return f"{signature.get('bands')} bands x {signature.get('rows')} rows"


def _notes(run: RunManifest, scanned: Scanned) -> list[Text]:
    notes = []
    if run.against:
        notes.append(Text(f"Held against {len(run.against):,} earlier runs: what they kept came first.", "dim"))
    if scanned.committed.reused:
        notes.append(Text(f"{scanned.committed.reused:,} shards' evidence was taken up from earlier scans.", "dim"))
    if run.environment["unmeasured"]:
        notes.append(
            Text(
                f"{run.environment['unmeasured']:,} candidate pairs could not be measured: their source is gone or changed.",
                "red",
            )
        )
    if run.overflow:
        notes.append(
            Text(
                f"{len(run.overflow):,} documents in very large buckets were not compared (budget); the manifest names them.",
                "red",
            )
        )
    if tiers := describe_tiers(run.environment["second_tier"]):
        notes.append(Text(tiers))
    if hot := run.environment["large_buckets"]:
        sizes = ", ".join(f"{one['documents']:,}" for one in hot[:3])
        notes.append(Text(f"Boilerplate: band buckets of {sizes} documents were worked off by their leaders.", "yellow"))
    notes += [Text(f"incomplete: {one['path']}: {one['why']}", "red") for one in run.incomplete[:5]]
    if len(run.incomplete) > 5:
        notes.append(Text(f"... and {len(run.incomplete) - 5:,} more incomplete files (--json lists all)", "red"))
    return notes
