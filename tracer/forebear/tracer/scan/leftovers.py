"""What killed scans leave in a ledger, and what of it may go: dead jobs first, then objects to which nothing leads.

Always true here: while any job is unfinished that is not surely dead, no object is removed; a dead job goes only once it is as old as
an orphan must be, for until then `forebear commit` may end it; evidence in the index stays.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from forebear.tracer.ledger.ledger import Ledger
from forebear.tracer.ledger.orphans import Orphan, collector, find_orphans, recover_set_aside, remove_orphans
from forebear.tracer.scan.jobs import dead_jobs
from forebear.tracer.scan.work import Work

__all__ = ["Leftovers", "clean_leftovers"]


@dataclass(frozen=True)
class Leftovers:
    """What `gc` found and did.

    Args:
        orphans: All there are, young ones too.
        removed: Those that were removed, or would be.
        jobs: Dead jobs that were removed, or would be.
        unfinished: Jobs that may be at work still: they keep every orphan.
    """

    orphans: tuple[Orphan, ...]
    removed: tuple[Orphan, ...]
    jobs: tuple[str, ...]
    unfinished: tuple[str, ...]
    dry_run: bool
    older_than: float

    def to_json(self) -> dict[str, Any]:
        """As `gc --json` answers."""
        return {
            "schema": "forebear/gc/1",
            "dry_run": self.dry_run,
            "older_than": self.older_than,
            "orphans": [one.to_json() for one in self.orphans],
            "bytes": sum(one.bytes for one in self.orphans),
            "removed": [one.path for one in self.removed],
            "dead_jobs": list(self.jobs),
            "unfinished_jobs": list(self.unfinished),
        }


def clean_leftovers(ledger: Ledger, *, now: float, older_than: float, dry_run: bool, forget: Collection[str] = ()) -> Leftovers:
    """Find what killed scans left and, unless it is a dry run, remove what may go.

    Args:
        now: The time, in seconds since 1970.
        older_than: How old, in seconds, an orphan and a dead job must be.
        forget: Jobs that the caller knows to be dead, though nothing here can tell (another machine's, a cluster's).

    Raises:
        IntegrityError: The ledger is damaged: it is not cleaned.
        UsageError: Another collector is at work, or the ledger is in a bucket and it is no dry run.
    """
    if dry_run:
        return _cleaned(ledger, now=now, older_than=older_than, dry_run=True, forget=forget)
    with collector(ledger):
        recover_set_aside(ledger, now=now)
        return _cleaned(ledger, now=now, older_than=older_than, dry_run=False, forget=forget)


def _cleaned(ledger: Ledger, *, now: float, older_than: float, dry_run: bool, forget: Collection[str]) -> Leftovers:
    orphans = find_orphans(ledger, now=now)
    old = {job: place for job, place in dead_jobs(ledger).items() if _age(ledger, job, now) > older_than}
    old |= dict.fromkeys(set(forget) & _unfinished(ledger), "")
    unfinished = sorted(_unfinished(ledger) - old.keys())
    may_go = [one for one in orphans if one.age > older_than and not unfinished]
    if not dry_run:
        for job, place in old.items():
            _forget(ledger, job, place)
        # A scan that has begun meanwhile keeps what it may have found.
        may_go = [] if _unfinished(ledger) - set(unfinished) else remove_orphans(ledger, may_go, now=now, older_than=older_than)
    return Leftovers(tuple(orphans), tuple(may_go), tuple(sorted(old)), tuple(unfinished), dry_run, older_than)


def _unfinished(ledger: Ledger) -> set[str]:
    files = {path for path, _ in ledger.store.list("jobs")}
    jobs = {path.split("/")[1] for path in files if path.count("/") > 1}
    return {job for job in jobs if f"jobs/{job}/done.json" not in files}


def _age(ledger: Ledger, job: str, now: float) -> float:
    """Seconds since anything of a job was written."""
    times = [ledger.store.modified(path) for path, _ in ledger.store.list(f"jobs/{job}")]
    return min((now - one for one in times if one is not None), default=0.0)


def _forget(ledger: Ledger, job: str, place: str) -> None:
    if job in place.rstrip("/").split("/")[-2:]:  # only a place that bears the job's name is its own
        Work(place).clear()
    # Its plan goes last: until then the job is unfinished.
    paths = [path for path, _ in ledger.store.list(f"jobs/{job}")]
    for path in sorted(paths, key=lambda one: one.endswith("/plan.json")):
        ledger.store.delete(path)
