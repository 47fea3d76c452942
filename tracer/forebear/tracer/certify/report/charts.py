"""Charts of a scan as SVG: shares, a histogram of scores, the S-curve with what was measured.

Always true here: every chart has its numbers in a table beside it or in its own label, so nobody needs to see it; counts on a
logarithmic height say so.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from forebear.tracer.certify.escape import html_text
from forebear.tracer.certify.report.page import Html

__all__ = ["Axes", "curve_chart", "histogram"]


@dataclass(frozen=True)
class Axes:
    """The frame of a chart in pixels, and the range of its horizontal axis."""

    width: int = 640
    height: int = 220
    left: int = 46
    bottom: int = 34
    top: int = 14
    first: float = 0.0
    last: float = 1.0

    def x(self, value: float) -> float:
        """Pixel of a value on the horizontal axis."""
        return self.left + (value - self.first) / (self.last - self.first) * (self.width - self.left - 12)

    def y(self, share: float) -> float:
        """Pixel of a share of the height."""
        return self.height - self.bottom - share * (self.height - self.bottom - self.top)


def histogram(counts: Sequence[int], *, label: str, mark: float | None = None, mark_label: str = "") -> Html:
    """Bars over [0, 1], height by the logarithm of the count.

    Args:
        counts: Counts of equal bins.
        label: What the chart says, in a sentence.
        mark: A value to mark, such as a threshold.
        mark_label: What it is.
    """
    axes = Axes()
    highest = max([1, *counts])
    bars = "".join(
        _bar(axes, n / len(counts), (n + 1) / len(counts), _log_share(count, highest), f"{n / len(counts):.3f} on: {count:,}")
        for n, count in enumerate(counts)
        if count
    )
    ticks = _logarithmic_ticks(axes, highest) + _x_ticks(axes, [0.0, 0.2, 0.4, 0.6, 0.8, 1.0])
    marked = "" if mark is None else _mark(axes, mark, mark_label)
    return _chart(axes, label, ticks + bars + marked)


def _log_share(count: int, highest: int) -> float:
    return math.log1p(count) / math.log1p(highest) if count else 0.0


def curve_chart(
    curve: Callable[[float], float],
    *,
    label: str,
    points: Sequence[tuple[float, float]],
    measured: Mapping[float, int],
    mark: float,
    first: float = 0.4,
) -> Html:
    """The chance that a pair is compared, by similarity; recorded points; and bars for the similarities that were measured.

    Args:
        curve: Similarity to probability.
        label: What the chart says, in a sentence.
        points: Recorded (similarity, probability) pairs.
        measured: Pairs by similarity, the lower ends of bins of one hundredth.
        mark: The threshold.
        first: Where the horizontal axis begins.
    """
    axes = Axes(first=first)
    steps = [first + (1 - first) * n / 120 for n in range(121)]
    path = "M" + "L".join(f"{axes.x(x):.1f} {axes.y(curve(x)):.1f}" for x in steps)
    highest = max([1, *measured.values()])
    bars = "".join(
        _bar(axes, x, min(1.0, x + 0.01), _log_share(count, highest) * 0.9, f"{x:.2f} on: {count:,} pairs")
        for x, count in sorted(measured.items())
        if x >= first
    )
    dots = "".join(
        f'<circle class="point" cx="{axes.x(x):.1f}" cy="{axes.y(y):.1f}" r="3.2"><title>{x:.2f}: {y:.4f}</title></circle>'
        for x, y in points
        if x >= first
    )
    ticks = _share_ticks(axes) + _x_ticks(axes, [0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0])
    drawn = f'{ticks}<g opacity=".55">{bars}</g><path class="curve" d="{path}"/>{dots}{_mark(axes, mark, f"dropped from {mark:g} on")}'
    return _chart(axes, label, drawn)


def _chart(axes: Axes, label: str, inner: Html) -> Html:
    said = html_text(label)
    size = f'width="{axes.width}" height="{axes.height}" viewBox="0 0 {axes.width} {axes.height}"'
    floor = f'<path class="axis" d="M{axes.left} {axes.y(0):.1f}H{axes.width - 12}" fill="none"/>'
    drawn = f'<svg role="img" aria-label="{said}" {size} font-size="11">{floor}{inner}</svg>'
    return f'<div class="scroll picture" role="region" aria-label="{said}" tabindex="0">{drawn}</div>'


def _bar(axes: Axes, first: float, last: float, share: float, title: str) -> Html:
    x, top = axes.x(first), axes.y(share)
    width = max(1.0, axes.x(last) - x - 1)
    shape = f'x="{x:.1f}" y="{top:.1f}" width="{width:.1f}" height="{axes.y(0) - top:.1f}"'
    return f'<rect class="bars" {shape}><title>{html_text(title)}</title></rect>'


def _mark(axes: Axes, at: float, label: str) -> Html:
    x = axes.x(at)
    anchor = "end" if at > (axes.first + axes.last) / 2 else "start"
    shift = -5 if anchor == "end" else 5
    halo = "paint-order:stroke;stroke:var(--paper);stroke-width:4px"
    text = f'<text x="{x + shift:.1f}" y="{axes.top + 9}" text-anchor="{anchor}" style="{halo}">{html_text(label)}</text>'
    return f'<path class="mark" d="M{x:.1f} {axes.top}V{axes.y(0):.1f}" fill="none"/>{text}'


def _x_ticks(axes: Axes, values: Sequence[float]) -> Html:
    return "".join(f'<text class="soft" x="{axes.x(one):.1f}" y="{axes.height - 14}" text-anchor="middle">{one:g}</text>' for one in values)


def _share_ticks(axes: Axes) -> Html:
    return "".join(
        f'<text class="soft" x="{axes.left - 6}" y="{axes.y(one) + 4:.1f}" text-anchor="end">{one:.0%}</text>'
        f'<path class="axis" opacity=".5" d="M{axes.left} {axes.y(one):.1f}H{axes.width - 12}"/>'
        for one in (0.0, 0.5, 1.0)
    )


def _logarithmic_ticks(axes: Axes, highest: int) -> Html:
    values = [10**n for n in range(int(math.log10(highest)) + 1)]
    return "".join(
        f'<text class="soft" x="{axes.left - 6}" y="{axes.y(_log_share(one, highest)) + 4:.1f}" text-anchor="end">{_short(one)}</text>'
        f'<path class="axis" opacity=".5" d="M{axes.left} {axes.y(_log_share(one, highest)):.1f}H{axes.width - 12}"/>'
        for one in values
    )


def _short(count: int) -> str:
    for size, sign in ((10**9, "G"), (10**6, "M"), (10**3, "k")):
        if count >= size:
            return f"{count // size}{sign}"
    return str(count)
