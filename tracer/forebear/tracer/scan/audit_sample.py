"""What the second tier's audit sample says of the first tier: how many toxic documents it missed.

Always true here: everything is counted from the log's own evidence, pack by pack, and adds up. A document is in the sample where
the second tier scored it though the first tier did not find it suspicious.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import pyarrow as pa

from forebear.schemas.records import DetectorRecord
from forebear.tracer.detect.evaluate import wilson
from forebear.tracer.scan.packs import best_scores, threshold_column

__all__ = ["add_counts", "count_tiers", "describe_tiers"]

SECOND = "detoxify"


def count_tiers(log: pa.Table, detectors: Sequence[DetectorRecord]) -> dict[str, int]:
    """Counts of a log: `suspicious` documents, the `rest`, those `sampled` of the rest, and those `missed` of the sample.

    Returns:
        Nothing where the run has no second tier.
    """
    second = next((record for record in detectors if record.name == SECOND), None)
    if second is None:
        return {}
    first = next(record for record in detectors if record.digest == second.parameters["first"])
    early, late = best_scores(log, first), best_scores(log, second)
    suspicious = early >= second.parameters["suspicious"]
    rest = (early >= 0) & ~suspicious & log["document"].is_valid().to_numpy()
    sampled = rest & (late >= 0)
    missed = sampled & (late >= threshold_column(log["source"], second, "flag"))
    counts = {"suspicious": suspicious, "rest": rest, "sampled": sampled, "missed": missed}
    return {name: int(np.count_nonzero(where)) for name, where in counts.items()}


def add_counts(each: Iterable[Mapping[str, int]]) -> dict[str, int]:
    """The counts of several packs together."""
    total: Counter[str] = Counter()
    for counts in each:
        total.update(counts)
    return dict(sorted(total.items()))


def describe_tiers(counts: Mapping[str, int]) -> str | None:
    """One sentence for people, with a 95% interval (Wilson 1927); None where there was no second tier."""
    if not counts:
        return None
    sampled, missed, rest = counts["sampled"], counts["missed"], counts["rest"]
    head = f"Second tier: {counts['suspicious']:,} suspicious documents scored again"
    if not sampled:
        return f"{head}; the audit sample held none of the other {rest:,}, so nothing is known of what the first tier missed."
    low, high = wilson(missed, sampled)
    return (
        f"{head}; of {sampled:,} sampled from the other {rest:,} the first tier had missed {missed:,}: "
        f"about {missed / sampled * rest:,.0f} missed in all (95%: {low * rest:,.0f} to {high * rest:,.0f})."
    )
