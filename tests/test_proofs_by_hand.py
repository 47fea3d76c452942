"""Proofs checked as SPEC says a stranger checks them: DuckDB's own functions, sha256sum and a shell, and nothing of this project."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import duckdb
import pytest
from test_proofs_check import ABSENT, KEPT, run_with_tree
from test_spec_document import block
from world import DEFAULT, Document, add_record

from forebear.schemas.digests import sha256_name
from forebear.tracer.ledger.ledger import Ledger
from forebear.tracer.ledger.proofs import prove


@pytest.fixture(scope="module")
def ledger(tmp_path_factory: pytest.TempPathFactory) -> Ledger:
    ledger = Ledger.open(tmp_path_factory.mktemp("hand") / "l", create=True)
    add_record(ledger, {"a": 1})
    many = {name: [Document(f"{name} {n}", {"toxicity": n}) for n in range(9)] for name in ("c", "d", "e")}
    run_with_tree(ledger, shards={**DEFAULT, **many})
    add_record(ledger, {"b": 1})
    return Ledger.open(ledger.store.url)


def checked(proof: dict[str, object], query: str, folder: Path) -> dict[str, object]:
    path = folder / "proof.json"
    path.write_text(json.dumps(proof))
    connection = duckdb.connect()
    connection.execute(block("sql proof-macros"))
    result = connection.sql(block(query).replace("PROOF", f"'{path}'"))
    (row,) = result.fetchall()
    return dict(zip(result.columns, row, strict=True))


def steps(answer: dict[str, object]) -> list[object]:
    return [value for name, value in answer.items() if name not in {"size", "head"}]


def test_duckdb_checks_every_decision(ledger: Ledger, tmp_path: Path) -> None:
    texts = [one.text for rows in DEFAULT.values() for one in rows if one.text is not None] + [f"d {n}" for n in range(9)]
    for text in texts:
        answer = checked(prove(ledger, sha256_name(text.encode())), "sql proof-decision", tmp_path)
        assert steps(answer) == [True] * 4
        assert f"forebear/ledger/1\n{answer['size']}\n{answer['head']}\n".encode() == ledger.head().to_bytes()


def test_duckdb_checks_every_absence(ledger: Ledger, tmp_path: Path) -> None:
    for subject in [ABSENT, "sha256:" + "0" * 64, "sha256:" + "f" * 64, *(sha256_name(b"%d" % n) for n in range(20))]:
        assert steps(checked(prove(ledger, subject), "sql proof-absence", tmp_path)) == [True] * 3


CHANGES = {
    "the row": ("row", "text", lambda text: text.replace("4:keep", "4:drop")),
    "the row's path": ("row", "path", lambda path: path[::-1] if path[0] != path[-1] else []),
    "the shard": ("run", "text", lambda text: text.replace('"",', '"x",')),
    "the entry": ("entry", "text", lambda text: text.replace("2026", "2025")),
    "the documents": ("documents", "siblings", lambda siblings: siblings[1:]),
}


@pytest.mark.parametrize("what", CHANGES)
def test_duckdb_notices_a_change_in(ledger: Ledger, tmp_path: Path, what: str) -> None:
    part, name, change = CHANGES[what]
    proof = prove(ledger, KEPT)
    assert change(proof[part][name]) != proof[part][name]
    proof[part][name] = change(proof[part][name])
    assert steps(checked(proof, "sql proof-decision", tmp_path)) != [True] * 4


def test_duckdb_notices_that_a_document_is_not_in_the_gap(ledger: Ledger, tmp_path: Path) -> None:
    proof = {**prove(ledger, ABSENT), "subject": KEPT}
    assert steps(checked(proof, "sql proof-absence", tmp_path)) == [True, True, False]


@pytest.mark.skipif(shutil.which("bash") is None or shutil.which("sha256sum") is None, reason="no bash or sha256sum")
def test_sha256sum_and_a_shell_climb_every_path(ledger: Ledger) -> None:
    proof = prove(ledger, KEPT)
    size = ledger.head().size
    row = int(proof["row"]["text"].split(",")[1].split(":")[1])
    shard = json.loads(proof["run"]["text"])
    facts = json.loads(proof["entry"]["text"])["facts"]
    climbs = [
        (proof["entry"], proof["entry"]["index"], size, ledger.head().to_json()["root"]),
        (proof["run"], proof["run"]["index"], proof["run"]["size"], facts["run_digest"]),
        (proof["row"], row, shard[2], shard[3]),
    ]
    for shown, index, count, root in climbs:
        given = {"TEXT": shown["text"], "INDEX": str(index), "SIZE": str(count), "HASHES": " ".join(shown["path"])}
        done = subprocess.run(
            ["bash", "-eu", "-o", "pipefail", "-c", block("sh path")],
            env={"PATH": "/usr/bin:/bin", **given},
            capture_output=True,
            text=True,
            check=True,
        )
        assert f"sha256:{done.stdout.strip()}" == root
