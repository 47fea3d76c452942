"""Evidence of contamination from outside: what dolma's attribute files or decon's reports say of documents that the ledger knows.

Always true here: it becomes an advisory, an entry that says whose word it is, and so a class of its own in every verdict: never a scan
of ours, never coverage, and what it does not flag is not thereby clean. Documents enter by digest, found through the log by id or by
file and line; what means no document of the log, or several, is named and left out. No text and no id is kept.
"""

from __future__ import annotations

import hashlib
import io
import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from forebear.schemas.advisory import Advisory
from forebear.schemas.canonical import canonical_json
from forebear.schemas.digests import digest_name, sha256_name
from forebear.schemas.enums import EntryKind
from forebear.schemas.errors import UsageError
from forebear.schemas.records import Entry, Head
from forebear.tracer.lineage.importers.gathered import Gathered, Unresolved
from forebear.tracer.lineage.importers.reading import files, parse_json, text_of

if TYPE_CHECKING:
    from forebear.tracer.audit.session import Session
    from forebear.tracer.ledger.ledger import Ledger

__all__ = ["EVIDENCE", "Flags", "Testimony", "import_evidence"]

_SUFFIXES = (".json", ".jsonl", ".gz", ".zst")
_COMPRESSION = {".gz": "gzip", ".zst": "zstd"}
_MAX_LINE = 16 << 20

_BY_ID = """
SELECT source_id, list(DISTINCT document ORDER BY document) AS documents
FROM audit.decision
WHERE source_id IN (SELECT unnest($ids)) AND document IS NOT NULL
GROUP BY source_id
"""
_BY_ROW = """
SELECT DISTINCT "row", document
FROM audit.decision
WHERE shard = $shard AND "row" IN (SELECT unnest($rows)) AND document IS NOT NULL
"""


@dataclass(frozen=True)
class Flags:
    """What counts as flagged.

    Args:
        attribute: Of dolma: the attribute's name, parts of a nested one joined by dots.
        at_least: Scores from this on are flagged; None: whatever the report lists.
    """

    attribute: str | None = None
    at_least: float | None = None


@dataclass
class _Found:
    """What files flag: ids of documents, and lines of files; where each was said first."""

    ids: dict[str, str] = field(default_factory=dict)
    lines: dict[tuple[str, int], str] = field(default_factory=dict)
    below: int = 0


@dataclass(frozen=True)
class Testimony:
    """Outside evidence as the ledger has it now.

    Args:
        kind: Which files it came from.
        entry: Number of the advisory's entry.
        head: The head with it.
        object: Digest of the advisory.
        advisory: The advisory.
        evidence: The files that were read, by digest.
        below: Records that were read and are not flagged.
        resolved: Flagged records that mean one document of the log.
        by_line: How many of them were found by file and line, where it is assumed that line k is row k: no blank lines.
        unresolved: Those that do not.
        refused: What could not be read.
    """

    kind: str
    entry: int
    head: Head
    object: str
    advisory: Advisory
    evidence: Mapping[str, str]
    below: int
    resolved: int
    by_line: int
    unresolved: tuple[Unresolved, ...]
    refused: tuple[Unresolved, ...]

    def to_json(self) -> dict[str, Any]:
        """The answer of `forebear import --json`."""
        where = {"entry": self.entry, "object": self.object, "head": self.head.to_json()}
        references = {"resolved": self.resolved, "not_recorded": 0, "unresolved": len(self.unresolved)}
        said = {name: getattr(self.advisory, name) for name in ("reason", "authority", "time")}
        lists = {name: [one.to_json() for one in getattr(self, name)] for name in ("unresolved", "refused")}
        counts = {"documents": len(self.advisory.documents), "below": self.below, "references": references}
        counts["assumed"] = {"line k is row k, without blank lines": self.by_line} if self.by_line else {}
        return {
            "schema": "forebear/import/1",
            "kind": self.kind,
            **where,
            **counts,
            "advisory": said,
            "evidence": dict(self.evidence),
            **lists,
        }


def import_evidence(
    ledger: Ledger, session: Session, kind: str, paths: Sequence[str], *, flags: Flags, authority: str | None, time: str
) -> Testimony:
    """Publish what files of a kind flag as an advisory.

    Args:
        ledger: Where.
        session: The same ledger, opened for questions: its log says which documents are meant.
        kind: One of `EVIDENCE`.
        paths: Files and folders.
        flags: What counts as flagged.
        authority: Whose word it is; default: the kind of file.
        time: ISO 8601 in UTC.

    Raises:
        UsageError: Nothing that is flagged means a document of the log, or it is not said what counts as flagged.
    """
    if flags.at_least is not None and not math.isfinite(flags.at_least):
        raise UsageError("bad_score", expected="a score: a number", found=str(flags.at_least), remedy="Give --at-least a number.")
    gathered, found = Gathered(), _Found()
    read: dict[str, str] = {}
    for path in files(gathered, paths, _SUFFIXES):
        for where, value in _records(gathered, path):
            EVIDENCE[kind](gathered, found, value, where=where, flags=flags)
        with path.open("rb") as file:
            read[str(path)] = digest_name(hashlib.file_digest(file, "sha256").digest())
    documents, by_id, by_line = _documents(gathered, session, found)
    if not documents:
        raise _nothing(kind, gathered, found)
    what = f" {flags.attribute}" if flags.attribute else ""
    score = "" if flags.at_least is None else f" at {flags.at_least:g} or above"
    source = sha256_name(canonical_json(sorted(set(read.values()))))
    reason = f"outside evidence, not scanned here: {kind}{what}{score}, {len(read)} files, {source}"
    advisory = Advisory(reason, authority or f"{kind} files, as imported", time, documents=tuple(documents))
    name = ledger.put_object(advisory.to_bytes())
    facts = {
        "imported": kind,
        "documents": len(advisory.documents),
        "unresolved": len(gathered.unresolved),
        "refused": len(gathered.refused),
    }
    head = ledger.append(Entry(EntryKind.ADVISORY, name, time, facts))
    told = tuple(gathered.unresolved), tuple(gathered.refused)
    return Testimony(kind, head.size - 1, head, name, advisory, read, found.below, by_id + by_line, by_line, *told)


def _records(gathered: Gathered, path: Path) -> Iterator[tuple[str, Any]]:
    """JSON objects of a file, one a line; a damaged file gives what comes before the damage, and is named."""
    n = 0
    try:
        with pa.input_stream(str(path), compression=_COMPRESSION.get(path.suffix)) as raw:
            lines = io.BufferedReader(raw)
            while line := lines.readline(_MAX_LINE + 1):
                n += 1
                if len(line) > _MAX_LINE:
                    gathered.refuse(f"{path}:{n}", f"more than {_MAX_LINE} bytes", "a line of JSON is shorter; the rest is not read")
                    return
                value = _parsed(gathered, line, where=f"{path}:{n}") if line.strip() else None
                if value is not None:
                    yield f"{path}:{n}", value
    except (OSError, pa.ArrowException) as error:
        gathered.refuse(f"{path}:{n + 1}", type(error).__name__, f"{' '.join(str(error).split())[:200]}; the rest is not read")


def _parsed(gathered: Gathered, line: bytes, *, where: str) -> Any:
    try:
        return parse_json(gathered, line.decode("utf-8"), where=where)
    except UnicodeDecodeError as error:
        gathered.refuse(where, f"byte {error.start}", "text in UTF-8 is expected")
        return None


def _dolma(gathered: Gathered, found: _Found, value: Any, *, where: str, flags: Flags) -> None:
    """One line of an attribute file: `id`, and `attributes` that are numbers or spans `[start, end, score]`."""
    name = text_of(value.get("id")) if isinstance(value, dict) else None
    attributes = value.get("attributes") if isinstance(value, dict) else None
    if name is None or not isinstance(attributes, dict):
        gathered.refuse(where, type(value).__name__, "an object with `id` and `attributes` is expected")
        return
    if flags.attribute is None or flags.at_least is None:
        told = ", ".join(sorted(attributes)[:10]) or "none in this line"
        raise UsageError(
            "missing_argument",
            expected="--attribute NAME and --at-least SCORE: what counts as contaminated",
            found=f"attributes {told!a}",
            remedy="Say which attribute, and from which score on.",
        )
    score = _score(_nested(attributes, flags.attribute))
    if score is None or score < flags.at_least:
        found.below += 1
    else:
        found.ids.setdefault(name, where)


def _nested(attributes: Mapping[str, Any], name: str) -> Any:
    """An attribute by its whole name, else part by part."""
    if name in attributes:
        return attributes[name]
    at: Any = attributes
    for part in name.split("."):
        at = at.get(part) if isinstance(at, dict) else None
    return at


def _score(value: Any) -> float | None:
    """A number, or the highest score of spans."""
    if isinstance(value, bool):
        return float(value)
    if isinstance(value, int | float):
        return float(value)
    spans = value if isinstance(value, list) else []
    scores = [one[2] for one in spans if isinstance(one, list) and len(one) == 3 and isinstance(one[2], int | float)]
    return max(map(float, scores), default=None)


def _decon(gathered: Gathered, found: _Found, value: Any, *, where: str, flags: Flags) -> None:
    """One line of a report: `training_file` (its name without suffixes), `training_line` from 0, `contamination_score`."""
    name = text_of(value.get("training_file")) if isinstance(value, dict) else None
    line = value.get("training_line") if isinstance(value, dict) else None
    if name is None or not isinstance(line, int) or isinstance(line, bool) or not 0 <= line < 1 << 62:
        gathered.refuse(where, type(value).__name__, "an object with `training_file` and `training_line` is expected")
        return
    score = _score(value.get("contamination_score"))
    if flags.at_least is not None and (score is None or score < flags.at_least):
        found.below += 1
    else:
        found.lines.setdefault((name, line), where)


EVIDENCE: dict[str, Callable[..., None]] = {"decon": _decon, "dolma": _dolma}
"""What can be imported as outside evidence, by the name that the command line takes."""


def _documents(gathered: Gathered, session: Session, found: _Found) -> tuple[set[str], int, int]:
    """Digests of the documents that are meant, and how many flagged records mean one, by id and by line."""
    documents: set[str] = set()
    by_id = by_line = 0
    known: dict[str, list[str]] = {}
    if found.ids:
        rows = session.database.query(_BY_ID, parameters={"ids": list(found.ids)}).rows()
        known = {row["source_id"]: row["documents"] for row in rows}
    for name, where in found.ids.items():
        several = known.get(name, [])
        if len(several) == 1:
            documents.add(several[0])
            by_id += 1
        else:
            gathered.unresolve(
                where, name, f"{len(several)} documents of the log have this id" if several else "no row of the log has this id"
            )
    shards = _shards(session) if found.lines else {}
    by_file: dict[str, dict[int, str]] = {}
    for (name, line), where in found.lines.items():
        by_file.setdefault(name, {})[line] = where
    for name, lines in by_file.items():
        by_line += _of_file(gathered, session, name, lines=lines, shards=shards, documents=documents)
    return documents, by_id, by_line


def _shards(session: Session) -> dict[str, set[str]]:
    """Scanned JSONL shards by the name of their file, with and without suffixes."""
    found: dict[str, set[str]] = {}
    for row in session.sql("SELECT shard, paths FROM audit.shard WHERE format LIKE 'jsonl%'").rows():
        for path in row["paths"] or ():
            name = path.rsplit("/", 1)[-1]
            for one in {name, name.split(".", 1)[0]}:
                found.setdefault(one, set()).add(row["shard"])
    return found


def _of_file(
    gathered: Gathered, session: Session, name: str, *, lines: Mapping[int, str], shards: Mapping[str, set[str]], documents: set[str]
) -> int:
    """Add the documents of some lines of a file; gives how many were found."""
    base = name.rsplit("/", 1)[-1]
    meant = sorted(shards.get(base) or shards.get(base.split(".", 1)[0]) or set())
    if len(meant) != 1:
        why = f"{len(meant)} scanned shards have a file of this name" if meant else "no scanned shard has a file of this name"
        for line, where in lines.items():
            gathered.unresolve(where, f"{name}:{line}", why)
        return 0
    rows = session.database.query(_BY_ROW, parameters={"shard": meant[0], "rows": list(lines)}).rows()
    found = {row["row"]: row["document"] for row in rows}
    documents |= {*found.values()}
    for line, where in lines.items():
        if line not in found:
            gathered.unresolve(where, f"{name}:{line}", "the log has no document at this row")
    return len(found)


def _nothing(kind: str, gathered: Gathered, found: _Found) -> UsageError:
    told = [f"{one.where}: {one.what}: {one.why}" for one in (*gathered.refused, *gathered.unresolved)][:5]
    return UsageError(
        "nothing_to_import",
        expected=f"a document of the log that {kind} files flag",
        found=json.dumps("; ".join(told))[1:-1] or f"{found.below} records, none flagged",
        remedy="Scan the corpus with its ids first (`forebear scan --id-field`), or name other files or another score.",
    )
