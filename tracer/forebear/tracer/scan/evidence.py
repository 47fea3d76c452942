"""Evidence: what detectors and signatures say of a group of shards, as packs.

Always true here: evidence depends on the shards' bytes, the reader's options and the detectors alone, never on the run; every row
of a shard is in exactly one span; damage costs its own rows and is said. A finished pack is entered in the index, from which a
later run, or the same one after its death, takes it up once its bytes have proved to be those that were written.
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from forebear.schemas.canonical import canonical_json
from forebear.schemas.enums import Reason
from forebear.schemas.errors import DataError, IntegrityError
from forebear.schemas.records import ObjectRef
from forebear.schemas.tables import DIGEST, EVIDENCE, EVIDENCE_ITEM, parquet_bytes
from forebear.tracer.corpus.batch import unreadable_rest
from forebear.tracer.corpus.rows import Batch, Source, read_rows
from forebear.tracer.dedupe.bands import band_table
from forebear.tracer.dedupe.shingles import text_buffers
from forebear.tracer.dedupe.signatures import sketch
from forebear.tracer.detect.detector import Findings
from forebear.tracer.detect.row_detector import Rows, findings_of
from forebear.tracer.ledger.ledger import Ledger
from forebear.tracer.ledger.parts import RANGE_ROWS
from forebear.tracer.scan.packs import Pack, Shard, Span, read_evidence
from forebear.tracer.scan.plan import Plan

__all__ = ["PACK_BYTES", "gather_evidence", "judge", "reusable_packs", "reuse", "warm_up"]

PACK_BYTES = 256 << 20
"""A pack is closed once the shards in it reach this many bytes, or an aligned range of 2**20 rows ends."""

ALONE_BYTES = 64 << 20
"""A shard of this many bytes or more shares no pack."""


def gather_evidence(shards: Sequence[Shard], plan: Plan, ledger: Ledger) -> Iterator[Pack]:
    """Read, score and sign shards in order; yields each pack once it is stored and entered in the index."""
    build = _Builder(plan, ledger)
    for shard in shards:
        yield from _gather_shard(shard, build, plan)
    yield from build.flush()


def _gather_shard(shard: Shard, build: _Builder, plan: Plan) -> Iterator[Pack]:
    if shard.bytes >= ALONE_BYTES:
        yield from build.flush()  # a large shard's packs hold nothing else, so that they can be reused together
    build.begin(shard)
    try:
        source = Source.from_path(shard.path, expected=shard.digest)
        for batch in read_rows(source, options=plan.reader, missing_ok=True):
            for piece in _aligned(batch, RANGE_ROWS):
                build.add(piece)
                if build.shard_rows % RANGE_ROWS == 0:
                    yield from build.flush()
    except DataError as error:
        # The bytes were there when the shard was named, and are not any more: the rest is one row that says so.
        build.add(unreadable_rest(build.shard_rows, str(error), source=plan.reader.source))
        build.transient = True
    yield from build.end()


def _aligned(batch: Batch, every: int) -> Iterator[Batch]:
    """A batch cut where an aligned range of rows ends."""
    start, n = 0, len(batch)
    while start < n:
        stop = min(n, start + every - (batch.first_row + start) % every)
        texts, ids, source, error = (
            column.slice(start, stop - start) for column in (batch.texts, batch.source_id, batch.source, batch.error)
        )
        yield Batch(batch.first_row + start, texts, ids, source, error, batch.damage if stop == n else None)
        start = stop


@dataclass
class _Builder:
    """Rows of the pack that is being made."""

    plan: Plan
    ledger: Ledger
    positions: int = 0
    bytes: int = 0
    shard_rows: int = 0
    _tables: list[pa.Table] = field(default_factory=list)
    _bands: list[npt.NDArray[np.uint64]] = field(default_factory=list)
    _spans: list[Span] = field(default_factory=list)
    _used: list[Shard] = field(default_factory=list)
    _ends: dict[str, dict[str, Any]] = field(default_factory=dict)
    transient: bool = False
    _damage: str | None = None
    _span_start: int = 0

    def begin(self, shard: Shard) -> None:
        """Rows of this shard follow."""
        self._used.append(shard)
        self.shard_rows, self._span_start, self._damage = 0, self.positions, None

    def add(self, batch: Batch) -> None:
        """Judge and keep some rows."""
        table, bands = judge(batch, self.plan)
        self._tables.append(table)
        if bands is not None:
            self._bands.append(bands)
        self.positions += table.num_rows
        self.shard_rows += table.num_rows
        self._damage = batch.damage or self._damage

    def end(self) -> Iterator[Pack]:
        """No more rows of this shard."""
        shard = self._used[-1]
        self._ends[shard.digest] = {"rows": self.shard_rows, "damage": self._damage}
        self._close_span()
        self.bytes += shard.bytes
        if self.bytes >= PACK_BYTES:
            yield from self.flush()

    def flush(self) -> Iterator[Pack]:
        """Store the pack, if there is anything in it."""
        self._close_span()
        if not self._used:
            return
        evidence = pa.concat_tables(self._tables) if self._tables else EVIDENCE.empty_table()
        data = parquet_bytes(evidence)
        evidence_digest = hashlib.sha256(data).hexdigest()
        pack = Pack(
            name=_pack_name(self.plan.evidence_key, evidence_digest, self._spans, self._ends),
            evidence=evidence_digest,
            key=self.plan.evidence_key,
            positions=evidence.num_rows,
            spans=tuple(self._spans),
            ends=dict(self._ends),
            bands=self._store_bands(evidence),
            used=tuple(self._used),
            transient=self.transient,
        )
        self.ledger.store.put(pack.evidence_path, data)
        if not pack.transient:
            self.ledger.store.put(_index_name(pack), pack.to_json().encode())
        open_shard = self._used[-1] if self._used[-1].digest not in self._ends else None
        self._reset(open_shard)
        yield pack

    def _store_bands(self, evidence: pa.Table) -> ObjectRef | None:
        if self.plan.signature is None:
            return None
        bands = np.concatenate(self._bands) if self._bands else np.zeros((0, self.plan.signature.bands), "u8")
        comparable = (evidence["shingles"].fill_null(0).to_numpy() > 0) & evidence["error"].is_null().to_numpy()
        data = parquet_bytes(band_table(bands, comparable))
        return ObjectRef(self.ledger.put_object(data), len(data), int(comparable.sum()) * bands.shape[1])

    def _close_span(self) -> None:
        rows = self.positions - self._span_start
        if rows and self._used:
            self._spans.append(Span(self._used[-1].digest, self.shard_rows - rows, rows, self._span_start))
        self._span_start = self.positions

    def _reset(self, open_shard: Shard | None) -> None:
        self._tables, self._bands, self._spans, self._ends = [], [], [], {}
        self._used = [open_shard] if open_shard else []
        self.positions, self._span_start, self.bytes, self.transient = 0, 0, 0, False


def _pack_name(key: str, evidence: str, spans: Sequence[Span], ends: dict[str, dict[str, Any]]) -> str:
    """Names a pack by all that it says: two shards with the same rows still make two packs."""
    described = {"key": key, "evidence": evidence, "spans": [list(vars(span).values()) for span in spans], "ends": ends}
    return hashlib.sha256(canonical_json(described)).hexdigest()


def warm_up(plan: Plan) -> None:
    """Load the models and compile or load the kernels, on one short text."""
    column = pa.array(["One short text, to begin with."], pa.large_string())
    nothing = pa.nulls(1, pa.string())
    judge(Batch(0, column, nothing, nothing, nothing), plan)


def judge(batch: Batch, plan: Plan) -> tuple[pa.Table, npt.NDArray[np.uint64] | None]:
    """Evidence of a batch of rows, and its band hashes (n x bands) where documents are signed."""
    errors = batch.error
    text_bytes, documents = _documents(batch.texts)
    rows = Rows(batch.texts, documents, batch.source_id, batch.source)
    findings: dict[str, Findings] = {}
    for detector, _ in plan.detectors:
        found = findings_of(detector, rows, findings)
        findings[detector.digest] = found
        errors = _with_failures(errors, found)
    evidence = _evidence_column([(bytes.fromhex(digest[7:]), found) for digest, found in findings.items()], errors)
    words, shingles, bands = _signed(batch.texts, plan)
    table = pa.table(
        [
            documents,
            batch.source_id,
            batch.source,
            text_bytes,
            pa.array(words, mask=_mask(batch.texts)),
            pa.array(shingles, mask=_mask(batch.texts)),
            errors,
            evidence,
        ],
        schema=EVIDENCE,
    )
    return table, bands


def _mask(texts: pa.Array) -> npt.NDArray[np.bool_]:
    mask: npt.NDArray[np.bool_] = texts.is_null().to_numpy(zero_copy_only=False)
    return mask


def _signed(texts: pa.Array, plan: Plan) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], npt.NDArray[np.uint64] | None]:
    """Words, distinct shingles and, where documents are signed, band hashes."""
    if plan.signature is None:
        counted = sketch(texts)
        return counted.words, counted.shingles, None
    signed = sketch(texts, plan.signature)
    return signed.words, signed.shingles, signed.bands


def _documents(texts: pa.Array) -> tuple[pa.Array, pa.Array]:
    """Bytes and SHA-256 of each text's UTF-8; null for null."""
    data, offsets = text_buffers(texts)
    view, bounds = data.data, offsets.tolist()
    sha256 = hashlib.sha256
    packed = b"".join([sha256(view[start:stop]).digest() for start, stop in itertools.pairwise(bounds)])
    digests = pa.Array.from_buffers(DIGEST, len(texts), [_validity(texts), pa.py_buffer(packed)])
    return pa.array(np.diff(offsets), mask=_mask(texts)), digests


def _validity(texts: pa.Array) -> pa.Buffer | None:
    return pa.py_buffer(np.packbits(~_mask(texts), bitorder="little").tobytes()) if texts.null_count else None


def _with_failures(errors: pa.Array, found: Findings) -> pa.Array:
    if not found.failed:
        return errors
    values = errors.to_pylist()
    for position in found.failed:
        values[position] = values[position] or Reason.DETECTOR_FAILED.value
    return pa.array(values, pa.string())


def _evidence_column(findings: Iterable[tuple[bytes, Findings]], errors: pa.Array) -> pa.Array:
    """The list of evidence of every row; rows with an error have none."""
    n = len(errors)
    sound: npt.NDArray[np.bool_] = errors.is_null().to_numpy(zero_copy_only=False)
    tables = []
    for digest, found in findings:
        keep = sound[found.index]
        tables.append(_finding_table(digest, found).filter(pa.array(keep)))
    if not tables:
        return pa.array([[]] * n, EVIDENCE.field("evidence").type)
    table = pa.concat_tables(tables).combine_chunks()
    index = table["index"].to_numpy()
    if len(tables) > 1:
        order = np.argsort(index, kind="stable")
        table, index = table.take(pa.array(order)).combine_chunks(), index[order]
    offsets = np.searchsorted(index, np.arange(n + 1)).astype("i4")
    names: list[str] = [f.name for f in EVIDENCE_ITEM]
    chunks = [table[name].chunk(0) if table.num_rows else pa.array([], EVIDENCE_ITEM.field(name).type) for name in names]
    items = pa.StructArray.from_arrays(chunks, fields=list(EVIDENCE_ITEM))
    return pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), items, type=EVIDENCE.field("evidence").type)


def _finding_table(digest: bytes, found: Findings) -> pa.Table:
    n = len(found)
    label = pa.repeat(pa.scalar(found.label), n) if isinstance(found.label, str) else pa.array(found.label, pa.string())
    item = pa.nulls(n, pa.string()) if found.item is None else pa.array(found.item, pa.string())
    columns = {
        "index": pa.array(found.index),
        "detector": pa.repeat(pa.scalar(digest, DIGEST), n),
        "label": label,
        "score": pa.array(found.score),
        "start": pa.array(found.start),
        "stop": pa.array(found.stop),
        "item": item,
    }
    return pa.table(columns)


def _index_name(pack: Pack) -> str:
    return f"index/packs/{pack.key}/{pack.name}.json"


def reusable_packs(plan: Plan, ledger: Ledger) -> dict[str, list[str]]:
    """What the index offers under the plan's evidence key: shard digest to the names of the packs that hold all of it."""
    offered: dict[str, list[Pack]] = {}
    for path, _ in ledger.store.list(f"index/packs/{plan.evidence_key}"):
        try:
            pack = Pack.from_json(ledger.store.get(path))
        except (ValueError, KeyError, TypeError):
            continue  # a cache: an entry that cannot be read offers nothing
        for digest in {span.shard for span in pack.spans} | set(pack.ends):
            offered.setdefault(digest, []).append(pack)
    return {digest: names for digest, packs in offered.items() if (names := _whole(digest, packs))}


def _whole(digest: str, packs: list[Pack]) -> list[str]:
    """The packs that hold every row of a shard once: one of them, or several that hold nothing else."""
    packs = sorted(packs, key=lambda pack: pack.name)
    for pack in packs:
        rows = sum(span.rows for span in pack.spans if span.shard == digest)
        if digest in pack.ends and pack.ends[digest]["rows"] == rows:
            return [pack.name]
    alone = {pack.spans[0].first_row: pack for pack in packs if {span.shard for span in pack.spans} == {digest}}
    row = 0
    names: list[str] = []
    while row in alone:
        pack = alone[row]
        row, names = row + pack.positions, [*names, pack.name]
        if digest in pack.ends:
            return names
    return []


def reuse(name: str, shards: Sequence[Shard], plan: Plan, ledger: Ledger) -> Pack | None:
    """A pack of the index for these shards, once its bytes have proved sound; None where they have not."""
    try:
        pack = Pack.from_json(ledger.store.get(f"index/packs/{plan.evidence_key}/{name}.json"))
        read_evidence(pack, ledger)
        if pack.bands is not None:
            ledger.get_object(pack.bands.object)
    except (IntegrityError, OSError, KeyError, ValueError):
        return None
    used = {shard.digest: shard for shard in shards}
    held = {span.shard for span in pack.spans} | set(pack.ends)
    return Pack(**{**vars(pack), "used": tuple(used[digest] for digest in sorted(used) if digest in held), "reused": True})
