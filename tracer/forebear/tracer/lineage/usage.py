"""Usage logs: what a trainer really read, as row ranges of shards.

Always true here: a log names model, shard, first_row, last_row (exclusive), stage; ranges of one (model, stage, shard) are
joined, so that millions of reads become few ranges, whatever the order and the pieces they are read in; a row of a log that cannot
be read is refused with its place. A log is read piece by piece and never held whole.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
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

__all__ = ["READS", "Piece", "Read", "join_ranges", "join_reads", "pieces_of", "read_piece", "read_usage", "reads_of"]

Read = tuple[str, str | None, str, int, int]
"""(model, stage, shard, first row, last row exclusive)."""

READS = pa.schema([("model", pa.string()), ("stage", pa.string()), ("shard", pa.string()), ("first", pa.int64()), ("last", pa.int64())])
"""Ranges of rows that were read, as a table."""

_NEEDED = ("model", "shard", "first_row", "last_row")
_PIECE = 32 << 20  # bytes of a JSONL log in one piece
_HELD = 1 << 22  # ranges held before they are joined

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Piece:
    """A part of a log: row groups (Parquet) or bytes (JSONL; a line belongs to the piece that it begins in), half-open."""

    path: str
    first: int
    last: int
    parquet: bool


def read_usage(paths: Sequence[str | Path]) -> list[Read]:
    """What some usage logs say, ranges joined, in order.

    Raises:
        UsageError: A file cannot be read.
        DataError: A column is missing, or a row says what cannot be.
    """
    return reads_of(join_reads(read_piece(piece) for path in paths for piece in pieces_of(path)))


def reads_of(table: pa.Table) -> list[Read]:
    """The rows of a table of ranges."""
    return list(zip(*(table[name].to_pylist() for name in READS.names), strict=True))


def pieces_of(path: str | Path) -> list[Piece]:
    """The pieces of one log.

    Raises:
        UsageError: The file cannot be read.
    """
    try:
        with Path(path).open("rb") as file:
            parquet = file.read(4) == b"PAR1"
        if parquet:
            groups = pq.ParquetFile(path).metadata.num_row_groups
            return [Piece(str(path), n, n + 1, parquet=True) for n in range(groups)]
        size = Path(path).stat().st_size
    except (OSError, pa.ArrowException) as error:
        raise _unreadable(str(path), error) from error
    return [Piece(str(path), at, min(size, at + _PIECE), parquet=False) for at in range(0, size, _PIECE)]


def read_piece(piece: Piece) -> pa.Table:
    """The ranges of one piece, checked and joined.

    Raises:
        UsageError: The file cannot be read.
        DataError: A column is missing, or a row says what cannot be.
    """
    try:
        table = _row_groups(piece) if piece.parquet else _lines(piece)
    except (OSError, pa.ArrowException) as error:
        raise _unreadable(piece.path, error) from error
    if table is None:
        return READS.empty_table()
    unit = "row group" if piece.parquet else "byte"
    return join_reads([_checked(table, piece.path if piece.first == 0 else f"{piece.path} from {unit} {piece.first} on")])


def _row_groups(piece: Piece) -> pa.Table:
    with pq.ParquetFile(piece.path, page_checksum_verification=True) as file:
        return file.read_row_groups(list(range(piece.first, piece.last)), use_threads=False)


def _lines(piece: Piece) -> pa.Table | None:
    """The lines that begin in a piece; None where there are none."""
    with Path(piece.path).open("rb") as file:
        if piece.first:
            file.seek(piece.first - 1)
            file.readline()  # the rest of a line that began before, or the line feed itself
        start = file.tell()
        if start >= piece.last:
            return None
        data = file.read(piece.last - start)
        if not data.endswith(b"\n"):
            data += file.readline()
    return pyarrow.json.read_json(pa.BufferReader(data)) if data.strip() else None


def join_reads(tables: Iterable[pa.Table]) -> pa.Table:
    """Ranges of several tables joined: of each (model, stage, shard) disjoint, apart and ascending, in the order of the keys."""
    held: list[pa.Table] = [READS.empty_table()]
    for table in tables:
        held.append(table)
        if sum(map(len, held)) > _HELD:
            held = [_joined(pa.concat_tables(held))]
    return _joined(pa.concat_tables(held))


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
    found = pa.table({name: columns[name] for name in READS.names}, schema=READS)
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


def _joined(table: pa.Table) -> pa.Table:
    first, last = (table[name].to_numpy() for name in ("first", "last"))
    keys = [_codes(table[name]) for name in ("model", "stage", "shard")]
    order = np.lexsort((first, *reversed(keys)))
    first, last = first[order], last[order]
    opens = np.zeros(len(order), "?")
    for codes in keys:
        opens[1:] |= codes[order][1:] != codes[order][:-1]
    opens[:1] = True
    group = np.cumsum(opens) - 1
    start, stop, at = join_ranges(first, last, group)
    names = table.select(["model", "stage", "shard"]).take(pa.array(order[at]))
    return pa.Table.from_arrays([*names.columns, pa.array(start), pa.array(stop)], schema=READS)


def join_ranges(first: Ints, last: Ints, group: Ints) -> tuple[Ints, Ints, Ints]:
    """Half-open ranges, sorted by (group, first), joined where they touch within a group.

    Returns: First rows, last rows, and where each joined range begins in the input.
    """
    if not len(first):
        return first, last, np.empty(0, np.int64)
    # Ranks keep the sum with the group's offset small, whatever the rows are.
    values, rank = np.unique(np.concatenate([first, last]), return_inverse=True)
    offset = group * len(values)
    begins, reach = rank[: len(first)] + offset, np.maximum.accumulate(rank[len(first) :] + offset)
    opens = np.ones(len(first), "?")
    opens[1:] = (begins[1:] > reach[:-1]) | (group[1:] != group[:-1])
    at = np.flatnonzero(opens)
    ends = np.append(at[1:] - 1, len(first) - 1)
    return first[at], values[reach[ends] - offset[ends]], at


def _codes(column: pa.ChunkedArray) -> Ints:
    """Numbers in the order of the texts, null last."""
    values = column.unique().sort() if column.num_chunks else column
    known = pc.index_in(column, value_set=pa.array([one for one in values.to_pylist() if one is not None], pa.string()))
    return np.asarray(known.fill_null(len(values)).to_numpy(), np.int64)


def _unreadable(path: str, error: Exception) -> UsageError:
    expected = f"a usage log, Parquet or JSONL, in {path}"
    return UsageError("unreadable_usage", expected=expected, found=str(error)[:300], remedy="Name such a file.")


def _bad(where: str, expected: str, found: str) -> DataError:
    return DataError("bad_usage", expected=f"{expected} in {where}", found=found, remedy="Correct the usage log.")
