"""A run of consecutive rows, in the one shape that every reader gives.

Always true here: the columns are of one length; a row with an error has no text; an error is a value of `Reason`.
"""

from __future__ import annotations

from dataclasses import dataclass

import pyarrow as pa

from forebear.schemas.enums import Reason

__all__ = ["Batch", "unreadable_rest"]


@dataclass(frozen=True)
class Batch:
    """Consecutive rows of a shard.

    Args:
        first_row: Row of the first of them, counted over every row of the shard from 0.
        texts: large_string; null where the text is null or the row has an error.
        source_id: string; the row's own id, null where it has none.
        source: string; null where the row names none.
        error: string; a value of `Reason`, or null.
        damage: How the shard is damaged, on its last batch, whose last row stands for the rest; else None.
    """

    first_row: int
    texts: pa.Array
    source_id: pa.Array
    source: pa.Array
    error: pa.Array
    damage: str | None = None

    def __len__(self) -> int:
        return len(self.texts)


def unreadable_rest(row: int, damage: str, *, source: str | None) -> Batch:
    """The one `unreadable` row that stands for everything after damage; `source` is the source given to every row."""
    return Batch(
        row,
        pa.nulls(1, pa.large_string()),
        pa.nulls(1, pa.string()),
        pa.array([source], pa.string()),
        pa.array([Reason.UNREADABLE.value], pa.string()),
        damage,
    )
