"""Signed heads: a key, or a head remembered elsewhere, says whose a ledger is; keys hand over and are withdrawn in its own entries."""

from __future__ import annotations

import base64
import contextlib
import io
import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import typer
from world import TIME, add_record, make_ledger

from forebear.schemas.canonical import canonical_json, parse_json
from forebear.schemas.enums import EntryKind
from forebear.schemas.errors import IntegrityError
from forebear.schemas.records import Entry, Head
from forebear.tracer.cli import run
from forebear.tracer.ledger.key_records import KeyRecord, key_record
from forebear.tracer.ledger.keys import PrivateKey, PublicKey, load_private
from forebear.tracer.ledger.ledger import Ledger
from forebear.tracer.ledger.notes import NOTE_NAME, Signed, sign_head, signed_by
from forebear.tracer.ledger.verification import add_key_record
from forebear.tracer.ledger.verify import verify
from forebear.tracer.trust import register

A, B, C, EVIL = (PrivateKey(bytes([n]) * 32) for n in range(4))
NOW = __import__("datetime").datetime(2026, 11, 1, tzinfo=__import__("datetime").UTC)


def signed_ledger(path: Path, key: PrivateKey) -> Ledger:
    store = make_ledger(path).ledger.store
    ledger = Ledger(store, signer=key)
    ledger.sign_head()
    return ledger


def kinds(ledger: Ledger, key: PublicKey) -> tuple[bool | None, list[str]]:
    report = verify(Ledger(ledger.store), level="quick", key=key)
    return report.authentic, [one.kind for one in report.findings]


def command(*arguments: object, code: int = 0) -> dict[str, Any]:
    """A command of `register` in this process."""
    app = typer.Typer()
    register(app, ledger_url=lambda own: own or "ledger")
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err), pytest.raises(SystemExit) as ended:
        run(app, [*map(str, arguments), "--json"])
    assert ended.value.code == code, out.getvalue() + err.getvalue()
    answer: dict[str, Any] = json.loads(out.getvalue())
    return answer


# Notes


def test_a_signed_head_is_a_note_whose_body_is_the_head() -> None:
    head = Head(3, bytes(range(32)))
    note = sign_head(head, A)
    assert Head.from_bytes(note) == head
    body, line = note.split(b"\n\n")
    assert body + b"\n" == head.to_bytes()
    name, value = line.decode().removeprefix("— ").split()
    raw = base64.b64decode(value)
    assert (name, raw[:4]) == ("forebear/ledger/1", A.public.note_hash(NOTE_NAME))
    assert A.public.verify(raw[4:], head.to_bytes())


def test_openssl_verifies_the_signature_of_a_head(tmp_path: Path) -> None:
    note = sign_head(Head(3, bytes(32)), A)
    (tmp_path / "body").write_bytes(note.partition(b"\n\n")[0] + b"\n")
    (tmp_path / "signature").write_bytes(base64.b64decode(note.split()[-1])[4:])
    (tmp_path / "pub").write_bytes(A.public.to_pem())
    arguments = ["openssl", "pkeyutl", "-verify", "-pubin", "-inkey", "pub", "-rawin", "-in", "body", "-sigfile", "signature"]
    done = subprocess.run(arguments, cwd=tmp_path, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr


def test_a_note_may_carry_several_signatures() -> None:
    head = Head(1, bytes(32))
    note = sign_head(head, A) + sign_head(head, B).partition(b"\n\n")[2] + "— witness.example AAAAAAAAAAAA\n".encode()
    assert Head.from_bytes(note) == head
    assert (signed_by(note, A.public), signed_by(note, B.public), signed_by(note, C.public)) == (Signed.YES, Signed.YES, Signed.NO)


MALFORMED = {
    "an empty line and nothing": b"\n",
    "two empty lines": b"\n\n",
    "a line that is no signature": b"\nhello\n",
    "a signature without its end of line": b"\n\xe2\x80\x94 a AAAA",
    "a name with a space": "\n— a b AAAA\n".encode(),
    "a name with a plus": "\n— a+b AAAA\n".encode(),
    "no base64": "\n— a ****\n".encode(),
    "bytes that are no UTF-8": b"\n\xff\xfe\n",
}


@pytest.mark.parametrize("what", MALFORMED)
def test_after_a_head_nothing_may_follow_but_signatures(what: str) -> None:
    with pytest.raises(IntegrityError):
        Head.from_bytes(Head(1, bytes(32)).to_bytes() + MALFORMED[what])


# Verification with a key


def test_a_ledger_signed_by_the_key_is_authentic(tmp_path: Path) -> None:
    assert kinds(signed_ledger(tmp_path / "l", A), A.public) == (True, [])


def test_without_a_key_or_a_head_nothing_says_whose_it_is(tmp_path: Path) -> None:
    assert verify(signed_ledger(tmp_path / "l", A)).authentic is None


FAULTS: dict[str, tuple[Callable[[Ledger], object], str]] = {
    "was never signed": (lambda ledger: ledger.store.put("head", ledger.head().to_bytes()), "not_signed"),
    "is signed by another key": (lambda ledger: Ledger(ledger.store, signer=EVIL).sign_head(), "not_signed"),
    "has entries after its signature": (lambda ledger: add_record(Ledger(ledger.store), {"late": 1}), "not_signed"),
    "has a signature of another head": (
        lambda ledger: ledger.store.put("head", ledger.head().to_bytes() + b"\n" + sign_head(Head(9, bytes(32)), A).partition(b"\n\n")[2]),
        "signature_invalid",
    ),
    "was signed before it handed over": (
        lambda ledger: (_rotate(ledger, A, B), ledger.store.put("head", sign_head(ledger.head(), A))),
        "not_signed",
    ),
    "withdrew its key": (lambda ledger: (_revoke(ledger, A, by=A), ledger.sign_head()), "key_revoked"),
}


def _rotate(ledger: Ledger, old: PrivateKey, new: PrivateKey) -> Ledger:
    add_key_record(Ledger(ledger.store), "rotate", new.public, by=old, why="yearly", now=NOW)
    after = Ledger(ledger.store, signer=new)
    after.sign_head()
    return after


def _revoke(ledger: Ledger, key: PrivateKey, *, by: PrivateKey) -> None:
    add_key_record(Ledger(ledger.store), "revoke", key.public, by=by, why="lost", now=NOW)


@pytest.mark.parametrize("what", FAULTS)
def test_a_ledger_is_not_authentic_that(tmp_path: Path, what: str) -> None:
    ledger = signed_ledger(tmp_path / "l", A)
    damage, kind = FAULTS[what]
    damage(ledger)
    assert kinds(ledger, A.public) == (False, [kind])


def test_a_key_hands_over_and_the_old_one_still_vouches_for_its_successor(tmp_path: Path) -> None:
    ledger = _rotate(_rotate(signed_ledger(tmp_path / "l", A), A, B), B, C)
    for key in (A, B, C):
        assert kinds(ledger, key.public) == (True, [])
    assert kinds(ledger, EVIL.public)[0] is False


def test_a_hand_over_by_a_key_that_is_not_in_force_counts_for_nothing(tmp_path: Path) -> None:
    ledger = _rotate(signed_ledger(tmp_path / "l", A), A, B)
    _rotate(ledger, A, EVIL)  # A has handed over already
    assert kinds(ledger, A.public)[0] is False
    _rotate(ledger, EVIL, C)
    assert kinds(ledger, B.public)[0] is False


def test_a_withdrawn_key_never_comes_back(tmp_path: Path) -> None:
    ledger = _rotate(signed_ledger(tmp_path / "l", A), A, B)
    _revoke(ledger, C, by=B)
    _rotate(ledger, B, C)
    assert kinds(ledger, B.public)[0] is False


def test_a_hand_over_made_for_another_history_counts_for_nothing(tmp_path: Path) -> None:
    other = make_ledger(tmp_path / "other").ledger
    add_record(other, {"other": 1})
    record = key_record("rotate", B.public, by=A, head=other.head())
    ledger = signed_ledger(tmp_path / "l", A)
    add_record(ledger, {"one": 1})
    add_record(ledger, {"two": 2})
    ledger.append(Entry(EntryKind.KEY, ledger.put_object(record), TIME))
    Ledger(ledger.store, signer=B).sign_head()
    assert kinds(ledger, A.public)[0] is False


@pytest.mark.parametrize("field", ["action", "by", "key", "head", "why", "signature", "schema"])
def test_a_changed_key_record_is_found_by_anybody(tmp_path: Path, field: str) -> None:
    ledger = signed_ledger(tmp_path / "l", A)
    value = parse_json(key_record("rotate", B.public, by=A, head=ledger.head()))
    other = parse_json(key_record("revoke", C.public, by=B, head=Head(0, bytes(32)), why="x"))
    changed = canonical_json({**value, field: other[field] if field != "schema" else "forebear/key/2"})
    ledger.append(Entry(EntryKind.KEY, ledger.put_object(changed), TIME))
    found = [one.kind for one in verify(Ledger(ledger.store)).findings]
    assert found in (["key_signature_invalid"], ["malformed_record"])
    with pytest.raises(IntegrityError):
        KeyRecord.from_bytes(changed)


# Commands


@pytest.fixture
def keyed(tmp_path: Path) -> Path:
    """A folder with a ledger `l` and keys a, b."""
    make_ledger(tmp_path / "l")
    for name in "ab":
        command("key", "make", tmp_path / name)
    return tmp_path


def test_make_sign_rotate_revoke_and_verify(keyed: Path) -> None:
    at = ("--ledger", keyed / "l")
    assert command("verify", *at)["authentic"] is None
    assert command("verify", *at, "--key", keyed / "a.pub", code=1)["authentic"] is False
    command("key", "sign", keyed / "a.key", *at)
    assert command("verify", *at, "--key", keyed / "a.pub")["authentic"] is True
    command("key", "rotate", keyed / "a.key", keyed / "b.key", *at, "--why", "yearly")
    for name in "ab":
        assert command("verify", *at, "--key", keyed / f"{name}.pub")["authentic"] is True
    command("key", "revoke", keyed / "b.pub", "--by", keyed / "b.key", *at)
    assert command("verify", *at, "--key", keyed / "a.pub", code=1)["authentic"] is False


def test_a_writer_with_a_key_in_its_environment_signs_every_head(keyed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FOREBEAR_KEY", str(keyed / "a.key"))
    add_record(Ledger.open(keyed / "l"), {"n": 1})
    monkeypatch.delenv("FOREBEAR_KEY")
    assert command("verify", "--ledger", keyed / "l", "--key", keyed / "a.pub")["authentic"] is True


def test_a_remembered_head_finds_a_ledger_rolled_back(keyed: Path) -> None:
    shutil.copytree(keyed / "l", keyed / "old")
    add_record(Ledger.open(keyed / "l"), {"n": 1})
    shutil.copy(keyed / "l" / "head", keyed / "kept")
    assert command("verify", "--ledger", keyed / "l", "--since", keyed / "kept")["authentic"] is True
    answer = command("verify", "--ledger", keyed / "old", "--since", keyed / "kept", code=1)
    assert [one["kind"] for one in answer["findings"]] == ["rolled_back"]


def test_a_head_may_be_kept_as_an_answer_carries_it(keyed: Path) -> None:
    (keyed / "answer.json").write_text(json.dumps({"schema": "x", "head": Ledger.open(keyed / "l").head().to_json()}))
    assert command("verify", "--ledger", keyed / "l", "--since", keyed / "answer.json")["authentic"] is True


def test_a_fork_is_exported_as_a_proof_that_convicts(keyed: Path) -> None:
    command("key", "sign", keyed / "a.key", "--ledger", keyed / "l")
    shutil.copytree(keyed / "l", keyed / "m")
    for name in "lm":
        add_record(Ledger.open(keyed / name), {"name": name})
        command("key", "sign", keyed / "a.key", "--ledger", keyed / name)
    options = ("--since", keyed / "m" / "head", "--fork", keyed / "fork.json")
    answer = command("verify", "--ledger", keyed / "l", *options, code=1)
    assert [one["kind"] for one in answer["findings"]] == ["forked"]
    assert answer["fork"] == json.loads((keyed / "fork.json").read_text())
    assert command("verify-proof", keyed / "fork.json", "--key", keyed / "a.pub")["claims"]["fork"]


def test_a_verification_is_written_down(keyed: Path) -> None:
    answer = command("verify", "--full", "--record", "--ledger", keyed / "l")
    ledger = Ledger.open(keyed / "l")
    _, _, entry = ledger.entries()[-1]
    record = parse_json(ledger.get_object(entry.object))
    assert (entry.kind, entry.object) == (EntryKind.VERIFICATION, answer["recorded"]["object"])
    assert (record["level"], record["ok"], record["checked"], record["head"]) == ("full", True, answer["checked"], answer["head"])
    sampled = command("verify", "--sample", "1/2", "--record", "--ledger", keyed / "l")
    assert parse_json(ledger.get_object(sampled["recorded"]["object"]))["not_looked_at"]


def test_a_verification_of_a_damaged_list_says_that_it_could_not_be_written_down(keyed: Path) -> None:
    (keyed / "l" / "entries" / f"{0:012}").write_bytes(b"{}")
    answer = command("verify", "--record", "--ledger", keyed / "l", code=1)
    assert answer["recorded"]["object"] is None


def test_a_proof_goes_from_one_command_to_the_other(keyed: Path) -> None:
    ledger = Ledger.open(keyed / "l")
    subject = ledger.entries()[0][2].object
    command("key", "sign", keyed / "a.key", "--ledger", keyed / "l")
    command_text = ("prove", subject, "--ledger", keyed / "l")
    proof = command(*command_text)
    (keyed / "p.json").write_text(json.dumps(proof))
    shutil.copy(keyed / "l" / "head", keyed / "kept")
    shutil.rmtree(keyed / "l")
    assert command("verify-proof", keyed / "p.json", "--key", keyed / "a.pub")["authentic"] is True
    assert command("verify-proof", keyed / "p.json", "--head", keyed / "kept")["authentic"] is True
    assert command("verify-proof", keyed / "p.json", "--key", keyed / "b.pub", code=1)["authentic"] is False
    assert command("verify-proof", keyed / "p.json", code=2)["authentic"] is None


@pytest.fixture
def handed_over(keyed: Path) -> Path:
    """`keyed` with a proof `p.json` under a head that key b signed, to which a handed over; without its ledger."""
    at = ("--ledger", keyed / "l")
    subject = Ledger.open(keyed / "l").entries()[0][2].object
    command("key", "sign", keyed / "a.key", *at)
    command("key", "rotate", keyed / "a.key", keyed / "b.key", *at)
    (keyed / "p.json").write_text(json.dumps(command("prove", subject, *at)))
    shutil.move(keyed / "l", keyed / "gone")
    return keyed


def test_an_older_key_vouches_for_a_proof_under_its_successors_head(handed_over: Path) -> None:
    older, newer = (command("verify-proof", handed_over / "p.json", "--key", handed_over / f"{name}.pub") for name in "ab")
    assert older["authentic"] is newer["authentic"] is True
    assert "handed over in entry 1" in older["claims"]["key_rotated"]
    assert "key_rotated" not in newer["claims"]


def test_a_proof_without_the_hand_over_is_not_the_older_keys_and_says_what_to_ask_for(handed_over: Path) -> None:
    proof = json.loads((handed_over / "p.json").read_text())
    del proof["keys"]
    (handed_over / "cut.json").write_text(json.dumps(proof))
    answer = command("verify-proof", handed_over / "cut.json", "--key", handed_over / "a.pub", code=1)
    assert answer["authentic"] is False and "key in force" in answer["wrong"][0]


def test_a_key_that_handed_over_signs_no_later_proof(handed_over: Path) -> None:
    proof = json.loads((handed_over / "p.json").read_text())
    proof["note"] = sign_head(Head.from_bytes(proof["note"].encode()), load_private(handed_over / "a.key")).decode()
    (handed_over / "late.json").write_text(json.dumps(proof))
    answer = command("verify-proof", handed_over / "late.json", "--key", handed_over / "a.pub", code=1)
    assert answer["authentic"] is False and "signs no longer" in answer["wrong"][0]


def _another_record(shown: dict[str, Any]) -> None:
    record = key_record("rotate", EVIL.public, by=A, head=Head(1, bytes(32)))
    shown["record"] = record.decode()


KEY_FORGERIES: dict[str, Callable[[dict[str, Any]], object]] = {
    "whose record is not the one under the head": _another_record,
    "whose entry is elsewhere": lambda shown: shown["entry"].update(index=0),
    "whose record is of another history": lambda shown: shown.update(path=[base64.b64encode(bytes(32)).decode()]),
}


@pytest.mark.parametrize("what", KEY_FORGERIES)
def test_a_proof_is_refused_that_shows_a_hand_over(handed_over: Path, what: str) -> None:
    proof = json.loads((handed_over / "p.json").read_text())
    KEY_FORGERIES[what](proof["keys"][0])
    (handed_over / "forged.json").write_text(json.dumps(proof))
    answer = command("verify-proof", handed_over / "forged.json", "--key", handed_over / "a.pub", code=1)
    assert answer["ok"] is False


WRONG = {
    "no key": ("verify", "--key", "nowhere.pub"),
    "no head": ("verify", "--since", "nowhere"),
    "an odd share": ("verify", "--sample", "0/3"),
    "two levels": ("verify", "--quick", "--full"),
    "nothing to prove": ("prove",),
    "no digest": ("prove", "abc"),
    "no proof": ("verify-proof", "nowhere"),
    "a run that is not there": ("prove", "sha256:" + "0" * 64, "--run", "0" * 12),
}


@pytest.mark.parametrize("what", WRONG)
def test_wrong_use_exits_2(keyed: Path, monkeypatch: pytest.MonkeyPatch, what: str) -> None:
    monkeypatch.chdir(keyed)
    monkeypatch.setenv("FOREBEAR_LEDGER", str(keyed / "l"))
    (keyed / "ledger").symlink_to(keyed / "l")
    assert command(*WRONG[what], code=2)["error"]["remedy"]


def test_gc_lists_and_removes(keyed: Path) -> None:
    ledger = Ledger.open(keyed / "l")
    ledger.put_object(b"orphan")
    assert len(command("gc", "--dry-run", "--older-than", 0, "--ledger", keyed / "l")["removed"]) == 1
    assert len(command("gc", "--older-than", 0, "--ledger", keyed / "l")["removed"]) == 1
    assert command("gc", "--older-than", 0, "--ledger", keyed / "l")["orphans"] == []


@pytest.mark.skipif(
    shutil.which("unshare") is None or subprocess.run(["unshare", "-n", "true"], capture_output=True, check=False).returncode != 0,
    reason="no right to cut a network namespace",
)
def test_verification_needs_no_network(keyed: Path) -> None:
    """All of it with the network namespace cut: not even loopback is up."""
    command("key", "sign", keyed / "a.key", "--ledger", keyed / "l")
    subject = Ledger.open(keyed / "l").entries()[0][2].object
    (keyed / "p.json").write_text(json.dumps(command("prove", subject, "--ledger", keyed / "l")))
    code = (
        "import sys, typer; from forebear.tracer.cli import run; from forebear.tracer.trust import register; app = typer.Typer();"
        "register(app, ledger_url=lambda own: own); run(app, sys.argv[1:])"
    )
    for arguments in (
        ("verify", "--full", "--ledger", keyed / "l", "--key", keyed / "a.pub"),
        ("verify-proof", keyed / "p.json", "--key", keyed / "a.pub"),
    ):
        done = subprocess.run(["unshare", "-n", sys.executable, "-c", code, *map(str, arguments)], capture_output=True, check=False)
        assert done.returncode == 0, done.stderr
