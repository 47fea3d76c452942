"""What a detector may see beyond a column of texts: the rows' digests, ids and sources, and what earlier detectors said.

Always true here: a detector that needs no more than texts has no `score_rows`; all columns of `Rows` are of one length; earlier
findings are of the same rows, by detector digest. What a detector says may depend on nothing else.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import pyarrow as pa

from forebear.schemas.tables import DIGEST
from forebear.tracer.detect.detector import Detector, Findings, Texts

__all__ = ["RowDetector", "Rows", "findings_of", "rows_of"]


@dataclass(frozen=True)
class Rows:
    """Some rows of a shard.

    Args:
        texts: large_string; null where the text is null or the row has an error.
        document: SHA-256 of the text's UTF-8, 32 raw bytes; null for null.
        source_id: The row's own id, or null.
        source: The row's source, or null.
    """

    texts: pa.Array
    document: pa.Array
    source_id: pa.Array
    source: pa.Array

    def __len__(self) -> int:
        return len(self.texts)


@runtime_checkable
class RowDetector(Protocol):
    """A detector that judges rows."""

    def score_rows(self, rows: Rows, earlier: Mapping[str, Findings]) -> Findings:
        """Judge rows, knowing what earlier detectors of the policy said of them."""


def rows_of(texts: Texts) -> Rows:
    """Texts as rows without an id or a source."""
    whole = pa.concat_arrays(texts.chunks) if isinstance(texts, pa.ChunkedArray) else texts
    digests = [None if text is None else hashlib.sha256(text.encode()).digest() for text in whole.to_pylist()]
    nothing = pa.nulls(len(whole), pa.string())
    return Rows(whole.cast(pa.large_string()), pa.array(digests, DIGEST), nothing, nothing)


def findings_of(detector: Detector, rows: Rows, earlier: Mapping[str, Findings]) -> Findings:
    """What a detector says of some rows."""
    if isinstance(detector, RowDetector):
        return detector.score_rows(rows, earlier)
    return detector.score(rows.texts)
