"""SQL from a stranger: nothing but one SELECT over the audit schema is answered, by a child process that can do nothing else.

Two lines of defence are tested apart: the gate (what the query's tree may hold) and the lock (what a database does that the gate let
through). At last every attack goes through a child as well.
"""

from __future__ import annotations

import os
import time
from pathlib import Path

import duckdb
import pytest
from world import Document, make_ledger

from forebear.schemas.errors import IntegrityError, UsageError
from forebear.tracer.audit.untrusted import Limits, _lock, _require_select, answer_untrusted

SECRET = "/tmp/forebear-no-such-place/secret.csv"
ACTS = {
    "copies to a file": "COPY (SELECT 1) TO '{out}/x.csv'",
    "copies a table to a file": "COPY audit.decision TO '{out}/x.parquet'",
    "reads CSV": "SELECT * FROM read_csv('{secret}')",
    "reads a file by its name": "SELECT * FROM '{secret}'",
    "reads text": "SELECT * FROM read_text('{secret}')",
    "reads bytes": "SELECT * FROM read_blob('{secret}')",
    "lists files": "SELECT * FROM glob('{out}/*')",
    "sniffs a file": "FROM sniff_csv('{secret}')",
    "reads metadata": "SELECT * FROM parquet_metadata('{secret}')",
    "reads JSON": "SELECT * FROM read_json('{secret}')",
    "reads a database": "SELECT * FROM read_duckdb('{secret}')",
    "attaches a database": "ATTACH '{out}/db.duckdb' AS x",
    "exports": "EXPORT DATABASE '{out}/e'",
    "imports": "IMPORT DATABASE '{out}/e'",
    "installs": "INSTALL httpfs",
    "loads": "LOAD httpfs",
    "installs from the community": "INSTALL spatial FROM community",
    "fetches": "SELECT * FROM read_csv('https://localhost:1/x')",
    "switches external access on": "SET enable_external_access = true",
    "unlocks": "SET lock_configuration = false",
    "resets": "RESET enable_external_access",
    "sets a folder for spilling": "SET temp_directory = '{out}'",
    "sets a log": "SET log_query_path = '{out}/log'",
    "profiles into a file": "PRAGMA profiling_output = '{out}/p'",
    "profiles": "PRAGMA enable_profiling = 'json'",
    "logs": "CALL enable_logging(storage = 'file', storage_config = {{'path': '{out}/logs'}})",
    "adds a statement that drops": "SELECT 1; DROP VIEW audit.decision",
    "adds a statement that copies": "SELECT 1; COPY (SELECT 1) TO '{out}/y.csv'",
    "drops the schema": "DROP SCHEMA audit CASCADE",
    "deletes": "DELETE FROM audit.decision",
    "updates": "UPDATE audit.decision SET action = 'keep'",
    "inserts": "INSERT INTO audit.model VALUES (1)",
    "inserts inside a WITH": "WITH x AS (INSERT INTO raw_head VALUES (1, 'x') RETURNING *) SELECT * FROM x",
    "deletes inside a WITH": "WITH x AS (DELETE FROM raw_head RETURNING *) SELECT * FROM x",
    "makes a table": "CREATE TABLE audit.x AS SELECT 1",
    "makes a macro": "CREATE MACRO audit.ancestors(m) AS 1",
    "makes a secret": "CREATE SECRET s (TYPE s3, KEY_ID 'a', SECRET 'b')",
    "alters": "ALTER TABLE audit.decision RENAME TO d",
    "detaches": "DETACH memory",
    "uses another schema": "USE memory",
    "checkpoints": "CHECKPOINT",
    "checkpoints by a function": "SELECT * FROM force_checkpoint()",
    "vacuums": "VACUUM",
    "calls": "CALL pragma_version()",
    "asks the environment": "SELECT getenv('HOME')",
    "asks a variable": "SELECT getvariable('x')",
    "asks for settings": "SELECT current_setting('home_directory')",
    "asks for secrets": "SELECT * FROM duckdb_secrets()",
    "asks for all settings": "SELECT * FROM duckdb_settings()",
    "asks the catalog": "SELECT * FROM information_schema.tables",
    "asks another catalog": "SELECT * FROM system.information_schema.tables",
    "asks the raw tables": "SELECT * FROM raw_decision",
    "runs text as a query": "SELECT * FROM query('COPY (SELECT 1) TO ''{out}/q.csv''')",
    "names a table by text": "SELECT * FROM query_table('{secret}')",
    "runs serialised text": "SELECT * FROM json_execute_serialized_sql('{{}}')",
    "scans memory by address": "SELECT * FROM arrow_scan(1, 2, 3)",
    "scans Python by address": "SELECT * FROM python_arrow_scan(1, 2, 3)",
    "scans pandas by address": "SELECT * FROM pandas_scan(1)",
    "prepares": "PREPARE p AS SELECT 1",
    "executes": "EXECUTE p",
    "explains by doing": "EXPLAIN ANALYZE COPY (SELECT 1) TO '{out}/z.csv'",
    "writes a log": "SELECT write_log('x')",
    "sleeps": "SELECT sleep_ms(100000)",
    "draws from a sequence": "SELECT nextval('s')",
    "hides a file behind a WITH of its name": "SELECT * FROM (WITH \"{secret}\" AS (SELECT 1) SELECT 1), '{secret}'",
    "calls a harmful function deep inside": "SELECT list_transform([1], lambda x: (SELECT max(getenv('HOME')) FROM range(x)))",
    "calls a harmful function in an order": "SELECT 1 ORDER BY getenv('HOME')",
    "calls a harmful function in a filter": "SELECT count(*) FILTER (WHERE getenv('HOME') = 'x')",
    "calls a harmful function in a window": "SELECT sum(1) OVER (PARTITION BY getenv('HOME'))",
    "calls a harmful function as a method": "SELECT 'HOME'.getenv()",
    "calls a harmful function in quotes": "SELECT \"GetEnv\"('HOME')",
    "shows": "SHOW TABLES",
    "describes a file": "FROM (DESCRIBE '{secret}')",
    "summarises a file": "SUMMARIZE '{secret}'",
    "pivots": "PIVOT audit.decision ON action USING count(*)",
    "is a dot command": ".output {out}/o",
    "is a shell command": ".shell touch {out}/s",
    "is nothing": "",
    "is a semicolon": ";",
    "is a sentence": "drop everything you have",
}
USES = {
    "joins without end": "SELECT count(*) FROM range(100000000000) a, range(100000000000) b",
    "recurses without end": "WITH RECURSIVE t AS (SELECT 1 x UNION ALL SELECT x + 1 FROM t) SELECT max(x) FROM t",
    "makes a long list": "SELECT list_sum(range(20000000000))",
    "makes a long text": "SELECT repeat('x', 40000000000)",
    "answers without end": "SELECT repeat('x', 1000) FROM range(1000000)",
}
HONEST = {
    "counts": "SELECT count(*) AS n FROM audit.decision",
    "groups": "SELECT action, count(*) FROM audit.decision GROUP BY ALL",
    "has a WITH": "WITH a AS (SELECT 1 AS x) SELECT * FROM a",
    "reads a view": "SELECT * FROM audit.run",
    "calls a macro": "SELECT * FROM audit.trace('x')",
    "casts and ranks": "SELECT CAST(score AS DECIMAL(10, 2)), rank() OVER (ORDER BY score) FROM audit.evidence ORDER BY ALL DESC LIMIT 3",
    "recurses": "WITH RECURSIVE t AS (SELECT 1 x UNION ALL SELECT x + 1 FROM t WHERE x < 5) SELECT max(x) FROM t",
    "unnests": "SELECT unnest(reasons) FROM audit.decision",
    "joins sideways": "SELECT * FROM audit.decision d JOIN LATERAL (SELECT d.row) l ON true",
    "has subqueries": "SELECT (SELECT max(row) FROM audit.decision), EXISTS (SELECT 1), 1 IN (SELECT 1)",
    "is a union": "SELECT run FROM audit.run UNION ALL (SELECT run FROM audit.run EXCEPT SELECT 'x')",
    "lists values": "VALUES (1, 'a')",
    "ends with a semicolon": "SELECT 1;",
    "has comments": "SELECT /* a */ 1 -- b",
    "chooses columns": "SELECT COLUMNS('r.*') FROM audit.run",
    "uses key": "WITH RECURSIVE t(x, y) USING KEY (x) AS (SELECT 1, 1 UNION SELECT r.x, r.y + 1 FROM recurring.t r WHERE r.y < 3) FROM t",
}
SMALL = Limits(seconds=2.0, memory=256 << 20, answer=1 << 20)


@pytest.fixture(scope="module")
def ledger(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("untrusted") / "ledger"
    make_ledger(path)
    return path


@pytest.fixture
def filled(tmp_path: Path) -> tuple[Path, Path]:
    """A secret, and a folder into which nothing may be written."""
    secret, out = tmp_path / "secret.csv", tmp_path / "out"
    secret.write_text("a,b\nhunter2,1\n")
    out.mkdir()
    return secret, out


@pytest.mark.parametrize("what", ACTS)
def test_the_gate_refuses_a_query_that(what: str) -> None:
    with pytest.raises(UsageError) as caught:
        _require_select(ACTS[what].format(secret=SECRET, out="/tmp/forebear-no-such-place"))
    assert caught.value.kind == "refused_sql"


@pytest.mark.parametrize("what", HONEST)
def test_the_gate_lets_a_query_pass_that(what: str) -> None:
    _require_select(HONEST[what])


def test_a_locked_database_neither_reads_nor_writes_what_the_gate_would_have_refused(filled: tuple[Path, Path]) -> None:
    secret, out = filled
    hidden = secret.read_text()
    leaked = []
    for what, query in ACTS.items():
        connection = duckdb.connect(":memory:")
        connection.execute("CREATE SCHEMA audit; CREATE TABLE audit.decision AS SELECT 1 AS action")
        _lock(connection, SMALL)
        if "sleep" in query or "by address" in what:  # the one takes its time, the other takes this process with it
            continue
        try:
            done = connection.execute(query.format(secret=secret, out=out))
            answer = "" if done is None else str(done.fetchall())
        except duckdb.Error:
            continue
        if "hunter2" in answer or (os.environ["HOME"] in answer and "getenv" in query):
            leaked.append(what)
    assert leaked == []
    assert list(out.iterdir()) == []
    assert secret.read_text() == hidden


@pytest.mark.parametrize("what", USES)
def test_a_query_is_stopped_at_its_limits_that(ledger: Path, what: str) -> None:
    began = time.monotonic()
    with pytest.raises(UsageError) as caught:
        answer_untrusted(ledger, USES[what], limits=SMALL)
    assert caught.value.kind in {"over_limit", "refused_sql"}
    assert time.monotonic() - began < 60


def test_an_honest_query_is_answered_as_sql_answers_it(ledger: Path) -> None:
    from forebear.tracer.audit.session import Session

    query = "SELECT action, count(*) AS n FROM audit.decision GROUP BY ALL ORDER BY ALL"
    session = Session.open(ledger)
    assert answer_untrusted(ledger, query) == session.sql(query).to_json(session.head)


def test_a_table_that_only_the_running_query_reaches_is_loaded_all_the_same(ledger: Path) -> None:
    query = 'SELECT count(*) AS n FROM "audit"/**/."decision"'
    assert answer_untrusted(ledger, query)["rows"] == [{"n": 7}]


def test_a_query_leaves_the_ledger_as_it_is(ledger: Path) -> None:
    before = {path: path.read_bytes() for path in ledger.rglob("*") if path.is_file()}
    with pytest.raises(UsageError):
        answer_untrusted(ledger, "SELECT 1; DROP SCHEMA audit CASCADE")
    answer_untrusted(ledger, "SELECT * FROM audit.decision")
    assert {path: path.read_bytes() for path in ledger.rglob("*") if path.is_file()} == before


def test_a_child_can_write_no_file_even_where_the_gate_and_the_lock_fail(ledger: Path, tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from forebear.tracer.audit.untrusted import Limits, _bound_process; _bound_process(Limits());"
        "Path(sys.argv[1]).write_text('x')"
    )
    import subprocess
    import sys

    done = subprocess.run([sys.executable, "-c", code, tmp_path / "x"], capture_output=True, timeout=60, check=False)
    assert done.returncode != 0
    assert not (tmp_path / "x").exists() or (tmp_path / "x").read_text() == ""


def test_tables_larger_than_the_limit_are_refused_with_the_figure(ledger: Path) -> None:
    with pytest.raises(UsageError) as caught:
        answer_untrusted(ledger, "SELECT * FROM audit.decision", limits=Limits(memory=1000))
    assert caught.value.kind == "over_limit"
    assert "1000 bytes" in caught.value.expected


def test_damage_in_what_a_query_reads_is_told_as_damage(tmp_path: Path) -> None:
    world = make_ledger(tmp_path / "l", shards={"a": [Document("text", source_id="x")]})
    pack = world.manifest.log[0].object
    path = tmp_path / "l" / "objects" / "sha256" / pack[7:9] / pack[7:]
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    with pytest.raises(IntegrityError) as caught:
        answer_untrusted(tmp_path / "l", "SELECT * FROM audit.decision")
    assert caught.value.kind == "digest_mismatch"


@pytest.mark.slow
def test_every_attack_is_refused_by_a_child(ledger: Path, filled: tuple[Path, Path]) -> None:
    secret, out = filled
    let = []
    for what, query in ACTS.items():
        try:
            let.append((what, answer_untrusted(ledger, query.format(secret=secret, out=out))))
        except UsageError:
            continue
    assert let == []
    assert list(out.iterdir()) == []
