"""The audit schema: every table, view and macro on exact results; the same answers as `trace`; nothing answered from nothing."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from world import DEFAULT, Document, World, add_run, detector, make_ledger

from forebear.schemas.digests import sha256_name
from forebear.schemas.errors import UsageError
from forebear.schemas.lineage import parse_record
from forebear.tracer.audit.session import Session
from forebear.tracer.audit.tables import audit_files
from forebear.tracer.lineage.link import link

TIME = "2026-11-02T00:00:00.000000Z"


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    world = make_ledger(tmp_path_factory.mktemp("sql") / "ledger", clean=True)
    closed = {"ancestry": "closed"}
    record = {
        "models": [
            {"name": "dirty", **closed, "trained_on": [{"dataset": "raw", "stage": "pretrain", "epochs": 2, "evidence": "logged"}]},
            {"name": "chat", **closed, "parents": [{"relation": "finetuned_from", "model": "dirty"}]},
            {"name": "clean", **closed, "trained_on": [{"dataset": "clean"}]},
            {"name": "open", "trained_on": [{"dataset": "mix"}]},
        ],
        "datasets": [
            {"name": "raw", **closed, "shards": [{"shard": world.shards["a"], "rows": [[0, 3]]}, world.shards["b"]]},
            {"name": "clean", **closed, "shards": [world.cleaned["a"]], "relations": [{"relation": "cleaned_from", "dataset": "raw"}]},
            {"name": "mix", **closed, "relations": [{"relation": "mixed_from", "dataset": "clean"}]},
        ],
    }
    link(world.ledger, [(parse_record(record), Path())], time=TIME)
    return world


@pytest.fixture(scope="module")
def session(world: World) -> Session:
    return Session(world.ledger)


def rows(session: Session, query: str) -> list[tuple[Any, ...]]:
    return [tuple(row.values()) for row in session.sql(query).rows()]


NORTH = sha256_name(b"the north wind and the sun disputed which was the stronger")
VILE = sha256_name(b"a vile and hateful line")

# The question -> (query, rows). RUN, A and B stand for the run and the shards.
ANSWERS: dict[str, tuple[str, list[tuple[Any, ...]]]] = {
    "what was decided": (
        "SELECT action, count(*) FROM audit.decision GROUP BY ALL ORDER BY 1", [("drop", 3), ("error", 1), ("keep", 3)],
    ),
    "who was kept in a duplicate's place, and how alike they are": (
        """SELECT "row", keeper_row, keeper_document, intersection, union_size, round(jaccard, 4) FROM audit.decision
        WHERE keeper_row IS NOT NULL ORDER BY 1""",
        [(0, 0, NORTH, 6, 6, 1.0), (1, 0, NORTH, 9, 11, 0.8182)],
    ),
    "which reasons a row has": (
        "SELECT source_id, reasons FROM audit.decision WHERE shard = 'A' ORDER BY 1",
        [("a0", []), ("a1", ["toxic"]), ("a2", []), ("a3", ["not_text"])],
    ),
    "every score, with the threshold in force": (
        "SELECT document, score, flag, label FROM audit.evidence WHERE score >= flag", [(VILE, 1000 / 1024, 820 / 1024, "toxic")],
    ),
    "how many scores there are": ("SELECT count(*) FROM audit.evidence", [(5,)]),
    "the run": ("SELECT run, rows_in, rows_kept, rows_dropped, rows_errored, incomplete FROM audit.run", [("RUN", 7, 3, 3, 1, 0)]),
    "whether it reconciles": ("SELECT reconciles, round(share_errored, 4) FROM audit.run_health", [(True, 0.1429)]),
    "the shards": (
        "SELECT path, rows, run FROM audit.shard ORDER BY 1", [("a.jsonl", 4, "RUN"), ("b.jsonl", 3, "RUN"), ("empty.jsonl", 0, "RUN")],
    ),
    "the shards that were written": ("SELECT source, rows FROM audit.cleaned WHERE source = 'A'", [("A", 2)]),
    "the detector": ('SELECT name, "class", reason FROM audit.detector', [("toxicity", "toxicity", "toxic")]),
    "its thresholds": ('SELECT source, flag, "drop" FROM audit.threshold', [("", 820 / 1024, 820 / 1024)]),
    "contaminated rows": ('SELECT shard, "row", "class", action FROM audit.contamination', [("A", 1, "toxicity", "drop")]),
    "contamination of every shard, zeros included": (
        "SELECT path, contaminated_rows, contaminated_documents, errored_rows FROM audit.shard_contamination ORDER BY 1",
        [("a.jsonl", 1, 1, 1), ("b.jsonl", 0, 0, 0), ("empty.jsonl", 0, 0, 0)],
    ),
    "the models": (
        "SELECT name, ancestry, recorded FROM audit.model ORDER BY 1",
        [("chat", "closed", True), ("clean", "closed", True), ("dirty", "closed", True), ("open", "open", True)],
    ),
    "the datasets": ("SELECT id FROM audit.dataset ORDER BY 1", [("name:clean",), ("name:mix",), ("name:raw",)]),
    "the relations": (
        "SELECT child, relation, parent, evidence, entry FROM audit.relation WHERE child_kind = 'model' ORDER BY 1",
        [
            ("name:chat", "finetuned_from", "name:dirty", "declared", 1),
            ("name:clean", "trained_on", "name:clean", "declared", 1),
            ("name:dirty", "trained_on", "name:raw", "logged", 1),
            ("name:open", "trained_on", "name:mix", "declared", 1),
        ],
    ),
    "rows that fed models": (
        "SELECT model, shard, first_row, last_row, stage, epochs, evidence FROM audit.usage WHERE model = 'name:dirty' ORDER BY shard",
        [("name:dirty", "A", 0, 3, "pretrain", 2.0, "logged"), ("name:dirty", "B", 0, 3, "pretrain", 2.0, "logged")],
    ),
    "a mixture without shards is its parts": (
        "SELECT dataset FROM audit.usage WHERE model = 'name:open'", [("name:clean",)],
    ),
    "entries": ("SELECT entry, kind FROM audit.entry ORDER BY 1", [(0, "run"), (1, "lineage")]),
    "the head": ("SELECT size FROM audit.head", [(2,)]),
    "no verification was recorded": ("SELECT count(*) FROM audit.verification", [(0,)]),
    "integrity": ("SELECT integrity, head_size, last_verified FROM audit.integrity_status", [("checked", 2, None)]),
    "contaminated models": (
        'SELECT model_name, "class", verdict, channel, ancestor_name, depth, documents, evidence FROM audit.contaminated_models ORDER BY 1',
        [
            ("chat", "toxicity", "inherited_weights", "weights", "dirty", 1, 1, "declared"),
            ("dirty", "toxicity", "direct", "documents", "dirty", 0, 1, "logged"),
        ],
    ),
    "exposures with their dose": (
        "SELECT model_name, dataset_name, rows, words, epochs, presentations, reasons['toxic'] FROM audit.exposure ORDER BY 1",
        [("chat", "raw", 1, 5, 2.0, 2.0, 1), ("dirty", "raw", 1, 5, 2.0, 2.0, 1)],
    ),
    "verdicts": (
        "SELECT model_name, verdict, at_worst, complete FROM audit.verdict ORDER BY 1",
        [
            ("chat", "inherited_weights", "inherited_weights", True),
            ("clean", "cleared", "cleared", True),
            ("dirty", "direct", "direct", True),
            ("open", "unknown", "direct", False),
        ],
    ),
    "who is clean, and known to be": ("SELECT model_name, verdict FROM audit.clean_with_coverage", [("clean", "cleared")]),
    "what is not known": (
        "SELECT model_name, why, at_worst FROM audit.blind_spots", [("open", "ancestry open", "direct")],
    ),
    "clusters": ("SELECT rows, removed, round(least_jaccard, 4) FROM audit.dedup_clusters ORDER BY 1", [(2, 2, 0.8182)]),
    "copies in other shards": ('SELECT "row", keeper_shard FROM audit.cross_shard_leaks ORDER BY 1', [(0, "A"), (1, "A")]),
    "ancestors of a model": (
        "SELECT id FROM audit.ancestors('chat') ORDER BY 1", [("name:dirty",), ("name:raw",)],
    ),
    "descendants of a dataset": (
        "SELECT id FROM audit.descendants('raw') WHERE kind = 'model' ORDER BY 1",
        [("name:chat",), ("name:clean",), ("name:dirty",), ("name:open",)],
    ),
    "a trace in SQL": ("SELECT ancestor, documents FROM audit.trace('chat')", [("name:dirty", 1)]),
    "why a document was dropped": (f"SELECT action, reasons FROM audit.why('{VILE}')", [("drop", ["toxic"])]),
    "whom a shard reached": (
        "SELECT name FROM audit.impact(['B']) ORDER BY 1", [("chat",), ("dirty",)],
    ),
    "exposure at a lower threshold, without another scan": (
        "SELECT ancestor, dataset, documents FROM audit.exposure_at('chat', 'toxicity', 0.5)", [("name:dirty", "name:raw", 2)],
    ),
    "how a model came to a shard": (
        "SELECT step, child, relation, parent FROM audit.why_path('chat', 'B')",
        [(1, "name:chat", "finetuned_from", "name:dirty"), (2, "name:dirty", "trained_on", "name:raw")],
    ),
    "how a model came to a shard that it never saw": ("SELECT * FROM audit.why_path('clean', 'B')", []),
    "what the ledger held at an older head": ("SELECT entry, kind FROM audit.as_of(1)", [(0, "run")]),
    "what it held at a head that it never had": ("SELECT entry FROM audit.as_of(3)", []),
    "two runs that are one": ("SELECT count(*) FROM audit.diff('RUN', 'RUN')", [(0,)]),
}  # fmt: skip


@pytest.mark.parametrize("question", ANSWERS)
def test_answers(world: World, session: Session, question: str) -> None:
    query, expected = ANSWERS[question]
    words = {"RUN": world.run, "'A'": f"'{world.shards['a']}'", "'B'": f"'{world.shards['b']}'"}
    for word, meant in words.items():
        query = query.replace(word, meant)
    names = {"RUN": world.run, "A": world.shards["a"], "B": world.shards["b"]}
    meant_rows = [tuple(names.get(value, value) if isinstance(value, str) else value for value in row) for row in expected]
    found = rows(session, query)
    assert [_approximate(row) for row in found] == [_approximate(row) for row in meant_rows]


def _approximate(row: tuple[Any, ...]) -> tuple[Any, ...]:
    return tuple(round(value, 6) if isinstance(value, float) else value for value in row)


def test_every_file_of_the_schema_is_asked_here() -> None:
    asked = " ".join(query for query, _ in ANSWERS.values())
    assert [name for name in audit_files() if f"audit.{name}" not in asked] == []


@pytest.mark.parametrize("name", sorted(audit_files()))
def test_every_file_begins_with_what_it_is_for_and_has_a_comment(name: str) -> None:
    sql = audit_files()[name]
    assert sql.startswith(f"-- {name}")
    assert f"audit.{name} IS '" in sql


@pytest.mark.parametrize("question", ["verdicts", "exposures with their dose", "what was decided"])
def test_a_table_is_found_however_it_is_named(world: World, question: str) -> None:
    """Quoted, commented, in a string: a table that is not loaded when the query runs fails and is loaded then."""
    query, expected = ANSWERS[question]
    for form in ('"audit".', "audit . ", "audit./* a comment */", "AUDIT."):
        fresh = Session(world.ledger)
        assert rows(fresh, query.replace("audit.", form)) == expected
    doubled = query.replace("'", "''").replace("audit.", "aud' || 'it.")
    assert rows(Session(world.ledger), f"SELECT * FROM query('{doubled}')") == expected


def test_a_table_that_is_not_loaded_never_answers(world: World) -> None:
    import duckdb

    fresh = Session(world.ledger)
    with pytest.raises(duckdb.Error, match="is not loaded"):
        fresh.database._connection.execute("SELECT count(*) FROM audit.decision").fetchall()


def test_only_what_a_query_names_is_read(world: World) -> None:
    fresh = Session(world.ledger)
    fresh.sql("SELECT count(*) FROM audit.run")
    assert fresh.database._loaded == {"raw_run"}


def test_sql_and_trace_say_the_same(session: Session) -> None:
    for model, verdict in rows(session, "SELECT model, verdict FROM audit.verdict"):
        trace = session.trace(model)
        assert trace.verdict == verdict
        query = f"SELECT verdict, ancestor, documents FROM audit.contaminated_models WHERE model = '{model}'"
        assert rows(session, query) == [(one.verdict, one.ancestor.id, one.documents) for one in trace.exposures]


def test_rows_travel_as_json(session: Session) -> None:
    query = (
        "SELECT DATE '2026-11-01' AS d, 1.5::DECIMAL(4, 2) AS n, 'x'::BLOB AS b, NULL AS z, [1, 2] AS l, {'k': 1} AS s, 'NaN'::DOUBLE AS f"
    )
    answer = session.sql(query).to_json(session.head)
    assert json.loads(json.dumps(answer))["rows"] == [
        {"d": "2026-11-01", "n": 1.5, "b": "78", "z": None, "l": [1, 2], "s": {"k": 1}, "f": None}
    ]


def test_columns_of_one_name_are_told_apart(session: Session) -> None:
    assert list(session.sql("SELECT 1 AS x, 2 AS x").rows()[0].values()) == [1, 2]


def test_an_answer_is_a_frame_in_a_notebook(session: Session) -> None:
    frame = session.frame("SELECT model_name, verdict FROM audit.verdict ORDER BY 1")
    assert frame["model_name"].to_list() == ["chat", "clean", "dirty", "open"]


def test_broken_sql_is_wrong_use(session: Session) -> None:
    with pytest.raises(UsageError) as caught:
        session.sql("SELEC 1")
    assert caught.value.kind == "bad_sql"


def test_an_older_head_has_the_older_rows(world: World) -> None:
    assert rows(Session(world.ledger, head=1), "SELECT count(*) FROM audit.model") == [(0,)]


def test_rows_of_a_run_are_judged_by_the_thresholds_of_its_own_source(tmp_path: Path) -> None:
    record = detector(sources={"forum": (600, 600)})
    documents = [Document("one", {"toxicity": 700}, "forum"), Document("two", {"toxicity": 700}, "web")]
    world = make_ledger(tmp_path / "ledger", shards={"a": documents}, detectors=[record])
    found = rows(Session(world.ledger), 'SELECT "row", flag FROM audit.evidence ORDER BY 1')
    assert found == [(0, 600 / 1024), (1, 820 / 1024)]


def test_diff_shows_what_another_threshold_changed(tmp_path: Path) -> None:
    from forebear.tracer.audit.diff import diff_runs

    world = make_ledger(tmp_path / "ledger")
    again = add_run(world.ledger, shards=DEFAULT, detectors=[detector(flag=600, drop=600)])
    answer = diff_runs(Session(world.ledger), world.run, again.run)
    assert (answer["same"], answer["changed"]) == (False, 1)
    assert answer["by_reason"] == [{"was": "keep", "reasons_was": [], "now": "drop", "reasons_now": ["toxic"], "rows": 1}]
    assert answer["settings"][0]["detector"] == "toxicity"
