"""Ecosystem Graphs: YAML files of assets (models, datasets, applications) that name what they depend on.

Always true here: a dependency means the one asset that has exactly this name; unmatched names, names that several assets have and
cycles are reported. The format does not say by which relation an asset depends on another: but for a model's datasets the relation
is assumed, the one that passes most between two such nodes. Applications are neither models nor datasets and are left out.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from forebear.schemas.enums import Relation
from forebear.schemas.lineage import Reference
from forebear.tracer.lineage.importers.gathered import Gathered, cycles_of
from forebear.tracer.lineage.importers.reading import files, parse_yaml, read_text, text_of
from forebear.tracer.lineage.relations import Kind

__all__ = ["read"]

_KINDS: dict[str, Kind] = {"model": "model", "dataset": "dataset"}
# The project's page: "the BLOOM model is trained on the ROOTS dataset". The others say less than their relation.
_RELATIONS: dict[tuple[Kind, Kind], tuple[Relation, bool]] = {
    ("model", "dataset"): (Relation.TRAINED_ON, False),
    ("model", "model"): (Relation.FINETUNED_FROM, True),
    ("dataset", "model"): (Relation.GENERATED_BY, True),
    ("dataset", "dataset"): (Relation.MIXED_FROM, True),
}


@dataclass(frozen=True)
class _Asset:
    where: str
    name: str
    type: str
    revision: str
    dependencies: tuple[str, ...]


def read(gathered: Gathered, paths: Sequence[str]) -> None:
    """Gather the assets of YAML files and folders of them."""
    assets = [
        asset for path in files(gathered, paths, (".yaml", ".yml")) for asset in _assets(gathered, str(path), read_text(gathered, path))
    ]
    named: defaultdict[str, list[_Asset]] = defaultdict(list)
    for asset in assets:
        named[asset.name].append(asset)
    gathered.duplicates += sorted(name for name, several in named.items() if len(several) > 1)
    references = {id(asset): _record(gathered, asset, alone=len(named[asset.name]) == 1) for asset in assets}
    for asset in assets:
        for name in asset.dependencies:
            _depend(gathered, asset, references[id(asset)], name=name, named=named)
    parents = {name: [other for one in several for other in one.dependencies] for name, several in named.items()}
    gathered.cycles += [cycle for cycle in cycles_of(parents) if len(cycle) > 1]  # of one node: `resolve` reports it


def _assets(gathered: Gathered, where: str, text: str | None) -> Iterator[_Asset]:
    value = None if text is None else parse_yaml(gathered, text, where=where)
    if value is None:
        return
    if not isinstance(value, list):
        gathered.refuse(where, type(value).__name__, "a list of assets is expected")
        return
    for n, one in enumerate(value):
        place = f"{where}[{n}]"
        name = text_of(one.get("name")) if isinstance(one, dict) else None
        if name is None:
            gathered.refuse(place, repr(one)[:80], "an asset with a name is expected")
            continue
        told = [text_of(_value(one.get(key))) for key in ("organization", "created_date")]
        revision = ", ".join(part for part in told if part) or place
        yield _Asset(place, name, str(one.get("type")), revision[:200], tuple(_names(gathered, place, one.get("dependencies"))))


def _names(gathered: Gathered, where: str, value: Any) -> Iterator[str]:
    value = _value(value)
    for one in value if isinstance(value, list) else [] if text_of(value) is None else [value]:
        name = text_of(one)
        if name is None:
            gathered.unresolve(where, repr(one)[:200], "a dependency is the name of an asset")
        else:
            yield name


def _value(value: Any) -> Any:
    """A field, or the value of one that is given as `{explanation, value}`."""
    return value.get("value") if isinstance(value, dict) else value


def _record(gathered: Gathered, asset: _Asset, *, alone: bool) -> Reference | None:
    kind = _KINDS.get(asset.type)
    if kind is None:
        gathered.left_out[f"{asset.type[:40]} assets"] += 1
        return None
    # Assets that share a name are told apart by who made them and when; none of them is meant by the name alone.
    revision = None if alone else asset.revision
    if revision is not None and gathered.meant(kind, Reference(asset.name, revision)):
        gathered.refuse(asset.where, asset.name, f"another {kind} has this name, organization and date")
        return None
    return gathered.node(kind, asset.name, where=asset.where, revision=revision)


def _depend(gathered: Gathered, asset: _Asset, child: Reference | None, *, name: str, named: dict[str, list[_Asset]]) -> None:
    several = named.get(name, [])
    where = f"{asset.where} ({asset.name})"
    if not several:
        gathered.unresolve(where, name, "no asset has this name")
    elif len(several) > 1:
        gathered.unresolve(where, name, f"{len(several)} assets have this name")
    elif child is None:
        gathered.left_out[f"dependencies of {asset.type[:40]} assets"] += 1
    elif several[0].type not in _KINDS:
        gathered.unresolve(where, name, f"an asset of type {several[0].type[:40]}, neither a model nor a dataset")
    else:
        kind, other = _KINDS[asset.type], _KINDS[several[0].type]
        relation, assumed = _RELATIONS[kind, other]
        gathered.relate(relation, (kind, child), (other, Reference(name)), where=where, assumed=assumed)
