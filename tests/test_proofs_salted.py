"""Commitments without disclosure: a published head tells nothing, and an auditor with the salt gets a proof either way."""

from __future__ import annotations

import hashlib
import hmac
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import typer
from world import DEFAULT, Document, add_run, make_ledger

from forebear.schemas.canonical import parse_json
from forebear.schemas.errors import UsageError
from forebear.tracer.cli import run as run_app
from forebear.tracer.ledger.ledger import Ledger
from forebear.tracer.ledger.salted import answer_challenge, check_answer, publish_salted
from forebear.tracer.ledger.verify import verify
from forebear.tracer.trust import register

SALT, OTHER = bytes(range(32)), bytes(32)
NOW = datetime(2026, 11, 1, tzinfo=UTC)
TEXTS = sorted({one.text for rows in DEFAULT.values() for one in rows if one.text is not None})


def digest(text: str) -> bytes:
    return hashlib.sha256(text.encode()).digest()


@pytest.fixture
def published(tmp_path: Path) -> tuple[Ledger, Ledger, dict[str, object], str]:
    world = make_ledger(tmp_path / "private")
    public = Ledger.open(tmp_path / "public", create=True)
    record = publish_salted(world.ledger, public, salt=SALT, run=world.run, now=NOW)
    return world.ledger, public, record, world.run


def test_an_auditor_with_the_salt_is_answered_with_a_proof_either_way(published: tuple[Ledger, Ledger, dict[str, object], str]) -> None:
    private, public, _, run = published
    record = parse_json(public.get_object(public.entries()[0][2].object))
    for text in [*TEXTS, "never seen", "nor this"]:
        answer = answer_challenge(private, salt=SALT, run=run, document=digest(text))
        assert check_answer(record, answer, salt=SALT, document=digest(text)) is (text in TEXTS)


def test_an_answer_about_one_text_proves_nothing_about_another(published: tuple[Ledger, Ledger, dict[str, object], str]) -> None:
    private, _, record, run = published
    present = answer_challenge(private, salt=SALT, run=run, document=digest(TEXTS[0]))
    absent = answer_challenge(private, salt=SALT, run=run, document=digest("never seen"))
    assert check_answer(record, present, salt=SALT, document=digest("never seen")) is None
    assert all(check_answer(record, absent, salt=SALT, document=digest(text)) is None for text in TEXTS)


def test_an_answer_under_another_salt_than_the_committed_one_proves_nothing(
    published: tuple[Ledger, Ledger, dict[str, object], str],
) -> None:
    private, _, record, run = published
    answer = answer_challenge(private, salt=OTHER, run=run, document=digest(TEXTS[0]))
    assert check_answer(record, answer, salt=OTHER, document=digest(TEXTS[0])) is None


def test_the_published_ledger_holds_no_digest_of_the_private_one(published: tuple[Ledger, Ledger, dict[str, object], str]) -> None:
    _, public, _, _ = published
    everything = b"".join(public.store.get(path) for path, _ in public.store.list(""))
    assert len(everything) < 2000
    for text in TEXTS:
        assert digest(text) not in everything and digest(text).hex().encode() not in everything


def test_what_an_absence_shows_are_salted_neighbours(published: tuple[Ledger, Ledger, dict[str, object], str]) -> None:
    private, _, _, run = published
    gap = answer_challenge(private, salt=SALT, run=run, document=digest("never seen"))["gap"]
    salted = {hmac.digest(SALT, digest(text), "sha256") for text in TEXTS}
    assert gap.left[32:64] in salted and gap.right[:32] in salted
    assert not any(digest(text) in gap.left + gap.right for text in TEXTS)


def test_a_short_salt_is_refused(published: tuple[Ledger, Ledger, dict[str, object], str]) -> None:
    private, public, _, run = published
    with pytest.raises(UsageError):
        publish_salted(private, public, salt=b"short", run=run, now=NOW)


# The command


def export(folder: Path, capsys: pytest.CaptureFixture[str], *more: object, code: int = 0) -> dict[str, Any]:
    """`forebear export-salted` from the ledger `private` in a folder."""
    app = typer.Typer()
    register(app, ledger_url=lambda own: own or "ledger")
    with pytest.raises(SystemExit) as ended:
        run_app(app, ["export-salted", *map(str, more), "--ledger", str(folder / "private"), "--json"])
    out = capsys.readouterr().out
    assert ended.value.code == code, out
    answer: dict[str, Any] = json.loads(out)
    return answer


def test_the_salt_that_the_command_writes_serves_an_auditor_under_the_head_it_gives(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    world = make_ledger(tmp_path / "private")
    answer = export(tmp_path, capsys, tmp_path / "public", "--salt", tmp_path / "salt")
    public, salt = Ledger.open(tmp_path / "public"), (tmp_path / "salt").read_bytes()
    assert (tmp_path / "salt").stat().st_mode & 0o777 == 0o600
    assert public.head().to_json() == answer["head"] and verify(public).ok
    record = parse_json(public.get_object(public.entries()[0][2].object))
    assert record == answer["record"]
    assert not any(salt in public.store.get(path) or salt.hex().encode() in public.store.get(path) for path, _ in public.store.list(""))
    for text in [TEXTS[0], "never seen"]:
        said = answer_challenge(world.ledger, salt=salt, run=world.run, document=digest(text))
        assert check_answer(record, said, salt=salt, document=digest(text)) is (text in TEXTS)


def test_a_second_run_is_published_under_the_same_salt_and_no_other(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    world = make_ledger(tmp_path / "private")
    first = export(tmp_path, capsys, tmp_path / "public", "--salt", tmp_path / "salt")
    add_run(world.ledger, shards={"c": [Document("a third shard")]})
    (tmp_path / "other").write_bytes(OTHER)
    refused = export(tmp_path, capsys, tmp_path / "public", "--salt", tmp_path / "other", code=2)
    assert refused["error"]["kind"] == "another_salt"
    second = export(tmp_path, capsys, tmp_path / "public", "--salt", tmp_path / "salt")
    assert (first["head"]["size"], second["head"]["size"]) == (1, 2)
    assert first["record"]["salt"] == second["record"]["salt"] and first["record"]["run"] != second["record"]["run"]


WRONG = {
    "a salt inside what is published": ("public", "public/salt", "salt_published"),
    "a salt of something else for a new ledger": ("public", "taken", "file_exists"),
    "the private ledger as the published one": ("private", "salt", "not_a_salted_ledger"),
}


@pytest.mark.parametrize("what", WRONG)
def test_the_command_refuses(tmp_path: Path, capsys: pytest.CaptureFixture[str], what: str) -> None:
    make_ledger(tmp_path / "private")
    (tmp_path / "taken").write_bytes(OTHER)
    before = sorted(tmp_path.rglob("*"))
    folder, salt, kind = WRONG[what]
    assert export(tmp_path, capsys, tmp_path / folder, "--salt", tmp_path / salt, code=2)["error"]["kind"] == kind
    assert sorted(tmp_path.rglob("*")) == before
