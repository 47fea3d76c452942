"""Verdicts at the scale of a public model hub: opening, one trace, one recall.

Run by hand: `python tests/benchmarks/lineage_scale.py [SCALE]` (1.0: 2.5 M models, 3.3 M relations, 100 k shards, a hub with
10^5 children, a chain 5,000 deep). Text is not needed: runs are written with flagged tables only, as a scan would leave them.
"""

from __future__ import annotations

import hashlib
import resource
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from forebear.schemas.digests import digest_name, sha256_name
from forebear.schemas.enums import EntryKind
from forebear.schemas.records import DetectorRecord, Entry, ObjectRef, RunManifest, Threshold
from forebear.schemas.tables import FLAGGED, LOG, SHARDS, parquet_bytes
from forebear.tracer.audit.session import Session
from forebear.tracer.ledger.ledger import Ledger
from forebear.tracer.lineage.document import LineageDocument, NodeTable, RelationTable, ShardTable

SCALE = float(sys.argv[1]) if len(sys.argv) > 1 else 1.0
MODELS, RELATIONS, SHARDS_COUNT = int(2_500_000 * SCALE), int(3_300_000 * SCALE), max(100, int(100_000 * SCALE))
DATASETS, ROWS, FLAGGED_SHARE, HUB, CHAIN = (
    max(50, int(20_000 * SCALE)),
    500,
    0.01,
    int(100_000 * SCALE),
    int(5_000 * min(1, SCALE * 2)),
)


def main() -> None:
    """Build the ledger, then time opening, traces and a recall."""
    rng = np.random.default_rng(7)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "ledger"
        ledger = Ledger.open(path, create=True)
        shards = [hashlib.sha256(str(n).encode()).digest() for n in range(SHARDS_COUNT)]
        add_run(ledger, shards, rng)
        add_lineage(ledger, shards, rng)
        size = sum(one.stat().st_size for one in path.rglob("*") if one.is_file())
        print(f"{MODELS:,} models, {RELATIONS:,} relations, {SHARDS_COUNT:,} shards of {ROWS} rows, ledger {size / 1e6:,.0f} MB")
        del ledger
        session, _ = timed("open: lineage", lambda: opened(path))
        timed("open: runs and default question", lambda: session.walker(session.default))
        for name in ("chain", "hub's child", "random"):
            model = {"chain": f"name:m{CHAIN - 1}", "hub's child": f"name:m{CHAIN + 10}", "random": f"name:m{MODELS - 1}"}[name]
            trace, _ = timed(f"trace: {name}", lambda model=model: session.trace(model))
            print(f"    {trace.verdict.value}, {len(trace.exposures)} exposures, {len(trace.unknown)} unknown")
        recalled, _ = timed("recall of one shard", lambda: session.impact([digest_name(shards[0])]))
        print(f"    {len(recalled.models):,} models reached")
        print(f"peak memory {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6:.2f} GB (with building)")


def opened(path: Path) -> Session:
    """A session with its graph."""
    session = Session.open(path)
    assert session.graph.ids
    return session


def timed(what: str, do: Callable[[], Any]) -> tuple[Any, float]:
    """Do it and say how long it took."""
    start, worked = time.perf_counter(), time.process_time()
    result = do()
    seconds = time.perf_counter() - start
    print(f"{what}: {seconds:.2f} s ({time.process_time() - worked:.2f} s of processor)")
    return result, seconds


def stored(ledger: Ledger, table: pa.Table) -> ObjectRef:
    """A table as an object."""
    data = parquet_bytes(table)
    return ObjectRef(ledger.put_object(data), len(data), len(table))


def add_run(ledger: Ledger, shards: list[bytes], rng: np.random.Generator) -> None:
    """A run over all shards, without its log."""
    n = len(shards)
    digest = pa.array(sorted(shards), pa.binary(32))
    zeros, rows = pa.array(np.zeros(n, "i8")), pa.array(np.full(n, ROWS))
    columns = {"shard": digest, "documents_digest": digest, "log_digest": digest, "rows": rows, "kept": rows, "bytes": rows}
    columns |= {"dropped": zeros, "errored": zeros, "source": pa.array([""] * n), "format": pa.array(["jsonl"] * n)}
    columns |= {name: pa.array([[]] * n, SHARDS.field(name).type) for name in ("paths", "bands")}
    pack = one_pack(ledger)
    span = {"pack": bytes.fromhex(pack.object[7:]), "offset": 0, "first_row": 0, "rows": ROWS}
    columns["log"] = pa.array([[span]] * n, SHARDS.field("log").type)
    table = pa.table([columns[name] for name in SHARDS.names], schema=SHARDS)
    record = DetectorRecord(sha256_name(b"d"), "toxicity", "toxicity", "1", "toxic", {}, {"": Threshold(820, 820, "drop")})
    count = int(n * ROWS * FLAGGED_SHARE)
    at = np.sort(rng.choice(n * ROWS, count, replace=False))
    documents = rng.bytes(32 * count)
    flagged = {
        "shard": digest.take(pa.array(at // ROWS)),
        "row": pa.array(at % ROWS),
        "document": pa.FixedSizeBinaryArray.from_buffers(pa.binary(32), count, [None, pa.py_buffer(documents)]),
        "source": pa.nulls(count, pa.string()),
        "words": pa.array(np.full(count, 400)),
        "action": pa.array(["drop"] * count),
        "reasons": pa.array([["toxic"]] * count, FLAGGED.field("reasons").type),
        "detector": pa.array([bytes.fromhex(record.digest[7:])] * count, pa.binary(32)),
        "category": pa.array(["toxicity"] * count),
        "label": pa.array(["toxic"] * count),
        "item": pa.nulls(count, pa.string()),
        "score": pa.array(np.full(count, 900, "i2")),
        "flag": pa.array(np.full(count, 820, "i2")),
    }
    counts = {"in": n * ROWS, "kept": n * ROWS - count, "dropped": count, "errored": 0}
    manifest = RunManifest(
        run_digest=sha256_name(b"run"), version="0", policy={}, policy_digest=sha256_name(b"p"), detectors=(record,),
        signature=None, reader={}, against=(), rows=counts, reasons={"toxic": count}, sources={}, shards=stored(ledger, table),
        flagged=stored(ledger, pa.table([flagged[name] for name in FLAGGED.names], schema=FLAGGED)), cleaned=None, log=(pack,),
        bands=(), absence_root=None, incomplete=(), overflow=(), curve=(), started="t", finished="t", environment={},
    )  # fmt: skip
    ledger.append(Entry(EntryKind.RUN, ledger.put_object(manifest.to_bytes()), "t"))


def one_pack(ledger: Ledger) -> ObjectRef:
    """The log of one shard, which stands for that of every shard here: a recall reads its documents."""
    rows = [
        dict.fromkeys(LOG.names)
        | {
            "shard": bytes(32),
            "row": n,
            "document": hashlib.sha256(b"%d" % n).digest(),
            "action": "keep",
            "reasons": [],
            "evidence": [],
        }
        for n in range(ROWS)
    ]
    return stored(ledger, pa.Table.from_pylist(rows, LOG))


def add_lineage(ledger: Ledger, shards: list[bytes], rng: np.random.Generator) -> None:
    """A chain, a hub, and a forest whose models grow from earlier ones, the popular ones more."""
    names = [f"m{n}" for n in range(MODELS)]
    nothing: list[Any] = [None] * MODELS
    models = NodeTable(MODELS, list(names), nothing, nothing, nothing, ["closed"] * MODELS)
    parents = np.maximum(0, (np.arange(MODELS) * rng.power(0.5, MODELS)).astype("i8") - 1)
    parents[1:CHAIN] = np.arange(CHAIN - 1)
    parents[CHAIN : CHAIN + HUB] = 0
    weights = RelationTable("finetuned_from", "model", "model", list(range(1, MODELS)), parents[1:].tolist())
    left = RELATIONS - MODELS + 1
    consumers = np.unique(rng.integers(0, MODELS, left))
    trained = RelationTable("trained_on", "model", "dataset", consumers.tolist(), rng.integers(1, DATASETS, len(consumers)).tolist())
    made = RelationTable(
        "generated_by",
        "dataset",
        "model",
        list(range(1, DATASETS, 10)),
        rng.integers(0, MODELS, len(range(1, DATASETS, 10))).tolist(),
    )
    none: list[Any] = [None] * DATASETS
    datasets = NodeTable(DATASETS, [f"d{n}" for n in range(DATASETS)], none, none, none, ["closed"] * DATASETS)
    listed = [digest_name(one) for one in shards]
    which = [n % DATASETS for n in range(len(shards))]
    order = np.argsort(which, kind="stable").tolist()
    whole: list[Any] = [None] * len(shards)
    table = ShardTable([which[n] for n in order], [listed[n] for n in order], whole, whole, whole)
    start = RelationTable("trained_on", "model", "dataset", [0], [0])
    document = LineageDocument(models, datasets, [weights, trained, made, start], table)
    ledger.append(Entry(EntryKind.LINEAGE, ledger.put_object(document.to_bytes()), "t"))


if __name__ == "__main__":
    main()
