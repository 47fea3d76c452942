"""Arrow schemas of what a run writes at rest, and the one way they become Parquet bytes.

Always true here: digests are 32 raw bytes; counts, offsets and rows are int64; scores are integers on a 1/1024 grid. The same
table gives the same bytes under one version of pyarrow (chunks combined, options fixed), and every page has a checksum.
"""

from __future__ import annotations

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from forebear.schemas.errors import UsageError

__all__ = ["BANDS", "CLEANED", "DIGEST", "EVIDENCE", "EVIDENCE_ITEM", "FLAGGED", "GRID", "LOG", "MAX_TABLE_BYTES", "SHARDS", "SPAN"]
__all__ += ["parquet_bytes", "read_parquet"]

GRID = 1024
"""Scores are stored as integers in [0, GRID]; score = value / GRID."""

DIGEST = pa.binary(32)

EVIDENCE_ITEM = pa.struct(
    [
        pa.field("detector", DIGEST, nullable=False),
        pa.field("label", pa.string(), nullable=False),
        pa.field("score", pa.int16(), nullable=False),
        pa.field("start", pa.int64(), nullable=False),
        pa.field("stop", pa.int64(), nullable=False),
        pa.field("item", pa.string()),
    ]
)

LOG = pa.schema(
    [
        pa.field("shard", DIGEST, nullable=False),
        pa.field("row", pa.int64(), nullable=False),
        pa.field("document", DIGEST),
        pa.field("source_id", pa.string()),
        pa.field("source", pa.string()),
        pa.field("bytes", pa.int64()),
        pa.field("words", pa.int64()),
        pa.field("action", pa.string(), nullable=False),
        pa.field("reasons", pa.list_(pa.field("element", pa.string(), nullable=False)), nullable=False),
        pa.field("keeper_document", DIGEST),
        pa.field("keeper_shard", DIGEST),
        pa.field("keeper_row", pa.int64()),
        pa.field("intersection", pa.int64()),
        pa.field("union_size", pa.int64()),
        pa.field("cluster", DIGEST),
        pa.field("evidence", pa.list_(pa.field("element", EVIDENCE_ITEM, nullable=False)), nullable=False),
    ]
)
"""The cleaning log: one row for every row of a shard, in (shard, row) order within a pack."""

EVIDENCE = pa.schema(
    [
        pa.field("document", DIGEST),
        pa.field("source_id", pa.string()),
        pa.field("source", pa.string()),
        pa.field("bytes", pa.int64()),
        pa.field("words", pa.int64()),
        pa.field("shingles", pa.int64()),
        pa.field("error", pa.string()),
        LOG.field("evidence"),
    ]
)
"""What detectors and signatures say of a pack's rows, before any decision; `shingles` counts distinct ones."""

BANDS = pa.schema([pa.field("hash", pa.uint64(), nullable=False), pa.field("position", pa.uint32(), nullable=False)])
"""A pack's band table, sorted by hash then position; `position` counts rows from the pack's first."""

SPAN = pa.struct(
    [
        pa.field("pack", DIGEST, nullable=False),
        pa.field("offset", pa.int64(), nullable=False),
        pa.field("first_row", pa.int64(), nullable=False),
        pa.field("rows", pa.int64(), nullable=False),
    ]
)
"""Where rows of a shard lie: `rows` rows from the shard's `first_row` stand from row `offset` of object `pack`."""

SHARDS = pa.schema(
    [
        pa.field("shard", DIGEST, nullable=False),
        pa.field("source", pa.string(), nullable=False),
        pa.field("documents_digest", DIGEST, nullable=False),
        pa.field("log_digest", DIGEST, nullable=False),
        pa.field("rows", pa.int64(), nullable=False),
        pa.field("kept", pa.int64(), nullable=False),
        pa.field("dropped", pa.int64(), nullable=False),
        pa.field("errored", pa.int64(), nullable=False),
        pa.field("bytes", pa.int64(), nullable=False),
        pa.field("format", pa.string(), nullable=False),
        pa.field("paths", pa.list_(pa.string()), nullable=False),
        pa.field("log", pa.list_(SPAN), nullable=False),
        pa.field("bands", pa.list_(SPAN), nullable=False),
    ]
)
"""The shards of a run, sorted by (shard, source); `source` is `--source NAME`, else empty."""

CLEANED = pa.schema(
    [
        pa.field("source", DIGEST, nullable=False),
        pa.field("shard", DIGEST, nullable=False),
        pa.field("rows", pa.int64(), nullable=False),
        pa.field("path", pa.string(), nullable=False),
    ]
)
"""Cleaned shards that a run wrote: row k of `shard` is the k-th kept row of `source`."""

FLAGGED = pa.schema(
    [
        pa.field("shard", DIGEST, nullable=False),
        pa.field("row", pa.int64(), nullable=False),
        pa.field("document", DIGEST),
        pa.field("source", pa.string()),
        pa.field("words", pa.int64()),
        pa.field("action", pa.string(), nullable=False),
        pa.field("reasons", LOG.field("reasons").type, nullable=False),
        pa.field("detector", DIGEST),
        pa.field("category", pa.string()),
        pa.field("label", pa.string()),
        pa.field("item", pa.string()),
        pa.field("score", pa.int16()),
        pa.field("flag", pa.int16()),
    ]
)
"""Rows of a run that some detector scored at or above the flag threshold in force (one row for each such score), and errored
rows (detector null). Derived from the log, so that a verdict need not read all of it; `verify --full` derives it again."""

MAX_TABLE_BYTES = 16 << 30
"""A table that would take more memory is refused: the largest that forebear writes are packs of 2**20 rows."""

_MAX_FOOTER_TEXT = 16 << 20
_MAX_FOOTER_ITEMS = 200_000
_ROW_GROUP = 1 << 17
_BANDS_ROW_GROUP = 1 << 15
_DELTA = ("row", "bytes", "words", "shingles", "keeper_row", "intersection", "union_size", "position")
_DELTA_NESTED = ("evidence.list.element.start", "evidence.list.element.stop")
_PLAIN = ("document", "keeper_document", "cluster", "hash", "source_id")


def parquet_bytes(table: pa.Table) -> bytes:
    """A table of one of the schemas above as canonical Parquet bytes."""
    sink = pa.BufferOutputStream()
    plain = [name for name in _PLAIN if name in table.column_names]
    delta = [name for name in _DELTA if name in table.column_names]
    if "evidence" in table.column_names:
        delta += _DELTA_NESTED
    encodings = dict.fromkeys(delta, "DELTA_BINARY_PACKED")
    encodings |= {name: "PLAIN" for name in plain if name != "source_id"}
    leaves = _leaf_paths(table.schema)
    pq.write_table(
        table.combine_chunks(),
        sink,
        version="2.6",
        data_page_version="1.0",
        compression="zstd",
        compression_level=3,
        use_dictionary=[leaf for leaf in leaves if leaf not in encodings],
        column_encoding=encodings,
        row_group_size=_BANDS_ROW_GROUP if table.schema.names == BANDS.names else _ROW_GROUP,
        write_page_checksum=True,
        write_statistics=True,
        store_schema=False,
    )
    return bytes(sink.getvalue())


def read_parquet(data: bytes | pa.Buffer, schema: pa.Schema, *, columns: list[str] | None = None) -> pa.Table:
    """Parquet bytes as a table of the given schema, page checksums verified.

    Raises:
        OSError, pa.ArrowInvalid: A page is damaged, or the bytes are no Parquet.
        ValueError: The file's columns are not the schema's.
        UsageError: It would take more memory than `MAX_TABLE_BYTES`.
    """
    # A footer may claim any number of columns and names of any length: what is not a table of ours is not taken apart.
    file = pq.ParquetFile(
        pa.BufferReader(data),
        page_checksum_verification=True,
        thrift_string_size_limit=_MAX_FOOTER_TEXT,
        thrift_container_size_limit=_MAX_FOOTER_ITEMS,
    )
    if file.schema_arrow.names != schema.names:
        raise ValueError(f"columns {str(file.schema_arrow.names)[:300]} where {schema.names} were expected")
    _require_room(file.metadata, schema.names if columns is None else columns)
    wanted = schema if columns is None else pa.schema([schema.field(name) for name in columns])
    # Without threads: one of Arrow's pool that lets go of a buffer of Python's after the interpreter ended aborts the process.
    table = file.read(columns=columns, use_threads=False).select(wanted.names).cast(wanted)
    for name in wanted.names:
        _refuse_hidden_nulls(name, table[name])
    return table


def _require_room(metadata: pq.FileMetaData, columns: list[str]) -> None:
    """Refuse a table that says itself that it is too large: its pages decompressed, and eight bytes for each value."""
    size = 0
    for group in (metadata.row_group(n) for n in range(metadata.num_row_groups)):
        for n in range(group.num_columns):
            column = group.column(n)
            if column.path_in_schema.partition(".")[0] in columns:
                size += max(0, column.total_uncompressed_size) + 8 * max(0, column.num_values)
    size = max(size, 8 * len(columns) * metadata.num_rows)
    if size > MAX_TABLE_BYTES:
        raise UsageError(
            "over_limit",
            expected=f"a table of at most {MAX_TABLE_BYTES} bytes of memory",
            found=f"one that takes {size}",
            remedy="Ask whoever wrote it why; forebear itself writes no such pack.",
        )


def _refuse_hidden_nulls(path: str, column: pa.ChunkedArray) -> None:
    """Refuse a null inside a list, or in a field of its elements that allows none: casts let those pass."""
    if not pa.types.is_list(column.type):
        return
    elements = pc.list_flatten(column)
    inner = elements.type if pa.types.is_struct(elements.type) else ()
    required = [field.name for field in inner if not field.nullable]
    if elements.null_count or any(pc.struct_field(elements, name).null_count for name in required):
        raise ValueError(f"a null inside a list of column {path}")


def _leaf_paths(schema: pa.Schema) -> list[str]:
    paths = []
    for field in schema:
        paths += _paths_below(field.name, field.type)
    return paths


def _paths_below(path: str, kind: pa.DataType) -> list[str]:
    if pa.types.is_list(kind):
        return _paths_below(f"{path}.list.element", kind.value_type)
    if pa.types.is_struct(kind):
        return [leaf for field in kind for leaf in _paths_below(f"{path}.{field.name}", field.type)]
    return [path]
