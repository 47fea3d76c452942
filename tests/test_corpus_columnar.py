"""Rows of Parquet and Arrow IPC: column types, missing columns, damage, and re-reading a few rows."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from forebear.schemas.errors import DataError
from forebear.tracer.corpus.inputs import ReaderOptions
from forebear.tracer.corpus.rows import Batch, Source, read_rows, read_texts

OPTIONS = ReaderOptions()
Row = tuple[str | None, str | None, str | None, str | None]


def parquet(table: pa.Table, **how: Any) -> bytes:
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, **how)
    return bytes(sink.getvalue())


def arrow(table: pa.Table, *, of_file: bool = True, rows: int = 10, **how: Any) -> bytes:
    sink = pa.BufferOutputStream()
    with (pa.ipc.new_file if of_file else pa.ipc.new_stream)(sink, table.schema, **how) as writer:
        writer.write_table(table, rows)
    return bytes(sink.getvalue())


def batches(data: bytes, **how: Any) -> list[Batch]:
    return list(read_rows(Source.from_bytes(data, name="x"), **{"options": OPTIONS, **how}))


def read(data: bytes, **how: Any) -> list[Row]:
    found: list[Row] = []
    for batch in batches(data, **how):
        assert batch.first_row == len(found)
        assert [str(c.type) for c in (batch.texts, batch.source_id, batch.source, batch.error)] == ["large_string"] + ["string"] * 3
        batch.texts.validate(full=True)
        found += zip(*(c.to_pylist() for c in (batch.texts, batch.source_id, batch.source, batch.error)), strict=True)
    return found


def numbered(count: int) -> pa.Table:
    texts = [f"document {n} " + "word " * (n % 50) for n in range(count)]
    return pa.table({"text": texts, "id": list(range(count)), "source": ["web"] * count, "other": [n * 1.5 for n in range(count)]})


def raw_strings(*values: bytes | None) -> pa.Array:
    """A string column with bytes that are no UTF-8: Arrow lets them in unchecked."""
    column = pa.array(values, pa.binary())
    return pa.Array.from_buffers(pa.string(), len(column), column.buffers())


TEXTS: dict[str, tuple[pa.Array, list[tuple[str | None, str | None]]]] = {
    "strings": (pa.array(["a", "", None, "\0é"]), [("a", None), ("", None), (None, None), ("\0é", None)]),
    "large strings": (pa.array(["a", None], pa.large_string()), [("a", None), (None, None)]),
    "string views": (
        pa.array(["a", "long enough to lie elsewhere", None], pa.string_view()),
        [("a", None), ("long enough to lie elsewhere", None), (None, None)],
    ),
    "dictionaries of strings": (
        pa.array(["a", "b", None, "a"]).dictionary_encode(),
        [("a", None), ("b", None), (None, None), ("a", None)],
    ),
    "nothing but nulls": (pa.nulls(2), [(None, None), (None, None)]),
    "integers are no text": (pa.array([1, None]), [(None, "not_text"), (None, None)]),
    "binary is no text, even where it is UTF-8": (pa.array([b"a", None]), [(None, "not_text"), (None, None)]),
    "dictionaries of integers are no text": (pa.array([1, None]).dictionary_encode(), [(None, "not_text"), (None, None)]),
    "lists are no text": (pa.array([["a"], None]), [(None, "not_text"), (None, None)]),
    "structs are no text": (pa.array([{"a": "b"}, None]), [(None, "not_text"), (None, None)]),
    "invalid UTF-8 costs its row": (
        raw_strings(b"a", b"\xff", None, b"\xed\xa0\x80"),
        [("a", None), (None, "invalid_utf8"), (None, None), (None, "invalid_utf8")],
    ),
}


@pytest.mark.parametrize("claim", TEXTS)
@pytest.mark.parametrize("layout", ["parquet", "file", "stream"])
def test_what_a_text_column_may_be(claim: str, layout: str) -> None:
    column, wanted = TEXTS[claim]
    table = pa.table({"text": column})
    if layout == "parquet" and "views" in claim:
        table = table.cast(pa.schema([("text", pa.string())]))
    data = parquet(table) if layout == "parquet" else arrow(table, of_file=layout == "file")
    assert [(row[0], row[3]) for row in read(data)] == wanted


IDS: dict[str, tuple[pa.Array, list[str | None]]] = {
    "strings as they are": (pa.array(["007", None]), ["007", None]),
    "integers as digits": (pa.array([-1, 2**62]), ["-1", str(2**62)]),
    "unsigned integers as digits": (pa.array([2**64 - 1], pa.uint64()), [str(2**64 - 1)]),
    "booleans as JSON": (pa.array([True, False]), ["true", "false"]),
    "floats as JSON": (pa.array([1.5, 1e300, float("nan"), None]), ["1.5", "1e+300", "NaN", None]),
    "dictionaries of strings": (pa.array(["a", None]).dictionary_encode(), ["a", None]),
    "lists are none": (pa.array([["a"]]), [None]),
    "binary is none": (pa.array([b"a"]), [None]),
    "invalid UTF-8 is none": (raw_strings(b"\xff", b"a"), [None, "a"]),
}


@pytest.mark.parametrize("claim", IDS)
def test_what_an_id_column_may_be(claim: str) -> None:
    column, wanted = IDS[claim]
    table = pa.table({"text": ["a"] * len(column), "id": column})
    assert [row[1] for row in read(parquet(table))] == wanted
    assert [row[1] for row in read(arrow(table))] == wanted


@pytest.mark.parametrize(
    "data", [parquet(pa.table({"body": ["x", "y"], "id": ["1", "2"]})), arrow(pa.table({"body": ["x", "y"], "id": ["1", "2"]}))]
)
def test_a_missing_text_column_names_the_columns_there_are(data: bytes) -> None:
    with pytest.raises(DataError) as caught:
        read(data)
    assert caught.value.kind == "missing_text_column"
    assert "'body'" in caught.value.found
    assert "'id'" in caught.value.found
    assert read(data, missing_ok=True) == [(None, "1", None, "not_text"), (None, "2", None, "not_text")]


@pytest.mark.parametrize("data", [parquet(pa.table({"body": ["x"] * 5})), arrow(pa.table({"body": ["x"] * 5}), rows=2)])
def test_a_file_with_none_of_the_fields_still_has_its_rows(data: bytes) -> None:
    assert read(data, missing_ok=True, rows=3) == [(None, None, None, "not_text")] * 5


@pytest.mark.parametrize("of", [parquet, arrow])
def test_a_source_given_for_all_is_every_rows(of: Any) -> None:
    assert {row[2] for row in read(of(numbered(20)), options=ReaderOptions(source="books"))} == {"books"}


@pytest.mark.parametrize("of", [parquet, arrow])
def test_a_file_without_rows_gives_nothing(of: Any) -> None:
    assert batches(of(numbered(0))) == []


def test_of_two_columns_of_one_name_the_first_counts() -> None:
    table = pa.Table.from_arrays([pa.array(["a"]), pa.array(["b"])], names=["text", "text"])
    assert read(arrow(table)) == [("a", None, None, None)]
    assert read(parquet(table)) == [("a", None, None, None)]


def test_files_of_polars_read_the_same(tmp_path: Path) -> None:
    frame = pl.DataFrame({"text": ["a", None, "a text that is longer than twelve bytes"], "id": [1, 2, 3]})
    frame.write_ipc(tmp_path / "a.arrow")
    frame.write_ipc_stream(tmp_path / "b.arrow")
    frame.write_parquet(tmp_path / "c.parquet")
    for path in sorted(tmp_path.iterdir()):
        assert [row[:2] for row in read(path.read_bytes())] == list(zip(frame["text"], map(str, frame["id"]), strict=True)), path


def test_batches_are_bounded_by_rows_and_bytes() -> None:
    table = pa.table({"text": ["x" * 1000] * 100})
    assert [len(b) for b in batches(parquet(table), rows=40)] == [40, 40, 20]
    assert [len(b) for b in batches(arrow(table, rows=100), rows=40)] == [40, 40, 20]
    assert [len(b) for b in batches(parquet(table), max_bytes=30_000)] == [30, 30, 30, 10]
    assert {len(b) for b in batches(parquet(table), max_bytes=1)} == {1}


@settings(max_examples=40, deadline=None)
@given(st.lists(st.none() | st.text(st.characters(exclude_categories=["Cs"])), max_size=30), st.integers(1, 9), st.integers(1, 9))
def test_documents_read_back_whatever_the_groups_and_batches(texts: list[str | None], group: int, rows: int) -> None:
    table = pa.table({"text": pa.array(texts, pa.string())})
    for data in (parquet(table, row_group_size=group), arrow(table, rows=group), arrow(table, rows=group, of_file=False)):
        assert [row[0] for row in read(data, rows=rows)] == texts


# --- damage ------------------------------------------------------------------------------------------------------------


def _prefix(data: bytes, **how: Any) -> int:
    """Whole rows before the damage; checks that they are the right ones and that one unreadable row follows."""
    found = batches(data, **how)
    assert found[-1].damage
    assert found[-1].error.to_pylist() == ["unreadable"]
    assert not any(b.damage for b in found[:-1])
    texts = [t for b in found[:-1] for t in b.texts.to_pylist()]
    assert texts == numbered(len(texts))["text"].to_pylist()
    return len(texts)


def test_a_parquet_file_cut_anywhere_is_one_unreadable_row() -> None:
    data = parquet(numbered(100))
    for cut in (4, 12, len(data) // 2, len(data) - 40, len(data) - 1):
        assert _prefix(data[:cut]) == 0


def test_rows_before_a_damaged_page_count_whatever_the_batches() -> None:
    data = bytearray(
        parquet(
            numbered(3000),
            row_group_size=1000,
            data_page_size=4096,
            write_batch_size=50,
            use_dictionary=False,
            write_page_checksum=True,
            compression="none",
        )
    )
    at = data.index(b"document 1725 ")
    data[at] ^= 1
    first = _prefix(bytes(data))
    assert 1000 < first <= 1725  # its page begins inside its group
    assert {_prefix(bytes(data), rows=rows) for rows in (1, 7, 64, 1000, 9999)} == {first}


def test_a_damaged_page_of_a_column_not_read_costs_nothing() -> None:
    data = bytearray(parquet(numbered(200), use_dictionary=False, write_page_checksum=True, compression="none"))
    data[data.index(np.float64(150.0).tobytes())] ^= 1
    assert len(read(bytes(data))) == 200


def test_of_a_cut_arrow_file_the_longest_whole_prefix_of_batches_counts() -> None:
    for of_file in (True, False):
        data = arrow(numbered(100), of_file=of_file)
        before = 0
        for cut in [*range(0, len(data), 97), len(data) - 1]:
            rows = _prefix(data[:cut] if cut > 16 else data[:16])
            assert rows % 10 == 0
            assert rows >= before
            before = rows
        assert before == 100


def test_an_arrow_stream_cut_between_two_batches_is_damaged() -> None:
    table = numbered(20)
    first, whole = arrow(table.slice(0, 10), of_file=False), arrow(table, of_file=False)
    end_of_first = len(first) - 8
    assert whole.startswith(first[:end_of_first])
    assert _prefix(whole[:end_of_first]) == 10


def test_bytes_after_the_end_of_a_stream_are_damage() -> None:
    assert _prefix(arrow(numbered(20), of_file=False) + b"more") == 20


def test_wrong_offsets_in_an_arrow_file_are_damage_not_a_crash() -> None:
    data = bytearray(arrow(numbered(10), of_file=False))
    offsets = np.cumsum([0] + [len(t) for t in numbered(10)["text"].to_pylist()]).astype("i4").tobytes()
    at = data.index(offsets)
    data[at + 8 : at + 12] = b"\xff\xff\xff\x7f"
    assert _prefix(bytes(data)) == 0


def test_a_dictionary_index_that_leads_nowhere_costs_its_row() -> None:
    column = pa.DictionaryArray.from_arrays(pa.array([0, 77, -1, None, 0], pa.int32()), ["a"], safe=False)
    found = [(row[0], row[3]) for row in read(arrow(pa.table({"text": column})))]
    assert found == [("a", None), (None, "unreadable"), (None, "unreadable"), (None, None), ("a", None)]


def test_a_flipped_bit_anywhere_neither_crashes_nor_depends_on_the_batches() -> None:
    """Rows that read wrong without a checksum are the shard's bytes; what is damage is damage at any batch size."""
    table = numbered(300).append_column("kind", pa.array(["a", "b", "c"] * 100).dictionary_encode())
    files = [parquet(table, row_group_size=100, write_page_checksum=True), arrow(table, rows=100)]
    rng, damaged = random.Random(11), 0
    for n in range(200):
        data = bytearray(files[n % 2])
        data[rng.randrange(8, len(data))] ^= 1 << rng.randrange(8)
        one, other = (batches(bytes(data), rows=rows, missing_ok=True) for rows in (2048, 7))
        texts = [[t for b in found for t in b.texts.to_pylist()] for found in (one, other)]
        assert texts[0] == texts[1]
        damaged += bool(one and one[-1].damage)
    assert damaged > 50


def test_empty_files_of_both_kinds_are_damaged() -> None:
    for name in ("x.parquet", "x.arrow"):
        (batch,) = read_rows(Source.from_bytes(b"", name=name), options=OPTIONS)
        assert batch.damage


# --- reading a few rows again ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "data", [parquet(numbered(1000), row_group_size=100), arrow(numbered(1000), rows=37), arrow(numbered(1000), of_file=False)]
)
def test_wanted_rows_are_read_again(data: bytes) -> None:
    wanted = np.array([0, 1, 99, 100, 555, 999, 5000])
    pairs = [
        (row, text)
        for rows, texts in read_texts(Source.from_bytes(data, name="x"), options=OPTIONS, wanted=wanted)
        for row, text in zip(rows.tolist(), texts.to_pylist(), strict=True)
    ]
    texts = numbered(1000)["text"].to_pylist()
    assert pairs == [(n, texts[n]) for n in (0, 1, 99, 100, 555, 999)]


def test_of_parquet_only_the_row_groups_with_wanted_rows_are_read() -> None:
    """Every other group is damaged, and it does not matter."""
    data = bytearray(parquet(numbered(300), row_group_size=100, use_dictionary=False, write_page_checksum=True, compression="none"))
    for n in (50, 250):
        data[data.index(b"document %d " % n)] ^= 1
    pairs = list(read_texts(Source.from_bytes(bytes(data), name="x"), options=OPTIONS, wanted=np.array([150])))
    assert [(rows.tolist(), texts.to_pylist()) for rows, texts in pairs] == [([150], [numbered(151)["text"][150].as_py()])]


def test_wanted_rows_of_a_damaged_file_are_those_before_the_damage() -> None:
    data = arrow(numbered(100))[:-2000]
    whole = _prefix(data)
    rows = [r for rows, _ in read_texts(Source.from_bytes(data, name="x"), options=OPTIONS, wanted=np.arange(100)) for r in rows.tolist()]
    assert rows == list(range(whole))


def test_the_same_rows_come_from_every_format() -> None:
    table = numbered(100).drop_columns(["other"])
    lines = "".join(json.dumps(row) + "\n" for row in table.to_pylist()).encode()
    assert read(lines) == read(parquet(table)) == read(arrow(table)) == read(arrow(table, of_file=False))
