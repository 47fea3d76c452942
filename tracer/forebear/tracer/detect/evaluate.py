"""How accurate a detector is on labelled texts: AUC, average precision, thresholds, calibration, false positives by group.

Always true here: scores are the detector's own, on the grid, the highest finding of a text (0 where it has none); ties count half
(AUC) or together (average precision); a figure that a set cannot give is null, never 0; texts that the detector could not
judge are counted and left out. The same file and detector give the same figures.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from forebear.schemas.errors import UsageError
from forebear.tracer.detect.detector import GRID, Detector
from forebear.tracer.detect.listed_rows import ListedRows, read_listed

__all__ = ["THRESHOLDS", "Fields", "Labelled", "area", "average_precision", "evaluate", "read_labelled", "tables", "wilson"]

Bools = npt.NDArray[np.bool_]
Ints = npt.NDArray[np.int64]

THRESHOLDS = ("0.1", "0.2", "0.3", "0.4", "0.5", "0.6", "0.7", "0.8", "0.9")

_BINS = 10
_BATCH = 2048
_YES, _NO = frozenset({"1", "1.0", "true", "yes"}), frozenset({"0", "0.0", "false", "no"})


@dataclass(frozen=True)
class Fields:
    """Where a labelled file says what.

    Args:
        text: Field of the text.
        label: Field of the label.
        group: Field of the group whose false positives are told apart; empty: none.
        positive: Labels that mean yes; empty: 1, true and yes, against 0, false and no.
    """

    text: str = "text"
    label: str = "label"
    group: str = ""
    positive: tuple[str, ...] = ()


@dataclass(frozen=True)
class Labelled:
    """Labelled texts: n of each; `digest` is the file's."""

    digest: str
    texts: pa.Array
    truth: Bools
    group: Sequence[str] | None


def read_labelled(path: str, fields: Fields) -> Labelled:
    """Read a labelled file (JSONL, Parquet, Arrow, CSV, TSV).

    Raises:
        UsageError: It cannot be read, lacks a field, holds no text, or a label is neither yes nor no.
    """
    listed = read_listed(path, what="the labelled texts")
    for field in filter(None, (fields.text, fields.label, fields.group)):
        if field not in listed.fields:
            raise UsageError(
                "missing_field",
                expected=f"the field {field!r} in {path}",
                found=f"fields {', '.join(listed.fields[:20]) or 'none: the file is empty'}",
                remedy="Name the fields with --text-field, --label-field and --group-field.",
            )
    group = [str(row.get(fields.group) or "") for row in listed.rows] if fields.group else None
    return Labelled(listed.digest, _texts(listed, fields.text, path), _truth(listed, fields, path), group)


def _texts(listed: ListedRows, field: str, path: str) -> pa.Array:
    values = [row.get(field) for row in listed.rows]
    odd = next((n for n, value in enumerate(values) if not isinstance(value, str)), None)
    if odd is not None:
        found = f"{type(values[odd]).__name__} in row {odd}"
        raise UsageError("not_text", expected=f"text in {field!r} of {path}", found=found, remedy="Mend or leave out that row.")
    return pa.array(values, pa.large_string())


def _truth(listed: ListedRows, fields: Fields, path: str) -> Bools:
    said = [str(row.get(fields.label)).strip() for row in listed.rows]
    if fields.positive:
        unknown = [one for one in fields.positive if one not in said]
        if len(unknown) == len(fields.positive):
            raise UsageError(
                "unknown_label",
                expected=f"one of {', '.join(fields.positive)} in {fields.label!r} of {path}",
                found=", ".join(sorted(set(said))[:10]),
                remedy="Name with --positive the labels that mean yes.",
            )
        return np.isin(said, fields.positive)
    odd = next((one for one in said if one.lower() not in _YES | _NO), None)
    if odd is not None:
        raise UsageError(
            "unknown_label",
            expected=f"1 or 0, true or false, yes or no in {fields.label!r} of {path}",
            found=repr(odd[:80]),
            remedy="Name with --positive the labels that mean yes.",
        )
    return np.array([one.lower() in _YES for one in said], dtype=bool)


def evaluate(detector: Detector, labelled: Labelled, *, flag: int) -> dict[str, Any]:
    """All figures of a detector on labelled texts.

    Args:
        detector: What is measured.
        labelled: On what.
        flag: The threshold in force, in 1/1024: what groups are compared at.
    """
    score, failed = _scores(detector, labelled.texts)
    kept = np.ones(len(score), dtype=bool)
    kept[failed] = False
    score, truth = score[kept], labelled.truth[kept]
    result: dict[str, Any] = {
        "schema": "forebear/evaluation/1",
        "detector": {"name": detector.name, "digest": detector.digest, "class": detector.category, "version": detector.version},
        "set": {"digest": labelled.digest, "texts": len(labelled.truth), "positive": int(labelled.truth.sum())},
        "failed": len(failed),
        "auc": _rounded(area(score, truth)),
        "average_precision": _rounded(average_precision(score, truth)),
        "flag": _rounded(flag / GRID),
        "at": [_at(score, truth, limit, shown) for limit, shown in _limits(flag)],
        "calibration": _calibration(score, truth),
        "groups": [],
        "curves": _curves(score, truth),
    }
    if labelled.group is not None:
        group = np.array(labelled.group, dtype=object)[kept]
        result["groups"] = [_group(name, score[group == name], truth[group == name], flag) for name in sorted(set(group.tolist()))]
    return result


def _scores(detector: Detector, texts: pa.Array) -> tuple[Ints, Ints]:
    """The highest score of each text, and the places of those that failed."""
    score, failed = np.zeros(len(texts), "i8"), list[int]()
    for first in range(0, len(texts), _BATCH):
        found = detector.score(texts.slice(first, _BATCH))
        np.maximum.at(score, found.index + first, found.score.astype("i8"))
        failed += [first + n for n in found.failed]
    return score, np.array(sorted(failed), dtype="i8")


def area(score: Ints, truth: Bools) -> float | None:
    """Area under the ROC curve: the chance that a positive scores above a negative, ties half (Mann and Whitney 1947)."""
    negative, positive = np.sort(score[~truth]), score[truth]
    if not len(negative) or not len(positive):
        return None
    below = np.searchsorted(negative, positive, "left") + np.searchsorted(negative, positive, "right")
    return float(below.mean() / 2 / len(negative))


def average_precision(score: Ints, truth: Bools) -> float | None:
    """Precision at each distinct score, weighted by the recall it adds."""
    if not truth.any():
        return None
    _, hits, taken = _cumulated(score, truth)
    recall = hits / truth.sum()
    return float(np.sum(np.diff(recall, prepend=0.0) * hits / taken))


def _cumulated(score: Ints, truth: Bools) -> tuple[Ints, Ints, Ints]:
    """Distinct scores, highest first; at or above each: positives, texts."""
    order = np.argsort(-score, kind="stable")
    last = np.flatnonzero(np.diff(score[order], append=-1) != 0)
    return score[order][last], np.cumsum(truth[order])[last].astype("i8"), (last + 1).astype("i8")


def _limits(flag: int) -> list[tuple[int, str]]:
    """Thresholds on the grid with what they are called; the one in force among them."""
    limits = {-(-int(text.replace("0.", "")) * GRID // 10): text for text in THRESHOLDS}
    limits.setdefault(flag, f"{flag / GRID:.4g}")
    return sorted(limits.items())


def _at(score: Ints, truth: Bools, limit: int, shown: str) -> dict[str, Any]:
    hit = score >= limit
    right, wrong = int((hit & truth).sum()), int((hit & ~truth).sum())
    precision, recall = _share(right, int(hit.sum())), _share(right, int(truth.sum()))
    f1 = _share(2 * right, int(hit.sum() + truth.sum()))
    counts = {"true_positives": right, "false_positives": wrong, "flagged": int(hit.sum())}
    return {
        "threshold": shown,
        "precision": precision,
        "recall": recall,
        "f1": f1,
        "false_positive_rate": _share(wrong, int((~truth).sum())),
        **counts,
    }


def _calibration(score: Ints, truth: Bools) -> dict[str, Any]:
    """Ten bins of equal width, and how far on average the score is from the share of positives (ECE, Guo et al. 2017)."""
    place = np.minimum(score * _BINS // GRID, _BINS - 1)
    bins, error = [], 0.0
    for n in range(_BINS):
        mine = place == n
        if mine.any():
            mean, share = float(score[mine].mean()) / GRID, float(truth[mine].mean())
            error += abs(mean - share) * float(mine.mean())
            bins.append({"from": n / _BINS, "texts": int(mine.sum()), "score": _rounded(mean), "positive": _rounded(share)})
    return {"bins": bins, "error": _rounded(error) if len(score) else None}


def _group(name: str, score: Ints, truth: Bools, flag: int) -> dict[str, Any]:
    hit = score >= flag
    negatives, wrong = int((~truth).sum()), int((hit & ~truth).sum())
    return {
        "group": name,
        "texts": len(truth),
        "positive": int(truth.sum()),
        "false_positives": wrong,
        "false_positive_rate": _share(wrong, negatives),
        "interval": [_rounded(edge) for edge in wilson(wrong, negatives)] if negatives else None,
        "recall": _share(int((hit & truth).sum()), int(truth.sum())),
    }


def _curves(score: Ints, truth: Bools) -> dict[str, Any]:
    """Points of the ROC and precision-recall curves, one for each distinct score."""
    limit, hits, taken = _cumulated(score, truth)
    positive, negative = int(truth.sum()), int((~truth).sum())
    return {
        "threshold": [_rounded(float(one) / GRID) for one in limit],
        "recall": [_share(int(hit), positive) for hit in hits],
        "precision": [_share(int(hit), int(n)) for hit, n in zip(hits, taken, strict=True)],
        "false_positive_rate": [_share(int(n - hit), negative) for hit, n in zip(hits, taken, strict=True)],
    }


def wilson(hits: int, n: int) -> tuple[float, float]:
    """The 95% interval of a share (Wilson 1927)."""
    z = 1.96
    share, room = hits / n, z * z / n
    middle = (share + room / 2) / (1 + room)
    half = z * ((share * (1 - share) + room / 4) / n) ** 0.5 / (1 + room)
    return max(0.0, middle - half), min(1.0, middle + half)


def _share(part: int, whole: int) -> float | None:
    return _rounded(part / whole) if whole else None


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 6)


def tables(result: Mapping[str, Any]) -> list[tuple[str, list[str], list[list[str]]]]:
    """A result as tables for people: (title, header, rows)."""
    at = [[one["threshold"], *(_shown(one[key]) for key in _SHOWN), f"{one['flagged']:,}"] for one in result["at"]]
    found = [(f"AUC {_shown(result['auc'])}, average precision {_shown(result['average_precision'])}", list(_HEAD), at)]
    calibration = result["calibration"]
    bins = [[f"{one['from']:.1f}", f"{one['texts']:,}", _shown(one["score"]), _shown(one["positive"])] for one in calibration["bins"]]
    found.append((f"Calibration error {_shown(calibration['error'])}", ["from", "texts", "mean score", "positive"], bins))
    if result["groups"]:
        rows = [
            [
                one["group"] or "(none)",
                f"{one['texts']:,}",
                f"{one['false_positives']:,}",
                _shown(one["false_positive_rate"]),
                _between(one["interval"]),
            ]
            for one in result["groups"]
        ]
        head = ["group", "texts", "false positives", "rate", "95% interval"]
        found.append((f"False positives by group at {result['flag']:.3f}", head, rows))
    return found


_SHOWN = ("precision", "recall", "f1", "false_positive_rate")
_HEAD = ("threshold", "precision", "recall", "F1", "false-positive rate", "flagged")


def _shown(value: float | None) -> str:
    return "not known" if value is None else f"{value:.4f}"


def _between(interval: Sequence[float] | None) -> str:
    return "not known" if interval is None else f"{interval[0]:.4f} to {interval[1]:.4f}"
