"""SPEC's worked example, recomputed from SPEC's own text, then met in a real scan; its commands and queries run.

The arithmetic here is written from SPEC alone: hashlib and json, nothing of the code under test.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import subprocess

import duckdb
import pyarrow as pa
import pytest
from scanning import NO_TOXICITY, log_rows, policy_of, scan, shard_rows
from test_spec_document import block, blocks, code, numbers, table
from world import Document, add_record, add_run, detector, make_ledger

from forebear.schemas.canonical import canonical_json, row_leaves, row_text, row_texts
from forebear.schemas.digests import digest_name, merkle_root
from forebear.schemas.records import run_digest_leaves
from forebear.schemas.tables import LOG, SHARDS
from forebear.tracer.detect.detector import detector_digest
from forebear.tracer.ledger.parts import documents_of, part_root, summarise
from forebear.tracer.scan.plan import detector_records

# From SPEC alone


def sha256(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()


def leaf(data: bytes) -> bytes:
    return sha256(b"\x00" + data)


def root(leaves: list[bytes]) -> bytes:
    """RFC 6962, section 2.1, as it is defined: by halves, not level by level."""
    if not leaves:
        return sha256(b"")
    if len(leaves) == 1:
        return leaves[0]
    half = 1
    while 2 * half < len(leaves):
        half *= 2
    return sha256(b"\x01" + root(leaves[:half]) + root(leaves[half:]))


def canonical(value: object) -> bytes:
    return json.dumps(value, ensure_ascii=False, sort_keys=True, separators=(",", ":")).encode()


def netstring(value: str | int | None) -> str:
    return "~," if value is None else f"{len(str(value).encode())}:{value},"


def joined(elements: list[str]) -> str:
    return netstring("".join(sorted(netstring(element) for element in elements)))


def documents_digest(documents: list[bytes | None]) -> bytes:
    packed = [one or bytes(32) for one in documents]
    return sha256(b"".join(sha256(b"".join(packed[at : at + 2**20])) for at in range(0, len(packed), 2**20)))


def shard_file() -> bytes:
    return (block("text shard-file") + "\n").encode()


def texts() -> list[bytes]:
    return [line.encode() for line in block("text row-texts").split("\n")]


def shard_leaf_data(part: str) -> bytes:
    return canonical([f"sha256:{numbers()['shard']}", "", 2, f"sha256:{part}"])


NUMBERS = {
    "shard": lambda: sha256(shard_file()),
    "document of both rows": lambda: sha256(json.loads(shard_file().split(b"\n")[0])["text"].encode()),
    "leaf of row 0": lambda: leaf(texts()[0]),
    "leaf of row 1": lambda: leaf(texts()[1]),
    "part root (`log_digest`)": lambda: root([leaf(text) for text in texts()]),
    "`documents_digest`": lambda: documents_digest([bytes.fromhex(numbers()["document of both rows"])] * 2),
    "policy digest": lambda: sha256(block("json policy").encode()),
    "leaf 0 of the run (scope)": lambda: leaf(block("json scope").encode()),
    "leaf 1 of the run (the shard)": lambda: leaf(shard_leaf_data(numbers()["part root (`log_digest`)"])),
    "run digest": lambda: root([bytes.fromhex(numbers()[f"leaf {n} of the run ({what})"]) for n, what in ((0, "scope"), (1, "the shard"))]),
}


@pytest.mark.parametrize("name", NUMBERS)
def test_number_of_the_worked_example(name):
    assert NUMBERS[name]().hex() == numbers()[name]


def test_the_worked_example_has_no_number_that_is_not_recomputed():
    assert set(numbers()) == set(NUMBERS)


def test_the_rows_of_the_example_are_framed_as_their_fields_say():
    """The row texts, made from field values in SPEC's order of fields."""
    shard, document = numbers()["shard"], numbers()["document of both rows"]
    size, words = 66, 13
    values = {
        0: [shard, 0, document, "7", None, size, words, "keep", None, None, None, None, None, document],
        1: [shard, 1, document, "b", "web", size, words, "drop", document, shard, 0, 9, 9, document],
    }
    reasons: dict[int, list[str]] = {0: [], 1: ["exact_duplicate"]}
    for row, fields in values.items():
        framed = [netstring(value) for value in fields]
        framed.insert(8, joined(reasons[row]))
        assert ("".join(framed) + joined([])).encode() == texts()[row]
    order = [one["field"] for one in table("2. Canonical bytes", "field")]
    assert order == LOG.names


def test_json_blocks_are_canonical_and_the_scope_names_the_policy():
    for name in ("json policy", "json scope", "json reader", "json signature"):
        assert canonical(json.loads(block(name))) == canonical_json(json.loads(block(name))) == block(name).encode()
    scope = json.loads(block("json scope"))
    assert scope["policy"] == "sha256:" + numbers()["policy digest"]
    assert scope["reader"] == json.loads(block("json reader"))
    assert scope["signature"] == json.loads(block("json signature"))
    assert sorted(scope) == sorted(code(row["scope"]) for row in table("3. The log's tree", "scope"))


def test_evidence_fields_are_framed_and_sorted_by_their_netstrings():
    pieces = json.loads(block("json evidence"))
    fields = ("detector", "label", "score", "start", "stop", "item")
    evidence = joined(["".join(netstring(piece[field]) for field in fields) for piece in pieces])
    assert block("text evidence-fields").split("\n") == [joined(["toxic", "zeta"]), evidence]


# The code under test


def test_the_code_frames_evidence_as_spec_does():
    pieces = [{**piece, "detector": bytes.fromhex(piece["detector"])} for piece in json.loads(block("json evidence"))]
    row = dict.fromkeys(LOG.names) | {"shard": bytes(32), "row": 0, "action": "drop", "reasons": ["toxic", "zeta"], "evidence": pieces}
    table_of_it = pa.Table.from_pylist([row], schema=LOG)
    text = row_texts(table_of_it)[0].as_py()
    reasons, evidence = block("text evidence-fields").split("\n")
    assert text.endswith(evidence)
    assert f",4:drop,{reasons}~," in text
    assert text == row_text(row).decode()


@pytest.fixture(scope="module")
def scanned(tmp_path_factory):
    """The example's file, really scanned with the example's policy."""
    folder = tmp_path_factory.mktemp("spec")
    (folder / "two.jsonl").write_bytes(shard_file())
    return folder / "ledger", scan(folder / "ledger", [folder / "two.jsonl"], policy=policy_of(folder, NO_TOXICITY))


def test_a_real_scan_gives_the_run_digest_of_the_worked_example(scanned):
    _, done = scanned
    manifest = done.committed.manifest
    assert canonical(manifest.policy) == block("json policy").encode()
    assert manifest.run_digest == "sha256:" + numbers()["run digest"]


def test_a_real_scan_gives_the_rows_and_digests_of_the_worked_example(scanned):
    ledger, done = scanned
    assert [row_text(row) for row in log_rows(ledger, done)] == texts()
    (shard,) = shard_rows(ledger, done)
    assert shard["log_digest"].hex() == numbers()["part root (`log_digest`)"]
    assert shard["documents_digest"].hex() == numbers()["`documents_digest`"]


def test_the_run_digest_leaves_of_the_code_are_those_of_the_example():
    shard = ("sha256:" + numbers()["shard"], "", 2, "sha256:" + numbers()["part root (`log_digest`)"])
    leaves = run_digest_leaves(scope=json.loads(block("json scope")), shards=[shard, shard])
    assert [one.hex() for one in leaves] == [numbers()[f"leaf {n} of the run ({what})"] for n, what in enumerate(("scope", "the shard"))]


@pytest.mark.parametrize("size", range(12))
def test_the_tree_by_halves_is_the_codes_tree(size):
    leaves = [leaf(str(n).encode()) for n in range(size)]
    assert merkle_root(leaves) == root(leaves)


# A log with everything in it


@pytest.fixture(scope="module")
def log(tmp_path_factory):
    """A ledger whose log has nulls, empty and awkward texts, several pieces of evidence, a keeper; in two packs."""
    detectors = [detector(), detector("zeta", category="zeta", reason="zeta", flag=900, drop=900, action="flag")]
    shards = {
        "a": [
            Document("x", {"toxicity": 1000, "zeta": 950}, "wéb", source_id="null\x00inside, 5:toxic,"),
            Document(None, action="error", reasons=("not_text",)),
            Document("日本語"),
            Document("", {"zeta": 1}, source="", source_id=""),
            Document("a third", {"zeta": 900}),
        ],
        "b": [Document("q", {"zeta": 1000, "toxicity": 10}, reasons=("near_duplicate",), keeper=("a", 2), shared=(9, 10), action="drop")],
        "c": [Document(f"row {n}", {"toxicity": n}) for n in range(70)],
    }
    return make_ledger(tmp_path_factory.mktemp("log") / "ledger", shards=shards, detectors=detectors, packs=2)


def pack_paths(world) -> list[str]:
    paths = [world.ledger.store.local_path(f"objects/sha256/{ref.object[7:9]}/{ref.object[7:]}") for ref in world.manifest.log]
    return [str(path) for path in paths]


def query(name: str, world) -> list[tuple[str, ...]]:
    sql = block(name).replace("ROW_TEXT", block("sql row-text")).replace("PACKS", str(pack_paths(world)))
    return duckdb.connect().execute(sql).fetchall()


def shards_of(world) -> list[dict]:
    return world.ledger.read_table(world.manifest.shards.object, SHARDS).to_pylist()


def test_one_duckdb_expression_gives_the_canonical_text_of_every_row(log):
    for path, ref in zip(pack_paths(log), log.manifest.log, strict=True):
        sql = f"SELECT {block('sql row-text')} FROM read_parquet('{path}', file_row_number = true) ORDER BY file_row_number"
        found = [text.encode() for (text,) in duckdb.connect().execute(sql).fetchall()]
        table_of_it = log.ledger.read_log(ref.object)
        assert found == [row_text(row) for row in table_of_it.to_pylist()]
        assert [leaf(text) for text in found] == row_leaves(table_of_it)


def test_the_duckdb_query_gives_every_part_root(log):
    assert query("sql part-root", log) == [(row["shard"].hex(), row["log_digest"].hex()) for row in shards_of(log)]


def test_the_duckdb_query_gives_every_documents_digest(log):
    assert query("sql documents-digest", log) == [(row["shard"].hex(), row["documents_digest"].hex()) for row in shards_of(log)]


def test_plain_python_gives_part_root_and_documents_digest_of_the_code(log):
    for ref in log.manifest.log:
        table_of_it = log.ledger.read_log(ref.object)
        rows = table_of_it.to_pylist()
        for span in summarise(table_of_it):
            mine = [row for row in rows if digest_name(row["shard"]) == span.shard]
            assert part_root([span]) == root([leaf(row_text(row)) for row in mine])
            assert documents_of([span]) == documents_digest([row["document"] for row in mine])


def test_detector_digests_are_recomputed_from_a_manifest():
    (record,) = detector_records(policy=_default_policy())
    described = {"name": record.name, "category": record.category, "version": record.version, "parameters": dict(record.parameters)}
    assert record.digest == "sha256:" + sha256(canonical(described)).hex()
    assert record.digest == detector_digest(record.name, record.category, version=record.version, parameters=record.parameters)
    listed = {code(row["toxicity parameter"]) for row in table("14. Scores and detectors", "toxicity parameter")}
    assert set(record.parameters) == listed


def _default_policy():
    from forebear.tracer.policy import load_policy

    return load_policy(None)


# Commands


def run(script: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["bash", "-eu", "-o", "pipefail", "-c", script], env={"PATH": "/usr/bin:/bin", **environment}, capture_output=True, text=True
    )


def expected(script: str) -> list[str]:
    return re.findall(r"^# -> (.*)$", script, re.MULTILINE)


def commands() -> dict[str, str]:
    example, objects, head = blocks("sh")
    return {"example": example, "objects": objects, "head": head}


needs_shell = pytest.mark.skipif(shutil.which("bash") is None or shutil.which("sha256sum") is None, reason="no bash or sha256sum")


@needs_shell
def test_the_shell_commands_of_the_example_print_what_spec_says():
    script = commands()["example"]
    assert len(expected(script)) == 3
    assert run(script).stdout.splitlines() == expected(script)


@pytest.fixture
def copy(tmp_path):
    """A ledger of its own with five entries, for commands that a test breaks."""
    world = make_ledger(tmp_path / "ledger")
    for n in range(3):
        add_record(world.ledger, {"note": n})
    add_run(world.ledger, shards={"z": [Document("one more")]})
    assert len(world.ledger.entries()) == 5
    return tmp_path / "ledger"


@needs_shell
def test_sha256sum_alone_checks_every_object_and_notices_a_flipped_bit(copy):
    done = run(commands()["objects"], LEDGER=str(copy))
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    victim = next(path for path in (copy / "objects").rglob("*") if path.is_file())
    data = bytearray(victim.read_bytes())
    data[len(data) // 2] ^= 1
    victim.chmod(0o644)
    victim.write_bytes(data)
    broken = run(commands()["objects"], LEDGER=str(copy))
    assert broken.returncode != 0
    assert victim.name in broken.stdout


@needs_shell
def test_the_shell_recomputes_the_head_and_notices_a_changed_entry(copy):
    script = commands()["head"]
    assert run(script, LEDGER=str(copy)).stdout.splitlines() == expected(script) == ["same"]
    entry = copy / "entries" / "000000000001"
    entry.chmod(0o644)
    entry.write_bytes(entry.read_bytes().replace(b"2026", b"2027"))
    assert run(script, LEDGER=str(copy)).stdout == ""
