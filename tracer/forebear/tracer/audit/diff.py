"""Diff: decisions that changed between two runs, and the thresholds and detectors that did."""

from __future__ import annotations

import dataclasses
from importlib import resources
from typing import TYPE_CHECKING, Any

from forebear.schemas.records import RunManifest

if TYPE_CHECKING:
    from forebear.tracer.audit.session import Session

__all__ = ["diff_runs"]

_SHOWN = 1000


def diff_runs(session: Session, run_a: str, run_b: str) -> dict[str, Any]:
    """The answer of `forebear diff`: rows of shards that both runs scanned, by what was decided then and now."""
    (_, a, before), (_, b, after) = session.ledger.find_run(run_a), session.ledger.find_run(run_b)
    counts = _rows(session, "diff_counts", {"a": a, "b": b})
    changed = _rows(session, "diff_rows", {"a": a, "b": b, "limit": _SHOWN + 1})
    total = sum(row["rows"] for row in counts)
    only = _rows(session, "diff_shards", {"a": a, "b": b})
    settings = _settings(before, after)
    answer: dict[str, Any] = {"schema": "forebear/diff/1", "run_a": a, "run_b": b}
    answer |= {"same": not total and not settings and not only, "changed": total, "by_reason": counts, "settings": settings}
    answer |= {"shards": only, "rows": changed[:_SHOWN], "head": session.head.to_json()}
    return {**answer, "omitted": total - _SHOWN} if total > _SHOWN else answer


def _settings(before: RunManifest, after: RunManifest) -> list[dict[str, Any]]:
    """Detectors and thresholds that differ, by class and name."""
    old, new = ({(one.category, one.name): one for one in run.detectors} for run in (before, after))
    found = []
    for key in sorted({*old, *new}):
        was, now = old.get(key), new.get(key)
        if was is None or now is None or was.digest != now.digest or was.thresholds != now.thresholds:
            sides = {
                name: None
                if one is None
                else {"digest": one.digest, "thresholds": {s: dataclasses.asdict(t) for s, t in one.thresholds.items()}}
                for name, one in (("was", was), ("now", now))
            }
            found.append({"class": key[0], "detector": key[1], **sides})
    if before.policy.get("duplicates") != after.policy.get("duplicates"):
        found.append({"class": "duplicates", "was": before.policy.get("duplicates"), "now": after.policy.get("duplicates")})
    return found


def _rows(session: Session, name: str, parameters: dict[str, Any]) -> list[dict[str, Any]]:
    query = (resources.files("forebear.tracer.audit") / "sql" / "questions" / f"{name}.sql").read_text("utf-8")
    rows: list[dict[str, Any]] = session.database.query(query, parameters=parameters).rows()
    return rows
