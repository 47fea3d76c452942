"""Benchmark leaks: documents that hold an item of a test set, as a detector.

Always true here: what is found names the benchmark, its split and the item's row in the file from 0 ("gsm8k/test/123"), and as
label the part that was met: question, answer or passage. A document in which nothing is met has no finding. A part of
fewer than 13 tokens counts only whole, and such an answer only in a document that holds something of its question;
parts of fewer than 5 tokens are not sought, and their number stands in the parameters.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from forebear.schemas.enums import Category
from forebear.schemas.errors import UsageError
from forebear.tracer.detect.benchmark_index import FEWEST, NGRAM, WHOLE_BELOW, Part, build_index
from forebear.tracer.detect.benchmark_match import FLOOR, find_parts
from forebear.tracer.detect.benchmark_tokens import character_classes
from forebear.tracer.detect.detector import Findings, Texts, detector_digest
from forebear.tracer.detect.listed_rows import ListedRows, read_listed
from forebear.tracer.detect.windows import TextBytes, text_bytes

__all__ = ["LABELS", "BenchmarkLeaks"]

LABELS = ("question", "answer", "passage")


class BenchmarkLeaks:
    """One split of one benchmark.

    Args:
        name: The benchmark.
        split: The split that the file holds.
        path: JSONL (.gz, .zst), Parquet or Arrow file, one item a row.
        question: Field of the question.
        answer: Field of the answer; empty: none.
        passage: Field of the passage; empty: none.

    Raises:
        UsageError: The file cannot be read, lacks a field, or holds nothing that could be sought.
    """

    category = Category.BENCHMARK.value
    version = "1"

    def __init__(self, *, name: str, split: str, path: str, question: str = "question", answer: str = "", passage: str = "") -> None:
        self.name = f"{name}/{split}"
        listed = read_listed(path, what=f"[[benchmarks]] {name}")
        fields = {label: field for label, field in zip(LABELS, (question, answer, passage), strict=True) if field}
        parts = _parts(listed, fields, name=name, path=path)
        self._index = build_index(parts)
        if not self._index.parts:
            raise UsageError(
                "nothing_to_seek",
                expected=f"in {path} at least one item of {FEWEST} tokens or more",
                found=f"{len(listed.rows)} items, none of them so long",
                remedy="Name the field that holds the text of the items.",
            )
        self._parameters = {
            "benchmark": name,
            "fields": fields,
            "file": listed.digest,
            "floor": str(FLOOR),
            "items": len(listed.rows),
            "method": f"seed-{NGRAM}-extend",
            "parts": len(self._index.parts),
            "split": split,
            "unsought": self._index.unsought,
            "whole_below": WHOLE_BELOW,
        }
        self._digest = detector_digest(self.name, self.category, version=self.version, parameters=self._parameters)

    @property
    def digest(self) -> str:
        """`sha256:...` over name, category, version and parameters."""
        return self._digest

    @property
    def parameters(self) -> Mapping[str, Any]:
        """The file by its digest, the fields, the method, and how many parts are sought."""
        return dict(self._parameters)

    def score(self, texts: Texts) -> Findings:
        """The parts met in each text, with the share of their tokens that is covered; nothing where nothing is met."""
        return self.score_bytes(text_bytes(texts))

    def score_bytes(self, texts: TextBytes) -> Findings:
        """The same over buffers already at hand."""
        found = find_parts(texts.data, texts.offsets, classes=character_classes(), lookup=self._index.lookup)
        found = found[self._said(found[:, :2])]
        parts = [self._index.parts[p] for p in found[:, 1].tolist()]
        return Findings(
            index=found[:, 0].copy(),
            label=[part.label for part in parts],
            score=found[:, 2].astype(np.int16),
            start=found[:, 3].copy(),
            stop=found[:, 4].copy(),
            item=[f"{self.name}/{part.item}" for part in parts],
        )

    def _said(self, found: Any) -> np.ndarray[Any, np.dtype[np.bool_]]:
        """Which findings stand: a short answer needs its question in the same document."""
        question = self._index.question[found[:, 1]]
        met = set(map(tuple, found.tolist()))
        waits = np.flatnonzero(question >= 0)
        keep = np.ones(len(found), dtype=bool)
        keep[waits] = [(int(found[n, 0]), int(question[n])) in met for n in waits]
        return keep


def _parts(listed: ListedRows, fields: Mapping[str, str], *, name: str, path: str) -> Sequence[Part]:
    parts = []
    have = listed.fields
    for label, field in fields.items():
        if field not in have:
            raise UsageError(
                "missing_field",
                expected=f"the field {field!r} ({label}) in {path}",
                found=f"fields {', '.join(have[:20]) or 'none: the file is empty'}",
                remedy=f"Set `{label}` of [[benchmarks]] {name} to the field that holds the {label}.",
            )
        for n, row in enumerate(listed.rows):
            value = row.get(field)
            if value is not None and not isinstance(value, str):
                raise UsageError(
                    "not_text",
                    expected=f"text in the field {field!r} of {path}",
                    found=f"{type(value).__name__} in item {n}",
                    remedy=f"Name another field as `{label}`, or write it as text.",
                )
            if value:
                parts.append(Part(n, label, value))
    return sorted(parts, key=lambda part: (part.item, LABELS.index(part.label)))
