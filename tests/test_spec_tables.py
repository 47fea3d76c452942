"""SPEC's lists against the code: columns, fields, vocabularies, the rule table, policy keys, kinds of findings, versions."""

from __future__ import annotations

import ast
import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pytest
from test_spec_document import block, code, codes, section, table, tables
from world import make_ledger

from forebear.schemas import enums
from forebear.schemas import tables as schemas
from forebear.schemas.advisory import Advisory
from forebear.schemas.canonical import canonical_json
from forebear.schemas.enums import EntryKind
from forebear.schemas.records import DetectorRecord, Entry, Head, ObjectRef, RunManifest, Threshold
from forebear.tracer import policy
from forebear.tracer.corpus.formats import SUFFIXES, format_of
from forebear.tracer.corpus.inputs import READER_VERSION, ReaderOptions
from forebear.tracer.dedupe import leaders, pairs
from forebear.tracer.dedupe.signatures import SignatureOptions
from forebear.tracer.detect.detector import to_grid
from forebear.tracer.detect.fasttext_kernel import NUMERICS
from forebear.tracer.detect.windows import CUT
from forebear.tracer.ledger import ledger as ledger_module
from forebear.tracer.ledger.key_records import KEY_SCHEMA
from forebear.tracer.ledger.layout import MAX_ENTRY, MAX_HEAD, entry_path, object_path
from forebear.tracer.ledger.parts import RANGE_ROWS
from forebear.tracer.ledger.proof_check import PROOF_SCHEMA
from forebear.tracer.lineage import document as lineage
from forebear.tracer.lineage.relations import CAPS, RULES, WEIGHT_RELATIONS

TYPES = {
    pa.binary(32): "digest",
    pa.string(): "string",
    pa.int16(): "int16",
    pa.int64(): "int64",
    pa.uint32(): "uint32",
    pa.uint64(): "uint64",
    schemas.SPAN: "span",
    schemas.EVIDENCE_ITEM: "evidence",
}


def type_name(kind: pa.DataType) -> str:
    return f"list of {TYPES[kind.value_type]}" if pa.types.is_list(kind) else TYPES[kind]


@pytest.mark.parametrize("name", ["LOG", "EVIDENCE_ITEM", "SHARDS", "SPAN", "FLAGGED", "CLEANED", "BANDS"])
def test_columns_of_a_table(name):
    listed = [(code(row["column"]), row["type"], row["null"]) for row in table(f"{name}:", "column")]
    assert listed == [(field.name, type_name(field.type), "yes" if field.nullable else "no") for field in getattr(schemas, name)]


@pytest.mark.parametrize("name", list(enums.__all__))
def test_values_of_a_vocabulary_in_their_order(name):
    listed = {row["vocabulary"]: codes(row["values"]) for row in table("17. Vocabularies", "vocabulary")}
    assert listed[name] == [one.value for one in getattr(enums, name)]


def test_no_vocabulary_is_left_out_and_every_reason_is_explained():
    assert sorted(row["vocabulary"] for row in table("17. Vocabularies", "vocabulary")) == sorted(enums.__all__)
    assert [code(row["reason"]) for row in table("17. Vocabularies", "reason")] == [one.value for one in enums.Reason]


def _yes(value: bool) -> str:
    return "yes" if value else "no"


def test_the_rule_table_is_the_codes():
    listed = [tuple(row.values()) for row in table("16. Verdicts", "relation")]
    rules = [
        (
            f"`{rule.relation}`",
            rule.child,
            rule.parent,
            str(rule.cap or "unchanged"),
            str(rule.mode or ""),
            str(rule.unrelated_cap or ""),
            _yes(rule.both_ways),
            _yes(rule.walked),
            _yes(rule.weights),
        )
        for rule in RULES
    ]
    assert listed == rules
    assert {row[0].strip("`") for row in listed if row[-1] == "yes"} == WEIGHT_RELATIONS


def test_caps_are_listed_worst_first():
    first = section("16. Verdicts").split("| relation")[0]
    assert [one for one in codes(first) if one in CAPS][1:] == [cap.value for cap in CAPS]


# Records


def fields_of(first_column: str) -> list[str]:
    return [code(row[first_column]) for row in table("8. Records", first_column)]


def names(record: type) -> list[str]:
    return [field.name for field in dataclasses.fields(record)]


def test_fields_of_a_run_manifest():
    (rows,) = [one for one in tables(section("Run manifest")) if "field" in one[0]]
    assert [code(row["field"]) for row in rows] == ["schema", *names(RunManifest)]


def test_fields_of_a_detector_record_its_thresholds_and_a_reference():
    rows = {code(row["detector record"]): row["content"] for row in table("Run manifest", "detector record")}
    assert list(rows) == names(DetectorRecord)
    assert codes(rows["thresholds"])[1:] == names(Threshold)
    (line,) = [line for line in section("Run manifest").split("\n") if line.startswith("Reference:")]
    assert codes(line) == names(ObjectRef)


def test_fields_of_an_entry(tmp_path):
    (rows,) = [one for one in tables(section("Entry")) if "field" in one[0]]
    world = make_ledger(tmp_path / "ledger")
    data = (tmp_path / "ledger" / "entries" / "000000000000").read_bytes()
    assert sorted(code(row["field"]) for row in rows) == sorted(json.loads(data))
    assert data == canonical_json(json.loads(data))
    assert world.run in data.decode()


def test_columns_of_a_lineage_object():
    rows = {row["part"]: (codes(row["required"]), codes(row["optional columns"])) for row in table("Lineage object", "part")}
    node = [name for name in names(lineage.NodeTable) if name != "recorded"]
    assert rows["`models`, `datasets`"] == (["size", "recorded"], node)
    assert rows["`relations`, a list"][1] == list(lineage.ATTRIBUTES)
    for part, kind in (("shards", lineage.ShardTable), ("usage", lineage.UsageTable)):
        required, optional = rows[f"`{part}`"]
        assert sorted(set(required) | set(optional) & set(names(kind))) == sorted(names(kind))
    written = json.loads(
        lineage.LineageDocument(
            lineage.NodeTable(1, ["m"], [None], [None], [None], ["closed"]),
            relations=[lineage.RelationTable("trained_on", "model", "dataset", [0], [0], {"evidence": [None]})],
        ).to_bytes()
    )
    assert set(written) == {"schema", *names(lineage.LineageDocument)}
    assert set(written["models"]) == {"size", "recorded", "name", "ancestry"}
    assert set(written["relations"][0]) == {"relation", "from", "to", "child", "parent"}
    assert set(written["relations"][0]) < set(rows["`relations`, a list"][0]) | {"model", "dataset"}


VERSIONS = {
    "`schema` of a manifest": lambda: json.loads(_manifest_bytes())["schema"],
    "`schema` of an entry": lambda: json.loads(Entry(EntryKind.RUN, "sha256:" + "0" * 64, "").to_bytes())["schema"],
    "`schema` of a lineage object": lambda: lineage.SCHEMA,
    "`schema` of an advisory": lambda: json.loads(Advisory("r", "a", "t", models=("name:m",)).to_bytes())["schema"],
    "`schema` of a key record": lambda: KEY_SCHEMA,
    "`schema` of a proof": lambda: PROOF_SCHEMA,
    "first line of a head": lambda: Head(0, bytes(32)).to_bytes().split(b"\n")[0].decode(),
    "`version` of the reader": lambda: READER_VERSION,
    "`normalisation`": lambda: SignatureOptions().to_json()["normalisation"],
    "`shingle_hash`": lambda: SignatureOptions().to_json()["shingle_hash"],
    "`scheme`": lambda: SignatureOptions().to_json()["scheme"],
    "`cut`": lambda: CUT,
    "`numerics`": lambda: NUMERICS,
}


def _manifest_bytes() -> bytes:
    return RunManifest(**{name: () if name in ("detectors", "log", "bands") else None for name in names(RunManifest)}).to_bytes()


def test_versions_are_the_codes():
    listed = {row["place"]: code(row["value"]) for row in table("18. Versions", "place")}
    assert listed == {place: value() for place, value in VERSIONS.items()}


def test_options_that_enter_the_scope_are_the_codes_defaults():
    assert canonical_json(ReaderOptions().to_json()) == block("json reader").encode()
    assert canonical_json(SignatureOptions().to_json()) == block("json signature").encode()
    assert ReaderOptions(source="x").to_json() == {**json.loads(block("json reader")), "source": "x", "source_field": None}


# Ledger


def test_paths_and_bounds_of_a_ledger():
    assert object_path("sha256:" + "ab" * 32) == f"objects/sha256/ab/{'ab' * 32}"
    assert entry_path(0) == "entries/000000000000"
    assert (MAX_ENTRY, MAX_HEAD, RANGE_ROWS) == (1 << 20, 64 << 10, 1 << 20)
    assert [code(row["path"].split(",")[0]) for row in table("5. Ledger", "path")][1:3] == ["entries/<n>", "head"]


def _kinds(path: Path) -> Iterator[tuple[str, str]]:
    """(finding or note, kind) of every call that says one in a module of the ledger; integrity errors become findings."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    assigned = {
        target.id: value.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Tuple) and isinstance(node.value, ast.Tuple)
        for target, value in zip(node.targets[0].elts, node.value.elts, strict=True)
        if isinstance(target, ast.Name) and isinstance(value, ast.Constant)
    }
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        at = {"add": 1, "note": 1, "compare": 1, "IntegrityError": 0}.get(called)
        if at is None or len(node.args) <= at:
            continue
        kind = node.args[at]
        value = kind.value if isinstance(kind, ast.Constant) else assigned.get(getattr(kind, "id", ""))
        if isinstance(value, str):
            yield ("note" if called == "note" else "finding"), value


def test_kinds_of_findings_and_notes_are_those_that_verification_gives():
    modules = Path(ledger_module.__file__).parent.glob("*.py")
    given = {pair for module in modules for pair in _kinds(module)}
    listed = {(row["is a"], code(row["kind"])) for row in table("6. Verification", "kind")}
    assert listed == given


# Policy, scores, bounds


def _policy_keys() -> Iterator[tuple[str, str, str]]:
    parts = {
        "toxicity": policy.Toxicity,
        "toxicity.detoxify": policy.Detoxify,
        "duplicates": policy.Duplicates,
        "benchmarks[]": policy.Benchmark,
        "denylists[]": policy.Denylist,
        "detectors[]": policy.Custom,
    }
    for part, kind in parts.items():
        for field in dataclasses.fields(kind):
            default = {} if field.default is dataclasses.MISSING else policy._plain(field.default)
            told = "required" if field.metadata.get("required") else f"`{canonical_json(default).decode()}`"
            yield f"`{part}.{field.name}`", told, "yes" if field.metadata.get("path") else ""


def test_policy_keys_their_defaults_and_which_are_paths():
    listed = [(row["key"], row["default"], row["path"]) for row in table("15. Policy", "key")]
    assert listed == list(_policy_keys())


def test_the_canonical_policy_has_every_part_and_sources_their_five():
    named = codes(section("15. Policy"))
    parts = ["toxicity", "duplicates", "benchmarks", "denylists", "detectors"]
    assert named[:6] == [*parts, "sources"]
    assert sorted(policy.Policy().canonical()) == sorted([*parts, "sources"])
    own = policy.parse_policy({"sources": {"forum": {"toxicity": {"action": "flag"}}}}).canonical()["sources"]["forum"]
    assert own == {**{part: {} for part in parts}, "toxicity": {"action": "flag"}}


def test_a_path_of_a_policy_stands_for_what_it_holds(tmp_path):
    """A file by its digest, a folder by those of its files, anything else by itself."""
    from hashlib import sha256

    (tmp_path / "folder" / "inner").mkdir(parents=True)
    (tmp_path / "folder" / "inner" / "a.txt").write_bytes(b"a")
    (tmp_path / "list.txt").write_bytes(b"bad\n")
    digest = {name: "sha256:" + sha256(data).hexdigest() for name, data in (("a", b"a"), ("list", b"bad\n"))}
    made = policy.parse_policy(
        {
            "denylists": [{"path": str(tmp_path / "list.txt")}],
            "toxicity": {"detoxify": {"config": str(tmp_path / "folder"), "checkpoint": "original"}},
        }
    ).canonical()
    assert made["denylists"][0]["path"] == digest["list"]
    folder = canonical_json({"inner/a.txt": digest["a"]})
    assert made["toxicity"]["detoxify"]["config"] == "sha256:" + sha256(folder).hexdigest()
    assert made["toxicity"]["detoxify"]["checkpoint"] == "original"


def test_thresholds_are_rounded_up_and_scores_to_the_nearest():
    from decimal import Decimal

    assert "ceil(1024 t)" in section("14. Scores and detectors")
    assert [policy.grid(Decimal(text)) for text in ("0", "0.8", "0.5", "0.0001", "1")] == [0, 820, 512, 1, 1024]
    assert to_grid([0.0, 0.5 / 1024, 0.4999 / 1024, 1.0, 1.5]).tolist() == [0, 1, 0, 1024, 1024]


def test_bounds_of_buckets_and_comparisons():
    told = section("12. Candidates and similarity")
    assert f"2 to {pairs.ALL_PAIRS} rows" in " ".join(told.split())
    assert f"Once {leaders.COMPARISONS_PER_DOCUMENT} comparisons" in " ".join(told.split())


def test_formats_by_first_bytes_and_by_suffix():
    suffixes = {}
    for row in table("9. Reading rows", "format"):
        name = code(row["format"])
        suffixes |= dict.fromkeys(codes(row["suffixes"]), name)
        for digits in codes(row["first bytes (hex)"]):
            head = bytes.fromhex(digits.replace("?", "0")).ljust(8, b"\0")
            assert format_of(head, "named.otherwise") == name
    assert suffixes == SUFFIXES
    assert {format_of(b"", f"A{suffix.upper()}") for suffix in suffixes} == set(suffixes.values())
