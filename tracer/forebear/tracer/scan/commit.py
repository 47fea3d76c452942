"""The finaliser: from the references that workers left to a run manifest and an entry of the ledger.

Always true here: what is committed is reconciled from the log's own rows, not from metrics; a job whose workers are not all done
does not commit; committing the same job twice adds one entry. The driver calls this at the end of a scan, and `forebear commit`
after a driver's death.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from forebear.schemas.digests import digest_name, merkle_root
from forebear.schemas.enums import Action, EntryKind
from forebear.schemas.errors import IntegrityError, UsageError
from forebear.schemas.moments import utc_text
from forebear.schemas.records import DetectorRecord, Entry, Head, ObjectRef, RunManifest, Threshold, run_digest_leaves
from forebear.schemas.tables import CLEANED, FLAGGED, LOG, SHARDS, parquet_bytes, read_parquet
from forebear.tracer.ledger.absence import absence_root
from forebear.tracer.ledger.ledger import Ledger
from forebear.tracer.ledger.parts import SpanSummary, documents_of, part_root
from forebear.tracer.ledger.run_facts import run_facts
from forebear.tracer.scan.audit_sample import add_counts
from forebear.tracer.scan.log import LogRef
from forebear.tracer.scan.packs import Pack, Shard
from forebear.tracer.scan.work import Work

__all__ = ["Committed", "commit_job", "job_name", "job_work", "unfinished_jobs"]


_SPENT = ("packs", "logs", "flagged", "clean")
"""Records of a job that nothing needs once its run is committed."""


@dataclass(frozen=True)
class Committed:
    """A committed run."""

    run: str
    manifest: RunManifest
    head: Head
    cleaned: tuple[Mapping[str, Any], ...]
    reused: int


def job_work(ledger_url: str, job: str) -> Work:
    """The place of a job's records: its plan, the references of its workers, what was decided."""
    return Work(f"{ledger_url.rstrip('/')}/jobs/{job}")


def unfinished_jobs(ledger: Ledger) -> list[str]:
    """Jobs that began and did not end."""
    names = {path.split("/")[1] for path, _ in ledger.store.list("jobs/") if path.endswith("/plan.json")}
    done = {path.split("/")[1] for path, _ in ledger.store.list("jobs/") if path.endswith("/done.json")}
    return sorted(names - done)


def commit_job(ledger: Ledger, job: str, *, clock: Callable[[], datetime]) -> Committed:
    """Reconcile a job and add its run to the ledger; a job that ended before gives its run again.

    Raises:
        UsageError: There is no such job, or its workers are not all done.
        IntegrityError: The log does not reconcile with what was read.
    """
    records = job_work(ledger.store.url, job)
    if records.has("done.json"):
        return _ended(ledger, records)
    plan, decided = _records(records, job)
    packs = [Pack.from_json(text) for text in decided["packs"]]
    logs = [LogRef.from_json(records.get_json(f"logs/{pack.name}.json")) for pack in packs]
    shards = _shards_table(ledger, packs, logs)
    every = _cleaned(records, packs, plan)
    cleaned = [one for one in every if "failed" not in one]
    decided["uncleaned"] = [one for one in every if "failed" in one]
    manifest = _manifest(ledger, records, plan, decided, packs=packs, logs=logs, shards=shards, cleaned=cleaned, clock=clock)
    run, manifest, head = _append_once(ledger, manifest, records)
    reused = len({shard.digest for pack in packs if pack.reused for shard in pack.used})
    records.put_json("done.json", {"run": run, "cleaned": cleaned, "reused": reused})
    for folder in _SPENT:
        records.clear(folder)
    return Committed(run, manifest, head, tuple(cleaned), reused)


def _ended(ledger: Ledger, records: Work) -> Committed:
    done = records.get_json("done.json")
    manifest = RunManifest.from_bytes(ledger.get_object(done["run"]))
    return Committed(done["run"], manifest, ledger.head(), tuple(done["cleaned"]), done["reused"])


def _records(records: Work, job: str) -> tuple[dict[str, Any], dict[str, Any]]:
    try:
        plan = records.get_json("plan.json")
    except KeyError as error:
        raise UsageError(
            "unknown_job", expected="a job of this ledger", found=job, remedy="`forebear runs` lists the jobs that did not end."
        ) from error
    try:
        decided = records.get_json("decided.json")
        missing = [p for p in decided["packs"] if f"logs/{Pack.from_json(p).name}.json" not in set(records.names("logs"))]
    except KeyError:
        missing = ["decisions"]
    if missing:
        raise UsageError(
            "job_not_done",
            expected="a job whose workers are all done",
            found=f"{len(missing)} packs of {job} without a log",
            remedy="Scan the same inputs again: finished evidence is taken up.",
        )
    return plan, decided


def _shards_table(ledger: Ledger, packs: Sequence[Pack], logs: Sequence[LogRef]) -> pa.Table:
    """The shards of the run (`tables.SHARDS`), counted from the log."""
    known: dict[str, Shard] = {shard.digest: shard for pack in packs for shard in pack.used}
    read = {digest: end["rows"] for pack in packs for digest, end in pack.ends.items() if digest in known}
    spans: dict[str, list[SpanSummary]] = {digest: [] for digest in known}
    places: dict[str, list[dict[str, Any]]] = {digest: [] for digest in known}
    for ref in logs:
        _reconcile(ledger, ref)
        offset = 0
        for span in ref.spans:
            spans[span.shard].append(span)
            places[span.shard].append(_place(ref.log.object, offset, span.first_row, span.rows))
            offset += span.rows
    bands: dict[str, list[dict[str, Any]]] = {digest: [] for digest in known}
    for pack in packs:
        for own in pack.active():
            if pack.bands is not None:
                bands[own.shard].append(_place(pack.bands.object, own.offset, own.first_row, own.rows))
    rows = [
        _shard_row(known[digest], sorted(spans[digest], key=lambda s: s.first_row), read, places=places[digest], bands=bands[digest])
        for digest in sorted(known)
    ]
    return pa.Table.from_pylist(rows, schema=SHARDS)


def _place(pack: str, offset: int, first_row: int, rows: int) -> dict[str, Any]:
    return {"pack": bytes.fromhex(pack[7:]), "offset": offset, "first_row": first_row, "rows": rows}


def _reconcile(ledger: Ledger, ref: LogRef) -> None:
    """Count a log's rows by shard and action again, from the log itself."""
    log = ledger.read_table(ref.log.object, LOG, columns=["shard", "row", "action"])
    action = log["action"]
    counted = [pc.equal(action, value.value).to_numpy() for value in (Action.KEEP, Action.DROP, Action.ERROR)]
    row, at = log["row"].to_numpy(), 0
    for span in ref.spans:
        here = slice(at, at + span.rows)
        found = tuple(int(mask[here].sum()) for mask in counted)
        in_order = (row[here] == np.arange(span.first_row, span.first_row + span.rows)).all()
        if found != (span.kept, span.dropped, span.errored) or sum(found) != span.rows or not in_order:
            raise _unreconciled(span.shard, f"{span.rows} rows: {span.kept} kept, {span.dropped} dropped, {span.errored} errored", found)
        at += span.rows
    if at != log.num_rows:
        raise _unreconciled(ref.log.object, f"{at} rows", log.num_rows)


def _shard_row(
    shard: Shard,
    spans: Sequence[SpanSummary],
    read: Mapping[str, int],
    *,
    places: list[dict[str, Any]],
    bands: list[dict[str, Any]],
) -> dict[str, Any]:
    rows = sum(span.rows for span in spans)
    if rows != read.get(shard.digest) or any(b.first_row != a.first_row + a.rows for a, b in itertools.pairwise(spans)):
        raise _unreconciled(shard.digest, f"{read.get(shard.digest)} rows read", f"{rows} rows logged")
    return {
        "shard": bytes.fromhex(shard.digest[7:]),
        "source": "",
        "documents_digest": documents_of(spans),
        "log_digest": part_root(spans),
        "rows": rows,
        "kept": sum(span.kept for span in spans),
        "dropped": sum(span.dropped for span in spans),
        "errored": sum(span.errored for span in spans),
        "bytes": shard.bytes,
        "format": shard.format,
        "paths": list(shard.paths),
        "log": sorted(places, key=_first_row),
        "bands": sorted(bands, key=_first_row),
    }


def _first_row(place: Mapping[str, Any]) -> int:
    return int(place["first_row"])


def _unreconciled(what: str, expected: object, found: object) -> IntegrityError:
    return IntegrityError(
        "not_reconciled",
        expected=f"{expected} of {what} in the log",
        found=str(found),
        remedy="Nothing was committed. Scan again; if it comes back, it is a fault of forebear.",
    )


def _cleaned(records: Work, packs: Sequence[Pack], plan: Mapping[str, Any]) -> list[dict[str, Any]]:
    if not plan["clean"]:
        return []
    digests = sorted({shard.digest for pack in packs for shard in pack.used})
    try:
        return [records.get_json(f"clean/{digest[7:]}.json") for digest in digests]
    except KeyError as error:
        raise UsageError(
            "job_not_done", expected="a cleaned shard for every shard", found=f"none at {error}", remedy="Scan again."
        ) from error


def _manifest(
    ledger: Ledger,
    records: Work,
    plan: Mapping[str, Any],
    decided: Mapping[str, Any],
    *,
    packs: Sequence[Pack],
    logs: Sequence[LogRef],
    shards: pa.Table,
    cleaned: Sequence[Mapping[str, Any]],
    clock: Callable[[], datetime],
) -> RunManifest:
    source = plan["scope"]["reader"].get("source") or ""
    shards = shards.set_column(1, SHARDS.field("source"), pa.array([source] * shards.num_rows, pa.string()))
    named = [digest_name(digest) for digest in shards["shard"].to_pylist()]
    roots = [digest_name(digest) for digest in shards["log_digest"].to_pylist()]
    rows = shards["rows"].to_pylist()
    leaves = run_digest_leaves(scope=plan["scope"], shards=list(zip(named, [source] * len(named), rows, roots, strict=True)))
    totals = {name: pc.sum(shards[name]).as_py() or 0 for name in ("rows", "kept", "dropped", "errored")}
    return RunManifest(
        run_digest=digest_name(merkle_root(leaves)),
        version=plan["version"],
        policy=plan["policy"],
        policy_digest=plan["scope"]["policy"],
        detectors=tuple(_detector(one) for one in plan["detectors"]),
        signature=plan["scope"]["signature"],
        reader=plan["scope"]["reader"],
        against=tuple(plan["scope"]["against"]),
        rows={"in": totals.pop("rows"), **totals},
        reasons=dict(sum((Counter(ref.reasons) for ref in logs), Counter())),
        sources=_sources(logs),
        shards=_stored(ledger, shards),
        flagged=_stored(ledger, _flagged(records, logs)),
        cleaned=_stored(ledger, _cleaned_table(cleaned)) if plan["clean"] else None,
        log=_unique(ref.log for ref in logs),
        bands=_unique(pack.bands for pack in packs if pack.bands is not None),
        absence_root=digest_name(_absence_root(ledger, logs)),
        incomplete=tuple(_incomplete(packs, decided)),
        overflow=tuple(decided["overflow"]),
        curve=tuple(plan["curve"]),
        started=plan["started"],
        finished=utc_text(clock()),
        environment={**plan["environment"], **_found(decided, logs)},
    )


def _absence_root(ledger: Ledger, logs: Sequence[LogRef]) -> bytes:
    packs = sorted({ref.log.object for ref in logs})
    return absence_root(
        lambda: (ledger.read_log(pack, columns=["document"])["document"] for pack in packs), sum(ref.log.rows for ref in logs)
    )


def _detector(value: Mapping[str, Any]) -> DetectorRecord:
    thresholds = {source: Threshold(**one) for source, one in value["thresholds"].items()}
    return DetectorRecord(**{**value, "thresholds": thresholds})


def _unique(refs: Any) -> tuple[ObjectRef, ...]:
    return tuple(sorted(set(refs), key=lambda ref: ref.object))


def _stored(ledger: Ledger, table: pa.Table) -> ObjectRef:
    data = parquet_bytes(table)
    return ObjectRef(ledger.put_object(data), len(data), table.num_rows)


def _found(decided: Mapping[str, Any], logs: Sequence[LogRef]) -> dict[str, Any]:
    """What a run's summary tells beyond its counts of rows."""
    return {
        "unmeasured": decided["unmeasured"],
        "partitions": decided["partitions"],
        "large_buckets": decided["large_buckets"],
        "second_tier": add_counts(ref.tiers for ref in logs),
    }


def _flagged(records: Work, logs: Sequence[LogRef]) -> pa.Table:
    tables = [read_parquet(records.get(f"flagged/{ref.pack}"), FLAGGED) for ref in logs]
    whole = pa.concat_tables(tables) if tables else FLAGGED.empty_table()
    return whole.sort_by([("shard", "ascending"), ("row", "ascending"), ("detector", "ascending"), ("label", "ascending")])


def _cleaned_table(cleaned: Sequence[Mapping[str, Any]]) -> pa.Table:
    rows = [{**one, "source": bytes.fromhex(one["source"][7:]), "shard": bytes.fromhex(one["shard"][7:])} for one in cleaned]
    return pa.Table.from_pylist(rows, schema=CLEANED)


def _sources(logs: Sequence[LogRef]) -> dict[str, dict[str, int]]:
    total: dict[str, Counter[str]] = {}
    for ref in logs:
        for source, counts in ref.sources.items():
            total.setdefault(source, Counter()).update(counts)
    return {source: dict(counts) for source, counts in sorted(total.items())}


def _incomplete(packs: Sequence[Pack], decided: Mapping[str, Any]) -> list[dict[str, Any]]:
    found = list(decided["unopened"])
    for pack in packs:
        paths = {shard.digest: shard.path for shard in pack.used}
        for digest, end in pack.ends.items():
            if end["damage"] and digest in paths:
                found.append({"path": paths[digest], "shard": digest, "why": end["damage"]})
    found += [{"path": one["path"], "shard": one["source"], "why": f"not cleaned: {one['failed']}"} for one in decided["uncleaned"]]
    return sorted(found, key=lambda one: (one["path"], one["why"]))


def _append_once(ledger: Ledger, manifest: RunManifest, records: Work) -> tuple[str, RunManifest, Head]:
    """Append the run's entry, unless an earlier try of this job did."""
    if records.has("committing.json"):
        tried = records.get_json("committing.json")["run"]
        if any(entry.object == tried for _, _, entry in ledger.entries()):
            ledger.catch_up()
            return tried, RunManifest.from_bytes(ledger.get_object(tried)), ledger.head()
    run = ledger.put_object(manifest.to_bytes())
    records.put_json("committing.json", {"run": run})
    facts = {**run_facts(manifest), "rows": manifest.rows["in"], "policy": manifest.policy_digest}
    return run, manifest, ledger.append(Entry(EntryKind.RUN, run, manifest.finished, facts))


def job_name(started: datetime, token: str) -> str:
    """A job's name: when it began, and something nobody else has."""
    return f"{started:%Y%m%dT%H%M%S}-{token}"


def plan_record(plan: Any, **facts: Any) -> dict[str, Any]:
    """What `plan.json` of a job holds: all that a finaliser needs when the driver is dead."""
    detectors = [dataclasses.asdict(record) for _, record in plan.detectors]
    return {"scope": plan.scope, "policy": plan.policy.canonical(), "detectors": detectors, "clean": plan.clean, **facts}
