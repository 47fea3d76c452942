"""Near-duplicates: candidates from the band tables, the texts that are needed read again, similarities measured.

Always true here: a text is read again only where it has a candidate; a source that is gone or changed leaves its pairs
unmeasured, which is counted and removes nothing; shingle sets lie in storage by pack, in blocks, ascending by position.
"""

from __future__ import annotations

import dataclasses
import hashlib
import io
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from forebear.schemas.errors import DataError
from forebear.tracer.corpus.inputs import ReaderOptions
from forebear.tracer.corpus.rows import Source, read_texts
from forebear.tracer.dedupe.bands import HashRange, read_range
from forebear.tracer.dedupe.clusters import Copies, Documents, total_order
from forebear.tracer.dedupe.leaders import COMPARISONS_PER_DOCUMENT, bucket_groups, lead
from forebear.tracer.dedupe.pairs import Buckets, Candidates, candidates, unique_pairs
from forebear.tracer.dedupe.shingles import shingle_sets
from forebear.tracer.dedupe.similarity import Edges, SetTable, measure
from forebear.tracer.ledger.ledger import Ledger
from forebear.tracer.ledger.store import Store
from forebear.tracer.scan.packs import ABSENT, I64, SURVIVES, U64, Pack, Roster, Rosters, Shard, Span, numbers, split_numbers
from forebear.tracer.scan.plan import Plan
from forebear.tracer.scan.work import Work

__all__ = [
    "Measured",
    "document_facts",
    "find_candidates",
    "load_sets",
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

BLOCK_SHINGLES = 1 << 22
"""A block of shingle sets is stored once it holds so many."""


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


def read_again(pack: Pack, positions: I64, reader: ReaderOptions, *, plan: Plan, work: Work, roster: Roster | None = None) -> int:
    """Shingle sets of some rows of a pack, from their sources, into the work place.

    Args:
        pack: The pack.
        positions: Ascending.
        reader: How its sources were read.
        plan: The scan's plan.
        work: Where the sets go.
        roster: Where it is given, texts that are not those it names are left out.

    Returns:
        How many rows could not be read as they were.
    """
    sets = _SetBlocks(pack, work)
    for span, shard in _spans_of(pack, positions):
        wanted = positions[(positions >= span.offset) & (positions < span.offset + span.rows)] - span.offset + span.first_row
        try:
            source = Source.from_path(shard.path)
            if source.sha256() != shard.digest:
                continue
            for rows, texts in read_texts(source, options=reader, wanted=wanted):
                at = rows - span.first_row + span.offset
                if roster is not None:
                    same = _are_named(texts, roster.document[at])
                    at, texts = at[same], texts.filter(pa.array(same))
                sets.add(at, *shingle_sets(texts, plan.signature.shingles))  # type: ignore[union-attr]
        except DataError:
            continue  # gone: its pairs stay unmeasured
    sets.flush()
    return len(positions) - sets.rows


def _are_named(texts: pa.Array, named: U64) -> npt.NDArray[np.bool_]:
    """Whether texts have the digests that a roster names."""
    found = [b"" if text is None else hashlib.sha256(text.encode()).digest() for text in texts.to_pylist()]
    raw = np.ascontiguousarray(named).astype(">u8").tobytes()
    return np.array([one == raw[32 * n : 32 * n + 32] for n, one in enumerate(found)], dtype=bool)


class _SetBlocks:
    """Shingle sets of a pack on their way into the work place, in blocks of bounded size named by their first and last position."""

    def __init__(self, pack: Pack, work: Work) -> None:
        self._folder, self._work = _sets_folder(pack), work
        self.rows = 0
        self._parts: list[tuple[I64, I64, U64]] = []
        self._size = 0

    def add(self, at: I64, bounds: I64, values: U64) -> None:
        """Sets of rows at ascending positions; set k is values[bounds[k]:bounds[k + 1]]."""
        if not len(at):
            return
        self._parts.append((at.astype("i8"), np.diff(bounds).astype("i8"), values))
        self.rows += len(at)
        self._size += len(values)
        if self._size >= BLOCK_SHINGLES:
            self.flush()

    def flush(self) -> None:
        """Store what there is: the count, the positions, the bounds, the values, 8 bytes each."""
        if not self._parts:
            return
        at = np.concatenate([part[0] for part in self._parts])
        assert (np.diff(at) > 0).all(), "spans come by offset and rows ascend"
        ends = np.concatenate([[0], np.cumsum(np.concatenate([part[1] for part in self._parts]))]).astype("i8")
        pieces = [np.array([len(at)], "i8"), at, ends, *(part[2] for part in self._parts)]
        self._work.put(f"{self._folder}/{at[0]:010}-{at[-1]:010}", b"".join(piece.tobytes() for piece in pieces))
        self._parts, self._size = [], 0


def _sets_folder(pack: Pack) -> str:
    return f"sets/{pack.name}"


def _spans_of(pack: Pack, positions: I64) -> Iterator[tuple[Span, Shard]]:
    shards = {shard.digest: shard for shard in pack.used}
    for span in sorted(pack.active(), key=lambda span: span.offset):
        low, high = np.searchsorted(positions, [span.offset, span.offset + span.rows])
        if low < high:
            yield span, shards[span.shard]


def load_sets(documents: U64, rosters: Rosters, work: Work) -> SetTable:
    """Shingle sets of documents given by number (ascending); those that could not be read again are left out."""
    pack, position = split_numbers(documents)
    found, lengths, values = [np.zeros(0, "u8")], [np.zeros(1, "i8")], [np.zeros(0, "u8")]
    for n in np.unique(pack).tolist():
        for at, length, sets in _load_blocks(position[pack == n], rosters.packs[n], work):
            found.append(numbers(n, at))
            lengths.append(length)
            values.append(sets)
    bounds = np.cumsum(np.concatenate(lengths))
    return SetTable(np.concatenate(found), bounds, np.concatenate(values))


def _load_blocks(wanted: I64, pack: Pack, work: Work) -> Iterator[tuple[I64, I64, U64]]:
    """(positions, lengths, sets) of the wanted positions, block by block; only blocks that may hold some are opened."""
    for name in work.names(_sets_folder(pack)):
        first, last = (int(part) for part in name.rpartition("/")[2].split("-"))
        mine = wanted[np.searchsorted(wanted, first) : np.searchsorted(wanted, last, side="right")]
        if not len(mine):
            continue
        block = np.frombuffer(work.get(name), dtype="i8")
        count = int(block[0])
        at, ends, sets = block[1 : 1 + count], block[1 + count : 2 + 2 * count], block[2 + 2 * count :].view("u8")
        place = np.minimum(np.searchsorted(at, mine), count - 1)
        place = place[at[place] == mine]
        lengths = ends[place + 1] - ends[place]
        yield at[place], lengths, _ragged(sets, ends[place], lengths)


def _ragged(values: U64, starts: I64, lengths: I64) -> U64:
    """values[starts[k]:starts[k] + lengths[k]] for all k, end to end."""
    total = int(lengths.sum())
    ends = np.cumsum(lengths)
    index = np.arange(total) - np.repeat(ends - lengths, lengths) + np.repeat(starts, lengths)
    return values[index]


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
