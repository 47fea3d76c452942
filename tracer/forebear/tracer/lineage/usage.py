"""Usage logs: what a trainer really read, as row ranges of shards.

Always true here: a log names model, shard, first_row, last_row (exclusive), stage; ranges of one (model, stage, shard) are
joined, so that millions of reads become few ranges; a row of a log that cannot be read is refused with its number.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.json
import pyarrow.parquet as pq

from forebear.schemas.digests import is_digest
from forebear.schemas.enums import Stage
from forebear.schemas.errors import DataError, UsageError

__all__ = ["Read", "read_usage"]

Read = tuple[str, str | None, str, int, int]
"""(model, stage, shard, first row, last row exclusive)."""

_NEEDED = ("model", "shard", "first_row", "last_row")


def read_usage(paths: Sequence[str | Path]) -> list[Read]:
    """What some usage logs say, ranges joined, in order.

    Raises:
        UsageError: A file cannot be read.
        DataError: A column is missing, or a row says what cannot be.
    """
    tables = [_checked(_table(Path(path)), str(path)) for path in paths]
    return list(_joined(pa.concat_tables(tables))) if tables else []


def _table(path: Path) -> pa.Table:
    try:
        data = path.read_bytes()
        if data[:4] == b"PAR1":
            return pq.read_table(pa.BufferReader(data), page_checksum_verification=True)
        return pyarrow.json.read_json(pa.BufferReader(data))
    except (OSError, pa.ArrowException) as error:
        raise UsageError(
            "unreadable_usage",
            expected=f"a usage log, Parquet or JSONL, in {path}",
            found=str(error)[:300],
            remedy="Name such a file.",
        ) from error


def _checked(table: pa.Table, where: str) -> pa.Table:
    missing = [name for name in _NEEDED if name not in table.column_names]
    if missing:
        raise _bad(where, f"columns {', '.join(_NEEDED)}", f"columns {', '.join(table.column_names)}")
    stage = table["stage"].cast(pa.string()) if "stage" in table.column_names else pa.nulls(len(table), pa.string())
    try:
        columns = {
            "model": table["model"].cast(pa.string()),
            "stage": stage,
            "shard": table["shard"].cast(pa.string()),
            "first": table["first_row"].cast(pa.int64()),
            "last": table["last_row"].cast(pa.int64()),
        }
    except pa.ArrowException as error:
        raise _bad(where, "texts, and whole numbers for rows", str(error)[:200]) from error
    found = pa.table(columns)
    for name in ("model", "shard", "first", "last"):
        if found[name].null_count:
            raise _bad(where, f"{name} in every row", f"none in row {pc.index(found[name].is_null(), True).as_py()}")
    wrong = pc.or_(pc.less(found["first"], 0), pc.greater_equal(found["first"], found["last"]))
    if pc.any(wrong).as_py():
        row = pc.index(wrong, True).as_py()
        raise _bad(where, "0 <= first_row < last_row", f"[{found['first'][row]}, {found['last'][row]}) in row {row}")
    for value in found["stage"].unique().to_pylist():
        if value is not None and value not in [one.value for one in Stage]:
            raise _bad(where, f"stages {', '.join(Stage)}", repr(value))
    for value in found["shard"].unique().to_pylist():
        if not is_digest(value):
            raise _bad(where, "shards as sha256: and 64 hex digits", repr(value[:80]))
    return found


def _joined(table: pa.Table) -> Iterator[Read]:
    table = table.sort_by([(name, "ascending") for name in ("model", "stage", "shard", "first", "last")])
    keys = [_codes(table[name]) for name in ("model", "stage", "shard")]
    first, last = table["first"].to_numpy(), table["last"].to_numpy()
    start = 0
    changes = np.zeros(len(first), "?")
    for codes in keys:
        changes[1:] |= codes[1:] != codes[:-1]
    bounds = [*np.flatnonzero(changes).tolist(), len(first)]
    names = [table[name] for name in ("model", "stage", "shard")]
    for stop in bounds:
        if stop > start:
            model, stage, shard = (column[start].as_py() for column in names)
            for a, b in _ranges(first[start:stop], last[start:stop]):
                yield model, stage, shard, a, b
        start = stop


def _ranges(first: npt.NDArray[np.int64], last: npt.NDArray[np.int64]) -> list[tuple[int, int]]:
    """Ranges sorted by their first row, joined where they touch."""
    reach = np.maximum.accumulate(last)
    opens = np.ones(len(first), "?")
    opens[1:] = first[1:] > reach[:-1]
    at = np.flatnonzero(opens)
    ends = np.append(at[1:] - 1, len(first) - 1)
    return list(zip(first[at].tolist(), reach[ends].tolist(), strict=True))


def _codes(column: pa.ChunkedArray) -> npt.NDArray[np.int64]:
    found = pa.concat_arrays(column.chunks).dictionary_encode().indices if column.num_chunks else pa.array([], pa.int32())
    return np.asarray(found.fill_null(-1).to_numpy(zero_copy_only=False), np.int64)


def _bad(where: str, expected: str, found: str) -> DataError:
    return DataError("bad_usage", expected=f"{expected} in {where}", found=found, remedy="Correct the usage log.")
