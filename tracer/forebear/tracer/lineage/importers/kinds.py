"""Importing: lineage that others wrote becomes one lineage entry, and what it could not resolve is said.

Always true here: one call writes one entry or none; nothing that was taken is closed, so an import alone never makes a model clean;
every relation is graded declared; the counts of what was assumed and what is unresolved stand in the entry, the names in the answer.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from forebear.schemas.enums import EntryKind
from forebear.schemas.errors import UsageError
from forebear.schemas.lineage import Reference
from forebear.schemas.records import Entry, Head
from forebear.tracer.ledger.ledger import Ledger
from forebear.tracer.lineage.document import LineageDocument
from forebear.tracer.lineage.graph import DATASET, MODEL, Graph, build_graph
from forebear.tracer.lineage.importers import dclm, ecosystem_graphs, hf_card, mlflow, openlineage
from forebear.tracer.lineage.importers.gathered import Gathered, Resolution, Unresolved
from forebear.tracer.lineage.link import build_document
from forebear.tracer.lineage.relations import Kind

__all__ = ["KINDS", "Imported", "import_lineage"]

KINDS: dict[str, Callable[[Gathered, Sequence[str]], None]] = {
    "dclm": dclm.read,
    "ecosystem-graphs": ecosystem_graphs.read,
    "hf-card": hf_card.read,
    "mlflow": mlflow.read,
    "openlineage": openlineage.read,
}
"""What can be imported, by the name that the command line takes."""


@dataclass(frozen=True)
class Imported:
    """What an import did.

    Args:
        kind: Which importer.
        entry: Number of the ledger's new entry.
        head: The head with it.
        object: Digest of the lineage object.
        counts: Models, datasets and relations recorded.
        resolved: Relations whose parent is recorded, here or in the ledger.
        not_recorded: Ids of parents that nothing records: kept, unknown until something does.
        unresolved: References that lead nowhere.
        refused: Files, records and nodes that were not taken.
        assumed: Relations that the source does not name, by the relation they are read as.
        already: Ids of nodes that the ledger recorded before: this import adds to them.
        duplicates: Names or ids that several nodes of the source have.
        cycles: Cycles of the source.
        left_out: What is neither a model nor a dataset, counted.
    """

    kind: str
    entry: int
    head: Head
    object: str
    counts: Mapping[str, int]
    resolved: int
    not_recorded: tuple[str, ...]
    unresolved: tuple[Unresolved, ...]
    refused: tuple[Unresolved, ...]
    assumed: Mapping[str, int]
    already: tuple[str, ...]
    duplicates: tuple[str, ...]
    cycles: tuple[tuple[str, ...], ...]
    left_out: Mapping[str, int]

    def to_json(self) -> dict[str, Any]:
        """The answer of `forebear import --json`."""
        where = {"entry": self.entry, "object": self.object, "head": self.head.to_json()}
        references = {"resolved": self.resolved, "not_recorded": len(self.not_recorded), "unresolved": len(self.unresolved)}
        lists: dict[str, Any] = {"not_recorded": list(self.not_recorded), "already": list(self.already)}
        lists |= {"unresolved": [one.to_json() for one in self.unresolved], "refused": [one.to_json() for one in self.refused]}
        lists |= {"duplicates": list(self.duplicates), "cycles": [list(one) for one in self.cycles]}
        said = {"assumed": dict(self.assumed), "left_out": dict(self.left_out)}
        return {"schema": "forebear/import/1", "kind": self.kind, **where, **self.counts, "references": references, **said, **lists}


def import_lineage(ledger: Ledger, kind: str, paths: Sequence[str], *, time: str, stated_only: bool = False) -> Imported:
    """Add the lineage that some files of a kind tell to the ledger, as one entry.

    Args:
        ledger: Where.
        kind: One of `KINDS`.
        paths: Files and folders.
        time: The entry's time, ISO 8601 in UTC.
        stated_only: Leave out relations that the source does not name.

    Raises:
        UsageError: The kind is not known, or nothing could be taken.
    """
    gathered = gather(kind, paths, stated_only=stated_only)
    graph = _graph(ledger)
    resolution = gathered.resolve(lambda node, reference: _known(graph, node, reference))
    document = build_document([(resolution.record, Path())], resolve=lambda use, _: (use.shard, None))
    already = tuple(one.id for node, one in gathered.ids if _known(graph, node, one, exact=True))
    return _append(ledger, kind, document, gathered=gathered, resolution=resolution, time=time, already=already)


def gather(kind: str, paths: Sequence[str], *, stated_only: bool = False) -> Gathered:
    """What files of a kind tell.

    Raises:
        UsageError: The kind is not known, or nothing could be taken.
    """
    if kind not in KINDS:
        remedy = "Use one of these."
        raise UsageError("unknown_kind", expected=f"a kind of lineage: {', '.join(sorted(KINDS))}", found=repr(kind)[:80], remedy=remedy)
    gathered = Gathered(stated_only=stated_only)
    KINDS[kind](gathered, paths)
    if not gathered.taken:
        told = "; ".join(f"{one.where}: {one.why} ({one.what})" for one in gathered.refused[:5]) or "no model and no dataset"
        more = len(gathered.refused) - 5
        raise UsageError(
            "nothing_to_import",
            expected=f"a model or a dataset in {kind} files",
            found=ascii(told)[1:-1] + (f"; and {more} more" if more > 0 else ""),
            remedy="Name files of this kind; each refusal says what was expected.",
        )
    return gathered


def _append(
    ledger: Ledger, kind: str, document: LineageDocument, *, gathered: Gathered, resolution: Resolution, time: str, already: tuple[str, ...]
) -> Imported:
    counts = {
        "models": document.models.recorded,
        "datasets": document.datasets.recorded,
        "relations": sum(len(one.child) for one in document.relations),
    }
    references = {"resolved": resolution.resolved, "not_recorded": len(resolution.not_recorded), "unresolved": len(gathered.unresolved)}
    facts = {"imported": kind, **counts, **references, "refused": len(gathered.refused), "assumed": resolution.assumed}
    name = ledger.put_object(document.to_bytes())
    head = ledger.append(Entry(EntryKind.LINEAGE, name, time, facts))
    return Imported(
        kind=kind,
        entry=head.size - 1,
        head=head,
        object=name,
        counts=counts,
        resolved=resolution.resolved,
        not_recorded=resolution.not_recorded,
        unresolved=tuple(gathered.unresolved),
        refused=tuple(gathered.refused),
        assumed=resolution.assumed,
        already=already,
        duplicates=tuple(gathered.duplicates),
        cycles=tuple(map(tuple, gathered.cycles)),
        left_out=dict(sorted(gathered.left_out.items())),
    )


def _graph(ledger: Ledger) -> Graph:
    """The lineage that the ledger holds so far."""
    entries = ledger.entries()
    return build_graph(
        (n, LineageDocument.from_bytes(ledger.get_object(one.object))) for n, _, one in entries if one.kind is EntryKind.LINEAGE
    )


def _known(graph: Graph, kind: Kind, reference: Reference, *, exact: bool = False) -> bool:
    """Whether the ledger records the one node that is meant; `exact`: under this very id."""
    text = reference.id if exact or reference.revision is not None else reference.name or reference.id
    found = graph.candidates(text, kind=MODEL if kind == "model" else DATASET)
    return len(found) == 1 and bool(graph.recorded[found[0]])
