"""A detector's accuracy as one picture (PNG): ROC, precision and recall, calibration, false positives by group.

Always true here: what is drawn is what the figures say, nothing smoothed; a panel without figures says so. Drawn with Pillow, which
comes with the extra `pipelines`; a plotting library would weigh ten times as much for four plain panels.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import Any

from forebear.schemas.errors import UsageError

__all__ = ["draw_evaluation"]

_WIDTH, _HEIGHT = 460, 400
_LEFT, _TOP, _RIGHT, _BOTTOM = 62, 48, 22, 58
_INK, _FAINT, _LINE, _BAR = (34, 34, 34), (200, 204, 208), (31, 98, 171), (192, 87, 33)

Point = tuple[float, float]


def draw_evaluation(result: Mapping[str, Any]) -> bytes:
    """The picture of a result of `evaluate`, as PNG bytes.

    Raises:
        UsageError: Pillow is not installed.
    """
    try:
        from PIL import Image, ImageDraw, ImageFont
    except ImportError as error:
        raise UsageError(
            "missing_extra",
            expected="Pillow, to draw a picture",
            found=str(error),
            remedy="Install it: pip install 'forebear[pipelines]'.",
        ) from error
    image = Image.new("RGB", (2 * _WIDTH, 2 * _HEIGHT + 40), "white")
    canvas = _Canvas(ImageDraw.Draw(image), ImageFont.load_default(13), ImageFont.load_default(16))
    detector = result["detector"]
    canvas.text((16, 10), f"{detector['name']} {detector['digest'][:19]} on {result['set']['texts']:,} texts", large=True)
    for n, draw in enumerate((_roc, _precision_recall, _calibration, _groups)):
        draw(_Panel(canvas, (n % 2) * _WIDTH, 40 + (n // 2) * _HEIGHT), result)
    sink = io.BytesIO()
    image.save(sink, "PNG", optimize=True)
    return sink.getvalue()


class _Canvas:
    """Lines and words on an image."""

    def __init__(self, draw: Any, font: Any, title: Any) -> None:
        self._draw, self._font, self._title = draw, font, title

    def text(self, at: Point, words: str, *, anchor: str = "la", large: bool = False) -> None:
        """Words at a place."""
        self._draw.text(at, words, fill=_INK, font=self._title if large else self._font, anchor=anchor)

    def line(self, points: Sequence[Point], colour: tuple[int, int, int], width: int = 1) -> None:
        """A line through points."""
        self._draw.line(list(points), fill=colour, width=width)

    def box(self, first: Point, last: Point, colour: tuple[int, int, int]) -> None:
        """A filled box."""
        self._draw.rectangle((*first, *last), fill=colour)


class _Panel:
    """One plot with axes from 0 to 1."""

    def __init__(self, canvas: _Canvas, x: int, y: int) -> None:
        self.canvas, self.x, self.y = canvas, x, y
        self.width, self.height = _WIDTH - _LEFT - _RIGHT, _HEIGHT - _TOP - _BOTTOM

    def at(self, across: float, up: float) -> Point:
        """Where a value lies."""
        return self.x + _LEFT + across * self.width, self.y + _TOP + (1 - up) * self.height

    def frame(self, title: str, across: str, up: str) -> None:
        """Title, axes and their names."""
        self.canvas.text((self.x + _LEFT, self.y + 14), title)
        for n in range(6):
            share = n / 5
            self.canvas.line([self.at(share, 0), self.at(share, 1)], _FAINT)
            self.canvas.line([self.at(0, share), self.at(1, share)], _FAINT)
            x, y = self.at(share, 0)
            self.canvas.text((x, y + 6), f"{share:.1f}", anchor="ma")
            x, y = self.at(0, share)
            self.canvas.text((x - 8, y), f"{share:.1f}", anchor="rm")
        x, y = self.at(0.5, 0)
        self.canvas.text((x, y + 28), f"{across} (across), {up} (up)", anchor="ma")

    def curve(self, points: Sequence[tuple[float | None, float | None]]) -> None:
        """A line through the points that are known, or a word that there are none."""
        known = [self.at(a, b) for a, b in points if a is not None and b is not None]
        if len(known) < 2:
            self.nothing("not to be had from this set")
        else:
            self.canvas.line(known, _LINE, 3)

    def nothing(self, why: str) -> None:
        """Say that a panel is empty."""
        self.canvas.text(self.at(0.5, 0.5), why, anchor="mm")


def _roc(panel: _Panel, result: Mapping[str, Any]) -> None:
    curves = result["curves"]
    auc = result["auc"]
    panel.frame(f"ROC, AUC {auc:.4f}" if auc is not None else "ROC", "false-positive rate", "recall")
    panel.canvas.line([panel.at(0, 0), panel.at(1, 1)], _FAINT, 2)
    points = [*zip(curves["false_positive_rate"], curves["recall"], strict=True)]
    panel.curve([(0.0, 0.0), *points] if auc is not None else [])


def _precision_recall(panel: _Panel, result: Mapping[str, Any]) -> None:
    curves, mean = result["curves"], result["average_precision"]
    panel.frame(f"Average precision {mean:.4f}" if mean is not None else "Average precision", "recall", "precision")
    panel.curve([*zip(curves["recall"], curves["precision"], strict=True)] if mean is not None else [])


def _calibration(panel: _Panel, result: Mapping[str, Any]) -> None:
    found = result["calibration"]
    error = found["error"]
    panel.frame(f"Calibration, error {error:.4f}" if error is not None else "Calibration", "mean score", "share positive")
    panel.canvas.line([panel.at(0, 0), panel.at(1, 1)], _FAINT, 2)
    panel.curve([(one["score"], one["positive"]) for one in found["bins"]])
    for one in found["bins"]:
        x, y = panel.at(one["score"], one["positive"])
        panel.canvas.box((x - 4, y - 4), (x + 4, y + 4), _LINE)


def _groups(panel: _Panel, result: Mapping[str, Any]) -> None:
    panel.canvas.text((panel.x + _LEFT, panel.y + 14), f"False-positive rate by group at {result['flag']:.3f}")
    groups = sorted((one for one in result["groups"] if one["interval"]), key=lambda one: -one["false_positive_rate"])
    if not groups:
        panel.nothing("no groups were given")
        return
    most = max(one["interval"][1] for one in groups[:_MOST]) or 1.0
    for n, one in enumerate(groups[:_MOST]):
        up = 1 - (n + 0.5) / _MOST
        name = (one["group"] or "(none)")[:22]
        panel.canvas.text(panel.at(0.34, up), name, anchor="rm")
        start, end = panel.at(0.36, up), panel.at(0.36 + 0.4 * one["false_positive_rate"] / most, up)
        panel.canvas.box((start[0], start[1] - 7), (end[0] + 1, end[1] + 7), _BAR)
        edges = [panel.at(0.36 + 0.4 * edge / most, up) for edge in one["interval"]]
        panel.canvas.line(edges, _INK, 2)
        panel.canvas.text(panel.at(0.8, up), f"{one['false_positive_rate']:.4f} ({one['texts']:,})", anchor="lm")
    if len(groups) > _MOST:
        panel.canvas.text(panel.at(0.36, -0.06), f"and {len(groups) - _MOST} more groups", anchor="lm")


_MOST = 14
