"""The report of a model: the answer, its lineage in a picture, exposures by dose, what is unknown, evidence, and how to check it.

Always true here: it says what the certificate's predicate says, and the verdicts of the ancestors shown; whatever is left out of a
list or of the picture is counted in words where the list or the picture is.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from forebear.tracer.certify import wording
from forebear.tracer.certify.ancestry import read_ancestry
from forebear.tracer.certify.escape import html_text, shortened
from forebear.tracer.certify.report.page import SHAPES, Html, Section, code_block, definition_list, glyph, page, paragraph, table
from forebear.tracer.certify.report.page import verdict_badge as badge
from forebear.tracer.certify.report.picture import Box, Line, draw
from forebear.tracer.certify.statement import claims, described

if TYPE_CHECKING:
    from forebear.tracer.audit.session import Session

__all__ = ["MAX_BOXES", "model_report", "render_model"]

MAX_BOXES = 300
_ROWS = 200
_JUDGED_UP_TO = 3_000  # nodes of an ancestry whose models are each judged by a walk of their own


def model_report(session: Session, model: str, *, ledger: str) -> str:
    """The page about a model.

    Args:
        session: The ledger, at the head that the answer is as of.
        model: Digest, prefix of one, id, name or alias.
        ledger: How the ledger is called in the commands shown.
    """
    graph = session.graph
    node = graph.find(model)
    ancestry = read_ancestry(graph, node)
    predicate = described(claims(session, model))
    judged = _judged(session, ancestry.at)
    distances = dict(zip((graph.ids[at] for at in ancestry.at), ancestry.distance, strict=True))
    return render_model(predicate, distances=distances, judged=judged, ledger=ledger)


def _judged(session: Session, nodes: Sequence[int]) -> dict[str, str]:
    """Verdicts of the models that the picture will show, by id; none but the first where the ancestry is too large."""
    from forebear.tracer.lineage.graph import MODEL

    if len(nodes) > _JUDGED_UP_TO:
        return {}
    graph, walker = session.graph, session.walker(session.default)
    models = [at for at in nodes[:MAX_BOXES] if graph.kind[at] == MODEL]
    return {graph.ids[at]: walker.trace(at).verdict.value for at in models}


@dataclass(frozen=True)
class _Known:
    """What is said of nodes: state and words, by id."""

    state: Mapping[str, tuple[str, str]]
    anchor: Mapping[str, str]
    name: Mapping[str, str]

    def link(self, node: str, name: str | None = None) -> Html:
        """A node's name, linked to its row."""
        said = html_text(name or self.name.get(node) or shortened(node))
        return f'<a href="#{self.anchor[node]}">{said}</a>' if node in self.anchor else said


def render_model(predicate: Mapping[str, Any], *, distances: Mapping[str, int], judged: Mapping[str, str], ledger: str) -> str:
    """The page from plain data."""
    nodes = predicate["ancestry"]["nodes"]
    known = _known(predicate, judged)
    name = wording.name_of(predicate["model"])
    lead = f'<p class="lead">{badge(predicate["verdict"])}</p>{paragraph(wording.answer(predicate), style="lead")}'
    lead += paragraph(f"Stated {wording.as_of(predicate)}. Ledger time {predicate['as_of']['time']}.", style="soft")
    sections = [
        Section("classes", "Verdict by class", _classes(predicate)),
        Section("lineage", "Lineage", _lineage(predicate, known, distances)),
        Section("exposures", "Exposures, by dose", _exposures(predicate, known)),
        Section("unknown", "What is unknown, and what would settle it", _unknown(predicate, known)),
        Section("advisories", "Advisories", _advisories(predicate)),
        Section("ends", "Where it begins and ends", _ends(predicate, known)),
        Section("ancestors", "Ancestors", _ancestors(predicate, known, distances, nodes)),
        Section("evidence", "Evidence", _evidence(predicate, known)),
        Section("check", "How to check this page", _commands(predicate, ledger)),
    ]
    foot = f"Made by forebear {html_text(predicate['forebear'])}. A page proves nothing: the ledger and a signed certificate do."
    return page(f"{name}: training data", lead=lead, sections=sections, foot=foot)


def _known(predicate: Mapping[str, Any], judged: Mapping[str, str]) -> _Known:
    bad: dict[str, int] = {}
    for one in predicate["exposures"]["listed"]:
        bad[one["dataset_id"]] = max(bad.get(one["dataset_id"], 0), one["documents"] or 0)
    unknown = {one["node"]: one["why"] for one in reversed(predicate["unknown"]["listed"])}
    own = predicate["model"]["id"]
    state: dict[str, tuple[str, str]] = {}
    for one in predicate["ancestry"]["nodes"]:
        node = one["id"]
        if one["kind"] == "model":
            verdict = predicate["verdict"] if node == own else judged.get(node)
            state[node] = (verdict, verdict) if verdict else ("not_judged", "not judged here")
        elif node in bad:
            state[node] = "direct", f"{bad[node]:,} contaminated documents"
        elif node in unknown:
            state[node] = "unknown", unknown[node]
        else:
            state[node] = "not_exposed", "nothing found in what was used"
    nodes = predicate["ancestry"]["nodes"]
    anchors = {one["id"]: f"node-{n}" for n, one in enumerate(nodes[:_MAX_LISTED])}
    return _Known(state, anchors, {one["id"]: wording.name_of(one) for one in nodes})


_MAX_LISTED = 2_000


def _classes(predicate: Mapping[str, Any]) -> Html:
    rows = [
        (None, (html_text(name), badge(verdict), badge(predicate["at_worsts"].get(name, verdict))))
        for name, verdict in predicate["verdicts"].items()
    ]
    if not rows:
        return paragraph("No detector was ever run on these data.")
    return table("Verdict by class", ("class", "verdict", "at worst"), rows)


def _lineage(predicate: Mapping[str, Any], known: _Known, distances: Mapping[str, int]) -> Html:
    nodes = predicate["ancestry"]["nodes"]
    shown = nodes[:MAX_BOXES]
    boxes = []
    for one in shown:
        node = one["id"]
        state, said = known.state[node]
        short = said.removesuffix(" documents")  # a box is narrow; the table has the whole word
        boxes.append(Box(node, known.anchor[node], known.name[node], one["kind"], distances[node], state, short))
    ids = {one.id for one in boxes}
    relations = predicate["ancestry"]["relations"]
    lines = [Line(one["child"], one["parent"], one["relation"]) for one in relations if {one["child"], one["parent"]} <= ids]
    total = len(nodes) + predicate["ancestry"]["omitted"]["nodes"]
    said = f"The model is on the left; what it came from is to the right, {total:,} nodes in all. Each box leads to its row below."
    more = total - len(shown)
    cut = paragraph(f"Only the {len(shown):,} nearest nodes are drawn; {more:,} more are not.", style="unknown") if more else ""
    unjudged = any(known.state[one["id"]][0] == "not_judged" for one in shown)
    note = paragraph("The ancestry is too large to judge every ancestor here: `forebear trace ANCESTOR` does.") if unjudged else ""
    return paragraph(said) + cut + note + draw(boxes, lines, title="Lineage of the model") + _legend({one.state for one in boxes})


def _legend(states: set[str]) -> Html:
    items = "".join(f"<li>{glyph(one)}{html_text(_LEGEND.get(one, one))}</li>" for one in SHAPES if one in states)
    strokes = (("", "bytes or weights"), ("made", "made or taught by a model"), ("guided", "guidance, or passes nothing"))
    items += "".join(
        f'<li><svg width="34" height="10" aria-hidden="true"><path class="edge {style}" d="M1 5H33"/></svg>{said}</li>'
        for style, said in strokes
    )
    return f'<ul class="legend" aria-label="What shapes and lines mean">{items}</ul>'


_LEGEND = {
    "direct": "direct: consumed contaminated rows (of a dataset: holds them)",
    "not_exposed": "not_exposed: nothing found",
    "not_judged": "not judged here",
}


def _exposures(predicate: Mapping[str, Any], known: _Known) -> Html:
    listed = predicate["exposures"]["listed"]
    if not listed:
        return paragraph("None was found." if predicate["complete"] else "None was found in what is known.")
    rows = []
    for one in listed[:_ROWS]:
        above = None if one["documents"] is None or one.get("expected_false") is None else one["documents"] - float(one["expected_false"])
        cells = (
            badge(one["verdict"]),
            html_text(one["class"]),
            known.link(one["ancestor"]["id"], one["ancestor"]["name"]),
            known.link(one["dataset_id"], one["dataset"]),
            "?" if one["documents"] is None else f"{one['documents']:,}",
            "" if one.get("expected_false") is None else f"{float(one['expected_false']):,.1f}",
            "" if above is None else f"{above:,.1f}",
            ""
            if one.get("presentations") is None
            else f"{float(one['presentations']):,.6g}" + (" at most" if one.get("upper_bound") else ""),
            html_text(one["evidence"]),
        )
        rows.append((None, cells))
    columns = ("how", "class", "consumed by", "dataset", "documents", "false alarms expected", "above them", "presentations", "evidence")
    more = len(listed) - _ROWS + predicate["exposures"]["omitted"]
    tail = paragraph(f"{more:,} more exposures are not shown; `forebear trace --json` has them all.", style="unknown") if more > 0 else ""
    said = "Counts are of distinct documents; an exposure says what was consumed, not what it did to the model."
    return paragraph(said) + table("Exposures", columns, rows, numeric=(4, 5, 6, 7)) + tail


def _unknown(predicate: Mapping[str, Any], known: _Known) -> Html:
    listed = predicate["unknown"]["listed"]
    if not listed:
        return paragraph("Nothing that was needed is unknown.")
    rows = [
        (
            None,
            (
                known.link(one["node"]),
                html_text(wording.unknown_line(one).rsplit(", at worst", 1)[0]),
                badge(one["at_worst"]),
                html_text(wording.remedy_for(one)),
            ),
        )
        for one in listed[:_ROWS]
    ]
    more = len(listed) - _ROWS + predicate["unknown"]["omitted"]
    tail = paragraph(f"{more:,} more things are unknown and not shown.", style="unknown") if more > 0 else ""
    return table("What is unknown", ("where", "why", "at worst", "what would settle it"), rows) + tail


def _advisories(predicate: Mapping[str, Any]) -> Html:
    """Those that touch the model or an ancestor; nothing where there is none."""
    listed = predicate["advisories"]
    rows = [
        (None, (str(one["entry"]), html_text(one["reason"]), html_text(one["authority"]), html_text(one["time"]))) for one in listed[:_ROWS]
    ]
    more = paragraph(f"{len(listed) - _ROWS:,} more are in the certificate.", style="unknown") if len(listed) > _ROWS else ""
    return table("Advisories", ("entry", "why", "on whose authority", "when"), rows, numeric=(0,)) + more if rows else ""


def _ends(predicate: Mapping[str, Any], known: _Known) -> Html:
    pairs = []
    for title, key in (("First exposed", "first_exposed"), ("Last unexposed", "last_unexposed")):
        listed = predicate[key]["listed"]
        said = ", ".join(known.link(one["id"], one["name"]) for one in listed[:30]) or "none"
        more = len(listed) - 30 + predicate[key]["omitted"]
        pairs.append((title, said + (f" and {more:,} more" if more > 0 else "")))
    note = paragraph("The last unexposed ancestors are where a retraining could start from.", style="soft")
    return definition_list(pairs) + note


def _ancestors(predicate: Mapping[str, Any], known: _Known, distances: Mapping[str, int], nodes: Sequence[Mapping[str, Any]]) -> Html:
    above: dict[str, list[str]] = {}
    for one in predicate["ancestry"]["relations"]:
        detail = ", ".join(str(one[key]) for key in ("stage", "epochs") if key in one)
        said = f'{html_text(one["relation"])} {known.link(one["parent"])} <span class="soft">({html_text(one["evidence"])}'
        above.setdefault(one["child"], []).append(said + (f"; {html_text(detail)}" if detail else "") + ")</span>")
    rows = []
    for one in nodes[:_MAX_LISTED]:
        state, said = known.state[one["id"]]
        parents = above.get(one["id"], [])
        shown = "<br>".join(parents[:12]) + (f"<br>and {len(parents) - 12:,} more" if len(parents) > 12 else "")
        word = f'<span class="badge {SHAPES[state][1]}">{glyph(state)}{html_text(said)}</span>'
        identity = f'{html_text(known.name[one["id"]])}<br><code class="soft">{html_text(shortened(one["id"]))}</code>'
        cells = (identity, html_text(one["kind"]), word, html_text(one["ancestry"]), str(distances[one["id"]]), shown)
        rows.append((known.anchor[one["id"]], cells))
    more = len(nodes) - _MAX_LISTED + predicate["ancestry"]["omitted"]["nodes"]
    tail = paragraph(f"{more:,} more nodes are not listed here.", style="unknown") if more > 0 else ""
    return table("Ancestors", ("node", "kind", "state", "ancestry", "distance", "came from"), rows, numeric=(4,)) + tail


def _evidence(predicate: Mapping[str, Any], known: _Known) -> Html:
    head = predicate["heads"][0]
    pairs = [("Head", f"{head['size']:,} entries, root <code>{html_text(head['root'])}</code>")]
    for one in predicate["asked"]:
        said = f"threshold {html_text(one['threshold'])}, <code>{html_text(one['digest'])}</code>"
        pairs.append((f"Detector {one['detector']}", f"{said} ({html_text(one['class'])})"))
    runs = []
    for one in predicate["runs"][:_ROWS]:
        rows = one["rows"]
        counts = tuple(f"{rows[key]:,}" for key in ("in", "kept", "dropped", "errored"))
        runs.append((None, (f"<code>{html_text(one['run'])}</code>", *counts, "yes" if one["reconciled"] else "NO")))
    listed = table("Runs", ("run", "rows in", "kept", "dropped", "errored", "reconciled"), runs, numeric=(1, 2, 3, 4)) if runs else ""
    sets = []
    for one in predicate["datasets"][:_ROWS]:
        rows_in = "not counted" if one["rows"] is None else f"{one['rows']:,}"
        root = f"<code>{html_text(one['root'])}</code>" if one["listed"] else "no shards listed"
        sets.append((None, (known.link(one["id"], one["name"]), f"{one['listed']:,}", rows_in, root)))
    columns = ("dataset", "shards", "rows", "root over the shards' digests")
    datasets = table("Datasets", columns, sets, numeric=(1, 2)) if sets else ""
    more = max(0, len(predicate["runs"]) - _ROWS) + max(0, len(predicate["datasets"]) - _ROWS)
    tail = paragraph(f"{more:,} more runs and datasets are in the certificate.", style="unknown") if more else ""
    return definition_list(pairs) + listed + datasets + tail


def _commands(predicate: Mapping[str, Any], ledger: str) -> Html:
    name = shlex.quote(wording.name_of(predicate["model"]))
    place = f"--ledger {shlex.quote(ledger)}"
    lines = [
        f"forebear trace {name} --head {predicate['as_of']['head']} {place}",
        f"forebear verify --full {place}",
        "forebear verify-certificate MODEL_FOLDER --key PUBLISHER.pub",
    ]
    by_hand = [
        "# every object of the ledger, without forebear: silence means sound",
        "cd LEDGER/objects/sha256",
        r"find . -type f ! -name '*#*' | sed -E 's|^\./(..)/(.*)$|\2  \1/\2|' | sha256sum --check --quiet",
    ]
    return code_block(lines) + code_block(by_hand)
