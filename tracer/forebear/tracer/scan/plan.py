"""The plan of a scan: everything its steps share, fixed before the first of them runs.

Always true here: a plan is the same in every worker; it holds parameters and places, never data; what enters the run digest is
in `scope` and nowhere else.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from forebear.schemas.canonical import canonical_json
from forebear.schemas.digests import sha256_name
from forebear.schemas.enums import Reason
from forebear.schemas.errors import UsageError
from forebear.schemas.records import DetectorRecord
from forebear.tracer.corpus.inputs import ReaderOptions
from forebear.tracer.dedupe.signatures import SignatureOptions
from forebear.tracer.detect.detector import Detector
from forebear.tracer.detect.toxicity import Toxicity
from forebear.tracer.policy import Policy, thresholds_of

__all__ = ["Plan", "build_detectors", "detector_records", "signature_options"]

EVIDENCE_VERSION = 1
"""Raised when the same bytes, options and detectors would give other evidence."""


@dataclass(frozen=True)
class Plan:
    """What every step of one scan knows.

    Args:
        job: Name of the job, unique in its ledger.
        ledger: Where the ledger is (path or URL).
        work: Where intermediate blocks go (path or URL), shared by all workers.
        policy: The effective policy.
        reader: Options of the reader.
        clean: Folder for cleaned shards, if they are asked for.
    """

    job: str
    ledger: str
    work: str
    policy: Policy
    reader: ReaderOptions
    clean: str | None = None

    @cached_property
    def signature(self) -> SignatureOptions | None:
        """How documents are signed; None where duplicates are not looked for."""
        return signature_options(self.policy)

    @cached_property
    def detectors(self) -> tuple[tuple[Detector, DetectorRecord], ...]:
        """The detectors of the policy with their records; loaded once in a process."""
        return build_detectors(self.policy)

    @property
    def scope(self) -> dict[str, Any]:
        """Leaf 0 of the run digest: policy, detectors, signature, reader, against."""
        return {
            "against": [],
            "detectors": sorted(record.digest for _, record in self.detectors),
            "policy": self.policy.digest,
            "reader": self.reader.to_json(),
            "signature": self.signature.to_json() if self.signature else None,
        }

    @cached_property
    def evidence_key(self) -> str:
        """Names the evidence that can be reused: what, besides a shard's bytes, it depends on (64 hex digits)."""
        key = {name: self.scope[name] for name in ("detectors", "reader", "signature")}
        return sha256_name(canonical_json({"evidence": EVIDENCE_VERSION, **key}))[7:]

    def __getstate__(self) -> dict[str, Any]:
        """Plans travel to workers without the models that were loaded here."""
        names = ("job", "ledger", "work", "policy", "reader", "clean")
        return {name: getattr(self, name) for name in names}


def signature_options(policy: Policy) -> SignatureOptions | None:
    """How documents are signed under a policy."""
    d = policy.duplicates
    if d.action == "off":
        return None
    return SignatureOptions(ngram=d.ngram, characters=d.characters, bands=d.bands, rows=d.rows, seed=d.seed)


def build_detectors(policy: Policy) -> tuple[tuple[Detector, DetectorRecord], ...]:
    """The detectors that a policy asks for.

    Raises:
        UsageError: A model cannot be loaded, or this version has no such detector.
    """
    _refuse_unbuilt(policy)
    found: list[tuple[Detector, DetectorRecord]] = []
    t = policy.toxicity
    if t.action != "off":
        detector = Toxicity(model=t.model, labels=t.labels, split=t.split, window=t.window)
        overrides = {source: own.toxicity for source, own in policy.sources.items()}
        record = DetectorRecord(
            digest=detector.digest,
            name=detector.name,
            category=detector.category,
            version=detector.version,
            reason=Reason.TOXIC,
            parameters=dict(detector.parameters),
            thresholds=thresholds_of(t, overrides),
            false_positive_rate=_measured_rate(detector),
        )
        found.append((detector, record))
    return tuple(found)


def detector_records(policy: Policy) -> tuple[DetectorRecord, ...]:
    """The records of a policy's detectors."""
    return tuple(record for _, record in build_detectors(policy))


def _measured_rate(detector: Toxicity) -> Mapping[str, str] | None:
    rate: Mapping[str, str] | None = getattr(detector, "false_positive_rate", None)
    return rate


def _refuse_unbuilt(policy: Policy) -> None:
    asked = [name for name in ("benchmarks", "denylists", "detectors") if getattr(policy, name)]
    asked += ["toxicity.detoxify"] if policy.toxicity.detoxify else []
    if asked:
        raise UsageError(
            "not_available",
            expected="a policy of [toxicity], [duplicates] and [sources]",
            found=f"[{asked[0]}]",
            remedy="This version has no such detector; take the table out of the policy.",
        )
