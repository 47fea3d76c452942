"""Usage logs: pieces in any order give the same ranges; the pipeline gives what the plain reader gives."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from forebear.schemas.digests import sha256_name
from forebear.schemas.errors import DataError, UsageError
from forebear.tracer.lineage import usage
from forebear.tracer.lineage.usage import READS, join_reads, pieces_of, read_piece, read_usage, reads_of

SHARDS = [sha256_name(b"s%d" % n) for n in range(3)]
reads = st.tuples(
    st.sampled_from(["m", "n"]), st.sampled_from([None, "sft", "pretrain"]), st.sampled_from(SHARDS), st.integers(0, 40), st.integers(1, 9)
)


def table(rows: list[Any]) -> pa.Table:
    columns = list(zip(*((m, stage, shard, a, a + n) for m, stage, shard, a, n in rows), strict=True)) or [[]] * 5
    return pa.Table.from_arrays([pa.array(list(column), field.type) for column, field in zip(columns, READS, strict=True)], schema=READS)


def naive(rows: list[Any]) -> dict[Any, set[int]]:
    found: dict[Any, set[int]] = {}
    for model, stage, shard, first, count in rows:
        found.setdefault((model, stage, shard), set()).update(range(first, first + count))
    return found


@given(st.lists(reads, max_size=60), st.integers(0, 60))
def test_joined_ranges_hold_the_very_rows_that_were_read_in_the_fewest_ranges(rows: list[Any], cut: int) -> None:
    found = reads_of(join_reads([table(rows[:cut]), table(rows[cut:])]))
    held: dict[Any, set[int]] = {}
    for *key, first, last in found:
        held.setdefault(tuple(key), set()).update(range(first, last))
    assert held == naive(rows)
    assert all(a[:3] != b[:3] or a[4] < b[3] for a, b in zip(found, found[1:], strict=False))
    assert found == sorted(found, key=lambda one: (one[0], one[1] is None, one[1] or "", one[2], one[3]))


@given(st.lists(reads, max_size=40), st.integers(0, 2**32))
def test_pieces_in_any_order_give_the_same(rows: list[Any], seed: int) -> None:
    shuffled = random.Random(seed).sample(rows, len(rows))
    joined = join_reads([table(rows)])
    assert join_reads([join_reads([table([one])]) for one in shuffled]).equals(joined)


def write(path: Path, rows: list[Any], *, group: int = 100) -> Path:
    said = [{"model": m, "shard": s, "first_row": a, "last_row": a + n, "step": k, "stage": t} for k, (m, t, s, a, n) in enumerate(rows)]
    if path.suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(said), path, row_group_size=group)
    else:
        path.write_text("".join(json.dumps(one) + "\n" for one in said))
    return path


def some(count: int) -> list[Any]:
    rng = random.Random(count)
    return [
        (rng.choice("mn"), rng.choice([None, "sft"]), rng.choice(SHARDS), rng.randrange(3000), rng.randint(1, 20)) for _ in range(count)
    ]


@pytest.mark.parametrize("name", ["log.parquet", "log.jsonl"])
def test_a_log_in_many_pieces_is_the_log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    rows = some(2000)
    path = write(tmp_path / name, rows)
    monkeypatch.setattr(usage, "_PIECE", 1009)
    monkeypatch.setattr(usage, "_HELD", 50)
    assert len(pieces_of(path)) >= 20
    assert read_usage([path]) == reads_of(join_reads([table(rows)]))


def test_a_last_line_without_a_line_feed_counts(tmp_path: Path) -> None:
    path = write(tmp_path / "log.jsonl", some(3))
    path.write_text(path.read_text().rstrip("\n"))
    assert read_usage([path]) == reads_of(join_reads([table(some(3))]))


def test_an_empty_log_says_nothing(tmp_path: Path) -> None:
    (tmp_path / "log.jsonl").write_text("")
    assert read_usage([tmp_path / "log.jsonl"]) == []


def test_a_fault_in_a_later_piece_is_refused_with_its_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path / "log.jsonl", [*some(50), ("m", None, SHARDS[0], 9, -3)])
    monkeypatch.setattr(usage, "_PIECE", 2000)
    with pytest.raises(DataError, match=r"from byte \d+ on"):
        read_usage([path])


def test_the_pipeline_gives_what_the_plain_reader_gives(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two logs in many pieces, a key across both."""
    from forebear.pipelines.link import read_usage as read_in_pipeline
    from forebear.pipelines.options import beam_options

    rows = some(3000)
    paths = [write(tmp_path / "a.parquet", rows[:1500], group=200), write(tmp_path / "b.jsonl", rows[1500:])]
    monkeypatch.setattr(usage, "_PIECE", 20_000)
    expected = read_usage(paths)
    assert len(expected) > 100
    assert len(pieces_of(paths[0])) + len(pieces_of(paths[1])) > 10
    assert read_in_pipeline(paths, options=beam_options(runner=None, workers=1)) == expected


def test_the_pipeline_refuses_what_the_plain_reader_refuses(tmp_path: Path) -> None:
    from forebear.pipelines.link import read_usage as read_in_pipeline

    with pytest.raises(UsageError):
        read_in_pipeline([tmp_path / "nowhere"])
    assert read_piece(pieces_of(write(tmp_path / "a.jsonl", some(1)))[0]).num_rows == 1
