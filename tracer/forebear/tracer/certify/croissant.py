"""Croissant 1.1 metadata of a dataset: its files by digest, its rows' fields, how it came about (PROV) and what was done (RAI).

Always true here: files are named by their SHA-256; addresses are the paths that records gave, as relative names, and a dataset with
more files than the cap says so; fields are those that the scan read.
"""

from __future__ import annotations

import glob
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

from forebear.schemas.digests import digest_name
from forebear.schemas.errors import UsageError
from forebear.schemas.tables import CLEANED, SHARDS
from forebear.tracer.certify.ancestry import Caps, dataset_shards, read_ancestry
from forebear.tracer.certify.escape import one_line
from forebear.tracer.certify.statement import runs_behind
from forebear.tracer.lineage.graph import DATASET
from forebear.tracer.lineage.relations import RULES

if TYPE_CHECKING:
    from forebear.tracer.audit.asked import Run
    from forebear.tracer.audit.session import Session

__all__ = ["CONFORMS_TO", "croissant"]

CONFORMS_TO = ("http://mlcommons.org/croissant/1.1", "http://mlcommons.org/croissant/RAI/1.0")

_MAX_FILES = 5_000
_ENCODINGS: Mapping[str, tuple[str, ...]] = {
    ".parquet": ("application/x-parquet",),
    ".jsonl": ("application/jsonlines",),
    ".json": ("application/jsonlines",),
    ".gz": ("application/jsonlines", "application/gzip"),
    ".zst": ("application/jsonlines", "application/zstd"),
    ".arrow": ("application/vnd.apache.arrow.file",),
}
_OTHER = ("application/octet-stream",)

_CONTEXT: Mapping[str, Any] = {
    "@language": "en",
    "@vocab": "https://schema.org/",
    "arrayShape": "cr:arrayShape",
    "citeAs": "cr:citeAs",
    "column": "cr:column",
    "conformsTo": "dct:conformsTo",
    "containedIn": "cr:containedIn",
    "cr": "http://mlcommons.org/croissant/",
    "data": {"@id": "cr:data", "@type": "@json"},
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    "dct": "http://purl.org/dc/terms/",
    "equivalentProperty": "cr:equivalentProperty",
    "examples": {"@id": "cr:examples", "@type": "@json"},
    "extract": "cr:extract",
    "field": "cr:field",
    "fileObject": "cr:fileObject",
    "fileProperty": "cr:fileProperty",
    "fileSet": "cr:fileSet",
    "format": "cr:format",
    "includes": "cr:includes",
    "isArray": "cr:isArray",
    "isLiveDataset": "cr:isLiveDataset",
    "jsonPath": "cr:jsonPath",
    "key": "cr:key",
    "md5": "cr:md5",
    "parentField": "cr:parentField",
    "path": "cr:path",
    "prov": "http://www.w3.org/ns/prov#",
    "rai": "http://mlcommons.org/croissant/RAI/",
    "recordSet": "cr:recordSet",
    "references": "cr:references",
    "regex": "cr:regex",
    "repeated": "cr:repeated",
    "replace": "cr:replace",
    "samplingRate": "cr:samplingRate",
    "sc": "https://schema.org/",
    "separator": "cr:separator",
    "source": "cr:source",
    "subField": "cr:subField",
    "transform": "cr:transform",
}


@dataclass(frozen=True)
class _File:
    """What is known of a shard's file."""

    digest: str
    name: str
    bytes: int | None = None
    rows: int | None = None

    @property
    def suffix(self) -> str:
        return PurePosixPath(self.name).suffix.lower()

    @property
    def encoding(self) -> list[str]:
        return list(_ENCODINGS.get(self.suffix, _OTHER))


def croissant(session: Session, dataset: str) -> dict[str, Any]:
    """The metadata as JSON-LD.

    Args:
        session: The ledger.
        dataset: Digest, prefix of one, id, name or alias.

    Raises:
        UsageError: The dataset is not known, or lists no shards.
    """
    graph = session.graph
    node = graph.find(dataset, kind=DATASET)
    listed = dataset_shards(graph, node, Caps(shards=_MAX_FILES))
    name = one_line(listed["name"] or listed["id"])
    if not listed["listed"]:
        raise UsageError(
            "no_shards",
            expected=f"the shards of {name}",
            found="none listed",
            remedy="Link a record that lists its files.",
        )
    behind = runs_behind(session, [node])
    files = _files(session, behind, [one["digest"] for one in listed["shards"]])
    entries = session.ledger.entries()
    found: dict[str, Any] = {"@context": dict(_CONTEXT), "@type": "sc:Dataset", "name": name, "conformsTo": list(CONFORMS_TO)}
    found |= {"description": _description(name, listed), "version": f"0.0.{session.head.size}"}
    found |= {"datePublished": entries[-1][2].time, "identifier": one_line(listed["id"])}
    found |= {"distribution": [*(_file_object(one) for one in files), *_file_sets(files)]}
    found |= {"recordSet": _record_sets(files, behind)}
    return {**found, **_provenance(session, node, behind), **_responsible(behind)}


def _files(session: Session, runs: Sequence[Run], digests: Sequence[str]) -> list[_File]:
    """The shards as files, with the names and sizes that runs recorded; a digest stands in for a name nobody gave."""
    graph, wanted = session.graph, set(digests)
    labels = {graph.shards[at]: label for at, label in graph.labels.items()}
    known = {one: _File(one, _leaf(labels.get(one), one)) for one in digests}
    for _, _, manifest in runs:
        table = session.ledger.read_table(manifest.shards.object, SHARDS, columns=["shard", "bytes", "rows", "paths"])
        for row in table.to_pylist():
            digest = digest_name(row["shard"])
            if digest in wanted:
                path = row["paths"][0] if row["paths"] else labels.get(digest)
                known[digest] = _File(digest, _leaf(path, digest), row["bytes"], row["rows"])
        if manifest.cleaned is not None:
            for row in session.ledger.read_table(manifest.cleaned.object, CLEANED).to_pylist():
                digest = digest_name(row["shard"])
                if digest in wanted and known[digest].bytes is None:
                    known[digest] = _File(digest, _leaf(row["path"], digest), None, row["rows"])
    return [known[one] for one in digests]


def _leaf(path: str | None, digest: str) -> str:
    """The last part of a path: where files lie on the scanning machine is nobody's business."""
    return one_line(PurePosixPath(path).name if path else digest.removeprefix("sha256:"))


def _file_object(one: _File) -> dict[str, Any]:
    encoding = one.encoding
    found: dict[str, Any] = {"@type": "cr:FileObject", "@id": one.digest, "name": one.name, "contentUrl": one.name}
    found |= {"encodingFormat": encoding[0] if len(encoding) == 1 else encoding, "sha256": one.digest.removeprefix("sha256:")}
    if one.bytes is not None:
        found["contentSize"] = f"{one.bytes} B"
    return found | ({"description": f"{one.rows} rows"} if one.rows is not None else {})


def _file_sets(files: Sequence[_File]) -> list[dict[str, Any]]:
    """One set for each kind of file, so that a field has one source whatever the number of shards."""
    found = []
    for suffix in sorted({one.suffix for one in files}):
        mine = [one for one in files if one.suffix == suffix]
        encoding = mine[0].encoding
        said: dict[str, Any] = {"@type": "cr:FileSet", "@id": _set_id(suffix), "name": _set_id(suffix)}
        said |= {"encodingFormat": encoding[0] if len(encoding) == 1 else encoding}
        # Not `containedIn`: that would say that the files are archives.
        found.append({**said, "includes": sorted({glob.escape(one.name) for one in mine})})
    return found


def _set_id(suffix: str) -> str:
    return f"shards{suffix.replace('.', '-')}" if suffix else "shards"


def _record_sets(files: Sequence[_File], runs: Sequence[Run]) -> list[dict[str, Any]]:
    reader = runs[-1][2].reader if runs else {}
    fields = [("text", reader.get("text_field") or "text")]
    # Only columns that are known to be there: a run does not record whether rows had ids of their own.
    if not reader.get("source") and any(source for _, _, manifest in runs for source in manifest.sources):
        fields.append(("source", reader.get("source_field") or "source"))
    said = {"text": "The text of the row.", "source": "Where the row came from."}
    found = []
    for suffix in sorted({one.suffix for one in files}):
        name = f"rows{suffix.replace('.', '-')}" if suffix else "rows"
        columns = [
            {
                "@type": "cr:Field",
                "@id": f"{name}/{key}",
                "name": key,
                "description": said[key],
                "dataType": "sc:Text",
                "source": {"fileSet": {"@id": _set_id(suffix)}, "extract": {"column": one_line(column)}},
            }
            for key, column in fields
        ]
        found.append({"@type": "cr:RecordSet", "@id": name, "name": name, "description": "One record a row.", "field": columns})
    return found


def _description(name: str, listed: Mapping[str, Any]) -> str:
    omitted = f" {listed['omitted']} more shards are not listed here." if listed["omitted"] else ""
    return f"{name}: {listed['listed']} shards, named by SHA-256; root over all of them {listed['root']}.{omitted}"


def _provenance(session: Session, node: int, runs: Sequence[Run]) -> dict[str, Any]:
    """W3C PROV: what it was derived from, and the runs that made or scanned it."""
    graph = session.graph
    ancestry = read_ancestry(graph, node)
    parents = [at for at in ancestry.edges if graph.edges.child[at] == node and graph.kind[graph.edges.parent[at]] == DATASET]
    derived = [
        {
            "@id": f"urn:forebear:{one_line(graph.ids[graph.edges.parent[at]])}",
            "prov:label": one_line(graph.name(int(graph.edges.parent[at])) or graph.ids[graph.edges.parent[at]]),
            "prov:type": RULES[graph.edges.rule[at]].relation.value,
        }
        for at in parents
    ]
    activities = [
        {
            "@id": f"urn:forebear:run:{digest}",
            "@type": "prov:Activity",
            "prov:label": f"forebear scan {digest}",
            "prov:startedAtTime": manifest.started,
            "prov:endedAtTime": manifest.finished,
        }
        for _, digest, manifest in runs
    ]
    found: dict[str, Any] = {"prov:wasDerivedFrom": derived} if derived else {}
    return {**found, "prov:wasGeneratedBy": activities} if activities else found


def _responsible(runs: Sequence[Run]) -> dict[str, Any]:
    """Croissant RAI: what was done to the rows, by what, and what is not known."""
    done, tools = [], []
    for _, digest, manifest in runs:
        rows = manifest.rows
        counts = ", ".join(f"{name} {count}" for name, count in sorted(manifest.reasons.items())) or "none"
        policy = f"policy {manifest.policy_digest}, {rows['in']} rows in, {rows['kept']} kept, {rows['dropped']} dropped"
        done.append(f"forebear scan {digest}: {policy}, {rows['errored']} errored; reasons: {counts}.")
        tools += [f"{one_line(one.name)} {one_line(one.version)} ({one.category}), {one.digest}" for one in manifest.detectors]
    limits = [] if runs else ["No scan of these shards is recorded."]
    limits += ["Languages, licences, personal data and how the texts were collected are not recorded in the ledger."]
    found: dict[str, Any] = {"rai:dataLimitations": limits}
    found |= {"rai:dataPreprocessingProtocol": done} if done else {}
    found |= {"rai:machineAnnotationTools": sorted(set(tools))} if tools else {}
    return found
