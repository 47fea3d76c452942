"""Band tables: how documents that may be alike find each other without their texts being moved.

Always true here: a band table is sorted by hash, then by position in its pack; a partition of the work is a range of hashes; so
pairing reads that range from every table, old ones included, and nothing else is shuffled.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from forebear.schemas.tables import BANDS

__all__ = ["HashRange", "band_table", "curve", "detection_probability", "hash_ranges", "read_range"]

U64 = npt.NDArray[np.uint64]
U32 = npt.NDArray[np.uint32]


@dataclass(frozen=True)
class HashRange:
    """Hashes from `first` to `last`, both included."""

    first: int
    last: int


def hash_ranges(count: int) -> list[HashRange]:
    """The hash space cut into `count` ranges of equal width."""
    bounds = [(n << 64) // count for n in range(count + 1)]
    return [HashRange(first, last - 1) for first, last in itertools.pairwise(bounds)]


def band_table(bands: U64, comparable: npt.NDArray[np.bool_]) -> pa.Table:
    """The band table (`tables.BANDS`) of a pack's rows.

    Args:
        bands: Band hashes, n x bands.
        comparable: Whether a row has a token at all; rows without one are in no band.
    """
    positions = np.flatnonzero(comparable).astype("u4")
    hashes = (bands if len(positions) == len(bands) else bands[positions]).reshape(-1)
    order = np.argsort(hashes, kind="stable")  # positions ascend already
    hashes = hashes[order]
    np.floor_divide(order, bands.shape[1], out=order)  # in place: of a whole range of rows these are large
    return pa.table({"hash": hashes, "position": positions[order]}, schema=BANDS)


def read_range(file: pq.ParquetFile, span: HashRange) -> tuple[U64, U32]:
    """Hashes and positions of one band table that lie in a range; row groups outside it are not read."""
    groups = []
    for n in range(file.metadata.num_row_groups):
        statistics = file.metadata.row_group(n).column(0).statistics
        if statistics.min <= span.last and statistics.max >= span.first:
            groups.append(n)
    table = file.read_row_groups(groups, use_threads=False)
    hashes = table["hash"].to_numpy()
    low = np.searchsorted(hashes, np.uint64(span.first), side="left")
    high = np.searchsorted(hashes, np.uint64(span.last), side="right")
    return hashes[low:high], table["position"].to_numpy()[low:high]


def detection_probability(jaccard: float, *, bands: int, rows: int) -> float:
    """The S-curve: how likely a pair of that similarity shares a band (Leskovec, Rajaraman, Ullman, 3.4.2)."""
    return float(1.0 - (1.0 - jaccard**rows) ** bands)


def curve(*, bands: int, rows: int) -> list[dict[str, str]]:
    """The S-curve at ten similarities, as a run manifest records it (decimals as text)."""
    points = (0.5, 0.6, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95, 0.98, 1.0)
    return [{"jaccard": f"{j:.2f}", "probability": f"{detection_probability(j, bands=bands, rows=rows):.4f}"} for j in points]
