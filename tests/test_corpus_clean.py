"""Cleaned shards: row k is the k-th kept row, all else about it kept; same bytes each time; nothing is ever overwritten."""

from __future__ import annotations

import gzip
import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.ipc as ipc
import pyarrow.parquet as pq
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from forebear.schemas.errors import DataError, UsageError
from forebear.tracer.corpus import clean
from forebear.tracer.corpus.clean import Cleaned, write_cleaned
from forebear.tracer.corpus.inputs import ReaderOptions, discover
from forebear.tracer.corpus.rows import Source, read_rows

OPTIONS = ReaderOptions()


def table(count: int = 500) -> pa.Table:
    columns = {
        "text": pa.array([None if n % 7 == 0 else f"document {n}" for n in range(count)], pa.string()),
        "id": pa.array(range(count), pa.int64()),
        "url": pa.array([f"http://x/{n % 5}" for n in range(count)]).dictionary_encode(),
        "scores": pa.array([{"a": [n, n + 1], "b": n / 3} for n in range(count)]),
        "when": pa.array(range(count), pa.timestamp("us", "UTC")),
    }
    fields = [pa.field(name, column.type, metadata={"note": name}) for name, column in columns.items()]
    return pa.table(list(columns.values()), schema=pa.schema(fields, metadata={"huggingface": "{}", "own": "x"}))


def written(data: bytes, kept: Any, folder: Path, name: str) -> Cleaned:
    source = Source.from_bytes(data, name=name)
    return write_cleaned(source, options=OPTIONS, kept=np.asarray(kept, dtype=np.int64), folder=str(folder), name_hint=name)


def parquet(rows: pa.Table, **how: Any) -> bytes:
    sink = pa.BufferOutputStream()
    pq.write_table(rows, sink, **how)
    return bytes(sink.getvalue())


def arrow(rows: pa.Table, of_file: bool) -> bytes:
    sink = pa.BufferOutputStream()
    with (ipc.new_file if of_file else ipc.new_stream)(sink, rows.schema) as writer:
        writer.write_table(rows, 37)
    return bytes(sink.getvalue())


LINES = [json.dumps({"text": f"t{n}", "x": [n, 1.50], "é": "ü"}, ensure_ascii=False).encode().replace(b"1.5", b"1.50") for n in range(500)]
UNPACK = {
    "a.jsonl": bytes,
    "a.jsonl.gz": gzip.decompress,
    "a.jsonl.zst": lambda data: zstandard.ZstdDecompressor().decompressobj().decompress(data),
}
PACK = {"a.jsonl": bytes, "a.jsonl.gz": gzip.compress, "a.jsonl.zst": zstandard.compress}
KEPT = [0, 3, 4, 250, 498, 499]


@pytest.mark.parametrize("name", PACK)
def test_kept_lines_keep_their_very_bytes(name: str, tmp_path: Path) -> None:
    data = b"\xef\xbb\xbf" + b"\n\n".join(line + b" \r" for line in LINES)
    done = written(PACK[name](data), KEPT, tmp_path, name)
    raw = Path(done.path).read_bytes()
    assert UNPACK[name](raw) == b"".join(LINES[n] + b" \r\n" for n in KEPT)
    assert done == Cleaned(str(tmp_path / name), f"sha256:{hashlib.sha256(raw).hexdigest()}", len(KEPT), len(raw))


@pytest.mark.parametrize("rows_at_once", [1, 7, 100_000])
def test_parquet_keeps_its_schema_metadata_and_other_columns(rows_at_once: int, tmp_path: Path) -> None:
    data = parquet(table(), row_group_size=rows_at_once)
    done = written(data, KEPT, tmp_path, "a.parquet")
    assert pq.read_schema(done.path).equals(pq.read_schema(pa.BufferReader(data)), check_metadata=True)
    assert pq.read_table(done.path).to_pylist() == table().take(KEPT).to_pylist()
    assert pq.ParquetFile(done.path).metadata.row_group(0).column(0).compression == "ZSTD"


@pytest.mark.parametrize("of_file", [True, False])
def test_arrow_keeps_its_schema_and_its_kind(of_file: bool, tmp_path: Path) -> None:
    done = written(arrow(table(), of_file), KEPT, tmp_path, "a.feather")
    assert Path(done.path).name == "a.feather"
    with (ipc.open_file if of_file else ipc.open_stream)(done.path) as reader:
        assert reader.schema.equals(table().schema, check_metadata=True)
        assert reader.read_all().to_pylist() == table().take(KEPT).to_pylist()
    assert len(list(read_rows(Source.from_path(done.path), options=OPTIONS))) == 1  # and it is whole


def test_arrow_whose_dictionaries_differ_between_batches_is_kept(tmp_path: Path) -> None:
    parts = [pa.record_batch({"text": pa.array([word] * 3).dictionary_encode()}) for word in ("a", "b")]
    sink = pa.BufferOutputStream()
    with ipc.new_stream(sink, parts[0].schema) as writer:
        for part in parts:
            writer.write_batch(part)
    done = written(bytes(sink.getvalue()), [2, 3], tmp_path, "a.arrow")
    assert ipc.open_stream(done.path).read_all()["text"].to_pylist() == ["a", "b"]


def test_the_same_rows_give_the_same_bytes_and_are_written_once(tmp_path: Path) -> None:
    sources = [PACK[name](b"\n".join(LINES)) for name in PACK] + [parquet(table()), arrow(table(), True), arrow(table(), False)]
    for n, (name, data) in enumerate(zip([*PACK, "a.parquet", "b.arrow", "c.arrow"], sources, strict=True)):
        one, again, apart = (written(data, KEPT, tmp_path / folder, name) for folder in (f"x{n}", f"x{n}", f"y{n}"))
        assert one == again
        assert one.sha256 == apart.sha256
        assert [p.name for p in (tmp_path / f"x{n}").iterdir()] == [name]


def test_other_bytes_are_never_overwritten(tmp_path: Path) -> None:
    first, second = written(b"\n".join(LINES), [0], tmp_path, "a.jsonl"), written(b"\n".join(LINES), [1], tmp_path, "a.jsonl")
    assert Path(first.path).read_bytes() == LINES[0] + b"\n"
    assert Path(second.path).read_bytes() == LINES[1] + b"\n"
    assert Path(second.path).name == f"a-{second.sha256[7:19]}.jsonl"
    assert written(b"\n".join(LINES), [1], tmp_path, "a.jsonl") == second


def test_a_file_system_without_hard_links_overwrites_nothing_either(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(clean.os, "link", refuse)
    first, second = (written(b"\n".join(LINES), [n], tmp_path, "a.jsonl") for n in (0, 1))
    assert [Path(done.path).read_bytes() for done in (first, second)] == [LINES[n] + b"\n" for n in (0, 1)]


def test_a_name_held_by_a_folder_or_a_link_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").mkdir()
    (tmp_path / "b.jsonl").symlink_to(tmp_path / "gone")
    for name in ("a.jsonl", "b.jsonl"):
        done = written(LINES[0], [0], tmp_path, name)
        assert Path(done.path).name == f"{name[0]}-{done.sha256[7:19]}.jsonl"
    assert not (tmp_path / "gone").exists()


@pytest.mark.parametrize("name", [*PACK, "a.parquet", "a.arrow", "s.arrow"])
def test_no_kept_row_still_gives_a_file_that_reads_as_no_rows(name: str, tmp_path: Path) -> None:
    data = {"a.parquet": parquet(table()), "a.arrow": arrow(table(), True), "s.arrow": arrow(table(), False)}.get(name)
    done = written(data or PACK[name](b"\n".join(LINES)), [], tmp_path, name)
    assert list(read_rows(Source.from_path(done.path), options=OPTIONS)) == []


@pytest.mark.parametrize("name", ["a.jsonl.gz", "a.jsonl.zst", "a.parquet", "a.arrow"])
def test_a_source_that_cannot_be_read_at_all_gives_a_file_without_rows(name: str, tmp_path: Path) -> None:
    done = written(b"PAR1 not whole" if name == "a.parquet" else b"", [], tmp_path, name)
    assert list(read_rows(Source.from_path(done.path), options=OPTIONS)) == []
    with pytest.raises(DataError):
        written(b"", [0], tmp_path, name)


@pytest.mark.parametrize("name", ["a.jsonl.gz", "a.arrow", "a.parquet"])
def test_rows_before_damage_can_be_kept_and_others_are_refused(name: str, tmp_path: Path) -> None:
    if name == "a.parquet":
        plain = pa.table({"text": [f"document {n} " for n in range(500)]})
        data = bytearray(parquet(plain, row_group_size=100, use_dictionary=False, compression="none", write_page_checksum=True))
        data[data.index(b"document 350 ")] ^= 1
        damaged = bytes(data)
    else:
        whole = gzip.compress(b"\n".join(LINES)) if name == "a.jsonl.gz" else arrow(table(), True)
        damaged = whole[: len(whole) * 2 // 3]
    rows = sum(len(b) for b in read_rows(Source.from_bytes(damaged, name=name), options=OPTIONS)) - 1
    assert rows > 100
    done = written(damaged, [5, rows - 1], tmp_path, name)
    assert [len(b) for b in read_rows(Source.from_path(done.path), options=OPTIONS)] == [2]
    with pytest.raises(DataError) as caught:
        written(damaged, [5, rows], tmp_path, name)
    assert caught.value.kind == "unreadable_file"


def test_nothing_is_left_behind_by_a_failure(tmp_path: Path) -> None:
    with pytest.raises(DataError):
        written(b"\n".join(LINES), [9999], tmp_path / "out", "a.jsonl")
    assert list((tmp_path / "out").iterdir()) == []


NAMES = {
    "a folder in the hint is dropped": ("web/2024/a.jsonl", "a.jsonl"),
    "no hint leads out of the folder": ("../../a.jsonl", "a.jsonl"),
    "a wrong suffix gives way": ("a.parquet", "a.jsonl"),
    "an unknown suffix stays in the stem": ("a.txt", "a.txt.jsonl"),
    "another suffix of the format stays": ("a.json", "a.json"),
    "hidden names become plain": ("._a.jsonl", "a.jsonl"),
    "no name is a name": ("..", "shard.jsonl"),
}


@pytest.mark.parametrize("claim", NAMES)
def test_names(claim: str, tmp_path: Path) -> None:
    hint, wanted = NAMES[claim]
    source = Source.from_bytes(LINES[0], name="x.jsonl")
    done = write_cleaned(source, options=OPTIONS, kept=np.array([0]), folder=str(tmp_path), name_hint=hint)
    assert Path(done.path) == tmp_path / wanted
    assert [item.path for item in discover([str(tmp_path)])] == [done.path]


def test_a_folder_that_cannot_be_written_is_wrong_use(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    for folder in (str(tmp_path / "file"), "s3://bucket/clean"):
        with pytest.raises(UsageError) as caught:
            write_cleaned(Source.from_bytes(LINES[0], name="x.jsonl"), options=OPTIONS, kept=np.array([0]), folder=folder, name_hint="a")
        assert caught.value.kind == "folder_not_writable"


@settings(max_examples=40, deadline=None)
@given(st.lists(st.none() | st.text(st.characters(exclude_categories=["Cs"])), min_size=1, max_size=30), st.data())
def test_reading_what_was_cleaned_gives_the_kept_rows(
    tmp_path_factory: pytest.TempPathFactory, texts: list[str | None], data: st.DataObject
) -> None:
    kept = sorted(data.draw(st.sets(st.integers(0, len(texts) - 1))))
    folder = tmp_path_factory.mktemp("clean")
    rows = pa.table({"text": pa.array(texts, pa.string())})
    lines = "".join(json.dumps({"text": t}) + "\n" for t in texts).encode()
    for name, raw in {
        "a.jsonl": lines,
        "a.jsonl.gz": gzip.compress(lines),
        "a.parquet": parquet(rows),
        "a.arrow": arrow(rows, False),
    }.items():
        done = written(raw, kept, folder, name)
        assert [t for b in read_rows(Source.from_path(done.path), options=OPTIONS) for t in b.texts.to_pylist()] == [texts[n] for n in kept]
