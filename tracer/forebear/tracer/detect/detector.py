"""What every detector is, and what it says: the interface that the pipelines and users' own detectors share.

Always true here: scores are integers on a grid of 1/1024, so that equal means equal; a byte range lies inside the UTF-8 of its
text and never inside a character; a row that a detector could not judge is named in `failed` and has no finding. A detector's
digest covers everything that changes its output.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, Protocol, TypeAlias, runtime_checkable

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from forebear.schemas.canonical import canonical_json
from forebear.schemas.digests import sha256_name

__all__ = ["GRID", "Detector", "Findings", "Texts", "detector_digest", "to_grid"]

GRID = 1024
"""A score of 1.0, in steps of the grid."""

Texts: TypeAlias = pa.Array | pa.ChunkedArray


@dataclasses.dataclass(frozen=True)
class Findings:
    """What a detector says of a column of n texts, in k findings ordered by position.

    Args:
        index: Position in the column, ascending, int64 (k,).
        label: One label that all findings share, or one each.
        score: 0..1024, int16 (k,); the score is `score / GRID`.
        start: First byte of the evidence in the text's UTF-8, int64 (k,).
        stop: One past its last byte, int64 (k,); 0, 0 where there is no text.
        item: The benchmark item or list entry met, one each; None where the detector has none.
        failed: Position to message, for texts that could not be judged. Messages hold no text of the document.
    """

    index: npt.NDArray[np.int64]
    label: str | Sequence[str]
    score: npt.NDArray[np.int16]
    start: npt.NDArray[np.int64]
    stop: npt.NDArray[np.int64]
    item: Sequence[str] | None = None
    failed: Mapping[int, str] = dataclasses.field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.index)

    def labels(self) -> Sequence[str]:
        """One label for each finding."""
        return [self.label] * len(self) if isinstance(self.label, str) else self.label


@runtime_checkable
class Detector(Protocol):
    """A named, versioned judge of documents.

    `category` is the contaminant class that a verdict is given for ("toxicity", "benchmark", "denylist", or a user's own);
    `digest` comes from `detector_digest`. A null or an empty text is covered: it gets a finding of score 0 at 0, 0.
    """

    @property
    def name(self) -> str:
        """How people call it; also the reason it gives, where it is a user's own."""

    @property
    def category(self) -> str:
        """The class of contaminant."""

    @property
    def version(self) -> str:
        """The version of the method, raised when its output changes."""

    @property
    def digest(self) -> str:
        """`sha256:...` over all that changes the output."""

    @property
    def parameters(self) -> Mapping[str, Any]:
        """All that changes the output, as JSON without floats."""

    def score(self, texts: Texts) -> Findings:
        """Judge a column of texts; one bad text fails alone."""


def detector_digest(name: str, category: str, *, version: str, parameters: Mapping[str, Any]) -> str:
    """The digest of a detector: SHA-256 over the canonical JSON of what it is.

    Raises:
        TypeError: A parameter is a float; write decimals as text.
    """
    described = {"name": name, "category": category, "version": version, "parameters": parameters}
    return sha256_name(canonical_json(described))


def to_grid(probability: npt.ArrayLike) -> npt.NDArray[np.int16]:
    """Put probabilities on the grid, halves up; values outside 0..1 are clipped.

    Raises:
        ValueError: A value is NaN.
    """
    values = np.asarray(probability, dtype=np.float64)
    if np.isnan(values).any():
        raise ValueError("a score is NaN")
    return np.floor(np.clip(values, 0.0, 1.0) * GRID + 0.5).astype(np.int16)
