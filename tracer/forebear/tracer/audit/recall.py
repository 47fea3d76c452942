"""Recall: from known-bad documents, shards, runs, models or system prompts to every model that they reached.

Always true here: it is the walk of `trace` with every target taken as bad; rows of a shard that a run wrote are rows of its source;
what nobody can tell of (open ancestry, shards that were not scanned) is listed beside what was found.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from forebear.schemas.digests import is_digest, sha256_name
from forebear.schemas.enums import Grade, Relation, Verdict
from forebear.schemas.errors import ForebearError, UsageError
from forebear.schemas.records import Head
from forebear.tracer.audit.advisories import makings_of
from forebear.tracer.audit.answer import Budget, Unknown
from forebear.tracer.audit.facts import CONTRADICTED, NO_BANDS, NO_SHARDS, NOT_SCANNED, OPEN
from forebear.tracer.audit.near import Near, find_near
from forebear.tracer.audit.reach import Reached, Sources, merge, reach
from forebear.tracer.audit.targets import ShardDocuments, TargetRows, find_documents, find_shard
from forebear.tracer.lineage.graph import DATASET, MODEL, Graph
from forebear.tracer.lineage.relations import GRADES, RULES

if TYPE_CHECKING:
    from forebear.tracer.audit.session import Session

__all__ = ["Named", "Recalled", "impact", "name_targets", "recall", "recall_documents"]

Ints = npt.NDArray[np.int64]
_LISTED_UNKNOWN = 1000
_NO_ROWS = np.empty(0, np.int64)
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
class Named:
    """What some targets turned out to be."""

    said: list[str] = field(default_factory=list)
    shards: list[str] = field(default_factory=list)
    documents: list[str] = field(default_factory=list)
    models: list[int] = field(default_factory=list)
    prompts: list[str] = field(default_factory=list)
    texts: list[str] = field(default_factory=list)


def impact(session: Session, shards: Sequence[str]) -> Recalled:
    """Every model that some shards reached.

    Args:
        session: The ledger.
        shards: Files, digests or prefixes of known digests.

    Raises:
        UsageError: A shard that neither a run nor a lineage entry knows.
    """
    found = list(dict.fromkeys(find_shard(session, one) for one in shards))
    return _recalled(session, Named(found, shards=found))


def recall(session: Session, targets: Sequence[str], *, texts: Sequence[str | Path] = ()) -> Recalled:
    """Every model that some targets reached.

    Args:
        session: The ledger.
        targets: Shards (file, digest, prefix), documents (digest), runs, models (digest, name), system prompts (digest).
        texts: Files whose whole content is the text of a document; rows that are like it count too, as near matches.

    Raises:
        UsageError: A target that the ledger knows nothing of, or the extra that near matches need is not installed.
    """
    return _recalled(session, name_targets(session, targets, texts=texts))


def recall_documents(session: Session, documents: Sequence[str]) -> Recalled:
    """Every model that some documents reached, by their whole digests, whatever else may have these digests."""
    return _recalled(session, Named(list(documents), documents=list(documents)))


def name_targets(session: Session, targets: Sequence[str], *, texts: Sequence[str | Path] = ()) -> Named:
    """What some targets are.

    Raises:
        UsageError: A target that the ledger knows nothing of, or a file that holds no text.
    """
    named = Named()
    for target in targets:
        named.said.append(_name(session, target, named))
    for path in texts:
        try:
            data = Path(path).read_bytes()
            named.texts.append(data.decode())
        except (OSError, UnicodeDecodeError) as error:
            found = f"{path}: {error.strerror if isinstance(error, OSError) else error}"
            raise UsageError("unreadable_text", expected="a file with a text in UTF-8", found=found, remedy="Name one.") from error
        named.documents.append(sha256_name(data))
        named.said.append(named.documents[-1])
    return named


def _name(session: Session, text: str, named: Named) -> str:
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


def _as_shard(session: Session, text: str, named: Named) -> str | None:
    try:
        named.shards.append(find_shard(session, text))
    except UsageError as error:
        if error.kind == "ambiguous_shard":
            raise
        return None
    return named.shards[-1]


def _as_run(session: Session, text: str, named: Named) -> str | None:
    try:
        _, digest, _ = session.ledger.find_run(text)
    except ForebearError:
        return None
    at = next(n for n, run in enumerate(session.runs) if run[1] == digest)
    named.shards += [session.scans.names[one] for one in session.scans.scanned(at).tolist()]
    return digest


def _as_model(session: Session, text: str, named: Named) -> str | None:
    try:
        named.models.append(session.graph.find(text))
    except UsageError as error:
        if error.kind == "ambiguous_model":
            raise
        return None
    return session.graph.ids[named.models[-1]]


def _as_prompt(session: Session, text: str, named: Named) -> str | None:
    if not any(one.get("system_prompt") == text for one in session.graph.more):
        return None
    named.prompts.append(text)
    return text


def _recalled(session: Session, named: Named) -> Recalled:
    graph = session.graph
    exact: dict[str, Ints | None] = dict.fromkeys(named.shards)
    if named.documents:
        for shard, found in find_documents(session.scans, named.documents).items():
            exact.setdefault(shard, found)
    near = find_near(session, named.texts) if named.texts else Near()
    levels: list[tuple[str, dict[str, Ints | None]]] = [("exact", exact)]
    for match, more in (("near", near.measured), ("candidate", near.candidates)):
        if any(more.values()):
            levels.append((match, {**levels[-1][1], **_with(levels[-1][1], more)}))
    makings = makings_of(graph, named.prompts)
    logged, models = ShardDocuments(session.scans), []
    for match, targets in levels:
        rows = TargetRows(graph, session.scans, logged)
        for shard, target in targets.items():
            rows.add(shard, target)
        sources = Sources(rows.datasets(), named.models, makings)
        models.append((match, reach(graph, session.families, sources, narrowed=rows.narrowed)))
    unknown, omitted = _unknown(graph)
    if named.documents:  # a document may stand in any shard that was not scanned
        unknown += [Unknown(graph.ids[one], NOT_SCANNED, Verdict.DIRECT) for one in rows.unscanned()]
    unknown += [Unknown(one, NO_BANDS, Verdict.DIRECT) for one in sorted(near.blind)]
    return Recalled(tuple(named.said), merge(models), tuple(unknown), omitted)


def _with(known: Mapping[str, Ints | None], more: Mapping[str, set[int]]) -> dict[str, Ints | None]:
    """Target rows with some more; a shard that is one as a whole stays so."""
    return {
        shard: rows if (rows := known.get(shard, _NO_ROWS)) is None else np.union1d(rows, np.array(sorted(mine), np.int64))
        for shard, mine in more.items()
        if mine
    }


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
