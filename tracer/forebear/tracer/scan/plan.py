"""The plan of a scan: everything its steps share, fixed before the first of them runs.

Always true here: a plan is the same in every worker; it holds parameters and places, never data; what enters the run digest is
in `scope` and nowhere else.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from forebear.schemas.canonical import canonical_json
from forebear.schemas.digests import sha256_name
from forebear.schemas.enums import Category, Reason
from forebear.schemas.errors import UsageError
from forebear.schemas.records import DetectorRecord
from forebear.schemas.tables import GRID
from forebear.tracer import policy as policies
from forebear.tracer.corpus.inputs import ReaderOptions
from forebear.tracer.dedupe.shingles import ShingleOptions
from forebear.tracer.dedupe.signatures import SignatureOptions
from forebear.tracer.detect.benchmark_match import FLOOR
from forebear.tracer.detect.benchmarks import BenchmarkLeaks
from forebear.tracer.detect.custom import load_detector
from forebear.tracer.detect.denylists import Denylist, Likeness
from forebear.tracer.detect.detector import Detector
from forebear.tracer.detect.second_tier import SecondTier
from forebear.tracer.detect.toxicity import Toxicity
from forebear.tracer.policy import Policy, grid

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
        against: Earlier runs whose documents precede all others, as sorted (run digest, manifest's digest).
    """

    job: str
    ledger: str
    work: str
    policy: Policy
    reader: ReaderOptions
    clean: str | None = None
    against: tuple[tuple[str, str], ...] = ()

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
            "against": [run_digest for run_digest, _ in self.against],
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
        names = ("job", "ledger", "work", "policy", "reader", "clean", "against")
        return {name: getattr(self, name) for name in names}


def signature_options(policy: Policy) -> SignatureOptions | None:
    """How documents are signed under a policy."""
    d = policy.duplicates
    if d.action == "off":
        return None
    return SignatureOptions(ngram=d.ngram, characters=d.characters, bands=d.bands, rows=d.rows, seed=d.seed)


def build_detectors(policy: Policy) -> tuple[tuple[Detector, DetectorRecord], ...]:
    """The detectors that a policy asks for, in the order in which they judge.

    Raises:
        UsageError: A model or a list cannot be loaded, or two tables of the policy make the same detector.
    """
    key = (policy.digest, repr(policy))
    if key not in _BUILT:
        _BUILT.clear()
        _BUILT[key] = _build(policy)
    return _BUILT[key]


_BUILT: dict[tuple[str, str], tuple[tuple[Detector, DetectorRecord], ...]] = {}
"""The detectors that this process made last: every step of a scan has a plan of its own, and a model is large."""


def _build(policy: Policy) -> tuple[tuple[Detector, DetectorRecord], ...]:
    found = [_recorded(detector, part, policy) for detector, part in _made(policy)]
    digests = [record.digest for _, record in found]
    for n, (detector, record) in enumerate(found):
        if record.digest in digests[:n]:
            raise UsageError(
                "same_detector_twice",
                expected="every table of the policy to make another detector",
                found=f"{detector.name} twice, with the same parameters",
                remedy="Take one of them out.",
            )
    return tuple(found)


def detector_records(policy: Policy) -> tuple[DetectorRecord, ...]:
    """The records of a policy's detectors."""
    return tuple(record for _, record in build_detectors(policy))


def _made(policy: Policy) -> Iterator[tuple[Detector, Any]]:
    """Every detector with the part of the policy that asks for it; those that are off are not made."""
    t = policy.toxicity
    if t.action != "off":
        first = Toxicity(model=t.model, labels=t.labels, split=t.split, window=t.window)
        yield first, t
        if t.detoxify is not None:
            yield _second_tier(first, t.detoxify), t.detoxify
    for b in policy.benchmarks:
        if b.action != "off":
            _require_reported(b)
            given = {"question": b.question, "answer": b.answer, "passage": b.passage}
            yield BenchmarkLeaks(name=b.name, split=b.split, path=b.path, **given), b
    d = policy.duplicates
    likeness = Likeness(d.threshold, ShingleOptions(d.ngram, d.characters))
    for one in policy.denylists:
        if one.action != "off":
            yield Denylist(one.path, one.kind, reason=one.reason, authority=one.authority, likeness=likeness), one
    for own in policy.detectors:
        if own.action != "off":
            yield load_detector(own.use, own.options), own


def _second_tier(first: Toxicity, part: policies.Detoxify) -> Detector:
    from forebear.tracer.detect.detoxify import Detoxify  # needs the extra `detoxify`

    asked = SecondTier(
        checkpoint=part.checkpoint,
        config=part.config,
        suspicious=grid(part.suspicious),
        sample=part.sample,
        device=part.device,
    )
    return Detoxify(first, asked)


_REASONS = {Category.TOXICITY: Reason.TOXIC, Category.BENCHMARK: Reason.BENCHMARK_LEAK, Category.DENYLIST: Reason.DENYLISTED}


def _recorded(detector: Detector, part: Any, policy: Policy) -> tuple[Detector, DetectorRecord]:
    own = isinstance(part, policies.Custom)
    record = DetectorRecord(
        digest=detector.digest,
        name=detector.name,
        category=detector.category,
        version=detector.version,
        reason=detector.name if own else _REASONS[Category(detector.category)].value,
        parameters=dict(detector.parameters),
        thresholds=policy.part_thresholds(part),
        false_positive_rate=getattr(detector, "false_positive_rate", None),
    )
    return detector, record


def _require_reported(part: policies.Benchmark) -> None:
    """Shares below the floor are not reported, so that a threshold there would miss in silence."""
    if grid(part.flag) < FLOOR:
        raise UsageError(
            "impossible_threshold",
            expected=f"benchmarks.flag from {FLOOR / GRID} on, below which nothing is reported",
            found=f"{part.flag} for {part.name}",
            remedy="Raise flag.",
        )
