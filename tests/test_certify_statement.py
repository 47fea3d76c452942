"""The statement: deterministic, as its schema says, about files that are the recorded ones, and complete about what it leaves out."""

from __future__ import annotations

import hashlib
import importlib.resources
import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from certified import NAME, WEIGHTS, add_lineage, ask, base_record, release, run_command
from hypothesis import given
from hypothesis import strategies as st

from forebear.schemas.digests import leaf_hash, merkle_root
from forebear.schemas.errors import IntegrityError, UsageError
from forebear.tracer.audit.session import Session
from forebear.tracer.certify.ancestry import Caps
from forebear.tracer.certify.folder import read_folder, signing_root
from forebear.tracer.certify.statement import Limits, claims, statement, statement_bytes
from forebear.tracer.ledger.merkle import audit_path, root_from_path


def schema() -> Any:
    return json.loads(importlib.resources.files("forebear.schemas").joinpath("certificate.schema.json").read_text())


def made(tmp_path: Path, **options: Any) -> dict[str, Any]:
    released = release(tmp_path, **options)
    return statement(claims(Session.open(released.ledger), NAME), folder=read_folder(released.folder))


def test_the_same_ledger_and_files_give_the_same_bytes(tmp_path: Path) -> None:
    first, second = tmp_path / "1", tmp_path / "2"
    first.mkdir(), second.mkdir()
    assert statement_bytes(made(first)) == statement_bytes(made(second))


def test_the_predicate_is_what_the_schema_says_and_the_schema_refuses_what_is_not(tmp_path: Path) -> None:
    predicate = made(tmp_path)["predicate"]
    validator = jsonschema.Draft202012Validator(schema(), format_checker=jsonschema.FormatChecker())
    validator.check_schema(schema())
    assert [error.message for error in validator.iter_errors(predicate)] == []
    for broken in ({**predicate, "verdict": "fine"}, {**predicate, "extra": 1}, {k: v for k, v in predicate.items() if k != "unknown"}):
        assert not validator.is_valid(broken)


def test_subjects_are_the_weights_by_sha256_and_the_root_under_the_models_name(tmp_path: Path) -> None:
    value = made(tmp_path)
    listed = {one["name"]: one["digest"]["sha256"] for one in value["subject"]}
    assert {name: listed[name] for name in WEIGHTS} == {name: hashlib.sha256(data).hexdigest() for name, data in WEIGHTS.items()}
    assert f"sha256:{listed[NAME]}" == read_folder(tmp_path / "chat-7b").root
    assert set(listed) == {*WEIGHTS, NAME}


def test_it_says_verdict_dose_unknowns_heads_and_grades(tmp_path: Path) -> None:
    said = made(tmp_path)["predicate"]
    assert (said["verdict"], said["complete"]) == ("inherited_weights", False)
    exposure = said["exposures"]["listed"][0]
    assert (exposure["channel"], exposure["documents"], exposure["presentations"]) == ("weights", 1, "2")
    assert {one["why"] for one in said["unknown"]["listed"]} >= {"ancestry open", "rows errored"}
    assert said["heads"] == [Session.open(tmp_path / "ledger").head.to_json()]
    grades = {(one["child"], one["parent"]): one["evidence"] for one in said["ancestry"]["relations"]}
    assert grades["name:acme/base-7b", "name:acme/web"] == "logged" and grades["name:" + NAME, "name:acme/base-7b"] == "declared"
    assert [run["reconciled"] for run in said["runs"]] == [True]


def test_ranges_are_kept_and_rows_counted_within_them(tmp_path: Path) -> None:
    web = next(one for one in made(tmp_path)["predicate"]["datasets"] if one["name"] == "acme/web")
    assert [one.get("rows") for one in web["shards"]].count([[0, 2]]) == 1
    assert web["rows"] == 4 + 2


def test_a_contradicted_relation_is_listed_with_its_grade_and_not_followed(tmp_path: Path) -> None:
    """What lies behind it is no ancestor: the walk makes an unknown of it."""
    released = release(tmp_path)
    record = base_record(released.world)
    record["models"][2]["parents"][0]["evidence"] = "contradicted"
    add_lineage(released.world.ledger, record)
    said = claims(Session.open(released.ledger), NAME)
    assert "contradicted" in {one["evidence"] for one in said["ancestry"]["relations"]}
    assert "acme/base-7b" not in {one["name"] for one in said["ancestry"]["nodes"]}
    assert "contradicted relation" in {one["why"] for one in said["unknown"]["listed"]}


def test_what_a_cap_leaves_out_is_counted_and_still_committed_to(tmp_path: Path) -> None:
    released = release(tmp_path)
    session = Session.open(released.ledger)
    whole = claims(session, NAME)
    cut = claims(session, NAME, caps=Caps(nodes=2, relations=1, shards=1), limits=Limits(answers=1, proofs=1))
    assert cut["ancestry"]["omitted"] == {"nodes": 3, "relations": 3}
    assert cut["unknown"]["omitted"] == len(whole["unknown"]["listed"]) - 1
    assert cut["proofs"]["omitted"] == len(whole["proofs"]["listed"]) - 1
    for short, long in zip(cut["datasets"], whole["datasets"], strict=True):
        assert (short["root"], short["listed"]) == (long["root"], long["listed"])
        assert short["omitted"] == long["listed"] - 1


def test_no_floating_point_number_and_no_path_of_this_machine_is_in_it(tmp_path: Path) -> None:
    data = statement_bytes(made(tmp_path)).decode()
    assert str(tmp_path) not in data
    assert not any(isinstance(one, float) for one in _leaves(json.loads(data)))


def _leaves(value: Any) -> Any:
    if isinstance(value, dict):
        for inner in value.values():
            yield from _leaves(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _leaves(inner)
    else:
        yield value


RECORDED = {
    "the root over the folder": lambda folder: folder.root,
    "the root over the weights alone": lambda folder: folder.weights_digest,
}


@pytest.mark.parametrize("sentence", RECORDED)
def test_a_recorded_digest_may_be(sentence: str, tmp_path: Path) -> None:
    released = release(tmp_path, record={"models": [{"name": "acme/other", "ancestry": "closed"}]})
    folder = read_folder(released.folder)
    digest = RECORDED[sentence](folder)
    add_lineage(released.world.ledger, base_record(released.world, digest=digest))
    said = statement(claims(Session.open(released.ledger), NAME), folder=folder)
    assert said["predicate"]["files"]["recorded"] == digest


def test_weights_that_are_not_the_recorded_ones_are_a_finding(tmp_path: Path) -> None:
    released = release(tmp_path, record={"models": [{"name": "acme/other", "ancestry": "closed"}]})
    add_lineage(released.world.ledger, base_record(released.world, digest="sha256:" + "0" * 64))
    with pytest.raises(IntegrityError) as error:
        statement(claims(Session.open(released.ledger), NAME), folder=read_folder(released.folder))
    assert error.value.kind == "other_weights" and error.value.exit_code == 1


def test_a_recorded_digest_is_a_subject_without_a_folder_and_no_digest_is_none(tmp_path: Path) -> None:
    released = release(tmp_path)
    with pytest.raises(UsageError) as error:
        statement(claims(Session.open(released.ledger), NAME))
    assert error.value.kind == "no_subject" and error.value.exit_code == 2
    add_lineage(released.world.ledger, {"models": [{"name": "acme/q", "digest": "sha256:" + "1" * 64, "ancestry": "closed"}]})
    assert statement(claims(Session.open(released.ledger), "acme/q"))["subject"] == [{"name": "acme/q", "digest": {"sha256": "1" * 64}}]


WRONG = {
    "an unknown model": (("certify", "acme/none", "--format", "hf"), "unknown_model"),
    "no folder and no format": (("certify", NAME), "missing_option"),
    "a folder that is not there": (("certify", NAME, "--model-dir", "{tmp}/none"), "no_folder"),
    "a folder without weights": (("certify", NAME, "--model-dir", "{tmp}/empty"), "no_weights"),
    "a dataset where a model is meant": (("certify", "acme/web", "--format", "cyclonedx"), "not_a_model"),
    "a signature on a format that has none": (("certify", NAME, "--format", "hf", "--sign", "{tmp}/acme.key"), "nothing_to_sign"),
    "a dataset that is not known": (("certify", "acme/none", "--format", "croissant"), "unknown_dataset"),
    "a run that is not known": (("certify", "0" * 64, "--format", "openlineage"), "unknown_run"),
    "the public half to sign with": (("certify", NAME, "--format", "intoto", "--sign", "{tmp}/acme.pub"), "not_a_key"),
    "intoto without a subject": (("certify", NAME, "--format", "intoto"), "no_subject"),
}


@pytest.mark.parametrize("sentence", WRONG)
def test_certify_refuses(sentence: str, tmp_path: Path) -> None:
    released = release(tmp_path)
    (tmp_path / "empty").mkdir()
    arguments, kind = WRONG[sentence]
    before = sorted(released.folder.rglob("*"))
    result = run_command(*(one.format(tmp=tmp_path) for one in arguments), "--ledger", released.ledger)
    assert getattr(result.exception, "kind", None) == kind, result.exception
    assert result.exception.exit_code == 2 and result.exception.remedy
    assert sorted(released.folder.rglob("*")) == before and result.stdout == ""


def test_a_format_goes_to_standard_output_and_writes_nothing(tmp_path: Path) -> None:
    released = release(tmp_path)
    before = {path: path.read_bytes() for path in released.folder.rglob("*") if path.is_file()}
    for form in ("intoto", "cyclonedx", "hf", "annex-xi"):
        result = run_command("certify", NAME, "--format", form, "--model-dir", released.folder, "--ledger", released.ledger)
        assert result.exit_code == 0 and result.stdout, (form, result.exception)
    assert {path: path.read_bytes() for path in released.folder.rglob("*") if path.is_file()} == before


def test_an_older_head_gives_an_older_certificate(tmp_path: Path) -> None:
    released = release(tmp_path)
    add_lineage(released.world.ledger, {"models": [{"name": "acme/later", "ancestry": "closed"}]})
    old = run_command("certify", NAME, "--format", "intoto", "--model-dir", released.folder, "--ledger", released.ledger, "--head", 2)
    assert json.loads(old.stdout)["predicate"]["heads"][0]["size"] == 2


def test_without_a_key_there_is_no_certificate_and_that_is_said(tmp_path: Path) -> None:
    released = release(tmp_path)
    answer = ask("certify", NAME, "--model-dir", released.folder, "--ledger", released.ledger)
    assert answer["signed"] is False and not (released.folder / "forebear/certificate.dsse.json").exists()
    shown = run_command("certify", NAME, "--model-dir", released.folder, "--ledger", released.ledger)
    assert shown.exit_code == 0 and "there is no certificate" in shown.stderr


@given(st.lists(st.binary(max_size=8), min_size=1, max_size=40), st.data())
def test_a_path_proves_its_leaf_and_no_other(entries: list[bytes], data: st.DataObject) -> None:
    leaves = [leaf_hash(one) for one in entries]
    at = data.draw(st.integers(0, len(entries) - 1))
    path, root = audit_path(leaves, at), merkle_root(leaves)
    assert root_from_path(entries[at], path, index=at, size=len(entries)) == root
    assert root_from_path(entries[at] + b"x", path, index=at, size=len(entries)) != root
    assert root_from_path(entries[at], [*path, bytes(32)], index=at, size=len(entries)) is None
    if path:
        assert root_from_path(entries[at], path[:-1], index=at, size=len(entries)) is None, "the path does not fit the tree"


def test_the_root_orders_paths_part_by_part() -> None:
    """As pathlib does: a/b before a.txt, though `.` sorts before `/`."""
    a, b = "sha256:" + "aa" * 32, "sha256:" + "bb" * 32
    assert signing_root([("a.txt", a), ("a/b", b)]) == "sha256:" + hashlib.sha256(bytes.fromhex("bb" * 32 + "aa" * 32)).hexdigest()
