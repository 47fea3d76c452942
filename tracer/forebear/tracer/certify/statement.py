"""The birth certificate: an in-toto Statement v1 about a model's files, made from a session's answers.

Always true here: the same ledger at the same head, the same model and the same files give the same bytes (times are those of the
ledger, decimals are texts); every list that was cut says how much is missing; no text of a corpus and no path of this machine is
in it. The predicate's fields are those of `certificate.schema.json` in `forebear.schemas`.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from forebear.schemas.canonical import canonical_json
from forebear.schemas.digests import digest_name, leaf_hash
from forebear.schemas.errors import IntegrityError, UsageError
from forebear.tracer.certify.ancestry import Caps, dataset_shards, read_ancestry
from forebear.tracer.certify.escape import decimal
from forebear.tracer.certify.folder import LEFT_OUT, ModelFolder, signing_root
from forebear.tracer.ledger.merkle import audit_paths

if TYPE_CHECKING:
    from forebear.schemas.records import DetectorRecord
    from forebear.tracer.audit.asked import Run
    from forebear.tracer.audit.session import Session

__all__ = [
    "FROM_LEDGER",
    "PREDICATE_TYPE",
    "STATEMENT_TYPE",
    "claims",
    "described",
    "runs_behind",
    "statement",
    "statement_bytes",
    "subjects_of",
]

STATEMENT_TYPE = "https://in-toto.io/Statement/v1"
PREDICATE_TYPE = "urn:forebear:birth-certificate:1"
SCHEMA = "forebear/certificate/1"

FROM_LEDGER: tuple[str, ...] = (
    "model", "verdict", "at_worst", "complete", "verdicts", "at_worsts", "asked", "exposures", "unknown", "first_exposed",
    "last_unexposed", "said_otherwise", "ancestry", "datasets", "runs", "advisories", "heads", "as_of", "proofs",
)  # fmt: skip
"""The predicate's fields that follow from the ledger alone; whoever has it can compute them again."""


@dataclass(frozen=True)
class Limits:
    """How many exposures, unknowns and proofs a certificate lists."""

    answers: int = 10_000
    proofs: int = 2_000


def claims(session: Session, model: str, *, caps: Caps | None = None, limits: Limits | None = None) -> dict[str, Any]:
    """What the ledger says of a model: the fields of `FROM_LEDGER`, floats as decimal text.

    Args:
        session: The ledger, opened at a head.
        model: Digest, prefix of one, id, name or alias.
        caps: How much of the ancestry is listed.
        limits: How many answers and proofs are listed.

    Raises:
        UsageError: The model is not known, or several are meant.
    """
    caps, limits = caps or Caps(), limits or Limits()
    graph = session.graph
    node = graph.find(model)
    trace = session.walker(session.default).trace(node)
    ancestry = read_ancestry(graph, node)
    answer = trace.to_json(session.context(session.default))
    notes = session.notes(trace)
    advisories = notes.pop("advisories", [])
    datasets = ancestry.datasets(graph)
    runs = runs_behind(session, datasets)
    found: dict[str, Any] = {"model": {**answer["model"], "digest": graph.digests.get(node)}}
    found |= {name: answer[name] for name in ("verdict", "at_worst", "complete", "verdicts", "at_worsts", "asked")}
    found |= {name: _cut(answer[name], limits.answers) for name in ("exposures", "unknown", "first_exposed", "last_unexposed")}
    found |= {"said_otherwise": notes, "ancestry": ancestry.to_json(graph, caps)}
    found |= {"datasets": [{**dataset_shards(graph, one, caps), "rows": _rows(session, one)} for one in datasets]}
    found |= {"runs": [_run(one) for one in runs]}
    entries = session.ledger.entries()
    head = session.head.to_json()
    time = entries[-1][2].time if entries else None
    found |= {"advisories": advisories, "heads": [head], "as_of": {"head": head["size"], "time": time}}
    behind = {one[0] for one in runs} | ancestry.entries(graph) | {one["entry"] for one in advisories}
    found |= {"proofs": _proofs(entries, sorted(behind), limits.proofs)}
    plain: dict[str, Any] = decimal(found)
    return plain


def described(claimed: dict[str, Any]) -> dict[str, Any]:
    """The predicate without files, for documents that need none."""
    return {"schema": SCHEMA, "forebear": version("forebear"), **claimed, "files": None, "documents": {}}


def statement(claimed: dict[str, Any], *, folder: ModelFolder | None = None, documents: dict[str, str] | None = None) -> dict[str, Any]:
    """The in-toto statement.

    Args:
        claimed: What `claims` gave.
        folder: The model's files, where they are at hand.
        documents: Digests of what is released beside the certificate, by name.

    Raises:
        UsageError: There is no file and no recorded digest that the statement could be about.
        IntegrityError: The files are not those that the ledger records.
    """
    name = claimed["model"]["name"] or claimed["model"]["id"]
    recorded = claimed["model"]["digest"]
    if folder is None:
        if recorded is None:
            raise UsageError(
                "no_subject",
                expected=f"the files of {name}, or a digest of its weights in the ledger",
                found="neither",
                remedy="Give --model-dir DIR, or link a record with the model's digest.",
            )
        files, subjects = None, [_subject(name, recorded)]
    else:
        _require_weights(name, folder, recorded)
        files = _files(folder, recorded)
        subjects = subjects_of(name, files["listed"])
    predicate = {**described(claimed), "files": files, "documents": documents or {}}
    return {"_type": STATEMENT_TYPE, "subject": subjects, "predicateType": PREDICATE_TYPE, "predicate": predicate}


def statement_bytes(value: dict[str, Any]) -> bytes:
    """The statement as it is signed: canonical JSON."""
    return canonical_json(value)


def subjects_of(name: str, files: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The subjects that a predicate's list of files gives: every file of weights, then the root under the model's name."""
    weights = [_subject(one["path"], one["digest"]) for one in files if one["weights"]]
    return [*weights, _subject(name, signing_root([(one["path"], one["digest"]) for one in files]))]


def _subject(name: str, digest: str) -> dict[str, Any]:
    return {"name": name, "digest": {"sha256": digest.removeprefix("sha256:")}}


def _require_weights(name: str, folder: ModelFolder, recorded: str | None) -> None:
    if not folder.weights:
        raise UsageError(
            "no_weights",
            expected="files of weights in the model's folder",
            found=", ".join(one.path for one in folder.files[:5]) or "no file",
            remedy="Name the folder that holds them; their names end as weights do (.safetensors, .gguf, .bin, ...).",
        )
    if recorded is not None and recorded not in (folder.root, folder.weights_digest):
        raise IntegrityError(
            "other_weights",
            expected=f"the weights that the ledger records for {name}: {recorded}",
            found=f"{folder.weights_digest} over {', '.join(one.path for one in folder.weights[:5])}",
            remedy="Name the folder of that model; or, if these are its weights, link a record with their digest.",
        )


def _files(folder: ModelFolder, recorded: str | None) -> dict[str, Any]:
    listed = [{"path": one.path, "bytes": one.bytes, "digest": one.sha256, "weights": one.weights} for one in folder.files]
    return {
        "root": folder.root,
        "method": "model-signing 1.1, files, sha256",
        "left_out": list(LEFT_OUT),
        "weights": folder.weights_digest,
        "recorded": recorded,
        "listed": listed,
    }


def _cut(items: list[Any], limit: int) -> dict[str, Any]:
    return {"listed": items[:limit], "omitted": max(0, len(items) - limit)}


def _rows(session: Session, dataset: int) -> int | None:
    """Rows that a dataset lists, or None where a shard of it was never counted."""
    from forebear.tracer.audit.rows import segments_of

    total = 0
    for shard, ranges in segments_of(session.graph, dataset, None):
        place = session.scans.shard(session.graph.shards[shard])
        if ranges is None and place < 0:
            return None
        total += int(session.scans.rows[place]) if ranges is None else sum(last - first for first, last in ranges)
    return total


def runs_behind(session: Session, datasets: Sequence[int]) -> list[Run]:
    """Runs that scanned, or wrote, a shard of some datasets, oldest first."""
    graph, scans = session.graph, session.scans
    shards = {int(one) for dataset in datasets for one in graph.listed_of(dataset)[:, 1]}
    places = {scans.shard(graph.shards[one]) for one in shards} - {-1}
    wrote = {run for place in places for run, _ in scans.derived.get(place, ())}
    return [one for number, one in enumerate(session.runs) if number in wrote or not places.isdisjoint(scans.scanned(number).tolist())]


def _run(run: Run) -> dict[str, Any]:
    entry, digest, manifest = run
    rows = dict(manifest.rows)
    found: dict[str, Any] = {"run": digest, "run_digest": manifest.run_digest, "entry": entry, "version": manifest.version}
    found |= {"started": manifest.started, "finished": manifest.finished, "shards": manifest.shards.rows}
    found |= {"policy_digest": manifest.policy_digest, "policy": dict(manifest.policy)}
    found |= {"detectors": [_detector(one) for one in manifest.detectors]}
    found |= {"rows": rows, "reconciled": rows["in"] == rows["kept"] + rows["dropped"] + rows["errored"]}
    return found | {"reasons": dict(manifest.reasons), "incomplete": len(manifest.incomplete), "overflow": len(manifest.overflow)}


def _detector(record: DetectorRecord) -> dict[str, Any]:
    thresholds = {source: {"flag": one.flag, "drop": one.drop, "action": one.action} for source, one in record.thresholds.items()}
    found: dict[str, Any] = {"digest": record.digest, "name": record.name, "class": record.category, "version": record.version}
    rate = None if record.false_positive_rate is None else dict(record.false_positive_rate)
    return {**found, "thresholds": thresholds, "false_positive_rate": rate}


def _proofs(entries: list[tuple[int, bytes, Any]], wanted: list[int], limit: int) -> dict[str, Any]:
    """That the entries behind the answers are in the head: entry bytes and audit paths (RFC 6962, 2.1.1)."""
    shown = wanted[:limit]
    leaves = [leaf_hash(data) for _, data, _ in entries]
    listed = [
        {"entry": n, "data": base64.b64encode(entries[n][1]).decode(), "path": [digest_name(one) for one in path]}
        for n, path in zip(shown, audit_paths(leaves, shown), strict=True)
    ]
    return {"size": len(entries), "listed": listed, "omitted": len(wanted) - len(shown)}
