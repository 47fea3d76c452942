"""Known-bad lists as detectors: texts (exact and near), document digests, source ids, domains of URLs.

Always true here: what is found names the entry with its reason and authority, as canonical JSON in the evidence's `item`; the
text of a listed document never leaves its file (its digest stands for it). A domain is sought in the host of a row's id, and
where that is no URL in its source; a listed domain covers what lies under it. An advisory of a ledger lists its documents by
digest. A list that names nothing is wrong use.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from forebear.schemas.advisory import Advisory
from forebear.schemas.canonical import canonical_json
from forebear.schemas.digests import digest_name
from forebear.schemas.enums import Category
from forebear.schemas.errors import UsageError
from forebear.schemas.tables import DIGEST
from forebear.tracer.dedupe.shingles import ShingleOptions
from forebear.tracer.detect.denylist_near import build_near_index, find_near
from forebear.tracer.detect.detector import GRID, Findings, Texts, detector_digest
from forebear.tracer.detect.listed_rows import ListedRows, read_listed
from forebear.tracer.detect.row_detector import Rows, rows_of

__all__ = ["KINDS", "Denylist", "Likeness", "host_of"]

I64 = npt.NDArray[np.int64]

KINDS = ("text", "document", "id", "domain")

_HEX = re.compile(r"(?:sha256:)?([0-9a-f]{64})")
_HOST = re.compile(r"(?:[a-z][a-z0-9+.-]*:)?(?://)?(?:[^/?#@\s]*@)?([^/?#:@\s]+\.[^/?#:@\s]+)", re.IGNORECASE)


@dataclass(frozen=True)
class Likeness:
    """From which similarity a text is a near copy of a listed one, and over which shingles it is measured."""

    jaccard: Fraction = Fraction(4, 5)
    shingles: ShingleOptions = ShingleOptions()


@dataclass(frozen=True)
class _Entry:
    key: str
    reason: str
    authority: str

    def item(self, **measured: int) -> str:
        """As it stands in the evidence."""
        return canonical_json({"authority": self.authority, "entry": self.key, "reason": self.reason, **measured}).decode()


class Denylist:
    """One list.

    Args:
        path: Parquet, Arrow or JSONL file with the field that `kind` names, a text file of one entry a line, or an advisory.
        kind: What it holds: "text", "document" (digests), "id" or "domain"; an advisory holds "document" whatever is given.
        reason: Why they are listed, where the file has no field `reason`; without it an advisory's own.
        authority: Who listed them, where the file has no field `authority`; without it an advisory's own.
        likeness: What a near copy is (kind "text").

    Raises:
        UsageError: The file cannot be read, lacks the field, holds an entry that cannot be, or names nothing.
        IntegrityError: It is an advisory, and not as it was published.
    """

    category = Category.DENYLIST.value
    version = "1"

    def __init__(self, path: str, kind: str = "text", *, reason: str = "", authority: str = "", likeness: Likeness | None = None) -> None:
        listed = read_listed(path, what=f"[[denylists]] of kind {kind}")
        if listed.advisory is not None:
            kind = "document"
            _require_documents(listed.advisory, path)
            reason, authority = reason or listed.advisory.reason, authority or listed.advisory.authority
        self.name = f"denylist/{kind}"
        self.kind = kind
        values = _values(listed, kind, path)
        self._entries = [
            _Entry(key, str(row.get("reason") or reason), str(row.get("authority") or authority))
            for row, (key, _) in zip(listed.rows, values, strict=True)
        ]
        self._parameters: dict[str, Any] = {"authority": authority, "file": listed.digest, "kind": kind, "reason": reason}
        if kind == "text":
            likeness = likeness or Likeness()
            texts = pa.array([text for _, text in values], pa.large_string())
            self._near = build_near_index(texts, likeness.shingles, jaccard=likeness.jaccard)
            sizes = {"characters": likeness.shingles.characters, "ngram": likeness.shingles.ngram}
            self._parameters |= {"jaccard": str(likeness.jaccard), "shingle_hash": "fnv1a64-fmix64/1", **sizes}
        self._place: dict[str, int] = {}
        for n, entry in enumerate(self._entries):
            self._place.setdefault(entry.key, n)
        self._digest = detector_digest(self.name, self.category, version=self.version, parameters=self._parameters)

    @property
    def digest(self) -> str:
        """`sha256:...` over name, category, version and parameters."""
        return self._digest

    @property
    def parameters(self) -> Mapping[str, Any]:
        """The file by its digest, the kind, the default reason and authority; for texts the similarity too."""
        return dict(self._parameters)

    def __len__(self) -> int:
        return len(self._entries)

    def score(self, texts: Texts) -> Findings:
        """What texts alone can tell: rows without an id or a source."""
        return self.score_rows(rows_of(texts), {})

    def score_rows(self, rows: Rows, earlier: Mapping[str, Findings]) -> Findings:  # noqa: ARG002 - the interface
        """The entries that each row meets; nothing where it meets none."""
        if self.kind == "domain":
            index, entry = self._domains(rows)
        else:
            keys = rows.source_id if self.kind == "id" else rows.document
            index, entry = self._listed(keys)
        items = [self._entries[n].item() for n in entry.tolist()]
        labels = ["exact" if self.kind == "text" else self.kind] * len(items)
        score = np.full(len(items), GRID, "i2")
        if self.kind == "text":
            near = find_near(rows.texts, self._near)
            copies = set(index.tolist())
            near = near[[n for n, row in enumerate(near[:, 0].tolist()) if row not in copies]]
            index = np.concatenate([index, near[:, 0]])
            items += [self._entries[e].item(intersection=i, union=u) for _, e, i, u in near.tolist()]
            labels += ["near"] * len(near)
            # Rounded up, so that a similarity at a threshold reaches it.
            score = np.concatenate([score, -(-near[:, 2] * GRID // near[:, 3])]).astype("i2")
        return _findings(index, labels, score, items=items, texts=rows.texts)

    def _listed(self, keys: pa.Array) -> tuple[I64, I64]:
        names = list(self._place)
        raw: list[Any] = [bytes.fromhex(name[7:]) for name in names] if keys.type == DIGEST else names
        listed = pa.array(raw, keys.type)
        found = pc.index_in(keys, value_set=listed, skip_nulls=True)
        index = np.flatnonzero(found.is_valid().to_numpy(zero_copy_only=False)).astype("i8")
        places = np.array(list(self._place.values()), "i8")
        return index, places[found.drop_null().to_numpy(zero_copy_only=False).astype("i8")]

    def _domains(self, rows: Rows) -> tuple[I64, I64]:
        index, entry = [], []
        for n, names in enumerate(zip(rows.source_id.to_pylist(), rows.source.to_pylist(), strict=True)):
            place = next((p for name in names if name and (p := self._domain(host_of(name))) is not None), None)
            if place is not None:
                index.append(n)
                entry.append(place)
        return np.array(index, "i8"), np.array(entry, "i8")

    def _domain(self, host: str | None) -> int | None:
        while host:
            if host in self._place:
                return self._place[host]
            host = host.partition(".")[2]
        return None


def host_of(text: str) -> str | None:
    """The host of a URL or of the beginning of one, in lower case and ASCII (IDNA); None where there is none."""
    found = _HOST.match(text.strip())
    if found is None:
        return None
    host = found[1].lower().rstrip(".")
    try:
        return host if host.isascii() else host.encode("idna").decode()
    except UnicodeError:
        return host


def _findings(index: I64, labels: list[str], score: npt.NDArray[np.int16], *, items: list[str], texts: pa.Array) -> Findings:
    """By position; the whole text is the evidence."""
    order = np.argsort(index, kind="stable")
    length = pc.binary_length(texts).fill_null(0).to_numpy(zero_copy_only=False).astype("i8")
    return Findings(
        index=index[order],
        label=[labels[n] for n in order.tolist()],
        score=score[order],
        start=np.zeros(len(order), "i8"),
        stop=length[index[order]],
        item=[items[n] for n in order.tolist()],
    )


def _require_documents(advisory: Advisory, path: str) -> None:
    """Models, shards and system prompts are no rows: a list of them would pass every document in silence."""
    if advisory.documents:
        return
    counts = {"models": advisory.models, "shards": advisory.shards, "system prompts": advisory.system_prompts}
    raise UsageError(
        "empty_denylist",
        expected=f"an advisory that names documents in {path}",
        found=", ".join(f"{name}: {len(named)}" for name, named in counts.items() if named),
        remedy="Take the table out of the policy; `forebear recall` and `forebear trace` tell whom this advisory reaches.",
    )


def _values(listed: ListedRows, kind: str, path: str) -> list[tuple[str, str]]:
    """(key, value) of every entry; the key of a text is its digest."""
    if not listed.rows:
        raise UsageError(
            "empty_denylist",
            expected=f"at least one entry in {path}",
            found="none",
            remedy="Fill the list, or take the table out of the policy.",
        )
    return [_value(row, n, kind, path=path) for n, row in enumerate(listed.rows)]


def _value(row: Mapping[str, Any], n: int, kind: str, *, path: str) -> tuple[str, str]:
    value = row.get("line", row.get(kind))
    if kind == "domain" and value is None:
        value = row.get("url")
    if not isinstance(value, str) or not value.strip():
        fields = ", ".join(sorted(row)[:20]) or "none"
        raise UsageError(
            "missing_field",
            expected=f"text in the field {kind!r} of every entry of {path}",
            found=f"entry {n} with fields {fields}",
            remedy=f"Rename the column to {kind!r}, set `kind` to what the list holds, or take out the entry.",
        )
    if kind == "text":
        return digest_name(hashlib.sha256(value.encode()).digest()), value
    key = value.strip()
    known = _HEX.fullmatch(key) if kind == "document" else None
    host = host_of(key) if kind == "domain" else None
    if (kind == "document" and known is None) or (kind == "domain" and host is None):
        raise UsageError(
            "not_an_entry",
            expected=f"{'a SHA-256 (64 hex digits)' if kind == 'document' else 'a domain or a URL'} in entry {n} of {path}",
            found=repr(key[:80]),
            remedy="Correct that entry, or set `kind` to what the list holds.",
        )
    return (f"sha256:{known[1]}" if known else host or key), key
