"""A lineage entry's object: nodes, relations and shards of models and datasets, in columns.

Always true here: the bytes are canonical JSON; columns of one table have one length; a column that holds nothing is left out;
nodes that the entry records come first, those it only points at follow. Columns, because a ledger may hold millions of
relations and is opened in seconds.
"""

from __future__ import annotations

import gc
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from forebear.schemas.canonical import canonical_json, parse_json
from forebear.schemas.errors import IntegrityError
from forebear.tracer.lineage.relations import Kind

__all__ = ["ATTRIBUTES", "LineageDocument", "NodeTable", "RelationTable", "ShardTable", "UsageTable"]

SCHEMA = "forebear/lineage/1"

ATTRIBUTES = ("evidence", "stage", "epochs", "complete", "run", "system_prompt")
"""Attributes that a relation may have; `epochs` is a decimal text."""

_NODE_COLUMNS = ("name", "revision", "digest", "aliases", "ancestry")


@dataclass
class NodeTable:
    """Models or datasets: the first `recorded` are recorded by the entry, the others only pointed at."""

    recorded: int = 0
    name: list[str | None] = field(default_factory=list)
    revision: list[str | None] = field(default_factory=list)
    digest: list[str | None] = field(default_factory=list)
    aliases: list[list[str] | None] = field(default_factory=list)
    ancestry: list[str | None] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        """Columns that hold something."""
        columns = {name: getattr(self, name) for name in _NODE_COLUMNS}
        return {"size": len(self.name), "recorded": self.recorded, **{k: v for k, v in columns.items() if any(v)}}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> NodeTable:
        """The table of one entry; absent columns are all null."""
        size = value["size"]
        nothing: list[Any] = [None] * size
        columns = {name: value.get(name) or nothing for name in _NODE_COLUMNS}
        if any(len(column) != size for column in columns.values()) or not 0 <= value["recorded"] <= size:
            raise ValueError("columns of a node table differ in length")
        return cls(value["recorded"], **columns)


@dataclass
class RelationTable:
    """All relations of one name between two kinds of nodes; `child` and `parent` are positions in the node tables."""

    relation: str
    child_kind: Kind
    parent_kind: Kind
    child: list[int] = field(default_factory=list)
    parent: list[int] = field(default_factory=list)
    attributes: dict[str, list[Any]] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Columns that hold something."""
        kept = {name: column for name, column in self.attributes.items() if any(one is not None for one in column)}
        ends = {"from": self.child_kind, "to": self.parent_kind, "child": self.child, "parent": self.parent}
        return {"relation": self.relation, **ends, **kept}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> RelationTable:
        """The table of one entry."""
        attributes = {name: value[name] for name in ATTRIBUTES if name in value}
        if any(len(column) != len(value["child"]) for column in (value["parent"], *attributes.values())):
            raise ValueError("columns of a relation table differ in length")
        return cls(value["relation"], value["from"], value["to"], value["child"], value["parent"], attributes)


@dataclass
class ShardTable:
    """Shards that datasets list, whole (null) or narrowed to rows [first, last); `label` is the path as it was given."""

    dataset: list[int] = field(default_factory=list)
    shard: list[str] = field(default_factory=list)
    first: list[int | None] = field(default_factory=list)
    last: list[int | None] = field(default_factory=list)
    label: list[str | None] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        """Columns that hold something."""
        return _columns(self, ("dataset", "shard"), ("first", "last", "label"))

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> ShardTable:
        """The table of one entry; absent columns are all null."""
        return cls(**_filled(value, "dataset", ("shard",), ("first", "last", "label")))


@dataclass
class UsageTable:
    """Rows [first, last) of a shard that a model read at a stage, from a usage log."""

    model: list[int] = field(default_factory=list)
    shard: list[str] = field(default_factory=list)
    first: list[int] = field(default_factory=list)
    last: list[int] = field(default_factory=list)
    stage: list[str | None] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        """Columns that hold something."""
        return _columns(self, ("model", "shard", "first", "last"), ("stage",))

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> UsageTable:
        """The table of one entry; absent columns are all null."""
        return cls(**_filled(value, "model", ("shard", "first", "last"), ("stage",)))


@dataclass
class LineageDocument:
    """What one lineage entry says."""

    models: NodeTable = field(default_factory=NodeTable)
    datasets: NodeTable = field(default_factory=NodeTable)
    relations: list[RelationTable] = field(default_factory=list)
    shards: ShardTable = field(default_factory=ShardTable)
    usage: UsageTable = field(default_factory=UsageTable)

    def to_bytes(self) -> bytes:
        """Canonical JSON."""
        value: dict[str, Any] = {
            "models": self.models.to_json(),
            "datasets": self.datasets.to_json(),
            "shards": self.shards.to_json(),
        }
        value |= {"relations": [one.to_json() for one in self.relations], "usage": self.usage.to_json()}
        return canonical_json({"schema": SCHEMA, **value})

    @classmethod
    def from_bytes(cls, data: bytes) -> LineageDocument:
        """Parse what `to_bytes` wrote, strictly: canonical form, every key known and once.

        Raises:
            IntegrityError: The bytes are not a lineage object in canonical form.
        """
        collecting = gc.isenabled()
        gc.disable()  # millions of small lists and texts, none of them garbage: collecting doubled the time
        try:
            value = _parsed(data)
            return cls(
                NodeTable.from_json(value["models"]),
                NodeTable.from_json(value["datasets"]),
                [RelationTable.from_json(one) for one in value["relations"]],
                ShardTable.from_json(value["shards"]),
                UsageTable.from_json(value["usage"]),
            )
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
            raise IntegrityError(
                "malformed_record",
                expected="a lineage object",
                found=f"{type(error).__name__}: {str(error)[:200]}",
                remedy="Restore the object from a copy of the ledger; `forebear verify --full` names what else is damaged.",
            ) from error
        finally:
            if collecting:
                gc.enable()


_TOP = frozenset({"schema", "models", "datasets", "relations", "shards", "usage"})
_KEYS = {
    "models": frozenset({"size", "recorded", *_NODE_COLUMNS}),
    "datasets": frozenset({"size", "recorded", *_NODE_COLUMNS}),
    "relations": frozenset({"relation", "from", "to", "child", "parent", *ATTRIBUTES}),
    "shards": frozenset({"dataset", "shard", "first", "last", "label"}),
    "usage": frozenset({"model", "shard", "first", "last", "stage"}),
}


def _parsed(data: bytes) -> dict[str, Any]:
    """The value of canonical bytes: what is written again is what was read."""
    value: dict[str, Any] = parse_json(data)
    if value.get("schema") != SCHEMA:
        raise ValueError(f"schema is not {SCHEMA}")
    tables = [(name, one) for name in _KEYS for one in (value[name] if name == "relations" else [value[name]])]
    unknown = {*value} - _TOP | {key for name, one in tables for key in {*one} - _KEYS[name]}
    if unknown:
        raise ValueError(f"unknown keys {', '.join(sorted(unknown))[:100]}")
    if _plainly_canonical(data, [value, *(one for _, one in tables)]):
        return value
    # As `canonical_json` writes, without its walk in search of floats, which the parser has refused.
    if json.dumps(value, ensure_ascii=False, sort_keys=True, separators=(",", ":")).encode() != data:
        raise ValueError("not in canonical form")
    return value


def _plainly_canonical(data: bytes, objects: list[dict[str, Any]]) -> bool:
    """Whether JSON is canonical for lack of anything that could be written otherwise: a look instead of writing millions of texts again.

    ASCII without a space, an escape or a control character, and without a negative zero, has one form once its keys are in order.
    """
    plain = data.isascii() and not any(sign in data for sign in (b" ", b"\\", b"\n", b"\r", b"\t", b"-0"))
    return plain and all(list(one) == sorted(one) for one in objects)


def _columns(table: object, needed: tuple[str, ...], optional: tuple[str, ...]) -> dict[str, Any]:
    found = {name: getattr(table, name) for name in needed}
    for name in optional:
        column = getattr(table, name)
        if any(one is not None for one in column):
            found[name] = column
    return found


def _filled(value: Mapping[str, Any], key: str, needed: tuple[str, ...], optional: tuple[str, ...]) -> dict[str, Any]:
    size = len(value[key])
    columns = {name: value[name] for name in (key, *needed)}
    columns |= {name: value.get(name) or [None] * size for name in optional}
    if any(len(column) != size for column in columns.values()):
        raise ValueError("columns of a table differ in length")
    return columns
