"""The second tier: Detoxify over the windows that the first tier finds suspicious, and over an audit sample of the rest.

Always true here: a document that is scored has one finding for each of the model's labels, its worst window; a document that is
not scored has none. Batches are formed from the rows at hand by length, of a fixed size, on one thread, so that the same rows
give the same scores; scores are on the grid. Beam's RunInference forms its batches by timing, which moves the last bits
of padded scores, and would carry text between steps: hence a plain detector, whose model is loaded once in a process.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from forebear.schemas.enums import Category
from forebear.tracer.detect.detector import Findings, Texts, detector_digest, to_grid
from forebear.tracer.detect.detoxify_files import load_detoxify
from forebear.tracer.detect.row_detector import Rows, rows_of
from forebear.tracer.detect.second_tier import SecondTier, choose
from forebear.tracer.detect.toxicity import Toxicity

__all__ = ["BATCH", "Detoxify"]

BATCH = 32
"""Windows in a batch."""


class Detoxify:
    """A Detoxify model as a detector that follows a first tier.

    Args:
        first: The first tier.
        tier: Which model, and what it scores.

    Raises:
        UsageError: The model cannot be loaded.
    """

    name = "detoxify"
    category = Category.TOXICITY.value
    version = "1"

    def __init__(self, first: Toxicity, tier: SecondTier) -> None:
        self._first, self._tier = first, tier
        self._loaded = load_detoxify(tier.checkpoint, tier.config, device=tier.device)
        self._parameters = {
            "batch": BATCH,
            "files": dict(self._loaded.files),
            "first": first.digest,
            "labels": list(self._loaded.labels),
            "limit": self._loaded.limit,
            "numerics": dict(self._loaded.numerics),
            "sample": format(tier.sample.normalize(), "f"),
            "suspicious": tier.suspicious,
        }
        self._digest = detector_digest(self.name, self.category, version=self.version, parameters=self._parameters)

    @property
    def digest(self) -> str:
        """`sha256:...` over name, category, version and parameters."""
        return self._digest

    @property
    def parameters(self) -> Mapping[str, Any]:
        """Files by digest, labels, the first tier, what is scored, and all that the last bits depend on."""
        return dict(self._parameters)

    def score(self, texts: Texts) -> Findings:
        """Judge texts that the first tier has not seen yet."""
        rows = rows_of(texts)
        return self.score_rows(rows, {self._first.digest: self._first.score(rows.texts)})

    def score_rows(self, rows: Rows, earlier: Mapping[str, Findings]) -> Findings:
        """Every label's worst window, for the documents that are scored."""
        chosen = choose(rows, self._first, earlier[self._first.digest], tier=self._tier)
        data = {n: str(rows.texts[n]).encode() for n in np.unique(chosen.document).tolist()}
        pieces = [
            (n, start, stop)
            for window in zip(chosen.document.tolist(), chosen.start.tolist(), chosen.stop.tolist(), strict=True)
            for n, start, stop in self._fitting(*window, data=data)
        ]
        scores = self._scores([data[n][start:stop].decode() for n, start, stop in pieces])
        return _worst(pieces, to_grid(scores), self._loaded.labels)

    def predict(self, texts: Sequence[str]) -> npt.NDArray[np.float64]:
        """Probabilities (texts x labels) of texts that fit the model, in their order."""
        return self._scores(texts)

    def _fitting(self, n: int, start: int, stop: int, *, data: Mapping[int, bytes]) -> list[tuple[int, int, int]]:
        """A window cut in halves until each fits the model: nothing is truncated."""
        waiting, found = [(start, stop)], []
        while waiting:
            first, last = waiting.pop()
            text = data[n][first:last].decode()
            middle = _middle(data[n], first, last)
            if middle in (first, last) or len(self._loaded.tokenizer(text)["input_ids"]) <= self._loaded.limit:
                found.append((n, first, last))
            else:
                waiting += [(middle, last), (first, middle)]
        return found

    def _scores(self, texts: Sequence[str]) -> npt.NDArray[np.float64]:
        torch: Any = importlib.import_module("torch")
        lengths = [len(ids) for ids in self._loaded.tokenizer(list(texts))["input_ids"]] if texts else []
        order = sorted(range(len(texts)), key=lambda k: (lengths[k], k))
        out = np.zeros((len(texts), len(self._loaded.labels)))
        threads = torch.get_num_threads()
        torch.set_num_threads(1)  # sums split over threads end in other bits
        try:
            for at in range(0, len(order), BATCH):
                batch = order[at : at + BATCH]
                out[batch] = self._batch([texts[k] for k in batch])
        finally:
            torch.set_num_threads(threads)
        return out

    def _batch(self, texts: list[str]) -> npt.NDArray[np.float64]:
        torch: Any = importlib.import_module("torch")
        model, limit = self._loaded.model, self._loaded.limit
        given = self._loaded.tokenizer(texts, return_tensors="pt", truncation=True, max_length=limit, padding=True)
        with torch.no_grad():
            logits = model(**given.to(model.device))[0]
        scores: npt.NDArray[np.float64] = torch.sigmoid(logits).cpu().double().numpy()
        return scores[:, : len(self._loaded.labels)]


def _middle(data: bytes, start: int, stop: int) -> int:
    """A place near the middle: before a space, else before a character; `start` where there is none."""
    middle = (start + stop) // 2
    space = data.rfind(b" ", start + 1, middle)
    if space > start:
        return space
    while middle > start and data[middle] & 0xC0 == 0x80:
        middle -= 1
    return middle


def _worst(pieces: Sequence[tuple[int, int, int]], scores: npt.NDArray[np.int16], labels: Sequence[str]) -> Findings:
    """For every document and label the first of its highest scores."""
    best: dict[tuple[int, int], tuple[int, int, int]] = {}
    for (n, start, stop), row in zip(pieces, scores.tolist(), strict=True):
        for k, score in enumerate(row):
            if (n, k) not in best or score > best[n, k][0]:
                best[n, k] = (score, start, stop)
    keys = sorted(best)
    columns = [np.array([best[key][place] for key in keys], dtype) for place, dtype in ((0, "i2"), (1, "i8"), (2, "i8"))]
    index = np.array([n for n, _ in keys], "i8")
    return Findings(index, [labels[k] for _, k in keys], columns[0], columns[1], columns[2])
