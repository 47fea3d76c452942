"""A folder as a store: creation is exclusive and whole, evidence is never replaced, other people's folders are left alone."""

from __future__ import annotations

import os
import pickle
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from forebear.schemas.errors import IntegrityError, UsageError
from forebear.tracer.ledger.store import Store


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store.open(tmp_path / "l", create=True)


def files(store: Store) -> list[str]:
    return [path for path, _ in store.list("")]


def test_what_was_created_reads_back(store: Store) -> None:
    assert store.put_new("objects/sha256/ab/x", b"0123456789")
    assert store.get("objects/sha256/ab/x") == b"0123456789"
    assert store.size("objects/sha256/ab/x") == 10
    assert store.list("objects/") == store.list("objects") == store.list("") == [("objects/sha256/ab/x", 10)]


RANGES = {(0, 4): b"0123", (8, 10): b"89", (10, 1): b"", (99, 5): b"", (3, 0): b""}


@pytest.mark.parametrize("span", RANGES)
def test_a_range_ends_where_the_bytes_end(store: Store, span: tuple[int, int]) -> None:
    store.put_new("objects/x", b"0123456789")
    assert store.get_range("objects/x", *span) == RANGES[span]


def test_a_taken_name_keeps_its_bytes(store: Store) -> None:
    assert store.put_new("entries/000000000000", b"first")
    assert not store.put_new("entries/000000000000", b"second")
    assert store.get("entries/000000000000") == b"first"
    assert files(store) == ["entries/000000000000"]


def test_of_eight_racing_threads_one_creates_and_its_bytes_are_there(store: Store) -> None:
    for n in range(20):
        barrier, won = threading.Barrier(8), []

        def race(me: int, path: str = f"entries/{n:012}", barrier: threading.Barrier = barrier, won: list[int] = won) -> None:
            barrier.wait()
            if store.put_new(path, str(me).encode() * 1000):
                won.append(me)

        threads = [threading.Thread(target=race, args=(me,)) for me in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(won) == 1
        assert store.get(f"entries/{n:012}") == str(won[0]).encode() * 1000
    assert len(files(store)) == 20


def test_bytes_and_folders_are_on_disk_before_a_name_is_there(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """The order of system calls is what a power cut meets: file synced, name linked, folder synced."""
    calls: list[str] = []
    sync, make_link = os.fsync, os.link
    kinds = {True: "sync folder", False: "sync file"}
    monkeypatch.setattr(os, "fsync", lambda fd: (calls.append(kinds[Path(f"/proc/self/fd/{fd}").is_dir()]), sync(fd))[1])
    monkeypatch.setattr(os, "link", lambda *a, **k: (calls.append("link"), make_link(*a, **k))[1])
    store.put_new("jobs/here", b"")
    calls.clear()
    store.put_new("jobs/x", b"bytes")
    assert calls == ["sync file", "link", "sync folder"]
    calls.clear()
    store.put_new("objects/new/x", b"bytes")
    assert calls == ["sync folder", "sync folder", "sync file", "link", "sync folder"]


def test_the_head_may_be_replaced_and_jobs_removed(store: Store) -> None:
    store.put("head", b"1")
    store.put("head", b"2")
    store.put("jobs/a/plan.json", b"{}")
    store.put("index/x", b"")
    store.delete("jobs/a/plan.json")
    store.delete("jobs/a/plan.json")
    assert store.get("head") == b"2"
    assert files(store) == ["head", "index/x"]


@pytest.mark.parametrize("path", ["objects/x", "entries/000000000000", "headx", "other"])
def test_evidence_is_neither_replaced_nor_removed(store: Store, path: str) -> None:
    with pytest.raises(AssertionError):
        store.put(path, b"")
    with pytest.raises(AssertionError):
        store.delete(path)


@pytest.mark.parametrize("path", ["", "/etc/passwd", "../x", "objects/../../x", "a//b", "a/./b", "a\0b", "a\\b"])
def test_no_path_leads_out_of_the_ledger(store: Store, path: str) -> None:
    actions: list[Callable[[], object]] = [
        lambda: store.get(path),
        lambda: store.put_new(path, b""),
        lambda: store.size(path),
        lambda: store.local_path(path),
    ]
    for act in actions:
        with pytest.raises(UsageError, match="inside the ledger"):
            act()


def test_what_is_not_there_is_said_to_be_missing(store: Store) -> None:
    assert store.size("objects/x") is None
    assert store.list("objects") == []
    with pytest.raises(IntegrityError) as caught:
        store.get("objects/x")
    assert caught.value.kind == "object_missing"


def test_neither_a_folder_nor_a_pipe_passes_for_an_object(store: Store, tmp_path: Path) -> None:
    store.put_new("objects/folder/x", b"")
    os.mkfifo(tmp_path / "l" / "objects" / "pipe")
    for path in ("objects/folder", "objects/pipe"):
        assert store.size(path) is None
        with pytest.raises(IntegrityError):
            store.get(path)
    assert ("objects/pipe", -1) in store.list("objects")


def test_odd_names_and_links_are_listed(store: Store, tmp_path: Path) -> None:
    store.put_new("objects/x", b"1")
    folder = tmp_path / "l" / "objects"
    for name in (b"bad\xff", "ü #1".encode(), b"x#12"):
        (folder / os.fsdecode(name)).write_bytes(b"12")
    (folder / "broken").symlink_to("/nonexistent")
    (folder / "loop").symlink_to(folder)
    found = dict(store.list("objects"))
    assert found == {
        "objects/x": 1,
        "objects/bad\\xff": 2,
        "objects/ü #1": 2,
        "objects/x#12": 2,
        "objects/broken": -1,
        "objects/loop": -1,
    }


def test_a_ledgers_own_folder_may_be_a_link_to_another_disk(store: Store, tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    store.put("jobs/x", b"")
    (tmp_path / "l" / "objects").symlink_to(tmp_path / "disk")
    store.put_new("objects/sha256/ab/x", b"1")
    assert ("objects/sha256/ab/x", 1) in store.list("")


LEDGERS = {
    "a first scan was killed while it worked": ["jobs/a/plan.json"],
    "a first scan was killed after it filled its cache": ["index/packs/x"],
    "a first scan was killed with objects written": ["jobs/a/plan.json", "objects/sha256/ab/x"],
    "only the head is left": ["head"],
    "a foreign file lies beside entries": ["entries/000000000000", "notes.txt"],
    "a foreign file lies beside objects": ["objects/sha256/ab/x", "notes.txt"],
    "a head was cut off in writing": ["head#123"],
}


@pytest.mark.parametrize("sentence", LEDGERS)
def test_it_is_a_ledger_when(sentence: str, tmp_path: Path) -> None:
    for path in LEDGERS[sentence]:
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_bytes(b"")
    for create in (False, True):
        assert Store.open(tmp_path, create=create).url == str(tmp_path)


OTHERS = {
    "it holds documents": ["letter.txt", "photos/1.jpg"],
    "it holds a web site with an index": ["index/page.html", "index.html"],
    "it is a repository with objects": ["objects/ab/cdef", "HEAD", "refs/heads/main"],
    "it holds somebody's jobs": ["jobs/build.log", "Makefile"],
    "it holds a file called head": ["head", "tail"],
    "entries are not numbered": ["entries/monday.md", "readme.md"],
}


@pytest.mark.parametrize("create", [False, True])
@pytest.mark.parametrize("sentence", OTHERS)
def test_a_folder_is_refused_and_left_alone_when(sentence: str, create: bool, tmp_path: Path) -> None:
    for path in OTHERS[sentence]:
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_bytes(b"x")
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(UsageError) as caught:
        Store.open(tmp_path, create=create)
    assert caught.value.kind == "not_a_ledger"
    assert sorted(tmp_path.rglob("*")) == before


def test_nothing_is_there_unless_one_is_to_begin(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for path in (tmp_path / "empty", tmp_path / "absent" / "below"):
        with pytest.raises(UsageError) as caught:
            Store.open(path)
        assert caught.value.kind == "no_ledger"
        store = Store.open(path, create=True)
        assert not (tmp_path / "absent").exists() or path.name == "below"
        store.put_new("objects/x", b"")
        Store.open(path)


def test_a_file_is_no_ledger(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("hello")
    for path in (tmp_path / "file", tmp_path / "file" / "below"):
        for create in (False, True):
            with pytest.raises(UsageError) as caught:
                Store.open(path, create=create)
            assert caught.value.kind == "not_a_ledger" or (caught.value.kind == "no_ledger" and path.name == "below")
    with pytest.raises(UsageError):
        Store.open(tmp_path / "file" / "below", create=True).put_new("objects/x", b"")


def test_a_folder_that_may_not_be_written_is_said() -> None:
    """In a child process of another user where the tests run as root, whom no permission stops."""
    with tempfile.TemporaryDirectory() as folder:
        store = Store.open(folder, create=True)
        Path(folder).chmod(0o555)
        child = os.fork()
        if child == 0:
            code = 0
            try:
                if os.geteuid() == 0:
                    os.setuid(65534)
                store.put_new("objects/x", b"")
            except UsageError as error:
                code = 10 if error.kind == "not_permitted" else 11
            finally:
                os._exit(code)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 10
        assert list(Path(folder).iterdir()) == []


URLS = {"a path": "{}", "a file URL": "file://{}", "a file URL with an escape": "file://{}%20x"}


@pytest.mark.parametrize("sentence", URLS)
def test_a_folder_is_named_by(sentence: str, tmp_path: Path) -> None:
    store = Store.open(URLS[sentence].format(tmp_path / "l"), create=True)
    store.put("head", b"x")
    assert store.local_path("head") == Path(store.url) / "head"
    assert Path(store.url).name in {"l", "l x"}


def test_a_store_reaches_a_worker_as_its_url(store: Store) -> None:
    store.put("head", b"x")
    assert pickle.loads(pickle.dumps(store)).get("head") == b"x"


@pytest.mark.parametrize("url", ["ftp://host/x", "http://host/x", "memory://x"])
def test_a_store_of_an_unknown_kind_is_wrong_use(url: str) -> None:
    with pytest.raises(UsageError, match=r"s3://"):
        Store.open(url)
