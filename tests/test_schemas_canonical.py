"""Canonical text of log rows: one row's, a table's and one DuckDB expression's agree, and leaves follow from it."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from forebear.schemas.canonical import canonical_json, netstring, parse_json, row_leaves, row_text, row_texts
from forebear.schemas.digests import leaf_hash
from forebear.schemas.tables import LOG, parquet_bytes

digests = st.binary(min_size=32, max_size=32)
texts = st.text(max_size=6) | st.sampled_from(["", "~,", "3:abc,", "ü", "\U0001f600", "a\nb\x00c"])
counts = st.integers(0, 2**63 - 1)
evidence = st.fixed_dictionaries(
    {
        "detector": digests,
        "label": texts,
        "score": st.integers(0, 1024),
        "start": counts,
        "stop": counts,
        "item": st.none() | texts,
    }
)
rows = st.fixed_dictionaries(
    {
        "shard": digests,
        "row": counts,
        "document": st.none() | digests,
        "source_id": st.none() | texts,
        "source": st.none() | texts,
        "bytes": st.none() | counts,
        "words": st.none() | counts,
        "action": st.sampled_from(["keep", "drop", "error"]),
        "reasons": st.lists(texts, max_size=3),
        "keeper_document": st.none() | digests,
        "keeper_shard": st.none() | digests,
        "keeper_row": st.none() | counts,
        "intersection": st.none() | counts,
        "union_size": st.none() | counts,
        "cluster": st.none() | digests,
        "evidence": st.lists(evidence, max_size=3),
    }
)
tables = st.lists(rows, min_size=1, max_size=6).map(lambda many: pa.Table.from_pylist(many, schema=LOG))
calm = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture])


@calm
@given(tables)
def test_a_tables_texts_are_those_of_its_rows(table: pa.Table) -> None:
    expected = [row_text(row) for row in table.to_pylist()]
    assert [text.encode() for text in row_texts(table).to_pylist()] == expected
    assert row_leaves(table) == [leaf_hash(text) for text in expected]


@calm
@given(tables, st.data())
def test_chunks_and_slices_change_no_text(table: pa.Table, data: st.DataObject) -> None:
    cut = data.draw(st.integers(0, table.num_rows))
    chunked = pa.concat_tables([table.slice(0, cut), table.slice(cut)])
    assert row_texts(chunked).to_pylist() == row_texts(table).to_pylist()
    assert row_texts(table.slice(cut)).to_pylist() == row_texts(table).to_pylist()[cut:]


def test_a_table_without_rows_has_no_leaves() -> None:
    assert row_leaves(LOG.empty_table()) == []


@calm
@given(rows, st.randoms(use_true_random=False))
def test_the_order_of_reasons_and_evidence_changes_no_text(row: dict[str, Any], random: Any) -> None:
    shuffled = {**row, "reasons": random.sample(row["reasons"], len(row["reasons"]))}
    shuffled["evidence"] = random.sample(row["evidence"], len(row["evidence"]))
    assert row_text(shuffled) == row_text(row)


@calm
@given(rows, rows)
def test_different_rows_have_different_texts(one: dict[str, Any], other: dict[str, Any]) -> None:
    def unordered(row: dict[str, Any]) -> dict[str, Any]:
        return {**row, "reasons": sorted(row["reasons"]), "evidence": sorted(map(str, row["evidence"]))}

    assert (row_text(one) == row_text(other)) == (unordered(one) == unordered(other))


EXPRESSION = """
CREATE MACRO net(v) AS CASE WHEN v IS NULL THEN '~,' ELSE strlen(v::VARCHAR) || ':' || v::VARCHAR || ',' END;
CREATE MACRO digest(v) AS net(lower(hex(v)));
CREATE MACRO item(e) AS digest(e.detector) || net(e.label) || net(e.score) || net(e.start) || net(e.stop) || net(e.item);
CREATE MACRO joined(l) AS net(array_to_string(list_sort(l), ''));
CREATE MACRO row_text(r) AS
    digest(r.shard) || net(r."row") || digest(r.document) || net(r.source_id) || net(r.source) || net(r.bytes) || net(r.words)
    || net(r.action) || joined(list_transform(r.reasons, lambda x: net(x)))
    || digest(r.keeper_document) || digest(r.keeper_shard) || net(r.keeper_row) || net(r.intersection) || net(r.union_size)
    || digest(r.cluster) || joined(list_transform(r.evidence, lambda x: net(item(x))));
"""


@pytest.fixture(scope="module")
def duck() -> duckdb.DuckDBPyConnection:
    connection = duckdb.connect()
    connection.execute(EXPRESSION)
    return connection


@settings(calm, max_examples=20)
@given(tables)
def test_one_duckdb_expression_reproduces_text_and_leaf(duck: duckdb.DuckDBPyConnection, tmp_path: Path, table: pa.Table) -> None:
    """From the Parquet file as it lies in a ledger."""
    file = tmp_path / "log.parquet"
    file.write_bytes(parquet_bytes(table))
    query = f"""
        SELECT row_text(r), sha256('\\x00'::BLOB || encode(row_text(r)))
        FROM (SELECT r FROM read_parquet('{file}') r)"""
    found = duck.execute(query).fetchall()
    assert [text for text, _ in found] == row_texts(table).to_pylist()
    assert [leaf for _, leaf in found] == [leaf.hex() for leaf in row_leaves(table)]


NETSTRINGS = {None: "~,", "": "0:,", "abc": "3:abc,", "ü": "2:ü,", 0: "1:0,", -17: "3:-17,"}


@pytest.mark.parametrize("value", NETSTRINGS)
def test_a_netstring_counts_bytes(value: str | int | None) -> None:
    assert netstring(value) == NETSTRINGS[value]


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=10,
)


@calm
@given(values)
@example({"b": 1, "a": [True, None, "ü\n\u2028"]})
def test_canonical_json_reads_back_and_has_one_form(value: Any) -> None:
    data = canonical_json(value)
    assert parse_json(data) == value
    assert canonical_json(parse_json(data)) == data


def test_canonical_json_sorts_keys_and_has_no_white_space() -> None:
    assert canonical_json({"b": [1, "ü"], "a": None}) == '{"a":null,"b":[1,"ü"]}'.encode()


@pytest.mark.parametrize("value", [1.0, {"a": [0.5]}, {1: "x"}, {"a": {2: 1}}, object(), float("nan")])
def test_what_has_no_canonical_form_is_refused(value: Any) -> None:
    with pytest.raises(TypeError):
        canonical_json(value)


@pytest.mark.parametrize("data", [b'{"a":1,"a":2}', b"1.5", b"NaN", b"-Infinity", b"1e3", b"{", b"", b"\xff", b'{"a":1} x'])
def test_json_that_is_not_strict_is_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        parse_json(data)


def test_a_leaf_is_the_sha256_of_a_zero_byte_and_the_text() -> None:
    table = pa.Table.from_pylist(
        [{**dict.fromkeys(LOG.names), "shard": bytes(32), "row": 0, "action": "keep", "reasons": [], "evidence": []}], schema=LOG
    )
    text = "64:" + "0" * 64 + ",1:0,~,~,~,~,~,4:keep,0:,~,~,~,~,~,~,0:,"
    assert row_leaves(table) == [hashlib.sha256(b"\0" + text.encode()).digest()]
