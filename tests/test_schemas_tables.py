"""Tables at rest: the same rows are the same bytes, pages carry checksums, and a file of other columns is refused."""

from __future__ import annotations

import random
from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from forebear.schemas.tables import BANDS, CLEANED, EVIDENCE, FLAGGED, LOG, SHARDS, parquet_bytes, read_parquet

SCHEMAS = {"LOG": LOG, "EVIDENCE": EVIDENCE, "BANDS": BANDS, "SHARDS": SHARDS, "CLEANED": CLEANED, "FLAGGED": FLAGGED}


def log(count: int) -> pa.Table:
    rng = random.Random(1)
    judge = rng.randbytes(32)
    rows = [
        {
            **dict.fromkeys(LOG.names),
            "shard": bytes(32),
            "row": n,
            "document": rng.randbytes(32) if n % 7 else None,
            "source_id": f"id-{n}",
            "bytes": rng.randrange(5000),
            "action": "keep" if n % 5 else "drop",
            "reasons": [] if n % 5 else ["toxic"],
            "evidence": [{"detector": judge, "label": "toxic", "score": rng.randrange(1024), "start": 0, "stop": 9, "item": None}],
        }
        for n in range(count)
    ]
    return pa.Table.from_pylist(rows, schema=LOG)


@pytest.mark.parametrize("name", SCHEMAS)
def test_a_table_without_rows_reads_back(name: str) -> None:
    schema = SCHEMAS[name]
    assert read_parquet(parquet_bytes(schema.empty_table()), schema) == schema.empty_table()


def test_rows_read_back_in_their_schema() -> None:
    table = log(100)
    read = read_parquet(parquet_bytes(table), LOG)
    assert read.schema == LOG
    assert read.to_pylist() == table.to_pylist()


def test_columns_may_be_chosen() -> None:
    assert read_parquet(parquet_bytes(log(3)), LOG, columns=["row", "action"]).column_names == ["row", "action"]


@pytest.mark.parametrize("cuts", [[50], [1, 2, 3], list(range(1, 100))])
def test_chunks_change_no_byte(cuts: list[int]) -> None:
    table = log(100)
    bounds = [0, *cuts, 100]
    chunked = pa.concat_tables([table.slice(a, b - a) for a, b in zip(bounds, bounds[1:], strict=False)])
    assert parquet_bytes(chunked) == parquet_bytes(table)


def test_a_slice_has_the_bytes_of_its_rows_alone() -> None:
    table = log(60)
    rows = table.slice(20, 30).to_pylist()
    assert parquet_bytes(table.slice(20, 30)) == parquet_bytes(pa.Table.from_pylist(rows, schema=LOG))


def test_a_flipped_bit_anywhere_in_the_pages_is_caught() -> None:
    data = parquet_bytes(log(2000))
    meta = pq.ParquetFile(pa.BufferReader(data)).metadata
    chunks = [meta.row_group(g).column(c) for g in range(meta.num_row_groups) for c in range(meta.num_columns)]
    rng = random.Random(2)
    sound = read_parquet(data, LOG)
    for _ in range(150):
        chunk = rng.choice(chunks)
        start = chunk.dictionary_page_offset or chunk.data_page_offset
        flipped = bytearray(data)
        flipped[start + rng.randrange(chunk.total_compressed_size)] ^= 1 << rng.randrange(8)
        try:
            read = read_parquet(bytes(flipped), LOG)
        except (OSError, pa.ArrowException, ValueError):
            continue
        # What is left are bits of a page's header that say nothing of its rows.
        assert read.equals(sound)


def test_every_page_has_a_checksum() -> None:
    """A page body that was altered is refused for its checksum, not by chance of decoding."""
    table = pa.table({"hash": np.arange(1000, dtype=np.uint64), "position": np.zeros(1000, np.uint32)}, schema=BANDS)
    data = bytearray(parquet_bytes(table))
    chunk = pq.ParquetFile(pa.BufferReader(bytes(data))).metadata.row_group(0).column(0)
    data[chunk.data_page_offset + chunk.total_compressed_size - 1] ^= 1
    with pytest.raises(OSError, match=r"(?i)crc|checksum"):
        read_parquet(bytes(data), BANDS)


def test_a_file_of_other_columns_is_refused() -> None:
    with pytest.raises(ValueError, match="were expected"):
        read_parquet(parquet_bytes(BANDS.empty_table()), LOG)


def test_a_null_where_there_must_be_none_is_refused() -> None:
    loose = pa.schema([field.with_nullable(True) for field in BANDS])
    with pytest.raises(ValueError, match="null"):
        read_parquet(parquet_bytes(pa.table({"hash": [None], "position": [1]}, schema=loose)), BANDS)


@pytest.mark.parametrize("data", [b"", b"PAR1", b"PAR1PAR1", b"x" * 100])
def test_what_is_no_parquet_is_refused(data: bytes) -> None:
    with pytest.raises((OSError, pa.ArrowException)):
        read_parquet(data, LOG)


def test_duckdb_reads_what_was_written(tmp_path: Path) -> None:
    file = tmp_path / "log.parquet"
    file.write_bytes(parquet_bytes(log(500)))
    query = f"SELECT count(*), sum(row), count(document), sum(evidence[1].score) FROM read_parquet('{file}')"
    table = log(500)
    scores = sum(one[0]["score"] for one in table["evidence"].to_pylist())
    assert duckdb.connect().execute(query).fetchall() == [(500, sum(range(500)), 500 - table["document"].null_count, scores)]
