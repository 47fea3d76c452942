"""Link: usage logs of many reads joined to row ranges, as a pipeline.

Always true here: the result is that of `lineage.usage.read_usage`, piece by piece; what travels between steps are packed ranges of
one (model, stage, shard), never single reads.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import apache_beam as beam
import numpy as np
import pyarrow as pa
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.pvalue import PCollection
from apache_beam.transforms.combiners import ToList

from forebear.pipelines.options import beam_options
from forebear.tracer.lineage.usage import READS, Piece, Read, join_ranges, join_reads, pieces_of, read_piece, reads_of

__all__ = ["JoinReads", "read_usage"]

Key = tuple[str, str, str]
"""(model, stage or empty, shard)."""


class JoinReads(beam.PTransform[PCollection[Piece], PCollection[bytes]]):
    """Pieces of usage logs in; the joined ranges of each (model, stage, shard) out, each as an Arrow stream of `READS`."""

    def expand(self, pieces: PCollection[Piece]) -> PCollection[bytes]:
        """Read, group, join."""
        return (
            pieces
            | "Spread" >> beam.Reshuffle()
            | "Read" >> beam.FlatMap(_packed).with_output_types(tuple[Key, bytes])
            | "Group" >> beam.GroupByKey()
            | "Join" >> beam.Map(_joined).with_output_types(bytes)
        )


def read_usage(paths: Sequence[str | Path], *, options: PipelineOptions | None = None) -> list[Read]:
    """What some usage logs say, ranges joined, in order, by a pipeline.

    Args:
        paths: Logs on a disk that the workers see.
        options: Beam's; default: two processes of this machine.

    Raises:
        UsageError: A file cannot be read.
        DataError: A column is missing, or a row says what cannot be.
    """
    pieces = [piece for path in paths for piece in pieces_of(path)]
    for path in paths:  # what no pipeline need find out: a failure there loses its shape
        read_piece(next((one for one in pieces if one.path == str(path)), Piece(str(path), 0, 0, parquet=False)))
    with tempfile.TemporaryDirectory() as folder:
        target = str(Path(folder) / "reads")
        with beam.Pipeline(options=options or beam_options(runner=None, workers=2)) as pipeline:
            streams = pipeline | "Pieces" >> beam.Create(pieces, reshuffle=False) | JoinReads()
            _ = streams | "One place" >> ToList() | "Write" >> beam.Map(_write, target)
        with pa.OSFile(target) as file:
            return reads_of(pa.ipc.open_stream(file).read_all())


def _packed(piece: Piece) -> Iterator[tuple[Key, bytes]]:
    """The ranges of one piece, packed by key."""
    table = read_piece(piece)
    names = [table[name].fill_null("").to_pylist() for name in ("model", "stage", "shard")]
    ranges = np.stack([table["first"].to_numpy(), table["last"].to_numpy()], axis=1)
    keys = list(zip(*names, strict=True))
    bounds = [n for n in range(len(keys)) if n == 0 or keys[n] != keys[n - 1]]
    for start, stop in zip(bounds, [*bounds[1:], len(keys)], strict=True):
        yield keys[start], ranges[start:stop].tobytes()


def _joined(group: tuple[Key, Iterable[bytes]]) -> bytes:
    (model, stage, shard), packed = group
    ranges = np.concatenate([np.frombuffer(one, np.int64).reshape(-1, 2) for one in packed])
    ranges = ranges[np.argsort(ranges[:, 0], kind="stable")]
    first, last, _ = join_ranges(ranges[:, 0].copy(), ranges[:, 1].copy(), np.zeros(len(ranges), np.int64))
    size = len(first)
    columns = [pa.array([model] * size), pa.array([stage or None] * size, pa.string()), pa.array([shard] * size)]
    return _stream(pa.Table.from_arrays([*columns, pa.array(first), pa.array(last)], schema=READS))


def _write(streams: Sequence[bytes], target: str) -> None:
    tables = (pa.ipc.open_stream(one).read_all() for one in streams)
    Path(target).write_bytes(_stream(join_reads(tables)))


def _stream(table: pa.Table) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return bytes(sink.getvalue())
