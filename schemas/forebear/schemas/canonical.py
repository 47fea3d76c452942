"""Canonical bytes: of JSON objects, and of a log row.

Always true here: one value has one encoding. Canonical JSON has sorted keys, no white space, UTF-8 and no floating-point
numbers (decimals travel as strings). A row's text is a sequence of netstrings, which needs no escaping and which one DuckDB
expression reproduces; `row_texts` gives it for a whole Arrow table, `row_text` for one row, and they agree.
"""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from forebear.schemas.digests import leaf_hash

__all__ = [
    "canonical_json",
    "evidence_text",
    "hex_column",
    "netstring",
    "parse_json",
    "row_leaves",
    "row_text",
    "row_texts",
]

NULL = "~,"

_AT_A_TIME = 1 << 16
"""Rows whose texts are made at a time: a range of 2**20 rows at once took 1.2 GB, this takes a tenth."""


def canonical_json(value: Any) -> bytes:
    """The one encoding of a JSON value: sorted keys, no white space, UTF-8.

    Raises:
        TypeError: The value holds a float, or something JSON has no place for.
    """
    _refuse_floats(value)
    return json.dumps(value, ensure_ascii=False, sort_keys=True, separators=(",", ":")).encode()


def parse_json(data: bytes) -> Any:
    """Parse JSON strictly: no duplicate keys, no NaN, no floats silently altered (they are refused).

    Raises:
        ValueError: The bytes are not such JSON.
    """
    return json.loads(data, object_pairs_hook=_unique, parse_float=_refuse, parse_constant=_refuse)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        raise ValueError("an object names a key twice")
    return result


def _refuse(text: str) -> Any:
    raise ValueError(f"a floating-point number, {text}: decimals are strings here")


def _refuse_floats(value: Any) -> None:
    if isinstance(value, float):
        raise TypeError(f"canonical JSON holds no floats; write {value!r} as a string")
    if isinstance(value, Mapping):
        for key, inner in value.items():
            if not isinstance(key, str):
                raise TypeError(f"a key of canonical JSON is text, not {key!r}")
            _refuse_floats(inner)
    elif isinstance(value, list | tuple):
        for inner in value:
            _refuse_floats(inner)


def netstring(value: str | int | None) -> str:
    """A field as `<length in bytes>:<text>,`; None is `~,`."""
    if value is None:
        return NULL
    text = str(value)
    return f"{len(text.encode())}:{text},"


def evidence_text(item: Mapping[str, Any]) -> str:
    """One piece of evidence: detector (hex), label, score, start, stop, item."""
    fields = (item["detector"].hex(), item["label"], item["score"], item["start"], item["stop"], item["item"])
    return "".join(netstring(field) for field in fields)


def row_text(row: Mapping[str, Any]) -> bytes:
    """The canonical text of one log row, given as `Table.to_pylist` gives it."""
    hexed = {name: None if row[name] is None else row[name].hex() for name in _DIGESTS}
    fields = [netstring(hexed[name] if name in hexed else row[name]) for name in _SCALARS]
    fields.insert(_REASONS_AT, netstring("".join(sorted(netstring(r) for r in row["reasons"]))))
    fields.append(netstring("".join(sorted(netstring(evidence_text(e)) for e in row["evidence"]))))
    return "".join(fields).encode()


_SCALARS = (
    "shard",
    "row",
    "document",
    "source_id",
    "source",
    "bytes",
    "words",
    "action",
    "keeper_document",
    "keeper_shard",
    "keeper_row",
    "intersection",
    "union_size",
    "cluster",
)
_REASONS_AT = 8  # after action
_DIGESTS = frozenset({"shard", "document", "keeper_document", "keeper_shard", "cluster"})

_HEX = np.frombuffer(b"".join(b"%02x" % n for n in range(256)), dtype="u2")


def hex_column(column: pa.Array) -> pa.Array:
    """Lower-case hex text of a fixed-size binary column, nulls kept."""
    width = column.type.byte_width
    if column.null_count:
        column_filled = column.fill_null(bytes(width))
        return pc.if_else(column.is_valid(), hex_column(column_filled), None)
    raw = np.frombuffer(column.buffers()[1], dtype="u1")[column.offset * width : (column.offset + len(column)) * width]
    text = _HEX[raw].tobytes()
    offsets = np.arange(len(column) + 1, dtype="i8") * (2 * width)
    return pa.LargeStringArray.from_buffers(len(column), pa.py_buffer(offsets), pa.py_buffer(text))


def row_texts(table: pa.Table) -> pa.Array:
    """The canonical text of every row of a log table (`tables.LOG`), as a large_string array."""
    batch = table.combine_chunks()
    columns: list[pa.Array] = []
    for name in _SCALARS:
        column = _whole(batch[name])
        columns.append(_netstrings(hex_column(column) if name in _DIGESTS and column.null_count < len(column) else column))
    columns.insert(_REASONS_AT, _netstrings(_joined(_whole(batch["reasons"]), _netstrings)))
    columns.append(_netstrings(_joined(_whole(batch["evidence"]), lambda e: _netstrings(_evidence_texts(e)))))
    return pc.binary_join_element_wise(*columns, pa.scalar("", pa.large_string()))


def row_leaves(table: pa.Table) -> list[bytes]:
    """The RFC 6962 leaf hash of every row of a log table, in row order."""
    if table.num_rows > _AT_A_TIME:
        starts = range(0, table.num_rows, _AT_A_TIME)
        return [leaf for start in starts for leaf in row_leaves(table.slice(start, _AT_A_TIME))]
    sha256 = hashlib.sha256
    texts = row_texts(table)
    buffer = texts.buffers()[2]
    if buffer is None:
        return [leaf_hash(b"") for _ in range(len(texts))]
    data, offsets = memoryview(buffer), np.frombuffer(texts.buffers()[1], dtype="i8").tolist()
    prefix = sha256(b"\x00")
    leaves = []
    for start, stop in itertools.pairwise(offsets):
        state = prefix.copy()
        state.update(data[start:stop])
        leaves.append(state.digest())
    return leaves


def _whole(column: pa.ChunkedArray) -> pa.Array:
    combined = column.combine_chunks()
    return pa.concat_arrays(combined.chunks) if isinstance(combined, pa.ChunkedArray) else combined


def _netstrings(column: pa.Array) -> pa.Array:
    if len(column) and column.null_count == len(column):  # common (no keeper, no source), and ten times as fast
        return pa.repeat(pa.scalar(NULL, pa.large_string()), len(column))
    text = column.cast(pa.large_string())
    colon, comma, nothing = (pa.scalar(mark, pa.large_string()) for mark in (":", ",", ""))
    framed = pc.binary_join_element_wise(pc.binary_length(text).cast(pa.large_string()), colon, text, comma, nothing)
    return framed.fill_null(pa.scalar(NULL, pa.large_string())) if framed.null_count else framed


def _evidence_texts(evidence: pa.StructArray) -> pa.Array:
    detector, label, score, start, stop, item = evidence.flatten()
    fields = [_netstrings(hex_column(detector)), *(_netstrings(field) for field in (label, score, start, stop, item))]
    return pc.binary_join_element_wise(*fields, pa.scalar("", pa.large_string()))


def _joined(lists: pa.ListArray, encode: Any) -> pa.Array:
    """Concatenate the encoded elements of each list, sorted by their bytes."""
    texts = encode(lists.flatten())
    lengths = lists.value_lengths().to_numpy(zero_copy_only=False)
    if len(lengths) and (lengths == 1).all():
        return texts
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    if (lengths > 1).any():
        order = _sorted_within(texts, offsets)
        texts = texts.take(pa.array(order))
    # Neighbouring strings lie end to end, so joining a list's elements is but a choice of offsets.
    bounds = np.frombuffer(texts.buffers()[1], dtype="i8")[texts.offset :][offsets]
    return pa.LargeStringArray.from_buffers(len(lists), pa.py_buffer(bounds), texts.buffers()[2])


def _sorted_within(texts: pa.Array, offsets: np.ndarray[Any, np.dtype[np.int64]]) -> list[int]:
    order = list(range(len(texts)))
    several: Iterable[int] = np.flatnonzero(np.diff(offsets) > 1).tolist()
    for n in several:
        start, stop = int(offsets[n]), int(offsets[n + 1])
        values = texts[start:stop].to_pylist()
        order[start:stop] = [start + i for i in sorted(range(stop - start), key=lambda i: values[i].encode())]
    return order
