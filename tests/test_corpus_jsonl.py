"""What a JSONL row is: one table of rules, and properties of any chunking."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from forebear.schemas.errors import UsageError
from forebear.tracer.corpus import jsonl
from forebear.tracer.corpus.inputs import ReaderOptions
from forebear.tracer.corpus.jsonl import MAX_DEPTH, Line, jsonl_rows, parse_line
from forebear.tracer.corpus.rows import Source, read_rows, read_texts

Row = tuple[str | None, str | None, str | None, str | None]
OPTIONS = ReaderOptions()


def read(data: bytes, name: str = "x.jsonl", **how: Any) -> list[Row]:
    """Every row as (text, id, source, error); checks on the way that rows are counted without a gap."""
    found: list[Row] = []
    for batch in read_rows(Source.from_bytes(data, name=name), **{"options": OPTIONS, **how}):
        assert batch.first_row == len(found)
        batch.texts.validate(full=True)
        found += zip(*(c.to_pylist() for c in (batch.texts, batch.source_id, batch.source, batch.error)), strict=True)
    return found


def text(value: str | None, error: str | None = None) -> Row:
    return (value, None, None, error)


def own_id(value: str | None) -> Row:
    return ("a", value, None, None)


BAD, NOT_TEXT, UTF8 = text(None, "unreadable"), text(None, "not_text"), text(None, "invalid_utf8")
A = b'{"text": "a"}'
RULES: dict[str, tuple[bytes, list[Row]]] = {
    "an empty file has no rows": (b"", []),
    "a file of a byte order mark alone has no rows": (b"\xef\xbb\xbf", []),
    "a file of blank lines alone has no rows": (b"\n \n\t\r\n\x0b\x0c", []),
    "newlines separate rows": (A + b"\n" + A, [text("a"), text("a")]),
    "a last newline adds none": (A + b"\n", [text("a")]),
    "carriage returns are white space": (A + b"\r\n" + A + b"\r\n", [text("a"), text("a")]),
    "a byte order mark opens a file and is no part of it": (b"\xef\xbb\xbf" + A, [text("a")]),
    "a byte order mark elsewhere is no JSON": (A + b"\n\xef\xbb\xbf" + A, [text("a"), BAD]),
    "blank lines do not count": (A + b"\n\n  \t\r\n" + A, [text("a"), text("a")]),
    "white space around a row is none of it": (b"  " + A + b" \t\r", [text("a")]),
    "a line that is cut off is unreadable": (b'{"text": "a\n' + A, [BAD, text("a")]),
    "two values on a line are unreadable": (A + b" " + A, [BAD]),
    "a comma after a row is unreadable": (A + b",", [BAD]),
    "single quotes are unreadable": (b"{'text': 'a'}", [BAD]),
    "a raw control character in a string is unreadable": (b'{"text": "a\tb"}', [BAD]),
    "a raw NUL byte in a string is unreadable": (b'{"text": "a\x00b"}', [BAD]),
    "an escaped NUL is text": (b'{"text": "a\\u0000b"}', [text("a\0b")]),
    "invalid UTF-8 anywhere in the line is invalid UTF-8": (b'{"text": "a", "x": "\xff"}', [UTF8]),
    "an encoded surrogate is invalid UTF-8": (b'{"text": "\xed\xa0\x80"}', [UTF8]),
    "UTF-16 is invalid UTF-8": ('{"text": "a"}'.encode("utf-16"), [UTF8]),
    "a lone surrogate in the text is invalid UTF-8": (b'{"text": "\\ud800", "id": "x"}', [(None, "x", None, "invalid_utf8")]),
    "a pair of surrogates is one character": (b'{"text": "\\ud83d\\ude00"}', [text("😀")]),
    "a lone surrogate in the id leaves no id": (b'{"text": "a", "id": "\\udc00"}', [own_id(None)]),
    "a lone surrogate in the source leaves no source": (b'{"text": "a", "source": "\\udc00"}', [text("a")]),
    "a lone surrogate costs its own row only": (A + b'\n{"text": "\\ud800"}\n' + A, [text("a"), UTF8, text("a")]),
    "an array is no text": (b"[1, 2]", [NOT_TEXT]),
    "a string is no text row": (b'"text"', [NOT_TEXT]),
    "a number is no text row": (b"7", [NOT_TEXT]),
    "null is no text row": (b"null", [NOT_TEXT]),
    "an object without the field is no text and keeps its id": (b'{"id": "x", "source": "s"}', [(None, "x", "s", "not_text")]),
    "a number is no text": (b'{"text": 7}', [NOT_TEXT]),
    "an object is no text": (b'{"text": {"text": "a"}}', [NOT_TEXT]),
    "false is no text": (b'{"text": false}', [NOT_TEXT]),
    "null is a null text and no error": (b'{"text": null, "id": "x"}', [(None, "x", None, None)]),
    "an empty text is a text": (b'{"text": ""}', [text("")]),
    "of a key given twice the last counts": (b'{"text": "a", "text": "b"}', [text("b")]),
    "a text of digits is a text": (b'{"text": "7"}', [text("7")]),
    "NaN and infinities elsewhere do no harm": (b'{"x": [NaN, -Infinity], "text": "a"}', [text("a")]),
    "an integer of any length does no harm": (b'{"x": ' + b"9" * 9999 + b', "text": "a"}', [text("a")]),
    "a string id is as it is": (b'{"text": "a", "id": "007"}', [own_id("007")]),
    "an integer id is its digits": (b'{"text": "a", "id": 12345678901234567890123}', [own_id("12345678901234567890123")]),
    "a zero id is as written": (b'{"text": "a", "id": -0}', [own_id("-0")]),
    "a float id is as written": (b'{"text": "a", "id": 1.50e3}', [own_id("1.50e3")]),
    "a float id is as written, too long for a float": (
        b'{"text": "a", "id": 0.10000000000000000000001}',
        [own_id("0.10000000000000000000001")],
    ),
    "an id that is NaN is as written": (b'{"text": "a", "id": NaN}', [own_id("NaN")]),
    "a boolean id is its JSON": (b'{"text": "a", "id": true}', [own_id("true")]),
    "a null id is none": (b'{"text": "a", "id": null}', [own_id(None)]),
    "an array is no id": (b'{"text": "a", "id": [1]}', [own_id(None)]),
    "a string source is as it is": (b'{"text": "a", "source": "web"}', [("a", None, "web", None)]),
    "a number is no source": (b'{"text": "a", "source": 3}', [text("a")]),
    "nesting up to the bound is read": (
        b'{"text": "a", "x": ' + b"[" * (MAX_DEPTH - 1) + b"]" * (MAX_DEPTH - 1) + b"}",
        [text("a")],
    ),
    "nesting beyond the bound is unreadable": (b'{"text": "a", "x": ' + b"[" * MAX_DEPTH + b"]" * MAX_DEPTH + b"}", [BAD]),
    "nesting without end is unreadable": (b'{"text": ' + b"[" * 100_000, [BAD]),
    "brackets in a text are no nesting": (b'{"text": "' + b"[{" * 1000 + b'\\""}', [text("[{" * 1000 + '"')]),
}


@pytest.mark.parametrize("claim", RULES)
def test_what_a_row_is(claim: str) -> None:
    data, wanted = RULES[claim]
    assert read(data) == wanted


@pytest.mark.parametrize("claim", RULES)
def test_the_rules_hold_whatever_the_chunks_and_batches(claim: str) -> None:
    data, wanted = RULES[claim]
    for step in (1, 2, 7) if len(data) < 1000 else (4096,):
        assert read(data, step=step, rows=1) == wanted
        assert read(gzip.compress(data), "x.jsonl.gz", step=step) == wanted
        assert read(zstandard.compress(data), "x.jsonl.zst", step=step) == wanted


def test_a_source_given_for_all_is_every_rows(tmp_path: Path) -> None:
    data = b"\n".join([b'{"text": "a", "source": "x"}', b"[", b"[1]", b"\xff", b'{"text": "\\ud800"}', b'{"text": 1}'])
    assert {row[2] for row in read(data, options=ReaderOptions(source="web"))} == {"web"}
    cut = gzip.compress(data)[:-1]
    assert {row[2] for row in read(cut, "x.jsonl.gz", options=ReaderOptions(source="web"))} == {"web"}


def test_fields_may_have_other_names() -> None:
    options = ReaderOptions(text_field="content", id_field="url", source_field="from")
    assert read(b'{"content": "a", "url": "u", "from": "f", "text": 1}', options=options) == [("a", "u", "f", None)]


def test_a_line_over_the_limit_is_one_unreadable_row_and_is_not_held() -> None:
    data = A + b'\n{"text": "' + b"x" * 5000 + b'"}\n' + A
    for step in (10, 100, 1 << 20):
        found = [
            row
            for batch in jsonl_rows(
                Source.from_bytes(data, name="x.jsonl"), options=OPTIONS, rows=9, max_bytes=99, step=step, max_line=1000
            )
            for row in zip(batch.texts.to_pylist(), batch.error.to_pylist(), strict=True)
        ]
        assert found == [("a", None), (None, "unreadable"), ("a", None)]


def test_a_document_of_fifty_megabytes_is_one_row() -> None:
    document = "word " * 10_000_000
    assert read(json.dumps({"text": document}).encode()) == [text(document)]


def test_batches_end_at_rows_or_bytes_whichever_is_first() -> None:
    data = b"\n".join([A] * 10)
    source = Source.from_bytes(data, name="x.jsonl")
    assert [len(b) for b in read_rows(source, options=OPTIONS, rows=4)] == [4, 4, 2]
    assert [len(b) for b in read_rows(source, options=OPTIONS, max_bytes=len(A) * 3)] == [3, 3, 3, 1]


keys = st.sampled_from(["text", "id", "source", "x", "nested"])
scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(), max_size=8)
values = st.recursive(scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keys, inner, max_size=3), max_leaves=6)
json_lines = st.dictionaries(keys, values).map(lambda d: json.dumps(d).encode())
raw_lines = st.binary(max_size=20) | json_lines | json_lines.flatmap(lambda line: st.integers(0, len(line)).map(lambda n: line[:n]))


@settings(max_examples=300, deadline=None)
@given(st.lists(raw_lines.map(lambda line: line.replace(b"\n", b" ")), max_size=6))
def test_the_fast_way_says_what_the_careful_way_says(found: list[bytes]) -> None:
    rows = [line for line in found if line and not line.isspace()]
    batch = jsonl._batch(0, rows, OPTIONS)
    columns = (batch.texts, batch.source_id, batch.source, batch.error)
    careful = [parse_line(line, OPTIONS) for line in rows]
    assert [Line(*row) for row in zip(*(c.to_pylist() for c in columns), strict=True)] == careful


documents = st.lists(st.none() | st.text(st.characters(exclude_categories=["Cs"])), max_size=12)


@settings(max_examples=100, deadline=None)
@given(documents, st.integers(1, 50), st.booleans())
def test_documents_written_by_json_read_back_whatever_the_chunks(texts: list[str | None], step: int, ascii_only: bool) -> None:
    data = "".join(json.dumps({"text": t, "id": str(n)}, ensure_ascii=ascii_only) + "\n" for n, t in enumerate(texts)).encode()
    wanted = [(t, str(n), None, None) for n, t in enumerate(texts)]
    assert read(data, step=step) == wanted
    assert read(gzip.compress(data), "x.jsonl.gz", step=step) == wanted
    assert read(zstandard.compress(data), "x.jsonl.zst", step=step) == wanted


@pytest.mark.parametrize("name", ["x.jsonl", "x.jsonl.gz"])
def test_wanted_rows_are_read_again(name: str) -> None:
    data = b"\n\n".join(json.dumps({"text": f"t{n}"}).encode() if n % 3 else b"{" for n in range(5000))
    source = Source.from_bytes(gzip.compress(data) if name.endswith("gz") else data, name=name)
    wanted = np.array([0, 1, 2500, 4999, 7000], dtype=np.int64)
    pairs = [
        (r, t)
        for rows, texts in read_texts(source, options=OPTIONS, wanted=wanted)
        for r, t in zip(rows.tolist(), texts.to_pylist(), strict=True)
    ]
    assert pairs == [(0, None), (1, "t1"), (2500, "t2500"), (4999, "t4999")]
    assert list(read_texts(source, options=OPTIONS, wanted=wanted[:0])) == []


def test_wanted_rows_that_do_not_ascend_are_refused() -> None:
    with pytest.raises(UsageError):
        read_texts(Source.from_bytes(A, name="x.jsonl"), options=OPTIONS, wanted=np.array([2, 2]))


@pytest.mark.shared_data
def test_web_text_reads_as_json_reads_it() -> None:
    path = Path(__file__).parents[2] / "shared/data/text_c4_wimbd/c4-sample.00000-of-00001.json.gz"
    if not path.exists():
        pytest.skip("shared data is not beside the checkout")
    wanted = [json.loads(line)["text"] for line in gzip.decompress(path.read_bytes()).splitlines()]
    batches = list(read_rows(Source.from_path(str(path)), options=OPTIONS))
    assert [t for b in batches for t in b.texts.to_pylist()] == wanted
    assert len(wanted) == 1000
