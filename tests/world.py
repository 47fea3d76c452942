"""A small ledger for tests, written through the real code: log packs, shards, flagged rows, bands, manifest and entry.

`make_ledger(path, shards={"a": [Document("some text"), ...]})` gives a `World`: its ledger, the run's digest and manifest, and
the shards' digests by name. `add_run` adds another run to a ledger, `add_record` an entry of any other kind. Scores are on the
1/1024 grid; what is not said of a document (action, reasons) follows from its scores and the detectors' thresholds.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from forebear.schemas.canonical import canonical_json
from forebear.schemas.digests import digest_bytes, digest_name, merkle_root, sha256_name
from forebear.schemas.enums import EntryKind
from forebear.schemas.records import DetectorRecord, Entry, ObjectRef, RunManifest, Threshold, run_digest_leaves
from forebear.schemas.tables import BANDS, CLEANED, FLAGGED, LOG, SHARDS, parquet_bytes
from forebear.tracer.ledger.ledger import Ledger
from forebear.tracer.ledger.parts import (
    SpanSummary,
    count_reasons,
    count_sources,
    documents_of,
    flagged_rows,
    part_root,
    run_scope,
    summarise,
)

__all__ = ["TIME", "Document", "World", "add_record", "add_run", "detector", "make_ledger"]

TIME = "2026-11-01T12:00:00+00:00"
BAND_COUNT = 2


@dataclass(frozen=True)
class Document:
    """One row of a shard.

    Args:
        text: None for a null text.
        scores: Grid score by detector name; a detector that is not named did not score the row.
        source: The row's source.
        action: keep, drop or error; None: as the scores have it.
        reasons: Besides those that follow from the scores.
        keeper: (shard name, row) of the document kept in its place.
        shared: Intersection and union with the keeper.
        source_id: The row's id in its source.
    """

    text: str | None
    scores: Mapping[str, int] = field(default_factory=dict)
    source: str | None = None
    action: str | None = None
    reasons: tuple[str, ...] = ()
    keeper: tuple[str, int] | None = None
    shared: tuple[int, int] | None = None
    source_id: str | None = None


@dataclass(frozen=True)
class World:
    """A ledger with a run, and what a test wants to name in it."""

    ledger: Ledger
    run: str
    manifest: RunManifest
    shards: Mapping[str, str]
    cleaned: Mapping[str, str]


def detector(
    name: str = "toxicity",
    *,
    category: str = "toxicity",
    reason: str = "toxic",
    flag: int = 820,
    drop: int = 820,
    action: str = "drop",
    sources: Mapping[str, tuple[int, int]] | None = None,
    version: str = "1",
    false_positive_rate: Mapping[str, str] | None = None,
) -> DetectorRecord:
    """A detector's record; `sources` gives (flag, drop) of a source that has its own."""
    own = {source: Threshold(low, high, action) for source, (low, high) in (sources or {}).items()}
    return DetectorRecord(
        digest=sha256_name(f"{name} {version}".encode()),
        name=name,
        category=category,
        version=version,
        reason=reason,
        parameters={"window": 100},
        thresholds={"": Threshold(flag, drop, action), **own},
        false_positive_rate=false_positive_rate,
    )


DEFAULT = {
    "a": [
        Document("the north wind and the sun disputed which was the stronger", {"toxicity": 10}, "web", source_id="a0"),
        Document("a vile and hateful line", {"toxicity": 1000}, "web", source_id="a1"),
        Document(None, source_id="a2"),
        Document(None, action="error", reasons=("not_text",), source_id="a3"),
    ],
    "b": [
        Document(
            "the north wind and the sun disputed which was the stronger",
            {"toxicity": 10},
            "books",
            action="drop",
            reasons=("exact_duplicate",),
            keeper=("a", 0),
            shared=(6, 6),
        ),
        Document(
            "the north wind and the sun disputed which was the strongest of them",
            {"toxicity": 12},
            action="drop",
            reasons=("near_duplicate",),
            keeper=("a", 0),
            shared=(9, 11),
        ),
        Document("something else altogether, about harbours", {"toxicity": 700}, "books"),
    ],
    "empty": [],
}
"""Two shards and an empty one: a kept, a toxic, a null, an errored row, and duplicates across shards."""


def make_ledger(path: Path | str, *, shards: Mapping[str, Sequence[Document]] | None = None, **options: Any) -> World:
    """A new ledger at a path with one run in it; options are those of `add_run`."""
    return add_run(Ledger.open(path, create=True), shards=DEFAULT if shards is None else shards, **options)


def add_run(
    ledger: Ledger,
    *,
    shards: Mapping[str, Sequence[Document]],
    detectors: Sequence[DetectorRecord] | None = None,
    packs: int = 1,
    clean: bool = False,
    source: str = "",
    against: Sequence[str] = (),
    incomplete: Sequence[Mapping[str, Any]] = (),
    jaccard: str = "0.8",
    time: str = TIME,
    manifest: Mapping[str, Any] | None = None,
) -> World:
    """Log, commit and append a run over shards.

    Args:
        shards: Documents by shard name; a shard's digest is that of its documents as JSONL.
        detectors: Default: one toxicity detector that flags and drops at 820 of 1024.
        packs: How many log packs the shards are spread over.
        clean: Whether the run wrote cleaned shards.
        source: What `--source` said.
        against: Run digests.
        manifest: Fields of the manifest to write otherwise than they are.
    """
    records = [detector()] if detectors is None else list(detectors)
    digests = {name: shard_digest(documents) for name, documents in shards.items()}
    order = sorted(shards, key=lambda name: digests[name])
    kept_in: dict[str, list[Document]] = {}
    spans: dict[str, list[tuple[SpanSummary, bytes, int]]] = {name: [] for name in shards}
    bands: dict[str, tuple[bytes, int]] = {}
    log_refs, band_refs, logs = [], [], []
    for n in range(packs):
        names = order[n::packs]
        rows = [row for name in names for row in _rows(name, shards, digests, records=records)]
        log = pa.Table.from_pylist(rows, schema=LOG)
        log_ref, band_ref = _stored(ledger, log), _stored(ledger, _bands(rows))
        logs.append(log)
        log_refs.append(log_ref)
        band_refs.append(band_ref)
        offset, by_digest = 0, {digests[name]: name for name in names}
        for span in summarise(log):
            spans[by_digest[span.shard]].append((span, digest_bytes(log_ref.object), offset))
            bands[by_digest[span.shard]] = (digest_bytes(band_ref.object), offset)
            offset += span.rows
        for name in names:
            documents = zip(shards[name], _rows(name, shards, digests, records=records), strict=True)
            kept_in[name] = [document for document, row in documents if row["action"] == "keep"]
    table = _shards_table(order, shards, digests, spans=spans, bands=bands, source=source)
    cleaned = {name: shard_digest(kept_in[name]) for name in shards}
    policy = {"duplicates": {"jaccard": jaccard}}
    whole = pa.concat_tables(logs)
    actions = Counter(whole["action"].to_pylist())
    draft = RunManifest(
        run_digest="",
        version="0.0.0",
        policy=policy,
        policy_digest=sha256_name(canonical_json(policy)),
        detectors=tuple(records),
        signature={"bands": BAND_COUNT},
        reader={"text_field": "text", "source": source},
        against=tuple(against),
        rows={"in": whole.num_rows, "kept": actions["keep"], "dropped": actions["drop"], "errored": actions["error"]},
        reasons=count_reasons(whole),
        sources=count_sources(whole),
        shards=_stored(ledger, table),
        flagged=_stored(ledger, _flagged(logs, records)),
        cleaned=_stored(ledger, _cleaned(order, digests, cleaned, kept_in=kept_in)) if clean else None,
        log=tuple(sorted(set(log_refs), key=lambda ref: ref.object)),
        bands=tuple(sorted(set(band_refs), key=lambda ref: ref.object)),
        absence_root=None,
        incomplete=tuple(incomplete),
        overflow=(),
        curve=({"jaccard": "0.8", "probability": "0.9"},),
        started=time,
        finished=time,
        environment={"runner": "none"},
    )
    listed = [(digest_name(row["shard"]), row["source"], row["rows"], digest_name(row["log_digest"])) for row in table.to_pylist()]
    digest = digest_name(merkle_root(run_digest_leaves(scope=run_scope(draft), shards=listed)))
    final = replace(draft, **{"run_digest": digest, **(manifest or {})})
    run = ledger.put_object(final.to_bytes())
    ledger.append(Entry(EntryKind.RUN, run, time, {"run_digest": digest, "rows": final.rows["in"]}))
    return World(ledger, run, final, digests, cleaned if clean else {})


def add_record(ledger: Ledger, value: Any, *, kind: EntryKind = EntryKind.LINEAGE, time: str = TIME) -> str:
    """Add an entry whose object is a canonical JSON document; gives the object's digest."""
    digest = ledger.put_object(canonical_json(value))
    ledger.append(Entry(kind, digest, time))
    return digest


def shard_digest(documents: Sequence[Document]) -> str:
    """The digest of a shard's file: its documents as JSONL."""
    return sha256_name(shard_bytes(documents))


def shard_bytes(documents: Sequence[Document]) -> bytes:
    """A shard's file: its documents as JSONL."""
    lines = (json.dumps({"text": one.text, "id": one.source_id, "source": one.source}) for one in documents)
    return "".join(line + "\n" for line in lines).encode()


def _rows(
    name: str, shards: Mapping[str, Sequence[Document]], digests: Mapping[str, str], *, records: Sequence[DetectorRecord]
) -> list[dict[str, Any]]:
    return [_row(name, n, shards, digests=digests, records=records) for n in range(len(shards[name]))]


def _row(
    name: str,
    n: int,
    shards: Mapping[str, Sequence[Document]],
    *,
    digests: Mapping[str, str],
    records: Sequence[DetectorRecord],
) -> dict[str, Any]:
    one = shards[name][n]
    action, reasons = _decided(one, records)
    keeper = shards[one.keeper[0]][one.keeper[1]] if one.keeper else None
    named = {record.name: record for record in records}
    size = len(one.text.encode()) if one.text is not None else 0
    return {
        "shard": digest_bytes(digests[name]),
        "row": n,
        "document": _document(one),
        "source_id": one.source_id,
        "source": one.source,
        "bytes": None if one.text is None else size,
        "words": None if one.text is None else len(one.text.split()),
        "action": action,
        "reasons": reasons,
        "keeper_document": _document(keeper) if keeper else None,
        "keeper_shard": digest_bytes(digests[one.keeper[0]]) if one.keeper else None,
        "keeper_row": one.keeper[1] if one.keeper else None,
        "intersection": one.shared[0] if one.shared else None,
        "union_size": one.shared[1] if one.shared else None,
        "cluster": min(_document(one) or b"", _document(keeper) or b"") if keeper else None,
        "evidence": [
            {
                "detector": digest_bytes(named[judge].digest),
                "label": "toxic",
                "score": score,
                "start": 0,
                "stop": size,
                "item": None,
            }
            for judge, score in one.scores.items()
        ],
    }


def _document(one: Document | None) -> bytes | None:
    return hashlib.sha256(one.text.encode()).digest() if one and one.text is not None else None


def _decided(one: Document, records: Sequence[DetectorRecord]) -> tuple[str, list[str]]:
    reasons, action = set(one.reasons), "keep"
    for record in records:
        threshold = record.threshold(one.source)
        score = one.scores.get(record.name, -1)
        if score >= threshold.flag:
            reasons.add(record.reason)
        if score >= threshold.drop and threshold.action == "drop":
            action = "drop"
    return one.action or action, sorted(reasons)


def _bands(rows: Sequence[Mapping[str, Any]]) -> pa.Table:
    """Two hashes for each row that has a text; equal texts have equal ones."""
    found = [
        (int.from_bytes(row["document"][8 * band : 8 * band + 8], "big"), position)
        for position, row in enumerate(rows)
        if row["document"] is not None
        for band in range(BAND_COUNT)
    ]
    found.sort()
    hashes = np.array([value for value, _ in found], dtype=np.uint64)
    return pa.table([hashes, np.array([position for _, position in found], dtype=np.uint32)], schema=BANDS)


def _flagged(logs: Sequence[pa.Table], records: Sequence[DetectorRecord]) -> pa.Table:
    whole = pa.concat_tables([flagged_rows(log, records) for log in logs]) if logs else FLAGGED.empty_table()
    return whole.sort_by([(name, "ascending") for name in ("shard", "row", "detector", "label")])


def _shards_table(
    order: Sequence[str],
    shards: Mapping[str, Sequence[Document]],
    digests: Mapping[str, str],
    *,
    spans: Mapping[str, Sequence[tuple[SpanSummary, bytes, int]]],
    bands: Mapping[str, tuple[bytes, int]],
    source: str,
) -> pa.Table:
    rows = []
    for name in order:
        own = [span for span, _, _ in spans[name]]
        places = [{"pack": p, "offset": at, "first_row": span.first_row, "rows": span.rows} for span, p, at in spans[name]]
        rows.append(
            {
                "shard": digest_bytes(digests[name]),
                "source": source,
                "documents_digest": documents_of(own),
                "log_digest": part_root(own),
                "rows": sum(span.rows for span in own),
                "kept": sum(span.kept for span in own),
                "dropped": sum(span.dropped for span in own),
                "errored": sum(span.errored for span in own),
                "bytes": len(shard_bytes(shards[name])),
                "format": "jsonl",
                "paths": [f"{name}.jsonl"],
                "log": places,
                "bands": [{"pack": bands[name][0], "offset": bands[name][1], "first_row": 0, "rows": place["rows"]} for place in places],
            }
        )
    return pa.Table.from_pylist(rows, schema=SHARDS)


def _cleaned(
    order: Sequence[str],
    digests: Mapping[str, str],
    cleaned: Mapping[str, str],
    *,
    kept_in: Mapping[str, Sequence[Document]],
) -> pa.Table:
    rows = [
        {
            "source": digest_bytes(digests[name]),
            "shard": digest_bytes(cleaned[name]),
            "rows": len(kept_in[name]),
            "path": f"clean/{name}.jsonl",
        }
        for name in order
    ]
    return pa.Table.from_pylist(rows, schema=CLEANED)


def _stored(ledger: Ledger, table: pa.Table) -> ObjectRef:
    data = parquet_bytes(table)
    return ObjectRef(ledger.put_object(data), len(data), table.num_rows)
