"""What is known of the rows of a dataset, and who tells it to a walk.

Always true here: bad rows that were found count, and rows of which nothing is known stand beside them; neither hides the other.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

__all__ = ["CONTRADICTED", "ERRORED", "NOT_RUN", "NOT_SCANNED", "NO_BANDS", "NO_SHARDS", "OPEN", "RowFacts", "RowGap", "RowJudge", "Usage"]

NOT_SCANNED = "rows not scanned"
NOT_RUN = "detector not run"
ERRORED = "rows errored"
NO_SHARDS = "no shards listed"
NO_BANDS = "no signatures to look near matches up in"
OPEN = "ancestry open"
CONTRADICTED = "contradicted relation"

Usage = tuple[tuple[int, int], ...]
"""(model, stage) keys of `Graph.usage` whose rows are those consumed."""


@dataclass(frozen=True)
class RowGap:
    """Rows of which nothing is known: why, how many, of how many (None: not counted)."""

    why: str
    rows: int | None
    of: int | None


@dataclass(frozen=True)
class RowFacts:
    """What is known of the used rows of a dataset, for one class; None: there are some, and nobody counted them."""

    documents: int | None = 0
    rows: int | None = 0
    words: int | None = 0
    reasons: Mapping[str, int] = field(default_factory=dict)
    expected_false: float | None = None
    gaps: tuple[RowGap, ...] = ()

    @property
    def found(self) -> bool:
        """Whether any row is bad."""
        return self.rows is None or self.rows > 0


class RowJudge(Protocol):
    """Tells a walk what is known of a dataset's rows."""

    classes: tuple[str, ...]

    def judge(self, dataset: int, usage: Usage | None) -> Mapping[str, RowFacts]:
        """Facts for each class of the rows that a dataset lists, narrowed to a usage log's where one is given."""
        ...
