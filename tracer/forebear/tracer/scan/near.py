"""Near-duplicates: candidates from the band tables, the texts that are needed read again, similarities measured.

Always true here: a text is read again only where it has a candidate; a source that is gone or changed leaves its pairs
unmeasured, which is counted and removes nothing; shingle sets lie in storage by pack, ascending by position.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from forebear.schemas.errors import DataError
from forebear.tracer.corpus.rows import Source, read_texts
from forebear.tracer.dedupe.bands import HashRange, read_range
from forebear.tracer.dedupe.clusters import Copies, Documents, total_order
from forebear.tracer.dedupe.leaders import bucket_groups, lead
from forebear.tracer.dedupe.pairs import Buckets, Candidates, candidates, unique_pairs
from forebear.tracer.dedupe.shingles import shingle_sets
from forebear.tracer.dedupe.similarity import Edges, SetTable, measure
from forebear.tracer.ledger.ledger import Ledger
from forebear.tracer.scan.packs import ABSENT, I64, SURVIVES, U64, Pack, Rosters, Shard, Span, numbers, split_numbers
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
"""Pairs measured at a time: what bounds the shingle sets held in memory."""


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
    source = pa.memory_map(str(local)) if local is not None else pa.BufferReader(ledger.store.get(path))
    return pq.ParquetFile(source, page_checksum_verification=True)


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


def pair_chunks(found: Candidates) -> Iterator[tuple[U64, U64]]:
    """Pairs cut into chunks of bounded size, neighbours together."""
    for start in range(0, len(found.left), CHUNK_PAIRS):
        yield found.left[start : start + CHUNK_PAIRS], found.right[start : start + CHUNK_PAIRS]


def read_again(pack: Pack, positions: I64, plan: Plan, *, work: Work) -> int:
    """Shingle sets of some rows of a pack, from their sources, into the work place.

    Returns:
        How many rows could not be read as they were.
    """
    places, bounds, values = [], [np.zeros(1, "i8")], []
    total = 0
    for span, shard in _spans_of(pack, positions):
        wanted = positions[(positions >= span.offset) & (positions < span.offset + span.rows)] - span.offset + span.first_row
        try:
            source = Source.from_path(shard.path)
            if source.sha256() != shard.digest:
                continue
            for rows, texts in read_texts(source, options=plan.reader, wanted=wanted):
                found, sets = shingle_sets(texts, plan.signature.shingles)  # type: ignore[union-attr]
                places.append(rows - span.first_row + span.offset)
                bounds.append(found[1:] + total)
                values.append(sets)
                total += len(sets)
        except DataError:
            continue  # gone: its pairs stay unmeasured
    at = np.concatenate([np.zeros(0, "i8"), *places])
    order = np.argsort(at, kind="stable")
    assert (order == np.arange(len(at))).all(), "spans come by offset and rows ascend"
    header = np.array([len(at)], "i8").tobytes()
    body = [at.astype("i8"), np.concatenate(bounds).astype("i8"), np.concatenate([np.zeros(0, "u8"), *values])]
    work.put(f"sets/{pack.name}", header + b"".join(part.tobytes() for part in body))
    return len(positions) - len(at)


def _spans_of(pack: Pack, positions: I64) -> Iterator[tuple[Span, Shard]]:
    shards = {shard.digest: shard for shard in pack.used}
    for span in sorted(pack.active(), key=lambda span: span.offset):
        if ((positions >= span.offset) & (positions < span.offset + span.rows)).any():
            yield span, shards[span.shard]


def load_sets(documents: U64, rosters: Rosters, work: Work) -> SetTable:
    """Shingle sets of documents given by number (ascending); those that could not be read again are left out."""
    pack, position = split_numbers(documents)
    found, bounds, values = [], [np.zeros(1, "i8")], []
    total = 0
    for n in np.unique(pack).tolist():
        try:
            block = np.frombuffer(work.get(f"sets/{rosters.packs[n].name}"), dtype="i8")
        except KeyError:
            continue
        count = int(block[0])
        at, ends, sets = block[1 : 1 + count], block[1 + count : 2 + 2 * count], block[2 + 2 * count :].view("u8")
        mine = position[pack == n]
        place = np.minimum(np.searchsorted(at, mine), max(count - 1, 0))
        there = at[place] == mine if count else np.zeros(len(mine), bool)
        place = place[there]
        lengths = ends[place + 1] - ends[place]
        found.append(numbers(n, mine[there]))
        bounds.append(np.cumsum(lengths) + total)
        total += int(lengths.sum())
        values.append(_ragged(sets, ends[place], lengths))
    empty = np.zeros(0, "u8")
    return SetTable(np.concatenate([empty, *found]), np.concatenate(bounds), np.concatenate([empty, *values]))


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
    """Work off a group of large buckets by leaders."""
    documents, place, bucket = group
    facts = document_facts(documents, rosters)
    sets = load_sets(documents, rosters, work)
    threshold = plan.policy.duplicates.threshold
    order = total_order(facts)
    led = lead(documents, (place, bucket), order=order, survives=facts.survives, sets=sets, threshold=threshold)
    return Measured(led.edges, len(documents) - len(sets.documents), led.unreached)


def document_facts(documents: U64, rosters: Rosters) -> Documents:
    """What deciding needs of documents given by number (ascending)."""
    shard, row = rosters.rows(documents)
    return Documents(
        number=documents,
        rank=rosters.gather(documents, "rank").astype("i8"),
        bytes=rosters.gather(documents, "bytes"),
        digest=rosters.gather(documents, "document"),
        shard=shard,
        row=row,
        survives=rosters.gather(documents, "state") == SURVIVES,
        shingles=rosters.gather(documents, "shingles"),
    )


def groups(found: Candidates) -> Sequence[tuple[U64, I64, I64]]:
    """Large buckets that share documents, together."""
    return bucket_groups(found.large)
