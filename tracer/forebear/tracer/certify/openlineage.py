"""OpenLineage run event (2-0-2) of a scan: its shards in, its cleaned shards out, its policy and reconciliation as a facet.

Always true here: datasets are named by the SHA-256 of their bytes, so that producers that call them otherwise join (paths stand beside
as symlinks); the run's id is derived from its manifest's digest, so that the same run gives the same event; what is past a cap is
counted in our own facet.
"""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, Any

from forebear.schemas.digests import digest_name
from forebear.schemas.tables import CLEANED, SHARDS
from forebear.tracer.certify.escape import one_line

if TYPE_CHECKING:
    from forebear.schemas.records import RunManifest
    from forebear.tracer.audit.session import Session

__all__ = ["PRODUCER", "SCHEMA_URL", "run_event"]

PRODUCER = "urn:forebear"
SCHEMA_URL = "https://openlineage.io/spec/2-0-2/OpenLineage.json#/$defs/RunEvent"
_FACETS = "https://openlineage.io/spec/facets"
_OWN_FACET = "urn:forebear:facet:scan:1"
_MAX_DATASETS = 10_000


def run_event(session: Session, run: str) -> dict[str, Any]:
    """The COMPLETE event of a run.

    Args:
        session: The ledger.
        run: A run's digest, or a prefix of one.

    Raises:
        UsageError: The run is not known, or several are meant.
    """
    _, digest, manifest = session.ledger.find_run(run)
    shards = session.ledger.read_table(manifest.shards.object, SHARDS, columns=["shard", "rows", "bytes", "paths"]).to_pylist()
    cleaned = [] if manifest.cleaned is None else session.ledger.read_table(manifest.cleaned.object, CLEANED).to_pylist()
    omitted = {"inputs": max(0, len(shards) - _MAX_DATASETS), "outputs": max(0, len(cleaned) - _MAX_DATASETS)}
    run_id = uuid.uuid5(uuid.NAMESPACE_URL, f"urn:forebear:run:{digest}")
    return {
        "eventType": "COMPLETE",
        "eventTime": manifest.finished,
        "producer": PRODUCER,
        "schemaURL": SCHEMA_URL,
        "run": {"runId": str(run_id), "facets": _run_facets(digest, manifest, omitted)},
        "job": {"namespace": "forebear", "name": "scan", "facets": {"jobType": _job_type()}},
        "inputs": [_input(row) for row in shards[:_MAX_DATASETS]],
        "outputs": [_output(row) for row in cleaned[:_MAX_DATASETS]],
    }


def _facet(url: str, **fields: Any) -> dict[str, Any]:
    return {"_producer": PRODUCER, "_schemaURL": url, **fields}


def _standard(release: str, title: str, /, **fields: Any) -> dict[str, Any]:
    return _facet(f"{_FACETS}/{release}/{title}.json#/$defs/{title}", **fields)


def _job_type() -> dict[str, Any]:
    return _standard("2-0-3", "JobTypeJobFacet", processingType="BATCH", integration="FOREBEAR", jobType="SCAN")


def _run_facets(digest: str, manifest: RunManifest, omitted: dict[str, int]) -> dict[str, Any]:
    detectors = [{"name": one_line(one.name), "class": one.category, "digest": one.digest} for one in manifest.detectors]
    scan = _facet(
        _OWN_FACET,
        run=digest,
        runDigest=manifest.run_digest,
        policy=manifest.policy_digest,
        detectors=detectors,
        rows=dict(manifest.rows),
        reasons=dict(manifest.reasons),
        incomplete=len(manifest.incomplete),
        omitted=omitted,
    )
    engine = _standard("1-1-1", "ProcessingEngineRunFacet", version=manifest.version, name="forebear")
    times = _standard("1-0-1", "NominalTimeRunFacet", nominalStartTime=manifest.started, nominalEndTime=manifest.finished)
    return {"nominalTime": times, "processing_engine": engine, "forebear_scan": scan}


def _dataset(raw: bytes, paths: list[str]) -> dict[str, Any]:
    digest = digest_name(raw)
    facets = {"version": _standard("1-0-1", "DatasetVersionDatasetFacet", datasetVersion=digest)}
    if paths:
        known = [{"namespace": "file", "name": one_line(path, limit=4096), "type": "FILE"} for path in paths]
        facets["symlinks"] = _standard("1-0-1", "SymlinksDatasetFacet", identifiers=known)
    return {"namespace": "sha256", "name": digest.removeprefix("sha256:"), "facets": facets}


def _input(row: dict[str, Any]) -> dict[str, Any]:
    metrics = _standard("1-0-2", "DataQualityMetricsInputDatasetFacet", rowCount=row["rows"], bytes=row["bytes"], columnMetrics={})
    return {**_dataset(row["shard"], row["paths"]), "inputFacets": {"dataQualityMetrics": metrics}}


def _output(row: dict[str, Any]) -> dict[str, Any]:
    statistics = _standard("1-0-2", "OutputStatisticsOutputDatasetFacet", rowCount=row["rows"])
    return {**_dataset(row["shard"], [row["path"]]), "outputFacets": {"outputStatistics": statistics}}
