"""The report of a scan: what went and why, from which source, by which score, and with which measured similarity.

Always true here: its counts are the run manifest's, its charts are read from the log; a sample shows digests and numbers, and text only
where the user named the source and its bytes have the shard's digest; whatever was not read or not shown is counted in words.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from forebear.schemas.tables import GRID
from forebear.tracer.certify.escape import html_text, shortened
from forebear.tracer.certify.report.charts import curve_chart, histogram
from forebear.tracer.certify.report.figures import BINS, Figures, Sample, read_figures, texts_of
from forebear.tracer.certify.report.page import Html, Section, code_block, definition_list, page, paragraph, table

if TYPE_CHECKING:
    from forebear.schemas.records import RunManifest
    from forebear.tracer.audit.session import Session

__all__ = ["render_scan", "scan_report"]

_ROWS = 200
_TEXT = 400
_POLICY = 400


def scan_report(session: Session, run: str, *, ledger: str, sources: Sequence[Path] = ()) -> str:
    """The page about a run.

    Args:
        session: The ledger.
        run: A run's digest, or a prefix of one.
        ledger: How the ledger is called in the commands shown.
        sources: Files and folders whose texts may be shown, where their bytes are those that were scanned.
    """
    _, digest, manifest = session.ledger.find_run(run)
    figures = read_figures(session.ledger, manifest)
    texts = texts_of(figures, manifest, sources)
    return render_scan(digest, manifest, figures, texts=texts, ledger=ledger)


def render_scan(digest: str, manifest: RunManifest, figures: Figures, *, texts: Mapping[tuple[str, int], str], ledger: str) -> str:
    """The page from what was read."""
    rows = manifest.rows
    kept = f"{rows['kept']:,} of {rows['in']:,} rows were kept; {rows['dropped']:,} were dropped and {rows['errored']:,} could not be read."
    lead = paragraph(kept, style="lead")
    lead += paragraph(f"Run {digest}, {manifest.started} to {manifest.finished}.", style="soft")
    sections = [
        Section("reasons", "Removals by reason", _reasons(manifest)),
        Section("sources", "By source", _sources(manifest)),
        Section("scores", "Scores", _scores(manifest, figures)),
        Section("duplicates", "Near-duplicates: the chance of being compared, and what was measured", _curve(manifest, figures)),
        Section("samples", "Samples", _samples(manifest, figures, texts)),
        Section("incomplete", "What was not read whole", _incomplete(manifest)),
        Section("evidence", "Evidence", _evidence(digest, manifest)),
        Section("check", "How to check this page", _commands(digest, ledger)),
    ]
    foot = f"Made from a ledger of forebear {html_text(manifest.version)}. The page holds no text of the corpus"
    foot += "." if not texts else " but the samples', which were read from the sources named."
    return page(f"Scan {shortened(digest)}", lead=lead, sections=sections, foot=foot)


def _share(part: int, whole: int) -> str:
    return f"{part / whole:.2%}" if whole else "0%"


def _meter(part: int, whole: int) -> Html:
    """A bar beside a number that says the same."""
    width = 120 * part / whole if whole else 0
    return f'<svg width="120" height="10" aria-hidden="true"><rect class="bars" width="{width:.1f}" height="10"/></svg>'


def _reasons(manifest: RunManifest) -> Html:
    whole = manifest.rows["in"]
    rows = [
        (None, (html_text(name), f"{count:,}", _share(count, whole), _meter(count, whole)))
        for name, count in sorted(manifest.reasons.items(), key=lambda one: (-one[1], one[0]))
    ]
    if not rows:
        return paragraph("No row was flagged, dropped or errored.")
    said = "Rows by reason; a row may have several, and a flagged row may have been kept."
    return paragraph(said) + table("Rows by reason", ("reason", "rows", "share", "of all rows"), rows, numeric=(1, 2))


def _sources(manifest: RunManifest) -> Html:
    ordered = sorted(manifest.sources.items(), key=lambda one: (-one[1]["in"], one[0]))
    rows = []
    for name, counts in ordered[:_ROWS]:
        lost = counts["dropped"] + counts["errored"]
        warn = ' <strong class="bad">loses more than half</strong>' if counts["in"] and lost * 2 > counts["in"] else ""
        numbers = tuple(f"{counts[key]:,}" for key in ("in", "kept", "dropped", "errored"))
        rows.append((None, (html_text(name or "(none)") + warn, *numbers, _share(lost, counts["in"]), _meter(lost, counts["in"]))))
    more = len(ordered) - _ROWS
    tail = paragraph(f"{more:,} more sources are not shown.", style="unknown") if more > 0 else ""
    columns = ("source", "rows in", "kept", "dropped", "errored", "lost", "share lost")
    return table("Rows by source", columns, rows, numeric=(1, 2, 3, 4, 5)) + tail


def _read_note(figures: Figures) -> Html:
    if figures.rows >= figures.of:
        return ""
    return paragraph(f"Read from the first {figures.rows:,} of {figures.of:,} rows of the log.", style="unknown")


def _scores(manifest: RunManifest, figures: Figures) -> Html:
    parts = [_read_note(figures)]
    for detector in manifest.detectors:
        flag = detector.thresholds[""].flag / GRID
        for (digest, label), counts in sorted(figures.scores.items()):
            if digest != detector.digest:
                continue
            above = int(counts[int(flag * BINS) :].sum())
            name = f"{detector.name}, label {label}"
            said = f"{name}: {int(counts.sum()):,} rows scored; about {above:,} in bins from the flag threshold {flag:.3f} on."
            parts.append(paragraph(said))
            chart = f"Scores of {name}, {BINS} bins from 0 to 1; heights are logarithmic"
            parts.append(histogram(counts.tolist(), label=chart, mark=flag, mark_label=f"flag {flag:.2f}"))
    return "".join(parts) if figures.scores else paragraph("No detector scored these rows.")


def _curve(manifest: RunManifest, figures: Figures) -> Html:
    signature = manifest.signature
    if not signature or not manifest.curve or "rows" not in signature:
        return paragraph("Near-duplicates were not looked for.")
    bands, rows = int(signature["bands"]), int(signature["rows"])
    points = [(float(one["jaccard"]), float(one["probability"])) for one in manifest.curve]
    threshold = float(manifest.policy.get("duplicates", {}).get("jaccard", "0.8"))
    pairs = sum(figures.similar.values())
    said = (
        f"{bands} bands of {rows} rows. The line is the chance that a pair of that similarity is compared, the points are those that the "
        f"run recorded; bars are the {pairs:,} near-duplicate pairs by their measured similarity (heights are logarithmic)."
    )
    chart = curve_chart(
        lambda one: 1 - (1 - one**rows) ** bands,
        label="Chance of being compared by similarity, and the similarities measured",
        points=points,
        measured=figures.similar,
        mark=threshold,
    )
    cells = [(None, (f"{x:.2f}", f"{y:.2%}", f"{figures.similar.get(round(x, 2), 0):,}")) for x, y in points]
    columns = ("similarity", "chance", "pairs measured from there to a hundredth more")
    return _read_note(figures) + paragraph(said) + chart + table("The curve's points", columns, cells, numeric=(0, 1, 2))


def _samples(manifest: RunManifest, figures: Figures, texts: Mapping[tuple[str, int], str]) -> Html:
    names = {one.digest: one.name for one in manifest.detectors}
    rows = []
    for reason, samples in sorted(figures.samples.items()):
        for one in samples:
            text = texts.get((one.shard, one.row))
            shown = "not at hand" if text is None else _excerpt(text)
            place = f"<code>{html_text(shortened(one.shard))}</code> row {one.row:,}"
            document = f"<code>{html_text(shortened(one.document))}</code>" if one.document else "none"
            why = html_text(_why(one, names))
            rows.append((None, (html_text(reason), place, document, html_text(one.source or ""), why, shown)))
    if not rows:
        return ""
    said = "The first rows of the log for each reason. Text is not in the ledger; it is shown where its source was named and is unchanged."
    columns = ("reason", "where", "document", "source", "why", "text")
    return paragraph(said) + table("Samples", columns, rows)


def _excerpt(text: str) -> Html:
    short = " ".join(text[: 4 * _TEXT].split())[:_TEXT]
    return html_text(short) + ("…" if len(text) > len(short) else "")


def _why(one: Sample, names: Mapping[str, str]) -> str:
    parts = [one.action]
    if one.intersection is not None and one.union:
        parts.append(f"similar {one.intersection}/{one.union} to {shortened(one.keeper)}")
    best = sorted(one.evidence, key=lambda item: -item["score"])[:2]
    for item in best:
        digest = f"sha256:{item['detector'].hex()}"
        parts.append(f"{names.get(digest, shortened(digest))} {item['score'] / GRID:.3f}, bytes {item['start']}-{item['stop']}")
    return "; ".join(parts)


def _incomplete(manifest: RunManifest) -> Html:
    if not manifest.incomplete and not manifest.overflow:
        return paragraph("Everything named was read to its end.")
    rows = [
        (None, (html_text(Path(str(one["path"])).name), html_text(shortened(one["shard"]) or "none"), html_text(one["why"])))
        for one in manifest.incomplete[:_ROWS]
    ]
    listed = table("Files not read whole", ("file", "shard", "why"), rows) if rows else ""
    more = len(manifest.incomplete) - _ROWS
    tail = paragraph(f"{more:,} more are not shown.", style="unknown") if more > 0 else ""
    over = len(manifest.overflow)
    said = f"{over:,} documents of large buckets were not reached by the budget of comparisons."
    return listed + tail + (paragraph(said, style="unknown") if over else "")


def _evidence(digest: str, manifest: RunManifest) -> Html:
    rows = manifest.rows
    total = rows["kept"] + rows["dropped"] + rows["errored"]
    sign = "=" if total == rows["in"] else "IS NOT"
    sum_of = f"{rows['kept']:,} kept + {rows['dropped']:,} dropped + {rows['errored']:,} errored"
    pairs: list[tuple[str, Html]] = [
        ("Run", f"<code>{html_text(digest)}</code>"),
        ("Run digest", f"<code>{html_text(manifest.run_digest)}</code>"),
        ("Policy", f"<code>{html_text(manifest.policy_digest)}</code>"),
        ("Reconciled", html_text(f"{rows['in']:,} in {sign} {sum_of}")),
        ("Shards", f"{manifest.shards.rows:,}"),
    ]
    for one in manifest.detectors:
        flag = f"flag {one.thresholds[''].flag / GRID:.3f}"
        pairs.append((f"Detector {one.name}", f"{html_text(one.version)}, {flag}, <code>{html_text(one.digest)}</code>"))
    policy = json.dumps(_plain(manifest.policy), ensure_ascii=False, indent=1, sort_keys=True).split("\n")
    cut = [f"... {len(policy) - _POLICY:,} more lines: forebear policy prints them all"] if len(policy) > _POLICY else []
    return definition_list(pairs) + code_block([*policy[:_POLICY], *cut])


def _plain(value: Any) -> Any:
    return {key: _plain(inner) for key, inner in value.items()} if isinstance(value, Mapping) else value


def _commands(digest: str, ledger: str) -> Html:
    place = f"--ledger {shlex.quote(ledger)}"
    counts = f"FROM audit.decision SELECT action, reasons, count(*) AS n WHERE run = '{digest}' GROUP BY ALL ORDER BY ALL"
    return code_block([f"forebear verify --full {place}", f'forebear sql "{counts}" {place}'])
