"""Detectors of a user's own, named in a policy by their import path.

Always true here: a detector that raises, returns NaN, the wrong number of scores, a score outside the grid or a byte range that
is none costs the rows that it happens on (`detector_failed`), found by asking again for one row at a time; messages name the
kind of failure and hold no text. An import path is honoured from a policy file alone, and must be installed beside forebear
(or be on PYTHONPATH): nothing is imported from the working directory, nor ever from a ledger.

A whole detector (`acme_detectors/emails.py`):

    import re
    import numpy as np
    from forebear.tracer.detect.detector import Findings, detector_digest, to_grid

    class Emails:
        name, category, version = "emails", "pii", "1"

        def __init__(self, most=3):
            self.most = int(most)
            self.parameters = {"most": self.most}
            self.digest = detector_digest(self.name, self.category, version=self.version, parameters=self.parameters)

        def score(self, texts):
            found = [list(re.finditer(rb"[\\w.+-]+@[\\w-]+\\.[\\w.]+", (text or "").encode())) for text in texts.to_pylist()]
            return Findings(
                index=np.arange(len(found)),
                label="email",
                score=to_grid([len(hits) / self.most for hits in found]),
                start=np.array([hits[0].start() if hits else 0 for hits in found]),
                stop=np.array([hits[-1].end() if hits else 0 for hits in found]),
            )

and in the policy: `[[detectors]]`, `use = "acme_detectors.emails:Emails"`, `flag = 0.5`, `options = {most = 2}`.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from decimal import Decimal
from typing import Any

import numpy as np
import pyarrow as pa

from forebear.schemas.canonical import canonical_json
from forebear.schemas.digests import is_digest
from forebear.schemas.enums import Reason
from forebear.schemas.errors import UsageError
from forebear.tracer.detect.detector import GRID, Detector, Findings, Texts
from forebear.tracer.detect.windows import text_bytes

__all__ = ["GuardedDetector", "check_findings", "load_detector"]


def load_detector(use: str, options: Mapping[str, Any]) -> GuardedDetector:
    """The detector that an import path names, made with options and guarded.

    Args:
        use: `module:Name`; what Name gives when called with the options is the detector.
        options: Keyword arguments; decimals arrive as floats.

    Raises:
        UsageError: There is no such module or name, it cannot be made, or what it gives is no Detector.
    """
    module, _, name = use.partition(":")
    if not module or not name:
        raise _wrong("bad_import_path", "an import path, module:Name", repr(use), 'Write use = "package.module:Name".')
    try:
        made = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError) as error:
        remedy = f"Install the package that has {module} where forebear is installed, or put its folder on PYTHONPATH."
        raise _wrong("no_such_detector", f"a detector at {use}", f"{type(error).__name__}: {error}", remedy) from error
    try:
        detector = made(**_plain(options)) if callable(made) else made
    except Exception as error:
        found = f"{type(error).__name__}: {error}"
        raise _wrong("bad_detector_options", f"{use} to take the options of the policy", found, "Correct `options`.") from error
    return GuardedDetector(_checked(detector, use))


def _plain(value: Any) -> Any:
    if isinstance(value, Decimal):
        return float(value)
    if isinstance(value, Mapping):
        return {key: _plain(inner) for key, inner in value.items()}
    return [_plain(inner) for inner in value] if isinstance(value, list | tuple) else value


def _checked(detector: Any, use: str) -> Detector:
    wrong = _fault(detector)
    if wrong is not None:
        remedy = "See forebear.tracer.detect.custom for a complete example of twenty lines."
        raise _wrong("not_a_detector", f"{use} to be a Detector (forebear.tracer.detect.detector)", wrong, remedy)
    checked: Detector = detector
    return checked


def _fault(detector: Any) -> str | None:
    for name in ("name", "category", "version", "digest"):
        value = getattr(detector, name, None)
        if not isinstance(value, str) or not value:
            return f"{name} is {value!r}"
    if not is_digest(detector.digest):
        return f"digest is {detector.digest!r}; take it from detector_digest"
    if detector.name in set(Reason):
        return f"name {detector.name!r}, which is a reason of forebear's own"
    if not callable(getattr(detector, "score", None)):
        return "it has no score"
    try:
        canonical_json(dict(detector.parameters))
    except (AttributeError, TypeError, ValueError) as error:
        return f"parameters are no JSON without floats: {error}"
    return None


class GuardedDetector:
    """A detector whose failures cost the rows they happen on."""

    def __init__(self, detector: Detector) -> None:
        self._detector = detector

    @property
    def name(self) -> str:
        """The detector's own name."""
        return self._detector.name

    @property
    def category(self) -> str:
        """The detector's own class."""
        return self._detector.category

    @property
    def version(self) -> str:
        """The detector's own version."""
        return self._detector.version

    @property
    def digest(self) -> str:
        """The detector's own digest."""
        return self._detector.digest

    @property
    def parameters(self) -> Mapping[str, Any]:
        """The detector's own parameters."""
        return self._detector.parameters

    def score(self, texts: Texts) -> Findings:
        """The detector's findings; where they cannot be, those of each row by itself."""
        found, _ = self._attempt(texts)
        if found is not None:
            return found
        column = texts.combine_chunks() if isinstance(texts, pa.ChunkedArray) else texts
        return _joined([self._attempt(column.slice(n, 1)) for n in range(len(column))])

    def _attempt(self, texts: Texts) -> tuple[Findings | None, str]:
        """The findings, or None and why."""
        try:
            found = self._detector.score(texts)
            fault = check_findings(found, texts)
        except Exception as error:  # noqa: BLE001 - one bad row costs one row, whatever it raises
            return None, type(error).__name__
        return (None, fault) if fault else (_typed(found), "")


def _typed(found: Findings) -> Findings:
    """Findings in the types of the interface, whichever whole numbers they came in."""
    index, start, stop = (np.asarray(column, "i8") for column in (found.index, found.start, found.stop))
    return replace(found, index=index, start=start, stop=stop, score=np.asarray(found.score, "i2"))


def check_findings(found: Findings, texts: Texts) -> str | None:
    """What is wrong with findings of a column of texts; None where nothing is."""
    n, k = len(texts), len(found.index)
    columns: dict[str, Any] = {"score": found.score, "start": found.start, "stop": found.stop}
    columns |= {} if isinstance(found.label, str) else {"label": found.label}
    columns |= {} if found.item is None else {"item": found.item}
    for name, column in columns.items():
        if len(column) != k:
            return f"{len(column)} of {name} for {k} findings"
    index = np.asarray(found.index)
    if k and (index.dtype.kind not in "iu" or index[0] < 0 or index[-1] >= n or (np.diff(index) < 0).any()):
        return "positions do not ascend inside the column"
    score, start, stop = (np.asarray(columns[name]) for name in ("score", "start", "stop"))
    if k and score.dtype.kind == "f" and np.isnan(score).any():
        return "a score is NaN"
    if k and (score.dtype.kind not in "iu" or score.min() < 0 or score.max() > GRID):
        return f"a score is no whole number from 0 to {GRID}"
    if k and not (start.dtype.kind in "iu" and stop.dtype.kind in "iu" and _inside(index, start, stop, texts=texts)):
        return "a byte range is none of its text, or cuts a character"
    if any(not 0 <= place < n for place in found.failed):
        return "a failed position outside the column"
    return None


def _inside(index: np.ndarray[Any, Any], start: np.ndarray[Any, Any], stop: np.ndarray[Any, Any], *, texts: Texts) -> bool:
    raw = text_bytes(texts)
    first, last = raw.offsets[index], raw.offsets[index + 1]
    if (start < 0).any() or (stop < start).any() or (first + stop > last).any():
        return False
    data = np.append(raw.data, np.uint8(0))
    # A cut at a text's end is no cut; elsewhere the byte behind it must not continue a character.
    cuts = ((first + edge, first + edge < last) for edge in (start, stop))
    return not any(((data[at] & 0xC0) == 0x80)[inner].any() for at, inner in cuts)


def _joined(rows: Sequence[tuple[Findings | None, str]]) -> Findings:
    """Findings of rows that were judged one by one."""
    failed: dict[int, str] = {}
    good: list[tuple[int, Findings]] = []
    for n, (found, why) in enumerate(rows):
        if found is None:
            failed[n] = why
        else:
            failed |= dict.fromkeys([n] if found.failed else [], next(iter(found.failed.values()), ""))
            good.append((n, found))
    items = [item for _, one in good for item in (one.item if one.item is not None else [None] * len(one))]
    return Findings(
        index=np.concatenate([np.zeros(0, "i8"), *(np.full(len(one), n, "i8") for n, one in good)]),
        label=[label for _, one in good for label in one.labels()],
        score=np.concatenate([np.zeros(0, "i2"), *(one.score for _, one in good)]),
        start=np.concatenate([np.zeros(0, "i8"), *(one.start for _, one in good)]),
        stop=np.concatenate([np.zeros(0, "i8"), *(one.stop for _, one in good)]),
        item=items if any(item is not None for item in items) else None,  # type: ignore[arg-type]
        failed=failed,
    )


def _wrong(kind: str, expected: str, found: str, remedy: str) -> UsageError:
    return UsageError(kind, expected=expected, found=found, remedy=remedy)
