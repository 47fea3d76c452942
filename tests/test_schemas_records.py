"""Records at rest: what was written reads back the same, and nothing but what would have been written is read."""

from __future__ import annotations

import json
import pickle
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from forebear.schemas.canonical import canonical_json
from forebear.schemas.digests import digest_name, leaf_hash, sha256_name
from forebear.schemas.enums import EntryKind
from forebear.schemas.errors import DataError, ForebearError, IntegrityError, UsageError
from forebear.schemas.records import DetectorRecord, Entry, Head, ObjectRef, RunManifest, Threshold, run_digest_leaves

calm = settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.too_slow])
words = st.text(max_size=6)
digests = st.binary(min_size=32, max_size=32).map(digest_name)
counts = st.integers(0, 2**63)
plain = st.dictionaries(words, st.none() | st.booleans() | st.integers() | words | st.lists(words, max_size=2), max_size=3)
numbers = st.dictionaries(words, counts, max_size=3)
refs = st.builds(ObjectRef, digests, counts, counts)
thresholds = st.builds(Threshold, st.integers(0, 1024), st.integers(0, 1024), st.sampled_from(["drop", "flag"]))
detectors = st.builds(
    DetectorRecord,
    digest=digests,
    name=words,
    category=words,
    version=words,
    reason=words,
    parameters=plain,
    thresholds=st.dictionaries(words, thresholds, max_size=2).map(lambda own: {**own, "": Threshold(820, 820, "drop")}),
    false_positive_rate=st.none() | st.dictionaries(words, words, max_size=2),
)
manifests = st.builds(
    RunManifest,
    run_digest=digests,
    version=words,
    policy=plain,
    policy_digest=digests,
    detectors=st.lists(detectors, max_size=2).map(tuple),
    signature=st.none() | plain,
    reader=plain,
    against=st.lists(digests, max_size=2).map(tuple),
    rows=numbers,
    reasons=numbers,
    sources=st.dictionaries(words, numbers, max_size=2),
    shards=refs,
    flagged=refs,
    cleaned=st.none() | refs,
    log=st.lists(refs, max_size=2).map(tuple),
    bands=st.lists(refs, max_size=2).map(tuple),
    absence_root=st.none() | digests,
    incomplete=st.lists(plain, max_size=2).map(tuple),
    overflow=st.lists(plain, max_size=2).map(tuple),
    curve=st.lists(st.dictionaries(words, words, max_size=2), max_size=2).map(tuple),
    started=words,
    finished=words,
    environment=plain,
)
entries = st.builds(Entry, st.sampled_from(EntryKind), digests, words, plain)
heads = st.builds(Head, counts, st.binary(min_size=32, max_size=32))


@calm
@given(manifests)
def test_a_manifest_reads_back(manifest: RunManifest) -> None:
    assert RunManifest.from_bytes(manifest.to_bytes()) == manifest


@calm
@given(entries)
def test_an_entry_reads_back(entry: Entry) -> None:
    assert Entry.from_bytes(entry.to_bytes()) == entry


@calm
@given(heads)
def test_a_head_reads_back(head: Head) -> None:
    assert Head.from_bytes(head.to_bytes()) == head
    assert Head.from_bytes(head.to_bytes() + b"\n" + "— acme AAAA\n".encode()) == head


@calm
@given(manifests, st.data())
def test_a_manifest_with_other_bytes_is_another_or_none(manifest: RunManifest, data: st.DataObject) -> None:
    assert_strict(RunManifest, manifest, data)


@calm
@given(entries, st.data())
def test_an_entry_with_other_bytes_is_another_or_none(entry: Entry, data: st.DataObject) -> None:
    assert_strict(Entry, entry, data)


@calm
@given(heads, st.data())
def test_a_head_with_other_bytes_is_another_or_none(head: Head, data: st.DataObject) -> None:
    assert_strict(Head, head, data)


def assert_strict(kind: Any, record: Any, data: st.DataObject) -> None:
    """A change of the bytes is either refused as forebear's own error, or gives a record with exactly those bytes."""
    written = bytearray(record.to_bytes())
    at = data.draw(st.integers(0, len(written) - 1))
    change = data.draw(st.sampled_from(["flip", "cut", "drop", "double"]))
    if change == "flip":
        written[at] ^= 1 << data.draw(st.integers(0, 7))
    elif change == "cut":
        del written[at:]
    elif change == "drop":
        del written[at]
    else:
        written.insert(at, written[at])
    try:
        read = kind.from_bytes(bytes(written))
    except IntegrityError as error:
        assert error.kind == "malformed_record"
    else:
        assert bytes(written).startswith(read.to_bytes())


SOUND = Entry(EntryKind.RUN, sha256_name(b""), "2026-11-01T00:00:00Z", {"rows": 1})

NOT_ENTRIES = {
    "nothing": b"",
    "no object": b"[]",
    "white space": SOUND.to_bytes() + b"\n",
    "another order of keys": json.dumps(json.loads(SOUND.to_bytes()), separators=(",", ":"))[::-1].encode(),
    "an unknown kind": SOUND.to_bytes().replace(b'"run"', b'"runs"'),
    "another schema": SOUND.to_bytes().replace(b"entry/1", b"entry/2"),
    "an object that is no digest": SOUND.to_bytes().replace(b"sha256:e", b"sha256:E"),
    "one key more": canonical_json({**json.loads(SOUND.to_bytes()), "more": 1}),
    "a key twice": SOUND.to_bytes().replace(b'"kind":"run"', b'"kind":"run","kind":"run"'),
    "a float": SOUND.to_bytes().replace(b'"rows":1', b'"rows":1.0'),
    "no UTF-8": SOUND.to_bytes().replace(b"rows", b"ro\xffs"),
    "a hundred thousand brackets": b"[" * 100_000,
}


@pytest.mark.parametrize("sentence", NOT_ENTRIES)
def test_an_entry_is_not(sentence: str) -> None:
    with pytest.raises(IntegrityError):
        Entry.from_bytes(NOT_ENTRIES[sentence])


ROOT = Head(3, bytes(32)).to_bytes().split(b"\n")[2]
NOT_HEADS = {
    "nothing": b"",
    "another origin": b"forebear/ledger/2\n3\n" + ROOT + b"\n",
    "a size with a zero before it": b"forebear/ledger/1\n03\n" + ROOT + b"\n",
    "a negative size": b"forebear/ledger/1\n-3\n" + ROOT + b"\n",
    "a size in other digits": "forebear/ledger/1\n٣\n".encode() + ROOT + b"\n",
    "a root too short": b"forebear/ledger/1\n3\nAAAA\n",
    "a root whose last bits are not zero": b"forebear/ledger/1\n3\n" + ROOT.replace(b"A=", b"B=") + b"\n",
    "no last new line": b"forebear/ledger/1\n3\n" + ROOT,
    "a fourth line": b"forebear/ledger/1\n3\n" + ROOT + b"\nmore\n",
    "carriage returns": b"forebear/ledger/1\r\n3\r\n" + ROOT + b"\r\n",
}


@pytest.mark.parametrize("sentence", NOT_HEADS)
def test_a_head_is_not(sentence: str) -> None:
    with pytest.raises(IntegrityError):
        Head.from_bytes(NOT_HEADS[sentence])


def test_a_run_digest_depends_on_neither_order_nor_repetition() -> None:
    shards = [(sha256_name(bytes([n])), "", n, sha256_name(b"x")) for n in range(4)]
    leaves = run_digest_leaves(scope={"policy": "p"}, shards=shards)
    assert run_digest_leaves(scope={"policy": "p"}, shards=[*shards[::-1], shards[0]]) == leaves
    assert len(leaves) == 5
    assert leaves[0] == leaf_hash(b'{"policy":"p"}')


def test_every_part_of_a_shard_changes_a_run_digest() -> None:
    sound = (sha256_name(b"a"), "", 3, sha256_name(b"x"))
    others = [
        (sha256_name(b"b"), *sound[1:]),
        (sound[0], "web", *sound[2:]),
        (*sound[:2], 4, sound[3]),
        (*sound[:3], sha256_name(b"y")),
    ]
    leaves = {run_digest_leaves(scope={}, shards=[one])[1] for one in [sound, *others]}
    assert len(leaves) == 5


def test_a_source_has_its_own_threshold_or_the_general_one() -> None:
    own, general = Threshold(1, 2, "flag"), Threshold(3, 4, "drop")
    record = DetectorRecord(sha256_name(b""), "n", "c", "1", "r", {}, {"": general, "forum": own})
    assert record.threshold("forum") is own
    assert record.threshold("web") is record.threshold("") is record.threshold(None) is general


@pytest.mark.parametrize("kind", [DataError, IntegrityError, UsageError])
def test_an_error_survives_its_way_out_of_a_worker(kind: type[ForebearError]) -> None:
    error = pickle.loads(pickle.dumps(kind("a_kind", expected="this", found="that", remedy="Do so.")))
    assert type(error) is kind
    assert str(error) == "expected this; found that. Do so."
    assert error.to_json() == {
        "schema": "forebear/error/1",
        "error": {"kind": "a_kind", "expected": "this", "found": "that", "remedy": "Do so."},
    }
    assert error.exit_code == (1 if kind is IntegrityError else 2)
