"""Linking: training records become one lineage entry of the ledger.

Always true here: every shard is a digest before anything is written; what cannot be resolved is refused and named; row ranges
lie inside shards that are known; one call writes one entry or none. A parent that no record tells of is kept as a node that is
not recorded, and reported, since an unknown parent is not a clean one.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from forebear.schemas.digests import digest_name, is_digest
from forebear.schemas.enums import EntryKind, Grade
from forebear.schemas.errors import DataError, UsageError
from forebear.schemas.lineage import DatasetRecord, ModelRecord, Parent, Reference, ShardUse, TrainingRecord
from forebear.schemas.records import Entry, Head
from forebear.tracer.ledger.ledger import Ledger
from forebear.tracer.lineage.document import LineageDocument, NodeTable, RelationTable
from forebear.tracer.lineage.relations import Kind

if TYPE_CHECKING:
    from forebear.tracer.lineage.usage import Read

__all__ = ["KnownShards", "Linked", "build_document", "known_shards", "link"]

_PREFIX = re.compile(r"(?:sha256:)?([0-9a-f]{12,64})")


@dataclass(frozen=True)
class Linked:
    """What a link did."""

    entry: int
    head: Head
    object: str
    models: int
    datasets: int
    relations: int
    shards: int
    not_recorded: tuple[str, ...]
    hashed: Mapping[str, str]

    def to_json(self) -> dict[str, Any]:
        """The answer of `forebear link --json`."""
        counts = {"models": self.models, "datasets": self.datasets, "relations": self.relations, "shards": self.shards}
        where = {"entry": self.entry, "object": self.object, "head": self.head.to_json()}
        listed = {"not_recorded": list(self.not_recorded), "hashed": dict(self.hashed)}
        return {"schema": "forebear/link/1", **where, **counts, **listed}


@dataclass
class KnownShards:
    """Shards that the ledger knows of: digest -> rows, None where no run counted them."""

    rows: dict[str, int | None] = field(default_factory=dict)

    def resolve(self, prefix: str) -> list[str]:
        """Known shards whose hex digits begin so."""
        return sorted(shard for shard in self.rows if shard.startswith(prefix, 7))


def known_shards(ledger: Ledger) -> KnownShards:
    """Every shard that a run scanned or wrote, or that a lineage entry lists."""
    from forebear.schemas.tables import CLEANED, SHARDS

    known = KnownShards()
    for _, data, entry in ledger.entries():
        if entry.kind is EntryKind.LINEAGE and data:
            document = LineageDocument.from_bytes(ledger.get_object(entry.object))
            known.rows.update((shard, None) for shard in document.shards.shard if shard not in known.rows)
    for _, _, manifest in ledger.runs():
        tables = [ledger.read_table(manifest.shards.object, SHARDS, columns=["shard", "rows"])]
        if manifest.cleaned is not None:
            tables.append(ledger.read_table(manifest.cleaned.object, CLEANED, columns=["shard", "rows"]))
        for table in tables:
            names = map(digest_name, table["shard"].to_pylist())
            known.rows.update(zip(names, table["rows"].to_pylist(), strict=True))
    return known


def link(
    ledger: Ledger,
    records: Sequence[tuple[TrainingRecord, Path]],
    *,
    time: str,
    usage: Sequence[str | Path] = (),
    read: Callable[[Sequence[str | Path]], Sequence[Read]] | None = None,
) -> Linked:
    """Add training records to the ledger as one lineage entry.

    Args:
        ledger: Where.
        records: Parsed records, each with the folder that its paths are relative to.
        time: The entry's time, ISO 8601 in UTC.
        usage: Usage logs, Parquet or JSONL.
        read: How they are read; default: `usage.read_usage`.

    Raises:
        UsageError: A shard cannot be resolved, or a reference could mean several nodes.
        DataError: Rows lie outside a shard.
    """
    resolver = _Shards(known_shards(ledger))
    reads: Sequence[Read] = ()
    if usage:
        from forebear.tracer.lineage.usage import read_usage

        reads = (read or read_usage)(usage)
    document = build_document(records, resolve=resolver, reads=reads)
    name = ledger.put_object(document.to_bytes())
    counts = {
        "models": document.models.recorded,
        "datasets": document.datasets.recorded,
        "relations": sum(len(one.child) for one in document.relations),
        "shards": len(document.shards.shard),
    }
    head = ledger.append(Entry(EntryKind.LINEAGE, name, time, counts))
    return Linked(
        entry=head.size - 1,
        head=head,
        object=name,
        not_recorded=tuple(_not_recorded(document)),
        hashed=resolver.hashed,
        **counts,
    )


def build_document(
    records: Sequence[tuple[TrainingRecord, Path]],
    *,
    resolve: Callable[[ShardUse, Path], tuple[str, str | None]],
    reads: Sequence[Read] = (),
) -> LineageDocument:
    """The lineage object of some records.

    Args:
        records: Parsed records, each with the folder that its paths are relative to.
        resolve: A shard as the record writes it, and the folder -> (digest, label or None).
        reads: What usage logs say was read.

    Raises:
        UsageError: A reference by name could mean several recorded nodes.
    """
    builder = _Builder(resolve)
    document = builder.build(records)
    builder.use(document, reads)
    return document


class _Nodes:
    """Nodes of one kind: recorded ones first, found again by id, name or alias."""

    def __init__(self, kind: Kind) -> None:
        self.kind = kind
        self.table = NodeTable()
        self._by_id: dict[str, int] = {}
        self._named: dict[str, set[int]] = {}

    def record(self, record: ModelRecord | DatasetRecord) -> int:
        reference = record.reference
        at = self._by_id.get(reference.id)
        if at is None:
            at = self._add(reference)
            self.table.recorded = len(self.table.name)
        for name in (reference.name, *record.aliases):
            if name is not None:
                self._named.setdefault(name, set()).add(at)
        self.table.aliases[at] = sorted({*(self.table.aliases[at] or ()), *record.aliases}) or None
        self.table.ancestry[at] = record.ancestry or self.table.ancestry[at]
        return at

    def refer(self, reference: Reference) -> int:
        """A node that is pointed at: one of this call's by id, else by its one name, else a node that is not recorded here."""
        at = self._by_id.get(reference.id)
        if at is not None:
            return at
        revisions = self.table.revision
        named = [
            one
            for one in sorted(self._named.get(reference.name or "", ()))
            if reference.revision is None or revisions[one] == reference.revision
        ]
        if len(named) > 1:
            raise UsageError(
                f"ambiguous_{self.kind}",
                expected=f"a reference that means one {self.kind}",
                found=f"{reference.name!r} could be {', '.join(self.id(one) for one in named)}",
                remedy="Give the revision, or the digest in place of the name.",
            )
        return named[0] if named else self._add(reference)

    def id(self, at: int) -> str:
        table = self.table
        return Reference(table.name[at], table.revision[at], table.digest[at]).id

    def _add(self, reference: Reference) -> int:
        table = self.table
        table.name.append(reference.name)
        table.revision.append(reference.revision)
        table.digest.append(reference.digest)
        table.aliases.append(None)
        table.ancestry.append(None)
        self._by_id[reference.id] = len(table.name) - 1
        return len(table.name) - 1


class _Builder:
    def __init__(self, resolve: Callable[[ShardUse, Path], tuple[str, str | None]]) -> None:
        self._resolve = resolve
        self._models, self._datasets = _Nodes("model"), _Nodes("dataset")
        self._relations: dict[tuple[str, Kind, Kind], RelationTable] = {}
        self._listed: dict[int, list[tuple[str, int | None, int | None, str | None]]] = {}

    def build(self, records: Sequence[tuple[TrainingRecord, Path]]) -> LineageDocument:
        """Two passes: everything recorded is known before anything points at it."""
        for record, _ in records:
            for one in record.models:
                self._models.record(one)
            for other in record.datasets:
                self._datasets.record(other)
        for record, folder in records:
            for one in record.models:
                self._model(one)
            for other in record.datasets:
                self._dataset(other, folder)
        document = LineageDocument(self._models.table, self._datasets.table)
        document.relations = [self._relations[key] for key in sorted(self._relations)]
        for dataset in sorted(self._listed):
            for shard, first, last, label in self._listed[dataset]:
                document.shards.dataset.append(dataset)
                document.shards.shard.append(shard)
                document.shards.first.append(first)
                document.shards.last.append(last)
                document.shards.label.append(label)
        return document

    def use(self, document: LineageDocument, reads: Sequence[Read]) -> None:
        """Add what usage logs say."""
        for model, stage, shard, first, last in reads:
            name = Reference(None, None, model) if is_digest(model) else Reference(model)
            document.usage.model.append(self._models.refer(name))
            document.usage.stage.append(stage)
            document.usage.shard.append(shard)
            document.usage.first.append(first)
            document.usage.last.append(last)

    def _model(self, record: ModelRecord) -> None:
        child = self._models.refer(record.reference)
        for use in record.trained_on:
            parent = self._datasets.refer(use.dataset)
            attributes = {"stage": use.stage, "epochs": use.epochs, "complete": use.complete or None}
            self._relate("trained_on", ("model", child), ("dataset", parent), evidence=use.evidence, **attributes)
        for one in record.parents:
            self._parent(("model", child), one)

    def _dataset(self, record: DatasetRecord, folder: Path) -> None:
        child = self._datasets.refer(record.reference)
        for one in record.relations:
            self._parent(("dataset", child), one)
        if record.shards:
            self._listed[child] = list(self._shards(record.shards, folder))

    def _shards(self, uses: Iterable[ShardUse], folder: Path) -> Iterable[tuple[str, int | None, int | None, str | None]]:
        for use in uses:
            shard, label = self._resolve(use, folder)
            for first, last in use.rows if use.rows is not None else ((None, None),):
                yield shard, first, last, label

    def _parent(self, child: tuple[Kind, int], one: Parent) -> None:
        attributes = {"run": one.run, "system_prompt": one.system_prompt}
        if one.model is not None:
            parent: tuple[Kind, int] = ("model", self._models.refer(one.model))
            self._relate(one.relation.value, child, parent, evidence=one.evidence, **attributes)
        if one.dataset is not None:
            parent = ("dataset", self._datasets.refer(one.dataset))
            self._relate(one.relation.value, child, parent, evidence=one.evidence, **attributes)

    def _relate(self, relation: str, child: tuple[Kind, int], parent: tuple[Kind, int], *, evidence: Grade, **others: Any) -> None:
        key = (relation, child[0], parent[0])
        table = self._relations.setdefault(key, RelationTable(*key))
        others["evidence"] = None if evidence is Grade.DECLARED else evidence.value
        for name, value in others.items():
            table.attributes.setdefault(name, [None] * len(table.child)).append(value)
        for name, column in table.attributes.items():
            if name not in others:
                column.append(None)
        table.child.append(child[1])
        table.parent.append(parent[1])


class _Shards:
    """Resolves shards: digests as they are, files hashed, prefixes of known shards."""

    def __init__(self, known: KnownShards) -> None:
        self._known = known
        self.hashed: dict[str, str] = {}

    def __call__(self, use: ShardUse, folder: Path) -> tuple[str, str | None]:
        shard, label = (use.shard, None) if is_digest(use.shard) else self._find(use.shard, folder)
        rows = self._known.rows.get(shard)
        for first, last in use.rows or ():
            if rows is not None and last > rows:
                raise DataError(
                    "rows_outside",
                    expected=f"row ranges within the {rows} rows of {use.shard}",
                    found=f"[{first}, {last})",
                    remedy="Ranges are 0-based and half-open, counted over every input row; correct the record.",
                )
        return shard, label

    def _find(self, text: str, folder: Path) -> tuple[str, str | None]:
        for path in (folder / text, Path(text)):
            if path.is_file():
                return self._hash(path), text
        match = _PREFIX.fullmatch(text)
        found = self._known.resolve(match[1]) if match else []
        if len(found) == 1:
            return found[0], None
        what = f"{len(found)} shards: {', '.join(found[:5])}" if found else "no such file, and no shard of the ledger"
        raise UsageError(
            "ambiguous_shard" if found else "unresolved_shard",
            expected=f"a file, a digest, or an unambiguous prefix of one for shard {text!r}",
            found=f"{what} (looked in {folder} and in the working directory)",
            remedy="Correct the path, or give the shard's digest (`sha256sum FILE`).",
        )

    def _hash(self, path: Path) -> str:
        name = str(path)
        if name not in self.hashed:
            try:
                with path.open("rb") as file:
                    self.hashed[name] = digest_name(hashlib.file_digest(file, "sha256").digest())
            except OSError as error:
                raise UsageError(
                    "unresolved_shard",
                    expected=f"a file that can be read for shard {name!r}",
                    found=str(error.strerror),
                    remedy="Make it readable, or give the shard's digest.",
                ) from error
        return self.hashed[name]


def _not_recorded(document: LineageDocument) -> Iterable[str]:
    for table in (document.models, document.datasets):
        for at in range(table.recorded, len(table.name)):
            yield Reference(table.name[at], table.revision[at], table.digest[at]).id
