"""Commitments without disclosure: a published head tells nothing, and an auditor with the salt gets a proof either way."""

from __future__ import annotations

import hashlib
import hmac
from datetime import UTC, datetime
from pathlib import Path

import pytest
from world import DEFAULT, make_ledger

from forebear.schemas.canonical import parse_json
from forebear.schemas.errors import UsageError
from forebear.tracer.ledger.ledger import Ledger
from forebear.tracer.ledger.salted import answer_challenge, check_answer, publish_salted

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
