"""Training records: what is taken, what is refused, and that the JSON Schema agrees with the parser."""

from __future__ import annotations

import copy
import json
from importlib import resources
from typing import Any

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

from forebear.schemas.errors import DataError, ForebearError
from forebear.schemas.lineage import DATASET_RELATIONS, MODEL_RELATIONS, decimal_text, parse_record
from forebear.tracer.lineage.records import parse_text

DIGEST = "sha256:" + "ab" * 32

WHOLE: dict[str, Any] = {
    "models": [
        {
            "name": "acme/base-7b",
            "revision": "3f2a",
            "digest": DIGEST,
            "aliases": ["acme/base-7b-hf"],
            "ancestry": "closed",
            "trained_on": [
                {"dataset": "acme/web", "stage": "pretrain", "epochs": 1.5, "usage": "complete", "evidence": "logged"},
                {"dataset": "acme/web"},
            ],
        },
        {
            "name": "acme/chat",
            "parents": [
                {"relation": "finetuned_from", "model": "acme/base-7b", "revision": "3f2a", "evidence": "signed"},
                {"relation": "evaluated_on", "dataset": "acme/exam"},
                {"relation": "same_weights_as", "model": DIGEST},
            ],
        },
    ],
    "datasets": [
        {
            "name": "acme/web",
            "ancestry": "open",
            "shards": ["corpus/00.parquet", DIGEST, {"shard": DIGEST, "rows": [[0, 5], [7, 9]]}, {"shard": "x.jsonl"}],
            "relations": [
                {"relation": "cleaned_from", "dataset": "acme/raw", "run": DIGEST},
                {"relation": "generated_by", "model": "acme/teacher", "system_prompt": DIGEST},
                {"relation": "rewritten_by", "model": "acme/teacher", "dataset": "acme/forum"},
            ],
        }
    ],
}

# What is wrong -> (where in WHOLE, what to put there, the error's kind, a word of its message).
WRONG: dict[str, tuple[list[Any], Any, str, str]] = {
    "a key that is nearly one is answered with the near one": (["models", 0, "trained_onn"], [], "unknown_key", "trained_on"),
    "a key that is none is refused": (["datasets", 0, "zzz"], 1, "unknown_key", "zzz"),
    "a relation outside the enum is refused with the near one": (
        ["models", 1, "parents", 0, "relation"], "fine_tuned_from", "bad_relation", "finetuned_from",
    ),
    "a dataset's relation is not a model's": (["models", 1, "parents", 0, "relation"], "generated_by", "bad_relation", "generated_by"),
    "a digest that is cut is refused": (["models", 0, "digest"], DIGEST[:-1], "not_a_digest", "64"),
    "a digest in upper case is refused": (["models", 0, "digest"], DIGEST.upper(), "not_a_digest", "lower-case"),
    "a parent's cut digest is not taken for a name": (["models", 1, "parents", 2, "model"], "sha256:abc", "not_a_digest", "64"),
    "epochs of zero are refused": (["models", 0, "trained_on", 0, "epochs"], 0, "bad_epochs", "positive"),
    "negative epochs are refused": (["models", 0, "trained_on", 0, "epochs"], -1.5, "bad_epochs", "positive"),
    "epochs that are no number are refused": (["models", 0, "trained_on", 0, "epochs"], "many", "bad_epochs", "positive"),
    "a grade outside the enum is refused": (["models", 0, "trained_on", 0, "evidence"], "sure", "bad_evidence", "declared"),
    "a stage outside the enum is refused": (["models", 0, "trained_on", 0, "stage"], "pretraining", "bad_stage", "pretrain"),
    "an ancestry that is neither open nor closed is refused": (["models", 0, "ancestry"], "half", "bad_ancestry", "closed"),
    "a range that ends before it begins is refused": (["datasets", 0, "shards", 2, "rows"], [[5, 2]], "bad_rows", "first < last"),
    "a range below zero is refused": (["datasets", 0, "shards", 2, "rows"], [[-1, 2]], "bad_rows", "0 <="),
    "a range of one number is refused": (["datasets", 0, "shards", 2, "rows"], [[1]], "bad_rows", "two"),
    "no range at all is refused": (["datasets", 0, "shards", 2, "rows"], [], "bad_rows", "one range"),
    "a name with a control character is refused": (["models", 0, "name"], "a\x1b[31mb", "bad_name", "control"),
    "a name that runs backwards is refused": (["models", 0, "name"], "a\u202eb", "bad_name", "control"),
    "a revision that YAML read as a number is refused": (["models", 0, "revision"], 12, "bad_name", "quotation"),
    "an empty name is refused": (["models", 0, "name"], "", "bad_name", "1 to"),
    "a model without name and digest is refused": (["models", 1], {"ancestry": "closed"}, "missing_key", "name"),
    "a relation without its parent is refused": (["models", 1, "parents", 0], {"relation": "adapter_of"}, "missing_key", "model"),
    "a list that is a mapping is refused": (["models"], {"name": "x"}, "not_a_list", "list"),
    "a mapping that is a text is refused": (["models", 0], "acme", "not_a_mapping", "mapping"),
    "one node recorded twice is refused": (["models", 1], {"digest": DIGEST}, "named_twice", DIGEST),
    "a record of nothing is refused": (["models"], None, "empty_record", "models"),
}  # fmt: skip

# The parser is the stricter one: these the schema cannot say, or says otherwise.
PARSER_ONLY = {
    "a range that ends before it begins is refused",
    "a name that runs backwards is refused",
    "one node recorded twice is refused",
    "a record of nothing is refused",
}


def schema() -> Any:
    return json.loads((resources.files("forebear.schemas") / "training_record.schema.json").read_text("utf-8"))


def changed(path: list[Any], value: Any) -> dict[str, Any]:
    record = copy.deepcopy(WHOLE)
    place: Any = record
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    return record if value is not None else {"models": [], "datasets": []}


def test_a_whole_record_is_taken_by_parser_and_schema() -> None:
    jsonschema.validate(WHOLE, schema())
    record = parse_record(WHOLE)
    assert [one.reference.id for one in record.models] == [DIGEST, "name:acme/chat"]
    assert record.models[0].trained_on[0].epochs == "1.5"
    assert record.datasets[0].shards[2].rows == ((0, 5), (7, 9))


@pytest.mark.parametrize("claim", WRONG)
def test_wrong_records(claim: str) -> None:
    path, value, kind, word = WRONG[claim]
    record = changed(path, value)
    with pytest.raises(DataError) as caught:
        parse_record(record)
    assert caught.value.kind == kind
    assert word in str(caught.value)


@pytest.mark.parametrize("claim", sorted(set(WRONG) - PARSER_ONLY))
def test_the_schema_refuses_them_too(claim: str) -> None:
    path, value, _, _ = WRONG[claim]
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(changed(path, value), schema())


def test_the_schema_has_the_relations_of_the_parser() -> None:
    defs = schema()["$defs"]
    assert set(defs["parent"]["properties"]["relation"]["enum"]) == {one.value for one in MODEL_RELATIONS}
    assert set(defs["relation"]["properties"]["relation"]["enum"]) == {one.value for one in DATASET_RELATIONS}


def test_yaml_and_json_give_the_same_record() -> None:
    yaml = b"""
models:
  - {name: a, revision: '1', ancestry: closed, trained_on: [{dataset: d, epochs: 0.1}]}
datasets:
  - name: d
    shards: [a.jsonl, {shard: b.jsonl, rows: [[0, 5]]}]
"""
    value = {
        "models": [{"name": "a", "revision": "1", "ancestry": "closed", "trained_on": [{"dataset": "d", "epochs": 0.1}]}],
        "datasets": [{"name": "d", "shards": ["a.jsonl", {"shard": "b.jsonl", "rows": [[0, 5]]}]}],
    }
    assert parse_text(yaml, where="r") == parse_text(json.dumps(value).encode(), where="r")


UNREADABLE = {
    "an alias bomb": b"a: &a [x, x]\nb: &b [*a, *a]\nmodels: [*b]\n",
    "a YAML tag": b"models: !!python/object/apply:os.system [echo]\n",
    "a key twice in YAML": b"models: []\nmodels: []\n",
    "a key twice in JSON": b'{"models": [], "models": []}',
    "no UTF-8": b"models: [\xff]\n",
    "nesting without end": b"[" * 100_000,
    "an unclosed bracket": b"models: [",
}


@pytest.mark.parametrize("what", UNREADABLE)
def test_unreadable_records_are_refused(what: str) -> None:
    with pytest.raises(ForebearError) as caught:
        parse_text(UNREADABLE[what], where="record.yaml")
    assert caught.value.exit_code == 2
    assert "record.yaml" in str(caught.value)


@given(st.integers(1, 10**6), st.integers(1, 10**6))
def test_epochs_keep_their_exact_decimal(whole: int, parts: int) -> None:
    text = decimal_text(f"{whole}.{parts}")
    assert text is not None
    assert text == f"{whole}.{str(parts).rstrip('0')}"


@given(
    st.recursive(st.none() | st.booleans() | st.integers() | st.text(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner))
)
def test_whatever_is_given_a_parser_answers_with_a_record_or_an_error_of_ours(value: object) -> None:
    try:
        parse_record({"models": value, "datasets": value})
    except ForebearError as error:
        assert error.remedy  # nothing else is ever raised
