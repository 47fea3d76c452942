"""DataComp-LM: a JSON file for each model and each dataset; UUIDs say which dataset a model was trained on and what that was mixed from.

Always true here: UUIDs join and names do not; a node is its name with the UUID as revision, and has the UUID as alias, so that either
finds it. A source whose UUID no file has is kept as a node that is not recorded; one without a UUID is unresolved.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from forebear.schemas.enums import Relation
from forebear.schemas.lineage import Reference
from forebear.tracer.lineage.importers.gathered import Gathered
from forebear.tracer.lineage.importers.reading import files, read_json, text_of
from forebear.tracer.lineage.relations import Kind

__all__ = ["read"]


def read(gathered: Gathered, paths: Sequence[str]) -> None:
    """Gather models and datasets from JSON files and folders of them."""
    found: list[tuple[str, Kind, Mapping[str, Any], Reference]] = []
    for path in files(gathered, paths, (".json",)):
        value, where = read_json(gathered, path), str(path)
        if value is None:
            continue
        kind = _kind(value)
        if kind is None:
            gathered.refuse(where, type(value).__name__, "an object with `uuid`, `name` and `dataset_uuid` or `tokenized` is expected")
            continue
        reference = _record(gathered, kind, value, where)
        if reference is not None:
            found.append((where, kind, value, reference))
    names = {reference.revision: reference for _, kind, _, reference in found if kind == "dataset"}
    for where, kind, value, reference in found:
        if kind == "model":
            _model(gathered, value, reference, where=where, names=names)
        else:
            _dataset(gathered, value, reference, where=where, names=names)


def _kind(value: Any) -> Kind | None:
    if not isinstance(value, dict) or text_of(value.get("uuid")) is None:
        return None
    if "dataset_uuid" in value:
        return "model"
    return "dataset" if {"tokenized", "dataset_url", "sources"} & {*value} else None


def _record(gathered: Gathered, kind: Kind, value: Mapping[str, Any], where: str) -> Reference | None:
    uuid, name = text_of(value["uuid"]) or "", text_of(value.get("name"))
    if gathered.meant(kind, Reference(uuid)):
        gathered.duplicates.append(uuid)
        gathered.refuse(where, uuid, f"another {kind} has this UUID")
        return None
    return gathered.node(kind, name or uuid, where=where, revision=uuid, aliases=[uuid])


def _model(gathered: Gathered, value: Mapping[str, Any], child: Reference, *, where: str, names: Mapping[str | None, Reference]) -> None:
    uuid, name = text_of(value.get("dataset_uuid")), text_of(value.get("dataset_name"))
    if uuid is None:
        gathered.unresolve(where, name or "", "no dataset UUID, and a name alone does not tell which dataset")
        return
    dataset = names.get(uuid) or Reference(name or uuid, uuid)
    gathered.relate(Relation.TRAINED_ON, ("model", child), ("dataset", dataset), where=where)


def _dataset(gathered: Gathered, value: Mapping[str, Any], child: Reference, *, where: str, names: Mapping[str | None, Reference]) -> None:
    sources = value.get("sources")
    for one in sources if isinstance(sources, list) else [sources]:
        told = one if isinstance(one, dict) else {"name": one}
        uuid, name = text_of(told.get("uuid")), text_of(told.get("name"))
        if uuid is not None:
            parent = names.get(uuid) or Reference(name or uuid, uuid)
            gathered.relate(Relation.MIXED_FROM, ("dataset", child), ("dataset", parent), where=where)
        elif one not in (None, ""):
            gathered.unresolve(where, name or repr(one)[:200], "a source without a UUID")
    tokenizer = text_of(value.get("tokenizer"))
    if tokenizer is not None:
        gathered.relate(Relation.TOKENIZER_FROM, ("dataset", child), ("model", Reference(tokenizer)), where=where)
