"""Rows of JSONL: which bytes are a row, and what a row says.

Always true here: `parse_line` defines a row; `_fast_columns` gives the same for the lines it can and leaves the others to it. A
line's reading depends on the line and the field names alone: nesting has a stated bound because an interpreter's own would
depend on how deep the caller stands, and numbers are never turned into floats and back.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from forebear.schemas.enums import Reason
from forebear.tracer.corpus.batch import Batch, unreadable_rest
from forebear.tracer.corpus.inflate import Damaged, decompressed
from forebear.tracer.corpus.inputs import ReaderOptions
from forebear.tracer.corpus.source import Source

__all__ = ["MAX_DEPTH", "MAX_LINE", "Line", "jsonl_rows", "jsonl_texts", "lines", "parse_line"]

MAX_LINE = 1 << 30
"""Longest line in bytes; a longer one is one unreadable row."""
MAX_DEPTH = 256
"""Deepest nesting of arrays and objects; a deeper line is unreadable."""

_STEP = 1 << 20
_BOM = b"\xef\xbb\xbf"
_TOO_LONG = b"\x00"  # stands for a line over MAX_LINE: not white space and not JSON, so it is an unreadable row
_SPACE = " \t\n\r"
_STRUCTURE = re.compile(r'"(?:[^"\\]++|\\.)*+"|[\[{]|[\]}]', re.DOTALL)


@dataclass(frozen=True)
class Line:
    """What one row says; a row with an error has no text."""

    text: str | None = None
    source_id: str | None = None
    source: str | None = None
    error: Reason | None = None


class _Number(str):
    """A number as the source writes it."""

    __slots__ = ()


# Integers of any length stay digits: CPython refuses to convert more than a configured number of them.
_CAREFUL = json.JSONDecoder(parse_int=_Number, parse_float=_Number, parse_constant=_Number)
# The decoder's own scanner without the two regular expressions around it: a microsecond a line.
_SCAN: Any = json.JSONDecoder().scan_once  # type: ignore[attr-defined,unused-ignore]


def parse_line(line: bytes, options: ReaderOptions) -> Line:
    """Read one line that is not blank, the careful way.

    Args:
        line: Its bytes, without the newline.
        options: Field names.
    """
    fixed = options.source
    try:
        text = line.decode()
    except UnicodeDecodeError:
        return Line(source=fixed, error=Reason.INVALID_UTF8)
    if _depth(text) > MAX_DEPTH:
        return Line(source=fixed, error=Reason.UNREADABLE)
    try:
        value = _CAREFUL.decode(text)
    except ValueError:
        return Line(source=fixed, error=Reason.UNREADABLE)
    if not isinstance(value, dict):
        return Line(source=fixed, error=Reason.NOT_TEXT)
    source = fixed if fixed is not None else _string(value.get(options.source_field))
    document = value.get(options.text_field, False)
    known = Line(None, _id(value.get(options.id_field)), source)
    if document is None:
        return known
    if not isinstance(document, str) or isinstance(document, _Number):
        return Line(None, known.source_id, source, Reason.NOT_TEXT)
    if not _encodes(document):
        return Line(None, known.source_id, source, Reason.INVALID_UTF8)
    return Line(document, known.source_id, source)


def _depth(text: str) -> int:
    """Deepest nesting of brackets outside strings; where quotes do not match it only bounds, and the line is no JSON anyway."""
    if text.count("[") + text.count("{") <= MAX_DEPTH:
        return 0
    deepest = depth = 0
    for token in _STRUCTURE.finditer(text):
        mark = text[token.start()]
        depth += (mark in "[{") - (mark in "]}")
        deepest = max(deepest, depth)
    return deepest


def _encodes(text: str) -> bool:
    """Whether the text has a UTF-8 form: a lone surrogate, which JSON can escape, has none."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _string(value: object) -> str | None:
    return value if isinstance(value, str) and not isinstance(value, _Number) and _encodes(value) else None


def _id(value: object) -> str | None:
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value) if isinstance(value, _Number) else _string(value)


def lines(source: Source, *, step: int | None = None, max_line: int = MAX_LINE) -> Iterator[list[bytes]]:
    """The lines that are rows, in order, some at a time: without their newline, blank ones and the byte order mark left out.

    Args:
        source: A JSONL file, plain or compressed.
        step: Bytes to read at a time; changes nothing but how many lines come at once.
        max_line: A longer line is given as bytes that are no JSON.

    Raises:
        Damaged: After the last whole line before damage in a compressed file.
        DataError: ``source_changed`` or ``unreadable_file``.
    """
    plain = source.format == "jsonl"
    chunks = source.chunks(step or _STEP) if plain else decompressed(source, step=step)
    try:
        for found in _split(_without_bom(chunks), max_line):
            rows = [line for line in found if line and not line.isspace()]
            if rows:
                yield rows
    except Damaged:
        source.check_unchanged()
        raise
    source.check_unchanged()


def _without_bom(chunks: Iterator[bytes]) -> Iterator[bytes]:
    head = b""
    for chunk in chunks:
        head += chunk
        if len(head) >= len(_BOM):
            break
    yield head.removeprefix(_BOM)
    yield from chunks


def _split(chunks: Iterable[bytes], max_line: int) -> Iterator[list[bytes]]:
    """Cut at newlines; a line's parts are joined once, so a line of any length costs linear time."""
    parts: list[bytes] = []
    held = 0
    for chunk in chunks:
        found = chunk.split(b"\n")
        if len(found) > 1:
            parts.append(found[0])
            held += len(found[0])
            found[0] = _TOO_LONG if held > max_line else b"".join(parts)
            parts, held = [], 0
        else:
            found = [b"", *found]
        last = found.pop()
        held += len(last)
        if held > max_line:
            parts = []  # no longer held: the rest of the line only has to be passed over
        elif last:
            parts.append(last)
        yield [_TOO_LONG if len(line) > max_line else line for line in found] if max_line < len(chunk) else found
    if held:
        yield [_TOO_LONG if held > max_line else b"".join(parts)]


def jsonl_rows(
    source: Source,
    *,
    options: ReaderOptions,
    rows: int,
    max_bytes: int,
    step: int | None = None,
    max_line: int = MAX_LINE,
) -> Iterator[Batch]:
    """The rows of a JSONL file in batches of at most `rows` rows, cut after the row that reaches `max_bytes`."""
    first = 0
    try:
        for some in _grouped(lines(source, step=step, max_line=max_line), rows, max_bytes):
            yield _batch(first, some, options)
            first += len(some)
    except Damaged as damage:
        yield unreadable_rest(first, damage.found, source=options.source)


def _grouped(found: Iterator[list[bytes]], rows: int, max_bytes: int) -> Iterator[list[bytes]]:
    """Regroup lines; those read before damage are given before it is raised."""
    group: list[bytes] = []
    size = 0
    try:
        for some in found:
            for line in some:
                group.append(line)
                size += len(line)
                if len(group) >= rows or size >= max_bytes:
                    yield group
                    group, size = [], 0
    except Damaged:
        if group:
            yield group
        raise
    if group:
        yield group


def _batch(first: int, some: list[bytes], options: ReaderOptions) -> Batch:
    texts, ids, sources, errors = _fast_columns(some, options)
    try:
        columns = pa.array(texts, pa.large_string()), pa.array(ids, pa.string()), pa.array(sources, pa.string())
    except UnicodeEncodeError:
        # A lone surrogate somewhere: the careful way knows which row has it.
        parsed = [parse_line(line, options) for line in some]
        errors = {n: row.error.value for n, row in enumerate(parsed) if row.error is not None}
        columns = (
            pa.array([row.text for row in parsed], pa.large_string()),
            pa.array([row.source_id for row in parsed], pa.string()),
            pa.array([row.source for row in parsed], pa.string()),
        )
    error = pa.array([errors.get(n) for n in range(len(some))], pa.string()) if errors else pa.nulls(len(some), pa.string())
    return Batch(first, *columns, error)


_Columns = tuple[list[str | None], list[str | None], list[str | None], dict[int, str]]


def _fast_columns(some: list[bytes], options: ReaderOptions) -> _Columns:
    """Texts, ids, sources and errors of lines; any line that is not plainly good goes through `parse_line`."""
    texts: list[str | None] = []
    ids: list[str | None] = []
    sources: list[str | None] = []
    errors: dict[int, str] = {}
    scan, fixed = _SCAN, options.source
    text_field, id_field, source_field = options.text_field, options.id_field, options.source_field
    for n, line in enumerate(some):
        try:
            decoded = line.decode()
            if decoded.count("[") + decoded.count("{") <= MAX_DEPTH:
                value, end = scan(decoded, 0)
                text = value[text_field]
                if type(text) is str and type(value) is dict and (end == len(decoded) or not decoded[end:].strip(_SPACE)):
                    own, told = value.get(id_field), value.get(source_field)
                    own_type = type(own)
                    if own_type is str or own is None or (own_type is int and own):
                        texts.append(text)
                        ids.append(own if own is None or own_type is str else str(own))
                        sources.append(fixed if fixed is not None else told if type(told) is str else None)
                        continue
        except (ValueError, StopIteration, LookupError, TypeError):
            pass
        row = parse_line(line, options)
        texts.append(row.text)
        ids.append(row.source_id)
        sources.append(row.source)
        if row.error is not None:
            errors[n] = row.error.value
    return texts, ids, sources, errors


def jsonl_texts(
    source: Source, *, options: ReaderOptions, wanted: npt.NDArray[np.int64]
) -> Iterator[tuple[npt.NDArray[np.int64], pa.Array]]:
    """The texts of some rows; lines between them are passed over unparsed."""
    first = at = 0
    try:
        for some in lines(source):
            stop = int(np.searchsorted(wanted, first + len(some)))
            if stop > at:
                picked = wanted[at:stop]
                yield picked, _batch(0, [some[n] for n in (picked - first).tolist()], options).texts
                at = stop
            if at == len(wanted):
                break
            first += len(some)
    except Damaged:
        return
    source.check_unchanged()
