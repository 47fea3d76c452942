"""SPEC.md as a document: how the other tests read it, and that it is whole.

Always true here: a code block is found by the words after its fence (```text row-texts), a table by the heading above it or
by its own first column; nothing of the code under test is imported.
"""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

SPEC = Path(__file__).parent.parent / "schemas" / "SPEC.md"

Table = list[dict[str, str]]

_FENCE = re.compile(r"^```(?P<info>[^\n]*)\n(?P<body>.*?)\n```$", re.MULTILINE | re.DOTALL)
_CELL = re.compile(r"(?<!\\)\|")


@cache
def spec() -> str:
    """The whole page."""
    return SPEC.read_text(encoding="utf-8")


def blocks(info: str) -> list[str]:
    """The code blocks whose fence says this."""
    found = [match["body"] for match in _FENCE.finditer(spec()) if match["info"] == info]
    assert found, f"SPEC has no block {info!r}"
    return found


def block(info: str) -> str:
    """The one code block whose fence says this."""
    (found,) = blocks(info)
    return found


def section(heading: str) -> str:
    """What stands under a heading, which may be given by its beginning, up to the next one of its level or above."""
    found = re.search(rf"^(#+) {re.escape(heading)}.*$", spec(), re.MULTILINE)
    assert found, f"SPEC has no heading {heading!r}"
    rest = spec()[found.end() :]
    following = re.search(rf"^#{{1,{len(found[1])}}} ", _FENCE.sub("", rest), re.MULTILINE)
    if following is None:
        return rest
    title = _FENCE.sub("", rest)[following.start() :].split("\n", 1)[0]
    return rest[: rest.index("\n" + title)]


def tables(text: str) -> list[Table]:
    """The tables in some Markdown, as rows by column name; code marks are left in."""
    found: list[Table] = []
    for group in re.findall(r"(?:^[ ]*\|.*\n?)+", _FENCE.sub("", text), re.MULTILINE):
        head, _, *body = [_cells(line) for line in group.strip().split("\n")]
        found.append([dict(zip(head, row, strict=True)) for row in body])
    return found


def table(heading: str, first_column: str) -> Table:
    """The one table below a heading whose first column has this name."""
    (found,) = [one for one in tables(section(heading)) if next(iter(one[0])) == first_column]
    return found


def code(cell: str) -> str:
    """What a cell holds between code marks."""
    found = re.fullmatch(r"`([^`]*)`", cell)
    assert found, f"{cell!r} is no code"
    return found[1]


def codes(cell: str) -> list[str]:
    """All that a cell holds between code marks."""
    return re.findall(r"`([^`]*)`", cell)


def numbers() -> dict[str, str]:
    """The digests of the worked example by name."""
    return {row["number"]: code(row["value"]) for row in table("4. Worked example", "number")}


def _cells(line: str) -> list[str]:
    return [cell.strip().replace("\\|", "|") for cell in _CELL.split(line.strip()[1:-1])]


def test_sections_are_numbered_in_order_and_listed_at_the_top():
    heads = re.findall(r"^## (\d+)\. (.*)$", spec(), re.MULTILINE)
    assert [int(number) for number, _ in heads] == list(range(1, len(heads) + 1))
    listed = re.findall(r"\[(\d+) ([^]]*)\]\(#([^)]*)\)", spec().split("## 1.")[0])
    assert [(number, title) for number, title, _ in listed] == heads
    for number, title, anchor in listed:
        assert anchor == f"{number}-" + re.sub(r"[^a-z0-9 -]", "", title.lower()).replace(" ", "-")


def test_every_section_that_is_referred_to_is_there():
    there = {int(number) for number in re.findall(r"^## (\d+)\.", spec(), re.MULTILINE)}
    meant = {int(number) for number in re.findall(r"section (\d+)", spec().replace("RFC 6962, section 2.1", ""))}
    assert meant <= there
    assert meant


def test_every_table_is_whole():
    found = tables(spec())
    assert len(found) > 25
    assert all(rows and all(cells for cells in rows) for rows in found)
