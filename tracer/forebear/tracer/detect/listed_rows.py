"""Files of rows that a user names (benchmarks, denylists, labelled texts): Parquet, Arrow, JSONL, CSV, TSV or text, compressed or not.

Always true here: what is hashed is the file's bytes as they lie; rows come in file order; what cannot be read is wrong use,
with the row that stopped it, since a list read in part would look as if it had been read. An advisory, which is an object of a
ledger, is known by its content, and is whole or an integrity failure.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from forebear.schemas.advisory import Advisory
from forebear.schemas.digests import digest_name
from forebear.schemas.errors import IntegrityError, UsageError

__all__ = ["ListedRows", "read_listed"]

_SUFFIXES = {".parquet": "parquet", ".arrow": "arrow", ".feather": "arrow", ".txt": "text", ".jsonl": "jsonl", ".json": "jsonl"}
_SUFFIXES |= {".ndjson": "jsonl", ".csv": "csv", ".tsv": "tsv"}
_PACKED = {".gz": "gzip", ".zst": "zstd", ".zstd": "zstd"}

# Quotes inside a value are escaped in JSON, so that no text can hold this; a damaged advisory still does.
_ADVISORY = re.compile(rb'\A\s*\{[^\n]*"schema"\s*:\s*"forebear/advisory/')
_OBJECT = re.compile(r"objects/sha256/([0-9a-f]{2})/(\1[0-9a-f]{62})\Z")


@dataclass(frozen=True)
class ListedRows:
    """A file's rows and the digest of its bytes; a text file's rows have the one field `line`, an advisory's `document`."""

    digest: str
    rows: Sequence[Mapping[str, Any]]
    is_text: bool = False
    advisory: Advisory | None = None

    @property
    def fields(self) -> list[str]:
        """Every field that some row has, sorted."""
        return sorted({name for row in self.rows for name in row})


def read_listed(path: str, *, what: str) -> ListedRows:
    """Read a file that a policy names.

    Args:
        path: Where it is.
        what: What it is called in messages, e.g. ``[[benchmarks]] gsm8k``.

    Raises:
        UsageError: It is not there, of no known kind, or cannot be read to its end.
        IntegrityError: It is an advisory, and not as it was published.
    """
    try:
        raw = Path(path).read_bytes()
    except OSError as error:
        raise _wrong("no_such_file", f"a file for {what}", f"{path}: {error.strerror}", "Correct `path`.") from error
    digest = digest_name(hashlib.sha256(raw).digest())
    if _ADVISORY.match(raw):
        return _advisory(path, raw, digest)
    kind, packed = _kind(path, raw, what)
    try:
        data = pa.CompressedInputStream(pa.BufferReader(raw), packed).read() if packed else raw
        if kind in ("parquet", "arrow"):
            return ListedRows(digest, _table(data, kind).to_pylist())
        text = data.decode("utf-8-sig")
    except (OSError, pa.ArrowException, UnicodeDecodeError) as error:
        raise _wrong("unreadable_list", f"{kind} in {path} ({what})", str(error)[:200], "Mend or replace the file.") from error
    if kind in ("csv", "tsv"):
        return ListedRows(digest, _separated(text, "\t" if kind == "tsv" else ",", path))
    if kind == "text":
        lines = [line.strip() for line in text.split("\n")]
        return ListedRows(digest, [{"line": line} for line in lines if line], is_text=True)
    return ListedRows(digest, [_json_row(line, n, path) for n, line in enumerate(text.split("\n"), 1) if line.strip()])


def _advisory(path: str, raw: bytes, digest: str) -> ListedRows:
    """The documents of an advisory; read past the ledger, so that the bytes are held against the object's name here."""
    named = _OBJECT.search(Path(path).as_posix())
    if named and digest != f"sha256:{named[2]}":
        raise IntegrityError(
            "object_mismatch",
            expected=f"the bytes that {path} is named for",
            found=digest,
            remedy="Restore the object from a copy of the ledger; `forebear verify --full` names what else is damaged.",
        )
    advisory = Advisory.from_bytes(raw)
    return ListedRows(digest, [{"document": one} for one in advisory.documents], advisory=advisory)


def _kind(path: str, raw: bytes, what: str) -> tuple[str, str | None]:
    name = path.lower()
    packed = next((codec for suffix, codec in _PACKED.items() if name.endswith(suffix)), None)
    suffix = Path(Path(name).stem if packed else name).suffix
    kind = "parquet" if raw.startswith(b"PAR1") else "arrow" if raw.startswith(b"ARROW1") else _SUFFIXES.get(suffix)
    if kind is None:
        known = ", ".join(sorted(_SUFFIXES))
        raise _wrong("unknown_format", f"{what}: a file named {known} (.gz, .zst)", path, "Rename or convert the file.")
    return kind, packed


def _table(data: bytes, kind: str) -> pa.Table:
    if kind == "parquet":
        return pq.read_table(pa.BufferReader(data), use_threads=False)
    return pa.ipc.open_file(pa.BufferReader(data)).read_all()


def _separated(text: str, mark: str, path: str) -> Sequence[Mapping[str, Any]]:
    """Rows of CSV (RFC 4180) with a header; every value is text."""
    rows = csv.DictReader(io.StringIO(text, newline=""), delimiter=mark, strict=True)
    try:
        found = [{name: value for name, value in row.items() if name is not None} for row in rows]
    except csv.Error as error:
        raise _wrong("unreadable_list", f"CSV in {path}", f"line {rows.line_num}: {error}", "Mend that line.") from error
    return found


def _json_row(line: str, number: int, path: str) -> Mapping[str, Any]:
    try:
        row = json.loads(line)
    except ValueError as error:
        raise _wrong("unreadable_list", f"JSON in line {number} of {path}", str(error), "Mend that line.") from error
    if isinstance(row, str):
        return {"line": row}
    if not isinstance(row, dict):
        raise _wrong("unreadable_list", f"an object in line {number} of {path}", type(row).__name__, "Mend that line.")
    return row


def _wrong(kind: str, expected: str, found: str, remedy: str) -> UsageError:
    return UsageError(kind, expected=expected, found=found, remedy=remedy)
