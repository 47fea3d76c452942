"""Makes the golden files of this folder, and checks each with its format's own library where that is installed.

Everything but `predicate.json` follows from it alone, or from a small ledger with its run's name replaced (a manifest's digest depends on
the Parquet writer's version). Run it from the project's root: `python tests/golden/certify/make.py` writes, `--check` only compares.
"""

from __future__ import annotations

import json
import re
import sys
import tempfile
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent.parent))

from certified import KEY, NAME, release  # noqa: E402

from forebear.tracer.audit.session import Session  # noqa: E402
from forebear.tracer.certify.annex_xi import annex_xi  # noqa: E402
from forebear.tracer.certify.croissant import croissant  # noqa: E402
from forebear.tracer.certify.cyclonedx import ml_bom  # noqa: E402
from forebear.tracer.certify.dsse import sign_envelope  # noqa: E402
from forebear.tracer.certify.folder import read_folder, signing_root  # noqa: E402
from forebear.tracer.certify.hugging_face import new_card  # noqa: E402
from forebear.tracer.certify.openlineage import run_event  # noqa: E402
from forebear.tracer.certify.report.model import render_model  # noqa: E402
from forebear.tracer.certify.statement import PREDICATE_TYPE, STATEMENT_TYPE, claims, statement, statement_bytes, subjects_of  # noqa: E402

REPAIR = "python tests/golden/certify/make.py"
TREE = {"a/b": b"1", "a.txt": b"2", "a-b/c": b"3", "B": b"4", "z/y/x.safetensors": b"5", "z.bin": b""}
"""A folder whose order tells part-by-part from byte-by-byte."""


def predicate() -> dict[str, Any]:
    """The predicate as it is stored: everything else is made from it."""
    found: dict[str, Any] = json.loads((HERE / "predicate.json").read_text("utf-8"))
    return found


def fresh_predicate() -> dict[str, Any]:
    """A predicate from a new ledger."""
    with tempfile.TemporaryDirectory() as folder:
        released = release(Path(folder))
        made = statement(claims(Session.open(released.ledger), NAME), folder=read_folder(released.folder))
    return made["predicate"]


def documents(said: dict[str, Any]) -> dict[str, bytes]:
    """Every golden file but the predicate."""
    subject = subjects_of(said["model"]["name"], said["files"]["listed"])
    value = {"_type": STATEMENT_TYPE, "subject": subject, "predicateType": PREDICATE_TYPE, "predicate": said}
    found = {
        "statement.json": statement_bytes(value) + b"\n",
        "certificate.dsse.json": sign_envelope(statement_bytes(value), KEY).to_bytes(),
        "ml-bom.cdx.json": pretty(ml_bom(said)),
        "README.md": new_card(said).encode(),
        "annex-xi.md": annex_xi(said).encode(),
        "report.html": render_model(said, distances=_distances(said), judged={}, ledger="ledger").encode(),
        "model_signing.json": pretty(_model_signing()),
    }
    return {**found, **_of_a_ledger()}


def _distances(said: dict[str, Any]) -> dict[str, int]:
    return {one["id"]: min(n, 2) for n, one in enumerate(said["ancestry"]["nodes"])}


def _of_a_ledger() -> dict[str, bytes]:
    with tempfile.TemporaryDirectory() as folder:
        released = release(Path(folder), clean=True)
        session = Session.open(released.ledger)
        made = {"croissant.json": croissant(session, "acme/web"), "openlineage.json": run_event(session, released.world.run)}
    run = released.world.run
    texts = {name: pretty(value).decode().replace(run, "sha256:RUN") for name, value in made.items()}
    texts["openlineage.json"] = re.sub(r'"runId": "[^"]*"', '"runId": "RUN"', texts["openlineage.json"])
    return {name: text.encode() for name, text in texts.items()}


def _model_signing() -> dict[str, str]:
    """The root of TREE: the library's own where it is installed, else what is stored."""
    import hashlib

    ours = signing_root([(path, "sha256:" + hashlib.sha256(data).hexdigest()) for path, data in TREE.items()])
    return {"root": library_root() or ours}


def library_root() -> str | None:
    """What model-signing gives for TREE, or None without the library."""
    try:
        from model_signing import hashing
    except ImportError:
        return None
    import hashlib

    with tempfile.TemporaryDirectory() as folder:
        for path, data in TREE.items():
            (Path(folder) / path).parent.mkdir(parents=True, exist_ok=True)
            (Path(folder) / path).write_bytes(data)
        state = hashlib.sha256()
        for one in hashing.Config().hash(folder).resource_descriptors():
            state.update(one.digest.digest_value)
    return f"sha256:{state.hexdigest()}"


def pretty(value: Any) -> bytes:
    """JSON for people to read in a difference."""
    return (json.dumps(value, ensure_ascii=False, indent=1, sort_keys=True) + "\n").encode()


def main() -> int:
    """Write or compare."""
    check = "--check" in sys.argv
    if not check:
        (HERE / "predicate.json").write_bytes(pretty(fresh_predicate()))
    wrong = []
    for name, data in documents(predicate()).items():
        if check and (HERE / name).read_bytes() != data:
            wrong.append(name)
        elif not check:
            (HERE / name).write_bytes(data)
    print("\n".join([f"differs: {name}" for name in wrong] + ([f"repair: {REPAIR}"] if wrong else ["ok"])))
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
