"""Shingle sets of rows that have a candidate, made from their texts, which are read again, and kept in the work place.

Always true here: a text is read again only where it has a candidate; a source that is gone or changed, or a text that is not the one
that was logged, gives no set; the sets of a pack lie in blocks of bounded size, ascending by position.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from forebear.schemas.errors import DataError
from forebear.tracer.corpus.inputs import ReaderOptions
from forebear.tracer.corpus.rows import Source, read_texts
from forebear.tracer.dedupe.shingles import shingle_sets
from forebear.tracer.dedupe.similarity import SetTable
from forebear.tracer.scan.packs import I64, U64, Pack, Roster, Rosters, Shard, Span, numbers, split_numbers
from forebear.tracer.scan.plan import Plan
from forebear.tracer.scan.work import Work

__all__ = ["load_sets", "read_again"]

BLOCK_SHINGLES = 1 << 22
"""A block of shingle sets is stored once it holds so many."""


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
