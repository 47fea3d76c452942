"""What is asked: detectors with the thresholds in force, class by class.

Always true here: without further word each class is judged by the detectors and thresholds (source overrides included) of the
newest run that had the class; thresholds are least scores on the 1/1024 grid.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from enum import Enum
from typing import Any

from forebear.schemas.errors import UsageError
from forebear.schemas.records import DetectorRecord, RunManifest
from forebear.schemas.tables import GRID
from forebear.tracer.policy import Policy, grid

__all__ = ["AskedDetector", "Asks", "Run", "ask", "shown_threshold"]

Run = tuple[int, str, RunManifest]
"""A run as `Ledger.runs` gives it: entry, manifest digest, manifest."""


class Asks(Enum):
    """What a question is about: contamination that detectors find, what advisories name, or both."""

    DETECTORS = "detectors"
    ADVISORIES = "advisories"
    BOTH = "both"


@dataclass(frozen=True)
class AskedDetector:
    """A detector that is asked about; `flags` are least bad scores by source, "" being every other source."""

    digest: str
    name: str
    category: str
    version: str
    reason: str
    flags: Mapping[str, int]
    origin: str
    false_positive_rate: Mapping[str, str] | None = None

    @property
    def rate(self) -> float | None:
        """The measured false-positive rate, where it was measured at the threshold in force."""
        measured = self.false_positive_rate
        if not measured or "rate" not in measured:
            return None
        if "flag" in measured and grid(Decimal(measured["flag"])) != self.flags[""]:
            return None
        return float(measured["rate"])

    def to_json(self) -> dict[str, Any]:
        """As answers carry it."""
        shown: dict[str, Any] = {"detector": self.name, "digest": self.digest, "class": self.category}
        shown |= {"threshold": shown_threshold(self.flags[""]), "from": self.origin}
        others = {source: shown_threshold(flag) for source, flag in self.flags.items() if source}
        return {**shown, "sources": others} if others else shown


def shown_threshold(flag: int) -> float:
    """The shortest decimal that means this least score on the grid."""
    for digits in (1, 2, 3, 4):
        value = round(flag / GRID, digits)
        if grid(Decimal(str(value))) == flag:
            return value
    return flag / GRID


def ask(
    runs: Sequence[Run],
    *,
    detectors: Sequence[str] = (),
    threshold: str | float | None = None,
    policy: Policy | None = None,
) -> tuple[AskedDetector, ...]:
    """The detectors and thresholds of a question.

    Args:
        runs: Runs of the ledger, oldest first.
        detectors: Names, digests or prefixes of digests; none: every class by its newest run.
        threshold: Another flag threshold, for every detector and source.
        policy: Thresholds of another policy, by class and source.

    Raises:
        UsageError: A detector that no run had, or a threshold outside [0, 1].
    """
    found = _named(runs, detectors) if detectors else _newest(runs)
    if policy is not None:
        found = [replace(one, flags=_policy_flags(policy, one), origin="policy") for one in found]
    if threshold is not None:
        found = [replace(one, flags={"": _grid(threshold)}, origin="--threshold") for one in found]
    return tuple(sorted(found, key=lambda one: (one.category, one.name, one.digest)))


def _newest(runs: Sequence[Run]) -> list[AskedDetector]:
    seen: set[str] = set()
    found = []
    for _, digest, manifest in reversed(runs):
        new = {one.category for one in manifest.detectors} - seen
        found += [_asked(one, digest) for one in manifest.detectors if one.category in new]
        seen |= new
    return found


def _named(runs: Sequence[Run], detectors: Sequence[str]) -> list[AskedDetector]:
    found: dict[str, AskedDetector] = {}
    for text in detectors:
        prefix = "sha256:" + text.removeprefix("sha256:")
        for _, digest, manifest in reversed(runs):
            mine = [one for one in manifest.detectors if one.name == text or (len(prefix) >= 19 and one.digest.startswith(prefix))]
            if mine:
                found.update((one.digest, _asked(one, digest)) for one in mine if one.digest not in found)
                break
        else:
            names = sorted({one.name for _, _, manifest in runs for one in manifest.detectors})
            near = difflib.get_close_matches(text, names, n=1)
            raise UsageError(
                "unknown_detector",
                expected=f"a detector that a run had: {', '.join(names) or 'no run had any'}",
                found=repr(text),
                remedy=f"Did you mean {near[0]}?" if near else "Name one of these, or scan with that detector.",
            )
    return list(found.values())


def _asked(record: DetectorRecord, run: str) -> AskedDetector:
    flags = {source: one.flag for source, one in record.thresholds.items()}
    rate = record.false_positive_rate
    return AskedDetector(record.digest, record.name, record.category, record.version, record.reason, flags, f"run {run}", rate)


def _policy_flags(policy: Policy, one: AskedDetector) -> dict[str, int]:
    return {source: own.flag for source, own in policy.thresholds(one.category, one.name).items()}


def _grid(threshold: str | float) -> int:
    try:
        value = Decimal(str(threshold))
    except ArithmeticError:
        value = Decimal(-1)
    if not value.is_finite() or not 0 <= value <= 1:
        raise UsageError("bad_threshold", expected="a score from 0 to 1", found=repr(threshold), remedy="Give such a number.")
    return grid(value)
