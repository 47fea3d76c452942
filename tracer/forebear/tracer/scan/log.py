"""The cleaning log of a pack: evidence and decision of every row, and what the finaliser must know of it.

Always true here: every active row of the pack is in the log once, in (span, row) order; an error comes before a policy, a policy
before a duplicate; a row flagged but not dropped keeps its reason.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from forebear.schemas.enums import Action, Reason
from forebear.schemas.records import ObjectRef
from forebear.schemas.tables import DIGEST, LOG, parquet_bytes
from forebear.tracer.ledger.ledger import Ledger
from forebear.tracer.ledger.parts import SpanSummary, count_reasons, count_sources, flagged_rows, summarise
from forebear.tracer.scan.audit_sample import count_tiers
from forebear.tracer.scan.decide import DECISION
from forebear.tracer.scan.packs import Pack, best_scores, read_evidence, threshold_column
from forebear.tracer.scan.plan import Plan

__all__ = ["LogRef", "Logged", "build_log", "kept_rows", "log_pack"]


@dataclass(frozen=True)
class LogRef:
    """The log of a pack, as a reference: what `commit` reads."""

    pack: str
    log: ObjectRef
    spans: tuple[SpanSummary, ...]
    reasons: Mapping[str, int]
    sources: Mapping[str, Mapping[str, int]]
    tiers: Mapping[str, int] = dataclasses.field(default_factory=dict)  # what a second tier scored, and what the first missed

    def to_json(self) -> dict[str, Any]:
        """As it is stored in the job."""
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> LogRef:
        """The reference again."""
        spans = tuple(SpanSummary(**span) for span in value["spans"])
        return cls(**{**value, "spans": spans, "log": ObjectRef(**value["log"])})


@dataclass(frozen=True)
class Logged:
    """A stored log, its flagged rows (`tables.FLAGGED`) and, for each span in it, (shard, first row, kept rows)."""

    ref: LogRef
    flagged: pa.Table
    kept: tuple[tuple[str, int, npt.NDArray[np.int64]], ...]


def log_pack(pack: Pack, decisions: pa.Table | None, plan: Plan, *, ledger: Ledger) -> Logged:
    """Build, store and summarise the log of a pack."""
    log = build_log(read_evidence(pack, ledger), decisions, pack, plan=plan)
    data = parquet_bytes(log)
    flagged = flagged_rows(log, [record for _, record in plan.detectors])
    ref = LogRef(
        pack=pack.name,
        log=ObjectRef(ledger.put_object(data), len(data), log.num_rows),
        spans=tuple(summarise(log)),
        reasons=count_reasons(log),
        sources=count_sources(log),
        tiers=count_tiers(log, [record for _, record in plan.detectors]),
    )
    return Logged(ref, flagged, tuple(kept_rows(log, ref.spans)))


def kept_rows(log: pa.Table, spans: Sequence[SpanSummary]) -> list[tuple[str, int, npt.NDArray[np.int64]]]:
    """(shard, first row, kept rows) of every span."""
    keep = pc.equal(log["action"], Action.KEEP.value).to_numpy()
    found, at = [], 0
    for span in spans:
        rows = np.flatnonzero(keep[at : at + span.rows]) + span.first_row
        found.append((span.shard, span.first_row, rows))
        at += span.rows
    return found


def build_log(evidence: pa.Table, decisions: pa.Table | None, pack: Pack, *, plan: Plan) -> pa.Table:
    """The log (`tables.LOG`) of a pack's active rows."""
    decision = _spread(decisions, evidence.num_rows)
    policy = _policy_reasons(evidence, plan)
    errored = evidence["error"].is_valid().to_numpy()
    dropped = np.zeros(evidence.num_rows, dtype=bool)
    for _, drops, _ in policy:
        dropped |= drops
    duplicate = decision["keeper_row"].is_valid().to_numpy() & ~errored & ~dropped
    duplicate_drops = duplicate & _duplicates_drop(evidence, plan)
    action = np.where(errored, Action.ERROR.value, np.where(dropped | duplicate_drops, Action.DROP.value, Action.KEEP.value))
    decided = {
        name: pc.if_else(pa.array(duplicate), decision[name], None)
        for name in ("keeper_document", "keeper_shard", "keeper_row", "intersection", "union_size")
    }
    exact = decision["exact"].fill_null(False).to_numpy()
    near = (Reason.EXACT_DUPLICATE, duplicate & exact), (Reason.NEAR_DUPLICATE, duplicate & ~exact)
    marks = [(str(reason), where) for reason, where in near] + [(reason, where & ~errored) for reason, _, where in policy]
    columns: dict[str, Any] = {name: evidence[name] for name in ("document", "source_id", "source", "bytes", "words", "evidence")}
    columns |= decided
    columns["action"] = pa.array(action.tolist(), pa.string())
    columns["reasons"] = _reasons(evidence["error"], marks)
    columns["cluster"] = decision["cluster"]
    return _active(columns, pack)


def _spread(decisions: pa.Table | None, rows: int) -> pa.Table:
    """Decisions by position, null where nothing was decided."""
    decisions = DECISION.empty_table() if decisions is None else decisions
    place = np.full(rows, -1, dtype="i8")
    place[decisions["position"].to_numpy()] = np.arange(decisions.num_rows)
    return decisions.take(pa.array(place, mask=place < 0)).combine_chunks()


def _policy_reasons(evidence: pa.Table, plan: Plan) -> list[tuple[str, npt.NDArray[np.bool_], npt.NDArray[np.bool_]]]:
    """For each reason that detectors give: the rows they drop for it, the rows they flag."""
    found: dict[str, tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_]]] = {}
    for _, record in plan.detectors:
        best = best_scores(evidence, record)
        drops = best >= threshold_column(evidence["source"], record, "drop")
        flags = best >= threshold_column(evidence["source"], record, "flag")
        none = np.zeros(len(best), dtype=bool)
        before = found.get(record.reason, (none, none))
        found[record.reason] = (before[0] | drops, before[1] | drops | flags)
    return [(reason, drops, flags) for reason, (drops, flags) in found.items()]


def _duplicates_drop(evidence: pa.Table, plan: Plan) -> npt.NDArray[np.bool_]:
    encoded = evidence["source"].combine_chunks().dictionary_encode()
    names = [*encoded.dictionary.to_pylist(), None]
    by_code = np.array([plan.policy.duplicates_action(name) == Action.DROP for name in names])
    result: npt.NDArray[np.bool_] = by_code[encoded.indices.fill_null(len(names) - 1).to_numpy()]
    return result


def _reasons(errors: pa.ChunkedArray, marks: list[tuple[str, npt.NDArray[np.bool_]]]) -> pa.Array:
    """The list of reasons of every row, sorted."""
    marks = sorted(marks, key=lambda mark: mark[0])
    errored = errors.is_valid().to_numpy()
    counts = errored.astype("i4") + sum((where.astype("i4") for _, where in marks), np.zeros(len(errored), "i4"))
    offsets = np.concatenate([[0], np.cumsum(counts)]).astype("i4")
    values = np.empty(offsets[-1], dtype=object)
    values[offsets[:-1][errored]] = errors.drop_null().to_numpy()
    filled = offsets[:-1].copy()
    for reason, where in marks:
        values[filled[where]] = reason
        filled[where] += 1
    return pa.ListArray.from_arrays(pa.array(offsets), pa.array(values, pa.string()), type=LOG.field("reasons").type)


def _active(columns: dict[str, Any], pack: Pack) -> pa.Table:
    """The rows of the spans that this run uses, with their shard and row."""
    spans = pack.active()
    n = pack.positions
    shard = [pa.repeat(pa.scalar(bytes.fromhex(span.shard[7:]), DIGEST), span.rows) for span in spans]
    row = [np.arange(span.first_row, span.first_row + span.rows) for span in spans]
    take = np.concatenate([np.zeros(0, "i8"), *(np.arange(span.offset, span.offset + span.rows) for span in spans)])
    whole = len(take) == n and (take == np.arange(n)).all()
    names = [name for name in LOG.names if name in columns]
    table = pa.table({name: columns[name] for name in names})
    table = table if whole else table.take(pa.array(take))
    table = table.append_column("shard", pa.chunked_array(shard, DIGEST))
    table = table.append_column("row", pa.array(np.concatenate([np.zeros(0, "i8"), *row]), pa.int64()))
    return table.select(LOG.names).cast(LOG).combine_chunks()


def ref_bytes(ref: LogRef) -> bytes:
    """A reference as JSON bytes."""
    return json.dumps(ref.to_json(), sort_keys=True).encode()
