"""The picture of a lineage: columns by distance from the model, boxes joined by lines, as SVG with real text and real links.

Always true here: a box says name and state in words, its shape and colour say the state again; it links to the node's row in the table of
ancestors, which says all that the picture does; what is past the cap is counted in words under the picture. The layout depends on the
nodes and relations alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from forebear.tracer.certify.escape import html_text, one_line
from forebear.tracer.certify.report.page import SHAPES, Html

__all__ = ["Box", "Line", "draw"]

_WIDTH, _HEIGHT, _ACROSS, _DOWN, _MARGIN = 264, 46, 92, 14, 18
_LETTERS = 25
_SWEEPS = 4
_LABELLED = 40
_PER_COLUMN = 40

_STYLES: Mapping[str, str] = {
    **dict.fromkeys(("generated_by", "rewritten_by", "translated_by", "distilled_from"), "made"),
    **dict.fromkeys(("judged_by", "selected_by", "rewarded_by", "tokenizer_from", "evaluated_on"), "guided"),
}


@dataclass(frozen=True)
class Box:
    """A node of the picture: `anchor` is its row's in the table, `state` a key of `SHAPES`, `said` the state in words."""

    id: str
    anchor: str
    name: str
    kind: str
    distance: int
    state: str
    said: str


@dataclass(frozen=True)
class Line:
    """A relation between two boxes."""

    child: str
    parent: str
    relation: str


def draw(boxes: Sequence[Box], lines: Sequence[Line], *, title: str) -> Html:
    """The picture; boxes come nearest first, the asked model first of all."""
    columns = _columns(boxes, lines)
    places = _places(columns)
    width = _MARGIN * 2 + len(columns) * _WIDTH + (len(columns) - 1) * _ACROSS
    height = _MARGIN * 2 + max(len(one) for one in columns) * (_HEIGHT + _DOWN) - _DOWN
    shown = [one for one in lines if one.child in places and one.parent in places]
    drawn = "".join(_line(one, places, labelled=len(shown) <= _LABELLED) for one in shown)
    nodes = "".join(_box(one, places[one.id], own=n == 0) for n, one in enumerate(boxes))
    arrow = (
        '<defs><marker id="arrow" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" orient="auto-start-reverse">'
        '<path d="M0 0 8 4 0 8z" style="fill:var(--none)"/></marker></defs>'
    )
    label = html_text(title)
    return (
        f'<div class="scroll picture" role="region" aria-label="{label}" tabindex="0"><svg role="group" aria-label="{label}" '
        f'width="{width}" height="{height}" viewBox="0 0 {width} {height}" font-size="13">{arrow}<g>{drawn}</g><g>{nodes}</g></svg></div>'
    )


def _columns(boxes: Sequence[Box], lines: Sequence[Line]) -> list[list[str]]:
    """Boxes by distance; within a column by the mean place of what they are joined to, so that few lines cross.

    A long column is broken into several side by side, so that the picture stays nearer a page than a strip.
    """
    distances = sorted({one.distance for one in boxes})
    found = [[one.id for one in boxes if one.distance == distance] for distance in distances]
    joined: dict[str, list[str]] = {one.id: [] for one in boxes}
    for one in lines:
        if one.child in joined and one.parent in joined:
            joined[one.child].append(one.parent)
            joined[one.parent].append(one.child)
    for sweep in range(_SWEEPS):
        for column in found if sweep % 2 == 0 else reversed(found):
            place = {node: n / len(each) for each in found for n, node in enumerate(each)}
            weight = {node: _mean([place[other] for other in joined[node]], place[node]) for node in column}
            column.sort(key=lambda node: (weight[node], place[node]))
    return [column[at : at + _PER_COLUMN] for column in found for at in range(0, len(column), _PER_COLUMN)]


def _mean(values: list[float], default: float) -> float:
    return sum(values) / len(values) if values else default


def _places(columns: Sequence[Sequence[str]]) -> dict[str, tuple[int, int]]:
    found = {}
    for n, column in enumerate(columns):
        x = _MARGIN + n * (_WIDTH + _ACROSS)
        # All from the top: the asked model is then what one sees first, however tall the picture is.
        found.update({node: (x, _MARGIN + at * (_HEIGHT + _DOWN)) for at, node in enumerate(column)})
    return found


def _box(one: Box, place: tuple[int, int], *, own: bool) -> Html:
    x, y = place
    shape, tone, outline = SHAPES[one.state]
    mark = '<text x="8" y="12.2" text-anchor="middle" font-size="11" font-weight="700" style="fill:var(--paper)">?</text>'
    mark = mark if shape == "square" else ""
    radius = 22 if one.kind == "dataset" else 5
    whole = f"{one_line(one.name)} {one.kind}: {one_line(one.said)}"
    shown = _fitted(one.name), _fitted(f"{one.kind}: {one.said}", 33)
    name, said = html_text(shown[0]), html_text(shown[1])
    return (
        f'<a href="#{one.anchor}"><title>{html_text(whole)}</title>'
        f'<rect class="box{" own" if own else ""}" x="{x}" y="{y}" width="{_WIDTH}" height="{_HEIGHT}" rx="{radius}"/>'
        f'<g class="{tone}" transform="translate({x + 12} {y + 15})"><path class="glyph" d="{outline}"/>{mark}</g>'
        f'<text x="{x + 37}" y="{y + 19}" font-size="12.5" font-weight="600">{name}</text>'
        f'<text class="soft" x="{x + 37}" y="{y + 36}" font-size="11.5">{said}</text></a>'
    )


def _fitted(text: str, letters: int = _LETTERS) -> str:
    """A name short enough for its box, cut in the middle: both ends of a name tell."""
    plain = one_line(text)
    if len(plain) <= letters:
        return plain
    half = (letters - 1) // 2
    return f"{plain[: letters - 1 - half]}…{plain[-half:]}"


def _line(one: Line, places: Mapping[str, tuple[int, int]], *, labelled: bool) -> Html:
    """A curve from the parent's side to the child's; exposure flows that way, so the arrow does."""
    (cx, cy), (px, py) = places[one.child], places[one.parent]
    middle = _HEIGHT // 2
    if px > cx:
        start, end = (px, py + middle), (cx + _WIDTH, cy + middle)
        bend = (start[0] - end[0]) // 2
        curve = f"M{start[0]} {start[1]}C{start[0] - bend} {start[1]} {end[0] + bend} {end[1]} {end[0]} {end[1]}"
        at = (start[0] + end[0]) // 2, (start[1] + end[1]) // 2
    else:  # the same column, or back: round the left side
        start, end = (px, py + middle), (cx, cy + middle)
        out = min(px, cx) - _MARGIN + 2
        curve = f"M{start[0]} {start[1]}C{out} {start[1]} {out} {end[1]} {end[0]} {end[1]}"
        at = out + 6, (start[1] + end[1]) // 2
    style = _STYLES.get(one.relation, "")
    title = f"<title>{html_text(f'{one.child} {one.relation} {one.parent}')}</title>"
    drawn = f'<path class="edge {style}" d="{curve}" marker-end="url(#arrow)">{title}</path>'
    if not labelled:
        return drawn
    said = html_text(one.relation)
    halo = "paint-order:stroke;stroke:var(--paper);stroke-width:4px"
    place = f'x="{at[0]}" y="{at[1] - 4}" text-anchor="middle" font-size="10.5"'
    return f'{drawn}<text class="soft" {place} style="{halo}" aria-hidden="true">{said}</text>'
