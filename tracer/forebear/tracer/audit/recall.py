"""Recall: from known-bad documents, shards, runs, models or system prompts to every model that they reached.

Always true here: it is the walk of `trace` with every target taken as bad; rows of a shard that a run wrote are rows of its source;
what nobody can tell of (open ancestry, shards that were not scanned) is listed beside what was found.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from forebear.schemas.digests import is_digest, sha256_name
from forebear.schemas.enums import Grade, Relation, Verdict
from forebear.schemas.errors import ForebearError, UsageError
from forebear.schemas.records import Head
from forebear.tracer.audit.answer import Budget, Unknown
from forebear.tracer.audit.facts import CONTRADICTED, NO_SHARDS, NOT_SCANNED, OPEN
from forebear.tracer.audit.reach import Reached, Sources, reach
from forebear.tracer.audit.targets import TargetRows, find_documents, find_shard
from forebear.tracer.lineage.graph import DATASET, MODEL, Graph
from forebear.tracer.lineage.relations import GRADES, RULES

if TYPE_CHECKING:
    from forebear.tracer.audit.session import Session

__all__ = ["Recalled", "impact", "recall"]

_LISTED_UNKNOWN = 1000
_CONTRADICTED_GRADE = GRADES.index(Grade.CONTRADICTED)
_WALKED = np.array([rule.walked for rule in RULES])
_TRAINED = next(n for n, rule in enumerate(RULES) if rule.relation is Relation.TRAINED_ON)
_KEPT = np.array([rule.mode == "kept" for rule in RULES])


@dataclass(frozen=True)
class Recalled:
    """The answer of an impact or a recall."""

    target: tuple[str, ...]
    models: Sequence[Reached]
    unknown: tuple[Unknown, ...]
    omitted: int

    @property
    def complete(self) -> bool:
        """Nothing is unknown."""
        return not self.unknown

    @property
    def exit_code(self) -> int:
        """1 any model reached; else 2 anything unknown; else 0."""
        return 1 if self.models else 2 if self.unknown else 0

    def to_json(self, head: Head) -> dict[str, Any]:
        """As CONTRACT's recall has it."""
        found: dict[str, Any] = {"schema": "forebear/recall/1", "target": list(self.target), "complete": self.complete}
        budget = Budget()
        found |= {"head": head.to_json(), "models": [one.to_json(budget) for one in self.models]}
        found |= {"unknown": [one.to_json() for one in self.unknown]}
        return {**found, "omitted": self.omitted} if self.omitted else found


@dataclass
class _Named:
    """What some targets turned out to be."""

    shards: list[str] = field(default_factory=list)
    documents: list[str] = field(default_factory=list)
    models: list[int] = field(default_factory=list)
    prompts: list[str] = field(default_factory=list)


def impact(session: Session, shards: Sequence[str]) -> Recalled:
    """Every model that some shards reached.

    Args:
        session: The ledger.
        shards: Files, digests or prefixes of known digests.

    Raises:
        UsageError: A shard that neither a run nor a lineage entry knows.
    """
    found = list(dict.fromkeys(find_shard(session, one) for one in shards))
    return _recalled(session, tuple(found), _Named(shards=found))


def recall(session: Session, targets: Sequence[str], *, texts: Sequence[str | Path] = ()) -> Recalled:
    """Every model that some targets reached.

    Args:
        session: The ledger.
        targets: Shards (file, digest, prefix), documents (digest), runs, models (digest, name), system prompts (digest).
        texts: Files whose whole content is the text of a document.

    Raises:
        UsageError: A target that the ledger knows nothing of.
    """
    named = _Named()
    said = [_name(session, text, named) for text in targets]
    for path in texts:
        try:
            named.documents.append(sha256_name(Path(path).read_bytes()))
        except OSError as error:
            found = f"{path}: {error.strerror}"
            raise UsageError("unreadable_text", expected="a file with a text", found=found, remedy="Name one.") from error
        said.append(named.documents[-1])
    return _recalled(session, tuple(said), named)


def _name(session: Session, text: str, named: _Named) -> str:
    """Put a target where it belongs: the first of shard, run, model, system prompt and document that knows it."""
    for find in (_as_shard, _as_run, _as_model, _as_prompt):
        found = find(session, text, named)
        if found is not None:
            return found
    if not is_digest(text):
        raise UsageError(
            "unknown_target",
            expected="a shard, run, model or system prompt of the ledger, or the whole digest of a document",
            found=repr(text),
            remedy="Give a digest; for a text, `--text-file FILE`.",
        )
    named.documents.append(text)
    return text


def _as_shard(session: Session, text: str, named: _Named) -> str | None:
    try:
        named.shards.append(find_shard(session, text))
    except UsageError as error:
        if error.kind == "ambiguous_shard":
            raise
        return None
    return named.shards[-1]


def _as_run(session: Session, text: str, named: _Named) -> str | None:
    try:
        _, digest, _ = session.ledger.find_run(text)
    except ForebearError:
        return None
    at = next(n for n, run in enumerate(session.runs) if run[1] == digest)
    named.shards += [session.scans.names[one] for one in session.scans.scanned(at).tolist()]
    return digest


def _as_model(session: Session, text: str, named: _Named) -> str | None:
    try:
        named.models.append(session.graph.find(text))
    except UsageError as error:
        if error.kind == "ambiguous_model":
            raise
        return None
    return session.graph.ids[named.models[-1]]


def _as_prompt(session: Session, text: str, named: _Named) -> str | None:
    if not any(one.get("system_prompt") == text for one in session.graph.more):
        return None
    named.prompts.append(text)
    return text


def _recalled(session: Session, said: tuple[str, ...], named: _Named) -> Recalled:
    graph = session.graph
    rows = TargetRows(session)
    for shard in named.shards:
        rows.add(shard, None)
    if named.documents:
        for shard, found in find_documents(session, named.documents).items():
            rows.add(shard, found)
    prompts = set(named.prompts)
    makings = [
        at
        for at, more in enumerate(graph.edges.more.tolist() if prompts else ())
        if more >= 0 and graph.more[more].get("system_prompt") in prompts and RULES[graph.edges.rule[at]].parent == "model"
    ]
    makings = [at for at in makings if graph.edges.grade[at] != _CONTRADICTED_GRADE and RULES[graph.edges.rule[at]].walked]
    sources = Sources(rows.datasets(), named.models, makings)
    reached = reach(graph, session.families, sources, narrowed=rows.narrowed)
    unknown, omitted = _unknown(graph)
    if named.documents:  # a document may stand in any shard that was not scanned
        unknown += [Unknown(graph.ids[one], NOT_SCANNED, Verdict.DIRECT) for one in rows.unscanned()]
    return Recalled(said, reached, tuple(unknown), omitted)


def _unknown(graph: Graph) -> tuple[list[Unknown], int]:
    """What nobody can tell of, in the whole graph, capped; and how many were left out."""
    edges, size = graph.edges, len(graph.ids)
    pointed = np.zeros(size, "?")
    pointed[edges.parent[_WALKED[edges.rule]]] = True
    matters = pointed | (graph.kind == MODEL)
    parts = np.zeros(size, "?")
    parts[edges.child[_KEPT[edges.rule] & (edges.grade != _CONTRADICTED_GRADE)]] = True
    consumed = np.zeros(size, "?")
    consumed[edges.parent[edges.rule == _TRAINED]] = True
    lists = np.diff(graph.listed_start) > 0
    doubted = np.zeros(size, "?")
    doubted[edges.parent[_WALKED[edges.rule] & (edges.grade == _CONTRADICTED_GRADE)]] = True
    absent = matters & ~graph.recorded
    reasons = [
        ("model not recorded", absent & (graph.kind == MODEL)),
        ("dataset not recorded", absent & (graph.kind == DATASET)),
        (OPEN, matters & graph.recorded & ~graph.closed),
        (NO_SHARDS, consumed & ~lists & ~parts & (graph.kind == DATASET)),
        (CONTRADICTED, doubted),
    ]
    total = sum(int(mask.sum()) for _, mask in reasons)
    found: list[Unknown] = []
    for why, mask in reasons:
        nodes = np.flatnonzero(mask)[: _LISTED_UNKNOWN - len(found)].tolist()
        found += [Unknown(graph.ids[node], why, Verdict.DIRECT) for node in nodes]
    return sorted(found, key=lambda one: (one.node, one.why)), total - len(found)
