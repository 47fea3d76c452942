"""verify-certificate: what it accepts, what it finds, and what it says it cannot tell."""

from __future__ import annotations

import base64
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from certified import CARD, KEY, NAME, Released, add_lineage, ask, base_record, certified, release, run_command
from world import TIME, Document, add_run, detector

from forebear.schemas.advisory import Advisory
from forebear.schemas.enums import EntryKind
from forebear.schemas.records import Entry
from forebear.tracer.certify.dsse import read_envelope, sign_envelope
from forebear.tracer.ledger.key_records import key_record
from forebear.tracer.ledger.keys import PrivateKey, PublicKey, generate

CERTIFICATE = "forebear/certificate.dsse.json"


def check(released: Released, *more: object, code: int = 0) -> Any:
    return ask("verify-certificate", released.folder, "--key", released.public, *more, code=code)


def resigned(released: Released, change: Callable[[dict[str, Any]], object]) -> None:
    """Sign a changed statement with the right key: what a publisher could do, not a stranger."""
    path = released.folder / CERTIFICATE
    value = json.loads(read_envelope(path.read_bytes()).payload)
    change(value)
    path.write_bytes(sign_envelope(json.dumps(value, sort_keys=True).encode(), KEY).to_bytes())


def test_a_released_model_is_authentic_and_its_files_match(tmp_path: Path) -> None:
    answer = check(certified(tmp_path))
    assert (answer["ok"], answer["authentic"], answer["findings"]) == (True, True, [])
    assert answer["checked"] == {"files": 5, "proofs": 2, "ledger": "not given"}
    assert answer["as_of"] == "as of head 2; later advisories not seen"


def test_the_folder_may_be_renamed_and_the_ledger_compares(tmp_path: Path) -> None:
    released = certified(tmp_path)
    shutil.move(released.folder, tmp_path / "elsewhere")
    answer = ask("verify-certificate", tmp_path / "elsewhere", "--key", released.public, "--ledger", released.ledger)
    assert answer["checked"]["ledger"] == "compared"


HARMLESS: dict[str, Callable[[Path], object]] = {
    "the README is edited outside our section": lambda m: (m / "README.md").write_text(
        (m / "README.md").read_text().replace("A model.", "A fine model.") + "\nMore.\n"
    ),
    "the README has Windows line ends": lambda m: (m / "README.md").write_bytes((m / "README.md").read_bytes().replace(b"\n", b"\r\n")),
    "the README is gone": lambda m: (m / "README.md").unlink(),
    "our section is removed": lambda m: (m / "README.md").write_text(CARD),
    "the ML-BOM is gone": lambda m: (m / "forebear/ml-bom.cdx.json").unlink(),
    "a download left its cache": lambda m: ((m / ".cache/huggingface").mkdir(parents=True), (m / ".cache/huggingface/x").touch()),
    "git's files are there": lambda m: ((m / ".git").mkdir(), (m / ".git/HEAD").touch(), (m / ".gitattributes").touch()),
    "a signature by model-signing is there": lambda m: (m / "model.sig").touch(),
    "another file lies in our folder": lambda m: (m / "forebear/notes.txt").touch(),
    "a file of weights is a link to the same bytes": lambda m: (
        (m / "model-00001.safetensors").rename(m.parent / "blob"),
        (m / "model-00001.safetensors").symlink_to(m.parent / "blob"),
    ),
}


@pytest.mark.parametrize("sentence", HARMLESS)
def test_it_still_holds_where(sentence: str, tmp_path: Path) -> None:
    released = certified(tmp_path)
    HARMLESS[sentence](released.folder)
    assert check(released)["findings"] == []


def _edit(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


FINDINGS: dict[str, tuple[Callable[[Path], object], str, str]] = {
    "a weight has another byte": (
        lambda m: (m / "model-00002.safetensors").write_bytes(b"\x02\0\0\0\0\0\0\0{}!"), "file_differs", "model-00002.safetensors",
    ),
    "two weights changed names": (
        lambda m: ((m / "model-00001.safetensors").rename(m / "t"), (m / "model-00002.safetensors").rename(m / "model-00001.safetensors"),
                   (m / "t").rename(m / "model-00002.safetensors")), "file_differs", "model-00001.safetensors",
    ),
    "a file was renamed, which the root does not see": (lambda m: (m / "config.json").rename(m / "config.jsom"), "file_missing", "config.json"),
    "a weight is missing": (lambda m: (m / "model-00001.safetensors").unlink(), "file_missing", "model-00001.safetensors"),
    "code was added": (lambda m: (m / "modeling.py").write_text("evil()"), "extra_file", "modeling.py"),
    "a tokenizer was changed": (lambda m: (m / "tokenizer/vocab.txt").write_text("b"), "file_differs", "tokenizer/vocab.txt"),
    "our section of the README was edited": (lambda m: _edit(m / "README.md", "head 2", "head 9"), "readme_differs", "README.md"),
    "a marker of our section is gone": (lambda m: _edit(m / "README.md", "<!-- forebear:end -->", ""), "readme_differs", "README.md"),
    "the ML-BOM was edited": (
        lambda m: _edit(m / "forebear/ml-bom.cdx.json", "inherited_weights", "not_exposed"), "document_differs", "forebear/ml-bom.cdx.json",
    ),
    "the checksums were edited": (lambda m: _edit(m / "forebear/SHA256SUMS", "  model-00001", "  model-0000x"), "document_differs", "forebear/SHA256SUMS"),
}  # fmt: skip


@pytest.mark.parametrize("sentence", FINDINGS)
def test_it_finds_that(sentence: str, tmp_path: Path) -> None:
    released = certified(tmp_path)
    change, kind, where = FINDINGS[sentence]
    change(released.folder)
    found = check(released, code=1)["findings"]
    assert (where, kind) in {(one["object"], one["kind"]) for one in found}
    assert all(one["expected"] and one["found"] and one["remedy"] for one in found)


def test_an_edited_certificate_is_told_from_a_wrong_key(tmp_path: Path) -> None:
    released = certified(tmp_path)
    other = tmp_path / "other.pub"
    other.write_bytes(generate().public.to_pem())
    wrong = ask("verify-certificate", released.folder, "--key", other, code=1)
    assert wrong["findings"][0]["kind"] == "bad_signature" and KEY.public.key_id in wrong["findings"][0]["found"]
    path = released.folder / CERTIFICATE
    value = json.loads(path.read_text())
    payload = base64.b64decode(value["payload"]).replace(b'"verdict":"inherited_weights"', b'"verdict":"not_exposed"')
    path.write_text(json.dumps({**value, "payload": base64.b64encode(payload).decode()}))
    edited = check(released, code=1)
    assert "edited" in edited["findings"][0]["found"]
    assert (edited["authentic"], edited["verdict"]) == (False, None), "nothing of a forged certificate is repeated"


def test_without_a_key_it_says_that_nothing_tells_whose_it_is(tmp_path: Path) -> None:
    released = certified(tmp_path)
    answer = ask("verify-certificate", released.folder, code=2)
    assert (answer["ok"], answer["authentic"], answer["findings"]) == (False, None, [])
    (released.folder / "config.json").write_text("{}")
    assert ask("verify-certificate", released.folder, code=1)["findings"][0]["kind"] == "file_differs", "a finding wins"


def test_a_certificate_alone_cannot_tell_of_files(tmp_path: Path) -> None:
    released = certified(tmp_path)
    shutil.copy(released.folder / CERTIFICATE, tmp_path / "alone.json")
    answer = ask("verify-certificate", tmp_path / "alone.json", "--key", released.public, code=2)
    assert answer["authentic"] is True and "not compared" in " ".join(answer["notes"])
    assert ask("verify-certificate", released.folder / CERTIFICATE, "--key", released.public)["checked"]["files"] == 5


SIGNED_LIES: dict[str, tuple[Callable[[dict[str, Any]], object], str]] = {
    "its subjects leave a weight out": (lambda v: v["subject"].pop(0), "inconsistent_certificate"),
    "its root leaves more out than is known here": (lambda v: v["predicate"]["files"]["left_out"].append("*.py"), "other_rules"),
    "a proof leads to another root": (lambda v: v["predicate"]["proofs"]["listed"][0]["path"].reverse() or v["predicate"]["heads"][0].update(root="sha256:" + "0" * 64), "bad_proof"),
    "a run has no proof": (lambda v: v["predicate"]["proofs"].update(listed=[]), "bad_proof"),
    "a run's proof is of another entry": (lambda v: v["predicate"]["runs"][0].update(entry=1), "bad_proof"),
}  # fmt: skip


@pytest.mark.parametrize("sentence", SIGNED_LIES)
def test_a_signed_certificate_contradicts_itself_where(sentence: str, tmp_path: Path) -> None:
    released = certified(tmp_path)
    change, kind = SIGNED_LIES[sentence]
    resigned(released, change)
    assert kind in {one["kind"] for one in check(released, code=1)["findings"]}


AGAINST_LEDGER: dict[str, tuple[Callable[[dict[str, Any]], object], str]] = {
    "a milder verdict": (lambda p: p.update(verdict="not_exposed"), "verdict"),
    "a smaller dose": (lambda p: p["exposures"]["listed"][0].update(documents=0), "exposures"),
    "fewer unknowns": (lambda p: p["unknown"]["listed"].pop(), "unknown"),
    "a better grade": (lambda p: p["ancestry"]["relations"][0].update(evidence="weight_verified"), "ancestry"),
    "another shard": (lambda p: p["datasets"][0]["shards"][0].update(digest="sha256:" + "0" * 64), "datasets"),
}


@pytest.mark.parametrize("sentence", AGAINST_LEDGER)
def test_the_ledger_contradicts(sentence: str, tmp_path: Path) -> None:
    released = certified(tmp_path)
    change, where = AGAINST_LEDGER[sentence]
    resigned(released, lambda value: change(value["predicate"]))
    found = check(released, "--ledger", released.ledger, code=1)["findings"]
    assert (where, "statement_differs") in {(one["object"], one["kind"]) for one in found}


def test_another_ledger_and_an_older_one_are_told_apart(tmp_path: Path) -> None:
    released = certified(tmp_path)
    (tmp_path / "2").mkdir()
    other = release(tmp_path / "2", record={"models": [{"name": "acme/x", "ancestry": "closed"}]})
    assert check(released, "--ledger", other.ledger, code=1)["findings"][0]["kind"] == "other_ledger"
    (tmp_path / "2/ledger/entries/000000000001").unlink()
    (tmp_path / "2/ledger/head").unlink()
    older = check(released, "--ledger", other.ledger, code=2)
    assert older["checked"]["ledger"] == "older than the certificate"


def test_a_certificate_older_than_what_the_ledger_learned_is_superseded(tmp_path: Path) -> None:
    """The base was thought clean of everything but toxicity; a later record says that the model itself consumed the bad rows."""
    released = certified(tmp_path)
    record = base_record(released.world)
    record["models"][2]["trained_on"].append({"dataset": "acme/web", "stage": "sft"})
    add_lineage(released.world.ledger, record)
    assert check(released)["verdict"] == "inherited_weights", "without the ledger nothing later is seen"
    answer = check(released, "--ledger", released.ledger, code=1)
    assert answer["verdict_now"] == "direct" and {one["kind"] for one in answer["findings"]} == {"superseded"}


def advise(released: Released, **names: Any) -> None:
    advisory = Advisory(reason="withdrawn", authority="acme legal", time=TIME, **names)
    name = released.world.ledger.put_object(advisory.to_bytes())
    released.world.ledger.append(Entry(EntryKind.ADVISORY, name, TIME))


def test_a_certificate_older_than_an_advisory_about_it_is_superseded(tmp_path: Path) -> None:
    """Even where the verdict is as bad as it was; without the ledger nothing later is seen."""
    released = certified(tmp_path)
    advise(released, models=("name:acme/base-7b",))
    assert check(released)["findings"] == []
    answer = check(released, "--ledger", released.ledger, code=1)
    assert [(one["object"], one["kind"]) for one in answer["findings"]] == [("advisories", "superseded")]
    assert answer["verdict_now"] == "inherited_weights"


def test_an_advisory_about_something_else_is_told_and_supersedes_nothing(tmp_path: Path) -> None:
    released = certified(tmp_path)
    advise(released, models=("name:acme/unrelated",))
    answer = check(released, "--ledger", released.ledger)
    assert any("1 of them advisories" in note for note in answer["notes"])


def test_an_advisory_before_the_head_is_in_the_certificate(tmp_path: Path) -> None:
    released = release(tmp_path)
    advise(released, models=("name:acme/base-7b",))
    ask("certify", NAME, "--model-dir", released.folder, "--sign", released.private, "--ledger", released.ledger)
    said = json.loads(read_envelope((released.folder / CERTIFICATE).read_bytes()).payload)["predicate"]
    assert [(one["entry"], one["reason"], one["authority"]) for one in said["advisories"]] == [(2, "withdrawn", "acme legal")]
    assert "acme legal" in (released.folder / "README.md").read_text()
    assert check(released, "--ledger", released.ledger)["verdict"] == "inherited_weights"


def key_entry(released: Released, action: Any, key: PublicKey, by: PrivateKey) -> None:
    ledger = released.world.ledger
    name = ledger.put_object(key_record(action, key, by=by, head=ledger.head()))
    ledger.append(Entry(EntryKind.KEY, name, TIME))


def test_a_key_that_was_withdrawn_vouches_for_nothing_older_certificates_included(tmp_path: Path) -> None:
    released = certified(tmp_path)
    key_entry(released, "revoke", KEY.public, KEY)
    assert check(released)["authentic"] is True, "the certificate alone cannot tell"
    answer = check(released, "--ledger", released.ledger, code=1)
    assert {one["kind"] for one in answer["findings"]} == {"key_revoked"}


def test_a_stranger_cannot_withdraw_a_key(tmp_path: Path) -> None:
    released = certified(tmp_path)
    key_entry(released, "revoke", KEY.public, generate())
    assert check(released, "--ledger", released.ledger)["findings"] == []


def test_after_a_rotation_the_old_certificate_holds_and_the_new_key_is_followed(tmp_path: Path) -> None:
    released, new = certified(tmp_path), generate()
    key_entry(released, "rotate", new.public, KEY)
    assert check(released, "--ledger", released.ledger)["authentic"] is True, "it was in force then"
    (tmp_path / "new.key").write_bytes(new.to_pem())
    ask("certify", NAME, "--model-dir", released.folder, "--sign", tmp_path / "new.key", "--ledger", released.ledger)
    check(released, code=1)  # the old key alone does not lead to the new one
    answer = check(released, "--ledger", released.ledger)
    assert answer["authentic"] is True and any("handed over" in note for note in answer["notes"])
    (tmp_path / "new.pub").write_bytes(new.public.to_pem())
    assert ask("verify-certificate", released.folder, "--key", tmp_path / "new.pub")["authentic"] is True


def test_a_key_that_had_handed_over_signs_nothing_later(tmp_path: Path) -> None:
    released = release(tmp_path)
    key_entry(released, "rotate", generate().public, KEY)
    ask("certify", NAME, "--model-dir", released.folder, "--sign", released.private, "--ledger", released.ledger)
    answer = check(released, "--ledger", released.ledger, code=1)
    assert {one["kind"] for one in answer["findings"]} == {"key_not_in_force"}


GATES = {
    "inherited_weights accepts it": ("inherited_weights", 0),
    "not_exposed does not": ("not_exposed", 1),
    "unknown does not, since an exposure is known": ("unknown", 1),
    "subliminal_possible does not": ("subliminal_possible", 1),
    "direct accepts anything": ("direct", 0),
}


@pytest.mark.parametrize("sentence", GATES)
def test_the_gate_at(sentence: str, tmp_path: Path) -> None:
    required, code = GATES[sentence]
    answer = check(certified(tmp_path), "--require", required, code=code)
    assert answer["gate"] is (code == 0) and answer["ok"] is (code == 0)


def test_the_gate_says_cannot_tell_where_only_something_unknown_forbids_it(tmp_path: Path) -> None:
    record = {"models": [{"name": NAME, "ancestry": "open"}]}
    released = certified(tmp_path, record=record)
    assert check(released, "--require", "unknown")["verdict"] == "unknown"
    for required in ("not_exposed", "cleared", "inherited_weights"):
        check(released, "--require", required, code=2)
    assert check(released, "--require", "direct")["at_worst"] == "direct"


def test_a_requirement_that_is_no_verdict_is_refused_before_anything_is_read(tmp_path: Path) -> None:
    result = run_command("verify-certificate", tmp_path / "none", "--require", "clean")
    assert result.exception.kind == "unknown_verdict"


def test_the_gate_opens_for_a_model_that_is_not_exposed(tmp_path: Path) -> None:
    """And a finding in the files still fails it."""
    tmp = tmp_path / "r"
    tmp.mkdir()
    released = release(tmp, record={"models": [{"name": "acme/placeholder", "ancestry": "closed"}]})
    shards = {"good": [Document("a harmless line about the sea and its harbours", {"toxicity": 3})]}
    run = add_run(released.world.ledger, shards=shards, detectors=[detector()])
    dataset = {"name": "acme/good", "ancestry": "closed", "shards": [run.shards["good"]]}
    model = {"name": NAME, "ancestry": "closed", "trained_on": [{"dataset": "acme/good", "stage": "pretrain"}]}
    add_lineage(released.world.ledger, {"models": [model], "datasets": [dataset]})
    ask("certify", NAME, "--model-dir", released.folder, "--sign", released.private, "--ledger", released.ledger)
    assert check(released, "--require", "not_exposed")["gate"] is True
    (released.folder / "config.json").write_text("{}")
    check(released, "--require", "not_exposed", code=1)


REFUSED: dict[str, tuple[Callable[[Path], object], str]] = {
    "no certificate": (lambda m: (m / CERTIFICATE).unlink(), "no_certificate"),
    "no JSON": (lambda m: (m / CERTIFICATE).write_bytes(b"\xff\xfe"), "not_a_certificate"),
    "no envelope": (lambda m: (m / CERTIFICATE).write_text("{}"), "not_a_certificate"),
    "deep JSON": (lambda m: (m / CERTIFICATE).write_text("[" * 100_000), "not_a_certificate"),
    "a link to a folder": (lambda m: (m / "more").symlink_to("/usr", target_is_directory=True), "symbolic_link"),
    "a link to nothing": (lambda m: (m / "more.bin").symlink_to("nowhere"), "symbolic_link"),
    "a pipe": (lambda m: __import__("os").mkfifo(m / "pipe.bin"), "not_a_file"),
}


@pytest.mark.parametrize("sentence", REFUSED)
def test_a_folder_is_refused_that_has(sentence: str, tmp_path: Path) -> None:
    released = certified(tmp_path)
    change, kind = REFUSED[sentence]
    change(released.folder)
    result = run_command("verify-certificate", released.folder, "--key", released.public)
    assert getattr(result.exception, "kind", None) == kind, result.exception
    assert result.exception.exit_code == 2


MISSHAPEN: dict[str, Callable[[dict[str, Any]], object]] = {
    "a predicate of another type": lambda v: v.update(predicateType="https://example.com/other"),
    "a verdict that is none": lambda v: v["predicate"].update(verdict="fine"),
    "files that are no list": lambda v: v["predicate"]["files"].update(listed=7),
    "a proof that is no base64": lambda v: v["predicate"]["proofs"]["listed"][0].update(data="?"),
    "a document that leads out of the folder": lambda v: v["predicate"]["documents"].update({"forebear/../../x": "sha256:" + "0" * 64}),
    "no head": lambda v: v["predicate"].update(heads=[]),
}


@pytest.mark.parametrize("sentence", MISSHAPEN)
def test_a_signed_statement_is_refused_with(sentence: str, tmp_path: Path) -> None:
    released = certified(tmp_path)
    resigned(released, MISSHAPEN[sentence])
    result = run_command("verify-certificate", released.folder, "--key", released.public)
    assert getattr(result.exception, "kind", None) in {"not_a_certificate", "malformed_certificate"}, (result.exception, result.output)


def test_what_a_person_reads_names_the_verdict_and_the_head(tmp_path: Path) -> None:
    released = certified(tmp_path)
    shown = run_command("verify-certificate", released.folder, "--key", released.public)
    assert shown.exit_code == 0 and shown.stdout.startswith("ok: authentic")
    assert "as of head 2; later advisories not seen" in shown.stdout and "inherited_weights" in shown.stdout


LINKS: dict[str, Callable[[Path], object]] = {
    "a file of weights": lambda m: (m / "w.bin").symlink_to(m / "config.json"),
    "a folder": lambda m: (m / "more").symlink_to("/usr", target_is_directory=True),
    "the README": lambda m: ((m / "README.md").rename(m.parent / "readme"), (m / "README.md").symlink_to(m.parent / "readme")),
    "our own folder": lambda m: (m / "forebear").symlink_to(m.parent, target_is_directory=True),
}


@pytest.mark.parametrize("sentence", LINKS)
def test_certify_refuses_a_folder_with_a_link_at(sentence: str, tmp_path: Path) -> None:
    released = release(tmp_path)
    LINKS[sentence](released.folder)
    result = run_command("certify", NAME, "--model-dir", released.folder, "--sign", released.private, "--ledger", released.ledger)
    assert result.exception.kind == "symbolic_link"
    assert not (tmp_path / "certificate.dsse.json").exists()


def test_certifying_again_changes_nothing(tmp_path: Path) -> None:
    released = certified(tmp_path)
    before = {path: path.read_bytes() for path in released.folder.rglob("*") if path.is_file()}
    ask("certify", NAME, "--model-dir", released.folder, "--sign", released.private, "--ledger", released.ledger)
    assert {path: path.read_bytes() for path in released.folder.rglob("*") if path.is_file()} == before
