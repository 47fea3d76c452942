"""The lineage as a graph in arrays: every node, every relation and every listed shard, newest word first.

Always true here: digests join nodes, names never do by themselves; a reference by name means the one recorded node that has the
name or alias, and stays a node that is not recorded where there is none or several; of two words about one thing the newest
entry's holds and the difference is kept in `contradictions`. Nothing here knows of rows or verdicts.
"""

from __future__ import annotations

import difflib
import gc
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from forebear.schemas.enums import Ancestry, Grade, Relation, Stage
from forebear.schemas.errors import IntegrityError, UsageError
from forebear.tracer.lineage.document import LineageDocument, NodeTable, RelationTable, UsageTable
from forebear.tracer.lineage.relations import GRADES, RULES, Kind

__all__ = ["DATASET", "MODEL", "STAGES", "Contradiction", "Edges", "Graph", "build_graph"]

MODEL, DATASET = 0, 1
KINDS: tuple[Kind, ...] = ("model", "dataset")
STAGES: tuple[Stage, ...] = tuple(Stage)

_RULE = {(rule.relation.value, rule.child, rule.parent): n for n, rule in enumerate(RULES)}
_SAME = _RULE[Relation.SAME_WEIGHTS_AS.value, "model", "model"]
_GRADE = {grade.value: n for n, grade in enumerate(GRADES)}
_DECLARED = _GRADE[Grade.DECLARED.value]
_STAGE = {stage.value: n for n, stage in enumerate(STAGES)}
_ANCESTRY = {None: 0, Ancestry.OPEN.value: 1, Ancestry.CLOSED.value: 2}
_HEX = frozenset("0123456789abcdef")

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Contradiction:
    """Two entries that say different things of one; the newer one holds."""

    node: str
    what: str
    was: str
    now: str
    entry: int

    def to_json(self) -> dict[str, Any]:
        """As answers carry it."""
        return {"node": self.node, "what": self.what, "was": self.was, "now": self.now, "entry": self.entry}


@dataclass
class Edges:
    """Relations in columns, sorted by child; `mirror` marks the way back of a relation that is walked both ways.

    `rule` indexes RULES, `grade` GRADES, `stage` STAGES (-1: none); `epochs` is NaN where not known.
    """

    child: Ints
    parent: Ints
    rule: npt.NDArray[np.int8]
    grade: npt.NDArray[np.int8]
    stage: npt.NDArray[np.int8]
    epochs: npt.NDArray[np.float64]
    complete: npt.NDArray[np.bool_]
    mirror: npt.NDArray[np.bool_]
    entry: npt.NDArray[np.int32]
    more: npt.NDArray[np.int64]  # position in Graph.more, or -1

    def take(self, order: npt.NDArray[Any]) -> Edges:
        """These rows, in this order."""
        return Edges(**{name: column[order] for name, column in vars(self).items()})


class Graph:
    """Nodes, relations, listed shards and usage of a ledger's lineage entries."""

    def __init__(self) -> None:
        self.ids: list[str] = []
        self.names: list[str | None] = []
        self.kind: npt.NDArray[np.int8] = np.empty(0, "i1")
        self.recorded: npt.NDArray[np.bool_] = np.empty(0, "?")
        self.ancestry: npt.NDArray[np.int8] = np.empty(0, "i1")
        self.revisions: dict[int, str] = {}
        self.digests: dict[int, str] = {}
        self.aliases: dict[int, list[str]] = {}
        self.other_names: dict[int, list[str]] = {}
        self.edges: Edges
        self.start: Ints  # edges of node n: start[n] to start[n + 1]
        self.more: list[dict[str, str]] = []
        self.shards: list[str] = []
        self.listed: npt.NDArray[np.int64]  # columns dataset, shard, first, last, entry; whole shards have first -1
        self.listed_start: Ints
        self.labels: dict[int, str] = {}
        self.usage: dict[tuple[int, int], list[tuple[int, int, int]]] = {}  # (model, stage) -> (shard, first, last)
        self.contradictions: list[Contradiction] = []
        self.ambiguous: dict[int, list[int]] = {}
        self._index: tuple[dict[str, int], dict[str, int]] = ({}, {})
        self._shard_index: dict[str, int] = {}
        self._by_name: dict[tuple[int, str], list[int]] = {}

    @property
    def closed(self) -> npt.NDArray[np.bool_]:
        """Nodes that are recorded and whose ancestry is closed."""
        return np.asarray(self.recorded & (self.ancestry == _ANCESTRY["closed"]), np.bool_)

    def edges_of(self, node: int) -> range:
        """Positions in `edges` of a node's relations to its parents."""
        return range(int(self.start[node]), int(self.start[node + 1]))

    def edges_to(self, node: int) -> Ints:
        """Positions in `edges` of the relations that point at a node."""
        order, bounds = self.children
        return order[bounds[node] : bounds[node + 1]]

    @cached_property
    def children(self) -> tuple[Ints, Ints]:
        """Positions in `edges` sorted by parent, and bounds: those that point at node n are order[bounds[n]:bounds[n + 1]]."""
        return np.argsort(self.edges.parent, kind="stable"), _bounds(self.edges.parent, len(self.ids))

    def listed_of(self, dataset: int) -> npt.NDArray[np.int64]:
        """What a dataset lists: rows (dataset, shard, first, last, entry)."""
        return self.listed[self.listed_start[dataset] : self.listed_start[dataset + 1]]

    def shard(self, digest: str) -> int | None:
        """Position of a listed shard in `shards`."""
        return self._shard_index.get(digest)

    def find(self, text: str, *, kind: int = MODEL) -> int:
        """The node that a digest, a prefix of one, an id, a name or an alias means.

        Raises:
            UsageError: No node is meant, or several.
        """
        found = self.candidates(text, kind=kind)
        if len(found) == 1:
            return found[0]
        what = KINDS[kind]
        if found:
            shown = ", ".join(self.ids[one] for one in found[:10])
            raise UsageError(
                f"ambiguous_{what}",
                expected=f"a {what} that {text!r} alone means",
                found=f"{len(found)}: {shown}" + ("" if len(found) <= 10 else f" and {len(found) - 10} more"),
                remedy="Give one of these ids.",
            )
        near = self._near(text, kind)
        raise UsageError(
            f"unknown_{what}",
            expected=f"a {what} of the ledger: digest, prefix of 12 hex digits or more, name or alias",
            found=repr(text),
            remedy=f"Did you mean {', '.join(near)}?" if near else "Link a training record that names it (`forebear link`).",
        )

    def candidates(self, text: str, *, kind: int = MODEL) -> list[int]:
        """Nodes that a text may mean, best way first: id, name, alias, prefix of a digest."""
        index = self._index[kind]
        if text in index and not (self.ids[index[text]].startswith("name:") and not text.startswith("name:")):
            return [self._joined(index[text])]
        named = list(self._by_name.get((kind, text), ()))
        plain = index.get(f"name:{text}")
        if plain is not None and (self.recorded[plain] or not named):
            named.append(self._joined(plain))
        if named:
            return sorted(set(named), key=lambda one: self.ids[one])
        aliased = [n for n, names in self.aliases.items() if self.kind[n] == kind and text in names]
        if aliased:
            return sorted(aliased, key=lambda one: self.ids[one])
        prefix = text.removeprefix("sha256:")
        if 12 <= len(prefix) <= 64 and set(prefix) <= _HEX:
            return sorted((n for n, digest in self.digests.items() if self.kind[n] == kind and digest.startswith(prefix, 7)))
        return []

    def name(self, node: int) -> str | None:
        """The name to show, with its revision where it has one."""
        name, revision = self.names[node], self.revisions.get(node)
        return name if name is None or revision is None else f"{name}@{revision}"

    def _joined(self, node: int) -> int:
        return self._redirect.get(node, node)

    _redirect: dict[int, int]

    def _near(self, text: str, kind: int) -> list[str]:
        names = {name for n, name in enumerate(self.names) if name is not None and self.kind[n] == kind}
        if len(names) > 20_000:  # difflib over millions would take minutes: only names that begin or end alike
            tail = text.rsplit("/", 1)[-1].lower()
            names = {name for name in names if tail and (tail in name.lower() or name.lower().startswith(text[:6].lower()))}
        return difflib.get_close_matches(text, sorted(names)[:20_000], n=3)


def build_graph(documents: Iterable[tuple[int, LineageDocument]]) -> Graph:
    """The graph of lineage entries, oldest first.

    Raises:
        IntegrityError: A document points at nodes or relations that there are not.
    """
    collecting = gc.isenabled()
    gc.disable()
    try:
        return _Builder().build(documents)
    finally:
        if collecting:
            gc.enable()


class _Builder:
    def __init__(self) -> None:
        self.graph = Graph()
        self._edges: list[Edges] = []
        self._listed: list[npt.NDArray[np.int64]] = []
        self._kinds: list[npt.NDArray[np.int8]] = []
        self._usage: list[tuple[int, Ints, UsageTable]] = []

    def build(self, documents: Iterable[tuple[int, LineageDocument]]) -> Graph:
        graph = self.graph
        for entry, document in documents:
            models = self._nodes(document.models, MODEL, entry)
            datasets = self._nodes(document.datasets, DATASET, entry)
            places = {"model": models, "dataset": datasets}
            for table in document.relations:
                self._relations(table, places, entry)
            self._shards(document, datasets, entry)
            if document.usage.model:
                self._usage.append((entry, models, document.usage))
        self._names()
        redirect = self._join()
        self._finish_edges(redirect)
        self._finish_listed(redirect)
        self._finish_usage(redirect)
        graph.contradictions.sort(key=lambda one: (one.entry, one.node, one.what))
        return graph

    def _nodes(self, table: NodeTable, kind: int, entry: int) -> Ints:
        """Positions in the graph of an entry's nodes; new ones are added."""
        graph, index = self.graph, self.graph._index[kind]
        size, base = len(table.name), len(graph.ids)
        ids, first = _ids(table), not index
        fresh = ids if first else [one for one in dict.fromkeys(ids) if one not in index]
        index.update(zip(fresh, range(base, base + len(fresh)), strict=True))
        if first and len(index) == size:  # the first entry, and no node twice in it: nothing need be looked up
            places = np.arange(base, base + size)
        else:
            places = np.fromiter(map(index.__getitem__, ids), np.int64, size)
        graph.ids += fresh
        self._grow(len(fresh), kind)
        if len(fresh) == size:
            graph.names += table.name
        else:
            graph.names += [None] * len(fresh)
            for at, name in zip(places.tolist(), table.name, strict=True):
                known = graph.names[at]
                if known is None:
                    graph.names[at] = name
                elif name is not None and name != known:
                    graph.other_names.setdefault(at, []).append(name)
        self._attributes(table, places, entry)
        return places

    def _grow(self, count: int, kind: int) -> None:
        graph = self.graph
        graph.kind = np.concatenate([graph.kind, np.full(count, kind, "i1")])
        graph.recorded = np.concatenate([graph.recorded, np.zeros(count, "?")])
        graph.ancestry = np.concatenate([graph.ancestry, np.zeros(count, "i1")])

    def _attributes(self, table: NodeTable, places: Ints, entry: int) -> None:
        graph = self.graph
        recorded = places[: table.recorded]
        for column, kept in ((table.revision, graph.revisions), (table.digest, graph.digests)):
            kept.update((int(places[n]), value) for n in _held(column) if (value := column[n]) is not None)
        for n in _held(table.aliases):
            at = int(places[n])
            graph.aliases[at] = sorted({*graph.aliases.get(at, ()), *(table.aliases[n] or ())})
        stated = np.zeros(table.recorded, np.int8)
        if any(table.ancestry):
            codes = map(_ANCESTRY.__getitem__, table.ancestry)
            stated = np.fromiter(codes, np.int8, len(table.ancestry))[: table.recorded]
        old = graph.ancestry[recorded]
        names = [None, *(one.value for one in Ancestry)]
        for n in np.flatnonzero((old != 0) & (stated != 0) & (old != stated)).tolist():
            self._contradict(int(recorded[n]), "ancestry", names[old[n]], names[stated[n]], entry)
        graph.ancestry[recorded] = np.where(stated != 0, stated, old)
        graph.recorded[recorded] = True

    def _contradict(self, node: int, what: str, was: object, now: object, entry: int) -> None:
        self.graph.contradictions.append(Contradiction(self.graph.ids[node], what, str(was), str(now), entry))

    def _relations(self, table: RelationTable, places: dict[str, Ints], entry: int) -> None:
        rule = _RULE.get((table.relation, table.child_kind, table.parent_kind))
        if rule is None:
            raise _malformed(f"relation {table.relation!r} from {table.child_kind} to {table.parent_kind}", entry)
        try:
            child = places[table.child_kind][np.array(table.child, np.int64)]
            parent = places[table.parent_kind][np.array(table.parent, np.int64)]
        except IndexError:
            raise _malformed("a relation of a node that is not in the object", entry) from None
        size, get = len(child), table.attributes.get
        grade = _coded(get("evidence"), _GRADE, size, default=_DECLARED)
        stage = _coded(get("stage"), _STAGE, size, default=-1)
        epochs = get("epochs")
        self._edges.append(
            Edges(
                child,
                parent,
                np.full(size, rule, "i1"),
                grade,
                stage,
                np.full(size, np.nan) if epochs is None else np.array([np.nan if one is None else float(one) for one in epochs]),
                np.array([bool(one) for one in get("complete") or ()] or np.zeros(size, "?"), "?"),
                np.zeros(size, "?"),
                np.full(size, entry, "i4"),
                self._more(table, size),
            )
        )

    def _more(self, table: RelationTable, size: int) -> Ints:
        found = np.full(size, -1, np.int64)
        for name in ("run", "system_prompt"):
            for n, value in enumerate(table.attributes.get(name) or ()):
                if value is None:
                    continue
                if found[n] < 0:
                    found[n] = len(self.graph.more)
                    self.graph.more.append({})
                self.graph.more[found[n]][name] = value
        return found

    def _shards(self, document: LineageDocument, datasets: Ints, entry: int) -> None:
        table = document.shards
        if not table.dataset:
            return
        index = self.graph._shard_index
        for shard in dict.fromkeys(table.shard):
            index.setdefault(shard, len(index))
        columns = np.empty((len(table.dataset), 5), np.int64)
        columns[:, 0] = datasets[np.array(table.dataset, np.int64)]
        columns[:, 1] = np.fromiter(map(index.__getitem__, table.shard), np.int64, len(table.shard))
        columns[:, 2] = [-1 if one is None else one for one in table.first]
        columns[:, 3] = [-1 if one is None else one for one in table.last]
        columns[:, 4] = entry
        self._listed.append(columns)
        labels = self.graph.labels
        labels.update((int(columns[n, 1]), label) for n, label in enumerate(table.label) if label is not None)

    def _names(self) -> None:
        """Nodes whose id does not tell their name: with a digest, a revision or several names."""
        graph = self.graph
        for node in sorted({*graph.digests, *graph.revisions, *graph.other_names}):
            if not graph.recorded[node]:
                continue
            for name in {graph.names[node], *graph.other_names.get(node, ())}:
                if name is not None:
                    graph._by_name.setdefault((int(graph.kind[node]), name), []).append(node)
                    if node in graph.revisions:
                        graph._by_name.setdefault((int(graph.kind[node]), f"{name}@{graph.revisions[node]}"), []).append(node)

    def _join(self) -> dict[int, int]:
        """Nodes that are only pointed at by name -> the one recorded node that has the name or alias."""
        graph = self.graph
        by_alias: dict[tuple[int, str], list[int]] = {}
        for node, aliases in graph.aliases.items():
            for alias in aliases:
                by_alias.setdefault((int(graph.kind[node]), alias), []).append(node)
        redirect: dict[int, int] = {}
        for node in np.flatnonzero(~graph.recorded).tolist() if graph._by_name or by_alias else ():
            if node in graph.digests:
                continue
            key = (int(graph.kind[node]), graph.ids[node].removeprefix("name:"))
            found = graph._by_name.get(key) or by_alias.get(key) or []
            if len(found) == 1:
                redirect[node] = found[0]
            elif found:
                graph.ambiguous[node] = found
        graph._redirect = redirect
        self._alias_edges(by_alias)
        return redirect

    def _alias_edges(self, by_alias: dict[tuple[int, str], list[int]]) -> None:
        """An alias that is another recorded model's one name joins the two, as `same_weights_as` does."""
        graph = self.graph
        pairs = []
        for (kind, alias), nodes in by_alias.items():
            if kind != MODEL:
                continue
            plain = [graph._index[MODEL].get(name) for name in (f"name:{alias}", alias)]
            known = {one for one in plain if one is not None and graph.recorded[one]} | set(graph._by_name.get((kind, alias), ()))
            if len(known) == 1:
                other = known.pop()
                pairs += [(node, other) for node in nodes if node != other]
        if pairs:
            ends = np.array(pairs, np.int64)
            # First, so that a relation that says the same in a record holds instead.
            self._edges.insert(0, _plain_edges(ends[:, 0], ends[:, 1], rule=_SAME))

    def _finish_edges(self, redirect: dict[int, int]) -> None:
        graph, size = self.graph, len(self.graph.ids)
        tables = self._edges or [_plain_edges(np.empty(0, np.int64), np.empty(0, np.int64), rule=0)]
        edges = Edges(**{name: np.concatenate([getattr(one, name) for one in tables]) for name in vars(tables[0])})
        if redirect:
            moved = np.arange(size)
            moved[list(redirect)] = list(redirect.values())
            edges.child, edges.parent = moved[edges.child], moved[edges.parent]
        # One key for (child, rule, parent, stage): sorting it gives the rows of a child together, and of one relation said
        # several times the newest last.
        wide = len(RULES) * (len(STAGES) + 1)
        if size and size * size * wide >= 1 << 63:
            raise UsageError("too_large", expected="fewer than 10^8 nodes", found=f"{size}", remedy="Split the ledger.")
        key = ((edges.child * len(RULES) + edges.rule) * size + edges.parent) * (len(STAGES) + 1) + edges.stage + 1
        order = np.argsort(key, kind="stable")
        key = key[order]
        last = np.append(key[1:] != key[:-1], True) if len(key) else np.empty(0, "?")
        if not last.all():
            self._contradicting_edges(edges, order, last)
        edges = edges.take(order[last])
        back = np.flatnonzero((edges.rule == _SAME) & (edges.child != edges.parent))
        if len(back):
            edges = self._mirrored(edges, back)
        graph.edges = edges
        graph.start = _bounds(edges.child, size)

    def _mirrored(self, edges: Edges, back: Ints) -> Edges:
        mirrored = edges.take(back)
        mirrored.child, mirrored.parent = mirrored.parent, mirrored.child
        mirrored.mirror = np.ones(len(back), "?")
        joined = Edges(**{name: np.concatenate([getattr(edges, name), getattr(mirrored, name)]) for name in vars(edges)})
        return joined.take(np.argsort(joined.child, kind="stable"))

    def _contradicting_edges(self, edges: Edges, order: Ints, last: npt.NDArray[np.bool_]) -> None:
        """What an older entry said otherwise of the same relation."""
        newest = order[np.flatnonzero(last)[np.searchsorted(np.flatnonzero(last), np.arange(len(order)))]]
        for old, new in zip(order[~last].tolist(), newest[~last].tolist(), strict=True):
            was, now = self._said(edges, old), self._said(edges, new)
            if was != now:
                rule = RULES[edges.rule[new]]
                what = f"{rule.relation.value} {self.graph.ids[edges.parent[new]]}"
                self._contradict(int(edges.child[new]), what, was, now, int(edges.entry[new]))

    def _said(self, edges: Edges, at: int) -> str:
        more = self.graph.more[edges.more[at]] if edges.more[at] >= 0 else {}
        epochs = "" if np.isnan(edges.epochs[at]) else f"epochs {edges.epochs[at]:g}"
        usage = "usage complete" if edges.complete[at] else ""
        said = [GRADES[edges.grade[at]].value, epochs, usage, *(f"{key} {value}" for key, value in sorted(more.items()))]
        return ", ".join(one for one in said if one)

    def _finish_listed(self, redirect: dict[int, int]) -> None:
        graph, size = self.graph, len(self.graph.ids)
        graph.shards = list(graph._shard_index)
        listed = np.concatenate(self._listed) if self._listed else np.empty((0, 5), np.int64)
        for old, new in redirect.items():
            listed[listed[:, 0] == old, 0] = new
        newest = np.full(size, -1)
        np.maximum.at(newest, listed[:, 0], listed[:, 4])
        holds = listed[:, 4] == newest[listed[:, 0]]
        if not holds.all():
            self._contradicting_shards(listed, holds)
        listed = listed[holds]
        graph.listed = listed[np.argsort(listed[:, 0], kind="stable")]
        graph.listed_start = np.searchsorted(graph.listed[:, 0], np.arange(size + 1))

    def _contradicting_shards(self, listed: npt.NDArray[np.int64], holds: npt.NDArray[np.bool_]) -> None:
        for dataset in np.unique(listed[~holds, 0]).tolist():
            mine = listed[listed[:, 0] == dataset]
            entries = np.unique(mine[:, 4])
            for older, newer in zip(entries[:-1].tolist(), entries[1:].tolist(), strict=True):
                was, now = ({tuple(row) for row in mine[mine[:, 4] == one, 1:4].tolist()} for one in (older, newer))
                if was != now:
                    self._contradict(dataset, "shards", f"{len(was)} listed", f"{len(now)} listed", newer)

    def _finish_usage(self, redirect: dict[int, int]) -> None:
        graph = self.graph
        for _, models, table in self._usage:
            for model, shard, first, last, stage in zip(table.model, table.shard, table.first, table.last, table.stage, strict=True):
                node = int(models[model])
                index = graph._shard_index.setdefault(shard, len(graph._shard_index))
                key = (redirect.get(node, node), _STAGE.get(stage or "", -1))
                graph.usage.setdefault(key, []).append((index, first, last))
        graph.shards = list(graph._shard_index)


def _bounds(ends: Ints, size: int) -> Ints:
    """Where the edges of each node begin among edges sorted by that end."""
    return np.append(0, np.cumsum(np.bincount(ends, minlength=size))).astype(np.int64)


def _plain_edges(child: Ints, parent: Ints, *, rule: int) -> Edges:
    size = len(child)
    return Edges(
        child,
        parent,
        np.full(size, rule, "i1"),
        np.full(size, _DECLARED, "i1"),
        np.full(size, -1, "i1"),
        np.full(size, np.nan),
        np.zeros(size, "?"),
        np.zeros(size, "?"),
        np.full(size, -1, "i4"),
        np.full(size, -1, np.int64),
    )


def _ids(table: NodeTable) -> list[str]:
    if not any(table.digest) and not any(table.revision):
        return [f"name:{name}" for name in table.name]
    return [
        digest or (f"name:{name}" if revision is None else f"name:{name}@{revision}")
        for name, revision, digest in zip(table.name, table.revision, table.digest, strict=True)
    ]


def _held(column: Sequence[Any]) -> Iterable[int]:
    """Positions of a column that hold something."""
    return [n for n, value in enumerate(column) if value is not None] if any(column) else ()


def _coded(column: Sequence[str | None] | None, codes: dict[str, int], size: int, *, default: int) -> npt.NDArray[np.int8]:
    if column is None:
        return np.full(size, default, "i1")
    return np.array([default if one is None else codes[one] for one in column], "i1")


def _malformed(found: str, entry: int) -> IntegrityError:
    return IntegrityError(
        "malformed_record",
        expected=f"a lineage object of this version at entry {entry}",
        found=found,
        remedy="Read the ledger with the version of forebear that wrote it, or a newer one.",
    )
