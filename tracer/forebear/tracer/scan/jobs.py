"""Jobs that did not end: which of them are surely dead, so that what they left to work with may go.

Always true here: a job counts as dead only if its driver ran its workers as its own children (a local runner), on this machine,
and is gone: the same boot and process namespace have no process of its number and start time, or the machine has booted since. Of
any other job nothing is known, and nothing of it is touched. What a dead job finished stays: evidence in the index, and the
records from which `forebear commit` may end it.
"""

from __future__ import annotations

import json
import os
import platform
from pathlib import Path
from typing import Any

from forebear.schemas.errors import ForebearError
from forebear.tracer.ledger.ledger import Ledger
from forebear.tracer.scan.work import Work

__all__ = ["clear_dead_jobs", "dead_jobs", "is_dead", "this_process"]


def this_process() -> dict[str, Any]:
    """Who runs a job, as its plan records it; empty where the system does not tell."""
    try:
        return {
            "host": platform.node(),
            "machine": _text("/etc/machine-id"),
            "boot": _text("/proc/sys/kernel/random/boot_id"),
            "namespace": str(Path("/proc/self/ns/pid").readlink()),
            "pid": os.getpid(),
            "began": _began(os.getpid()),
        }
    except OSError:
        return {}


def is_dead(owner: dict[str, Any]) -> bool:
    """Whether a process that `this_process` once described is surely gone."""
    here = this_process()
    if not owner or not here or owner.get("host") != here["host"]:
        return False
    if owner.get("boot") != here["boot"]:
        return bool(here["machine"]) and owner.get("machine") == here["machine"]
    if owner.get("namespace") != here["namespace"]:
        return False
    try:
        return _began(int(owner["pid"])) != owner["began"]
    except FileNotFoundError:
        return True
    except (OSError, ValueError, KeyError):
        return False


def dead_jobs(ledger: Ledger) -> dict[str, str]:
    """Jobs that did not end and surely will not by themselves, each with the place of its intermediate blocks."""
    files = {path for path, _ in ledger.store.list("jobs/")}
    jobs = {path.split("/")[1] for path in files if path.endswith("/plan.json")}
    found = {}
    for job in sorted(job for job in jobs if f"jobs/{job}/done.json" not in files):
        try:
            plan = json.loads(ledger.store.get(f"jobs/{job}/plan.json"))
        except (ValueError, ForebearError):
            continue
        if isinstance(plan, dict) and is_dead(plan.get("owner") or {}) and isinstance(plan.get("work"), str):
            found[job] = plan["work"]
    return found


def clear_dead_jobs(ledger: Ledger) -> list[str]:
    """Remove the intermediate blocks of dead jobs; gives the jobs that had some."""
    cleared = []
    for job, place in dead_jobs(ledger).items():
        work = Work(place)
        # The place is the plan's own word: only one that bears the job's name is taken for its own.
        if job in place.rstrip("/").split("/")[-2:] and work.names(""):
            work.clear()
            cleared.append(job)
    return cleared


def _began(pid: int) -> str:
    """When a process began, in ticks since boot (proc(5), field 22 of stat)."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]


def _text(path: str) -> str:
    try:
        return Path(path).read_text().strip()
    except FileNotFoundError:
        return ""
