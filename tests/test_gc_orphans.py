"""`gc`: what killed writers left is listed and removed; nothing that is, or may yet be, led to is ever touched."""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from world import TIME, add_record, make_ledger

from forebear.schemas.canonical import canonical_json
from forebear.schemas.digests import sha256_name
from forebear.schemas.enums import EntryKind
from forebear.schemas.errors import IntegrityError, UsageError
from forebear.schemas.records import Entry
from forebear.tracer.ledger.layout import object_path
from forebear.tracer.ledger.ledger import Ledger
from forebear.tracer.ledger.orphans import collector, find_orphans, remove_orphans
from forebear.tracer.ledger.verify import verify
from forebear.tracer.scan.jobs import this_process
from forebear.tracer.scan.leftovers import clean_leftovers

DAY = 86400.0


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    """A sound ledger with a run, a record, an old orphan and an old temporary."""
    ledger = make_ledger(tmp_path / "l", packs=2, clean=True).ledger
    add_record(ledger, {"schema": "x", "refers": [{"object": ledger.put_object(b"referred"), "bytes": 8}]})
    age(ledger, object_path(ledger.put_object(b"orphan")), 30 * DAY)
    half = tmp_path / "l" / f"{object_path(sha256_name(b'half'))}#17"
    half.parent.mkdir(parents=True, exist_ok=True)
    half.write_bytes(b"ha")
    os.utime(half, (0, 0))
    return ledger


def age(ledger: Ledger, path: str, seconds: float) -> None:
    local = ledger.store.local_path(path)
    assert local is not None
    os.utime(local, (time.time() - seconds,) * 2)


def files(ledger: Ledger) -> dict[Path, bytes]:
    root = Path(ledger.store.url)
    return {path: path.read_bytes() for path in root.rglob("*") if path.is_file() and path.name != "gc.lock"}


def gc(ledger: Ledger, **options: object) -> dict[str, object]:
    given = {"now": time.time(), "older_than": DAY, "dry_run": False, **options}
    return clean_leftovers(ledger, **given).to_json()  # type: ignore[arg-type]


def job(ledger: Ledger, name: str, **plan: object) -> None:
    ledger.store.put(f"jobs/{name}/plan.json", json.dumps(plan).encode())


def test_a_dry_run_lists_orphans_and_changes_nothing(ledger: Ledger) -> None:
    before = files(ledger)
    answer = gc(ledger, dry_run=True)
    half = f"{object_path(sha256_name(b'half'))}#17"
    assert answer["removed"] == sorted([object_path(sha256_name(b"orphan")), half])
    assert files(ledger) == before


def test_old_orphans_and_temporaries_go_and_nothing_else(ledger: Ledger) -> None:
    before = files(ledger)
    gc(ledger)
    gone = {path.name.partition("#")[0] for path in before.keys() - files(ledger).keys()}
    assert gone == {sha256_name(b"orphan")[7:], sha256_name(b"half")[7:]}
    assert verify(ledger, level="full").findings == ()
    assert verify(ledger, level="full").notes == ()


def test_a_young_orphan_stays(ledger: Ledger) -> None:
    young = ledger.put_object(b"young")
    answer = gc(ledger)
    assert object_path(young) in [one["path"] for one in answer["orphans"]]  # type: ignore[attr-defined]
    assert ledger.get_object(young) == b"young"


def test_a_put_that_finds_an_old_orphan_makes_it_young(ledger: Ledger) -> None:
    found = ledger.put_object(b"orphan")
    gc(ledger)
    assert ledger.get_object(found) == b"orphan"


def test_a_clock_that_went_back_makes_everything_young(ledger: Ledger) -> None:
    assert gc(ledger, now=0.0)["removed"] == []


def test_what_the_index_offers_for_reuse_stays(ledger: Ledger) -> None:
    name = sha256_name(b"orphan")
    ledger.store.put("index/packs/k/n.json", json.dumps({"bands": {"object": name, "bytes": 6, "rows": 1}}).encode())
    gc(ledger)
    assert ledger.get_object(name) == b"orphan"


JOBS = {
    "a job of another machine": {"owner": {"host": "elsewhere"}},
    "a job that says nothing of itself": {},
    "a job of this very process": {"owner": this_process()},
}


@pytest.mark.parametrize("which", JOBS)
def test_an_unfinished_job_keeps_every_orphan(ledger: Ledger, which: str) -> None:
    job(ledger, "j", **JOBS[which])
    answer = gc(ledger)
    assert answer["removed"] == []
    assert answer["unfinished_jobs"] == ["j"]


def test_a_job_that_ended_keeps_nothing(ledger: Ledger) -> None:
    job(ledger, "j")
    ledger.store.put("jobs/j/done.json", b"{}")
    assert len(gc(ledger)["removed"]) == 2  # type: ignore[arg-type]


def test_an_old_dead_job_goes_and_so_do_its_orphans(ledger: Ledger) -> None:
    job(ledger, "j", owner={**this_process(), "pid": 2**22 + 1}, work=f"{ledger.store.url}/jobs/j")
    age(ledger, "jobs/j/plan.json", 30 * DAY)
    answer = gc(ledger)
    assert answer["dead_jobs"] == ["j"]
    assert ledger.store.list("jobs/j") == []
    assert len(answer["removed"]) == 2  # type: ignore[arg-type]


def test_a_young_dead_job_stays_for_commit(ledger: Ledger) -> None:
    job(ledger, "j", owner={**this_process(), "pid": 2**22 + 1}, work=f"{ledger.store.url}/jobs/j")
    assert gc(ledger)["unfinished_jobs"] == ["j"]
    assert len(ledger.store.list("jobs/j")) == 1


def test_a_job_may_be_declared_dead(ledger: Ledger) -> None:
    job(ledger, "j")
    assert gc(ledger, forget=["j", "unknown"])["dead_jobs"] == ["j"]


DAMAGES: dict[str, Callable[[Path], object]] = {
    "an entry is missing": lambda root: (root / "entries" / f"{0:012}").unlink(),
    "an entry is damaged": lambda root: (root / "entries" / f"{1:012}").write_bytes(b"{}"),
    "the last entry is missing": lambda root: (root / "entries" / f"{1:012}").unlink(),
}


@pytest.mark.parametrize("what", DAMAGES)
def test_a_damaged_ledger_is_not_cleaned(ledger: Ledger, what: str) -> None:
    DAMAGES[what](Path(ledger.store.url))
    before = files(ledger)
    with pytest.raises(IntegrityError):
        gc(Ledger(ledger.store))
    assert files(ledger) == before


def test_an_entry_that_comes_in_between_keeps_its_object(ledger: Ledger) -> None:
    # A writer that looked at the object before gc did, and adds its entry after: the worst order there is.
    age(ledger, object_path(ledger.put_object(b'{"n":1}')), DAY * 30)
    orphans = find_orphans(ledger, now=time.time())
    entry = Entry(EntryKind.ADVISORY, sha256_name(b'{"n":1}'), TIME)
    writer = Ledger(ledger.store)
    ledger.store.refresh(object_path(entry.object))
    writer.append(entry)
    removed = remove_orphans(ledger, orphans, now=time.time(), older_than=DAY)
    assert removed == []  # while an object is set aside, nobody can say what its record leads to: all come back
    assert ledger.get_object(entry.object) == b'{"n":1}'


def test_an_object_that_is_put_anew_in_between_stays(ledger: Ledger) -> None:
    orphans = find_orphans(ledger, now=time.time())
    name = ledger.put_object(b"orphan")
    removed = remove_orphans(ledger, orphans, now=time.time(), older_than=DAY)
    assert [one.path.partition("#")[1] for one in removed] == ["#"]
    assert ledger.get_object(name) == b"orphan"


def test_what_a_killed_collector_had_set_aside_comes_back(ledger: Ledger) -> None:
    run = object_path(ledger.entries()[0][2].object)
    age(ledger, run, DAY)
    assert ledger.store.set_aside(run) is not None
    assert not verify(Ledger(ledger.store), level="full").ok
    gc(ledger)
    assert verify(Ledger(ledger.store), level="full").ok


def test_two_collectors_do_not_work_at_once(ledger: Ledger) -> None:
    with collector(ledger), pytest.raises(UsageError) as caught:
        gc(Ledger.open(ledger.store.url))
    assert caught.value.kind == "busy"


def test_eight_writers_and_a_collector_without_patience_lose_nothing(tmp_path: Path) -> None:
    """Orphans of yesterday are put anew by eight writers while two collectors remove them as fast as they can."""
    ledger = Ledger.open(tmp_path / "l", create=True)
    values = [canonical_json({"n": n}) for n in range(48)]
    for value in values:
        age(ledger, object_path(ledger.put_object(value)), DAY)
    stop = threading.Event()

    def collect() -> None:
        while not stop.is_set():
            own = Ledger.open(tmp_path / "l", create=True)
            now = time.time()
            try:
                with collector(own):
                    remove_orphans(own, find_orphans(own, now=now), now=now, older_than=DAY / 2)
            except UsageError as error:
                if error.kind != "busy":
                    raise

    def write(writer: int) -> None:
        own = Ledger.open(tmp_path / "l", create=True)
        for value in values[writer::8]:
            own.append(Entry(EntryKind.ADVISORY, own.put_object(value), TIME))

    with ThreadPoolExecutor(10) as pool:
        collectors = [pool.submit(collect) for _ in range(2)]
        try:
            for one in [pool.submit(write, writer) for writer in range(8)]:
                one.result()
        finally:
            stop.set()
        for one in collectors:
            one.result()
    report = verify(Ledger.open(tmp_path / "l"), level="full")
    assert report.findings == ()
    assert len(Ledger.open(tmp_path / "l").entries()) == len(values)
