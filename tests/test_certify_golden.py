"""Golden files: documents do not change by accident; `python tests/golden/certify/make.py` makes them anew, and the difference is read."""

from __future__ import annotations

import hashlib
import importlib.util
import json
from pathlib import Path
from types import ModuleType

import pytest
from certified import KEY

from forebear.tracer.certify.dsse import read_envelope
from forebear.tracer.certify.folder import signing_root

HERE = Path(__file__).resolve().parent / "golden" / "certify"


@pytest.fixture(scope="module")
def make() -> ModuleType:
    spec = importlib.util.spec_from_file_location("make_certify_goldens", HERE / "make.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_documents_are_as_they_were(make: ModuleType) -> None:
    made = make.documents(make.predicate())
    differ = [name for name, data in made.items() if (HERE / name).read_bytes() != data]
    assert not differ, f"{differ} changed; if that is meant: {make.REPAIR}"


def test_a_new_ledger_still_gives_the_stored_predicates_fields(make: ModuleType) -> None:
    """All but digests that depend on the Parquet writer, and the version."""
    old, new = make.predicate(), make.fresh_predicate()
    assert old.keys() == new.keys()
    stable = (
        "model",
        "verdict",
        "at_worst",
        "verdicts",
        "exposures",
        "unknown",
        "first_exposed",
        "last_unexposed",
        "ancestry",
        "datasets",
        "files",
    )
    assert {name: new[name] for name in stable} == {name: old[name] for name in stable}


def test_the_stored_certificate_is_signed_by_the_tests_key() -> None:
    envelope = read_envelope((HERE / "certificate.dsse.json").read_bytes())
    assert envelope.signed_by(KEY.public)
    assert envelope.payload == (HERE / "statement.json").read_bytes().rstrip(b"\n")


def test_our_root_is_model_signings(make: ModuleType) -> None:
    """The stored root was computed by model-signing 1.1.1; where it is installed it is asked again."""
    files = [(path, "sha256:" + hashlib.sha256(data).hexdigest()) for path, data in make.TREE.items()]
    stored = json.loads((HERE / "model_signing.json").read_text())["root"]
    assert signing_root(files) == stored
    assert make.library_root() in (None, stored)
