"""Packs: evidence of many rows in one file, and the roster that later steps look documents up in.

Always true here: a pack's rows have positions from 0; a span of it is consecutive rows of one shard, at most one aligned range of
2**20 rows; a document's number in a run is the pack's place in the sorted list of packs, then its position. A run may use
only some spans of a pack that an earlier run wrote. Packs of a run that this one is held against come after its own.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from forebear.schemas.errors import IntegrityError
from forebear.schemas.records import DetectorRecord, ObjectRef
from forebear.schemas.tables import DIGEST, EVIDENCE, read_parquet
from forebear.tracer.ledger.ledger import Ledger
from forebear.tracer.scan.plan import Plan
from forebear.tracer.scan.work import Work

__all__ = ["Pack", "Roster", "Rosters", "Shard", "Span", "build_roster", "numbers", "split_numbers"]

U64 = npt.NDArray[np.uint64]
I64 = npt.NDArray[np.int64]

POSITION_BITS = np.uint64(32)


@dataclass(frozen=True)
class Shard:
    """One file of the corpus: its digest, the paths it was given under, and how it is read."""

    digest: str
    paths: tuple[str, ...]
    bytes: int
    format: str

    @property
    def path(self) -> str:
        """Where it is read from."""
        return self.paths[0]

    def to_json(self) -> str:
        """As it travels between steps."""
        return json.dumps(dataclasses.asdict(self), sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> Shard:
        """The shard again."""
        value = json.loads(text)
        return cls(**{**value, "paths": tuple(value["paths"])})


@dataclass(frozen=True)
class Span:
    """`rows` consecutive rows of a shard from `first_row`, at positions from `offset` of their pack."""

    shard: str
    first_row: int
    rows: int
    offset: int


@dataclass(frozen=True)
class Pack:
    """A pack of evidence, as a reference.

    Args:
        name: Digest of all that the pack says (hex).
        evidence: SHA-256 of the evidence's bytes (hex), which is where it lies in the index.
        key: The evidence key it was made under.
        positions: Rows in it.
        spans: All its spans, by offset.
        ends: Shards that end in it: digest to {"rows": ..., "damage": message or None}.
        bands: The band table, where documents were signed.
        used: Shards of this run, with their paths; spans of others are passed over.
        reused: Whether an earlier run or job made it.
        earlier: The run (its manifest) that kept these documents, where they are those that this run is held against.
    """

    name: str
    evidence: str
    key: str
    positions: int
    spans: tuple[Span, ...]
    ends: Mapping[str, Mapping[str, Any]]
    bands: ObjectRef | None
    used: tuple[Shard, ...] = ()
    reused: bool = False
    transient: bool = False  # made while a source changed or went: never reused
    earlier: str = ""

    @property
    def evidence_path(self) -> str:
        """Where the evidence lies in the ledger's store."""
        return f"index/evidence/{self.evidence[:2]}/{self.evidence}"

    def active(self) -> tuple[Span, ...]:
        """The spans that this run uses."""
        used = {shard.digest for shard in self.used}
        return tuple(span for span in self.spans if span.shard in used)

    def to_json(self) -> str:
        """As it travels between steps."""
        return json.dumps(dataclasses.asdict(self), sort_keys=True)

    @classmethod
    def from_json(cls, text: str | bytes) -> Pack:
        """The reference again."""
        value = json.loads(text)
        value["spans"] = tuple(Span(**span) for span in value["spans"])
        value["used"] = tuple(Shard(**{**shard, "paths": tuple(shard["paths"])}) for shard in value["used"])
        value["bands"] = ObjectRef(**value["bands"]) if value["bands"] else None
        return cls(**value)


ROSTER = pa.schema(
    [
        pa.field("document", DIGEST),
        pa.field("bytes", pa.int64()),
        pa.field("shingles", pa.int64()),  # -1: not known, of a document that an earlier run kept
        pa.field("rank", pa.int32()),  # the source's priority, 0 first; -1 for what an earlier run kept
        pa.field("state", pa.uint8()),
    ]
)

ABSENT, DROPPED, SURVIVES = 0, 1, 2
"""State of a row: not compared (no token, an error, not of this run); dropped by another policy; a possible keeper."""


@dataclass(frozen=True)
class Roster:
    """What the total order and the pairing need of a pack's rows, by position; digests as n x 4 big-endian words."""

    document: U64
    bytes: I64
    shingles: I64
    rank: npt.NDArray[np.int32]
    state: npt.NDArray[np.uint8]


def build_roster(evidence: pa.Table, pack: Pack, plan: Plan) -> pa.Table:
    """Judge every row of a pack by the run's policies, duplicates apart."""
    n = evidence.num_rows
    dropped = np.zeros(n, dtype=bool)
    for _, record in plan.detectors:
        dropped |= _dropped_by(evidence, record)
    shingles = evidence["shingles"].fill_null(0).to_numpy()
    compared = (shingles > 0) & evidence["error"].is_null().to_numpy() & evidence["document"].is_valid().to_numpy()
    active = np.zeros(n, dtype=bool)
    for span in pack.active():
        active[span.offset : span.offset + span.rows] = True
    state = np.where(compared & active, np.where(dropped, DROPPED, SURVIVES), ABSENT).astype("u1")
    columns = [
        evidence["document"].combine_chunks().fill_null(bytes(32)),
        evidence["bytes"].fill_null(0),
        pa.array(shingles),
        pa.array(_ranks(evidence["source"], plan.policy.duplicates.prefer)),
        pa.array(state),
    ]
    return pa.table(columns, schema=ROSTER)


def _ranks(source: pa.ChunkedArray, prefer: Sequence[str]) -> npt.NDArray[np.int32]:
    encoded = source.combine_chunks().dictionary_encode()
    order = {name: place for place, name in enumerate(prefer)}
    by_code = np.array([order.get(name, len(prefer)) for name in encoded.dictionary.to_pylist()] + [len(prefer)], dtype="i4")
    codes = encoded.indices.fill_null(len(by_code) - 1).to_numpy()
    return by_code[codes]


def _dropped_by(evidence: pa.Table, record: DetectorRecord) -> npt.NDArray[np.bool_]:
    """Rows that a detector's evidence drops."""
    score, drop = best_scores(evidence, record), threshold_column(evidence["source"], record, "drop")
    return score >= drop


def best_scores(table: pa.Table, record: DetectorRecord) -> npt.NDArray[np.int16]:
    """Each row's highest score by a detector, -1 where it has none."""
    lists = table["evidence"].combine_chunks()
    items = lists.flatten()
    row = np.repeat(np.arange(len(lists)), lists.value_lengths().fill_null(0).to_numpy(zero_copy_only=False))
    mine = pc.equal(items.field("detector"), pa.scalar(bytes.fromhex(record.digest[7:]), DIGEST)).to_numpy(zero_copy_only=False)
    best = np.full(len(lists), -1, dtype="i2")
    np.maximum.at(best, row[mine], items.field("score").to_numpy(zero_copy_only=False)[mine])
    return best


def threshold_column(source: pa.ChunkedArray, record: DetectorRecord, which: str) -> npt.NDArray[np.int16]:
    """The threshold in force for every row, by its source; above every score where the detector only flags (drop)."""
    encoded = source.combine_chunks().dictionary_encode()

    def value(name: str | None) -> int:
        threshold = record.threshold(name)
        if which == "drop" and threshold.action != "drop":
            return 2**15 - 1
        return int(getattr(threshold, which)) if threshold.action != "off" else 2**15 - 1

    by_code = np.array([value(name) for name in encoded.dictionary.to_pylist()] + [value(None)], dtype="i2")
    return by_code[encoded.indices.fill_null(len(by_code) - 1).to_numpy()]


OPEN_ROWS = 1 << 21
"""Rosters of so many rows stay open at once: what bounds their share of a worker's memory."""


class Rosters:
    """The rosters of all packs of a run, opened as they are asked for; packs of earlier runs come last."""

    def __init__(self, packs: Sequence[Pack], work: Work) -> None:
        self.packs = sorted(packs, key=lambda pack: (pack.earlier != "", pack.name))
        self.own = sum(not pack.earlier for pack in self.packs)
        self._work = work
        self._open: dict[int, Roster] = {}
        self._lock = threading.Lock()
        digests = sorted({shard.digest for pack in self.packs for shard in pack.used})
        self.shard_rank = {digest: rank for rank, digest in enumerate(digests)}
        self.shard_digests = digests

    @cached_property
    def shards(self) -> dict[str, Shard]:
        """The shards of this run, by digest."""
        return {shard.digest: shard for pack in self.packs[: self.own] for shard in pack.used}

    def roster(self, n: int) -> Roster:
        """The roster of the n-th pack."""
        with self._lock:  # a worker may have several threads
            if n not in self._open:
                held = sum(len(roster.state) for roster in self._open.values())
                while self._open and held + self.packs[n].positions > OPEN_ROWS:
                    held -= len(self._open.pop(next(iter(self._open))).state)
                self._open[n] = _open_roster(self._work.get(roster_name(self.packs[n])))
            return self._open[n]

    def gather(self, documents: U64, *names: str) -> tuple[npt.NDArray[Any], ...]:
        """Columns for documents given by number, in any order; each roster is opened once."""
        pack, position = split_numbers(documents)
        out = [np.zeros((len(documents), *((4,) if name == "document" else ())), _KINDS[name]) for name in names]
        for n in np.unique(pack).tolist():
            roster, mine = self.roster(n), np.flatnonzero(pack == n)
            for column, name in zip(out, names, strict=True):
                column[mine] = getattr(roster, name)[position[mine]]
        return tuple(out)

    def rows(self, documents: U64) -> tuple[I64, I64]:
        """(rank of the shard's digest, row in the shard) of documents given by number."""
        pack, position = split_numbers(documents)
        shard, row = np.empty(len(documents), "i8"), np.empty(len(documents), "i8")
        for n in np.unique(pack).tolist():
            mine = pack == n
            spans = self.packs[n].spans
            offsets = np.array([span.offset for span in spans], dtype="i8")
            at = np.searchsorted(offsets, position[mine], side="right") - 1
            ranks = np.array([self.shard_rank.get(span.shard, -1) for span in spans], dtype="i8")
            firsts = np.array([span.first_row for span in spans], dtype="i8")
            shard[mine] = ranks[at]
            row[mine] = firsts[at] + position[mine] - offsets[at]
        return shard, row


_KINDS = {"document": "u8", "bytes": "i8", "shingles": "i8", "rank": "i4", "state": "u1"}


def roster_name(pack: Pack) -> str:
    """Where a pack's roster lies."""
    return f"rosters/{pack.name}"


def _open_roster(block: pa.Buffer) -> Roster:
    table = pa.ipc.open_file(block).read_all()
    documents = table["document"].chunk(0) if table.num_rows else pa.array([], DIGEST)
    words = np.frombuffer(documents.buffers()[1] or b"", dtype=">u8").reshape(-1, 4)[: table.num_rows]
    columns = {name: table[name].to_numpy() for name in ("bytes", "shingles", "rank", "state")}
    return Roster(document=words, **columns)


def put_roster(table: pa.Table, pack: Pack, work: Work) -> None:
    """Store a roster so that it can be read through a memory map."""
    sink = pa.BufferOutputStream()
    table = table.combine_chunks()
    with pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table)
    work.put(roster_name(pack), sink.getvalue())


def numbers(pack: int, positions: npt.NDArray[Any]) -> U64:
    """Document numbers of positions in the pack-th pack."""
    return np.uint64(pack) << POSITION_BITS | positions.astype("u8")


def split_numbers(documents: U64) -> tuple[I64, I64]:
    """(pack, position) of document numbers."""
    return (documents >> POSITION_BITS).astype("i8"), (documents & np.uint64(0xFFFFFFFF)).astype("i8")


def read_evidence(pack: Pack, ledger: Ledger) -> pa.Table:
    """The evidence of a pack, its digest checked."""
    data = ledger.store.get(pack.evidence_path)
    if hashlib.sha256(data).hexdigest() != pack.evidence:
        raise IntegrityError(
            "digest_mismatch",
            expected=f"evidence with SHA-256 {pack.evidence}",
            found="other bytes",
            remedy="Delete index/ in the ledger (it is a cache) and scan again.",
        )
    return read_parquet(data, EVIDENCE)
