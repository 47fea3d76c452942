"""SQL from a stranger, or over a stranger's ledger: one SELECT, answered by a child process that can do nothing else.

Always true here: the child parses the query and walks its tree before anything is read; a node, table or function that is not known
to be harmless is refused. Tables are copied into an in-memory database that is then locked (no external access, no replacement
scans, no temporary files); the kernel bounds the child's memory and time and lets it write no file. The parent parses nothing but the
child's answer. What does not fit the limits is refused with the figure, never cut.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from forebear.schemas.errors import ForebearError, IntegrityError, UsageError

if TYPE_CHECKING:
    import duckdb

    from forebear.tracer.audit.session import Session

__all__ = ["Limits", "answer_untrusted"]

_CHILD = "from forebear.tracer.audit.untrusted import _child; _child()"
_READY = b"ready\n"
_KEPT_ENVIRONMENT = ("PATH", "PYTHONPATH", "LANG", "LC_ALL", "TZ", "HOME", "VIRTUAL_ENV")

_NODES = frozenset({"SELECT_NODE", "SET_OPERATION_NODE", "RECURSIVE_CTE_NODE", "CTE_NODE"})
_TABLES = frozenset({"BASE_TABLE", "SUBQUERY", "JOIN", "TABLE_FUNCTION", "EXPRESSION_LIST", "EMPTY"})
_ORDERS = frozenset({"ORDER_DEFAULT", "ASCENDING", "DESCENDING"})
_TABLE_FUNCTIONS = frozenset({"range", "generate_series", "unnest", "json_each", "json_tree"})
_HARMLESS = frozenset({"random", "uuid", "uuidv4", "uuidv7", "gen_random_uuid", "error"})
_HARMFUL = frozenset({"getenv", "getvariable", "current_setting", "txid_current", "parse_duckdb_log_message", "read_text", "read_blob"})
_PLAIN = re.compile(r"\w{1,128}")
_MISSING = re.compile(r"forebear: (raw_[a-z]+) is not loaded")


@dataclass(frozen=True)
class Limits:
    """What an untrusted query may use: seconds once its tables are loaded (and to load them), bytes of memory, bytes of JSON."""

    seconds: float = 10.0
    load_seconds: float = 60.0
    memory: int = 1 << 30
    answer: int = 64 << 20


def answer_untrusted(ledger: str | Path, query: str, *, limits: Limits | None = None, head: int | None = None) -> dict[str, Any]:
    """The answer of one SELECT over the schema `audit`, as CONTRACT's `sql --json` has it.

    Args:
        ledger: Path or URL of the ledger.
        query: One SELECT.
        limits: Time, memory, size of the answer.
        head: As of an older head: its number of entries.

    Raises:
        UsageError: The query is no SELECT of that kind, reaches outside, or needs more than the limits.
        IntegrityError: What it reads of the ledger is damaged.
    """
    bounds = limits or Limits()
    if "\0" in query or len(query) > 1 << 20:
        _refuse("at most 1 MiB of text without a NUL", "something else")
    asked: dict[str, Any] = {"ledger": _absolute(str(ledger)), "query": query, "head": head, "limits": asdict(bounds), "load": []}
    while True:
        said = _asked_child(asked, bounds)
        if "missing" not in said or said["missing"] in asked["load"]:
            break
        # A table that the query reaches only through a macro: a fresh child loads it too.
        asked["load"].append(said["missing"])
    if "error" in said:
        kind = IntegrityError if said.get("integrity") else UsageError
        raise kind(**said["error"])
    answer = said.get("answer")
    if not isinstance(answer, dict):
        raise UsageError("refused", expected="an answer", found="none", remedy="Ask something else.")
    return answer


def _absolute(url: str) -> str:
    return url if "://" in url else str(Path(url).absolute())


def _asked_child(asked: Mapping[str, Any], bounds: Limits) -> dict[str, Any]:
    """Start a child, hand it the question, and read what it says within the limits."""
    remote = "://" in asked["ledger"] and not asked["ledger"].startswith("file://")
    kept = os.environ if remote else {name: os.environ[name] for name in _KEPT_ENVIRONMENT if name in os.environ}
    child = subprocess.Popen(  # noqa: S603 - our own interpreter and module
        [sys.executable, "-P", "-c", _CHILD],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env={**kept, "ARROW_DEFAULT_MEMORY_POOL": "system", "OMP_NUM_THREADS": "1", "MALLOC_ARENA_MAX": "2"},
    )
    late: list[str] = []
    try:
        assert child.stdin is not None and child.stdout is not None
        child.stdin.write(json.dumps(asked).encode())
        child.stdin.close()
        with _deadline(child, bounds.load_seconds, late, "to load the tables"):
            first = child.stdout.readline(len(_READY) + 1)
        with _deadline(child, bounds.seconds, late, "to answer"):
            said = child.stdout.read(bounds.answer + 1) if first == _READY else first + child.stdout.read(bounds.answer + 1)
    finally:
        child.kill()
        child.wait()
        if child.stdout is not None:
            child.stdout.close()
    if late:
        _over(f"at most {late[0]}", "more")
    if len(said) > bounds.answer:
        _over(f"an answer of at most {bounds.answer} bytes", f"more than {bounds.answer}")
    try:
        value = json.loads(said)
    except ValueError:
        value = None
    if not isinstance(value, dict):  # it was killed: what it was asked for did not fit, or broke the parser of a table
        _over(f"at most {bounds.memory} bytes of memory", "a process that ended without an answer")
    return value


class _deadline:  # noqa: N801 - a context, named as one reads it
    """Kill a child that is not done in time."""

    def __init__(self, child: subprocess.Popen[bytes], seconds: float, late: list[str], doing: str) -> None:
        self._timer = threading.Timer(seconds, self._end, (child, late, f"{seconds:g} s {doing}"))

    @staticmethod
    def _end(child: subprocess.Popen[bytes], late: list[str], what: str) -> None:
        late.append(what)
        child.kill()

    def __enter__(self) -> None:
        self._timer.start()

    def __exit__(self, *_: object) -> None:
        self._timer.cancel()


def _refuse(expected: str, found: str) -> NoReturn:
    remedy = "Ask with one SELECT over audit.* and plain functions; leave out --untrusted for a ledger and a query of your own."
    raise UsageError("refused_sql", expected=expected, found=found[:300], remedy=remedy)


def _over(expected: str, found: str) -> NoReturn:
    raise UsageError("over_limit", expected=expected, found=found, remedy="Ask for less, or raise the limits.")


# In the child


def _child() -> None:
    """Answer the question on standard input; the only thing that this process does."""
    asked = json.load(sys.stdin)
    try:
        said = _answered(asked)
    except ForebearError as error:
        inner = {"kind": error.kind, "expected": error.expected, "found": error.found, "remedy": error.remedy}
        said = {"error": inner, "integrity": isinstance(error, IntegrityError)}
    except MemoryError:
        said = _too_large(asked["limits"]["memory"])
    except BaseException as error:  # noqa: BLE001 - whatever a stranger's bytes do to a library is an answer of "no"
        found = f"{type(error).__name__}: {str(error)[:200]}"
        remedy = "Ask something else."
        said = {"error": {"kind": "refused_sql", "expected": "a query that can be answered", "found": found, "remedy": remedy}}
    sys.stdout.write(json.dumps(said, ensure_ascii=False).encode(errors="backslashreplace").decode("utf-8"))
    sys.stdout.flush()
    os._exit(0)  # no destructors: threads of a cancelled query may hang in them


def _answered(asked: Mapping[str, Any]) -> dict[str, Any]:
    import duckdb

    from forebear.tracer.audit.session import Session
    from forebear.tracer.audit.tables import Answer, Database, _needed

    limits, query = Limits(**asked["limits"]), asked["query"]
    _require_select(query)
    _bound_process(limits)
    session = Session.open(asked["ledger"], head=asked["head"])
    needed = sorted(_needed(query) | set(asked["load"]))
    _require_room(session, needed, limits)
    database = Database(session)
    connection = database._connection
    _copy_in(connection, session, needed)
    head = session.head
    _lock(connection, limits)
    sys.stdout.write(_READY.decode())
    sys.stdout.flush()
    try:
        result = connection.sql(query)
        answer = Answer(result.columns, result.to_arrow_table())
    except duckdb.OutOfMemoryException:
        return _too_large(limits.memory)
    except duckdb.Error as error:
        missing = _MISSING.search(str(error))
        if missing is not None:
            return {"missing": missing[1]}
        _refuse("a query that DuckDB can answer", str(error))
    return {"answer": answer.to_json(head)}


def _too_large(memory: int) -> dict[str, Any]:
    error = {"kind": "over_limit", "expected": f"at most {memory} bytes of memory", "found": "more", "remedy": "Ask for less."}
    return {"error": error}


def _bound_process(limits: Limits) -> None:
    """Let the kernel bound this process; its children, files and time too."""
    import resource

    import numpy as np
    import pyarrow.parquet as pq

    del np, pq  # loaded before memory is bounded, so that the bound is on what the query needs
    mapped = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize() if Path("/proc/self/statm").exists() else 0
    # What is mapped already, the database's own bound, and as much again for the copy that a table enters by.
    bounds = {resource.RLIMIT_AS: mapped + 2 * limits.memory} if mapped else {}
    seconds = int(limits.load_seconds + 4 * limits.seconds) + 1
    bounds |= {resource.RLIMIT_FSIZE: 0, resource.RLIMIT_CORE: 0, resource.RLIMIT_CPU: seconds}
    for what, bound in bounds.items():
        hard = resource.getrlimit(what)[1]
        least = bound if hard == resource.RLIM_INFINITY else min(bound, hard)
        resource.setrlimit(what, (least, least))


def _require_room(session: Session, needed: list[str], limits: Limits) -> None:
    """Refuse tables that cannot fit, before any of them is read: what is compressed is smaller than what it becomes."""
    size = 0
    for _, _, run in session.runs:
        size += sum(ref.bytes for ref in run.log) * len({"raw_decision", "raw_evidence"} & set(needed))
        size += run.flagged.bytes * ("raw_flagged" in needed) + run.shards.bytes * ("raw_shard" in needed)
    if size > limits.memory:
        _over(f"tables of at most {limits.memory} bytes", f"{size} bytes even compressed")


def _copy_in(connection: duckdb.DuckDBPyConnection, session: Session, needed: list[str]) -> None:
    from forebear.tracer.audit.sources import SOURCES

    for name in needed:
        connection.register("incoming", SOURCES[name].read(session))
        connection.execute(f"DROP VIEW {name}; CREATE TABLE {name} AS FROM incoming")
        connection.unregister("incoming")


def _lock(connection: duckdb.DuckDBPyConnection, limits: Limits) -> None:
    """Nothing but its memory is left to the database."""
    connection.execute(
        f"SET memory_limit = '{limits.memory}B'; SET threads = 2; SET temp_directory = ''; SET python_enable_replacements = false;"
        "SET allow_community_extensions = false; SET allow_persistent_secrets = false; SET enable_external_access = false;"
        "SET lock_configuration = true"
    )


def _require_select(query: str) -> None:
    """Refuse what is not one SELECT over the schema `audit` with harmless functions."""
    import duckdb

    try:
        statements = duckdb.extract_statements(query)
    except duckdb.Error as error:
        _refuse("one SELECT", str(error))
    if len(statements) != 1 or statements[0].type is not duckdb.StatementType.SELECT:
        kinds = ", ".join(str(one.type).rpartition(".")[2] for one in statements[:5])
        _refuse("one SELECT", f"{len(statements)} statements ({kinds})" if statements else "none")
    with duckdb.connect(":memory:") as connection:
        row = connection.execute("SELECT json_serialize_sql(?)", [query]).fetchone()
        volatile = connection.execute(
            "SELECT DISTINCT function_name FROM duckdb_functions() WHERE stability = 'VOLATILE' OR has_side_effects"
        ).fetchall()
    assert row is not None
    try:
        tree = json.loads(row[0])
    except RecursionError:
        _refuse("one SELECT", "one that is nested too deep")
    if tree.get("error") is not False:
        _refuse("one SELECT", str(tree.get("error_message")))
    _require_harmless(tree, ({name for (name,) in volatile} - _HARMLESS) | _HARMFUL)


def _require_harmless(tree: Any, harmful: set[str]) -> None:
    """Walk a query's tree: every node, table and function must be known."""
    from forebear.tracer.audit.tables import audit_files

    own = {*audit_files()}
    names = {str(one["key"]) for one in _dictionaries(tree) if "key" in one and isinstance(one.get("value"), dict)}
    names |= {str(one["cte_name"]) for one in _dictionaries(tree) if one.get("cte_name")}
    for one in _dictionaries(tree):
        kind = one.get("type")
        if not isinstance(kind, str):
            continue
        if "class" not in one and not (kind in _NODES | _TABLES | _ORDERS or kind.endswith(("_MODIFIER", "_TYPE_INFO"))):
            _refuse("a SELECT and nothing in it that acts", kind.lower())
        if kind == "BASE_TABLE":
            _require_table(one, names, own)
        if kind == "TABLE_FUNCTION" and "function" in one:
            _require_table_function(one["function"], own)
        name = one.get("function_name")
        if isinstance(name, str) and name.lower() in harmful:
            _refuse("functions without side effects", f"{name}()")


def _require_table(table: Mapping[str, Any], names: set[str], own: set[str]) -> None:
    catalog, schema, name = (str(table.get(part) or "") for part in ("catalog_name", "schema_name", "table_name"))
    defined = schema.lower() in {"", "recurring"} and name in names and _PLAIN.fullmatch(name)
    if catalog not in {"", "memory"} or not (defined or (schema.lower() == "audit" and name.lower() in own)):
        _refuse("tables of the schema audit (" + ", ".join(sorted(own)) + ")", ".".join(part for part in (catalog, schema, name) if part))


def _require_table_function(function: Mapping[str, Any], own: set[str]) -> None:
    schema, name = str(function.get("schema") or "").lower(), str(function.get("function_name")).lower()
    if not (schema == "audit" and name in own) and not (schema in {"", "main"} and name in _TABLE_FUNCTIONS):
        _refuse("macros of the schema audit, " + ", ".join(sorted(_TABLE_FUNCTIONS)), f"{name}()")


def _dictionaries(tree: Any) -> Iterator[dict[str, Any]]:
    todo = [tree]
    while todo:
        one = todo.pop()
        if isinstance(one, dict):
            yield one
            todo.extend(one.values())
        elif isinstance(one, list):
            todo.extend(one)
