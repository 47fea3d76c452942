"""The runs of a ledger, and jobs that did not end."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from forebear.tracer.audit.session import Session

__all__ = ["list_runs"]


def list_runs(session: Session) -> dict[str, Any]:
    """The answer of `forebear runs`: runs newest first, then jobs with a plan and no end."""
    runs = [
        {
            "run": digest,
            "run_digest": manifest.run_digest,
            "entry": n,
            "started": manifest.started,
            "finished": manifest.finished,
            "rows": dict(manifest.rows),
            "reasons": dict(manifest.reasons),
            "shards": manifest.shards.rows,
            "incomplete": list(manifest.incomplete),
            "detectors": [{"detector": one.name, "digest": one.digest, "class": one.category} for one in manifest.detectors],
        }
        for n, digest, manifest in reversed(session.runs)
    ]
    return {"schema": "forebear/runs/1", "runs": runs, "jobs": _unfinished(session), "head": session.head.to_json()}


def _unfinished(session: Session) -> list[dict[str, Any]]:
    """Jobs with `plan.json` and without `done.json`: a scan goes on from them, or `forebear commit JOB` finishes them."""
    store = session.ledger.store
    files = {path for path, _ in store.list("jobs")}
    jobs = sorted(path.split("/")[1] for path in files if path.count("/") == 2 and path.endswith("/plan.json"))
    found = []
    for job in jobs:
        if f"jobs/{job}/done.json" in files:
            continue
        try:
            plan = json.loads(store.get(f"jobs/{job}/plan.json"))
        except ValueError:
            plan = {}
        started = plan.get("started") if isinstance(plan, dict) else None
        found.append({"job": job, "started": started})
    return found
