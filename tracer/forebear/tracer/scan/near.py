"""Near-duplicates: candidates from the band tables, similarities measured.

Always true here: two documents are compared only where they share a band; a pair with no shingle set at hand is counted as unmeasured
and removes nothing; what is in memory at a time is bounded in pairs and in shingles.
"""

from __future__ import annotations

import dataclasses
import io
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from forebear.tracer.dedupe.bands import HashRange, read_range
from forebear.tracer.dedupe.clusters import Copies, Documents, total_order
from forebear.tracer.dedupe.leaders import COMPARISONS_PER_DOCUMENT, bucket_groups, lead
from forebear.tracer.dedupe.pairs import Buckets, Candidates, candidates, unique_pairs
from forebear.tracer.dedupe.similarity import Edges, measure
from forebear.tracer.ledger.ledger import Ledger
from forebear.tracer.ledger.store import Store
from forebear.tracer.scan.packs import ABSENT, I64, SURVIVES, U64, Pack, Rosters, numbers
from forebear.tracer.scan.plan import Plan
from forebear.tracer.scan.sets import load_sets, read_again
from forebear.tracer.scan.work import Work

__all__ = [
    "Measured",
    "document_facts",
    "find_candidates",
    "measure_group",
    "measure_pairs",
    "merge_candidates",
    "pair_chunks",
    "read_again",
]

CHUNK_PAIRS = 1 << 17
"""Pairs measured at a time, at most."""

CHUNK_SHINGLES = 1 << 24
"""Shingles of the pairs measured at a time (8 bytes each): what bounds the sets held in memory."""


def find_candidates(span: HashRange, rosters: Rosters, copies: Copies, *, plan: Plan, ledger: Ledger) -> Candidates:
    """Candidates among representatives whose band hashes lie in a range."""
    hashes, documents, sizes = [np.zeros(0, "u8")], [np.zeros(0, "u8")], [np.zeros(0, "i8")]
    copied = np.sort(copies.member)
    for n, pack in enumerate(rosters.packs):
        if pack.bands is None or not pack.bands.rows:
            continue
        found, positions = read_range(_open_bands(pack, ledger), span)
        roster = rosters.roster(n)
        mine = numbers(n, positions)
        alone = (roster.state[positions] != ABSENT) & ~_is_in(mine, copied)
        hashes.append(found[alone])
        documents.append(mine[alone])
        sizes.append(roster.shingles[positions[alone]])
    threshold = plan.policy.duplicates.threshold
    return candidates(np.concatenate(hashes), np.concatenate(documents), np.concatenate(sizes), threshold=threshold)


def _is_in(values: U64, ascending: U64) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
    if not len(ascending):
        return np.zeros(len(values), dtype=bool)
    at = np.minimum(np.searchsorted(ascending, values), len(ascending) - 1)
    return ascending[at] == values


def _open_bands(pack: Pack, ledger: Ledger) -> pq.ParquetFile:
    assert pack.bands is not None
    path = f"objects/sha256/{pack.bands.object[7:9]}/{pack.bands.object[7:]}"
    local = ledger.store.local_path(path)
    source = pa.memory_map(str(local)) if local is not None else pa.PythonFile(_Ranges(ledger.store, path, pack.bands.bytes), mode="r")
    return pq.ParquetFile(source, page_checksum_verification=True)


class _Ranges(io.RawIOBase):
    """An object of a bucket as a file: what is read is fetched, and no more."""

    def __init__(self, store: Store, path: str, size: int) -> None:
        super().__init__()
        self._store, self._path, self._size, self._at = store, path, size, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self._at = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence]
        return self._at

    def read(self, size: int = -1) -> bytes:
        length = self._size - self._at if size < 0 else size
        data = self._store.get_range(self._path, self._at, length)
        self._at += len(data)
        return data


def merge_candidates(found: Iterable[Candidates]) -> Candidates:
    """Candidates of several ranges as one: each pair once, pairs within a large bucket left to it."""
    left, right, hashes, members, lengths = [], [], [], [], []
    for part in found:
        left.append(part.left)
        right.append(part.right)
        hashes.append(part.large.hashes)
        members.append(part.large.members)
        lengths.append(np.diff(part.large.bounds))
    empty = np.zeros(0, "u8")
    pairs = unique_pairs(np.concatenate([empty, *left]), np.concatenate([empty, *right]))
    bounds = np.concatenate([[0], np.cumsum(np.concatenate([np.zeros(0, "i8"), *lengths]))]).astype("i8")
    return Candidates(*pairs, Buckets(np.concatenate([empty, *hashes]), bounds, np.concatenate([empty, *members])))


def needed(found: Candidates) -> U64:
    """Documents whose texts must be read again."""
    result: U64 = np.unique(np.concatenate([found.left, found.right, found.large.members]))
    return result


def pair_chunks(found: Candidates, rosters: Rosters) -> Iterator[tuple[U64, U64]]:
    """Pairs cut into chunks of bounded size, in number and in shingles, neighbours together."""
    documents = np.unique(np.concatenate([found.left, found.right]))
    shingles, size = rosters.gather(documents, "shingles", "bytes")
    cost = np.where(shingles < 0, size // 6, shingles)  # not known: about one for each word
    total = np.cumsum(cost[np.searchsorted(documents, found.left)] + cost[np.searchsorted(documents, found.right)])
    start = 0
    while start < len(found.left):
        before = int(total[start - 1]) if start else 0
        stop = int(np.searchsorted(total, before + CHUNK_SHINGLES, side="right"))
        stop = max(start + 1, min(stop, start + CHUNK_PAIRS))
        yield found.left[start:stop], found.right[start:stop]
        start = stop


@dataclass(frozen=True)
class Measured:
    """Verified edges, pairs that could not be measured, documents that a budget did not reach."""

    edges: Edges
    unmeasured: int
    unreached: U64


def measure_pairs(left: U64, right: U64, rosters: Rosters, *, plan: Plan, work: Work) -> Measured:
    """Measure a chunk of candidate pairs."""
    sets = load_sets(np.unique(np.concatenate([left, right])), rosters, work)
    edges, unmeasured = measure(left, right, sets, threshold=plan.policy.duplicates.threshold)
    return Measured(edges, unmeasured, np.zeros(0, "u8"))


def measure_group(group: tuple[U64, I64, I64], rosters: Rosters, *, plan: Plan, work: Work) -> Measured:
    """Work off a group of large buckets by leaders; in memory are the shingle sets of its leaders and of some documents more."""
    documents, place, bucket = group
    facts = document_facts(documents, rosters)
    limit, unmeasured = COMPARISONS_PER_DOCUMENT * len(documents), 0
    edges: list[Edges] = []
    unreached = [np.zeros(0, "u8")]
    leads = np.zeros(len(documents), dtype=bool)
    for chunk in _by_shingles(total_order(facts), facts):
        mine = np.zeros(len(documents), dtype=bool)
        mine[chunk] = True
        taken = np.flatnonzero(mine | leads)
        here = (mine | leads)[place]
        sets = load_sets(documents[taken], rosters, work)
        led = lead(
            documents[taken],
            (np.searchsorted(taken, place[here]).astype("i8"), bucket[here]),
            order=total_order(_part(facts, taken)),
            survives=facts.survives[taken],
            stays=leads[taken] | (facts.rank[taken] < 0),
            sets=sets,
            threshold=plan.policy.duplicates.threshold,
            limit=limit,
        )
        edges.append(led.edges)
        unreached.append(led.unreached)
        unmeasured += int((sets.places(documents[chunk]) < 0).sum())
        limit -= led.spent
        leads[np.searchsorted(documents, led.leaders)] = True
    columns = (np.concatenate([getattr(one, name) for one in edges]) for name in ("left", "right", "intersection", "union"))
    return Measured(Edges(*columns), unmeasured, np.concatenate(unreached))


def _by_shingles(order: I64, facts: Documents) -> Iterator[I64]:
    """The total order cut into pieces whose shingles are about as many as those of a chunk of pairs."""
    cost = np.where(facts.shingles < 0, facts.bytes // 6, facts.shingles)[order]
    piece = np.cumsum(cost) // CHUNK_SHINGLES
    yield from np.split(order, np.flatnonzero(np.diff(piece)) + 1)


def _part(facts: Documents, places: I64) -> Documents:
    return Documents(**{field.name: getattr(facts, field.name)[places] for field in dataclasses.fields(facts)})


def document_facts(documents: U64, rosters: Rosters) -> Documents:
    """What deciding needs of documents given by number (ascending)."""
    shard, row = rosters.rows(documents)
    rank, size, digest, state, shingles = rosters.gather(documents, "rank", "bytes", "document", "state", "shingles")
    return Documents(documents, rank.astype("i8"), size, digest, shard, row, state == SURVIVES, shingles)


def groups(found: Candidates) -> Sequence[tuple[U64, I64, I64]]:
    """Large buckets that share documents, together."""
    return bucket_groups(found.large)
