"""`forebear pairs`: removed near-duplicates beside their keepers, the words that differ marked."""

from __future__ import annotations

import difflib
import json
import sys
from collections.abc import Iterator
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from forebear.tracer.ledger.ledger import Ledger
from forebear.tracer.scan.shown import Pair, Side, removed_pairs

__all__ = ["show_pairs"]

SHOWN_WORDS = 120
"""Of a longer text so many words are shown, from a little before the first that differs."""


def show_pairs(ledger: Ledger, run: str, *, count: int, as_json: bool) -> int:
    """Print the pairs; 0, or 2 where some text could not be read."""
    pairs, total = removed_pairs(ledger, run, count=count)
    if as_json:
        sys.stdout.write(json.dumps(_json(run, pairs, total), ensure_ascii=False) + "\n")
    else:
        console = Console()
        console.print(f"{len(pairs)} of {total:,} near-duplicates that were removed, the least similar first.")
        for pair in pairs:
            console.print(_table(pair))
    return 2 if any(side.text is None for pair in pairs for side in (pair.removed, pair.keeper)) else 0


def _json(run: str, pairs: list[Pair], total: int) -> dict[str, Any]:
    shown = [
        {
            "jaccard": pair.jaccard,
            "intersection": pair.intersection,
            "union": pair.union,
            "removed": vars(pair.removed),
            "keeper": vars(pair.keeper),
        }
        for pair in pairs
    ]
    return {"schema": "forebear/pairs/1", "run": run, "pairs": shown, "omitted": total - len(pairs)}


def _table(pair: Pair) -> Table:
    table = Table(
        escape(f"removed: {_place(pair.removed)}"),
        escape(f"kept: {_place(pair.keeper)}"),
        title=f"Jaccard {pair.jaccard:.3f} ({pair.intersection:,} of {pair.union:,})",
        expand=True,
    )
    table.add_row(*_compared(pair.removed, pair.keeper))
    return table


def _place(side: Side) -> str:
    return f"row {side.row} of {side.path or side.shard}"


def _compared(removed: Side, keeper: Side) -> tuple[Text, Text]:
    if removed.text is None or keeper.text is None:
        sides = [Text(side.why or "not read", "red") if side.text is None else Text(_cut(side.text)) for side in (removed, keeper)]
        return sides[0], sides[1]
    words = removed.text.split(), keeper.text.split()
    pairs = zip(*words, strict=False)
    first = next((n for n, (a, b) in enumerate(pairs) if a != b), min(map(len, words)))
    start = max(0, first - 20)
    left, right = (side[start : start + SHOWN_WORDS] for side in words)
    matcher = difflib.SequenceMatcher(None, left, right, autojunk=False)
    codes = matcher.get_opcodes()
    return (
        Text.assemble(*_marked(left, [(a, b, kind) for kind, a, b, _, _ in codes], "yellow")),
        Text.assemble(*_marked(right, [(a, b, kind) for kind, _, _, a, b in codes], "green")),
    )


def _marked(words: list[str], parts: list[tuple[int, int, str]], style: str) -> Iterator[tuple[str, str]]:
    for start, stop, kind in parts:
        yield " ".join(words[start:stop]) + " ", "dim" if kind == "equal" else style


def _cut(text: str) -> str:
    words = text.split()
    return " ".join(words[:SHOWN_WORDS]) + (" ..." if len(words) > SHOWN_WORDS else "")
