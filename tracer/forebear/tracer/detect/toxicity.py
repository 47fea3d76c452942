"""The first tier: a fastText classifier over word windows, for every document of a corpus.

Always true here: a document is as toxic as its worst window; the score is the summed probability of the chosen labels in that
window, on the grid, and the window's bytes are the evidence. Softmax models without character n-grams and not quantised run
in a compiled kernel whose scores are the same on every machine; every other fastText classifier (hierarchical softmax,
one-vs-all, negative sampling, character n-grams, quantised .ftz) runs through the fastText library, whose version and
machine architecture then enter the digest.
"""

from __future__ import annotations

import importlib.metadata
import json
import platform
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa

from forebear.schemas.errors import UsageError
from forebear.tracer.detect import fasttext_fused, fasttext_kernel
from forebear.tracer.detect.detector import Findings, Texts, detector_digest
from forebear.tracer.detect.fasttext_file import LABEL_PREFIX, FastTextFile, read_fasttext
from forebear.tracer.detect.fasttext_library import LibraryModel
from forebear.tracer.detect.windows import CUT, TextBytes, WindowRule, Windows, cut_windows, text_bytes

__all__ = ["BUILTIN", "Toxicity", "model_card"]

BUILTIN = "builtin"

Engine = Literal["auto", "library"]

_VERSION = "1"
_FOLDER = Path(__file__).parent / "builtin"


def model_card() -> Mapping[str, Any]:
    """The built-in model's card: what it was trained on and what was measured, decimals as text."""
    card: Mapping[str, Any] = json.loads((_FOLDER / "card.json").read_text(encoding="utf-8"))
    return card


class Toxicity:
    """A fastText classifier as a detector.

    Args:
        model: "builtin", or the path of a fastText classifier.
        labels: Labels whose probabilities are summed, with or without `__label__`.
        split: "words", or "paragraphs" to end windows at blank lines too.
        window: Words in a window.
        engine: "auto"; "library" computes through the fastText library what the kernel could (its digest differs).

    Raises:
        UsageError: The file is no classifier, or lacks a label.
    """

    name = "toxicity"
    category = "toxicity"
    version = _VERSION

    def __init__(
        self,
        model: str | Path = BUILTIN,
        labels: Sequence[str] = ("toxic",),
        *,
        split: str = "words",
        window: int = 100,
        engine: Engine = "auto",
    ) -> None:
        self._arguments = (str(model), tuple(labels), split, window, engine)
        self._rule = WindowRule(words=window, split=split)
        builtin = str(model) == BUILTIN
        file = read_fasttext(_FOLDER / "toxicity.bin" if builtin else model)
        mapping = fasttext_fused.FOLDED if builtin else fasttext_fused.AS_IS
        chosen = _chosen(file, labels)
        self._label = "+".join(chosen)
        self._fused = fasttext_fused.fuse(file, chosen, mapping=mapping) if engine == "auto" else None
        self._library = LibraryModel(file, chosen, mapping=mapping) if self._fused is None else None
        self.model_digest = file.digest
        self._parameters = {
            "cut": CUT,
            "labels": chosen,
            "mapping": mapping,
            "model": file.digest,
            "numerics": fasttext_kernel.NUMERICS if self._fused else _library_numerics(),
            "split": split,
            "window": window,
        }
        self._digest = detector_digest(self.name, self.category, version=self.version, parameters=self._parameters)

    @property
    def digest(self) -> str:
        """`sha256:...` over name, category, version and parameters."""
        return self._digest

    @property
    def parameters(self) -> Mapping[str, Any]:
        """Model digest, labels, windows, text mapping and numerics class."""
        return dict(self._parameters)

    @property
    def false_positive_rate(self) -> Mapping[str, str] | None:
        """The rate its card states, the set it was measured on and the threshold; None for what no card measured."""
        if self._arguments[0] != BUILTIN or self._label != "toxic" or self._rule != WindowRule():
            return None
        card = model_card()
        return {"rate": card["false_positive_rate"], "on": card["false_positive_set"], "flag": card["threshold"]}

    def score(self, texts: Texts) -> Findings:
        """One finding for each text: its worst window; 0 at 0, 0 for a null text and one without a word."""
        return self.score_bytes(text_bytes(texts))

    def score_bytes(self, texts: TextBytes) -> Findings:
        """The same over buffers already at hand."""
        windows = cut_windows(texts, self._rule)
        failed: Mapping[int, str] = {}
        if self._fused is not None:
            score, start, stop = fasttext_kernel.score_windows(self._fused, texts, windows=windows)
        else:
            assert self._library is not None
            score, start, stop, failed = self._library.score_windows(texts, windows)
        index = np.arange(len(texts), dtype=np.int64)
        if failed:
            judged = ~np.isin(index, list(failed))
            index, score, start, stop = index[judged], score[judged], start[judged], stop[judged]
        return Findings(index=index, label=self._label, score=score, start=start, stop=stop, failed=failed)

    def windows(self, texts: Texts) -> Windows:
        """The windows this detector judges, for a second tier to judge again."""
        return cut_windows(text_bytes(texts), self._rule)

    def warm(self) -> None:
        """Compile the kernel now, so that the first batch is not the one that waits."""
        self.score(pa.array(["warm"]))

    def __reduce__(self) -> tuple[object, ...]:
        # A model file may weigh a gigabyte: workers read it themselves, and make sure it is the same one.
        return _rebuild, (*self._arguments, self._digest)


def _rebuild(model: str, labels: Sequence[str], split: str, window: int, engine: Engine, digest: str) -> Toxicity:
    detector = Toxicity(model, labels, split=split, window=window, engine=engine)
    if detector.digest != digest:
        raise UsageError(
            "model_changed",
            expected=f"the detector {digest} on every worker",
            found=f"{detector.digest} from {model}",
            remedy="Install one version of forebear and one model file everywhere, and do not change it during a scan.",
        )
    return detector


def _chosen(file: FastTextFile, labels: Sequence[str]) -> list[str]:
    wanted = [label.removeprefix(LABEL_PREFIX) for label in labels]
    missing = [label for label in wanted if label not in file.labels]
    if missing or not wanted or isinstance(labels, str):
        shown = ", ".join(file.labels[:20]) + (f" and {len(file.labels) - 20} more" if len(file.labels) > 20 else "")
        raise UsageError(
            "unknown_label",
            expected=f"labels of the model, which has {shown}",
            found=", ".join(missing) or "no labels",
            remedy="Name its labels in the policy: [toxicity] labels = [...].",
        )
    return sorted(set(wanted))


def _library_numerics() -> str:
    for distribution in ("fasttext-community", "fasttext", "fasttext-wheel"):
        try:
            return f"{distribution} {importlib.metadata.version(distribution)} {platform.machine()}"
        except importlib.metadata.PackageNotFoundError:
            continue
    return f"fasttext unknown {platform.machine()}"
