"""The second tier's cascade, without a transformer: what it scores again, and what its audit sample tells."""

from __future__ import annotations

import hashlib
import importlib.util
from decimal import Decimal

import numpy as np
import pyarrow as pa
import pytest
from real_texts import topics
from scanning import policy_of

from forebear.schemas.errors import UsageError
from forebear.schemas.records import DetectorRecord, Threshold
from forebear.schemas.tables import DIGEST, LOG
from forebear.tracer.detect.row_detector import rows_of
from forebear.tracer.detect.second_tier import SecondTier, choose, sampled
from forebear.tracer.detect.toxicity import Toxicity
from forebear.tracer.scan.audit_sample import add_counts, count_tiers, describe_tiers
from forebear.tracer.scan.plan import build_detectors

BAD = "you are a stupid fucking idiot and everyone hates you, shut the fuck up"
CLEAN = topics()[:60]


@pytest.fixture(scope="module")
def first() -> Toxicity:
    return Toxicity()


def chosen(first, texts, **tier):
    rows = rows_of(pa.array(texts, pa.large_string()))
    return choose(rows, first, first.score(rows.texts), tier=SecondTier(**tier))


def test_only_the_suspicious_windows_of_a_suspicious_document_are_scored_again(first):
    document = f"{CLEAN[0]} {BAD} {BAD} {CLEAN[1]}"
    found = chosen(first, [CLEAN[2], document, None, ""], sample=Decimal(0))
    assert set(found.document.tolist()) == {1}
    windows = first.windows(pa.array([document]))
    assert 0 < len(found) < len(windows)
    data = document.encode()
    assert all(b"idiot" in data[a:b] for a, b in zip(found.start.tolist(), found.stop.tolist(), strict=True))


def test_every_window_of_a_sampled_document_is_scored(first):
    found = chosen(first, CLEAN[:10], suspicious=1025, sample=Decimal(1))
    assert len(found) == len(first.windows(pa.array(CLEAN[:10])))
    assert not found.suspicious.any()


def test_windows_are_cut_as_the_first_tier_cuts_them(first):
    found = chosen(first, [f"{BAD} " * 3, CLEAN[3]], sample=Decimal(1))
    windows = first.windows(pa.array([CLEAN[3]]))
    assert list(zip(found.start[found.document == 1], found.stop[found.document == 1], strict=True)) == list(
        zip(windows.start.tolist(), windows.stop.tolist(), strict=True)
    )


def test_the_sample_is_the_share_asked_for_and_the_same_wherever_a_document_stands():
    digests = [hashlib.sha256(str(n).encode()).digest() for n in range(4000)]
    column = pa.array(digests, DIGEST)
    where = sampled(column, Decimal("0.1"))
    assert 320 < where.sum() < 480
    assert sampled(column.take(pa.array(range(3999, -1, -1))), Decimal("0.1")).tolist() == where[::-1].tolist()
    assert not sampled(column, Decimal(0)).any()
    assert sampled(pa.array([None, *digests], DIGEST), Decimal(1)).tolist() == [False] + [True] * 4000


def log_of(scores: list[tuple[int, int | None]]) -> tuple[pa.Table, list[DetectorRecord]]:
    """A log of documents with first- and second-tier scores."""
    digests = ["sha256:" + hashlib.sha256(name).hexdigest() for name in (b"first", b"second")]
    limits = {"": Threshold(820, 820, "drop")}
    parameters = ({}, {"first": digests[0], "suspicious": 308})
    records = [
        DetectorRecord(digest, name, "toxicity", "1", "toxic", given, limits)
        for digest, name, given in zip(digests, ("toxicity", "detoxify"), parameters, strict=True)
    ]
    rows = []
    for n, pair in enumerate(scores):
        found = [
            {"detector": bytes.fromhex(digest[7:]), "label": "x", "score": score, "start": 0, "stop": 1, "item": None}
            for digest, score in zip(digests, pair, strict=True)
            if score is not None
        ]
        row = dict.fromkeys(LOG.names) | {"shard": bytes(32), "row": n, "document": bytes(32), "action": "keep"}
        rows.append(row | {"reasons": [], "evidence": found})
    return pa.Table.from_pylist(rows, LOG), records


def test_the_audit_sample_counts_what_the_first_tier_missed():
    log, records = log_of([(900, 900), (400, 100), (10, None), (10, 5), (20, 830), (0, 820)])
    counts = count_tiers(log, records)
    assert counts == {"suspicious": 2, "rest": 4, "sampled": 3, "missed": 2}
    assert count_tiers(log, records[:1]) == {}
    assert add_counts([counts, counts, {}]) == {"missed": 4, "rest": 8, "sampled": 6, "suspicious": 4}


def test_the_estimate_is_told_with_its_interval_and_never_for_nothing():
    assert describe_tiers({}) is None
    assert "nothing is known" in str(describe_tiers({"suspicious": 1, "rest": 9, "sampled": 0, "missed": 0}))
    said = str(describe_tiers({"suspicious": 1, "rest": 1000, "sampled": 100, "missed": 10}))
    assert "about 100 missed in all (95%: 55 to 174)" in said


@pytest.mark.skipif(importlib.util.find_spec("detoxify") is not None, reason="the extra is installed")
def test_a_second_tier_without_the_extra_says_what_to_install(tmp_path):
    with pytest.raises(UsageError) as raised:
        build_detectors(policy_of(tmp_path, '[toxicity.detoxify]\ncheckpoint = "original"\n'))
    assert raised.value.kind == "missing_extra"
    assert "forebear[detoxify]" in raised.value.remedy


def test_scores_of_windows_by_themselves_are_those_of_the_document(first):
    texts = [f"{CLEAN[0]} {BAD}", BAD]
    rows = rows_of(pa.array(texts))
    best = first.score(rows.texts)
    found = choose(rows, first, best, tier=SecondTier(suspicious=int(best.score.min()), sample=Decimal(0)))
    worst = list(zip(best.start.tolist(), best.stop.tolist(), strict=True))
    picked = {n: set() for n in range(2)}
    for n, a, b in np.stack([found.document, found.start, found.stop], axis=1).tolist():
        picked[n].add((a, b))
    assert all(worst[n] in picked[n] for n in range(2))
