"""Which rows of a shard are bad, which are not known, and what that makes of a dataset.

Always true here: evidence belongs to a shard's digest. It is its own scans united with, for a shard that a run wrote, its
source's evidence restricted to the rows kept; a removed duplicate's flag passes to the keeper that its row names where the
detector did not score that keeper. A row is bad at the *flag* threshold asked about, whatever was done with it; where several
runs disagree, one that says bad is believed. Ranges that overlap and shards that repeat count once.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from forebear.schemas.digests import digest_bytes
from forebear.tracer.audit.asked import AskedDetector
from forebear.tracer.audit.facts import ERRORED, NOT_RUN, NOT_SCANNED, RowFacts, RowGap, Usage
from forebear.tracer.audit.scans import Flagged, Scans
from forebear.tracer.lineage.graph import Graph

__all__ = ["ScannedRows", "Segments", "segments_of"]

Ints = npt.NDArray[np.int64]
_EMPTY = np.empty(0, np.int64)
_LOGGED = ["row", "document", "source", "words", "evidence"]

Segments = list[tuple[int, tuple[tuple[int, int], ...] | None]]
"""Shards (positions in `Graph.shards`), each once, whole (None) or as disjoint ascending row ranges."""


@dataclass(frozen=True)
class Bad:
    """Bad rows by detector: one entry for each (row, detector), sorted by row; `detector` indexes what is asked."""

    row: Ints
    document: Ints
    words: Ints
    detector: Ints

    def take(self, chosen: npt.NDArray[np.generic]) -> Bad:
        """These entries."""
        return Bad(self.row[chosen], self.document[chosen], self.words[chosen], self.detector[chosen])


@dataclass(frozen=True)
class Shard:
    """What is known of one shard for one class: bad rows, and for each detector the rows that it did not score.

    `unscored` holds None where a detector scored no row; `scanned` is whether any run saw the shard or its source.
    """

    rows: int | None
    bad: Bad
    unscored: tuple[Ints | None, ...]
    scanned: bool


_NOTHING = Bad(_EMPTY, _EMPTY, _EMPTY, _EMPTY)


class ScannedRows:
    """Judges the rows of datasets by what runs logged.

    Args:
        graph: Which dataset lists which shards.
        scans: What runs logged.
        asked: Detectors and thresholds.
    """

    def __init__(self, graph: Graph, scans: Scans, asked: Sequence[AskedDetector]) -> None:
        self.classes = tuple(sorted({one.category for one in asked}))
        self._graph = graph
        self._scans = scans
        self._place = np.array([scans.shard(name) for name in graph.shards] or [], np.int64)
        self._classes = {name: _Class(scans, [one for one in asked if one.category == name]) for name in self.classes}
        self._judged: dict[tuple[int, Usage | None], Mapping[str, RowFacts]] = {}

    def judge(self, dataset: int, usage: Usage | None) -> Mapping[str, RowFacts]:
        """Facts for each class of the rows that a dataset lists, narrowed to a usage log's where one is given."""
        key = (dataset, usage)
        if key not in self._judged:
            if usage is None and (whole := self._whole(dataset)) is not None:
                self._judged[key] = {name: one.facts_whole(whole) for name, one in self._classes.items()}
            else:
                segments = [(int(self._place[at]), ranges) for at, ranges in segments_of(self._graph, dataset, usage)]
                self._judged[key] = {name: one.facts(segments) for name, one in self._classes.items()}
        return self._judged[key]

    def _whole(self, dataset: int) -> Ints | None:
        """The shards of a dataset that lists all of them whole, without repetition; else None."""
        listed = self._graph.listed_of(dataset)
        if (listed[:, 2] >= 0).any():
            return None
        return np.unique(listed[:, 1]) if len(self._place) == 0 else np.asarray(self._place[np.unique(listed[:, 1])])


def segments_of(graph: Graph, dataset: int, usage: Usage | None) -> Segments:
    """The rows that a dataset lists: every shard once, ranges joined; narrowed to a usage log's where one is given."""
    ranges: dict[int, list[tuple[int, int]] | None] = {}
    for _, shard, first, last, _ in graph.listed_of(dataset).tolist():
        if first < 0:
            ranges[shard] = None
        elif (known := ranges.setdefault(shard, [])) is not None:
            known.append((first, last))
    found: Segments = [(shard, None if rows is None else _joined(rows)) for shard, rows in ranges.items()]
    if usage is None:
        return found
    used: dict[int, list[tuple[int, int]]] = {}
    for key in usage:
        for shard, first, last in graph.usage.get(key, ()):
            used.setdefault(shard, []).append((first, last))
    narrowed = [(shard, _common(rows, _joined(used[shard]))) for shard, rows in found if shard in used]
    return [(shard, rows) for shard, rows in narrowed if rows]


def _joined(ranges: list[tuple[int, int]]) -> tuple[tuple[int, int], ...]:
    found: list[list[int]] = []
    for first, last in sorted(ranges):
        if found and first <= found[-1][1]:
            found[-1][1] = max(found[-1][1], last)
        else:
            found.append([first, last])
    return tuple((first, last) for first, last in found)


def _common(rows: tuple[tuple[int, int], ...] | None, used: tuple[tuple[int, int], ...]) -> tuple[tuple[int, int], ...]:
    if rows is None:
        return used
    both = [(max(a, c), min(b, d)) for a, b in rows for c, d in used]
    return _joined([(first, last) for first, last in both if first < last])


class _Class:
    """One contaminant class: its detectors, its bad rows, and the shards that need no second look."""

    def __init__(self, scans: Scans, asked: Sequence[AskedDetector]) -> None:
        self._scans = scans
        self._asked = list(asked)
        self._numbers = [scans.detectors.get(one.digest, -1) for one in asked]
        self._ran = [
            {run for run, (_, _, manifest) in enumerate(scans.runs) if one.digest in {d.digest for d in manifest.detectors}}
            for one in asked
        ]
        self._sparse = self._find_sparse()
        self._deep = {(n, run): self._needs_log(n, run) for n in range(len(asked)) for run in self._ran[n]}
        self._reasons = sorted({one.reason for one in asked})
        self._reason_of = np.array([self._reasons.index(one.reason) for one in asked], np.int64)
        self._bad, self._bad_shard, self._kept = self._bad_rows()
        self._bounds = np.searchsorted(self._bad_shard, np.arange(scans.size + 1))
        self._errors = self._errored()
        self._simple = self._find_simple()
        self._shards: dict[int, Shard] = {}
        self._open: set[int] = set()
        self._passed: dict[int, list[tuple[int, int, int, int, int]]] | None = None

    def facts_whole(self, places: Ints) -> RowFacts:
        """Facts of whole shards: those that need no second look at once, the others one by one."""
        known = places >= 0
        simple = np.zeros(len(places), "?")
        simple[known] = self._simple[places[known]]
        chosen = places[simple]
        starts = self._bounds[chosen]
        counts = self._bounds[chosen + 1] - starts
        mine = np.repeat(starts - np.append(0, np.cumsum(counts)[:-1]), counts) + np.arange(counts.sum())
        tally = _Tally(self._asked)
        tally.add(self._bad.take(mine), self._bad_shard[mine])
        scored = int(self._scans.rows[chosen].sum())
        tally.scored = [count + scored for count in tally.scored]
        tally.used = scored
        for place in places[~simple].tolist():
            self._add(tally, place, None)
        return tally.facts(self._reasons, self._reason_of)

    def facts(self, segments: Segments) -> RowFacts:
        """Facts of shards, whole or narrowed."""
        tally = _Tally(self._asked)
        for place, ranges in segments:
            self._add(tally, place, ranges)
        return tally.facts(self._reasons, self._reason_of)

    def _add(self, tally: _Tally, place: int, ranges: tuple[tuple[int, int], ...] | None) -> None:
        counted = None if ranges is None else sum(last - first for first, last in ranges)
        shard = self.shard(place) if place >= 0 else Shard(None, _NOTHING, (None,) * len(self._asked), scanned=False)
        used = shard.rows if counted is None else counted
        bad = shard.bad if ranges is None else shard.bad.take(_within(shard.bad.row, ranges))
        tally.add(bad, np.full(len(bad.row), place))
        if not shard.scanned:
            tally.gap(NOT_SCANNED, used, used)
            return
        tally.used = None if used is None or tally.used is None else tally.used + used
        if any(rows is None for rows in shard.unscored):
            tally.gap(NOT_RUN, used, used)
        whole = not any(rows is None for rows in shard.unscored)
        missing = [rows if rows is None or ranges is None else rows[_within(rows, ranges)] for rows in shard.unscored]
        if used is not None:
            tally.scored = [count + (0 if rows is None else used - len(rows)) for count, rows in zip(tally.scored, missing, strict=True)]
        for why, sparse in ((ERRORED, False), (NOT_RUN, True)):
            some = [rows for rows, mine in zip(missing, self._sparse, strict=True) if rows is not None and mine is sparse]
            if some and whole:
                tally.gap(why, len(np.unique(np.concatenate(some))), used)

    def shard(self, place: int) -> Shard:
        """What is known of one shard."""
        found = self._shards.get(place)
        if found is None:
            self._open.add(place)
            found = self._shard(place)
            self._open.discard(place)
            if not self._open:  # inside a cycle of derivations an answer is not whole yet
                self._shards[place] = found
        return found

    def _shard(self, place: int) -> Shard:
        scans = self._scans
        own = slice(self._bounds[place], self._bounds[place + 1])
        bad = [self._bad.take(np.arange(own.start, own.stop))]
        bad += [self._logged(n, run, place) for (n, run), deep in self._deep.items() if deep and scans.has(run, place)]
        unscored: list[Ints | None] = []
        for n in range(len(self._asked)):
            runs = [run for run in self._ran[n] if scans.has(run, place)]
            unscored.append(self._common_unscored(n, runs, place))
        scanned = any(scans.has(run, place) for run in range(len(scans.runs)))
        for run, source in scans.derived.get(place, ()):
            if source in self._open:
                continue
            scanned = True
            more, missing = self._derived(run, source)
            bad.append(more)
            unscored = [_both(mine, other) for mine, other in zip(unscored, missing, strict=True)]
        joined = _united(bad)
        joined = _united([joined, *self._passed_on(place, unscored)])
        return Shard(int(scans.rows[place]), joined, tuple(unscored), scanned)

    def _derived(self, run: int, source: int) -> tuple[Bad, list[Ints | None]]:
        """A source's evidence restricted to the rows that a run kept, counted anew."""
        shard = self.shard(source)
        some = len(shard.bad.row) or any(rows is not None and len(rows) for rows in shard.unscored)
        if not some:
            return _NOTHING, list(shard.unscored)
        kept = self._scans.kept_rows(run, source)
        hit = np.isin(shard.bad.row, kept)
        bad = shard.bad.take(hit)
        moved = Bad(np.searchsorted(kept, bad.row), bad.document, bad.words, bad.detector)
        missing = [None if rows is None else np.searchsorted(kept, rows[np.isin(rows, kept)]) for rows in shard.unscored]
        return moved, missing

    def _common_unscored(self, n: int, runs: list[int], place: int) -> Ints | None:
        """Rows that no run that asked the detector scored; None where no run asked it."""
        found: Ints | None = None
        for run in runs:
            rows = self._errors.get((run, place), _EMPTY)
            if self._sparse[n]:
                rows = np.union1d(rows, self._unasked(n, run, place))
            found = rows if found is None else np.intersect1d(found, rows)
        return found

    def _unasked(self, n: int, run: int, place: int) -> Ints:
        """Rows of a shard for which a second tier left no evidence: it was not asked about them."""
        table = self._scans.log(run, place, ["row", "evidence"])
        evidence = table["evidence"].combine_chunks()
        mine = pc.equal(evidence.flatten().field("detector"), pa.scalar(digest_bytes(self._asked[n].digest), pa.binary(32)))
        asked = np.zeros(len(table), "?")
        asked[pc.list_parent_indices(evidence).to_numpy()[mine.to_numpy(zero_copy_only=False)]] = True
        return np.asarray(table["row"].to_numpy()[~asked])

    def _find_sparse(self) -> list[bool]:
        """Which detectors cover only the rows that they scored.

        A second tier is asked about the rows that its first tier finds suspicious, and a sample. Where both are asked about, as a
        class always is, the first tier covers a row alone: it decided that the second need not look. By itself a second tier covers
        only what it scored.
        """
        asked = {one.digest for one in self._asked}
        records = {record.digest: record for _, _, manifest in self._scans.runs for record in manifest.detectors}
        firsts = [records[one.digest].parameters.get("first") if one.digest in records else None for one in self._asked]
        return [first is not None and first not in asked for first in firsts]

    def _needs_log(self, n: int, run: int) -> bool:
        """Whether a run's flagged table leaves out rows that are bad at the thresholds asked about."""
        asked, manifest = self._asked[n].flags, self._scans.runs[run][2]
        record = next(one for one in manifest.detectors if one.digest == self._asked[n].digest)
        sources = {"", *asked, *record.thresholds}
        return any(asked.get(source, asked[""]) < record.threshold(source).flag for source in sources)

    def _flags(self, n: int) -> Ints:
        """Least bad score by source number."""
        flags = self._asked[n].flags
        return np.array([flags.get(name, flags[""]) for name in self._scans.sources], np.int64)

    def _bad_rows(self) -> tuple[Bad, Ints, npt.NDArray[np.bool_]]:
        """Bad rows that the flagged tables tell of, sorted by (shard, row)."""
        flagged: Flagged = self._scans.flagged
        parts = []
        for n, number in enumerate(self._numbers):
            runs = np.array([run for run in self._ran[n] if not self._deep[n, run]], np.int64)
            hit = (flagged.detector == number) & np.isin(flagged.run, runs)
            hit &= flagged.score >= self._flags(n)[flagged.source]
            parts.append((n, np.flatnonzero(hit)))
        at = np.concatenate([found for _, found in parts]) if parts else _EMPTY
        which = np.concatenate([np.full(len(found), n) for n, found in parts]) if parts else _EMPTY
        order = np.lexsort((which, flagged.row[at], flagged.shard[at]))
        at, which = at[order], which[order]
        shard, row = flagged.shard[at], flagged.row[at]
        new = np.ones(len(at), "?")
        new[1:] = (shard[1:] != shard[:-1]) | (row[1:] != row[:-1]) | (which[1:] != which[:-1])
        # Several runs may have kept a row: it counts as kept where any did.
        kept = np.zeros(int(new.sum()), "?")
        np.logical_or.at(kept, np.cumsum(new) - 1, flagged.kept[at])
        at, which = at[new], which[new]
        return Bad(flagged.row[at], flagged.document[at], flagged.words[at], which), flagged.shard[at], kept

    def _errored(self) -> dict[tuple[int, int], Ints]:
        flagged = self._scans.flagged
        rows = flagged.take(flagged.detector < 0)
        found: dict[tuple[int, int], list[int]] = {}
        for run, shard, row in zip(rows.run.tolist(), rows.shard.tolist(), rows.row.tolist(), strict=True):
            found.setdefault((run, shard), []).append(row)
        return {key: np.unique(np.array(value, np.int64)) for key, value in found.items()}

    def _find_simple(self) -> npt.NDArray[np.bool_]:
        """Shards whose bad rows are exactly those of the flagged tables and whose every row every detector scored."""
        scans, size = self._scans, self._scans.size
        times = np.zeros(size, np.int64)
        errors = np.zeros(size, "?")
        for run in range(len(scans.runs)):
            times[scans.scanned(run)] += 1
            errors[scans.scanned(run)] |= scans.errored_count(run) > 0
        clear = ~errors
        for n in range(len(self._asked)):
            covered = np.zeros(size, "?")
            deep = np.zeros(size, "?")
            for run in self._ran[n]:
                covered[scans.scanned(run)] = True
                if self._deep[n, run] or self._sparse[n]:
                    deep[scans.scanned(run)] = True
            clear &= covered & ~deep
        derived = np.zeros(size, "?")
        derived[list(scans.derived)] = True
        simple = clear & ~derived & (times > 0)
        return simple | self._find_clean(times)

    def _find_clean(self, times: Ints) -> npt.NDArray[np.bool_]:
        """Shards that a run wrote from a source that it alone scanned, dropping every bad row: clean without a look at the log.

        Errored rows are never kept, so those of the source do not reach what was written.
        """
        scans, size = self._scans, self._scans.size
        keeps_bad = np.zeros(size, "?")
        keeps_bad[self._bad_shard[self._kept]] = True
        found = np.zeros(size, "?")
        for shard, ways in scans.derived.items():
            if len(ways) != 1 or times[shard]:
                continue
            run, source = ways[0]
            plain = times[source] == 1 and source not in scans.derived and scans.has(run, source)
            ran = all(run in runs and not self._deep[n, run] and not self._sparse[n] for n, runs in enumerate(self._ran))
            found[shard] = plain and ran and not keeps_bad[source]
        return found

    def _logged(self, n: int, run: int, place: int) -> Bad:
        """Bad rows of one detector from a run's log, for thresholds below the run's own."""
        table = self._scans.log(run, place, _LOGGED)
        return self._judged_log(n, table)[0]

    def _judged_log(self, n: int, table: pa.Table) -> tuple[Bad, npt.NDArray[np.bool_]]:
        evidence = pa.concat_arrays(table["evidence"].chunks) if table["evidence"].num_chunks else None
        hit = np.zeros(len(table), "?")
        if evidence is not None and len(evidence):
            items = evidence.flatten()
            mine = pc.equal(items.field("detector"), pa.scalar(digest_bytes(self._asked[n].digest), pa.binary(32)))
            score = np.where(mine.to_numpy(zero_copy_only=False), items.field("score").to_numpy(), -1)
            parent = pc.list_parent_indices(evidence).to_numpy()
            best = np.full(len(table), -1)
            np.maximum.at(best, parent, score)
            sources = self._scans.source_numbers(table["source"])
            hit = best >= self._flags(n)[sources]
        bad = table.filter(pa.array(hit))
        rows = bad["row"].to_numpy()
        found = Bad(
            rows,
            self._scans.document_numbers(bad["document"]),
            bad["words"].fill_null(0).to_numpy(),
            np.full(len(rows), n),
        )
        return found, hit

    def _passed_on(self, place: int, unscored: Sequence[Ints | None]) -> list[Bad]:
        """Flags that removed duplicates pass to this shard's rows, for detectors that did not score those."""
        if all(rows is not None and not len(rows) for rows in unscored):
            return []
        if self._passed is None:
            self._passed = self._find_passed()
        found = []
        for row, document, words, n, _ in self._passed.get(place, ()):
            rows = unscored[n]
            if rows is None or row in rows:
                found.append(Bad(np.array([row]), np.array([document]), np.array([words]), np.array([n])))
        return found

    def _find_passed(self) -> dict[int, list[tuple[int, int, int, int, int]]]:
        """Bad removed duplicates whose keeper lies in another run: keeper's shard -> (row, document, words, detector, run)."""
        scans = self._scans
        found: dict[int, list[tuple[int, int, int, int, int]]] = {}
        for run, (_, _, manifest) in enumerate(scans.runs):
            mine = [n for n, ran in enumerate(self._ran) if run in ran]
            if not manifest.against or not mine:
                continue
            for shard in scans.scanned(run).tolist():
                columns = [*_LOGGED, "keeper_document", "keeper_shard", "keeper_row"]
                table = scans.log(run, shard, columns)
                table = table.filter(pc.is_valid(table["keeper_shard"]))
                for n in mine if len(table) else ():
                    _, hit = self._judged_log(n, table)
                    bad = table.filter(pa.array(hit))
                    self._pass(bad, n, run, found)
        return found

    def _pass(self, bad: pa.Table, n: int, run: int, found: dict[int, list[tuple[int, int, int, int, int]]]) -> None:
        documents = self._scans.document_numbers(bad["keeper_document"]).tolist()
        keepers = [self._scans.place(raw) for raw in bad["keeper_shard"].to_pylist()]
        for keeper, row, document, words in zip(
            keepers, bad["keeper_row"].to_pylist(), documents, bad["words"].fill_null(0).to_pylist(), strict=True
        ):
            if keeper >= 0:
                found.setdefault(keeper, []).append((row, document, words, n, run))


class _Tally:
    """Sums over the shards of a dataset."""

    def __init__(self, asked: Sequence[AskedDetector]) -> None:
        self._asked = asked
        self._bad: list[tuple[Ints, Bad]] = []
        self._gaps: dict[str, tuple[int | None, int | None]] = {}
        self.scored = [0] * len(asked)
        self.used: int | None = 0

    def add(self, bad: Bad, shard: Ints) -> None:
        if len(bad.row):
            self._bad.append((shard, bad))

    def gap(self, why: str, rows: int | None, of: int | None) -> None:
        if rows == 0:
            return
        known = self._gaps.get(why, (0, 0))
        self._gaps[why] = (_plus(known[0], rows), _plus(known[1], of))

    def facts(self, reasons: Sequence[str], reason_of: Ints) -> RowFacts:
        gaps = tuple(RowGap(why, rows, of) for why, (rows, of) in sorted(self._gaps.items()))
        rates = [(one.rate, count) for one, count in zip(self._asked, self.scored, strict=True)]
        known = [rate * count for rate, count in rates if rate is not None]
        expected = round(sum(known), 3) if known else None
        if not self._bad:
            return RowFacts(expected_false=expected, gaps=gaps)
        shard = np.concatenate([one for one, _ in self._bad])
        row, document, words, detector = (
            np.concatenate([getattr(bad, name) for _, bad in self._bad]) for name in ("row", "document", "words", "detector")
        )
        order = np.lexsort((row, shard))
        first = np.ones(len(order), "?")
        first[1:] = (shard[order][1:] != shard[order][:-1]) | (row[order][1:] != row[order][:-1])
        rows = order[first]
        pairs = np.unique(np.stack([reason_of[detector], document]), axis=1)[0]
        counts = np.bincount(pairs, minlength=len(reasons)).tolist()
        return RowFacts(
            documents=len(np.unique(document)),
            rows=len(rows),
            words=int(words[rows].sum()),
            reasons={reason: count for reason, count in zip(reasons, counts, strict=True) if count},
            expected_false=expected,
            gaps=gaps,
        )


def _plus(a: int | None, b: int | None) -> int | None:
    return None if a is None or b is None else a + b


def _both(mine: Ints | None, other: Ints | None) -> Ints | None:
    """Rows that neither of two sources of evidence scored."""
    if mine is None or other is None:
        return other if mine is None else mine
    return np.intersect1d(mine, other)


def _within(rows: Ints, ranges: tuple[tuple[int, int], ...]) -> npt.NDArray[np.bool_]:
    hit = np.zeros(len(rows), "?")
    for first, last in ranges:
        hit |= (rows >= first) & (rows < last)
    return hit


def _united(parts: list[Bad]) -> Bad:
    """Entries of several sources, each (row, detector) once."""
    some = [one for one in parts if len(one.row)]
    if len(some) < 2:
        return some[0] if some else _NOTHING
    joined = Bad(*(np.concatenate([getattr(one, name) for one in some]) for name in ("row", "document", "words", "detector")))
    order = np.lexsort((joined.detector, joined.row))
    joined = joined.take(order)
    new = np.ones(len(order), "?")
    new[1:] = (joined.row[1:] != joined.row[:-1]) | (joined.detector[1:] != joined.detector[:-1])
    return joined.take(new)
