"""VERDICTS.md in plain Python: slow, literal, written from that page alone, to compare the engine with.

A `Case` is a whole world: models, datasets, relations, runs over shards. `reference(case, model)` says what the page says of a
model: verdicts by class, overall, at worst, exposures, unknowns, first exposed, last unexposed, shown paths. States and rows
are enumerated one by one; nothing is shared with the engine but the words.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

CAPS = ["direct", "inherited_weights", "subliminal_possible", "content_possible", "guidance_possible"]
CHANNEL = dict(zip(CAPS, ["documents", "weights", "subliminal", "content", "guidance"], strict=True))
ORDER = [*CAPS, "unknown", "cleared", "not_exposed"]
GRADES = ["contradicted", "declared", "logged", "signed", "weight_verified"]
WEIGHTS = ["finetuned_from", "continued_from", "merged_from", "quantized_from", "pruned_from", "converted_from"]
WEIGHTS += ["upcycled_from", "adapter_of"]
MAKERS = ["generated_by", "rewritten_by", "translated_by", "distilled_from"]
GUIDES = ["judged_by", "selected_by", "rewarded_by"]


@dataclass(frozen=True)
class Edge:
    """A relation; `child` and `parent` are (kind, name)."""

    relation: str
    child: tuple[str, str]
    parent: tuple[str, str]
    grade: str = "declared"
    stage: str | None = None
    epochs: float | None = None
    complete: bool = False
    prompt: str | None = None


@dataclass(frozen=True)
class Advice:
    """An advisory: what it names."""

    documents: frozenset[str] = frozenset()
    shards: frozenset[str] = frozenset()
    models: frozenset[str] = frozenset()
    prompts: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Row:
    """A logged row: document, score by detector, source, what was done."""

    document: str | None
    scores: dict[str, int]
    source: str = ""
    action: str = "keep"
    keeper: tuple[str, int] | None = None
    words: int = 0


@dataclass
class Run:
    """A scan: detectors by name -> (class, flags by source), rows by shard, shards written as (shard, source)."""

    detectors: dict[str, tuple[str, dict[str, int]]]
    logs: dict[str, list[Row]]
    wrote: list[tuple[str, str]] = field(default_factory=list)

    def sources(self, shard: str) -> list[str]:
        """What a shard was written from; one that equals its source has no story of its own."""
        return [source for written, source in self.wrote if written == shard and source != shard]


@dataclass
class Case:
    """A world."""

    recorded: dict[tuple[str, str], str] = field(default_factory=dict)  # (kind, name) -> ancestry
    edges: list[Edge] = field(default_factory=list)
    lists: dict[str, list[tuple[str, tuple[int, int] | None]]] = field(default_factory=dict)  # dataset -> (shard, rows)
    runs: list[Run] = field(default_factory=list)
    usage: dict[tuple[str, str | None], list[tuple[str, int, int]]] = field(default_factory=dict)
    advice: list[Advice] = field(default_factory=list)


def reference(case: Case, model: str, *, threshold: int | None = None) -> dict[str, Any]:
    """What VERDICTS.md says of a model."""
    found = _Findings(case, model, threshold)
    classes = sorted(found.classes)
    verdicts = {}
    for category in classes:
        mine = [cap for (name, cap, _, _) in found.exposures if name == category]
        if mine:
            verdicts[category] = min(mine, key=ORDER.index)
        elif any(name in (None, category) for (_, _, name) in found.unknown):
            verdicts[category] = "unknown"
        else:
            verdicts[category] = "cleared" if category in found.cleared else "not_exposed"
    overall = min([*verdicts.values(), *([] if found.asked else ["unknown"])], key=ORDER.index)
    worst = min([overall, *(cap for cap in found.unknown.values())], key=ORDER.index)
    return {
        "verdict": overall,
        "at_worst": worst,
        "verdicts": verdicts,
        "exposures": found.exposures,
        "unknown": found.unknown,
        "first_exposed": _first_exposed(case, found, threshold),
        "last_unexposed": _last_unexposed(case, model, threshold),
    }


def unrelated(case: Case, consumer: str, maker: str) -> bool:
    """In different components over weights and sameness, of any grade, and every weight ancestor of both closed."""
    family = [e for e in case.edges if e.relation in WEIGHTS or e.relation == "same_weights_as"]

    def component(start: str) -> set[str]:
        seen, todo = {start}, [start]
        while todo:
            one = todo.pop()
            for e in family:
                for a, b in ((e.child[1], e.parent[1]), (e.parent[1], e.child[1])):
                    if a == one and b not in seen:
                        seen.add(b)
                        todo.append(b)
        return seen

    def ancestors(start: str) -> set[str]:
        seen, todo = {start}, [start]
        while todo:
            one = todo.pop()
            for e in family:
                ways = [(e.child[1], e.parent[1])]
                if e.relation == "same_weights_as":
                    ways.append((e.parent[1], e.child[1]))
                for a, b in ways:
                    if a == one and b not in seen:
                        seen.add(b)
                        todo.append(b)
        return seen

    closed = all(case.recorded.get(("model", one)) == "closed" for one in ancestors(consumer) | ancestors(maker))
    return closed and maker not in component(consumer)


def lowered(cap: str, to: str) -> str:
    """The cap after an edge that allows at most `to`."""
    return CAPS[max(CAPS.index(cap), CAPS.index(to))]


def steps(case: Case, node: tuple[str, str]) -> Iterator[tuple[Edge, tuple[str, str]]]:
    """Edges that may be walked from a node, with where they lead."""
    for e in case.edges:
        if e.child == node:
            yield e, e.parent
        if e.relation == "same_weights_as" and e.parent == node and e.child != e.parent:
            yield e, e.child


def passes(case: Case, edge: Edge, parent: tuple[str, str], *, cap: str, mode: str | None, consumer: str) -> tuple[str, str | None] | None:
    """(cap, mode) after an edge, None where it passes nothing."""
    r = edge.relation
    if r in ("tokenizer_from", "evaluated_on"):
        return None
    if r == "trained_on":
        return cap, "bytes"
    if r == "same_weights_as":
        return cap, None
    if r in WEIGHTS:
        return lowered(cap, "inherited_weights"), None
    if r in MAKERS and parent[0] == "model":
        to = "content_possible" if unrelated(case, consumer, parent[1]) else "subliminal_possible"
        return lowered(cap, to), None
    if r in MAKERS:
        return lowered(cap, "content_possible"), "content"
    if r in GUIDES:
        return lowered(cap, "guidance_possible"), None
    if r in ("cleaned_from", "deduplicated_from"):
        return cap, "lineage"
    assert r == "mixed_from"
    return cap, "lineage" if case.lists.get(edge.child[1]) else mode


class _Findings:
    """The walk, state by state, with every shortest path kept."""

    def __init__(self, case: Case, model: str, threshold: int | None) -> None:
        self.case = case
        self.asked = asked(case, threshold)
        self.classes = {category for _, category, _ in self.asked} | ({"advisory"} if case.advice else set())
        self.named: dict[tuple[str, str, str], list[tuple[list[str], str, list[tuple[str, str, str]]]]] = {}
        self.exposures: dict[tuple[str, str, str, str], dict[str, Any]] = {}
        self.unknown: dict[tuple[str, str, str | None], str] = {}
        self.cleared: set[str] = set()
        self.paths: dict[tuple[str, str, str], list[tuple[list[str], str, list[tuple[str, str, str]]]]] = {}
        self.uses: dict[tuple[str, str, str], set[tuple[Edge, str]]] = {}
        start = (("model", model), "direct", None, model, None)
        level = {start: [([model], "weight_verified", [])]}
        seen = {start}
        while level:
            after: dict[Any, list[Any]] = {}
            for state, paths in level.items():
                self._visit(state, paths)
                for target, edge in self._next(state):
                    if edge.parent[0] == "model" and any(edge.prompt in one.prompts for one in case.advice):
                        consumer = state[0][1] if state[0][0] == "model" else state[3]
                        weaker = [(names, min(grade, edge.grade, key=GRADES.index), walked) for names, grade, walked in paths]
                        self._name((target[1], consumer, state[0][1]), weaker)
                    if target in seen:
                        continue
                    name = target[0][1]
                    for names, grade, walked in paths:
                        weaker = min(grade, edge.grade, key=GRADES.index)
                        step = (edge.relation, state[0][1], name)
                        after.setdefault(target, []).append(([*names, name], weaker, [*walked, step]))
            seen |= set(after)
            level = {state: _best(paths) for state, paths in after.items()}
        self._finish()
        if not self.asked:
            self._unknown(model, "detector not run", None, "direct")

    def _next(self, state: Any) -> Iterator[tuple[Any, Edge]]:
        node, cap, mode, consumer, use = state
        for edge, parent in steps(self.case, node):
            passed = passes(self.case, edge, parent, cap=cap, mode=mode, consumer=consumer)
            if passed is None:
                continue
            if edge.grade == "contradicted":
                self._unknown(parent[1], "contradicted relation", None, passed[0])
                continue
            if parent[0] == "model":
                yield (parent, passed[0], None, parent[1], None), edge
            elif edge.relation == "trained_on":
                yield (parent, passed[0], "bytes", node[1], edge), edge
            else:
                yield (parent, passed[0], passed[1], consumer, use), edge

    def _visit(self, state: Any, paths: list[Any]) -> None:
        (kind, name), cap, mode, consumer, use = state
        ancestry = self.case.recorded.get((kind, name))
        if ancestry is None:
            self._unknown(name, f"{kind} not recorded", None, cap)
        elif ancestry != "closed":
            self._unknown(name, "ancestry open", None, cap)
        if kind == "model" and any(name in one.models for one in self.case.advice):
            self._name((cap, name, name), paths)
        if mode == "lineage":
            for category in self.classes:
                if bad_rows(self.case, name, None, category, self.asked):
                    self.cleared.add(category)
        if mode not in ("bytes", "content"):
            return
        if not self.case.lists.get(name):
            parts = [e for e in self.case.edges if e.child == (kind, name) and e.relation == "mixed_from"]
            if all(e.grade == "contradicted" for e in parts):
                self._unknown(name, "no shards listed", None, cap)
            return
        key = (cap, consumer, name)
        self.uses.setdefault(key, set()).add((use, mode))
        kept = self.paths.setdefault(key, [])
        if not kept or len(kept[0][0]) == len(paths[0][0]):
            kept += paths

    def _name(self, key: tuple[str, str, str], paths: list[Any]) -> None:
        """Something that an advisory names was met; the shortest paths to it are kept."""
        kept = self.named.setdefault(key, [])
        if not kept or len(kept[0][0]) == len(paths[0][0]):
            kept += paths

    def _finish(self) -> None:
        for (cap, consumer, dataset), uses in self.uses.items():
            used = self._narrowed(uses)
            for category in sorted(self.classes):
                bad = bad_rows(self.case, dataset, used, category, self.asked)
                for why in gaps(self.case, dataset, used, category, self.asked):
                    self._unknown(dataset, why, category, cap)
                if bad:
                    self.exposures[category, cap, consumer, dataset] = self._exposure(cap, consumer, dataset, bad, uses)
        for (cap, consumer, node), paths in self.named.items():
            counts = {"rows": None, "documents": None, "epochs": None}
            self.exposures.setdefault(("advisory", cap, consumer, node), {**counts, **_shown(paths, consumer)})

    def _narrowed(self, uses: set[Any]) -> list[tuple[str, str | None]] | None:
        keys = [(e.child[1], e.stage) for e, _ in uses if e.complete]
        narrowed = len(keys) == len(uses) and all(key in self.case.usage for key in keys)
        return keys if narrowed and all(mode == "bytes" for _, mode in uses) else None

    def _exposure(self, cap: str, consumer: str, dataset: str, bad: set[Any], uses: set[Any]) -> dict[str, Any]:
        epochs = [e.epochs for e, _ in {(e, "") for e, _ in uses}]
        known = None if any(one is None for one in epochs) else sum(epochs)
        return {
            **_counts(bad),
            "epochs": known,
            **_shown(self.paths[cap, consumer, dataset], consumer),
        }

    def _unknown(self, node: str, why: str, category: str | None, cap: str) -> None:
        key = (node, why, category)
        self.unknown[key] = min(cap, self.unknown.get(key, cap), key=CAPS.index)


def _counts(bad: set[Any]) -> dict[str, int | None]:
    """Rows and documents; a shard that nobody scanned has rows that are named and not counted."""
    uncounted = any(document is UNCOUNTED for _, _, document in bad)
    documents = {document for _, _, document in bad}
    return {
        "rows": None if any(row is None for _, row, _ in bad) else len({(shard, row) for shard, row, _ in bad}),
        "documents": None if uncounted else len(documents),
    }


def _shown(paths: list[Any], consumer: str) -> dict[str, Any]:
    strongest = max(GRADES.index(grade) for _, grade, _ in paths)
    names, grade, walked = min((p for p in paths if GRADES.index(p[1]) == strongest), key=lambda p: p[0])
    depth = max(n for n, name in enumerate(names) if name == consumer)
    return {"grade": grade, "length": len(walked), "names": names, "depth": depth}


def _best(paths: list[Any]) -> list[Any]:
    """Of all shortest paths to a state the smallest for each grade: no other can be shown."""
    found: dict[str, Any] = {}
    for path in sorted(paths, key=lambda p: p[0]):
        found.setdefault(path[1], path)
    return list(found.values())


def asked(case: Case, threshold: int | None) -> list[tuple[str, str, dict[str, int]]]:
    """(detector, class, flags) of the newest run that had each class."""
    found: list[tuple[str, str, dict[str, int]]] = []
    for run in reversed(case.runs):
        classes = {category for _, category, _ in found}
        found += [(name, category, flags) for name, (category, flags) in run.detectors.items() if category not in classes]
    return [(name, category, flags if threshold is None else {"": threshold}) for name, category, flags in found]


def used_rows(case: Case, dataset: str, used: list[tuple[str, str | None]] | None) -> dict[str, set[int] | None]:
    """Rows of each listed shard that were used; None: all of them."""
    found: dict[str, set[int] | None] = {}
    for shard, rows in case.lists.get(dataset, []):
        if rows is None:
            found[shard] = None
        elif (mine := found.setdefault(shard, set())) is not None:
            mine.update(range(*rows))
    if used is None:
        return found
    read: dict[str, set[int]] = {}
    for key in used:
        for shard, first, last in case.usage[key]:
            read.setdefault(shard, set()).update(range(first, last))
    both = {shard: read[shard] if rows is None else rows & read[shard] for shard, rows in found.items() if shard in read}
    return {shard: rows for shard, rows in both.items() if rows}


def count(case: Case, shard: str) -> int | None:
    """Rows of a shard, where a run scanned or wrote it."""
    for run in case.runs:
        if shard in run.logs:
            return len(run.logs[shard])
        for source in run.sources(shard):
            return len(kept(run, source))
    return None


def kept(run: Run, source: str) -> list[int]:
    """Rows of a source that a run kept."""
    return [n for n, row in enumerate(run.logs[source]) if row.action == "keep"]


def scored(case: Case, shard: str, row: int, detector: str) -> bool:
    """Whether a detector scored a row, in a scan of the shard or of what it was written from."""
    for run in case.runs:
        if shard in run.logs and detector in run.detectors and run.logs[shard][row].action != "error":
            return True
        if any(scored(case, source, kept(run, source)[row], detector) for source in run.sources(shard)):
            return True
    return False


def bad(case: Case, shard: str, row: int, judge: tuple[str, str, dict[str, int]], *, passed: bool = True) -> set[str]:
    """The documents for which a row is bad: its own, by any scan, or its own by a removed duplicate's flag."""
    detector, _, flags = judge
    found: set[str] = set()
    for run in case.runs:
        if shard in run.logs and detector in run.detectors:
            one = run.logs[shard][row]
            if one.scores.get(detector, -1) >= flags.get(one.source, flags[""]) and one.action != "error":
                found.add(one.document or f"{shard} {row}")
        for source in run.sources(shard):
            found |= bad(case, source, kept(run, source)[row], judge)
        if passed and detector in run.detectors and not scored(case, shard, row, detector):
            for log in run.logs.values():
                for one in log:
                    if one.keeper == (shard, row) and one.scores.get(detector, -1) >= flags.get(one.source, flags[""]):
                        found.add(document_of(case, shard, row))
    return found


def document_of(case: Case, shard: str, row: int) -> str:
    """A row's document."""
    for run in case.runs:
        if shard in run.logs:
            return run.logs[shard][row].document or f"{shard} {row}"
    raise AssertionError("a keeper that no run scanned")


def bad_rows(case: Case, dataset: str, used: Any, category: str, judges: list[Any]) -> set[tuple[str, int, str]]:
    """(shard, row, document) of the bad rows used, for a class."""
    if category == "advisory":
        return advised_rows(case, dataset, used)
    found = set()
    for shard, rows in used_rows(case, dataset, used).items():
        size = count(case, shard) or 0
        for row in range(size) if rows is None else sorted(one for one in rows if one < size):
            for judge in judges:
                if judge[1] == category:
                    found |= {(shard, row, document) for document in bad(case, shard, row, judge)}
    return found


def gaps(case: Case, dataset: str, used: Any, category: str, judges: list[Any]) -> set[str]:
    """Why something is not known of used rows, for a class."""
    if category == "advisory":
        return advised_gaps(case, dataset, used)
    found = set()
    mine = [name for name, kind, _ in judges if kind == category]
    for shard, rows in used_rows(case, dataset, used).items():
        size = count(case, shard)
        if size is None:
            found.add("rows not scanned")
            continue
        there = set(range(size)) if rows is None else {one for one in rows if one < size}
        ran = {name for name in mine if reaches(case, shard, name)}
        if there and len(ran) < len(set(mine)):
            found.add("detector not run")
        elif any(not scored(case, shard, row, name) for row in there for name in mine):
            found.add("rows errored")
    return found


UNCOUNTED = "somebody's"


def advised_rows(case: Case, dataset: str, used: Any) -> set[tuple[str, int | None, str]]:
    """(shard, row, document) of the used rows that an advisory names, by their shard or by their document."""
    found: set[tuple[str, int | None, str]] = set()
    for shard, rows in used_rows(case, dataset, used).items():
        size, named = count(case, shard), names_shard(case, shard, ())
        if size is None and named:
            found |= {(shard, row, UNCOUNTED) for row in ([None] if rows is None else rows)}
        for row in range(size or 0) if rows is None else sorted(one for one in rows if one < (size or 0)):
            document = text_of(case, shard, row, ())
            if named or any(document in one.documents for one in case.advice):
                found.add((shard, row, document or f"{shard} {row}"))
    return found


def advised_gaps(case: Case, dataset: str, used: Any) -> set[str]:
    """Where a document that an advisory names could stand unseen."""
    found = set()
    if not any(one.documents for one in case.advice):
        return found
    for shard, rows in used_rows(case, dataset, used).items():
        size = count(case, shard)
        if names_shard(case, shard, ()):
            continue
        if size is None:
            found.add("rows not scanned")
            continue
        for row in range(size) if rows is None else (one for one in rows if one < size):
            actions = [run.logs[shard][row].action for run in case.runs if shard in run.logs]
            if text_of(case, shard, row, ()) is None and "error" in actions:
                found.add("rows errored")
    return found


def names_shard(case: Case, shard: str, seen: tuple[str, ...]) -> bool:
    """Whether an advisory names a shard, or one that it was written from."""
    if any(shard in one.shards for one in case.advice):
        return True
    return any(names_shard(case, source, (*seen, shard)) for run in case.runs for source in run.sources(shard) if source not in seen)


def text_of(case: Case, shard: str, row: int, seen: tuple[str, ...]) -> str | None:
    """A row's document, from any scan of its shard, else from what the shard was written from."""
    for run in case.runs:
        if shard in run.logs and run.logs[shard][row].document is not None:
            return run.logs[shard][row].document
    for run in case.runs:
        for source in run.sources(shard):
            if source not in seen and row < len(kept(run, source)):
                found = text_of(case, source, kept(run, source)[row], (*seen, shard))
                if found is not None:
                    return found
    return None


def reaches(case: Case, shard: str, detector: str) -> bool:
    """Whether a run with the detector scanned a shard or what it was written from."""
    for run in case.runs:
        if shard in run.logs and detector in run.detectors:
            return True
        if any(reaches(case, source, detector) for source in run.sources(shard)):
            return True
    return False


def _first_exposed(case: Case, found: _Findings, threshold: int | None) -> list[str]:
    consumers = sorted({consumer for _, _, consumer, _ in found.exposures})
    own = []
    for one in consumers:
        others = {consumer for _, _, consumer, _ in _Findings(case, one, threshold).exposures}
        if others == {one}:
            own.append(one)
    return own or consumers


def _last_unexposed(case: Case, model: str, threshold: int | None) -> list[str]:
    if not asked(case, threshold):
        return []
    seen, todo, result = {model}, [model], []
    while todo:
        for edge, parent in steps(case, ("model", todo.pop())):
            weights = edge.relation in WEIGHTS or edge.relation == "same_weights_as"
            if not weights or edge.grade == "contradicted" or parent[1] in seen:
                continue
            seen.add(parent[1])
            above = _Findings(case, parent[1], threshold)
            if above.exposures or above.unknown:
                todo.append(parent[1])
            else:
                result.append(parent[1])
    return sorted(result)
