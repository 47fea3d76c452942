"""The walk: from one model up through everything it came from, and the verdict that follows.

Always true here: a verdict is the best path in a finite graph of states (node, cap, mode), so cycles are harmless and order does
not matter; an edge only lowers the cap; every rule comes from `lineage.relations`. States are visited by number of edges and,
within it, in the order of their paths' ids, so the path that is shown is the one VERDICTS names: fewest edges, then strongest
grade, then smallest ids.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace

from forebear.schemas.advisory import CLASS
from forebear.schemas.enums import Grade, Mode, Relation, Verdict
from forebear.tracer.audit.advisories import Advised
from forebear.tracer.audit.answer import Exposure, Node, Step, Steps, Trace, Unknown, worst
from forebear.tracer.audit.asked import Asks
from forebear.tracer.audit.facts import CONTRADICTED, NO_SHARDS, NOT_RUN, OPEN, RowFacts, RowJudge, Usage
from forebear.tracer.audit.family import Families
from forebear.tracer.lineage.graph import DATASET, Graph
from forebear.tracer.lineage.relations import CAPS, CHANNELS, GRADES, RULES, Rule

__all__ = ["Walker"]

_CONTRADICTED = GRADES.index(Grade.CONTRADICTED)
_CAP = [0 if rule.cap is None else CAPS.index(rule.cap) for rule in RULES]
_UNRELATED_CAP = [None if rule.unrelated_cap is None else CAPS.index(rule.unrelated_cap) for rule in RULES]
_CONSUMED = (Mode.BYTES, Mode.CONTENT)
_FAMILY = [rule.weights or rule.relation is Relation.SAME_WEIGHTS_AS for rule in RULES]

_State = tuple[int, int, Mode | None, int, int]
"""(node, cap, mode, consumer, edge of consumption); the last three are None, -1, -1 for a model."""

_Place = tuple[int, Mode | None]
"""(node, mode): what decides whether anything is found at all; caps only say how bad it is."""


@dataclass(slots=True)
class _Label:
    """The best path to a state at one grade: the label before, the edge that was walked, and how many edges there are.

    `to_model` counts those up to the last model on the path: for a dataset that is the ancestor that consumed.
    """

    before: _Label | None
    edge: int
    node: int
    grade: int
    length: int
    to_model: int


@dataclass
class _Found:
    """The rows of one (class, channel, ancestor, dataset), with the path to show."""

    cap: int
    label: _Label
    level: int
    modes: set[Mode] = field(default_factory=set)
    uses: set[int] = field(default_factory=set)


@dataclass
class _Named:
    """A model that an advisory names, or something made with a prompt that one names, with the path to show."""

    label: _Label
    grade: int
    level: int
    entries: set[int]
    places: set[_Place]


@dataclass
class _Walk:
    """One walk's findings."""

    found: dict[tuple[int, int, int], _Found] = field(default_factory=dict)  # (cap, consumer, dataset)
    named: dict[tuple[int, int, int], _Named] = field(default_factory=dict)  # (cap, consumer, node) that an advisory names
    unknown: dict[tuple[int, str], int] = field(default_factory=dict)  # structural: (node, why) -> worst cap
    consumed: dict[tuple[int, int], set[tuple[int, int, Mode]]] = field(default_factory=dict)
    lineage: set[int] = field(default_factory=set)
    before: dict[_Place, set[_Place]] = field(default_factory=dict)
    open_places: set[_Place] = field(default_factory=set)  # where something structural is unknown


class Walker:
    """Answers for the models of a graph.

    Args:
        graph: The lineage.
        judge: What is known of the rows of datasets.
        families: Who may share weights with whom.
        advised: What advisories name.
        asked: Whether detectors, advisories or both are asked about; an advisory that is not is only mentioned.
    """

    def __init__(
        self,
        graph: Graph,
        judge: RowJudge,
        families: Families | None = None,
        *,
        advised: Advised | None = None,
        asked: Asks = Asks.BOTH,
    ) -> None:
        self._graph = graph
        self._judge = judge
        self._advised = advised
        self.classes = tuple(sorted({*judge.classes, *([CLASS] if advised is not None and asked is not Asks.DETECTORS else [])}))
        # A question about detectors that no run had is not answered by what advisories say.
        self._not_run = not judge.classes and (advised is None or asked is not Asks.ADVISORIES)
        self._families = families or Families(graph)
        self._closed = graph.closed

    def trace(self, model: int, *, at_least: int = 0) -> Trace:
        """Verdict, exposures and unknowns of a model.

        Args:
            model: Position in the graph.
            at_least: Exposures of fewer documents do not count; they are listed apart.
        """
        walk = self._walk(model)
        exposures, unknown, cleared = self._read(walk, model)
        advisories = tuple(sorted({entry for one in exposures for entry in one.advisories}))
        classes = self.classes
        if CLASS not in classes:
            exposures = tuple(one for one in exposures if one.category != CLASS)
            unknown = tuple(one for one in unknown if one.category != CLASS)
        below = tuple(one for one in exposures if one.below(at_least))
        counted = tuple(one for one in exposures if not one.below(at_least))
        verdicts = {name: _verdict(name, counted, unknown, cleared) for name in classes}
        worsts = {name: worst([verdicts[name], *(one.at_worst for one in unknown if one.category in (None, name))]) for name in classes}
        verdict = worst([*verdicts.values(), *([Verdict.UNKNOWN] if self._not_run else [])])
        places = self._places(walk, counted, unknown)
        return Trace(
            model=self.node(model),
            verdict=verdict,
            at_worst=worst([verdict, *(one.at_worst for one in unknown)]),
            verdicts=verdicts,
            at_worsts=worsts,
            exposures=counted,
            unknown=unknown,
            first_exposed=tuple(self.node(one) for one in self._first_exposed(walk, counted)),
            last_unexposed=tuple(self.node(one) for one in self._last_unexposed(model, places)),
            below_floor=below,
            advisories=advisories,
        )

    def node(self, at: int) -> Node:
        """A node as answers carry it."""
        return Node(self._graph.name(at), self._graph.ids[at])

    # -- the walk -----------------------------------------------------------------------------------------------------

    def _walk(self, model: int) -> _Walk:
        walk = _Walk()
        start: _State = (model, 0, None, -1, -1)
        level, reached = 0, {start: 0}
        frontier = [(start, _Label(None, -1, model, len(GRADES) - 1, 0, 0))]
        while frontier:
            best: dict[tuple[_State, int], _Label] = {}
            visited: set[_State] = set()
            for state, label in frontier:
                self._note(walk, state, label, level)
                first = state not in visited
                visited.add(state)
                for edge, target in self._steps(walk, state, first=first):
                    if self._advised is not None and edge in self._advised.makings:
                        self._name(walk, state, label, target[1], edge=edge)
                    if reached.setdefault(target, level + 1) <= level:
                        continue
                    grade = min(label.grade, int(self._graph.edges.grade[edge]))
                    if (target, grade) not in best:
                        to_model = level + 1 if target[2] is None else label.to_model
                        best[target, grade] = _Label(label, edge, target[0], grade, level + 1, to_model)
            frontier = [(state, label) for (state, _), label in best.items()]
            level += 1
        return walk

    def _steps(self, walk: _Walk, state: _State, *, first: bool) -> Iterable[tuple[int, _State]]:
        """The edges of a state, in the order of the parents' ids, with the states that they lead to."""
        graph, node = self._graph, state[0]
        edges = graph.edges
        at = graph.edges_of(node)
        order = sorted(at, key=lambda one: (graph.ids[edges.parent[one]], edges.rule[one])) if len(at) > 1 else at
        for edge in order:
            rule = RULES[edges.rule[edge]]
            if not rule.walked:
                continue
            target = self._target(state, edge, rule)
            if edges.grade[edge] == _CONTRADICTED:
                if first:
                    self._unknown(walk, (node, state[2]), int(edges.parent[edge]), CONTRADICTED, target[1])
                continue
            if first:
                walk.before.setdefault((target[0], target[2]), set()).add((node, state[2]))
            yield edge, target

    def _target(self, state: _State, edge: int, rule: Rule) -> _State:
        node, cap, mode, consumer, use = state
        number, parent = int(self._graph.edges.rule[edge]), int(self._graph.edges.parent[edge])
        passes = _CAP[number]
        other = _UNRELATED_CAP[number]
        if other is not None and cap < other and self._families.unrelated(node if mode is None else consumer, parent):
            passes = other
        cap = max(cap, passes)
        if rule.parent == "model":
            return parent, cap, None, -1, -1
        if rule.mode == "kept":
            kept = mode if not len(self._graph.listed_of(node)) else Mode.LINEAGE
            return parent, cap, kept, consumer, use
        if rule.relation is Relation.TRAINED_ON:
            return parent, cap, Mode.BYTES, node, edge
        return parent, cap, Mode(rule.mode) if rule.mode else None, consumer, use

    def _note(self, walk: _Walk, state: _State, label: _Label, level: int) -> None:
        """What a state tells: what is not known at it, and which rows it consumed."""
        node, cap, mode, consumer, use = state
        place = (node, mode)
        if not self._graph.recorded[node]:
            kind = "dataset" if self._graph.kind[node] == DATASET else "model"
            self._unknown(walk, place, node, f"{kind} not recorded", cap)
        elif not self._closed[node]:
            self._unknown(walk, place, node, OPEN, cap)
        if mode is None and self._advised is not None and node in self._advised.models:
            self._name(walk, state, label, cap)
        if mode is Mode.LINEAGE:
            walk.lineage.add(node)
        if mode not in _CONSUMED:
            return
        if not len(self._graph.listed_of(node)):
            if not self._has_parts(node):
                self._unknown(walk, place, node, NO_SHARDS, cap)
            return
        found = walk.found.setdefault((cap, consumer, node), _Found(cap, label, level))
        if found.level == level and label.grade > found.label.grade:
            found.label = label
        found.uses.add(use)
        found.modes.add(mode)

    def _name(self, walk: _Walk, state: _State, label: _Label, cap: int, *, edge: int | None = None) -> None:
        """Note what an advisory names: a model, or (with the edge of its making) what was made with a prompt."""
        assert self._advised is not None
        node, _, mode, consumer, _ = state
        entries = self._advised.models[node] if edge is None else self._advised.makings[edge]
        grade = label.grade if edge is None else min(label.grade, int(self._graph.edges.grade[edge]))
        key = (cap, node if mode is None else consumer, node)
        found = walk.named.setdefault(key, _Named(label, grade, label.length, set(), set()))
        if label.length == found.level and grade > found.grade:
            found.label, found.grade = label, grade
        found.entries |= entries
        found.places.add((node, mode))

    def _has_parts(self, dataset: int) -> bool:
        """Whether a dataset is a mixture of parts that are walked."""
        edges = self._graph.edges
        return any(RULES[edges.rule[at]].mode == "kept" and edges.grade[at] != _CONTRADICTED for at in self._graph.edges_of(dataset))

    def _unknown(self, walk: _Walk, place: _Place, node: int, why: str, cap: int) -> None:
        walk.open_places.add(place)
        key = (node, why)
        walk.unknown[key] = min(cap, walk.unknown.get(key, cap))

    # -- reading it ---------------------------------------------------------------------------------------------------

    def _read(self, walk: _Walk, model: int) -> tuple[tuple[Exposure, ...], tuple[Unknown, ...], set[str]]:
        exposures: list[Exposure] = []
        gaps: dict[tuple[int, str, str], tuple[int, int | None, int | None]] = {}
        for (cap, consumer, dataset), found in walk.found.items():
            for name, facts, entries in self._facts(dataset, found):
                if facts.found:
                    exposures.append(self._exposure(name, consumer, dataset, found, facts, entries=entries))
                for gap in facts.gaps:
                    key = (dataset, gap.why, name)
                    if key not in gaps or cap < gaps[key][0]:
                        gaps[key] = (cap, gap.rows, gap.of)
        unknown = [Unknown(self._graph.ids[node], why, CAPS[cap]) for (node, why), cap in walk.unknown.items()]
        unknown += [Unknown(self._graph.ids[node], why, CAPS[cap], name, rows, of) for (node, why, name), (cap, rows, of) in gaps.items()]
        exposures = self._with_named(walk, exposures)
        if self._not_run:
            unknown.append(Unknown(self._graph.ids[model], NOT_RUN, CAPS[0]))
        cleared = {name for dataset in walk.lineage for name, facts, _ in self._judged(dataset, None) if facts.found}
        return _ranked(exposures), tuple(sorted(unknown, key=_unknown_order)), cleared

    def _facts(self, dataset: int, found: _Found) -> Iterator[tuple[str, RowFacts, frozenset[int]]]:
        """Facts of the rows used; a usage log narrows bytes that were consumed, never what was reworded."""
        return self._judged(dataset, None if Mode.CONTENT in found.modes else self._usage(found.uses))

    def _judged(self, dataset: int, usage: Usage | None) -> Iterator[tuple[str, RowFacts, frozenset[int]]]:
        """(class, facts, entries of advisories) of a dataset's rows."""
        for name, facts in self._judge.judge(dataset, usage).items():
            yield name, facts, frozenset()
        if self._advised is not None:
            yield CLASS, *self._advised.judge(dataset, usage)

    def _with_named(self, walk: _Walk, exposures: list[Exposure]) -> list[Exposure]:
        """Exposures and what advisories name besides rows; where rows tell the same, they stand, with all the advisories."""
        ids, found = self._graph.ids, {}
        for one in exposures:
            found[one.category, one.verdict, one.ancestor.id, one.dataset.id] = one
        for (cap, consumer, node), named in walk.named.items():
            key = (CLASS, CAPS[cap], ids[consumer], ids[node])
            if key in found:
                found[key] = replace(found[key], advisories=tuple(sorted({*found[key].advisories, *named.entries})))
            else:
                found[key] = self._named_exposure(cap, consumer, node, named)
        return list(found.values())

    def _named_exposure(self, cap: int, consumer: int, node: int, named: _Named) -> Exposure:
        label = named.label
        return Exposure(
            channel=CHANNELS[cap],
            verdict=CAPS[cap],
            category=CLASS,
            ancestor=self.node(consumer),
            depth=label.to_model,
            steps=Steps(label.length, lambda: self._path(label)),
            dataset=self.node(node),
            documents=None,
            rows=None,
            words=None,
            epochs=None,
            presentations=None,
            expected_false=None,
            reasons={},
            evidence=GRADES[named.grade],
            advisories=tuple(sorted(named.entries)),
        )

    def _usage(self, uses: set[int]) -> Usage | None:
        edges = self._graph.edges
        keys = [(int(edges.child[use]), int(edges.stage[use])) for use in uses if edges.complete[use]]
        if len(keys) < len(uses) or any(key not in self._graph.usage for key in keys):
            return None
        return tuple(sorted(keys))

    def _exposure(
        self, name: str, consumer: int, dataset: int, found: _Found, facts: RowFacts, *, entries: frozenset[int] = frozenset()
    ) -> Exposure:
        label = found.label
        epochs = self._epochs(found.uses)
        ranged = bool((self._graph.listed_of(dataset)[:, 2] >= 0).any()) or self._usage(found.uses) is not None
        return Exposure(
            channel=CHANNELS[found.cap],
            verdict=CAPS[found.cap],
            category=name,
            ancestor=self.node(consumer),
            depth=label.to_model,
            steps=Steps(label.length, lambda: self._path(label)),
            dataset=self.node(dataset),
            documents=facts.documents,
            rows=facts.rows,
            words=facts.words,
            epochs=epochs,
            presentations=None if epochs is None or facts.rows is None else round(facts.rows * epochs, 6),
            expected_false=facts.expected_false,
            reasons=facts.reasons,
            evidence=GRADES[found.label.grade],
            upper_bound=epochs is not None and epochs < 1 and not ranged,
            advisories=tuple(sorted(entries)),
        )

    def _epochs(self, uses: set[int]) -> float | None:
        total = sum(float(self._graph.edges.epochs[use]) for use in sorted(uses))
        return None if total != total else total  # NaN: an epoch is not known

    def _path(self, label: _Label) -> tuple[Step, ...]:
        """The steps of a path."""
        graph, steps = self._graph, []
        at: _Label | None = label
        while at is not None and at.before is not None:
            relation = RULES[graph.edges.rule[at.edge]].relation.value
            steps.append(Step(relation, graph.ids[at.before.node], graph.ids[at.node]))
            at = at.before
        return tuple(reversed(steps))

    # -- where it begins and ends -------------------------------------------------------------------------------------

    def _places(self, walk: _Walk, exposures: tuple[Exposure, ...], unknown: tuple[Unknown, ...]) -> set[_Place]:
        """Places from which something bad or unknown is reached."""
        index = {self._graph.ids[node]: node for _, _, node in walk.found}
        bad = {index[one.dataset.id] for one in exposures if one.dataset.id in index}
        bad |= {index[one.node] for one in unknown if one.category is not None and one.node in index}
        marked = set(walk.open_places)
        marked |= {(node, mode) for (_, _, node), found in walk.found.items() if node in bad for mode in found.modes}
        if CLASS in self.classes:
            marked |= {place for named in walk.named.values() for place in named.places}
        return _spread(marked, walk.before)

    def _first_exposed(self, walk: _Walk, exposures: tuple[Exposure, ...]) -> list[int]:
        """Ancestors that are exposed by their own rows only; all of them where a cycle leaves none."""
        ids = {one.ancestor.id for one in exposures}
        consumed = {one for _, one, _ in (*walk.found, *walk.named)}
        consumers = sorted((one for one in consumed if self._graph.ids[one] in ids), key=lambda n: self._graph.ids[n])
        reached: dict[_Place, set[int]] = {(one, None): {one} for one in consumers}
        todo = list(reached)
        while todo:  # two of them tell whether there is another one above, so no more are carried down
            place = todo.pop()
            for below in walk.before.get(place, ()):
                mine = reached.setdefault(below, set())
                new = [one for one in sorted(reached[place]) if one not in mine][: max(0, 2 - len(mine))]
                if new:
                    mine.update(new)
                    todo.append(below)
        first = [one for one in consumers if reached[one, None] == {one}]
        return first or consumers

    def _last_unexposed(self, model: int, places: set[_Place]) -> list[int]:
        """The nearest weight ancestors from which nothing bad and nothing unknown is reached."""
        if self._not_run:  # so nothing is known to be unexposed
            return []
        graph, found = self._graph, set()
        seen, todo = {model}, [model]
        while todo:
            node = todo.pop()
            for at in graph.edges_of(node):
                parent = int(graph.edges.parent[at])
                if not _FAMILY[graph.edges.rule[at]] or graph.edges.grade[at] == _CONTRADICTED or parent in seen:
                    continue
                seen.add(parent)
                if (parent, None) in places:
                    todo.append(parent)
                else:
                    found.add(parent)
        return sorted(found, key=lambda one: graph.ids[one])


def _spread(marked: set[_Place], before: Mapping[_Place, set[_Place]]) -> set[_Place]:
    """Everything that leads to a marked place."""
    todo, seen = list(marked), set(marked)
    while todo:
        for one in before.get(todo.pop(), ()):
            if one not in seen:
                seen.add(one)
                todo.append(one)
    return seen


def _verdict(name: str, exposures: tuple[Exposure, ...], unknown: tuple[Unknown, ...], cleared: set[str]) -> Verdict:
    mine = [one.verdict for one in exposures if one.category == name]
    if mine:
        return worst(mine)
    if any(one.category in (None, name) for one in unknown):
        return Verdict.UNKNOWN
    return Verdict.CLEARED if name in cleared else Verdict.NOT_EXPOSED


def _ranked(exposures: list[Exposure]) -> tuple[Exposure, ...]:
    """Worst channel first, then by documents above the false alarms to expect."""
    order = {verdict: n for n, verdict in enumerate(CAPS)}

    def key(one: Exposure) -> tuple[object, ...]:
        surplus = (one.documents or 0) - (one.expected_false or 0.0)
        return order[one.verdict], -surplus, one.depth, one.ancestor.id, one.dataset.id, one.category

    return tuple(sorted(exposures, key=key))


def _unknown_order(one: Unknown) -> tuple[object, ...]:
    return CAPS.index(one.at_worst), one.node, one.why, one.category or ""
