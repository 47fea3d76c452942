"""`forebear evaluate`: one of a policy's detectors on a labelled file, as JSON, tables and a picture.

Always true here: the detector is made exactly as a scan makes it, and its threshold is the one that the policy has in force; so the
figures are of what a scan would do. Files are written whole or not at all.
"""

from __future__ import annotations

import difflib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from forebear.schemas.errors import UsageError
from forebear.schemas.records import DetectorRecord
from forebear.tracer.detect.detector import Detector
from forebear.tracer.detect.evaluate import Fields, evaluate, read_labelled
from forebear.tracer.detect.evaluate_picture import draw_evaluation
from forebear.tracer.policy import load_policy
from forebear.tracer.scan.plan import build_detectors

__all__ = ["EvaluateRequest", "evaluate_command"]


@dataclass(frozen=True)
class EvaluateRequest:
    """What the command line asked for.

    Args:
        detector: Name of a detector of the policy ("toxicity" is the default policy's), or a fastText classifier's file.
        labelled: File of labelled texts.
        fields: Where it says what.
        policy: Policy file; none: the default.
        picture: PNG file to write; none: no picture.
        output: JSON file to write; none: the answer alone.
    """

    detector: str
    labelled: str
    fields: Fields = Fields()
    policy: Path | None = None
    picture: Path | None = None
    output: Path | None = None


def evaluate_command(request: EvaluateRequest) -> dict[str, Any]:
    """Measure, write what was asked for, and return the result of `detect.evaluate.evaluate`.

    Raises:
        UsageError: There is no such detector, the file cannot be read as labelled texts, or an output cannot be written.
    """
    detector, record = _detector(request)
    labelled = read_labelled(request.labelled, request.fields)
    if not len(labelled.truth):
        raise UsageError(
            "nothing_to_evaluate",
            expected=f"labelled texts in {request.labelled}",
            found="none",
            remedy="Give a file with at least one row.",
        )
    result = evaluate(detector, labelled, flag=record.threshold(None).flag)
    result["detector"]["parameters"] = dict(record.parameters)
    if request.output is not None:
        _write(request.output, (json.dumps(result, indent=1, ensure_ascii=False, sort_keys=True) + "\n").encode())
    if request.picture is not None:
        _write(request.picture, draw_evaluation(result))
    return result


def _detector(request: EvaluateRequest) -> tuple[Detector, DetectorRecord]:
    model = request.detector if Path(request.detector).is_file() else None
    found = build_detectors(load_policy(request.policy, toxicity_model=model))
    wanted = "toxicity" if model else request.detector
    for detector, record in found:
        if record.name == wanted:
            return detector, record
    names = [record.name for _, record in found]
    near = difflib.get_close_matches(wanted, names, n=1)
    raise UsageError(
        "unknown_detector",
        expected=f"a detector of the policy ({', '.join(names) or 'it has none'}), or a classifier's file",
        found=repr(wanted),
        remedy=f"Did you mean {near[0]}?" if near else "Name one of these, or give --policy.",
    )


def _write(path: Path, data: bytes) -> None:
    part = path.with_name(path.name + ".part")
    try:
        part.write_bytes(data)
        part.replace(path)
    except OSError as error:
        part.unlink(missing_ok=True)
        remedy = "Name another place."
        raise UsageError("not_writable", expected=f"to write {path}", found=str(error.strerror), remedy=remedy) from error
