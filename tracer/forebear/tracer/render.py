"""Answers for people: tables and trees in the terminal.

Always true here: names come from outside, so they are escaped before they are printed: no markup, no control characters; a list
that is cut says how much was left out.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table
from rich.text import Text
from rich.tree import Tree

from forebear.schemas.enums import Verdict
from forebear.tracer.lineage.relations import RULES

if TYPE_CHECKING:
    from forebear.tracer.audit.answer import Exposure, Trace
    from forebear.tracer.audit.outside import Testimony
    from forebear.tracer.audit.recall import Recalled
    from forebear.tracer.audit.session import Question, Session
    from forebear.tracer.audit.tables import Answer
    from forebear.tracer.lineage.importers.kinds import Imported
    from forebear.tracer.lineage.link import Linked

__all__ = [
    "rules_json",
    "show_advisory",
    "show_answer",
    "show_diff",
    "show_import",
    "show_link",
    "show_policy",
    "show_recall",
    "show_receipt",
    "show_rows",
    "show_rules",
    "show_runs",
    "show_testimony",
    "show_trace",
    "show_verify",
    "show_why",
]

_ROWS_SHOWN = 200
_TREE_SHOWN = 60
_STYLE = {
    Verdict.DIRECT: "bold red",
    Verdict.INHERITED_WEIGHTS: "red",
    Verdict.SUBLIMINAL_POSSIBLE: "magenta",
    Verdict.CONTENT_POSSIBLE: "magenta",
    Verdict.GUIDANCE_POSSIBLE: "magenta",
    Verdict.UNKNOWN: "yellow",
    Verdict.CLEARED: "green",
    Verdict.NOT_EXPOSED: "green",
}


def plain(value: object) -> str:
    """A value as one line of printable text: control and formatting characters as escapes."""
    text = "" if value is None else str(value)
    return "".join(one if one.isprintable() else one.encode("unicode_escape").decode() for one in text)


def short(value: object) -> str:
    """A digest as its first twelve hex digits, anything else as it is."""
    text = plain(value)
    return f"{text[:19]}…" if text.startswith("sha256:") and len(text) > 19 else text


def show_link(linked: Linked) -> None:
    """What a link did."""
    out = _console()
    counts = f"{linked.models} models, {linked.datasets} datasets, {linked.relations} relations, {linked.shards} shards"
    out.print(Text(f"entry {linked.entry}: {counts}"))
    for one in linked.not_recorded[:20]:
        out.print(Text(f"not recorded (unknown until a record tells of it): {plain(one)}", "yellow"))
    _omitted(out, len(linked.not_recorded) - 20)


def show_import(imported: Imported) -> None:
    """What an import took, and what it could not resolve."""
    out = _console()
    counts = ", ".join(f"{count} {name}" for name, count in imported.counts.items())
    out.print(Text(f"entry {imported.entry}: {counts} from {imported.kind}; {imported.resolved} relations lead to what is recorded"))
    for relation, count in imported.assumed.items():
        out.print(Text(f"assumed: {count} relations are read as {relation}: the source does not name them (--stated-only)", "yellow"))
    lists: dict[str, Sequence[str]] = {
        "not recorded (unknown until something tells of it)": imported.not_recorded,
        "unresolved": [f"{one.what} ({one.where}): {one.why}" for one in imported.unresolved],
        "not taken": [f"{one.where}: {one.what}: {one.why}" for one in imported.refused],
        "recorded before, added to": imported.already,
        "name of several": imported.duplicates,
        "cycle": [" -> ".join([*cycle, cycle[0]]) for cycle in imported.cycles],
        "left out": [f"{count} {what}" for what, count in imported.left_out.items()],
    }
    _listed(out, lists)


def show_testimony(told: Testimony) -> None:
    """What outside evidence flags."""
    out, advisory = _console(), told.advisory
    counts = f"{len(advisory.documents)} documents flagged by {told.kind} files, {told.below} records not flagged"
    out.print(Text(f"entry {told.entry}, an advisory of {plain(advisory.authority)}: {counts}"))
    out.print(Text(plain(advisory.reason), "dim"))
    _listed(
        out,
        {
            "unresolved": [f"{one.what} ({one.where}): {one.why}" for one in told.unresolved],
            "not taken": [f"{one.where}: {one.what}: {one.why}" for one in told.refused],
        },
    )


def show_trace(session: Session, trace: Trace, question: Question) -> None:
    """One model's verdict, exposures, ancestors and unknowns."""
    out = _console()
    out.print(Text.assemble((plain(trace.model.name or trace.model.id), "bold"), ": ", _verdict(trace.verdict), _bounds(trace)))
    if len(trace.verdicts) > 1:
        out.print(Text("  " + ", ".join(f"{name}: {one.value}" for name, one in trace.verdicts.items())))
    asked = ", ".join(f"{one.name} at {one.to_json()['threshold']}" for one in question.asked) or "no detector was ever run"
    out.print(Text(f"asked: {plain(asked)}; head {session.head.size}", "dim"))
    if trace.exposures:
        out.print(_exposures(trace.exposures))
    _omitted(out, len(trace.exposures) - _ROWS_SHOWN)
    if trace.below_floor:
        floor = f"{len(trace.below_floor)} exposures of fewer than {question.at_least} documents are not counted"
        out.print(Text(floor, "yellow"))
    out.print(_tree(session, trace))
    for title, nodes in (("first exposed", trace.first_exposed), ("last unexposed", trace.last_unexposed)):
        if nodes:
            out.print(Text(f"{title}: " + ", ".join(plain(one.name or one.id) for one in nodes[:20])))
            _omitted(out, len(nodes) - 20)
    for one in trace.unknown[:20]:
        rows = "" if one.rows is None else f" ({one.rows} of {'?' if one.of is None else one.of} rows)"
        out.print(Text(f"unknown: {short(one.node)}: {one.why}{rows}, at worst {one.at_worst.value}", "yellow"))
    _omitted(out, len(trace.unknown) - 20)
    for key, said in session.notes(trace).items():
        if key == "advisories":
            for one in said:
                what = f"advisory at entry {one['entry']}: {plain(one['reason'])} ({plain(one['authority'])}, {plain(one['time'])})"
                out.print(Text(what, "bold red"))
            continue
        out.print(Text(f"{key}: {plain(said)[:500]}", "yellow"))


def show_recall(recalled: Recalled) -> None:
    """Models that were reached."""
    out = _console()
    table = _table("model", "channel", "documents", "match", "through")
    for one in recalled.models[:_ROWS_SHOWN]:
        through = " <- ".join(plain(step.parent) for step in one.path) or plain(one.dataset.name or one.dataset.id)
        table.add_row(
            Text(plain(one.model.name or one.model.id)),
            Text(one.to_json()["channel"]),
            Text(plain(one.documents)),
            Text(one.match),
            Text(through),
        )
    if recalled.models:
        out.print(table)
    _omitted(out, len(recalled.models) - _ROWS_SHOWN)
    out.print(Text(f"{len(recalled.models)} models reached" + ("" if recalled.complete else "; not all is known:")))
    for gap in recalled.unknown[:20]:
        out.print(Text(f"unknown: {short(gap.node)}: {gap.why}", "yellow"))
    _omitted(out, len(recalled.unknown) - 20 + recalled.omitted)


def show_advisory(answer: Mapping[str, Any]) -> None:
    """An advisory that was published."""
    out = _console()
    out.print(Text(f"entry {answer['entry']}: advisory {short(answer['object'])}", "bold"))
    out.print(Text(f"{plain(answer['reason'])} ({plain(answer['authority'])}, {plain(answer['time'])})"))
    for name in ("documents", "shards", "models", "system_prompts"):
        for one in answer[name][:20]:
            out.print(Text(f"  {name.removesuffix('s').replace('_', ' ')} {plain(one)}"))
        _omitted(out, len(answer[name]) - 20)


def show_receipt(answer: Mapping[str, Any]) -> None:
    """What became of documents, and who had consumed them."""
    out = _console()
    for one in answer["documents"]:
        out.print(Text(f"document {plain(one['document'])}" + ("" if one["logged"] else ": in no shard that a run scanned"), "bold"))
        for row in one["decisions"][:_ROWS_SHOWN]:
            what = f"{row['action']} {', '.join(row['reasons'])}".strip()
            out.print(Text(f"  entry {row['entry']}, run {short(row['run'])}: shard {short(row['shard'])} row {row['row']}: {plain(what)}"))
        _omitted(out, len(one["decisions"]) - _ROWS_SHOWN)
        for use in one["consumed"][:_ROWS_SHOWN]:
            when = {"before": " before it was first dropped", "since": " since it was first dropped"}.get(use["when"], "")
            name = plain(use["model"]["name"] or use["model"]["id"])
            out.print(Text(f"  consumed by {name} in {plain(use['dataset'])}{when} (entry {use['entry']}, {use['evidence']})", "red"))
        _omitted(out, len(one["consumed"]) - _ROWS_SHOWN)
        reached = len(one["reached"]) + one.get("omitted", 0)
        out.print(Text(f"  {reached:,} models reached, descendants included"))
        for said in one["advisories"]:
            out.print(Text(f"  advisory at entry {said['entry']}: {plain(said['reason'])} ({plain(said['authority'])})", "yellow"))
    out.print(Text(plain(answer["order"]), "dim"))
    for gap in answer["unknown"][:20]:
        out.print(Text(f"unknown: {short(gap['node'])}: {gap['why']}", "yellow"))
    _omitted(out, len(answer["unknown"]) - 20 + answer.get("omitted", 0))


def show_why(answer: Mapping[str, Any]) -> None:
    """Every decision about a document."""
    out = _console()
    out.print(Text(f"document {plain(answer['document'])}", "bold"))
    for row in answer["decisions"]:
        what = f"{row['action']} {', '.join(row['reasons'])}".strip()
        out.print(Text(f"run {short(row['run'])} shard {short(row['shard'])} row {row['row']}: {what}"))
        if row["keeper_document"]:
            same = f"jaccard {row['intersection']}/{row['union_size']}"
            out.print(Text(f"  kept instead: row {row['keeper_row']} of {short(row['keeper_shard'])}, {same}"))
        for one in row["evidence"]:
            said = f"{one['label']} {one['score']:.3f}, flag {one['flag']:.3f}, bytes {one['start']}-{one['stop']}"
            item = f", item {plain(one['item'])}" if one["item"] else ""
            out.print(Text(f"  {plain(one['detector'])}: {plain(said)}{item}"))


def show_runs(answer: Mapping[str, Any]) -> None:
    """Runs, newest first, and jobs that did not end."""
    out = _console()
    table = _table("entry", "run", "finished", "rows", "kept", "dropped", "errored", "shards")
    for one in answer["runs"]:
        rows = one["rows"]
        counts = [f"{rows[name]:,}" for name in ("in", "kept", "dropped", "errored")]
        table.add_row(str(one["entry"]), short(one["run"]), plain(one["finished"]), *counts, f"{one['shards']:,}")
    out.print(table if answer["runs"] else Text("no runs"))
    for job in answer["jobs"]:
        since = f"did not end: {plain(job['job'])} (started {plain(job['started'])})"
        out.print(Text(f"{since}; run the same scan again, or `forebear commit {plain(job['job'])}`", "yellow"))


def show_diff(answer: Mapping[str, Any]) -> None:
    """What changed between two runs."""
    out = _console()
    table = _table("rows", "was", "now")
    for one in answer["by_reason"][:_ROWS_SHOWN]:
        was, now = (f"{one[side]} {', '.join(one[f'reasons_{side}'])}".strip() for side in ("was", "now"))
        table.add_row(f"{one['rows']:,}", Text(plain(was)), Text(plain(now)))
    if answer["by_reason"]:
        out.print(table)
    for one in answer["settings"]:
        out.print(Text(f"{plain(one['class'])}: {plain(one['was'])} -> {plain(one['now'])}"))
    changed = f"{answer['changed']:,} rows changed, {len(answer['shards'])} shards in one run only"
    out.print(Text("same decisions" if answer["same"] else changed))


def show_verify(answer: Mapping[str, Any]) -> None:
    """What a verification found."""
    out = _console()
    checked = answer["checked"]
    counts = f"{checked['objects']:,} objects, {checked['bytes']:,} bytes, {checked['rows']:,} rows"
    said = ("ok", "green") if answer["ok"] else ("not ok", "bold red")
    out.print(Text.assemble(said, f" ({answer['level']}): {counts}"))
    for one in answer["findings"]:
        what = f"expected {plain(one['expected'])}, found {plain(one['found'])}. {plain(one['remedy'])}"
        out.print(Text(f"{plain(one['object'])}: {one['kind']}: {what}"))


def rules_json() -> dict[str, Any]:
    """The rule table as data."""
    rows = [dict(zip(_RULE_COLUMNS, row, strict=True)) for row in _rule_rows()]
    return {"schema": "forebear/rules/1", "rules": rows}


def show_rules() -> None:
    """The rule table."""
    table = _table(*_RULE_COLUMNS)
    for row in _rule_rows():
        table.add_row(*(Text(plain(one)) for one in row))
    _console().print(table)


_RULE_COLUMNS = ("relation", "child", "parent", "cap", "mode", "condition", "source")


def _rule_rows() -> list[tuple[str | None, ...]]:
    return [
        (
            rule.relation.value,
            rule.child,
            rule.parent,
            "not walked" if not rule.walked else "unchanged" if rule.cap is None else rule.cap.value,
            None if rule.mode is None else str(rule.mode),
            rule.condition or None,
            rule.source or None,
        )
        for rule in RULES
    ]


def show_policy(answer: Mapping[str, Any]) -> None:
    """The effective policy, and how likely its bands are to compare a pair of some similarity."""
    out, table = _console(), _table("key", "value", "meaning")
    for row in answer["keys"]:
        table.add_row(*(Text(plain(row[name])) for name in ("key", "value", "means")))
    out.print(table)
    if answer["recall"]:
        points = ", ".join(f"{one['jaccard']}: {float(one['probability']):.0%}" for one in answer["recall"])
        out.print(Text(f"pairs of that similarity that are compared: {points}"))
    out.print(Text(f"policy {answer['digest']}", "dim"))


def show_answer(answer: Answer) -> None:
    """The rows of a query."""
    show_rows(answer.columns, answer.rows())


def show_rows(columns: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> None:
    """Rows by column."""
    out, table = _console(), _table(*(plain(one) for one in columns))
    for row in rows[:_ROWS_SHOWN]:
        table.add_row(*(Text(short(value)) for value in row.values()))
    out.print(table)
    _omitted(out, len(rows) - _ROWS_SHOWN)


def _exposures(exposures: Sequence[Exposure]) -> Table:
    table = _table("channel", "class", "ancestor", "depth", "dataset", "documents", "false alarms", "epochs", "evidence")
    for one in exposures[:_ROWS_SHOWN]:
        table.add_row(
            Text(one.channel.value, _STYLE[one.verdict]),
            Text(plain(one.category)),
            Text(plain(one.ancestor.name or one.ancestor.id)),
            str(one.depth),
            Text(plain(one.dataset.name or one.dataset.id)),
            f"{one.documents:,}" if one.documents is not None else "?",
            "" if one.expected_false is None else f"{one.expected_false:,.1f} expected",
            "" if one.epochs is None else f"{one.epochs:g}" + (" (at most)" if one.upper_bound else ""),
            Text(one.evidence.value),
        )
    return table


def _tree(session: Session, trace: Trace) -> Tree:
    """The ancestors over walked relations, each once, with their own verdicts where they are models."""
    from forebear.tracer.lineage.graph import MODEL

    graph = session.graph
    walker = session.walker(session.default)
    root = Tree(Text(plain(trace.model.name or trace.model.id), "bold"))
    start = graph.find(trace.model.id)
    todo, seen, left = [(start, root)], {start}, 0
    while todo:
        node, branch = todo.pop(0)
        for at in graph.edges_of(node):
            rule, parent = RULES[graph.edges.rule[at]], int(graph.edges.parent[at])
            if len(seen) >= _TREE_SHOWN and parent not in seen:
                left += 1
                continue
            label = Text.assemble((f"{rule.relation.value} ", "dim"), plain(graph.name(parent) or graph.ids[parent]))
            if graph.kind[parent] == MODEL and rule.walked and parent not in seen:
                label.append(" ").append_text(_verdict(walker.trace(parent).verdict))
            under = branch.add(label)
            if parent not in seen and rule.walked:
                seen.add(parent)
                todo.append((parent, under))
    if left:
        root.add(Text(f"… {left} more relations; `--json` has every exposure", "yellow"))
    return root


def _verdict(verdict: Verdict) -> Text:
    return Text(verdict.value, _STYLE[verdict])


def _bounds(trace: Trace) -> Text:
    if trace.complete:
        return Text("")
    return Text(f" (at worst {trace.at_worst.value}: {len(trace.unknown)} things are unknown)", "yellow")


def _table(*columns: str) -> Table:
    table = Table(show_edge=False, pad_edge=False, header_style="bold")
    for name in columns:
        table.add_column(Text(name), overflow="fold")
    return table


def _listed(out: Console, lists: Mapping[str, Sequence[str]]) -> None:
    for title, several in lists.items():
        for said in several[:20]:
            out.print(Text(f"{title}: {plain(said)}", "yellow"))
        _omitted(out, len(several) - 20)


def _omitted(out: Console, count: int) -> None:
    if count > 0:
        out.print(Text(f"… {count:,} more; `--json` has them all", "yellow"))


def _console() -> Console:
    # A pipe has no width: tables are then as wide as they need to be, within reason.
    return Console(highlight=False, markup=False, width=None if sys.stdout.isatty() else 160)
