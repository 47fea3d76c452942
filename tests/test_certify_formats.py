"""Other people's formats: each accepted by its own library, hostile names included, and derived from the certificate alone."""

from __future__ import annotations

import base64
import json
import re
from pathlib import Path
from typing import Any

import pytest
from certified import NAME, Released, add_lineage, release, run_command
from test_certify_card import hostile_predicate
from world import DEFAULT, TIME, shard_bytes

from forebear.schemas.advisory import Advisory
from forebear.schemas.enums import EntryKind
from forebear.schemas.records import Entry
from forebear.tracer.audit.session import Session
from forebear.tracer.certify.annex_xi import annex_xi
from forebear.tracer.certify.cyclonedx import ml_bom
from forebear.tracer.certify.statement import claims, described


def document(released: Released, subject: str, form: str, *more: object) -> str:
    result = run_command("certify", subject, "--format", form, *more, "--ledger", released.ledger)
    assert result.exit_code == 0, result.exception
    return str(result.stdout)


def cleaned(tmp_path: Path) -> Released:
    """A release whose run wrote cleaned shards, and a dataset of them."""
    released = release(tmp_path, clean=True)
    world = released.world
    record = {
        "datasets": [
            {
                "name": "acme/web-clean",
                "ancestry": "closed",
                "shards": sorted(world.cleaned.values()),
                "relations": [{"relation": "cleaned_from", "dataset": "acme/web", "run": world.run}],
            }
        ]
    }
    add_lineage(world.ledger, record)
    return released


def test_in_totos_library_accepts_the_statement(tmp_path: Path) -> None:
    pytest.importorskip("in_toto_attestation")
    from google.protobuf.json_format import ParseDict
    from in_toto_attestation.v1 import statement_pb2
    from in_toto_attestation.v1.statement import Statement

    released = release(tmp_path)
    plain = json.loads(document(released, NAME, "intoto", "--model-dir", released.folder))
    Statement.copy_from_pb(ParseDict(plain, statement_pb2.Statement())).validate()
    signed = document(released, NAME, "intoto", "--model-dir", released.folder, "--sign", released.private)
    assert json.loads(base64.b64decode(json.loads(signed)["payload"])) == plain


def validate_bom(bom: dict[str, Any]) -> None:
    validation = pytest.importorskip("cyclonedx.validation.json")
    from cyclonedx.schema import SchemaVersion

    error = validation.JsonStrictValidator(SchemaVersion.V1_7).validate_str(json.dumps(bom))
    assert error is None, error


def test_cyclonedx_own_schema_accepts_the_bom(tmp_path: Path) -> None:
    released = release(tmp_path)
    advisory = Advisory(reason="withdrawn <b>", authority="acme legal", time=TIME, models=("name:acme/base-7b",))
    released.world.ledger.append(Entry(EntryKind.ADVISORY, released.world.ledger.put_object(advisory.to_bytes()), TIME))
    bom = json.loads(document(released, NAME, "cyclonedx", "--model-dir", released.folder))
    validate_bom(bom)
    component = bom["metadata"]["component"]
    assert bom["specVersion"] == "1.7" and component["type"] == "machine-learning-model"
    assert {one["name"] for one in component["pedigree"]["ancestors"]} == {"acme/base-7b", "acme/teacher"}
    datasets = {one["bom-ref"]: one for one in bom["components"] if one["type"] == "data"}
    assert {one["ref"] for one in component["modelCard"]["modelParameters"]["datasets"]} <= set(datasets)
    assert [(one["description"], one["source"]["name"]) for one in bom["vulnerabilities"]] == [("withdrawn <b>", "acme legal")]
    refs = [one["bom-ref"] for one in bom["components"]] + [component["bom-ref"], *(one["bom-ref"] for one in component["components"])]
    assert len(refs) == len(set(refs)) and {one["ref"] for one in bom["dependencies"]} <= set(refs)
    assert {found["content"] for one in component["components"] for found in one["hashes"]} == {
        one["digest"]["sha256"] for one in json.loads(document(released, NAME, "intoto", "--model-dir", released.folder))["subject"][:-1]
    }


def test_the_bom_and_its_serial_number_follow_from_the_predicate(tmp_path: Path) -> None:
    released = release(tmp_path)
    said = described(claims(Session.open(released.ledger), NAME))
    assert ml_bom(said) == ml_bom(json.loads(json.dumps(said)))
    assert ml_bom({**said, "verdict": "not_exposed"})["serialNumber"] != ml_bom(said)["serialNumber"]


def test_what_long_lists_leave_out_is_counted_in_the_bom_and_the_annex(tmp_path: Path) -> None:
    released = release(tmp_path)
    said = described(claims(Session.open(released.ledger), NAME))
    relation, unknown = said["ancestry"]["relations"][0], said["unknown"]["listed"][0]
    said["ancestry"]["relations"] += [relation] * 2_500
    said["exposures"]["listed"] *= 300
    said["unknown"]["listed"] = [unknown] * 230
    properties = {one["name"]: one["value"] for one in ml_bom(said)["metadata"]["component"]["properties"]}
    assert properties["forebear:relation:omitted"] == "504" and properties["forebear:exposure:omitted"] == str(
        len(said["exposures"]["listed"]) - 100
    )
    text = annex_xi(said)
    assert "30 more unknown things are in the certificate" in text
    assert f"{len(said['exposures']['listed']) - 200:,} more exposures are in the certificate" in text


def test_hostile_names_pass_cyclonedx_and_stay_text_in_the_annex(tmp_path: Path) -> None:
    said = hostile_predicate(tmp_path)
    validate_bom(ml_bom(said))
    text = annex_xi(said)
    assert "<script" not in text and "](http" not in text


def test_mlcroissant_accepts_the_metadata_and_reads_the_kept_rows_by_it(tmp_path: Path) -> None:
    croissant = pytest.importorskip("mlcroissant")
    released = cleaned(tmp_path)
    value = json.loads(document(released, "acme/web-clean", "croissant"))
    assert "http://mlcommons.org/croissant/1.1" in value["conformsTo"] and value["prov:wasDerivedFrom"] and value["prov:wasGeneratedBy"]
    assert any("reasons:" in one for one in value["rai:dataPreprocessingProtocol"])
    folder = tmp_path / "data"
    folder.mkdir()
    kept = {"a": DEFAULT["a"][0:1] + DEFAULT["a"][2:3], "b": DEFAULT["b"][2:3], "empty": []}
    by_digest = {one["sha256"]: one["contentUrl"] for one in value["distribution"] if one["@type"] == "cr:FileObject"}
    for name, documents in kept.items():
        (folder / by_digest[released.world.cleaned[name].removeprefix("sha256:")]).write_bytes(shard_bytes(documents))
    (folder / "croissant.json").write_text(json.dumps(value))
    dataset = croissant.Dataset(jsonld=folder / "croissant.json")
    texts = [record["rows-jsonl/text"] for record in dataset.records("rows-jsonl")]
    assert sorted(one.decode() for one in texts if isinstance(one, bytes)) == sorted(
        one.text for documents in kept.values() for one in documents if one.text is not None
    )


def test_a_dataset_without_shards_has_no_croissant(tmp_path: Path) -> None:
    released = release(tmp_path)
    add_lineage(released.world.ledger, {"datasets": [{"name": "acme/none", "ancestry": "open"}]})
    result = run_command("certify", "acme/none", "--format", "croissant", "--ledger", released.ledger)
    assert result.exception.kind == "no_shards"


RUN_EVENT = {
    "type": "object",
    "required": ["eventTime", "producer", "schemaURL", "run", "job"],
    "properties": {
        "eventType": {"enum": ["START", "RUNNING", "COMPLETE", "ABORT", "FAIL", "OTHER"]},
        "eventTime": {"type": "string", "format": "date-time"},
        "producer": {"type": "string", "format": "uri"},
        "schemaURL": {"type": "string", "format": "uri", "pattern": r"openlineage\.io/spec/2-0-2/OpenLineage\.json"},
        "run": {"required": ["runId"], "properties": {"runId": {"format": "uuid"}, "facets": {"$ref": "#/$defs/facets"}}},
        "job": {"required": ["namespace", "name"], "properties": {"facets": {"$ref": "#/$defs/facets"}}},
        "inputs": {"type": "array", "items": {"$ref": "#/$defs/dataset"}},
        "outputs": {"type": "array", "items": {"$ref": "#/$defs/dataset"}},
    },
    "$defs": {
        "facets": {"type": "object", "additionalProperties": {"required": ["_producer", "_schemaURL"]}},
        "dataset": {
            "required": ["namespace", "name"],
            "properties": {name: {"$ref": "#/$defs/facets"} for name in ("facets", "inputFacets", "outputFacets")},
        },
    },
}
"""What OpenLineage 2-0-2 asks of a run event, in our words."""


def test_the_run_event_has_what_openlineage_asks_and_its_client_takes_it(tmp_path: Path) -> None:
    import jsonschema

    released = cleaned(tmp_path)
    event = json.loads(document(released, released.world.run[7:19], "openlineage"))
    jsonschema.validate(event, RUN_EVENT, format_checker=jsonschema.FormatChecker())
    assert {one["name"] for one in event["inputs"]} == {one.removeprefix("sha256:") for one in released.world.shards.values()}
    assert {one["name"] for one in event["outputs"]} == {one.removeprefix("sha256:") for one in released.world.cleaned.values()}
    assert event["run"]["facets"]["forebear_scan"]["rows"] == {"in": 7, "kept": 3, "dropped": 3, "errored": 1}
    client = pytest.importorskip("openlineage.client.event_v2")
    client.RunEvent(
        eventType=client.RunState(event["eventType"]),
        eventTime=event["eventTime"],
        run=client.Run(runId=event["run"]["runId"]),
        job=client.Job(namespace=event["job"]["namespace"], name=event["job"]["name"]),
        producer=event["producer"],
    )


def test_the_annex_names_every_field_and_says_which_it_could_not_fill(tmp_path: Path) -> None:
    released = release(tmp_path)
    text = document(released, NAME, "annex-xi")
    for field in (
        "Type of data", "Provenance of data", "Curation methodologies", "Number of data points", "Scope and main characteristics",
        "obtained and selected", "unsuitability of data sources", "identifiable biases",
    ):  # fmt: skip
        assert field in text
    listed = text.split("## Fields that could not be filled")[1]
    assert text.count("**Not filled:**") == len(re.findall(r"^\d+\. ", listed, re.MULTILINE)) == 7


def test_the_annex_of_a_model_of_which_nothing_is_known_says_so(tmp_path: Path) -> None:
    released = release(tmp_path, record={"models": [{"name": NAME, "ancestry": "open"}]})
    text = document(released, NAME, "annex-xi")
    assert "No dataset is recorded." in text and "No scan of these data is in the ledger." in text


def test_a_hostile_file_name_is_no_pattern_and_no_path_in_croissant(tmp_path: Path) -> None:
    """The name that a record gave a shard is shown without its folders, and a `*` in it matches itself alone."""
    released = release(tmp_path)
    shard = tmp_path / "secret folder" / "*[x].jsonl"
    shard.parent.mkdir()
    shard.write_text('{"text": "a"}\n')
    add_lineage(released.world.ledger, {"datasets": [{"name": "acme/odd", "ancestry": "closed", "shards": [str(shard)]}]})
    value = json.loads(document(released, "acme/odd", "croissant"))
    assert "secret folder" not in json.dumps(value)
    assert value["distribution"][-1]["includes"] == ["[*][[]x].jsonl"]


def test_a_bom_without_the_folder_names_no_files(tmp_path: Path) -> None:
    released = release(tmp_path)
    component = json.loads(document(released, NAME, "cyclonedx"))["metadata"]["component"]
    assert component["name"] == NAME and "components" not in component
