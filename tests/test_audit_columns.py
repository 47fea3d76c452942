"""The log in SQL: only the columns that a query reads are loaded, none is ever answered from without being there."""

from __future__ import annotations

from pathlib import Path

import pytest
from world import World, make_ledger

from forebear.schemas.errors import UsageError
from forebear.tracer.audit.session import Session


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return make_ledger(tmp_path_factory.mktemp("columns") / "ledger", packs=2, clean=True)


QUERIES = {
    "a count of rows reads no column": ("SELECT count(*) AS n FROM audit.decision", {"run"}),
    "a count by action reads the action": ("SELECT action, count(*) AS n FROM audit.decision GROUP BY ALL ORDER BY 1", {"run", "action"}),
    "a similarity reads both of its numbers": (
        "SELECT max(jaccard) AS j FROM audit.decision",
        {"run", "intersection", "union_size"},
    ),
    "a column in a condition only is read": ("SELECT count(*) AS n FROM audit.decision WHERE words > 3", {"run", "words"}),
}


@pytest.mark.parametrize("sentence", QUERIES)
def test_only_what_is_read_is_loaded(world: World, sentence: str) -> None:
    query, columns = QUERIES[sentence]
    session = Session(world.ledger)
    session.sql(query)
    assert session.database._columns == {"raw_decision": columns}


SAME = {
    "a star": "SELECT * FROM audit.decision ORDER BY run, shard, row",
    "no SELECT at all": "FROM audit.decision ORDER BY run, shard, row",
    "a column expression": "SELECT COLUMNS('kee.*') FROM audit.decision ORDER BY ALL",
    "a column whose failure is tried": "SELECT TRY(words) AS w FROM audit.decision ORDER BY ALL",
    "a name in capitals and quotes": 'SELECT "WORDS", "Row" FROM audit.decision ORDER BY ALL',
    "a join of the log with itself": "SELECT a.document FROM audit.decision a JOIN audit.decision b ON a.document = b.keeper_document ORDER BY 1",
    "a macro over it": "SELECT count(*) AS n FROM audit.why((SELECT max(document) FROM audit.decision))",
    "scores": "SELECT detector, score, flag FROM audit.evidence ORDER BY ALL",
}


@pytest.mark.parametrize("sentence", SAME)
def test_an_answer_is_that_of_the_whole_table(world: World, sentence: str) -> None:
    whole = Session(world.ledger)
    for name in ("raw_decision", "raw_evidence"):
        columns = set(whole.database._types[name])
        whole.database._load_columns(name, columns)
    assert Session(world.ledger).sql(SAME[sentence]).rows() == whole.sql(SAME[sentence]).rows()


def test_a_later_query_adds_what_it_reads(world: World) -> None:
    session = Session(world.ledger)
    first = session.sql("SELECT count(*) AS n FROM audit.decision").rows()
    assert session.sql("SELECT sum(words) AS w FROM audit.decision WHERE action = 'keep'").rows() == [{"w": 16}]
    assert session.sql("SELECT count(*) AS n FROM audit.decision").rows() == first == [{"n": 7}]


def test_a_column_that_was_missed_is_loaded_when_the_query_runs_into_it(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("forebear.tracer.audit.tables._mentioned", lambda query, table: set())
    session = Session(world.ledger)
    assert session.sql("SELECT sum(words) AS w FROM audit.decision WHERE action = 'keep'").rows() == [{"w": 16}]
    assert session.database._columns == {"raw_decision": {"run", "action", "words"}}


def test_columns_that_would_not_fit_are_refused_with_the_figure(world: World) -> None:
    session = Session(world.ledger, memory=100)
    assert session.sql("SELECT count(*) AS n FROM audit.decision").rows() == [{"n": 7}]
    with pytest.raises(UsageError) as caught:
        session.sql("SELECT document FROM audit.decision")
    assert (caught.value.kind, "7 rows of document" in str(caught.value)) == ("too_large", True)


def test_the_limit_comes_from_the_environment(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FOREBEAR_SQL_GIB", "0.5")
    assert Session(world.ledger).memory == 2**29


def test_a_ledger_without_a_run_has_an_empty_log(tmp_path: Path) -> None:
    from forebear.tracer.ledger.ledger import Ledger

    ledger = Ledger.open(tmp_path / "ledger", create=True)
    assert Session(ledger).sql("SELECT count(*) AS n, max(words) AS w FROM audit.decision").rows() == [{"n": 0, "w": None}]
