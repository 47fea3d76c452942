"""What a stranger may put into a ledger: records, tables and names that are no such thing cost a message, never more."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from world import TIME, Document, make_ledger

from forebear.schemas import tables
from forebear.schemas.canonical import canonical_json
from forebear.schemas.digests import sha256_name
from forebear.schemas.enums import EntryKind
from forebear.schemas.errors import ForebearError, IntegrityError, UsageError
from forebear.schemas.records import Entry, Head, RunManifest
from forebear.schemas.tables import BANDS, LOG, SHARDS, parquet_bytes, read_parquet
from forebear.tracer.ledger.key_records import KeyRecord
from forebear.tracer.ledger.ledger import Ledger
from forebear.tracer.ledger.verify import verify
from forebear.tracer.lineage.document import LineageDocument

READERS: dict[str, Callable[[bytes], object]] = {
    "manifest": RunManifest.from_bytes,
    "entry": Entry.from_bytes,
    "head": Head.from_bytes,
    "key record": KeyRecord.from_bytes,
    "lineage": LineageDocument.from_bytes,
}
BOMBS = {
    "deep lists": b"[" * 300_000,
    "deep objects": b'{"schema":' * 100_000,
    "a number of a million digits": b'{"schema":' + b"9" * 1_000_000 + b"}",
    "a text of ten million characters": b'{"schema":"' + b"x" * 10_000_000 + b'"}',
    "a hundred thousand keys": b"{" + b",".join(b'"%d":%d' % (n, n) for n in range(100_000)) + b"}",
    "NaN": b'{"schema":NaN}',
    "a key twice": b'{"schema":"forebear/run/1","schema":"forebear/run/1"}',
    "bytes that are no text": bytes(range(256)),
    "a lone surrogate": b'{"schema":"\\ud800"}',
    "nothing": b"",
}


@pytest.mark.parametrize("what", BOMBS)
@pytest.mark.parametrize("reader", READERS)
def test_a_reader_of_records_refuses(reader: str, what: str) -> None:
    began = time.process_time()
    with pytest.raises(ForebearError):
        READERS[reader](BOMBS[what])
    assert time.process_time() - began < 5


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=6), inner, max_size=4),
    max_leaves=12,
)


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    world = make_ledger(tmp_path_factory.mktemp("hostile") / "l", clean=True)
    value: dict[str, Any] = json.loads(world.manifest.to_bytes())
    return value


@settings(max_examples=80)
@given(data=st.data())
def test_whatever_a_manifest_holds_verification_answers(
    manifest: dict[str, Any], tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    """One field of a sound manifest is replaced by anything at all, and the run is committed so."""
    field = data.draw(st.sampled_from(sorted(manifest)))
    value = data.draw(JSON)
    ledger = Ledger.open(tmp_path_factory.mktemp("fuzz") / "l", create=True)
    run = ledger.put_object(canonical_json({**manifest, field: value}))
    ledger.append(Entry(EntryKind.RUN, run, TIME))
    report = verify(ledger, level="full")
    assert report.findings
    json.dumps(report.to_json())


@settings(max_examples=150)
@given(st.sampled_from(sorted(READERS)), JSON | st.binary(max_size=60))
def test_whatever_a_record_holds_it_is_read_or_refused(reader: str, value: Any) -> None:
    try:
        READERS[reader](value if isinstance(value, bytes) else json.dumps(value).encode())
    except ForebearError:
        return


PATHS = [
    "../../../etc/passwd",
    "/etc/passwd",
    "sha256:../" + "a" * 61,
    "sha256:" + "A" * 64,
    "s3://bucket/key",
    "sha256:" + "a" * 63 + "\n",
]


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("field", ["shards", "flagged", "log", "bands"])
def test_no_path_is_taken_from_a_manifest(manifest: dict[str, Any], tmp_path: Path, path: str, field: str) -> None:
    opened: list[str] = []
    reference = {"object": path, "bytes": 10, "rows": 1}
    ledger = Ledger.open(tmp_path / "l", create=True)
    run = ledger.put_object(canonical_json({**manifest, field: [reference] if field in ("log", "bands") else reference}))
    ledger.append(Entry(EntryKind.RUN, run, TIME))
    with pytest.MonkeyPatch.context() as patched:
        get = type(ledger.store._backend).get
        patched.setattr(type(ledger.store._backend), "get", lambda self, at: opened.append(at) or get(self, at))
        assert verify(Ledger(ledger.store), level="full").findings
    assert all(one.startswith(("objects/sha256/", "entries/", "head")) and ".." not in one for one in opened)


# Tables


def test_a_table_of_a_hundred_thousand_columns_is_refused_soon() -> None:
    wide = pa.table({f"c{n}": pa.array([1]) for n in range(20_000)})
    sink = pa.BufferOutputStream()
    pq.write_table(wide, sink)
    began = time.process_time()
    with pytest.raises((ValueError, OSError)):
        read_parquet(sink.getvalue(), LOG)
    assert time.process_time() - began < 20


def test_a_table_that_says_it_is_too_large_is_refused_with_the_figure(monkeypatch: pytest.MonkeyPatch) -> None:
    data = parquet_bytes(pa.table([pa.array([1] * 5000, pa.uint64()), pa.array([1] * 5000, pa.uint32())], schema=BANDS))
    read_parquet(data, BANDS)
    monkeypatch.setattr(tables, "MAX_TABLE_BYTES", 50_000)
    with pytest.raises(UsageError) as caught:
        read_parquet(data, BANDS)
    assert (caught.value.kind, caught.value.exit_code) == ("over_limit", 2)
    assert "50000 bytes" in caught.value.expected
    read_parquet(data, BANDS, columns=[])


HIDDEN: dict[str, tuple[pa.Schema, dict[str, pa.Array]]] = {
    "a null reason": (LOG, {"reasons": pa.array([["toxic", None]])}),
    "a null path": (SHARDS, {"paths": pa.array([[None]], pa.list_(pa.string()))}),
    "a null piece of evidence": (LOG, {"evidence": pa.array([[None]], pa.list_(tables.EVIDENCE_ITEM))}),
}


@pytest.mark.parametrize("what", HIDDEN)
def test_a_null_inside_a_list_is_refused(what: str) -> None:
    schema, columns = HIDDEN[what]
    row = {
        field.name: columns.get(field.name, pa.array([[]] if pa.types.is_list(field.type) else [_filler(field.type)], field.type))
        for field in schema
    }
    sink = pa.BufferOutputStream()
    pq.write_table(pa.table(row), sink, write_page_checksum=True)
    with pytest.raises(ValueError, match="null"):
        read_parquet(sink.getvalue(), schema)


def _filler(kind: pa.DataType) -> Any:
    return bytes(32) if kind == tables.DIGEST else "keep" if kind == pa.string() else 1


@settings(max_examples=150)
@given(st.integers(0, 10**9), st.integers(0, 7))
def test_a_flipped_bit_of_a_table_is_refused_or_changes_nothing(at: int, bit: int) -> None:
    table = pa.table([pa.array(range(2000), pa.uint64()), pa.array(range(2000), pa.uint32())], schema=BANDS)
    data = bytearray(parquet_bytes(table))
    data[at % len(data)] ^= 1 << bit
    try:
        found = read_parquet(bytes(data), BANDS)
    except (OSError, ValueError, pa.ArrowException, MemoryError, UsageError):
        return
    assert found.equals(table)


# A damaged ledger still answers


def test_a_damaged_pack_is_told_by_every_answer_that_rests_on_it(tmp_path: Path) -> None:
    from forebear.tracer.audit.session import Session

    world = make_ledger(tmp_path / "l", shards={"a": [Document("x", {"toxicity": 5})]})
    pack = world.manifest.log[0].object
    path = tmp_path / "l" / "objects" / "sha256" / pack[7:9] / pack[7:]
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    session = Session.open(tmp_path / "l")
    assert session.sql("SELECT count(*) AS n FROM audit.run").rows() == [{"n": 1}]
    with pytest.raises(IntegrityError):
        session.sql("SELECT count(*) FROM audit.decision")


def test_an_object_swapped_after_a_session_opened_is_noticed_when_it_is_read(tmp_path: Path) -> None:
    from forebear.tracer.audit.session import Session

    world = make_ledger(tmp_path / "l")
    session = Session.open(tmp_path / "l")
    assert session.runs
    pack, flagged = world.manifest.log[0].object, world.manifest.flagged.object
    shutil.copy(*(tmp_path / "l" / "objects" / "sha256" / one[7:9] / one[7:] for one in (flagged, pack)))
    with pytest.raises(IntegrityError) as caught:
        session.sql("SELECT count(*) FROM audit.decision")
    assert caught.value.expected == pack
    assert sha256_name(b"") != pack
