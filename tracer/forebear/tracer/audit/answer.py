"""Answers: what a trace says of one model.

Always true here: an answer says whether it is complete and at which head; what fell under a floor or was cut is counted in it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from forebear.schemas.enums import Channel, Grade, Verdict

__all__ = ["Budget", "Exposure", "Node", "Step", "Steps", "Trace", "Unknown", "exit_code", "worst"]

_ORDER = {verdict: n for n, verdict in enumerate(Verdict)}
_EXPOSED = _ORDER[Verdict.GUIDANCE_POSSIBLE]


@dataclass(frozen=True)
class Node:
    """A model or dataset in an answer."""

    name: str | None
    id: str

    def to_json(self) -> dict[str, Any]:
        """As answers carry it."""
        return {"name": self.name, "id": self.id}


@dataclass(frozen=True)
class Step:
    """One edge of a path, walked from child to parent."""

    relation: str
    child: str
    parent: str

    def to_json(self) -> dict[str, Any]:
        """As answers carry it."""
        return {"relation": self.relation, "child": self.child, "parent": self.parent}


class Steps:
    """The steps of a path, written out only when they are looked at: five thousand ancestors have long paths.

    Args:
        length: How many steps there are.
        write: Gives them.
    """

    def __init__(self, length: int, write: Callable[[], tuple[Step, ...]]) -> None:
        self.length = length
        self._write = write

    def __iter__(self) -> Iterator[Step]:
        return iter(self.written)

    def __len__(self) -> int:
        return self.length

    @cached_property
    def written(self) -> tuple[Step, ...]:
        """The steps."""
        return self._write()


class Budget:
    """How many steps an answer still writes out as JSON; paths beyond it give their length in `omitted`."""

    def __init__(self, steps: int = 20_000) -> None:
        self._left = steps

    def path(self, steps: Steps, *, stop: int) -> dict[str, Any]:
        """The first `stop` steps, or none and how many were left out."""
        self._left -= len(steps)
        if self._left < 0:
            return {"path": [], "omitted": stop} if stop else {"path": []}
        return {"path": [one.to_json() for one in steps.written[:stop]]}

    @property
    def spent(self) -> bool:
        """Whether paths are left out by now."""
        return self._left < 0


@dataclass(frozen=True)
class Exposure:
    """Bad rows of a dataset that an ancestor consumed, reaching the asked model by a channel.

    `path` leads from the asked model to the ancestor that consumed, `through` from there to the dataset. `upper_bound` says that
    epochs are below one and no row ranges tell which rows were read. `advisories` are entries that name the rows; where one names a
    model or what a model made, that node stands in the place of the dataset and nothing is counted.
    """

    channel: Channel
    verdict: Verdict
    category: str
    ancestor: Node
    depth: int
    steps: Steps
    dataset: Node
    documents: int | None
    rows: int | None
    words: int | None
    epochs: float | None
    presentations: float | None
    expected_false: float | None
    reasons: Mapping[str, int]
    evidence: Grade
    upper_bound: bool = False
    advisories: tuple[int, ...] = ()

    def below(self, floor: int) -> bool:
        """Whether so few documents fall under a floor; what nobody counted does not."""
        return self.documents is not None and self.documents < floor

    @property
    def path(self) -> tuple[Step, ...]:
        """From the asked model to the ancestor that consumed."""
        return self.steps.written[: self.depth]

    @property
    def through(self) -> tuple[Step, ...]:
        """From the ancestor that consumed to the dataset."""
        return self.steps.written[self.depth :]

    def to_json(self, budget: Budget | None = None) -> dict[str, Any]:
        """As CONTRACT's trace has it."""
        budget = budget or Budget()
        found: dict[str, Any] = {"channel": self.channel.value, "verdict": self.verdict.value, "class": self.category}
        found |= {"ancestor": self.ancestor.to_json(), "depth": self.depth, **budget.path(self.steps, stop=self.depth)}
        found |= {"through": [] if budget.spent else [one.to_json() for one in self.through]}
        found |= {"dataset": self.dataset.name or self.dataset.id, "dataset_id": self.dataset.id}
        found |= {"documents": self.documents, "rows": self.rows, "words": self.words, "epochs": self.epochs}
        found |= {"presentations": self.presentations, "expected_false": self.expected_false}
        found |= {"reasons": dict(self.reasons), "evidence": self.evidence.value}
        if self.advisories:
            found["advisories"] = list(self.advisories)
        return {**found, "upper_bound": True} if self.upper_bound else found


@dataclass(frozen=True)
class Unknown:
    """Something that is not known: where, why, the worst that it could mean, and of how many rows."""

    node: str
    why: str
    at_worst: Verdict
    category: str | None = None
    rows: int | None = None
    of: int | None = None

    def to_json(self) -> dict[str, Any]:
        """As CONTRACT's trace has it."""
        found: dict[str, Any] = {"node": self.node, "why": self.why, "at_worst": self.at_worst.value, "class": self.category}
        return {**found, "rows": self.rows, "of": self.of}


@dataclass(frozen=True)
class Trace:
    """What is said of one model; `advisories` are the entries of those that touch it or an ancestor."""

    model: Node
    verdict: Verdict
    at_worst: Verdict
    verdicts: Mapping[str, Verdict]
    at_worsts: Mapping[str, Verdict]
    exposures: tuple[Exposure, ...]
    unknown: tuple[Unknown, ...]
    first_exposed: tuple[Node, ...]
    last_unexposed: tuple[Node, ...]
    below_floor: tuple[Exposure, ...] = ()
    advisories: tuple[int, ...] = ()
    notes: Mapping[str, Any] = field(default_factory=dict)

    @property
    def complete(self) -> bool:
        """Nothing is unknown."""
        return not self.unknown

    def to_json(self, context: Mapping[str, Any]) -> dict[str, Any]:
        """As CONTRACT's trace has it; `context` has what all models of a question share: asked, head, integrity."""
        found: dict[str, Any] = {"schema": "forebear/trace/1", "model": self.model.to_json()}
        found |= {"verdict": self.verdict.value, "at_worst": self.at_worst.value, "complete": self.complete}
        found |= {"verdicts": {name: one.value for name, one in self.verdicts.items()}}
        found |= {"at_worsts": {name: one.value for name, one in self.at_worsts.items()}}
        found |= context
        budget = Budget()
        found |= {"exposures": [one.to_json(budget) for one in self.exposures]}
        found |= {"first_exposed": [one.to_json() for one in self.first_exposed]}
        found |= {"last_unexposed": [one.to_json() for one in self.last_unexposed]}
        found |= {"unknown": [one.to_json() for one in self.unknown]}
        if self.below_floor:
            found["below_floor"] = [one.to_json(budget) for one in self.below_floor]
        return {**found, **self.notes}


def worst(verdicts: list[Verdict]) -> Verdict:
    """The worst of some verdicts."""
    return min(verdicts, key=_ORDER.__getitem__)


def exit_code(verdicts: list[Verdict]) -> int:
    """1 any exposure; else 2 anything unknown; else 0."""
    if any(_ORDER[one] <= _EXPOSED for one in verdicts):
        return 1
    return 2 if Verdict.UNKNOWN in verdicts else 0
