"""BY_HAND.md: its commands give the same answers as verify-certificate, without forebear."""

from __future__ import annotations

import base64
import importlib.resources
import json
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from certified import Released, add_lineage, ask, certified, release

from forebear.tracer.certify.dsse import read_envelope

PAGE = importlib.resources.files("forebear.tracer.certify").joinpath("BY_HAND.md").read_text("utf-8")
BLOCKS = dict(re.findall(r"```sh (\w+)\n(.*?)```", PAGE, re.DOTALL))

pytestmark = pytest.mark.skipif(shutil.which("openssl") is None, reason="needs openssl")


def bash(released: Released, *names: str, **environment: str) -> subprocess.CompletedProcess[str]:
    script = "set -e\n" + "\n".join(BLOCKS[name] for name in names)
    known = {"PATH": os.environ["PATH"], "ACME_PUB": str(released.public), **environment}
    return subprocess.run(["bash", "-c", script], cwd=released.folder, env=known, capture_output=True, text=True, check=False)


def predicate(released: Released) -> dict[str, Any]:
    return json.loads(read_envelope((released.folder / "forebear/certificate.dsse.json").read_bytes()).payload)["predicate"]


def test_every_block_is_tested_here() -> None:
    assert set(BLOCKS) == {"signature", "files", "sums", "root", "proof"}


def test_openssl_accepts_the_signature_and_refuses_an_edited_payload(tmp_path: Path) -> None:
    released = certified(tmp_path)
    done = bash(released, "signature")
    assert done.returncode == 0 and "Signature Verified Successfully" in done.stdout, done.stderr
    path = released.folder / "forebear/certificate.dsse.json"
    value = json.loads(path.read_text())
    payload = base64.b64decode(value["payload"]).replace(b"inherited_weights", b"not_exposed")
    path.write_text(json.dumps({**value, "payload": base64.b64encode(payload).decode()}, indent=2))
    assert bash(released, "signature").returncode != 0


def test_sha256sum_checks_the_weights_and_the_list_is_the_signed_one(tmp_path: Path) -> None:
    released = certified(tmp_path)
    assert bash(released, "files").returncode == 0
    lines = bash(released, "signature", "sums").stdout.splitlines()[-2:]
    assert len(set(lines)) == 1 and len(lines[0]) == 64
    (released.folder / "model-00001.safetensors").write_bytes(b"other")
    assert bash(released, "files").returncode != 0


def test_the_root_by_hand_is_the_certificates(tmp_path: Path) -> None:
    released = release(tmp_path)
    (released.folder / "tokenizer.d").mkdir()  # `.` sorts before `/`: this one must come after tokenizer/
    (released.folder / "tokenizer.d/x").write_text("x")
    ask("certify", "acme/chat-7b", "--model-dir", released.folder, "--sign", released.private, "--ledger", released.ledger)
    lines = bash(released, "signature", "root").stdout.splitlines()[-2:]
    assert len(set(lines)) == 1 and len(lines[0]) == 64


def test_proofs_by_hand_lead_to_the_head(tmp_path: Path) -> None:
    """For every entry of a list whose size is no power of two."""
    released = release(tmp_path)
    for n in range(3):
        add_lineage(released.world.ledger, {"models": [{"name": f"acme/m{n}", "ancestry": "closed"}]})
    model = {"name": "acme/chat-7b", "ancestry": "closed", "parents": [{"relation": "finetuned_from", "model": "acme/m2"}]}
    add_lineage(released.world.ledger, {"models": [model]})
    ask("certify", "acme/chat-7b", "--model-dir", released.folder, "--sign", released.private, "--ledger", released.ledger)
    said = predicate(released)
    assert said["heads"][0]["size"] == 6 and len(said["proofs"]["listed"]) > 2
    for one in said["proofs"]["listed"]:
        entry = tmp_path / "entry"
        entry.write_bytes(base64.b64decode(one["data"]))
        path = " ".join(step.removeprefix("sha256:") for step in one["path"])
        done = bash(released, "proof", INDEX=str(one["entry"]), SIZE="6", PATH_HEX=path, ENTRY=str(entry))
        assert f"sha256:{done.stdout.strip()}" == said["heads"][0]["root"], done.stderr
        entry.write_bytes(entry.read_bytes() + b" ")
        other = bash(released, "proof", INDEX=str(one["entry"]), SIZE="6", PATH_HEX=path, ENTRY=str(entry))
        assert f"sha256:{other.stdout.strip()}" != said["heads"][0]["root"]
