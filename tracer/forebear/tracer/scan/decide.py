"""Decisions about duplicates for a whole run, handed to the packs they concern.

Always true here: what is decided depends on documents, sources, policy and edges alone, never on how packs were cut or which
worker measured what.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from forebear.schemas.errors import UsageError
from forebear.schemas.tables import DIGEST
from forebear.tracer.dedupe.clusters import Copies, Decided, Documents, decide
from forebear.tracer.dedupe.similarity import Edges
from forebear.tracer.scan.near import Measured, document_facts
from forebear.tracer.scan.packs import I64, U64, Rosters, split_numbers

__all__ = ["DECISION", "MOST_EDGES", "Verified", "decide_run", "require_decidable", "verified"]

DECISION = pa.schema(
    [
        pa.field("position", pa.int64()),
        pa.field("cluster", DIGEST),
        pa.field("keeper_document", DIGEST),
        pa.field("keeper_shard", DIGEST),
        pa.field("keeper_row", pa.int64()),
        pa.field("intersection", pa.int64()),
        pa.field("union_size", pa.int64()),
        pa.field("exact", pa.bool_()),
    ]
)
"""What a pack is told: rows that belong to a cluster, and the keeper of those that are duplicates (null: none)."""


@dataclass(frozen=True)
class Verified:
    """All that was measured in a run."""

    edges: Edges
    unmeasured: int
    unreached: U64


def verified(parts: Iterable[Measured]) -> Verified:
    """Measured parts as one; the same edge from two parts counts once."""
    parts = list(parts)
    require_decidable(sum(len(part.edges.left) for part in parts))
    columns = [
        np.concatenate([np.zeros(0, kind), *(getattr(part.edges, name) for part in parts)])
        for name, kind in (("left", "u8"), ("right", "u8"), ("intersection", "i8"), ("union", "i8"))
    ]
    order = np.lexsort((columns[1], columns[0]))
    columns = [column[order] for column in columns]
    left, right = columns[0], columns[1]
    new = np.ones(len(left), dtype=bool)
    new[1:] = (left[1:] != left[:-1]) | (right[1:] != right[:-1])
    unreached = np.unique(np.concatenate([np.zeros(0, "u8"), *(part.unreached for part in parts)]))
    return Verified(Edges(*(column[new] for column in columns)), sum(part.unmeasured for part in parts), unreached)


MOST_EDGES = 40_000_000
"""Verified edges that one worker decides over: measured 400 bytes each at the worst, with the documents they name (16 GB)."""


def require_decidable(edges: int) -> None:
    """Refuse a run whose duplicates do not fit into one worker, before it runs out of memory.

    Raises:
        UsageError: `too_many_edges`.
    """
    if edges > MOST_EDGES:
        raise UsageError(
            "too_many_edges",
            expected=f"at most {MOST_EDGES:,} verified pairs of near-duplicates in one run",
            found=f"{edges:,}",
            remedy="Scan the corpus in parts, each held against the runs of those before it (--against); finished evidence is reused.",
        )


def decide_run(edges: Edges, copies: Copies, rosters: Rosters) -> Iterator[tuple[int, pa.Table]]:
    """Decide; yields (place of the pack, its `DECISION` table sorted by position) for packs of this run."""
    named = np.unique(np.concatenate([edges.left, edges.right, copies.representative, copies.member]))
    if not len(named):
        return
    facts = document_facts(named, rosters)
    decided = decide(facts, edges, copies)
    pack, position = split_numbers(named)
    for n in np.unique(pack[pack < rosters.own]).tolist():
        mine = np.flatnonzero(pack == n)
        yield n, _table(position[mine], mine, decided, facts=facts, rosters=rosters)


def _table(position: I64, mine: I64, decided: Decided, *, facts: Documents, rosters: Rosters) -> pa.Table:
    keeper = decided.keeper[mine]
    none = keeper < 0
    at = np.where(none, 0, keeper)
    columns = [
        pa.array(position),
        _digests(facts.digest[decided.cluster[mine]]),
        _digests(facts.digest[at], none),
        _shard_digests(facts.shard[at], none, rosters),
        pa.array(facts.row[at], mask=none),
        pa.array(decided.intersection[mine], mask=none),
        pa.array(decided.union[mine], mask=none),
        pa.array(decided.exact[mine]),
    ]
    return pa.table(columns, schema=DECISION)


def _digests(words: U64, none: np.ndarray[tuple[int], np.dtype[np.bool_]] | None = None) -> pa.Array:
    raw = pa.py_buffer(np.ascontiguousarray(words.astype(">u8")).tobytes())
    validity = None if none is None else pa.py_buffer(np.packbits(~none, bitorder="little").tobytes())
    return pa.Array.from_buffers(DIGEST, len(words), [validity, raw])


def _shard_digests(ranks: I64, none: np.ndarray[tuple[int], np.dtype[np.bool_]], rosters: Rosters) -> pa.Array:
    every = pa.array([bytes.fromhex(digest[7:]) for digest in rosters.shard_digests], DIGEST)
    return every.take(pa.array(ranks, mask=none))
