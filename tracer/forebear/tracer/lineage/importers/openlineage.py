"""OpenLineage run events: which datasets a run read, and which it wrote.

Always true here: events of one run are taken together, and only a run that has a COMPLETE event counts; a dataset is its namespace and
name, with its version as revision, and one that another has as its only symlink is that other; one in the namespace `sha256` is the
shard of these bytes; one whose type is MODEL is a model. Events do not say how an output comes from an input, so the relation is
assumed, the one that passes most.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from forebear.schemas.digests import is_digest
from forebear.schemas.enums import Relation
from forebear.schemas.lineage import Reference
from forebear.tracer.lineage.importers.gathered import Gathered
from forebear.tracer.lineage.importers.reading import files, parse_json, read_text, text_of
from forebear.tracer.lineage.relations import Kind

__all__ = ["read"]

_ENDS = ("inputs", "outputs")
_RELATIONS: dict[tuple[Kind, Kind], tuple[Relation, bool]] = {
    ("model", "dataset"): (Relation.TRAINED_ON, True),
    ("model", "model"): (Relation.FINETUNED_FROM, True),
    ("dataset", "model"): (Relation.GENERATED_BY, True),
    ("dataset", "dataset"): (Relation.MIXED_FROM, True),
}


@dataclass
class _Run:
    where: str
    states: set[str] = field(default_factory=set)
    inputs: dict[str, Any] = field(default_factory=dict)
    outputs: dict[str, Any] = field(default_factory=dict)


def read(gathered: Gathered, paths: Sequence[str]) -> None:
    """Gather the runs of JSON and JSONL files and folders of them."""
    runs: dict[str, _Run] = {}
    for path in files(gathered, paths, (".json", ".jsonl", ".ndjson")):
        for where, event in _events(gathered, path):
            _take(gathered, runs, event, where)
    other = _other_names([value for run in runs.values() for value in (*run.inputs.values(), *run.outputs.values())])
    for run_id, run in runs.items():
        if "COMPLETE" not in run.states:
            told = ", ".join(sorted(run.states)) or "none"
            gathered.refuse(run.where, run_id, f"a run with a COMPLETE event is expected, it has {told}")
            continue
        inputs, outputs = (
            [one for value in values if (one := _node(gathered, value, where=run.where, other=other))]
            for values in (run.inputs.values(), run.outputs.values())
        )
        for child in outputs:
            for parent in inputs:
                relation, assumed = _RELATIONS[child[0], parent[0]]
                gathered.relate(relation, child, parent, where=run.where, assumed=assumed)


def _events(gathered: Gathered, path: Path) -> Iterator[tuple[str, Any]]:
    """Events of a file: one object, a list of them, or one a line."""
    text = read_text(gathered, path)
    if text is None:
        return
    lines = [(n, line) for n, line in enumerate(text.splitlines(), 1) if line.strip()]
    by_line = path.suffix != ".json" or (len(lines) > 1 and all(line.startswith("{") and line.rstrip().endswith("}") for _, line in lines))
    if by_line:
        for n, line in lines:
            value = parse_json(gathered, line, where=f"{path}:{n}")
            if value is not None:
                yield f"{path}:{n}", value
        return
    value = parse_json(gathered, text, where=str(path))
    for n, one in enumerate(value if isinstance(value, list) else [] if value is None else [value]):
        yield f"{path}[{n}]", one


def _take(gathered: Gathered, runs: dict[str, _Run], event: Any, where: str) -> None:
    about = event.get("run") if isinstance(event, dict) else None
    run_id = text_of(about.get("runId")) if isinstance(about, dict) else None
    if run_id is None:
        gathered.refuse(where, type(event).__name__, "a run event with run.runId is expected")
        return
    run = runs.setdefault(run_id, _Run(where))
    run.states.add(str(event.get("eventType", "OTHER"))[:40])
    for end in _ENDS:
        listed = event.get(end) or []
        if not isinstance(listed, list):
            gathered.refuse(where, end, "a list of datasets is expected")
            continue
        for one in listed:
            name = _name(one)
            if name is None:
                gathered.unresolve(where, repr(one)[:200], f"one of the {end}: a dataset has a namespace and a name")
            else:
                getattr(run, end)[name] = one  # the newest event's word on it


def _name(value: Any) -> str | None:
    """A dataset's name here: namespace and name as one path."""
    if not isinstance(value, dict):
        return None
    namespace, name = text_of(value.get("namespace")), text_of(value.get("name"))
    if namespace is None or name is None:
        return None
    return f"{namespace.rstrip('/')}/{name.lstrip('/')}"


def _node(gathered: Gathered, value: Any, *, where: str, other: Mapping[str, str]) -> tuple[Kind, Reference] | None:
    own = _name(value) or ""
    facets = _facets(value)
    kind: Kind = "model" if str(_facet(facets, "datasetType", "datasetType")).upper() == "MODEL" else "dataset"
    revision, shard = text_of(_facet(facets, "version", "datasetVersion")), "sha256:" + own.removeprefix("sha256/")
    if kind == "dataset" and is_digest(shard):
        reference = gathered.node(kind, own, where=where, shard=shard)
    else:
        reference = gathered.node(kind, other.get(own, own), where=where, revision=revision, aliases=_symlinks(value))
    return None if reference is None else (kind, reference)


def _other_names(values: Sequence[Any]) -> dict[str, str]:
    """Datasets that exactly one other dataset has as a symlink, and which that is."""
    said: dict[str, set[str]] = {}
    for value in values:
        name = _name(value)
        for alias in _symlinks(value):
            if name is not None and alias != name:
                said.setdefault(alias, set()).add(name)
    return {alias: next(iter(names)) for alias, names in said.items() if len(names) == 1 and not names & {*said}}


def _symlinks(value: Any) -> list[str]:
    identifiers = _facet(_facets(value), "symlinks", "identifiers")
    return [name for one in (identifiers if isinstance(identifiers, list) else []) if (name := _name(one))]


def _facets(value: Any) -> dict[str, Any]:
    found = value.get("facets")
    return found if isinstance(found, dict) else {}


def _facet(facets: dict[str, Any], name: str, key: str) -> Any:
    facet = facets.get(name)
    return facet.get(key) if isinstance(facet, dict) else None
