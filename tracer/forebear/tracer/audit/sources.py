"""Where the raw tables of the audit schema come from.

Always true here: each source has one Arrow schema, so that views exist before anything is read; log tables are what the packs of
every run hold; lineage tables and exposures come from the graph and the walk that answer `trace`, so there is one truth.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from forebear.schemas.digests import digest_name
from forebear.schemas.errors import UsageError
from forebear.schemas.tables import CLEANED, FLAGGED, LOG, SHARDS
from forebear.tracer.audit.asked import Run

if TYPE_CHECKING:
    from forebear.schemas.enums import Verdict
    from forebear.tracer.audit.answer import Exposure
    from forebear.tracer.audit.session import Session

__all__ = ["SOURCES", "Source"]

_TEXT, _INT = pa.string(), pa.int64()


@dataclass(frozen=True)
class Source:
    """A raw table: its schema, and how it is read.

    Args:
        schema: Its columns.
        read: All of it.
        pruned: Some columns of it, for tables of the log, which may hold tens of millions of rows; `run` is a dictionary there.
    """

    schema: pa.Schema
    read: Callable[[Session], pa.Table]
    pruned: Callable[[Session, Sequence[str]], pa.Table] | None = None


def _fields(**types: pa.DataType) -> pa.Schema:
    return pa.schema([pa.field(name, kind) for name, kind in types.items()])


def _of_run(schema: pa.Schema) -> pa.Schema:
    return pa.schema([pa.field("run", _TEXT), *schema])


def _each_run(read: Callable[[Session, Run], Iterable[pa.Table]], schema: pa.Schema) -> Callable[[Session], pa.Table]:
    """One table of what is read for each run, with the run's digest in front."""

    def all_runs(session: Session) -> pa.Table:
        parts = []
        for run in session.runs:
            for table in read(session, run):
                name = pa.DictionaryArray.from_arrays(pa.array(np.zeros(len(table), "i4")), pa.array([run[1]]))
                parts.append(table.add_column(0, pa.field("run", _TEXT), name.cast(_TEXT)))
        return pa.concat_tables(parts).cast(schema) if parts else schema.empty_table()

    return all_runs


_DECISION_COLUMNS = [name for name in LOG.names if name != "evidence"]
_EVIDENCE_COLUMNS = ["shard", "row", "document", "source", "evidence"]
_DECISION = _of_run(pa.schema([LOG.field(name) for name in _DECISION_COLUMNS]))
_EVIDENCE = _of_run(pa.schema([LOG.field(name) for name in _EVIDENCE_COLUMNS]))


def _log(columns: list[str]) -> Callable[[Session, Run], Iterator[pa.Table]]:
    def read(session: Session, run: Run) -> Iterator[pa.Table]:
        for pack in run[2].log:
            yield session.ledger.read_table(pack.object, LOG, columns=columns)

    return read


def _some_columns(session: Session, columns: Sequence[str]) -> pa.Table:
    """Columns of the log of every run; `run` as a dictionary, for it repeats in every row.

    Raises:
        UsageError: They would take more memory than the session allows.
    """
    own = [name for name in LOG.names if name in columns]
    _require_memory(session, own)
    names = pa.array([run[1] for run in session.runs], _TEXT)
    schema = pa.schema([pa.field("run", pa.dictionary(pa.int32(), _TEXT)), *(LOG.field(name) for name in own)])
    parts = [schema.empty_table()]
    for at, (_, _, manifest) in enumerate(session.runs):
        for pack in manifest.log:
            table = session.ledger.read_table(pack.object, LOG, columns=own or ["row"])
            run = pa.DictionaryArray.from_arrays(pa.array(np.full(len(table), at, "i4")), names)
            parts.append(pa.Table.from_arrays([run, *(table[name].combine_chunks() for name in own)], schema=schema))
    return pa.concat_tables(parts)


def _require_memory(session: Session, columns: Sequence[str]) -> None:
    rows = sum(pack.rows for _, _, manifest in session.runs for pack in manifest.log)
    needed = rows * (4 + sum(_WIDTHS.get(name, _WIDTH) for name in columns))
    if needed > session.memory:
        raise UsageError(
            "too_large",
            expected=f"columns of the log within {session.memory / 2**30:.1f} GiB",
            found=f"{rows:,} rows of {', '.join(columns)}: about {needed / 2**30:.1f} GiB",
            remedy="Name fewer columns (`audit.contamination` has the flagged rows alone), or set FOREBEAR_SQL_GIB to what there is.",
        )


_WIDTH = 32  # bytes of a digest; texts and lists are about as wide
_WIDTHS = dict.fromkeys(("row", "bytes", "words", "keeper_row", "intersection", "union_size"), 8) | {"evidence": 96, "action": 8}
"""Bytes that a row takes in memory, by column, near enough to refuse what cannot work."""


def _shards(session: Session, run: Run) -> Iterator[pa.Table]:
    yield session.ledger.read_table(run[2].shards.object, SHARDS)


def _flagged(session: Session, run: Run) -> Iterator[pa.Table]:
    yield session.ledger.read_table(run[2].flagged.object, FLAGGED)


def _cleaned(session: Session, run: Run) -> Iterator[pa.Table]:
    if run[2].cleaned is not None:
        yield session.ledger.read_table(run[2].cleaned.object, CLEANED)


_RUN = _fields(
    run=_TEXT, run_digest=_TEXT, policy=_TEXT, started=_TEXT, finished=_TEXT, rows_in=_INT, rows_kept=_INT, rows_dropped=_INT,
    rows_errored=_INT, incomplete=_INT, version=_TEXT, entry=_INT,
)  # fmt: skip


def _runs(session: Session) -> pa.Table:
    rows = [
        {
            "run": digest,
            "run_digest": run.run_digest,
            "policy": run.policy_digest,
            "started": run.started,
            "finished": run.finished,
            **{f"rows_{name}": run.rows[name] for name in ("in", "kept", "dropped", "errored")},
            "incomplete": len(run.incomplete),
            "version": run.version,
            "entry": n,
        }
        for n, digest, run in session.runs
    ]
    return pa.Table.from_pylist(rows, _RUN)


_DETECTOR = _fields(
    detector=_TEXT, name=_TEXT, **{"class": _TEXT}, version=_TEXT, parameters=_TEXT, reason=_TEXT, false_positive_rate=_TEXT
)


def _detectors(session: Session) -> pa.Table:
    found = {}
    for _, _, run in session.runs:
        for one in run.detectors:
            rate = None if one.false_positive_rate is None else one.false_positive_rate.get("rate")
            found[one.digest] = {
                "detector": one.digest,
                "name": one.name,
                "class": one.category,
                "version": one.version,
                "parameters": json.dumps(one.parameters, sort_keys=True, ensure_ascii=False),
                "reason": one.reason,
                "false_positive_rate": rate,
            }
    return pa.Table.from_pylist(list(found.values()), _DETECTOR)


_THRESHOLD = _fields(run=_TEXT, detector=_TEXT, source=_TEXT, flag=_INT, drop_from=_INT, action=_TEXT)


def _thresholds(session: Session) -> pa.Table:
    rows = [
        {"run": digest, "detector": d.digest, "source": source, "flag": one.flag, "drop_from": one.drop, "action": one.action}
        for _, digest, run in session.runs
        for d in run.detectors
        for source, one in d.thresholds.items()
    ]
    return pa.Table.from_pylist(rows, _THRESHOLD)


_NODE = _fields(
    id=_TEXT, kind=_TEXT, name=_TEXT, revision=_TEXT, digest=_TEXT, ancestry=_TEXT, recorded=pa.bool_(), aliases=pa.list_(_TEXT)
)


def _nodes(session: Session) -> pa.Table:
    graph = session.graph
    size = range(len(graph.ids))
    closed = graph.closed
    columns = {
        "id": graph.ids,
        "kind": np.where(graph.kind == 0, "model", "dataset"),
        "name": graph.names,
        "revision": [graph.revisions.get(n) for n in size],
        "digest": [graph.digests.get(n) for n in size],
        "ancestry": np.where(closed, "closed", "open"),
        "recorded": graph.recorded,
        "aliases": [graph.aliases.get(n, []) for n in size],
    }
    return pa.table({name: pa.array(column, _NODE.field(name).type) for name, column in columns.items()}, schema=_NODE)


_RELATION = _fields(
    child=_TEXT, relation=_TEXT, parent=_TEXT, evidence=_TEXT, entry=_INT, stage=_TEXT, epochs=pa.float64(), usage=_TEXT,
    run=_TEXT, system_prompt=_TEXT, child_kind=_TEXT, parent_kind=_TEXT,
)  # fmt: skip


def _relations(session: Session) -> pa.Table:
    from forebear.tracer.lineage.graph import STAGES
    from forebear.tracer.lineage.relations import GRADES, RULES

    graph = session.graph
    edges = graph.edges.take(np.flatnonzero(~graph.edges.mirror))
    ids = pa.array(graph.ids, _TEXT)
    more = [graph.more[n] if n >= 0 else {} for n in edges.more.tolist()]
    stages = [None if n < 0 else STAGES[n].value for n in edges.stage.tolist()]
    columns = {
        "child": ids.take(pa.array(edges.child)),
        "relation": [RULES[n].relation.value for n in edges.rule.tolist()],
        "parent": ids.take(pa.array(edges.parent)),
        "evidence": [GRADES[n].value for n in edges.grade.tolist()],
        "entry": pa.array(edges.entry.astype(np.int64), mask=edges.entry < 0),
        "stage": stages,
        "epochs": pa.array(edges.epochs, from_pandas=True),
        "usage": ["complete" if one else None for one in edges.complete.tolist()],
        "run": [one.get("run") for one in more],
        "system_prompt": [one.get("system_prompt") for one in more],
        "child_kind": [RULES[n].child for n in edges.rule.tolist()],
        "parent_kind": [RULES[n].parent for n in edges.rule.tolist()],
    }
    return pa.table({name: pa.array(column, _RELATION.field(name).type) for name, column in columns.items()}, schema=_RELATION)


_USAGE = _fields(model=_TEXT, dataset=_TEXT, shard=_TEXT, first_row=_INT, last_row=_INT, stage=_TEXT, epochs=pa.float64(), evidence=_TEXT)


def _usage(session: Session) -> pa.Table:
    """Shards of what models are trained on, mixtures without shards of their own opened into their parts."""
    return pa.Table.from_pylist(list(_usage_rows(session)), _USAGE)


def _usage_rows(session: Session) -> Iterator[dict[str, Any]]:
    from forebear.schemas.enums import Relation
    from forebear.tracer.audit.rows import segments_of
    from forebear.tracer.lineage.graph import STAGES
    from forebear.tracer.lineage.relations import GRADES, RULES

    graph, scans = session.graph, session.scans
    edges = graph.edges
    for at in range(len(edges.child)):
        if RULES[edges.rule[at]].relation is not Relation.TRAINED_ON:
            continue
        key = (int(edges.child[at]), int(edges.stage[at]))
        narrowed = (key,) if edges.complete[at] and key in graph.usage else None
        epochs = float(edges.epochs[at])
        shared = {
            "model": graph.ids[edges.child[at]],
            "stage": None if edges.stage[at] < 0 else STAGES[edges.stage[at]].value,
            "epochs": None if np.isnan(epochs) else epochs,
            "evidence": GRADES[edges.grade[at]].value,
        }
        for dataset in _parts(session, int(edges.parent[at])):
            for shard, ranges in segments_of(graph, dataset, narrowed):
                place = scans.shard(graph.shards[shard])
                whole = (0, int(scans.rows[place])) if place >= 0 else (0, None)
                named = {**shared, "dataset": graph.ids[dataset], "shard": graph.shards[shard]}
                for first, last in (whole,) if ranges is None else ranges:
                    yield {**named, "first_row": first, "last_row": last}


def _parts(session: Session, dataset: int) -> list[int]:
    """A dataset, or the datasets that a mixture without shards of its own is made of."""
    from forebear.tracer.lineage.relations import GRADES, RULES

    graph, found, todo, seen = session.graph, [], [dataset], {dataset}
    while todo:
        node = todo.pop()
        found.append(node)
        if len(graph.listed_of(node)):
            continue
        for at in graph.edges_of(node):
            parent = int(graph.edges.parent[at])
            kept = RULES[graph.edges.rule[at]].mode == "kept" and GRADES[graph.edges.grade[at]] != "contradicted"
            if kept and parent not in seen:
                seen.add(parent)
                todo.append(parent)
    return found


_ENTRY = _fields(entry=_INT, kind=_TEXT, object=_TEXT, time=_TEXT, facts=_TEXT)


def _entries(session: Session) -> pa.Table:
    rows = [
        {
            "entry": n,
            "kind": one.kind.value,
            "object": one.object,
            "time": one.time,
            "facts": json.dumps(one.facts, sort_keys=True),
        }
        for n, _, one in session.ledger.entries()
    ]
    return pa.Table.from_pylist(rows, _ENTRY)


_HEAD = _fields(size=_INT, root=_TEXT)


def _head(session: Session) -> pa.Table:
    return pa.Table.from_pylist([{"size": session.head.size, "root": digest_name(session.head.root)}], _HEAD)


_EXPOSURE = _fields(
    model=_TEXT, model_name=_TEXT, **{"class": _TEXT}, verdict=_TEXT, channel=_TEXT, ancestor=_TEXT, ancestor_name=_TEXT,
    depth=_INT, dataset=_TEXT, dataset_name=_TEXT, documents=_INT, rows=_INT, words=_INT, epochs=pa.float64(), presentations=pa.float64(),
    expected_false=pa.float64(), reasons=pa.map_(_TEXT, _INT), evidence=_TEXT,
)  # fmt: skip
_VERDICT = _fields(model=_TEXT, model_name=_TEXT, **{"class": _TEXT}, verdict=_TEXT, at_worst=_TEXT, complete=pa.bool_())
_UNKNOWN = _fields(model=_TEXT, model_name=_TEXT, **{"class": _TEXT}, node=_TEXT, why=_TEXT, at_worst=_TEXT, rows=_INT, of=_INT)


def _exposures(session: Session) -> pa.Table:
    return session.answers["raw_exposure"]


def _verdicts(session: Session) -> pa.Table:
    return session.answers["raw_verdict"]


def _unknowns(session: Session) -> pa.Table:
    return session.answers["raw_unknown"]


def read_answers(session: Session) -> dict[str, pa.Table]:
    """Verdicts, exposures and unknowns of every recorded model, as `trace --all` gives them."""
    exposures: list[dict[str, Any]] = []
    verdicts: list[dict[str, Any]] = []
    unknowns: list[dict[str, Any]] = []
    for trace in session.trace_all():
        model = {"model": trace.model.id, "model_name": trace.model.name}
        exposures += [{**model, **_exposure_row(one)} for one in trace.exposures]
        classes: list[tuple[str | None, Verdict]] = list(trace.verdicts.items()) or [(None, trace.verdict)]
        for name, verdict in classes:
            known = not any(one.category in (None, name) for one in trace.unknown)
            worst = trace.at_worsts.get(name or "", trace.at_worst)
            verdicts.append({**model, "class": name, "verdict": verdict.value, "at_worst": worst.value, "complete": known})
        for gap in trace.unknown:
            named = {"class": gap.category, "node": gap.node, "why": gap.why, "at_worst": gap.at_worst.value}
            unknowns.append({**model, **named, "rows": gap.rows, "of": gap.of})
    return {
        "raw_exposure": pa.Table.from_pylist(exposures, _EXPOSURE),
        "raw_verdict": pa.Table.from_pylist(verdicts, _VERDICT),
        "raw_unknown": pa.Table.from_pylist(unknowns, _UNKNOWN),
    }


def _exposure_row(one: Exposure) -> dict[str, Any]:
    same = ("depth", "documents", "rows", "words", "epochs", "presentations", "expected_false")
    return {
        "class": one.category,
        "verdict": one.verdict.value,
        "channel": one.channel.value,
        "ancestor": one.ancestor.id,
        "ancestor_name": one.ancestor.name,
        "dataset": one.dataset.id,
        "dataset_name": one.dataset.name,
        "reasons": list(one.reasons.items()),
        "evidence": one.evidence.value,
        **{name: getattr(one, name) for name in same},
    }


SOURCES: dict[str, Source] = {
    "raw_cleaned": Source(_of_run(CLEANED), _each_run(_cleaned, _of_run(CLEANED))),
    "raw_decision": Source(_DECISION, _each_run(_log(_DECISION_COLUMNS), _DECISION), _some_columns),
    "raw_detector": Source(_DETECTOR, _detectors),
    "raw_entry": Source(_ENTRY, _entries),
    "raw_evidence": Source(_EVIDENCE, _each_run(_log(_EVIDENCE_COLUMNS), _EVIDENCE), _some_columns),
    "raw_exposure": Source(_EXPOSURE, _exposures),
    "raw_flagged": Source(_of_run(FLAGGED), _each_run(_flagged, _of_run(FLAGGED))),
    "raw_head": Source(_HEAD, _head),
    "raw_node": Source(_NODE, _nodes),
    "raw_relation": Source(_RELATION, _relations),
    "raw_run": Source(_RUN, _runs),
    "raw_shard": Source(_of_run(SHARDS), _each_run(_shards, _of_run(SHARDS))),
    "raw_threshold": Source(_THRESHOLD, _thresholds),
    "raw_unknown": Source(_UNKNOWN, _unknowns),
    "raw_usage": Source(_USAGE, _usage),
    "raw_verdict": Source(_VERDICT, _verdicts),
}
"""The raw tables by the name under which views find them."""
