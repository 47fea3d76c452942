"""The bytes that are hashed are the bytes that are read: a file that changes in between is an error of that shard."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from forebear.schemas.errors import DataError
from forebear.tracer.corpus.inputs import ReaderOptions
from forebear.tracer.corpus.rows import Source, read_rows, read_texts

OPTIONS = ReaderOptions()
LINES = b'{"text": "a"}\n' * 5000


@pytest.fixture
def path(tmp_path: Path) -> Path:
    place = tmp_path / "a.jsonl"
    place.write_bytes(LINES)
    return place


def append(path: Path) -> None:
    with path.open("ab") as out:
        out.write(b'{"text": "b"}\n')


def rewrite_same_size(path: Path) -> None:
    path.write_bytes(LINES.replace(b"a", b"b"))
    os.utime(path, ns=(1, 1))


def rewrite_and_put_the_time_back(path: Path) -> None:
    before = path.stat()
    path.write_bytes(LINES.replace(b"a", b"b"))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def replace_by_another(path: Path) -> None:
    before = path.stat()
    other = path.with_name("b.jsonl")
    other.write_bytes(LINES)
    os.utime(other, ns=(before.st_atime_ns, before.st_mtime_ns))
    other.replace(path)


def remove(path: Path) -> None:
    path.unlink()


CHANGES: dict[str, tuple[Callable[[Path], None], str]] = {
    "it grows": (append, "source_changed"),
    "it is rewritten in the same size": (rewrite_same_size, "source_changed"),
    "it is rewritten and its time put back": (rewrite_and_put_the_time_back, "source_changed"),
    "another file takes its place": (replace_by_another, "source_changed"),
    "it is removed": (remove, "unreadable_file"),
}


@pytest.mark.parametrize("claim", CHANGES)
def test_a_streamed_file_that_changes_while_it_is_read_is_an_error(claim: str, path: Path) -> None:
    change, kind = CHANGES[claim]
    source = Source.from_path(str(path), whole_below=0)
    source.sha256()
    batches = read_rows(source, options=OPTIONS, rows=100, step=1000)
    next(batches)
    change(path)
    with pytest.raises(DataError) as caught:
        list(batches)
    assert caught.value.kind == kind


@pytest.mark.parametrize("claim", CHANGES)
def test_a_file_in_memory_cannot_change(claim: str, path: Path) -> None:
    source = Source.from_path(str(path))
    CHANGES[claim][0](path)
    assert source.sha256() == f"sha256:{hashlib.sha256(LINES).hexdigest()}"
    assert sum(len(b) for b in read_rows(source, options=OPTIONS)) == 5000


def test_new_permissions_are_no_change(path: Path) -> None:
    source = Source.from_path(str(path), whole_below=0)
    source.sha256()
    path.chmod(0o640)
    assert sum(len(b) for b in read_rows(source, options=OPTIONS)) == 5000


def test_a_parquet_file_cut_while_it_is_read_is_changed_not_damaged(tmp_path: Path) -> None:
    place = tmp_path / "a.parquet"
    pq.write_table(pa.table({"text": [os.urandom(500).hex() for _ in range(3000)]}), place, row_group_size=500)
    batches = read_rows(Source.from_path(str(place), whole_below=0), options=OPTIONS, rows=100)
    next(batches)
    os.truncate(place, 200_000)
    with pytest.raises(DataError) as caught:
        list(batches)
    assert caught.value.kind == "source_changed"


@pytest.mark.parametrize("whole_below", [0, 1 << 30])
def test_streamed_and_whole_files_give_the_same(whole_below: int, path: Path) -> None:
    source = Source.from_path(str(path), whole_below=whole_below)
    assert (source.data is None) == (whole_below == 0)
    assert source.sha256() == f"sha256:{hashlib.sha256(LINES).hexdigest()}"
    assert [t for b in read_rows(source, options=OPTIONS) for t in b.texts.to_pylist()] == ["a"] * 5000
    ((rows, texts),) = read_texts(source, options=OPTIONS, wanted=np.array([1]))
    assert (rows.tolist(), texts.to_pylist()) == ([1], ["a"])


def test_other_bytes_than_expected_are_a_change(path: Path) -> None:
    assert Source.from_path(str(path), expected=f"sha256:{hashlib.sha256(LINES).hexdigest()}").size == len(LINES)
    with pytest.raises(DataError) as caught:
        Source.from_path(str(path), expected=f"sha256:{'0' * 64}")
    assert caught.value.kind == "source_changed"


def test_a_file_that_is_gone_or_is_a_folder_is_unreadable(tmp_path: Path) -> None:
    for place in (tmp_path / "gone.jsonl", tmp_path):
        with pytest.raises(DataError) as caught:
            Source.from_path(str(place))
        assert caught.value.kind == "unreadable_file"


@pytest.mark.skipif(os.geteuid() == 0, reason="nothing is forbidden to root")
def test_a_file_that_may_not_be_read_is_unreadable(path: Path) -> None:
    path.chmod(0)
    with pytest.raises(DataError) as caught:
        Source.from_path(str(path))
    assert caught.value.kind == "unreadable_file"
