"""Which files a scan reads: folders, globs, lists, saved datasets, URLs; and what is said when there is nothing to read."""

from __future__ import annotations

import gzip
import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from forebear.schemas.canonical import canonical_json
from forebear.schemas.errors import DataError, UsageError
from forebear.tracer.corpus.inputs import InputFile, ReaderOptions, discover, file_digest, sniff, survey
from forebear.tracer.corpus.rows import Source, read_rows

ROW = b'{"text": "a"}\n'


def put(path: Path, data: bytes = ROW) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path


def names(files: list[InputFile], root: Path) -> list[str]:
    return [str(Path(item.path).relative_to(root)) for item in files]


def test_a_folder_gives_known_suffixes_recursively_and_returns_what_it_left_out(tmp_path: Path) -> None:
    wanted = ["a.jsonl", "b/c.json", "b/d.jsonl.gz", "b/e.json.zst", "f.parquet", "g.arrow", "h.feather", "i.ipc", "j.NDJSON"]
    left_out = ["README.md", ".hidden.jsonl", "_SUCCESS", "b/_tmp/x.jsonl", ".git/y.jsonl", "z.csv"]
    for name in wanted + left_out:
        put(tmp_path / name)
    found = survey([str(tmp_path)])
    assert names(found.files, tmp_path) == sorted(wanted)
    told = {str(Path(path).relative_to(tmp_path)) for path in found.skipped}
    assert told == {"README.md", ".hidden.jsonl", "_SUCCESS", "b/_tmp", ".git", "z.csv"}


def test_paths_are_absolute_sorted_and_named_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(tmp_path / "b.jsonl")
    put(tmp_path / "a.jsonl", ROW * 3)
    monkeypatch.chdir(tmp_path)
    found = discover(["b.jsonl", "./b.jsonl", str(tmp_path), "*.jsonl", f"file://{tmp_path}/a.jsonl"])
    assert found == [InputFile(f"{tmp_path}/a.jsonl", 42, "jsonl"), InputFile(f"{tmp_path}/b.jsonl", 14, "jsonl")]


GLOBS: dict[str, tuple[str, list[str]]] = {
    "a star stays within one folder": ("*.jsonl", ["a.jsonl"]),
    "two stars cross folders, none included": ("**/*.jsonl", ["a.jsonl", "x/b.jsonl", "x/y/c.jsonl"]),
    "a star in the middle is one folder": ("*/y/*", ["x/y/c.jsonl"]),
    "a folder that matches is read whole": ("x*", ["x/b.jsonl", "x/y/c.jsonl"]),
    "two stars alone are everything": ("**", ["a.jsonl", "x/b.jsonl", "x/y/c.jsonl"]),
    "a question mark is one character": ("?.jsonl", ["a.jsonl"]),
    "brackets are a choice": ("x/[bc].jsonl", ["x/b.jsonl"]),
    "what is no data is left out of a match": ("x/*", ["x/b.jsonl", "x/y/c.jsonl"]),
}


@pytest.mark.parametrize("claim", GLOBS)
def test_globs(claim: str, tmp_path: Path) -> None:
    for name in ("a.jsonl", "x/b.jsonl", "x/y/c.jsonl", "x/notes.txt", "x/.h.jsonl"):
        put(tmp_path / name)
    pattern, wanted = GLOBS[claim]
    assert names(discover([f"{tmp_path}/{pattern}"]), tmp_path) == wanted


def test_a_file_whose_name_looks_like_a_glob_is_that_file(tmp_path: Path) -> None:
    put(tmp_path / "part[1].jsonl")
    assert names(discover([str(tmp_path / "part[1].jsonl")]), tmp_path) == ["part[1].jsonl"]


def test_links_in_circles_end_and_each_folder_counts_once(tmp_path: Path) -> None:
    put(tmp_path / "z" / "a.jsonl")
    (tmp_path / "z" / "up").symlink_to(tmp_path)
    (tmp_path / "again").symlink_to(tmp_path / "z")
    assert names(discover([str(tmp_path)]), tmp_path) == ["z/a.jsonl"]
    assert names(discover([f"{tmp_path}/**/*.jsonl"]), tmp_path) == ["z/a.jsonl"]


def test_a_list_gives_paths_and_expected_digests(tmp_path: Path) -> None:
    put(tmp_path / "a b.jsonl")
    put(tmp_path / "c.jsonl")
    digest = f"sha256:{hashlib.sha256(ROW).hexdigest()}"
    listing = put(tmp_path / "list", f"# corpus\n\n{tmp_path}/a b.jsonl\t{digest}\r\n  {tmp_path}/c.jsonl\n".encode())
    found = discover([], lists=[str(listing)])
    assert [(Path(item.path).name, item.expected) for item in found] == [("a b.jsonl", digest), ("c.jsonl", None)]


def test_a_list_keeps_its_digest_where_the_file_is_also_named_plainly(tmp_path: Path) -> None:
    path = put(tmp_path / "a.jsonl")
    listing = put(tmp_path / "list", f"{path} sha256:{'0' * 64}\n".encode())
    assert discover([str(path)], lists=[str(listing)])[0].expected == f"sha256:{'0' * 64}"


def _two_digests(root: Path) -> tuple[list[str], list[str]]:
    path = put(root / "a.jsonl")
    lines = "".join(f"{path} sha256:{digit * 64}\n" for digit in "01")
    return [], [str(put(root / "list", lines.encode()))]


def _half_a_digest(root: Path) -> tuple[list[str], list[str]]:
    return [], [str(put(root / "list", f"{put(root / 'a.jsonl')} sha256:abc\n".encode()))]


def _folder(root: Path) -> tuple[list[str], list[str]]:
    put(root / "d" / "notes.txt")
    return [str(root / "d")], []


def _pipe(root: Path) -> tuple[list[str], list[str]]:
    os.mkfifo(root / "p.jsonl")
    return [str(root / "p.jsonl")], []


WRONG: dict[str, tuple[str, Callable[[Path], tuple[list[str], list[str]]]]] = {
    "no input at all": ("no_inputs", lambda root: ([], [])),
    "a file that is not there": ("no_such_file", lambda root: ([str(root / "gone.jsonl")], [])),
    "a link to nothing": ("no_such_file", lambda root: ((root / "l.jsonl").symlink_to("gone"), ([str(root / "l.jsonl")], []))[1]),
    "a glob that matches nothing": ("no_match", lambda root: ([f"{root}/no*.jsonl"], [])),
    "a glob below a folder that is not there": ("no_match", lambda root: ([f"{root}/no/*.jsonl"], [])),
    "an empty folder": ("empty_folder", lambda root: ([str(root)], [])),
    "a folder without data": ("empty_folder", _folder),
    "a pipe": ("not_a_file", _pipe),
    "a file of an unknown kind": ("unknown_format", lambda root: ([str(put(root / "x.txt"))], [])),
    "a list that is not there": ("unreadable_list", lambda root: ([], [str(root / "gone")])),
    "a list that is not text": ("unreadable_list", lambda root: ([], [str(put(root / "l", b"\xff\xfe"))])),
    "two digests for one file": ("digest_conflict", _two_digests),
    "half a digest in a list": ("not_a_digest", _half_a_digest),
    "a scheme that nothing opens": ("unknown_scheme", lambda root: (["nosuchscheme://bucket/x.jsonl"], [])),
}


@pytest.mark.parametrize("claim", WRONG)
def test_wrong_use_is_told(claim: str, tmp_path: Path) -> None:
    kind, make = WRONG[claim]
    inputs, lists = make(tmp_path)
    with pytest.raises(UsageError) as caught:
        discover(inputs, lists=lists)
    assert caught.value.kind == kind
    assert all([caught.value.expected, caught.value.found, caught.value.remedy])


def test_one_file_that_cannot_be_opened_stays_in_the_list(tmp_path: Path) -> None:
    put(tmp_path / "a.jsonl")
    (tmp_path / "b.parquet").symlink_to(tmp_path / "gone")
    assert [(Path(i.path).name, i.size, i.format) for i in discover([str(tmp_path)])] == [
        ("a.jsonl", 14, "jsonl"),
        ("b.parquet", 0, "parquet"),
    ]


def test_when_no_file_at_all_can_be_opened_the_use_is_wrong(tmp_path: Path) -> None:
    (tmp_path / "b.parquet").symlink_to(tmp_path / "gone")
    with pytest.raises(UsageError) as caught:
        discover([str(tmp_path)])
    assert caught.value.kind == "unreadable_inputs"


def test_first_bytes_tell_before_names(tmp_path: Path) -> None:
    table = pa.table({"text": ["a"]})
    pq.write_table(table, tmp_path / "p.jsonl")
    with pa.ipc.new_file(tmp_path / "f.jsonl", table.schema) as writer:
        writer.write_table(table)
    with pa.ipc.new_stream(tmp_path / "s.json", table.schema) as writer:
        writer.write_table(table)
    put(tmp_path / "g.jsonl", gzip.compress(ROW))
    put(tmp_path / "z.jsonl", b"\x28\xb5\x2f\xfd\x04\x00")
    put(tmp_path / "k.jsonl", b"\x50\x2a\x4d\x18\x00\x00\x00\x00")
    put(tmp_path / "t.parquet", b"PAR1 cut off")
    put(tmp_path / "e.jsonl.gz", b"")
    put(tmp_path / "n.txt", ROW)
    told = {path.name: sniff(str(path)) for path in tmp_path.iterdir()}
    assert told == {
        "p.jsonl": "parquet",
        "f.jsonl": "arrow",
        "s.json": "arrow",
        "g.jsonl": "jsonl.gz",
        "z.jsonl": "jsonl.zst",
        "k.jsonl": "jsonl.zst",
        "t.parquet": "parquet",
        "e.jsonl.gz": "jsonl.gz",
        "n.txt": None,
    }


def test_a_parquet_file_of_any_name_may_be_given_plainly(tmp_path: Path) -> None:
    pq.write_table(pa.table({"text": ["a"]}), tmp_path / "x.bin")
    assert discover([str(tmp_path / "x.bin")])[0].format == "parquet"


def test_a_saved_dataset_gives_the_arrow_files_that_its_state_lists(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    rows = {"text": [f"document {n}" for n in range(10)], "id": list(range(10))}
    saved = datasets.DatasetDict(train=datasets.Dataset.from_dict(rows), test=datasets.Dataset.from_dict(rows))
    saved.save_to_disk(tmp_path / "d", num_shards={"train": 3, "test": 1})
    put(tmp_path / "d" / "train" / "cache-123.arrow")
    found = survey([str(tmp_path / "d")])
    assert names(found.files, tmp_path / "d") == [
        "test/data-00000-of-00001.arrow",
        "train/data-00000-of-00003.arrow",
        "train/data-00001-of-00003.arrow",
        "train/data-00002-of-00003.arrow",
    ]
    texts = [
        t for item in found.files[1:] for b in read_rows(Source.from_path(item.path), options=ReaderOptions()) for t in b.texts.to_pylist()
    ]
    assert texts == rows["text"]
    assert str(tmp_path / "d" / "train" / "cache-123.arrow") in found.skipped


def test_a_file_that_a_saved_dataset_lists_and_that_is_gone_stays_in_the_list(tmp_path: Path) -> None:
    put(tmp_path / "data-0.arrow")
    state = {"_data_files": [{"filename": "data-0.arrow"}, {"filename": "data-1.arrow"}, {"filename": "../out.arrow"}]}
    put(tmp_path / "state.json", json.dumps(state).encode())
    assert names(discover([str(tmp_path)]), tmp_path) == ["data-0.arrow", "data-1.arrow"]


def test_urls_of_fsspec_are_listed_read_and_hashed() -> None:
    memory = fsspec.filesystem("memory")
    for name in ("a.jsonl", "deep/b.jsonl", "deep/notes.txt"):
        with memory.open(f"/corpus-test/{name}", "wb") as out:
            out.write(ROW)
    found = survey(["memory://corpus-test"])
    assert [item.path for item in found.files] == ["memory://corpus-test/a.jsonl", "memory://corpus-test/deep/b.jsonl"]
    assert discover(["memory://corpus-test/**/*.jsonl"]) == found.files
    assert file_digest(found.files[0].path) == (f"sha256:{hashlib.sha256(ROW).hexdigest()}", len(ROW))
    for whole_below in (1 << 20, 0):
        source = Source.from_path(found.files[1].path, whole_below=whole_below)
        assert [b.texts.to_pylist() for b in read_rows(source, options=ReaderOptions())] == [["a"]]
    with pytest.raises(UsageError):
        discover(["memory://corpus-test/nothing.jsonl"])


def test_the_digest_of_a_file_is_sha256_of_its_bytes(tmp_path: Path) -> None:
    data = os.urandom(3_000_000)
    assert file_digest(str(put(tmp_path / "x", data))) == (f"sha256:{hashlib.sha256(data).hexdigest()}", len(data))


def test_the_digest_of_a_file_that_is_gone_is_a_data_error(tmp_path: Path) -> None:
    with pytest.raises(DataError) as caught:
        file_digest(str(tmp_path / "gone"))
    assert caught.value.kind == "unreadable_file"


def test_options_enter_the_run_digest_without_what_changes_no_row() -> None:
    plain = ReaderOptions()
    assert canonical_json(plain.to_json()) == (b'{"id_field":"id","source":null,"source_field":"source","text_field":"text","version":"1"}')
    # With one source for every row, the field that would have named it is not read.
    assert ReaderOptions(source="web").to_json() == ReaderOptions(source="web", source_field="other").to_json()
