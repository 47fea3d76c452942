"""Log packs as parts: summaries of a shard's rows, and what is derived from them.

Always true here: a span is consecutive rows of one shard inside one aligned range of 2**20 rows, so its root is a subtree of
the shard's; how a log is cut into packs therefore changes no digest. All functions are pure.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from forebear.schemas.canonical import row_leaves
from forebear.schemas.digests import digest_bytes, digest_name, documents_digest, documents_range, merkle_root
from forebear.schemas.enums import Action
from forebear.schemas.errors import IntegrityError
from forebear.schemas.records import DetectorRecord, RunManifest
from forebear.schemas.tables import DIGEST, FLAGGED, GRID

__all__ = [
    "RANGE_ROWS",
    "SpanSummary",
    "count_reasons",
    "count_sources",
    "documents_of",
    "flagged_rows",
    "part_root",
    "raw_digests",
    "run_scope",
    "summarise",
]

RANGE_ROWS = 1 << 20
"""Rows of an aligned range: a log pack holds at most one range of a shard."""

_COUNTED = {Action.KEEP.value: "kept", Action.DROP.value: "dropped", Action.ERROR.value: "errored"}

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class SpanSummary:
    """Consecutive rows of one shard in one log pack, at most one aligned range of 2**20 rows.

    Args:
        root: RFC 6962 root over the leaves of the span's rows.
        documents: `digests.documents_range` of the span's rows.
    """

    shard: str
    first_row: int
    rows: int
    kept: int
    dropped: int
    errored: int
    root: str
    documents: str


def summarise(log: pa.Table) -> list[SpanSummary]:
    """The spans of a log table, in its order.

    Raises:
        IntegrityError: The rows of a shard are not consecutive, or an action is none of the three.
    """
    if not log.num_rows:
        return []
    shards, rows = raw_digests(log["shard"]), _integers(log["row"])
    bounds = _span_bounds(shards, rows)
    leaves = row_leaves(log)
    documents = raw_digests(log["document"])
    actions = _action_codes(log["action"])
    spans = []
    for start, stop in itertools.pairwise(bounds):
        kept, dropped, errored = np.bincount(actions[start:stop], minlength=3).tolist()
        spans.append(
            SpanSummary(
                shard=digest_name(shards[start].tobytes()),
                first_row=int(rows[start]),
                rows=int(stop - start),
                kept=kept,
                dropped=dropped,
                errored=errored,
                root=digest_name(merkle_root(leaves[start:stop])),
                documents=digest_name(documents_range(np.ascontiguousarray(documents[start:stop]).tobytes())),
            )
        )
    return spans


def part_root(spans: Sequence[SpanSummary]) -> bytes:
    """The root of a whole shard's log from its spans in row order.

    Raises:
        IntegrityError: The spans do not cover the rows from 0 on, in aligned ranges.
    """
    _require_aligned(spans)
    # Ranges are complete subtrees but for the last, so the tree over their roots is the upper part of the tree over the rows.
    return merkle_root(digest_bytes(span.root) for span in spans)


def documents_of(spans: Sequence[SpanSummary]) -> bytes:
    """The documents digest of a whole shard from its spans in row order.

    Raises:
        IntegrityError: The spans do not cover the rows from 0 on, in aligned ranges.
    """
    _require_aligned(spans)
    return documents_digest(digest_bytes(span.documents) for span in spans)


def run_scope(manifest: RunManifest) -> dict[str, Any]:
    """What leaf 0 of a run digest covers (`records.run_digest_leaves`): all that steers a run, but its shards."""
    return {
        "against": sorted(manifest.against),
        "detectors": sorted(detector.digest for detector in manifest.detectors),
        "policy": manifest.policy_digest,
        "reader": manifest.reader,
        "signature": manifest.signature,
    }


def flagged_rows(log: pa.Table, detectors: Sequence[DetectorRecord]) -> pa.Table:
    """The rows of `tables.FLAGGED` that follow from a log table, in its order.

    One row for each piece of evidence at or above the flag threshold in force for the row's source, then, for an errored row,
    one without a detector.

    Raises:
        IntegrityError: A piece of evidence is by none of the detectors.
    """
    evidence, parents = _flat(log["evidence"])
    hits, judges, flags = _at_or_above(evidence, parents, log["source"], detectors)
    errored = np.flatnonzero(_action_codes(log["action"]) == 2)
    rows = np.concatenate([parents[hits], errored])
    # A stable sort keeps the order of a row's evidence, and puts the row without a detector last.
    order = np.argsort(rows, kind="stable")
    taken = log.select(["shard", "row", "document", "source", "words", "action", "reasons"]).take(rows[order])
    nothing = len(errored)
    columns = {name: taken[name] for name in taken.column_names}
    columns["detector"] = _extended(evidence.field("detector").take(pa.array(hits)), nothing, DIGEST)
    categories = pa.array([detector.category for detector in detectors], pa.string())
    columns["category"] = _extended(categories.take(pa.array(judges)), nothing, pa.string())
    for name, kind in (("label", pa.string()), ("item", pa.string()), ("score", pa.int16())):
        columns[name] = _extended(evidence.field(name).take(pa.array(hits)), nothing, kind)
    columns["flag"] = _extended(pa.array(flags, pa.int16()), nothing, pa.int16())
    for name in ("detector", "category", "label", "item", "score", "flag"):
        columns[name] = columns[name].take(pa.array(order))
    return pa.table([columns[field.name] for field in FLAGGED], schema=FLAGGED)


def count_reasons(log: pa.Table) -> dict[str, int]:
    """How many rows give each reason."""
    counts = pc.value_counts(pc.list_flatten(log["reasons"].combine_chunks()))
    return {one["values"]: one["counts"] for one in sorted(counts.to_pylist(), key=lambda one: one["values"])}


def count_sources(log: pa.Table) -> dict[str, dict[str, int]]:
    """Rows in, kept, dropped and errored of each source ("" where a row has none)."""
    names, codes = _sources(log["source"])
    table = np.zeros((len(names), 3), dtype=np.int64)
    np.add.at(table, (codes, _action_codes(log["action"])), 1)
    result = {}
    for n in sorted(range(len(names)), key=lambda n: names[n]):
        counts = dict(zip(_COUNTED.values(), table[n].tolist(), strict=True))
        if sum(counts.values()):
            result[names[n]] = {"in": sum(counts.values()), **counts}
    return result


def raw_digests(column: pa.ChunkedArray | pa.Array) -> npt.NDArray[np.uint8]:
    """A column of digests as bytes, shape (rows, 32); zero bytes where it is null."""
    array = _whole(column)
    if array.null_count:
        array = array.fill_null(bytes(32))
    buffer = array.buffers()[1]
    if buffer is None or not len(array):
        return np.zeros((0, 32), dtype=np.uint8)
    data = np.frombuffer(buffer, dtype=np.uint8)
    return data[array.offset * 32 : (array.offset + len(array)) * 32].reshape(-1, 32)


def _whole(column: pa.ChunkedArray | pa.Array) -> pa.Array:
    if isinstance(column, pa.Array):
        return column
    combined = column.combine_chunks()
    return pa.concat_arrays(combined.chunks) if isinstance(combined, pa.ChunkedArray) else combined


def _integers(column: pa.ChunkedArray) -> Ints:
    return np.asarray(_whole(column).to_numpy(zero_copy_only=False), dtype=np.int64)


def _action_codes(actions: pa.ChunkedArray) -> Ints:
    """0 kept, 1 dropped, 2 errored."""
    codes = pc.index_in(_whole(actions), value_set=pa.array(list(_COUNTED), pa.string()))
    if codes.null_count:
        unknown = pc.unique(_whole(actions).filter(codes.is_null())).to_pylist()
        raise IntegrityError(
            "unknown_action",
            expected="an action of keep, drop or error in every row of the log",
            found=repr(unknown[:3])[:200],
            remedy="Scan the corpus again.",
        )
    return np.asarray(codes.to_numpy(zero_copy_only=False), dtype=np.int64)


def _span_bounds(shards: npt.NDArray[np.uint8], rows: Ints) -> list[int]:
    """Where spans begin, and the end."""
    words = np.ascontiguousarray(shards).view(np.uint64)
    other = (words[1:] != words[:-1]).any(axis=1)
    torn = ~other & (rows[1:] != rows[:-1] + 1)
    starts = np.flatnonzero(np.concatenate([[True], other]))
    seen = {shards[n].tobytes() for n in starts.tolist()}
    if torn.any() or len(seen) != len(starts):
        where = int(np.flatnonzero(torn)[0]) + 1 if torn.any() else int(starts[-1])
        raise IntegrityError(
            "rows_not_consecutive",
            expected="the rows of a shard one after the other in a log pack",
            found=f"row {rows[where]} of {digest_name(shards[where].tobytes())} elsewhere",
            remedy="Scan the corpus again.",
        )
    ranges = np.flatnonzero(rows % RANGE_ROWS == 0)
    return [*np.union1d(starts, ranges).tolist(), len(rows)]


def _require_aligned(spans: Sequence[SpanSummary]) -> None:
    for n, span in enumerate(spans):
        last = n == len(spans) - 1
        if span.first_row != n * RANGE_ROWS or (span.rows != RANGE_ROWS and not (last and 0 < span.rows < RANGE_ROWS)):
            raise IntegrityError(
                "spans_not_aligned",
                expected=f"spans of {RANGE_ROWS} rows from row {n * RANGE_ROWS} of {span.shard} on, only the last one shorter",
                found=f"{span.rows} rows from row {span.first_row} on",
                remedy="Scan the corpus again.",
            )


def _flat(column: pa.ChunkedArray) -> tuple[pa.StructArray, Ints]:
    """The elements of lists, and the row that each belongs to."""
    lists = _whole(column)
    parents = np.asarray(pc.list_parent_indices(lists).to_numpy(zero_copy_only=False), dtype=np.int64)
    return lists.flatten(), parents


def _sources(column: pa.ChunkedArray) -> tuple[list[str], Ints]:
    """Distinct sources ("" for null), and each row's place among them."""
    encoded = pc.fill_null(_whole(column), "").dictionary_encode()
    codes = np.asarray(encoded.indices.to_numpy(zero_copy_only=False), dtype=np.int64)
    return encoded.dictionary.to_pylist(), codes


def _at_or_above(
    evidence: pa.StructArray, parents: Ints, source: pa.ChunkedArray, detectors: Sequence[DetectorRecord]
) -> tuple[Ints, Ints, Ints]:
    """Which evidence reaches its threshold; with the detector's place and the threshold of each."""
    known = pa.array([digest_bytes(detector.digest) for detector in detectors], DIGEST)
    found = pc.index_in(evidence.field("detector"), value_set=known)
    if found.null_count:
        stranger = evidence.field("detector").filter(found.is_null())[0].as_py()
        raise IntegrityError(
            "unknown_detector",
            expected="evidence by the detectors of the run's manifest",
            found=digest_name(stranger),
            remedy="Scan the corpus again.",
        )
    names, codes = _sources(source)
    flags = np.array([[_flag(one, name) for name in names] for one in detectors], dtype=np.int64)
    judges = np.asarray(found.to_numpy(zero_copy_only=False), dtype=np.int64)
    scores = np.asarray(evidence.field("score").to_numpy(zero_copy_only=False), dtype=np.int64)
    limits = flags[judges, codes[parents]] if len(judges) else np.zeros(0, dtype=np.int64)
    hits = np.flatnonzero(scores >= limits)
    return hits, judges[hits], limits[hits]


def _flag(detector: DetectorRecord, source: str) -> int:
    """The flag threshold in force for a source; above every score where the detector is off."""
    threshold = detector.threshold(source)
    return threshold.flag if threshold.action != "off" else GRID + 1


def _extended(column: pa.Array, nulls: int, kind: pa.DataType) -> pa.Array:
    return pa.concat_arrays([column.cast(kind), pa.nulls(nulls, kind)])
