"""A commit under fire: it dies, or is refused, at every one of its writes in turn; the ledger reads as before, and the next one ends it."""

from __future__ import annotations

import contextlib
import errno
import shutil
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from scanning import NO_TOXICITY, policy_of, scan, write_jsonl

from forebear.pipelines import scan as driver
from forebear.schemas.errors import ForebearError
from forebear.tracer.ledger.folder import Folder
from forebear.tracer.ledger.ledger import Ledger
from forebear.tracer.ledger.verify import verify
from forebear.tracer.scan.commit import Committed, commit_job
from forebear.tracer.scan.work import Work

NOW = datetime(2026, 11, 1, tzinfo=UTC)


class Died(BaseException):
    """The end of the finaliser."""


@pytest.fixture(scope="module")
def left(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A ledger whose driver died when every worker was done and nothing was committed."""
    folder = tmp_path_factory.mktemp("fire")
    texts = [f"the north wind and the sun disputed which was the stronger of them for the {n}th time" for n in range(40)]
    for shard in range(2):
        write_jsonl(folder / "in" / f"{shard}.jsonl", [{"id": str(n), "text": text} for n, text in enumerate(texts[shard::2] + texts[:3])])

    def die(*_: object, **__: object) -> None:
        raise Died

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(driver, "commit_job", die)
        with pytest.raises(Died):
            scan(folder / "ledger", [folder / "in"], policy=policy_of(folder, NO_TOXICITY), clean=str(folder / "clean"))
    return folder / "ledger"


def copy(left: Path, to: Path) -> Path:
    shutil.copytree(left, to)
    return to


def commit(path: Path, *, now: datetime = NOW) -> Committed:
    (job,) = (one.name for one in (path / "jobs").iterdir())
    return commit_job(Ledger.open(path), job, clock=lambda: now)


@contextlib.contextmanager
def failing(at: int, fault: BaseException, *, after: bool) -> Iterator[list[str]]:
    """Fail before or after the n-th write of any kind; gives the writes that were begun."""
    begun: list[str] = []

    def struck(write: Callable[..., Any], kind: str) -> Callable[..., Any]:
        def wrapped(self: Any, name: str, *given: Any, **options: Any) -> Any:
            begun.append(f"{kind} {name}")
            if len(begun) == at and not after:
                raise fault
            done = write(self, name, *given, **options)
            if len(begun) == at:
                raise fault
            return done

        return wrapped

    with pytest.MonkeyPatch.context() as patched:
        for owner, kind in (
            (Folder, "create"),
            (Folder, "replace"),
            (Folder, "delete"),
            (Folder, "refresh"),
            (Work, "put"),
            (Work, "clear"),
        ):
            patched.setattr(owner, kind, struck(getattr(owner, kind), kind))
        yield begun


@pytest.fixture(scope="module")
def whole(left: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, int]:
    """The run digest of a commit that lives, and how many writes it takes."""
    path = copy(left, tmp_path_factory.mktemp("whole") / "l")
    with failing(0, Died(), after=False) as begun:
        done = commit(path)
    assert len(begun) >= 8, begun
    assert verify(Ledger.open(path), level="full").findings == ()
    return done.manifest.run_digest, len(begun)


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_a_commit_killed_at_any_write_is_ended_by_the_next(left: Path, whole: tuple[str, int], tmp_path: Path, after: bool) -> None:
    digest, writes = whole
    for step in range(1, writes + 1):
        path = copy(left, tmp_path / str(step))
        with failing(step, Died(), after=after), pytest.raises(Died):
            commit(path)
        seen = Ledger.open(path)
        assert len(seen.entries()) in {0, 1}
        assert verify(seen, level="full").findings == (), f"step {step}"
        done = commit(path)
        assert done.manifest.run_digest == digest
        assert len(Ledger.open(path).entries()) == 1
        report = verify(Ledger.open(path), level="full")
        assert report.findings == ()
        assert {one.kind for one in report.notes} <= {"orphans"}


FAULTS = {"a full disk": errno.ENOSPC, "a permission that is lost": errno.EACCES, "a disk that fails": errno.EIO}


@pytest.mark.parametrize("what", FAULTS)
def test_a_commit_refused_by_the_system_at_any_write_says_so_and_is_ended_by_the_next(
    left: Path, whole: tuple[str, int], tmp_path: Path, what: str
) -> None:
    import os

    digest, writes = whole
    for step in range(1, writes + 1):
        path = copy(left, tmp_path / str(step))
        fault = OSError(FAULTS[what], os.strerror(FAULTS[what]))
        with failing(step, fault, after=False), contextlib.suppress(OSError, ForebearError):
            commit(path)
        assert verify(Ledger.open(path), level="full").findings == ()
        assert commit(path).manifest.run_digest == digest
        assert len(Ledger.open(path).entries()) == 1


def test_a_clock_that_goes_back_changes_no_run_digest_and_no_order(left: Path, whole: tuple[str, int], tmp_path: Path) -> None:
    path = copy(left, tmp_path / "l")
    first = commit(path)
    shutil.copytree(left / "jobs", path / "jobs", dirs_exist_ok=True)
    (job,) = (one for one in (path / "jobs").iterdir())
    (job / "done.json").unlink()
    for name in ("committing.json",):
        (job / name).unlink()
    second = commit(path, now=NOW - timedelta(days=3650))
    assert first.manifest.run_digest == second.manifest.run_digest == whole[0]
    assert [n for n, _, _ in Ledger.open(path).runs()] == [0, 1]
    assert Ledger.open(path).runs()[-1][1] == second.run
    assert verify(Ledger.open(path), level="full").findings == ()


@pytest.mark.parametrize("writers", [2, 8])
def test_writers_at_once_on_a_folder_all_land_and_sign_one_order(tmp_path: Path, writers: int) -> None:
    from concurrent.futures import ThreadPoolExecutor

    from world import Document, add_run, make_ledger

    make_ledger(tmp_path / "l")

    def write(n: int) -> None:
        add_run(Ledger.open(tmp_path / "l"), shards={f"s{n}": [Document(f"text {n}", {"toxicity": 1})]})

    with ThreadPoolExecutor(writers) as pool:
        list(pool.map(write, range(writers * 2)))
    ledger = Ledger.open(tmp_path / "l")
    assert len(ledger.runs()) == writers * 2 + 1
    report = verify(ledger, level="full")
    assert (report.findings, report.notes) == ((), ())
