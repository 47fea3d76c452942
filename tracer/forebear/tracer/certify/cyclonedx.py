"""CycloneDX 1.7 ML-BOM of a model: its pedigree, its data, its card, and the ledger's advisories as vulnerabilities.

Always true here: the document is a function of a certificate's predicate, serial number included; every component is referred to
by a `bom-ref` of its own; what a certificate leaves out stays left out and is said in a property.
"""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Mapping
from typing import Any

from forebear.schemas.canonical import canonical_json
from forebear.tracer.certify import wording
from forebear.tracer.certify.escape import one_line

__all__ = ["SPEC_VERSION", "ml_bom"]

SPEC_VERSION = "1.7"
_MAX_SHARDS = 1_000
_MAX_RELATIONS = 2_000
_MAX_EXPOSURES = 100


def ml_bom(predicate: Mapping[str, Any]) -> dict[str, Any]:
    """The BOM as JSON."""
    nodes = {one["id"]: one for one in predicate["ancestry"]["nodes"]}
    own = predicate["model"]["id"]
    datasets = [one for one in nodes.values() if one["kind"] == "dataset"]
    shards = {one["id"]: one for one in predicate["datasets"]}
    models = [one for one in nodes.values() if one["kind"] == "model" and one["id"] != own]
    components = [_model(one) for one in models]
    components += [_dataset(one, shards.get(one["id"])) for one in datasets]
    bom: dict[str, Any] = {"bomFormat": "CycloneDX", "specVersion": SPEC_VERSION, "version": 1}
    bom |= {"metadata": _metadata(predicate, nodes), "components": components}
    bom |= {"dependencies": _dependencies(predicate, nodes)}
    if predicate["advisories"]:
        bom["vulnerabilities"] = [_vulnerability(one, own) for one in predicate["advisories"]]
    serial = uuid.UUID(bytes=hashlib.sha256(canonical_json(bom)).digest()[:16], version=5)
    return {**bom, "serialNumber": f"urn:uuid:{serial}"}


def _ref(node: str) -> str:
    return f"forebear:{one_line(node)}"


def _metadata(predicate: Mapping[str, Any], nodes: Mapping[str, Any]) -> dict[str, Any]:
    tool = {"type": "application", "name": "forebear", "version": predicate["forebear"]}
    found: dict[str, Any] = {"tools": {"components": [tool]}, "component": _subject(predicate, nodes)}
    time = predicate["as_of"]["time"]
    return {"timestamp": time, **found} if time else found


def _subject(predicate: Mapping[str, Any], nodes: Mapping[str, Any]) -> dict[str, Any]:
    """The model itself, with its card and pedigree."""
    own = predicate["model"]["id"]
    component = _model(nodes[own])
    files = predicate["files"]
    if files is not None:
        component["components"] = [
            {"type": "file", "bom-ref": f"file:{one['path']}", "name": one["path"], "hashes": [_hash(one["digest"])]}
            for one in files["listed"]
            if one["weights"]
        ]
    consumed = [one for one in predicate["ancestry"]["relations"] if one["relation"] == "trained_on" and one["child"] == own]
    refs = sorted({_ref(one["parent"]) for one in consumed if one["parent"] in nodes})
    card: dict[str, Any] = {"considerations": {"ethicalConsiderations": _considerations(predicate)}}
    if refs:
        card["modelParameters"] = {"datasets": [{"ref": one} for one in refs]}
    component["modelCard"] = card
    parents = [one for one in predicate["ancestry"]["nodes"] if one["kind"] == "model" and one["id"] != own]
    if parents:
        component["pedigree"] = {
            "ancestors": [_bare(one) for one in parents],
            "notes": "Relations and their grades of evidence are in the properties of the dependencies' components.",
        }
    component["properties"] = _properties(predicate)
    return component


def _considerations(predicate: Mapping[str, Any]) -> list[dict[str, str]]:
    found = [{"name": one_line(wording.answer(predicate)), "mitigationStrategy": f"Stated {wording.as_of(predicate)}."}]
    for one in predicate["exposures"]["listed"][:_MAX_EXPOSURES]:
        name = f"{one['verdict']}: {one['class']} in {one['dataset']}, consumed by {wording.name_of(one['ancestor'])}"
        found.append({"name": one_line(name), "mitigationStrategy": one_line(f"Dose: {wording.dose(one)}. Evidence: {one['evidence']}.")})
    return found


def _properties(predicate: Mapping[str, Any]) -> list[dict[str, str]]:
    head = predicate["heads"][0]
    said = {
        "verdict": predicate["verdict"],
        "at_worst": predicate["at_worst"],
        "complete": str(predicate["complete"]).lower(),
        "head:size": str(head["size"]),
        "head:root": head["root"],
        "unknown": str(len(predicate["unknown"]["listed"]) + predicate["unknown"]["omitted"]),
        "ancestry:omitted_nodes": str(predicate["ancestry"]["omitted"]["nodes"]),
    }
    found = [{"name": f"forebear:{key}", "value": value} for key, value in said.items()]
    found += [{"name": f"forebear:verdict:{one_line(name)}", "value": value} for name, value in sorted(predicate["verdicts"].items())]
    relations = predicate["ancestry"]["relations"]
    found += [{"name": "forebear:relation", "value": one_line(_relation(one))} for one in relations[:_MAX_RELATIONS]]
    left = {"relation": len(relations) - _MAX_RELATIONS + predicate["ancestry"]["omitted"]["relations"]}
    left["exposure"] = len(predicate["exposures"]["listed"]) - _MAX_EXPOSURES + predicate["exposures"]["omitted"]
    found += [{"name": f"forebear:{name}:omitted", "value": str(count)} for name, count in left.items() if count > 0]
    return found + [{"name": "forebear:run", "value": f"{one['run']} policy {one['policy_digest']}"} for one in predicate["runs"]]


def _relation(one: Mapping[str, Any]) -> str:
    return f"{one['child']} {one['relation']} {one['parent']} ({one['evidence']})"


def _bare(node: Mapping[str, Any]) -> dict[str, Any]:
    """A model as a component, without a reference of its own."""
    name, _, revision = one_line(wording.name_of(node)).partition("@")
    found: dict[str, Any] = {"type": "machine-learning-model", "name": name}
    if revision:
        found["version"] = revision
    if node.get("digest"):
        found["hashes"] = [_hash(node["digest"])]
    return found


def _model(node: Mapping[str, Any]) -> dict[str, Any]:
    properties = [{"name": "forebear:ancestry", "value": node["ancestry"]}]
    return {**_bare(node), "bom-ref": _ref(node["id"]), "properties": properties}


def _dataset(node: Mapping[str, Any], shards: Mapping[str, Any] | None) -> dict[str, Any]:
    """A dataset as a data component; its shards' digests are properties, as files of a dataset have no field of their own."""
    name = one_line(wording.name_of(node))
    listed = shards or {"listed": 0, "root": None, "shards": []}
    properties = [{"name": "forebear:ancestry", "value": node["ancestry"]}]
    properties.append({"name": "forebear:shards", "value": str(listed["listed"])})
    if listed["listed"]:
        properties.append({"name": "forebear:shards:root", "value": listed["root"]})
    properties += [{"name": "forebear:shard", "value": one["digest"]} for one in listed["shards"][:_MAX_SHARDS]]
    if listed["listed"] > _MAX_SHARDS:
        properties.append({"name": "forebear:shards:omitted", "value": str(listed["listed"] - _MAX_SHARDS)})
    found: dict[str, Any] = {"type": "data", "bom-ref": _ref(node["id"]), "name": name, "properties": properties}
    found["data"] = [{"type": "dataset", "name": name}]
    return {**found, "hashes": [_hash(node["digest"])]} if node.get("digest") else found


def _dependencies(predicate: Mapping[str, Any], nodes: Mapping[str, Any]) -> list[dict[str, Any]]:
    found: dict[str, set[str]] = {one: set() for one in nodes}
    for one in predicate["ancestry"]["relations"]:
        if one["child"] in nodes and one["parent"] in nodes and one["child"] != one["parent"]:
            found[one["child"]].add(one["parent"])
    return [{"ref": _ref(node), "dependsOn": sorted(_ref(one) for one in parents)} for node, parents in sorted(found.items())]


def _vulnerability(advisory: Mapping[str, Any], own: str) -> dict[str, Any]:
    """An advisory that touches the model or an ancestor of it."""
    found: dict[str, Any] = {"id": f"forebear:advisory:{advisory['entry']}", "published": advisory["time"]}
    found |= {"source": {"name": one_line(advisory["authority"])}, "description": one_line(advisory["reason"], limit=1200)}
    found |= {"affects": [{"ref": _ref(own)}]}
    return {**found, "properties": [{"name": "forebear:object", "value": advisory["object"]}]}


def _hash(digest: str) -> dict[str, str]:
    return {"alg": "SHA-256", "content": digest.removeprefix("sha256:")}
