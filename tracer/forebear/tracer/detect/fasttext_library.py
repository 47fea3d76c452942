"""fastText classifiers through the fastText library, where the kernel does not compute them.

Always true here: each window is predicted as one line (its line breaks are spaces); a text whose prediction fails or is not
a number fails alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from forebear.schemas.errors import UsageError
from forebear.tracer.detect.detector import to_grid
from forebear.tracer.detect.fasttext_file import LABEL_PREFIX, FastTextFile
from forebear.tracer.detect.fasttext_fused import byte_map
from forebear.tracer.detect.windows import TextBytes, Windows

__all__ = ["LibraryModel", "Scored"]

Scored = tuple[npt.NDArray[np.int16], npt.NDArray[np.int64], npt.NDArray[np.int64], dict[int, str]]


class LibraryModel:
    """A model loaded by the library.

    Args:
        file: The file, already read and found to be a classifier.
        labels: Labels whose probabilities are summed.
        mapping: What is made of the text's bytes first (`fasttext_fused.byte_map`).

    Raises:
        UsageError: The library is not installed, or refuses the file.
    """

    def __init__(self, file: FastTextFile, labels: Sequence[str], *, mapping: str) -> None:
        self._model = _load(file)
        self._labels = frozenset(LABEL_PREFIX + label for label in labels)
        table = byte_map(mapping)
        table[table == 0] = ord(" ")
        self._table = table.tobytes()

    def probability(self, lines: list[str]) -> list[float]:
        """Summed probability of the labels for each line, at most 1; 0 where the model knows nothing of a line."""
        found, probabilities = self._model.predict(lines, k=-1, threshold=0.0)
        return [
            min(1.0, sum(float(p) for label, p in zip(names, values, strict=True) if label in self._labels))
            for names, values in zip(found, probabilities, strict=True)
        ]

    def score_windows(self, texts: TextBytes, windows: Windows) -> Scored:
        """Score each text by its worst window, the earliest among equals.

        Returns:
            Score on the grid int16 (n,), byte range int64 (n,) each, and position to message of the texts that failed.
        """
        count = len(texts)
        score, start, stop = np.zeros(count, np.int16), np.zeros(count, np.int64), np.zeros(count, np.int64)
        failed: dict[int, str] = {}
        raw = texts.data.tobytes()
        documents, first = np.unique(windows.document, return_index=True)
        for n, a, b in zip(documents.tolist(), first.tolist(), [*first[1:].tolist(), len(windows)], strict=True):
            begins, ends = windows.start[a:b].tolist(), windows.stop[a:b].tolist()
            try:
                lines = [raw[i:j].translate(self._table).decode() for i, j in zip(begins, ends, strict=True)]
                grid = to_grid(self.probability(lines))
            except Exception as error:  # noqa: BLE001 - whatever the library raises, one text costs one row
                failed[n] = f"fastText: {type(error).__name__}"
                continue
            worst = int(np.argmax(grid))
            score[n] = grid[worst]
            start[n], stop[n] = begins[worst] - texts.offsets[n], ends[worst] - texts.offsets[n]
        return score, start, stop, failed


def _load(file: FastTextFile) -> Any:
    try:
        import fasttext
    except ImportError as error:
        raise UsageError(
            "no_fasttext",
            expected=f"the fastText library, which computes {file.loss} models like {file.path.name}",
            found=str(error),
            remedy='Install it: pip install "forebear[pipelines]".',
        ) from error
    try:
        return fasttext.FastText._FastText(model_path=str(file.path))
    except (ValueError, RuntimeError) as error:
        raise UsageError(
            "not_a_classifier",
            expected=f"{file.path} to be a model that the fastText library loads",
            found=str(error),
            remedy='Give a model that fastText trained with "supervised".',
        ) from error
