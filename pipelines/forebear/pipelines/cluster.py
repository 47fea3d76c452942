"""Cluster: copies, candidates, the texts that are needed read again, similarities measured.

Always true here: bands travel through storage and texts not at all; packed blocks of numbers lie in the work place, and what goes from
step to step are their names, for a runner may keep in memory several times what it carries.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import pyarrow as pa

from forebear.pipelines.steps import Step
from forebear.tracer.dedupe.bands import HashRange, hash_ranges
from forebear.tracer.dedupe.clusters import Copies
from forebear.tracer.dedupe.pairs import Buckets, Candidates
from forebear.tracer.dedupe.similarity import Edges
from forebear.tracer.scan import near
from forebear.tracer.scan.against import earlier_reader
from forebear.tracer.scan.copies import find_copies
from forebear.tracer.scan.packs import Pack, Rosters, split_numbers
from forebear.tracer.scan.plan import Plan
from forebear.tracer.scan.work import arrays_block, block_arrays

__all__ = ["FindCandidates", "FindCopies", "Measure", "PlanMeasures", "ReadAgain", "SplitWork"]

PARTITION_BYTES = 96 << 20
"""A partition of the band tables is chosen to be about this large in memory."""

PARTITIONS = "partitions.json"
"""The job's record of how many partitions there are."""

HOT = "hot.json"
"""The job's record of large buckets, for its progress."""

_ENTRY_BYTES = 36  # hash, number and size of a band entry, and the order that sorts them
_COPY_BYTES = 40  # the start of a document's digest, its number, and the order that sorts them


def open_rosters(packs: Sequence[str], step: Step) -> Rosters:
    """The rosters of all packs of the run, the same numbering everywhere; parsed once in a process, for a million files take long."""
    key = (step.plan.job, hash(frozenset(packs)))
    rosters = _OPEN.get(key)
    if rosters is None:
        rosters = Rosters([Pack.from_json(text) for text in packs], step.work)
        _OPEN.clear()
        _OPEN[key] = rosters
    return rosters


_OPEN: dict[tuple[str, int], Rosters] = {}


class SplitWork(Step):
    """Ranges of the hash space, as many as keep a partition small; one element in, ("copies" | "bands", range) out."""

    def __init__(self, plan: Plan, workers: int) -> None:
        super().__init__(plan)
        self.workers = workers

    def work_on(self, element: object, packs: Sequence[str]) -> Iterator[tuple[int, str]]:
        found = [Pack.from_json(text) for text in packs]
        entries = sum(pack.bands.rows for pack in found if pack.bands is not None)
        count = max(self.workers, -(-entries * _ENTRY_BYTES // PARTITION_BYTES))
        copies = max(self.workers, -(-sum(pack.positions for pack in found) * _COPY_BYTES // PARTITION_BYTES))
        self.job.put_json(PARTITIONS, {"partitions": count, "together": max(1, count // copies)})
        for n, span in enumerate(hash_ranges(count)):
            yield n, f"{span.first}-{span.last}"


def stored(block: bytes, name: str, step: Step) -> bytes:
    """A block's name, once it is stored; the same step on the same element stores the same again."""
    step.work.put(name, block)
    return name.encode()


def fetched(names: Iterable[bytes], step: Step) -> list[pa.Buffer]:
    """The blocks of these names."""
    return [step.work.get(name.decode()) for name in names]


def _range(element: tuple[int, Iterable[str]]) -> HashRange:
    first, last = next(iter(element[1])).split("-")
    return HashRange(int(first), int(last))


class FindCopies(Step):
    """Exact copies of a range of digests, some ranges at a time."""

    def work_on(self, element: tuple[int, Iterable[str]], packs: Sequence[str]) -> Iterator[bytes]:
        number, together = element[0], self.job.get_json(PARTITIONS)["together"]
        if number % together:
            return  # every range is a pass over all rosters, and a document has one digest where it has many bands
        ranges = hash_ranges(self.job.get_json(PARTITIONS)["partitions"])[number : number + together]
        found = find_copies(HashRange(ranges[0].first, ranges[-1].last), open_rosters(packs, self))
        yield stored(arrays_block(representative=found.representative, member=found.member), f"copies/{number:06}", self)


def read_copies(names: Sequence[bytes], step: Step) -> Copies:
    """Copies of all ranges."""
    return Copies(*block_arrays(fetched(names, step), ("representative", "member")))


class FindCandidates(Step):
    """Candidates of a range of band hashes: ("pairs" | "large", name of a block)."""

    def work_on(self, element: tuple[int, Iterable[str]], packs: Sequence[str], copies: Sequence[bytes]) -> Iterator[tuple[str, bytes]]:
        rosters = open_rosters(packs, self)
        found = near.find_candidates(_range(element), rosters, read_copies(copies, self), plan=self.plan, ledger=self.ledger)
        yield "pairs", stored(arrays_block(left=found.left, right=found.right), f"pairs/{element[0]:06}", self)
        if len(found.large.hashes):
            hashes = np.repeat(found.large.hashes, np.diff(found.large.bounds))
            yield "large", stored(arrays_block(hash=hashes, member=found.large.members), f"large/{element[0]:06}", self)


def read_candidates(names: Sequence[tuple[str, bytes]], step: Step) -> Candidates:
    """Candidates of all ranges, each pair once."""
    left, right = block_arrays(fetched((name for kind, name in names if kind == "pairs"), step), ("left", "right"))
    hashes, members = block_arrays(fetched((name for kind, name in names if kind == "large"), step), ("hash", "member"))
    order = np.lexsort((members, hashes))
    hashes, members = hashes[order], members[order]
    unique, starts = np.unique(hashes, return_index=True)
    bounds = np.append(starts, len(hashes)).astype("i8")
    return near.merge_candidates([Candidates(left, right, Buckets(unique, bounds, members))])


class PlanMeasures(Step):
    """From all candidates: rows to read again by pack, chunks of pairs, groups of large buckets.

    Yields (kind, (key, block)): ("read", (pack, name of positions)), ("measure", (number, name of pairs or of a group)),
    ("buckets", ("", facts)).
    """

    def work_on(
        self, element: object, packs: Sequence[str], candidates: Sequence[tuple[str, bytes]]
    ) -> Iterator[tuple[str, tuple[str, bytes]]]:
        rosters = open_rosters(packs, self)
        found = read_candidates(candidates, self)
        pack, position = split_numbers(near.needed(found))
        for n in np.unique(pack).tolist():
            name = rosters.packs[n].name
            yield "read", (name, stored(arrays_block(position=position[pack == n]), f"reads/{name}", self))
        blocks = itertools.chain(
            (arrays_block(left=left, right=right) for left, right in near.pair_chunks(found, rosters)),
            (arrays_block(document=documents[place], bucket=bucket) for documents, place, bucket in near.groups(found)),
        )
        for number, block in enumerate(blocks):
            yield "measure", (f"{number:08d}", stored(block, f"measures/{number:08d}", self))
        sizes = np.diff(found.large.bounds)
        self.job.put_json(HOT, {"buckets": len(sizes), "largest": int(sizes.max(initial=0))})
        yield "buckets", ("", arrays_block(hash=found.large.hashes, documents=sizes))


class ReadAgain(Step):
    """Rows of a pack in; their shingle sets into storage. Yields the pack's name and how many rows were not as before."""

    def work_on(self, element: tuple[str, Iterable[bytes]], packs: Sequence[str]) -> Iterator[tuple[str, int]]:
        name, blocks = element
        rosters = open_rosters(packs, self)
        pack = next(pack for pack in rosters.packs if pack.name == name)
        (positions,) = block_arrays(fetched(blocks, self), ("position",))
        reader, roster = self.plan.reader, None
        if pack.earlier:
            reader, roster = earlier_reader(pack.earlier, self.ledger), Rosters([pack], self.work).roster(0)
        yield name, near.read_again(pack, positions.astype("i8"), reader, plan=self.plan, work=self.work, roster=roster)


class Measure(Step):
    """A chunk of pairs, or a group of large buckets, in; ("edges", name of a block), ("unreached" | "unmeasured", block) out."""

    def work_on(
        self, element: tuple[str, Iterable[bytes]], packs: Sequence[str], reads: Sequence[tuple[str, int]]
    ) -> Iterator[tuple[str, bytes]]:
        rosters = open_rosters(packs, self)
        (block,) = fetched(list(element[1])[:1], self)
        names = block_names(block)
        if "left" in names:
            left, right = block_arrays([block], ("left", "right"))
            found = near.measure_pairs(left, right, rosters, plan=self.plan, work=self.work)
        else:
            members, bucket = block_arrays([block], ("document", "bucket"))
            documents, place = np.unique(members, return_inverse=True)
            group = (documents, place.astype("i8"), bucket.astype("i8"))
            found = near.measure_group(group, rosters, plan=self.plan, work=self.work)
        edges = found.edges
        measured = arrays_block(left=edges.left, right=edges.right, intersection=edges.intersection, union=edges.union)
        yield "edges", stored(measured, f"edges/{element[0]}", self)
        yield "unmeasured", arrays_block(count=np.array([found.unmeasured], "i8"))
        if len(found.unreached):
            yield "unreached", arrays_block(document=found.unreached)


def block_names(block: pa.Buffer) -> list[str]:
    """The columns of a block."""
    names: list[str] = pa.ipc.open_stream(block).schema.names
    return names


def read_measured(blocks: Sequence[tuple[str, bytes]], step: Step) -> list[near.Measured]:
    """Everything that was measured."""
    by_kind: dict[str, list[bytes]] = {"edges": [], "unmeasured": [], "unreached": []}
    for kind, block in blocks:
        by_kind[kind].append(block)
    left, right, intersection, union = block_arrays(fetched(by_kind["edges"], step), ("left", "right", "intersection", "union"))
    edges = Edges(left, right, intersection.astype("i8"), union.astype("i8"))
    (counts,) = block_arrays(by_kind["unmeasured"], ("count",))
    (unreached,) = block_arrays(by_kind["unreached"], ("document",))
    return [near.Measured(edges, int(counts.sum()), unreached)]
