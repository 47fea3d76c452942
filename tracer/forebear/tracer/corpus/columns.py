"""Columns of any Arrow type as texts, ids and errors.

Always true here: no string leaves here that is not valid UTF-8; what a row holds costs that row only; offsets and indices are
checked before they are followed.
"""

from __future__ import annotations

import json

import pyarrow as pa
import pyarrow.compute as pc

from forebear.schemas.enums import Reason
from forebear.tracer.corpus.inflate import damaged

__all__ = ["as_id", "as_text"]


def _plain(column: pa.Array) -> pa.Array:
    """The column without extension or run-end encoding."""
    kind = column.type
    if isinstance(kind, pa.BaseExtensionType):
        return _plain(column.storage)
    if pa.types.is_run_end_encoded(kind):
        return _plain(pc.run_end_decode(column))
    return column


def _is_string(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))


def as_text(column: pa.Array) -> tuple[pa.Array, pa.Array]:
    """A column as texts (large_string) and errors (string): what is no string is `not_text`, bad bytes are `invalid_utf8`."""
    plain = _plain(column)
    if pa.types.is_dictionary(plain.type):
        # Judged before it is decoded: decoding trusts offsets and indices that a damaged file may have wrong.
        return _looked_up(*as_text(plain.dictionary), plain.indices)
    if not _is_string(plain.type):
        error = pc.if_else(plain.is_valid(), pa.scalar(Reason.NOT_TEXT.value, pa.string()), pa.scalar(None, pa.string()))
        return pa.nulls(len(plain), pa.large_string()), error
    try:
        plain.validate(full=True)
    except pa.ArrowInvalid:
        return _mend(plain)
    return plain.cast(pa.large_string()), pa.nulls(len(plain), pa.string())


def _looked_up(texts: pa.Array, errors: pa.Array, indices: pa.Array) -> tuple[pa.Array, pa.Array]:
    """The dictionary's texts and errors by index; a row whose index leads outside the dictionary is `unreadable`."""
    numbers = indices.cast(pa.int64())
    outside = pc.or_(pc.less(numbers, 0), pc.greater_equal(numbers, len(texts)))
    inside = pc.if_else(outside, pa.scalar(None, pa.int64()), numbers)
    lost = pa.scalar(Reason.UNREADABLE.value, pa.string())
    return texts.take(inside), pc.if_else(pc.fill_null(outside, False), lost, errors.take(inside))


def _mend(column: pa.Array) -> tuple[pa.Array, pa.Array]:
    raw = column.cast(pa.binary_view() if pa.types.is_string_view(column.type) else pa.large_binary())
    try:
        raw.validate(full=True)
    except pa.ArrowInvalid as error:
        raise damaged(f"a column's offsets are damaged: {error}") from error
    texts: list[str | None] = []
    errors: list[str | None] = []
    for value in raw:
        data = value.as_py()
        try:
            texts.append(None if data is None else data.decode())
            errors.append(None)
        except UnicodeDecodeError:
            texts.append(None)
            errors.append(Reason.INVALID_UTF8.value)
    return pa.array(texts, pa.large_string()), pa.array(errors, pa.string())


def as_id(column: pa.Array) -> pa.Array:
    """Strings as they are; integers, booleans and floats as JSON writes them; null for anything else."""
    plain = _plain(column)
    kind = plain.type
    if pa.types.is_floating(kind):
        return pa.array([None if value is None else json.dumps(value) for value in plain.to_pylist()], pa.string())
    if pa.types.is_integer(kind) or pa.types.is_boolean(kind):
        return plain.cast(pa.string())
    return as_text(plain)[0].cast(pa.string())
