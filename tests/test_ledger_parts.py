"""Log packs as parts: digests do not depend on packing, and what is derived from a log follows from its rows."""

from __future__ import annotations

import dataclasses
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from world import detector

from forebear.schemas.canonical import row_leaves
from forebear.schemas.digests import EMPTY_ROOT, digest_bytes, digest_name, documents_digest, documents_range, merkle_root
from forebear.schemas.errors import IntegrityError
from forebear.schemas.records import DetectorRecord
from forebear.schemas.tables import FLAGGED, LOG
from forebear.tracer.ledger import parts

SHARD = bytes(range(32))
OTHER = bytes(32)


def row(shard: bytes, n: int, **fields: Any) -> dict[str, Any]:
    empty: dict[str, Any] = dict.fromkeys(LOG.names)
    return {**empty, "shard": shard, "row": n, "action": "keep", "reasons": [], "evidence": [], **fields}


def table(rows: list[dict[str, Any]]) -> pa.Table:
    return pa.Table.from_pylist(rows, schema=LOG)


def shard_rows(count: int) -> list[dict[str, Any]]:
    return [row(SHARD, n, document=bytes([n]) * 32 if n % 3 else None, action="drop" if n % 5 == 0 else "keep") for n in range(count)]


@pytest.mark.parametrize("count", [0, 1, 3, 4, 5, 7, 8, 11, 12, 13, 16, 17, 31, 32, 33])
def test_however_a_log_is_cut_at_aligned_ranges_the_roots_are_those_of_the_whole(count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = shard_rows(count)
    whole = table(rows)
    expected = merkle_root(row_leaves(whole)) if rows else EMPTY_ROOT
    monkeypatch.setattr(parts, "RANGE_ROWS", 4)
    in_one = parts.summarise(whole)
    in_many = [span for start in range(0, count, 4) for span in parts.summarise(table(rows[start : start + 4]))]
    assert in_one == in_many
    assert parts.part_root(in_many) == expected
    packed = b"".join(one["document"] or bytes(32) for one in rows)
    ranges = [documents_range(packed[start : start + 128]) for start in range(0, len(packed), 128)]
    assert parts.documents_of(in_many) == documents_digest(ranges)


def test_a_summary_counts_each_action() -> None:
    [span] = parts.summarise(table([row(SHARD, 0), row(SHARD, 1, action="drop"), row(SHARD, 2, action="error"), row(SHARD, 3)]))
    assert (span.shard, span.first_row, span.rows) == (digest_name(SHARD), 0, 4)
    assert (span.kept, span.dropped, span.errored) == (2, 1, 1)


def test_a_sliced_table_of_many_chunks_has_the_same_summary() -> None:
    rows = shard_rows(9)
    chunked = pa.concat_tables([table([row(OTHER, 0)]), *(table([one]) for one in rows)])
    assert parts.summarise(chunked.slice(1)) == parts.summarise(table(rows))
    assert parts.flagged_rows(chunked.slice(1), [detector()]).num_rows == 0
    assert parts.count_sources(chunked.slice(1)) == parts.count_sources(table(rows))


NOT_CONSECUTIVE = {
    "a row is missing": [row(SHARD, 0), row(SHARD, 2)],
    "a row is there twice": [row(SHARD, 0), row(SHARD, 0)],
    "rows are out of order": [row(SHARD, 1), row(SHARD, 0)],
    "a shard comes back": [row(SHARD, 0), row(OTHER, 0), row(SHARD, 1)],
}


@pytest.mark.parametrize("sentence", NOT_CONSECUTIVE)
def test_rows_that_are_not_consecutive_are_refused(sentence: str) -> None:
    with pytest.raises(IntegrityError, match="one after the other"):
        parts.summarise(table(NOT_CONSECUTIVE[sentence]))


def test_an_action_that_is_none_is_refused() -> None:
    with pytest.raises(IntegrityError, match="keep, drop or error"):
        parts.summarise(table([row(SHARD, 0, action="kept")]))


NOT_ALIGNED = {
    "the first range is missing": lambda spans: spans[1:],
    "a range in the middle is missing": lambda spans: [spans[0], spans[2]],
    "a range is there twice": lambda spans: [spans[0], spans[0], *spans[1:]],
    "a range in the middle is short": lambda spans: [dataclasses.replace(spans[0], rows=3), *spans[1:]],
}


@pytest.mark.parametrize("sentence", NOT_ALIGNED)
def test_spans_that_do_not_cover_a_shard_have_no_root(sentence: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parts, "RANGE_ROWS", 4)
    spans = NOT_ALIGNED[sentence](parts.summarise(table(shard_rows(10))))
    for function in (parts.part_root, parts.documents_of):
        with pytest.raises(IntegrityError, match="spans of 4 rows"):
            function(spans)


DETECTORS = [
    detector("toxicity", flag=500, drop=900, sources={"forum": (100, 100)}),
    detector("leaks", category="benchmark", reason="benchmark_leak", flag=1, drop=1, action="flag"),
    dataclasses.replace(detector("idle", flag=0), thresholds={"": detector("idle", flag=0, action="off").thresholds[""]}),
]

evidence = st.fixed_dictionaries(
    {
        "detector": st.sampled_from([digest_bytes(one.digest) for one in DETECTORS]),
        "label": st.sampled_from(["toxic", "ü"]),
        "score": st.integers(0, 1024),
        "start": st.integers(0, 9),
        "stop": st.integers(0, 9),
        "item": st.none() | st.just("item"),
    }
)
logs = st.lists(
    st.fixed_dictionaries(
        {
            "source": st.sampled_from([None, "", "forum", "books"]),
            "action": st.sampled_from(["keep", "drop", "error"]),
            "reasons": st.lists(st.sampled_from(["toxic", "not_text"]), unique=True),
            "evidence": st.lists(evidence, max_size=3),
        }
    ),
    max_size=8,
).map(lambda many: [row(SHARD, n, **one) for n, one in enumerate(many)])


def flagged_one_by_one(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """What `flagged_rows` says, by the definition of FLAGGED."""
    named: dict[bytes, DetectorRecord] = {digest_bytes(one.digest): one for one in DETECTORS}
    found = []
    for one in rows:
        shared = {name: one[name] for name in FLAGGED.names if name in one}
        for item in one["evidence"]:
            judge = named[item["detector"]]
            threshold = judge.threshold(one["source"])
            if threshold.action != "off" and item["score"] >= threshold.flag:
                said = {name: item[name] for name in ("detector", "label", "item", "score")}
                found.append({**shared, **said, "category": judge.category, "flag": threshold.flag})
        if one["action"] == "error":
            found.append({**shared, **dict.fromkeys(("detector", "category", "label", "item", "score", "flag"))})
    return found


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(logs)
def test_flagged_rows_are_the_evidence_at_or_above_the_threshold_of_its_source_and_the_errors(rows: list[dict[str, Any]]) -> None:
    flagged = parts.flagged_rows(table(rows), DETECTORS)
    assert flagged.schema == FLAGGED
    assert flagged.to_pylist() == flagged_one_by_one(rows)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(logs)
def test_counts_are_those_of_the_rows(rows: list[dict[str, Any]]) -> None:
    reasons = [reason for one in rows for reason in one["reasons"]]
    assert parts.count_reasons(table(rows)) == {reason: reasons.count(reason) for reason in sorted(set(reasons))}
    counted = parts.count_sources(table(rows))
    assert set(counted) == {one["source"] or "" for one in rows}
    for source, counts in counted.items():
        actions = [one["action"] for one in rows if (one["source"] or "") == source]
        expected = {
            "in": len(actions),
            "kept": actions.count("keep"),
            "dropped": actions.count("drop"),
            "errored": actions.count("error"),
        }
        assert counts == expected


def test_evidence_by_a_stranger_is_refused() -> None:
    item = {"detector": OTHER, "label": "", "score": 1, "start": 0, "stop": 0, "item": None}
    with pytest.raises(IntegrityError, match="detectors of the run"):
        parts.flagged_rows(table([row(SHARD, 0, evidence=[item])]), DETECTORS)


def test_errors_are_flagged_where_no_detector_ran() -> None:
    assert parts.flagged_rows(table([row(SHARD, 0, action="error")]), []).num_rows == 1
