"""Damaged compressed files: the longest whole prefix counts, whatever the chunk size, and one row stands for the rest."""

from __future__ import annotations

import gzip
import io
import json
import random
import zlib

import pytest
import zstandard

from forebear.tracer.corpus.inflate import Damaged, decompressed
from forebear.tracer.corpus.inputs import ReaderOptions
from forebear.tracer.corpus.rows import Batch, Source, read_rows

WORDS = ["the", "of", "and", "to", "in", "is", "was", "for", "that", "on"]
ROWS = [{"text": " ".join(random.Random(n).choices(WORDS, k=20))} for n in range(60)]
PLAIN = "".join(json.dumps(row) + "\n" for row in ROWS).encode()


def zstd(data: bytes, **how: bool) -> bytes:
    """Small blocks, so that damage falls inside a frame of several."""
    compressor = zstandard.ZstdCompressor(level=3, write_checksum=True, **how).compressobj()
    parts = [compressor.compress(data[n : n + 700]) + compressor.flush(zstandard.COMPRESSOBJ_FLUSH_BLOCK) for n in range(0, len(data), 700)]
    return b"".join(parts) + compressor.flush()


PACKED = {"x.jsonl.gz": gzip.compress(PLAIN, mtime=0), "x.jsonl.zst": zstd(PLAIN)}


def prefix(data: bytes, name: str, step: int | None = None) -> tuple[bytes, str | None]:
    out = io.BytesIO()
    try:
        out.writelines(decompressed(Source.from_bytes(data, name=name), step=step))
    except Damaged as damage:
        return out.getvalue(), damage.found
    return out.getvalue(), None


def rows(data: bytes, name: str, step: int | None = None) -> list[Batch]:
    return list(read_rows(Source.from_bytes(data, name=name), options=ReaderOptions(), step=step))


@pytest.mark.parametrize("name", PACKED)
def test_a_stream_cut_at_any_byte_gives_monotone_prefixes_that_no_chunk_size_changes(name: str) -> None:
    packed, before = PACKED[name], b""
    for cut in range(len(packed)):
        whole, damage = prefix(packed[:cut], name)
        assert damage
        assert PLAIN.startswith(whole)
        assert whole.startswith(before)
        if cut % 7 == 0:
            assert all(prefix(packed[:cut], name, step)[0] == whole for step in (1, 13, 100))
        before = whole
    assert prefix(packed, name) == (PLAIN, None)
    assert before == PLAIN  # the last byte is of the checksum


def test_a_cut_gzip_gives_all_that_zlib_can_decode() -> None:
    for cut in range(20, len(PACKED["x.jsonl.gz"]), 31):
        part = PACKED["x.jsonl.gz"][:cut]
        assert prefix(part, "x.jsonl.gz", 5)[0] == zlib.decompressobj(31).decompress(part)


def test_a_cut_gzip_gives_what_the_bound_on_a_step_held_back() -> None:
    """At this cut the decoder has taken all its input and still owes the rest of a match beyond 1 MiB of output."""
    packed = gzip.compress(bytes(3 << 20), mtime=0)
    decoder, given, cut = zlib.decompressobj(31), 0, 0
    while given <= 1 << 20:
        given += len(decoder.decompress(packed[cut : cut + 1]))
        cut += 1
    assert len(prefix(packed[:cut], "x.jsonl.gz")[0]) == given


@pytest.mark.parametrize("name", PACKED)
def test_a_changed_byte_gives_one_prefix_whatever_the_chunks(name: str) -> None:
    rng = random.Random(3)
    told = 0
    for _ in range(60):
        packed = bytearray(PACKED[name])
        packed[rng.randrange(len(packed))] ^= 1 << rng.randrange(8)
        one, *others = (prefix(bytes(packed), name, step) for step in (None, 1, 17, 250))
        assert all(other[0] == one[0] and bool(other[1]) == bool(one[1]) for other in others)
        told += one[1] is not None
    assert told > 50  # a few bits of a header mean nothing


@pytest.mark.parametrize("name", PACKED)
def test_rows_before_damage_count_and_one_unreadable_row_stands_for_the_rest(name: str) -> None:
    cut = PACKED[name][: len(PACKED[name]) * 2 // 3]
    whole = prefix(cut, name)[0]
    assert not whole.endswith(b"\n")  # else the next claim is empty
    batches = rows(cut, name)
    texts = [t for b in batches for t in b.texts.to_pylist()]
    assert texts == [row["text"] for row in ROWS[: whole.count(b"\n")]] + [None]
    assert batches[-1].error.to_pylist() == ["unreadable"]
    assert [b.damage is not None for b in batches] == [False] * (len(batches) - 1) + [True]


@pytest.mark.parametrize("name", PACKED)
def test_what_is_no_such_stream_at_all_is_one_unreadable_row(name: str) -> None:
    for data in (b"", b"not compressed", PACKED[name][:3]):
        (batch,) = rows(data, name)
        assert (batch.first_row, batch.error.to_pylist(), bool(batch.damage)) == (0, ["unreadable"], True)


def _count(data: bytes, name: str) -> tuple[int, bool]:
    batches = rows(data, name)
    return sum(map(len, batches)), batches[-1].damage is not None


AFTER_THE_END: dict[str, tuple[str, bytes, tuple[int, bool]]] = {
    "members of gzip are one stream": ("x.jsonl.gz", gzip.compress(PLAIN), (120, False)),
    "zero bytes after gzip are padding": ("x.jsonl.gz", bytes(1000), (60, False)),
    "garbage after gzip is damage": ("x.jsonl.gz", b"garbage", (61, True)),
    "a newline after gzip is damage": ("x.jsonl.gz", b"\n", (61, True)),
    "a member cut off after a whole one is damage": ("x.jsonl.gz", gzip.compress(PLAIN)[:-1], (121, True)),
    "frames of zstd are one stream": ("x.jsonl.zst", zstd(PLAIN), (120, False)),
    "a skippable frame of zstd is skipped": ("x.jsonl.zst", b"\x50\x2a\x4d\x18\x03\x00\x00\x00abc" + zstd(PLAIN), (120, False)),
    "garbage after zstd is damage": ("x.jsonl.zst", b"garbage", (61, True)),
}


@pytest.mark.parametrize("claim", AFTER_THE_END)
def test_what_follows_a_stream(claim: str) -> None:
    name, more, wanted = AFTER_THE_END[claim]
    assert _count(PACKED[name] + more, name) == wanted


def test_a_line_may_cross_members() -> None:
    half = len(PLAIN) // 2
    assert _count(gzip.compress(PLAIN[:half]) + gzip.compress(PLAIN[half:]), "x.jsonl.gz") == (60, False)


def test_a_bad_checksum_is_damage_after_every_row() -> None:
    packed = bytearray(PACKED["x.jsonl.gz"])
    packed[-8] ^= 1
    assert _count(bytes(packed), "x.jsonl.gz") == (61, True)


def test_a_bomb_is_taken_in_bounded_steps() -> None:
    size = 64 << 20
    for name, packed in (("x.jsonl.gz", gzip.compress(bytes(size))), ("x.jsonl.zst", zstandard.compress(bytes(size)))):
        pieces = [len(piece) for piece in decompressed(Source.from_bytes(packed, name=name))]
        assert sum(pieces) == size
        assert name.endswith("zst") or max(pieces) <= 1 << 20
