"""Receipts: the answer to an opt-out. What became of a document in every run, and which models had consumed it by then.

Always true here: the order of things is that of the ledger's entries, and the answer says so: when a model was really trained is
not recorded. A model is listed where a dataset that it was trained on lists a row of the document, in the bytes themselves; whoever
descends from it is there too, with the channel. What is not known stands beside, never left out.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc

from forebear.schemas.digests import digest_bytes, digest_name
from forebear.schemas.enums import Action, Grade, Relation
from forebear.schemas.errors import UsageError
from forebear.tracer.audit.answer import Budget
from forebear.tracer.audit.recall import Recalled, name_targets, recall_documents
from forebear.tracer.audit.targets import TargetRows, find_documents
from forebear.tracer.lineage.graph import STAGES
from forebear.tracer.lineage.relations import GRADES, RULES

if TYPE_CHECKING:
    from forebear.tracer.audit.session import Session
    from forebear.tracer.lineage.graph import Graph

__all__ = ["exit_code", "receipt"]

_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_COLUMNS = ["shard", "row", "document", "action", "reasons", "keeper_document", "keeper_shard", "keeper_row"]
_DIGESTS = ("shard", "keeper_document", "keeper_shard")
_LISTED = 1000
_TRAINED = next(n for n, rule in enumerate(RULES) if rule.relation is Relation.TRAINED_ON)
_KEPT = [rule.mode == "kept" for rule in RULES]
_CONTRADICTED = GRADES.index(Grade.CONTRADICTED)
_ORDER = "order of the ledger's entries; when a model was trained is not recorded"


def receipt(session: Session, documents: Sequence[str], *, texts: Sequence[str | Path] = ()) -> dict[str, Any]:
    """The answer of `forebear receipt`.

    Args:
        session: The ledger.
        documents: Whole digests of documents' texts.
        texts: Files whose whole content is the text of a document; only the very bytes are looked for.

    Raises:
        UsageError: Something else than the digest of a document, or a file that cannot be read.
    """
    for one in documents:
        if not _DIGEST.fullmatch(one):
            raise UsageError(
                "not_a_document",
                expected="the whole digest of a document: sha256: and 64 hex digits of its text's UTF-8 bytes",
                found=repr(one[:80]),
                remedy="Give the digest (`sha256sum FILE`), or `--text-file FILE`; `forebear why` finds a row's own id.",
            )
    wanted = list(dict.fromkeys([*documents, *name_targets(session, (), texts=texts).documents]))
    decisions = _decisions(session, wanted)
    answers: list[dict[str, Any]] = []
    unknown: dict[tuple[str, str], dict[str, Any]] = {}
    omitted = 0
    for one in wanted:
        recalled = recall_documents(session, [one])
        answers.append(_answer(session, one, decisions[one], recalled))
        unknown |= {(gap.node, gap.why): gap.to_json() for gap in recalled.unknown}
        omitted = max(omitted, recalled.omitted)
    found: dict[str, Any] = {"schema": "forebear/receipt/1", "documents": answers, "order": _ORDER, "complete": not unknown}
    found |= {"head": session.head.to_json(), "integrity": "checked", "unknown": list(unknown.values())}
    return {**found, "omitted": omitted} if omitted else found


def exit_code(answer: dict[str, Any]) -> int:
    """1 where a model consumed one of the documents or descends from one that did; else 2 where something is unknown; else 0."""
    if any(one["reached"] for one in answer["documents"]):
        return 1
    return 0 if answer["complete"] else 2


def _decisions(session: Session, documents: Sequence[str]) -> dict[str, list[dict[str, Any]]]:
    """Every logged row of some documents, run by run, oldest first."""
    wanted = pa.array([digest_bytes(one) for one in documents], pa.binary(32))
    found: dict[str, list[dict[str, Any]]] = {one: [] for one in documents}
    for entry, run, manifest in session.runs:
        rows: list[dict[str, Any]] = []
        for pack in manifest.log:
            table = session.scans.pack(pack.object, _COLUMNS)
            rows += table.filter(pc.is_in(table["document"], value_set=wanted)).to_pylist()
        for row in sorted(rows, key=lambda one: (one["shard"], one["row"])):
            named = {name: None if row[name] is None else digest_name(row[name]) for name in _DIGESTS}
            document = digest_name(row.pop("document"))
            found[document].append({"run": run, "entry": entry, "finished": manifest.finished, **row, **named})
    return found


def _answer(session: Session, document: str, decisions: list[dict[str, Any]], recalled: Recalled) -> dict[str, Any]:
    dropped = [one["entry"] for one in decisions if one["action"] == Action.DROP]
    budget = Budget()
    reached = [one.to_json(budget) for one in recalled.models[:_LISTED]]
    found: dict[str, Any] = {
        "document": document,
        "logged": bool(decisions),
        "decisions": decisions,
        "first_dropped": min(dropped, default=None),
        "consumed": _consumed(session, document, min(dropped, default=None)),
        "reached": reached,
        "advisories": [one.to_json() for one in session.advised.published.values() if document in one.advisory.documents],
    }
    return {**found, "omitted": len(recalled.models) - _LISTED} if len(recalled.models) > _LISTED else found


def _consumed(session: Session, document: str, dropped: int | None) -> list[dict[str, Any]]:
    """Models that were trained on a row of the document, before it was first dropped or since."""
    graph, rows = session.graph, TargetRows(session.graph, session.scans)
    for shard, found in find_documents(session.scans, [document]).items():
        rows.add(shard, found)
    listed = []
    for dataset in rows.datasets():
        for edge in _uses(graph, dataset):
            edges = graph.edges
            key = (int(edges.child[edge]), int(edges.stage[edge]))
            if edges.complete[edge] and key in graph.usage and rows.narrowed(dataset, edge) == 0:
                continue
            entry, stage = int(edges.entry[edge]), int(edges.stage[edge])
            model = {"name": graph.name(key[0]), "id": graph.ids[key[0]]}
            when = None if dropped is None else "before" if entry < dropped else "since"
            said = {"stage": None if stage < 0 else STAGES[stage].value, "evidence": GRADES[edges.grade[edge]].value}
            listed.append({"model": model, "dataset": graph.name(dataset) or graph.ids[dataset], "entry": entry, "when": when, **said})
    return sorted(listed, key=lambda one: (one["entry"], one["model"]["id"], one["dataset"]))


def _uses(graph: Graph, dataset: int) -> list[int]:
    """Relations by which models were trained on a dataset, or on a mixture that lists no shards of its own and is made of it."""
    todo, seen, found = [dataset], {dataset}, []
    while todo:
        for edge in graph.edges_to(todo.pop()).tolist():
            child = int(graph.edges.child[edge])
            if graph.edges.grade[edge] == _CONTRADICTED:
                continue
            if graph.edges.rule[edge] == _TRAINED:
                found.append(edge)
            elif _KEPT[graph.edges.rule[edge]] and not len(graph.listed_of(child)) and child not in seen:
                seen.add(child)
                todo.append(child)
    return found
