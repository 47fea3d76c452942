"""The audit schema in DuckDB: tables filled from the ledger as queries name them.

Always true here: the database is in memory and a cache, never evidence; a table enters as Arrow that came hash-verified through
the ledger, and only when a query needs it: until then its place is held by a view that fails when it is read, never by an empty
table, so that nothing can be answered from what was not loaded. Views and macros are the files under `sql/`, one each.
"""

from __future__ import annotations

import datetime
import decimal
import functools
import math
import re
from collections.abc import Mapping
from importlib import resources
from typing import TYPE_CHECKING, Any

import duckdb
import pyarrow as pa

from forebear.schemas.errors import UsageError
from forebear.schemas.records import Head
from forebear.tracer.audit.sources import SOURCES

if TYPE_CHECKING:
    import polars as pl

    from forebear.tracer.audit.session import Session

__all__ = ["Answer", "Database", "audit_files"]

_NAMED = re.compile(r'audit"?\s*\.\s*"?([a-z_]+)', re.IGNORECASE)
_MISSING = re.compile(r"forebear: (raw_[a-z]+)(?:\.([a-z_]+))? is not loaded")


class Answer:
    """The rows of a query."""

    def __init__(self, columns: list[str], table: pa.Table) -> None:
        self.columns = columns
        self.table = table

    def rows(self) -> list[dict[str, Any]]:
        """Rows as dictionaries of plain values."""
        names = _distinct(self.columns)
        values = [[_plain(value) for value in _values(column)] for column in self.table.columns]
        return [dict(zip(names, row, strict=True)) for row in zip(*values, strict=True)]

    def frame(self) -> pl.DataFrame:
        """Rows as a polars frame."""
        import polars as pl

        found = pl.from_arrow(self.table)
        assert isinstance(found, pl.DataFrame)
        return found

    def to_json(self, head: Head) -> dict[str, Any]:
        """As CONTRACT's sql has it."""
        columns = _distinct(self.columns)
        return {"schema": "forebear/sql/1", "columns": columns, "rows": self.rows(), "complete": True, "head": head.to_json()}


class Database:
    """DuckDB over one session.

    Args:
        session: Where tables come from.
    """

    def __init__(self, session: Session) -> None:
        self._session = session
        self._loaded: set[str] = set()
        self._columns: dict[str, set[str]] = {}
        self._types: dict[str, dict[str, str]] = {}
        self._connection = duckdb.connect(":memory:")
        self._connection.execute("SET autoinstall_known_extensions = false; SET autoload_known_extensions = false")
        self._connection.execute("CREATE SCHEMA audit")
        for name, source in SOURCES.items():
            self._hold_place(name, source.schema)
        for file in _order():
            self._connection.execute(audit_files()[file])

    def query(self, query: str, *, parameters: Mapping[str, Any] | None = None) -> Answer:
        """The answer of one query.

        Raises:
            UsageError: DuckDB refuses the query, or there is none.
        """
        for name in sorted(_needed(query)):
            if SOURCES[name].pruned is not None:
                self._load_columns(name, _mentioned(query, name))
            elif name not in self._loaded:
                self._load(name)
        while True:
            try:
                return self._answer(query, parameters)
            except duckdb.Error as error:
                missing = _MISSING.search(str(error))
                if missing is None:
                    raise _refused(query, str(error)) from error
                name, column = missing[1], missing[2]
                if SOURCES[name].pruned is not None and (column or name) not in self._columns.get(name, ()):
                    self._load_columns(name, {column} if column else set())
                elif name not in self._loaded:
                    self._load(name)
                else:
                    raise _refused(query, str(error)) from error

    def _answer(self, query: str, parameters: Mapping[str, Any] | None) -> Answer:
        result = self._connection.sql(query, params=parameters) if parameters else self._connection.sql(query)
        if result is None:  # a statement that gives no rows
            return Answer([], pa.table({}))
        return Answer(result.columns, result.to_arrow_table())

    def _hold_place(self, name: str, schema: pa.Schema) -> None:
        self._connection.register("shape", schema.empty_table())
        types = self._connection.execute("DESCRIBE shape").fetchall()
        self._connection.unregister("shape")
        self._types[name] = {one[0]: one[1] for one in types}
        columns = ", ".join(f'NULL::{one[1]} AS "{one[0]}"' for one in types)
        unread = f"error('forebear: {name} is not loaded')::BOOLEAN"
        self._connection.execute(f"CREATE VIEW {name} AS SELECT {columns} FROM range(1) WHERE {unread}")  # noqa: S608 - names are ours

    def _load_columns(self, name: str, columns: set[str]) -> None:
        """Have some columns of a log table; the others fail when they are read, as the whole table does before any is there."""
        source, known = SOURCES[name], self._columns.get(name)
        if known is not None and columns <= known:
            return
        chosen = {"run", *columns, *(known or ())}
        assert source.pruned is not None
        self._connection.register(f"loaded_{name}", source.pruned(self._session, sorted(chosen)))
        shown = [
            f'"{field.name}"'
            if field.name in chosen
            else f"error('forebear: {name}.{field.name} is not loaded')::{self._types[name][field.name]} AS \"{field.name}\""
            for field in source.schema
        ]
        self._connection.execute(f"CREATE OR REPLACE VIEW {name} AS SELECT {', '.join(shown)} FROM loaded_{name}")  # noqa: S608 - ours
        self._columns[name] = chosen
        self._loaded.add(name)

    def _load(self, name: str) -> None:
        table = SOURCES[name].read(self._session)
        self._connection.execute(f"DROP VIEW {name}")
        self._connection.register(name, table)
        self._loaded.add(name)


@functools.cache
def audit_files() -> dict[str, str]:
    """Views and macros by name: the SQL of each."""
    folder = resources.files("forebear.tracer.audit") / "sql"
    return {one.name[:-4]: one.read_text("utf-8") for one in folder.iterdir() if one.name.endswith(".sql")}


def _without_comments(sql: str) -> str:
    return re.sub(r"--[^\n]*|/\*.*?\*/", " ", sql, flags=re.DOTALL)


@functools.cache
def _behind(name: str) -> frozenset[str]:
    """The raw tables behind a view or macro."""
    sql = _without_comments(audit_files()[name]).split("COMMENT ON")[0]
    found = set(re.findall(r"raw_[a-z]+", sql))
    for other in set(_NAMED.findall(sql)) & {*audit_files()} - {name}:
        found |= _behind(other)
    return frozenset(found)


def _needed(query: str) -> set[str]:
    """The raw tables behind what a query names; what this misses is loaded when the query runs into it."""
    sql = _without_comments(query)
    named = {name.lower() for name in _NAMED.findall(sql)} & {*audit_files()}
    return {raw for name in named for raw in _behind(name)} | (set(re.findall(r"raw_[a-z]+", sql)) & {*SOURCES})


def _mentioned(query: str, table: str) -> set[str]:
    """Columns of a log table that a query, or a view or macro behind it, may read by name; what this misses is loaded on demand.

    With a star, a column expression or TRY (which would take the failure of a column that is not there for a null) it is all.
    """
    seen: set[str] = set()
    sql, todo = "", [_without_comments(query)]
    while todo:
        text = todo.pop()
        sql += " " + text
        for name in set(_NAMED.findall(text)) & {*audit_files()} - seen:
            seen.add(name)
            if name not in _OVER_LOG:
                todo.append(_without_comments(audit_files()[name]).split("COMMENT ON")[0])
    words = set(re.findall(r"[a-z_]+", sql.lower()))
    names = {field.name for field in SOURCES[table].schema}
    starred = "*" in re.sub(r"count\s*\(\s*\*\s*\)", "", sql, flags=re.IGNORECASE)
    if starred or "select" not in words or words & {"columns", "try", "describe", "summarize"}:
        return names
    found = words & names
    return found | ({"intersection", "union_size"} & names if "jaccard" in words else set()) | ({"evidence"} & names)


_OVER_LOG = frozenset({"decision", "evidence"})
"""Views that name every column of a log table: whoever reads them says which it wants."""


@functools.cache
def _order() -> tuple[str, ...]:
    """Files in an order in which each finds what it builds on."""
    done: list[str] = []
    files = audit_files()

    def add(name: str) -> None:
        if name in done:
            return
        for one in sorted(set(_NAMED.findall(_without_comments(files[name])))):
            if one != name and one in files:
                add(one)
        done.append(name)

    for name in sorted(files):
        add(name)
    return tuple(done)


def _distinct(columns: list[str]) -> list[str]:
    """Column names made distinct: `SELECT 1 AS x, 2 AS x` gives x and x_1, as DuckDB itself names them."""
    seen: dict[str, int] = {}
    found = []
    for name in columns:
        found.append(name if name not in seen else f"{name}_{seen[name]}")
        seen[name] = seen.get(name, 0) + 1
    return found


def _values(column: pa.ChunkedArray) -> list[Any]:
    values = column.to_pylist()
    return [None if one is None else dict(one) for one in values] if pa.types.is_map(column.type) else values


def _plain(value: Any) -> Any:
    """A value as JSON has it."""
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, decimal.Decimal):
        return int(value) if value == value.to_integral_value() else float(value)
    if isinstance(value, datetime.datetime | datetime.date | datetime.time):
        return value.isoformat()
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, Mapping):
        return {str(key): _plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in value]
    return str(value)


def _refused(query: str, why: str) -> UsageError:
    return UsageError(
        "bad_sql",
        expected="one DuckDB query over the schema audit (`FROM audit.run`; tables: " + ", ".join(sorted(audit_files())) + ")",
        found=f"{' '.join(query.split())[:120]!r}: {why.strip()[:500]}",
        remedy="Correct the query.",
    )
