"""What a second tier scores again: windows that the first tier finds suspicious, and an audit sample of the rest.

Always true here: the choice depends on the texts and the first tier alone; the sample is by document digest, so the same document
is in it wherever it stands. Nothing here needs a transformer.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from forebear.tracer.detect.detector import Findings
from forebear.tracer.detect.row_detector import Rows
from forebear.tracer.detect.toxicity import Toxicity
from forebear.tracer.detect.windows import TextBytes, text_bytes

__all__ = ["Chosen", "SecondTier", "choose", "sampled"]

I64 = npt.NDArray[np.int64]


@dataclass(frozen=True)
class SecondTier:
    """How the second tier is asked for.

    Args:
        checkpoint: A name that detoxify knows, or a checkpoint file.
        config: Folder with the transformer's configuration and tokenizer; empty: fetched by name.
        suspicious: First-tier score, in 1/1024, from which a window is scored again.
        sample: Share of the other documents that is scored all the same.
        device: What torch calls the device.
    """

    checkpoint: str = "original"
    config: str = ""
    suspicious: int = 308
    sample: Decimal = Decimal("0.001")
    device: str = "cpu"


@dataclass(frozen=True)
class Chosen:
    """Windows to score, k of them, by document: position, byte range in the text, and why."""

    document: I64
    start: I64
    stop: I64
    suspicious: npt.NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.document)


def sampled(documents: pa.Array, share: Decimal) -> npt.NDArray[np.bool_]:
    """Which documents the audit sample holds: those whose digest, read as a number from 0 to 1, is below the share."""
    below = int(Fraction(share) * (1 << 64))
    heads = np.array([-1 if digest is None else int.from_bytes(digest[:8]) for digest in documents.to_pylist()], dtype=object)
    return np.array([0 <= head < below for head in heads], dtype=bool)


def choose(rows: Rows, first: Toxicity, found: Findings, *, tier: SecondTier) -> Chosen:
    """The windows of suspicious documents that are suspicious themselves, and all windows of sampled documents."""
    best = np.zeros(len(rows), "i8")
    np.maximum.at(best, found.index, found.score.astype("i8"))
    suspicious = best >= tier.suspicious
    audit = sampled(rows.document, tier.sample) & ~suspicious
    audit[list(found.failed)] = False
    wanted = np.flatnonzero(suspicious | audit)
    column = rows.texts.take(pa.array(wanted))
    windows = first.windows(column)
    raw = text_bytes(column)
    score = _window_scores(raw, first, windows.start, windows.stop)
    document = wanted[windows.document]
    keep = audit[document] | (score >= tier.suspicious)
    first_byte = raw.offsets[windows.document]
    return Chosen(document[keep], (windows.start - first_byte)[keep], (windows.stop - first_byte)[keep], suspicious[document][keep])


def _window_scores(raw: TextBytes, first: Toxicity, start: I64, stop: I64) -> I64:
    """The first tier's score of each window by itself."""
    if not len(start):
        return np.zeros(0, "i8")
    column = pa.array([raw.data[a:b].tobytes() for a, b in zip(start.tolist(), stop.tolist(), strict=True)], pa.large_binary())
    again = first.score(column.cast(pa.large_string()))
    score = np.zeros(len(start), "i8")
    score[again.index] = again.score
    return score
