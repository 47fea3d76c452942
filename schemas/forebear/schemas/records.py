"""The records at rest that are not tables: run manifests, entries and the head.

Always true here: a record's bytes are canonical JSON (the head has its own text), parsing is strict, and parsing what was
written gives the record back. Nothing here reads a clock or a file.
"""

from __future__ import annotations

import base64
import binascii
import dataclasses
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from forebear.schemas.canonical import canonical_json, parse_json
from forebear.schemas.digests import is_digest, leaf_hash
from forebear.schemas.enums import EntryKind
from forebear.schemas.errors import IntegrityError

_SIGNATURES = re.compile(r"(?:— [^\s+]+ [A-Za-z0-9+/]+={0,2}\n)+")

__all__ = ["DetectorRecord", "Entry", "Head", "ObjectRef", "RunManifest", "Threshold", "run_digest_leaves"]


@dataclass(frozen=True)
class ObjectRef:
    """An object of the ledger, by digest, with its size in bytes and its rows (tables)."""

    object: str
    bytes: int
    rows: int


@dataclass(frozen=True)
class Threshold:
    """What is done from which score on; scores in 1/1024 (`tables.GRID`)."""

    flag: int
    drop: int
    action: str  # drop, flag


@dataclass(frozen=True)
class DetectorRecord:
    """A detector of a run, with the thresholds that were in force; key "" of `thresholds` is every other source."""

    digest: str
    name: str
    category: str
    version: str
    reason: str
    parameters: Mapping[str, Any]
    thresholds: Mapping[str, Threshold]
    false_positive_rate: Mapping[str, str] | None = None  # {"rate": decimal, "on": data set, "flag": decimal}

    def threshold(self, source: str | None) -> Threshold:
        """The threshold in force for rows of a source."""
        return self.thresholds.get(source or "", self.thresholds[""])


@dataclass(frozen=True)
class RunManifest:
    """One scan: inputs, policy, detectors, log, reconciliation. Its object digest names the run."""

    run_digest: str
    version: str
    policy: Mapping[str, Any]
    policy_digest: str
    detectors: tuple[DetectorRecord, ...]
    signature: Mapping[str, Any] | None
    reader: Mapping[str, Any]
    against: tuple[str, ...]
    rows: Mapping[str, int]  # in, kept, dropped, errored
    reasons: Mapping[str, int]
    sources: Mapping[str, Mapping[str, int]]  # per source: in, kept, dropped, errored
    shards: ObjectRef
    flagged: ObjectRef
    cleaned: ObjectRef | None
    log: tuple[ObjectRef, ...]
    bands: tuple[ObjectRef, ...]
    absence_root: str | None
    incomplete: tuple[Mapping[str, Any], ...]  # {"path", "shard" or null, "why"}
    overflow: tuple[Mapping[str, Any], ...]  # large buckets whose comparisons hit the budget
    curve: tuple[Mapping[str, str], ...]  # {"jaccard", "probability"}
    started: str
    finished: str
    environment: Mapping[str, Any]

    def to_bytes(self) -> bytes:
        """Canonical JSON."""
        return canonical_json({"schema": "forebear/run/1", **dataclasses.asdict(self)})

    @classmethod
    def from_bytes(cls, data: bytes) -> RunManifest:
        """Parse strictly.

        Raises:
            IntegrityError: The bytes are not a run manifest in canonical form.
        """
        try:
            value = parse_json(data)
            if value.pop("schema", None) != "forebear/run/1":
                raise ValueError("schema is not forebear/run/1")
            value["detectors"] = tuple(_detector(one) for one in value["detectors"])
            for name in ("shards", "flagged", "cleaned"):
                value[name] = None if value[name] is None and name == "cleaned" else ObjectRef(**value[name])
            for name in ("log", "bands"):
                value[name] = tuple(ObjectRef(**one) for one in value[name])
            for name in ("against", "incomplete", "overflow", "curve"):
                value[name] = tuple(value[name])
            manifest = cls(**value)
            if manifest.to_bytes() != data:
                raise ValueError("not in canonical form")
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
            raise _not_a("run manifest", error) from error
        return manifest


def _detector(value: dict[str, Any]) -> DetectorRecord:
    value["thresholds"] = {source: Threshold(**one) for source, one in value["thresholds"].items()}
    return DetectorRecord(**value)


@dataclass(frozen=True)
class Entry:
    """One entry of the ledger's append-only list: what kind, which object, when, and a few facts for listings."""

    kind: EntryKind
    object: str
    time: str
    facts: Mapping[str, Any] = field(default_factory=dict)

    def to_bytes(self) -> bytes:
        """Canonical JSON; RFC 6962 leaves of the head are taken over these bytes."""
        value = {"kind": self.kind.value, "object": self.object, "time": self.time, "facts": dict(self.facts)}
        return canonical_json({"schema": "forebear/entry/1", **value})

    @classmethod
    def from_bytes(cls, data: bytes) -> Entry:
        """Parse strictly.

        Raises:
            IntegrityError: The bytes are not an entry in canonical form.
        """
        try:
            value = parse_json(data)
            entry = cls(EntryKind(value["kind"]), value["object"], value["time"], value["facts"])
            if not is_digest(entry.object) or entry.to_bytes() != data:
                raise ValueError("not in canonical form")
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
            raise _not_a("ledger entry", error) from error
        return entry


@dataclass(frozen=True)
class Head:
    """Size and root of the list of entries, as the body of a C2SP checkpoint (origin, size, root in base64)."""

    size: int
    root: bytes

    ORIGIN = "forebear/ledger/1"

    def to_bytes(self) -> bytes:
        """Three lines; signatures follow after an empty line where there are any."""
        return f"{self.ORIGIN}\n{self.size}\n{base64.b64encode(self.root).decode()}\n".encode()

    def to_json(self) -> dict[str, object]:
        """As answers carry it."""
        return {"size": self.size, "root": "sha256:" + self.root.hex()}

    @classmethod
    def from_bytes(cls, data: bytes) -> Head:
        """Parse strictly; after an empty line nothing but signature lines may follow, and they are not looked into.

        Raises:
            IntegrityError: The bytes are no head in canonical form.
        """
        body = data.partition(b"\n\n")
        text = body[0] + (b"\n" if body[1] else b"")
        try:
            if body[1] and not _SIGNATURES.fullmatch(body[2].decode()):
                raise ValueError("something else than signature lines after the empty line")
            found = re.fullmatch(rb"([^\n]+)\n(0|[1-9][0-9]*)\n([A-Za-z0-9+/=]+)\n", text)
            if found is None or found[1].decode() != cls.ORIGIN:
                raise ValueError("not three lines of origin, size and root")
            head = cls(int(found[2]), base64.b64decode(found[3], validate=True))
            if len(head.root) != 32 or head.to_bytes() != text:
                raise ValueError("not in canonical form")
        except (ValueError, binascii.Error) as error:
            raise _not_a("ledger head", error) from error
        return head


def run_digest_leaves(*, scope: Mapping[str, Any], shards: list[tuple[str, str, int, str]]) -> list[bytes]:
    """The leaves whose RFC 6962 root is a run digest.

    Args:
        scope: What leaf 0 covers: policy, detectors, signature, reader, against.
        shards: (shard digest, source, rows, part root), in any order; repetitions count once.
    """
    leaves = [leaf_hash(canonical_json(scope))]
    leaves += [leaf_hash(canonical_json(list(shard))) for shard in sorted(set(shards))]
    return leaves


def _not_a(what: str, error: Exception) -> IntegrityError:
    return IntegrityError(
        "malformed_record",
        expected=f"a {what} in canonical form",
        found=f"{type(error).__name__}: {str(error)[:200]}",
        remedy="Restore the object from a copy of the ledger; `forebear verify --full` names what else is damaged.",
    )
