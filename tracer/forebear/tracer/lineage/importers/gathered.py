"""What an importer has gathered: nodes, relations between them, and everything that it could not take or resolve.

Always true here: a name is checked before it is kept; a reference is resolved only when all nodes are known, to the one node that
has the name, revision or alias, and is never matched by likeness; where several nodes are meant none is chosen; a relation that
the source does not name is marked as assumed. What was refused, what is unresolved and what was left out is all kept, in order.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from forebear.schemas.enums import Grade, Relation, Stage
from forebear.schemas.errors import DataError
from forebear.schemas.lineage import DatasetRecord, ModelRecord, Parent, Reference, ShardUse, TrainedOn, TrainingRecord, parse_record
from forebear.tracer.lineage.relations import Kind

__all__ = ["Gathered", "Known", "Resolution", "Unresolved", "cycles_of"]

Known = Callable[[Kind, Reference], bool]
"""Whether a ledger records the one node that a reference means."""

_End = tuple[Kind, Reference]
_CYCLES = 1000


@dataclass(frozen=True)
class Unresolved:
    """Something that could not be resolved: in which file or record, what it says, and why that does not do."""

    where: str
    what: str
    why: str

    def to_json(self) -> dict[str, str]:
        """As answers carry it."""
        return {"where": self.where, "what": self.what, "why": self.why}


@dataclass
class _Node:
    reference: Reference
    aliases: set[str] = field(default_factory=set)
    shard: str | None = None


@dataclass(frozen=True)
class _Edge:
    where: str
    relation: Relation
    child: _End
    parent: _End
    stage: Stage | None
    assumed: bool


@dataclass(frozen=True)
class Resolution:
    """Gathered lineage as a training record.

    Args:
        record: Nodes and relations.
        resolved: Relations whose parent is recorded, here or in the ledger.
        not_recorded: Ids of parents that are named precisely and recorded nowhere: kept, and unknown.
        assumed: How many relations were assumed, by relation.
    """

    record: TrainingRecord
    resolved: int
    not_recorded: tuple[str, ...]
    assumed: dict[str, int]


class Gathered:
    """Nodes and relations of one import.

    Args:
        stated_only: Whether relations that the source does not name are left out (and named as unresolved).
    """

    def __init__(self, *, stated_only: bool = False) -> None:
        self.refused: list[Unresolved] = []
        self.unresolved: list[Unresolved] = []
        self.left_out: Counter[str] = Counter()
        self.duplicates: list[str] = []
        self.cycles: list[list[str]] = []
        self._stated_only = stated_only
        self._nodes: dict[Kind, dict[str, _Node]] = {"model": {}, "dataset": {}}
        self._named: dict[Kind, dict[str, list[Reference]]] = {"model": {}, "dataset": {}}
        self._edges: dict[tuple[Relation, _End, _End, Stage | None], _Edge] = {}
        self._good: dict[str, str | None] = {}

    def refuse(self, where: str, what: str, why: str) -> None:
        """Say that a file, a record or a node is not taken."""
        self.refused.append(Unresolved(where, what[:500], why))

    def unresolve(self, where: str, what: str, why: str) -> None:
        """Say that a reference leads nowhere that is known."""
        self.unresolved.append(Unresolved(where, what[:500], why))

    def fault(self, name: object) -> str | None:
        """Why a name cannot be one, None where it can."""
        if not isinstance(name, str):
            return f"a name is text, this is {type(name).__name__}"
        if name not in self._good:
            try:
                parse_record({"models": [{"name": name}]})
                self._good[name] = "a digest is no name" if name.startswith("sha256:") else None
            except DataError as error:
                self._good[name] = f"expected {error.expected.split(' at ')[0]}"
        return self._good[name]

    def node(
        self, kind: Kind, name: object, *, where: str, revision: str | None = None, aliases: Iterable[str] = (), shard: str | None = None
    ) -> Reference | None:
        """Record a model or dataset; `shard` is the digest of the one shard that a dataset is.

        Returns:
            What refers to it, None where its name is refused.
        """
        fault = self.fault(name) or (None if revision is None else self.fault(f"@{revision}"))
        if fault:
            self.refuse(where, repr(name)[:200], fault)
            return None
        reference = Reference(str(name), revision)
        known = self._nodes[kind].setdefault(reference.id, _Node(reference, shard=shard))
        for alias in aliases:
            fault = self.fault(alias)
            if fault:
                self.unresolve(where, repr(alias)[:200], f"another name of {reference.id}: {fault}")
            elif alias != name:
                known.aliases.add(alias)
        for one in (str(name), *known.aliases):
            meant = self._named[kind].setdefault(one, [])
            if reference not in meant:
                meant.append(reference)
        return reference

    def relate(
        self, relation: Relation, child: _End, parent: _End, *, where: str, stage: Stage | None = None, assumed: bool = False
    ) -> None:
        """Record a relation; its parent is resolved when everything is gathered.

        Args:
            relation: What the child has to the parent.
            child: Kind and reference, as `node` gave it.
            parent: Kind and name, with or without a revision.
            where: The file or record that says so.
            stage: Of a `trained_on`.
            assumed: The source names the parent and not the relation; this is the one that passes most.
        """
        name = parent[1]
        fault = self.fault(name.name) or (None if name.revision is None else self.fault(f"@{name.revision}"))
        if fault:
            self.unresolve(where, repr(name.name)[:200], fault)
            return
        if assumed and self._stated_only:
            self.unresolve(where, name.id.removeprefix("name:"), "the source does not say by which relation")
            return
        self._edges.setdefault((relation, child, parent, stage), _Edge(where, relation, child, parent, stage, assumed))

    @property
    def taken(self) -> bool:
        """Whether there is any node."""
        return any(self._nodes.values())

    def meant(self, kind: Kind, reference: Reference) -> list[Reference]:
        """Gathered nodes that a reference may mean."""
        if reference.id in self._nodes[kind]:
            return [self._nodes[kind][reference.id].reference]
        named = self._named[kind].get(reference.name or "", [])
        return [one for one in named if reference.revision is None or one.revision == reference.revision]

    def resolve(self, known: Known) -> Resolution:
        """Everything as one training record.

        Args:
            known: Tells which references mean a node that the ledger records.
        """
        edges, resolved, lost, assumed = dict[tuple[Relation, str, _End, Stage | None], _Edge](), 0, dict[str, None](), Counter[str]()
        for edge in self._edges.values():
            kind, reference = edge.parent
            meant = self.meant(kind, reference)
            if len(meant) > 1:
                ids = ", ".join(one.id for one in meant[:5])
                self.unresolve(edge.where, reference.id.removeprefix("name:"), f"{len(meant)} {kind}s have this name: {ids}")
                continue
            parent = meant[0] if meant else reference
            if (kind, parent.id) == (edge.child[0], edge.child[1].id):
                self.cycles.append([parent.id.removeprefix("name:")])
                continue
            key = (edge.relation, edge.child[1].id, (kind, parent), edge.stage)
            if key in edges:
                continue
            edges[key] = _Edge(edge.where, edge.relation, edge.child, (kind, parent), edge.stage, edge.assumed)
            if meant or known(kind, parent):
                resolved += 1
            else:
                lost[parent.id] = None
            if edge.assumed:
                assumed[edge.relation.value] += 1
        return Resolution(self._record(list(edges.values())), resolved, tuple(lost), dict(sorted(assumed.items())))

    @property
    def ids(self) -> list[tuple[Kind, Reference]]:
        """Every recorded node."""
        return [(kind, node.reference) for kind, nodes in self._nodes.items() for node in nodes.values()]

    def _record(self, edges: Sequence[_Edge]) -> TrainingRecord:
        uses: dict[str, list[TrainedOn]] = {}
        parents: dict[tuple[Kind, str], list[Parent]] = {}
        for edge in edges:
            kind, reference = edge.parent
            if edge.relation is Relation.TRAINED_ON:
                use = TrainedOn(reference, edge.stage, None, complete=False, evidence=Grade.DECLARED)
                uses.setdefault(edge.child[1].id, []).append(use)
                continue
            model, dataset = (reference, None) if kind == "model" else (None, reference)
            parent = Parent(edge.relation, model, dataset, Grade.DECLARED, run=None, system_prompt=None)
            parents.setdefault((edge.child[0], edge.child[1].id), []).append(parent)
        # Ancestry stays unsaid, which reads as open: nothing here claims that a list is whole.
        models = tuple(
            ModelRecord(one.reference, tuple(sorted(one.aliases)), None, tuple(uses.get(key, ())), tuple(parents.get(("model", key), ())))
            for key, one in self._nodes["model"].items()
        )
        datasets = tuple(
            DatasetRecord(one.reference, tuple(sorted(one.aliases)), None, _shards(one), tuple(parents.get(("dataset", key), ())))
            for key, one in self._nodes["dataset"].items()
        )
        return TrainingRecord(models, datasets)


def _shards(node: _Node) -> tuple[ShardUse, ...]:
    return () if node.shard is None else (ShardUse(node.shard, None),)


def cycles_of(parents: dict[str, list[str]]) -> list[list[str]]:
    """One cycle for each relation that closes one, walking from each node to its parents in the order of names.

    Args:
        parents: Parents by node; ends that are no keys have none.

    Returns:
        Cycles as lists of nodes, at most a thousand.
    """
    found: list[list[str]] = []
    done: set[str] = set()
    for start in sorted(parents):
        if start in done:
            continue
        path, places = [start], {start: 0}
        todo = [iter(sorted(set(parents[start])))]
        while todo:
            nearest = next(todo[-1], None)
            if nearest is None:
                todo.pop()
                last = path.pop()
                del places[last]
                done.add(last)
            elif nearest in places:
                if len(found) < _CYCLES:
                    found.append(path[places[nearest] :])
            elif nearest not in done and nearest in parents:
                places[nearest] = len(path)
                path.append(nearest)
                todo.append(iter(sorted(set(parents[nearest]))))
    return found
