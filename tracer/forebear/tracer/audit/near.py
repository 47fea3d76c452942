"""Near matches of a text that was found bad later: looked up in the band tables of every run, without another scan.

Always true here: a candidate shares a band with the text; where the shard's file still holds the bytes that were scanned, it is
read again and measured against the run's own jaccard, and what measures less is no match; where it does not, the row stays a
candidate. Kernels are an extra that an auditor need not have: they are imported by name, and only here.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from forebear.schemas.digests import digest_name
from forebear.schemas.errors import DataError, UsageError
from forebear.schemas.records import RunManifest
from forebear.schemas.tables import BANDS, SHARDS

if TYPE_CHECKING:
    from forebear.tracer.audit.session import Session

__all__ = ["Near", "find_near"]

Ints = npt.NDArray[np.int64]
_OPTIONS = ("ngram", "characters", "bands", "rows", "seed")


@dataclass
class Near:
    """Rows like some texts, by shard: measured ones, candidates that could not be measured, and shards without bands to look in."""

    measured: dict[str, set[int]] = field(default_factory=dict)
    candidates: dict[str, set[int]] = field(default_factory=dict)
    blind: set[str] = field(default_factory=set)


def find_near(session: Session, texts: Sequence[str]) -> Near:
    """Rows of scanned shards that are like some texts, copies included.

    Raises:
        UsageError: The extra `pipelines` is not installed.
    """
    kernels, found = _Kernels(), Near()
    signed: set[str] = set()
    for at, (_, _, manifest) in enumerate(session.runs):
        names = [session.scans.names[one] for one in session.scans.scanned(at).tolist()]
        options = _options(manifest)
        if options is None:
            found.blind.update(names)
            continue
        signed.update(names)
        _look_up(session, manifest, kernels.signed(texts, options), found)
    found.blind -= signed
    for shard, rows in found.candidates.items():  # what one run could not measure another may have
        rows -= found.measured.get(shard, set())
    return found


def _options(manifest: RunManifest) -> dict[str, int] | None:
    """The signature's options, None where the run made none or made them in another way than this version does."""
    given = manifest.signature or {}
    if any(not isinstance(given.get(name), int) for name in _OPTIONS):
        return None
    return {name: given[name] for name in _OPTIONS}


@dataclass(frozen=True)
class _Signed:
    """Texts as one run's signatures see them: band hashes (n x bands) and shingle sets."""

    bands: npt.NDArray[np.uint64]
    sets: list[npt.NDArray[np.uint64]]
    kernels: _Kernels
    options: Any


class _Kernels:
    """The compiled kernels of the extra, imported when they are first needed."""

    def __init__(self) -> None:
        try:
            self._signatures: Any = importlib.import_module("forebear.tracer.dedupe.signatures")
            self._shingles: Any = importlib.import_module("forebear.tracer.dedupe.shingles")
            self._similarity: Any = importlib.import_module("forebear.tracer.dedupe.similarity")
        except ImportError as error:
            raise UsageError(
                "extra_missing",
                expected="the extra `pipelines`, whose kernels sign a text for near matches",
                found=str(error),
                remedy="Install forebear[pipelines]; or recall the document's digest (sha256sum FILE) for exact matches alone.",
            ) from error

    def signed(self, texts: Sequence[str], options: Mapping[str, int]) -> _Signed:
        """Texts signed as a run's documents were; one without a token has no bands."""
        chosen, column = self._signatures.SignatureOptions(**options), pa.array(texts, pa.large_string())
        sketch = self._signatures.sketch(column, chosen)
        return _Signed(sketch.bands[sketch.shingles > 0], self.sets(column, chosen), self, chosen)

    def sets(self, texts: pa.Array, options: Any) -> list[npt.NDArray[np.uint64]]:
        """The distinct shingles of each text, ascending."""
        bounds, values = self._shingles.shingle_sets(texts, options.shingles)
        return [values[a:b] for a, b in zip(bounds[:-1].tolist(), bounds[1:].tolist(), strict=True)]

    def jaccard(self, one: npt.NDArray[np.uint64], other: npt.NDArray[np.uint64]) -> Fraction:
        """Measured similarity of two shingle sets."""
        common = int(self._similarity.intersection_size(one, other))
        union = len(one) + len(other) - common
        return Fraction(common, union) if union else Fraction(0)


def _look_up(session: Session, manifest: RunManifest, signed: _Signed, found: Near) -> None:
    """Add the rows of one run that share a band with one of the texts."""
    table = session.ledger.read_table(manifest.shards.object, SHARDS, columns=["shard", "paths", "bands"])
    spans: dict[str, list[tuple[int, int, int, int]]] = {}  # band table -> (offset, rows, shard's place, first row)
    for place, shard_spans in enumerate(table["bands"].to_pylist()):
        for one in shard_spans:
            spans.setdefault(digest_name(one["pack"]), []).append((one["offset"], one["rows"], place, one["first_row"]))
    hashes = np.unique(signed.bands)
    rows: dict[int, set[int]] = {}
    for pack, places in spans.items() if len(hashes) else ():
        positions = _positions(session.ledger.get_object(pack), hashes)
        offset, count, place, first = np.array(sorted(places), np.int64).T
        at = np.searchsorted(offset, positions, side="right") - 1
        for n, position in zip(at.tolist(), positions.tolist(), strict=True):
            if n >= 0 and position < offset[n] + count[n]:
                rows.setdefault(int(place[n]), set()).add(int(first[n] + position - offset[n]))
    jaccard = Fraction(str(manifest.policy["duplicates"]["jaccard"]))
    for one, mine in rows.items():
        name = digest_name(table["shard"][one].as_py())
        texts = _texts(name, table["paths"][one].as_py(), manifest, rows=np.array(sorted(mine), np.int64))
        if texts is None:
            found.candidates.setdefault(name, set()).update(mine)
        else:
            found.measured.setdefault(name, set()).update(_alike(texts, signed, jaccard))


def _positions(data: bytes, hashes: npt.NDArray[np.uint64]) -> Ints:
    """Positions of a band table that have one of some hashes; row groups that have none are not decoded."""
    file = pq.ParquetFile(pa.BufferReader(data), page_checksum_verification=True)
    if file.schema_arrow.names != BANDS.names:
        raise DataError("unreadable_table", expected="a band table", found=str(file.schema_arrow.names), remedy="Scan again.")
    found = [np.empty(0, np.uint32)]
    for n in range(file.metadata.num_row_groups):
        statistics = file.metadata.row_group(n).column(0).statistics
        if not (((hashes >= statistics.min) & (hashes <= statistics.max)).any() if statistics is not None else True):
            continue
        group = file.read_row_group(n, use_threads=False)
        here = group["hash"].to_numpy()
        low, high = (np.searchsorted(here, hashes, side=side) for side in ("left", "right"))
        found += [group["position"].to_numpy()[a:b] for a, b in zip(low.tolist(), high.tolist(), strict=True) if a < b]
    return np.unique(np.concatenate(found)).astype(np.int64)


def _texts(shard: str, paths: Sequence[str], manifest: RunManifest, *, rows: Ints) -> dict[int, str] | None:
    """The texts of some rows, from the first of a shard's paths that still holds its bytes; None where none does."""
    from forebear.tracer.corpus.inputs import ReaderOptions
    from forebear.tracer.corpus.rows import Source, read_texts

    given, default = manifest.reader, ReaderOptions()
    reader = ReaderOptions(
        given["text_field"], given.get("id_field") or default.id_field, given.get("source_field") or default.source_field, given["source"]
    )
    for path in paths:
        try:
            source = Source.from_path(path, expected=shard)
            read = read_texts(source, options=reader, wanted=rows)
            texts = [pair for numbers, column in read for pair in zip(numbers.tolist(), column.to_pylist(), strict=True)]
        except (DataError, OSError):
            continue
        return {row: text for row, text in texts if text is not None}
    return None


def _alike(texts: Mapping[int, str], signed: _Signed, jaccard: Fraction) -> Iterable[int]:
    """Rows whose text measures so much with one of the texts."""
    sets = signed.kernels.sets(pa.array(texts.values(), pa.large_string()), signed.options)
    for row, mine in zip(texts, sets, strict=True):
        if any(signed.kernels.jaccard(mine, other) >= jaccard for other in signed.sets):
            yield row
