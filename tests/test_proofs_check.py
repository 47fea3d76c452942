"""Proofs of a ledger: each kind holds from a key or a remembered head alone, none survives a change, and none fails to say no."""

from __future__ import annotations

import base64
import copy
import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from world import DEFAULT, TIME, Document, add_record, add_run, make_ledger

from forebear.schemas.digests import digest_name, sha256_name
from forebear.schemas.enums import EntryKind
from forebear.schemas.errors import UsageError
from forebear.schemas.records import Entry, Head
from forebear.tracer.ledger.keys import PrivateKey
from forebear.tracer.ledger.ledger import Ledger
from forebear.tracer.ledger.notes import sign_head
from forebear.tracer.ledger.proof_check import check_proof, row_fields
from forebear.tracer.ledger.proofs import prove, prove_consistency, prove_fork
from forebear.tracer.ledger.run_facts import run_absence_root, run_facts
from forebear.tracer.ledger.verify import verify

KEY, OTHER = PrivateKey(bytes(32)), PrivateKey(b"\x01" * 32)
KEPT = digest_name(hashlib.sha256(DEFAULT["a"][0].text.encode()).digest())  # type: ignore[union-attr]
ABSENT = sha256_name(b"never seen")


@dataclass(frozen=True)
class Proved:
    """A ledger, and its key's proofs as bytes by name."""

    ledger: Ledger
    proofs: dict[str, bytes]


def run_with_tree(ledger: Ledger, *, facts: bool = True, **options: Any) -> str:
    """A run whose manifest has the root of its documents; its entry has the facts of proofs, or none."""
    draft = add_run(Ledger.open(Path(ledger.store.url + "-draft"), create=True), **options)
    root = digest_name(run_absence_root(draft.ledger, draft.manifest))
    if not facts:
        return add_run(ledger, **options, manifest={"absence_root": root}).run
    run = add_run(Ledger.open(Path(ledger.store.url + "-again"), create=True), **options, manifest={"absence_root": root})
    for path, _ in run.ledger.store.list("objects"):
        ledger.put_object(run.ledger.store.get(path))
    ledger.append(Entry(EntryKind.RUN, run.run, TIME, run_facts(run.manifest)))
    return run.run


@pytest.fixture(scope="module")
def proved(tmp_path_factory: pytest.TempPathFactory) -> Proved:
    folder = tmp_path_factory.mktemp("proofs")
    ledger = Ledger.open(folder / "l", create=True)
    record = add_record(ledger, {"a": 1})
    run = run_with_tree(ledger, shards=DEFAULT, packs=2)
    add_record(ledger, {"b": 2})
    ledger = Ledger(ledger.store, signer=KEY)
    ledger.sign_head()
    pack = ledger.manifest(run).log[0].object
    made = {
        "a kept document": prove(ledger, KEPT),
        "an absent document": prove(ledger, ABSENT),
        "a record": prove(ledger, record),
        "a run": prove(ledger, run),
        "a log pack": prove(ledger, pack),
        "an older head": prove_consistency(ledger, 2),
    }
    return Proved(ledger, {name: json.dumps(proof).encode() for name, proof in made.items()})


PROOFS = ("a kept document", "an absent document", "a record", "a run", "a log pack", "an older head")


@pytest.mark.parametrize("what", PROOFS)
def test_a_proof_holds_by_the_key_and_by_the_head(proved: Proved, what: str) -> None:
    for trust in ({"key": KEY.public}, {"head": proved.ledger.head()}):
        report = check_proof(proved.proofs[what], **trust)  # type: ignore[arg-type]
        assert (report.ok, report.authentic, report.exit_code, report.wrong) == (True, True, 0, ())


@pytest.mark.parametrize("what", PROOFS)
def test_a_proof_alone_proves_nothing(proved: Proved, what: str) -> None:
    report = check_proof(proved.proofs[what])
    assert (report.ok, report.authentic, report.exit_code) == (True, None, 2)


@pytest.mark.parametrize("what", PROOFS)
def test_another_key_or_head_disowns_a_proof(proved: Proved, what: str) -> None:
    for trust in ({"key": OTHER.public}, {"head": Head(3, bytes(32))}, {"head": proved.ledger.at(1).head()}):
        report = check_proof(proved.proofs[what], **trust)  # type: ignore[arg-type]
        assert (report.authentic, report.exit_code) == (False, 1)


@pytest.mark.parametrize("what", PROOFS)
def test_a_proof_is_small(proved: Proved, what: str) -> None:
    assert len(proved.proofs[what]) < 8000


def test_a_decision_is_told_with_its_row(proved: Proved) -> None:
    claims = check_proof(proved.proofs["a kept document"], key=KEY.public).claims
    assert claims["decision"]["action"] == "keep"
    assert claims["decision"]["source_id"] == "a0"


def test_a_removed_document_names_its_keeper(proved: Proved) -> None:
    removed = sha256_name(DEFAULT["b"][1].text.encode())  # type: ignore[union-attr]
    fields = check_proof(json.dumps(prove(proved.ledger, removed)).encode(), key=KEY.public).claims["decision"]
    assert (fields["action"], f"sha256:{fields['keeper_document']}") == ("drop", KEPT)


def test_every_document_has_a_proof_and_no_gap_is_one_for_it(proved: Proved) -> None:
    absent = json.loads(proved.proofs["an absent document"])
    for document in {one.text for rows in DEFAULT.values() for one in rows if one.text is not None}:
        subject = sha256_name(document.encode())
        assert check_proof(json.dumps(prove(proved.ledger, subject)).encode(), key=KEY.public).ok
        assert not check_proof(json.dumps({**absent, "subject": subject}).encode(), key=KEY.public).ok


def test_a_run_without_facts_in_its_entry_is_proved_by_its_manifest(tmp_path: Path) -> None:
    ledger = Ledger.open(tmp_path / "l", create=True)
    run = run_with_tree(ledger, facts=False, shards=DEFAULT)
    for subject in (KEPT, ABSENT, ledger.manifest(run).flagged.object):
        proof = prove(ledger, subject)
        assert sha256_name(proof["manifest"].encode()) == run
        assert check_proof(json.dumps(proof).encode(), head=ledger.head()).exit_code == 0


def test_a_run_without_a_tree_proves_decisions_and_no_absence(tmp_path: Path) -> None:
    ledger = make_ledger(tmp_path / "l").ledger
    assert check_proof(json.dumps(prove(ledger, KEPT)).encode(), head=ledger.head()).ok
    with pytest.raises(UsageError) as caught:
        prove(ledger, ABSENT)
    assert caught.value.kind == "no_absence_tree"


def test_a_row_of_a_later_aligned_range_is_proved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ranges of 4 rows instead of 2^20: 11 rows make three, the last of them short."""
    from forebear.tracer.ledger import parts, proofs

    monkeypatch.setattr(parts, "RANGE_ROWS", 4)
    monkeypatch.setattr(proofs, "RANGE_ROWS", 4)
    ledger = Ledger.open(tmp_path / "l", create=True)
    rows = [Document(f"document {n}", {"toxicity": n}) for n in range(11)]
    run_with_tree(ledger, shards={"a": rows})
    for n in range(11):
        proof = prove(ledger, sha256_name(f"document {n}".encode()))
        report = check_proof(json.dumps(proof).encode(), head=ledger.head())
        assert report.exit_code == 0, report.wrong
        assert report.claims["decision"]["row"] == str(n)


def test_a_document_of_an_older_run_is_found_and_a_run_may_be_chosen(tmp_path: Path) -> None:
    ledger = Ledger.open(tmp_path / "l", create=True)
    first = run_with_tree(ledger, shards={"a": [Document("one")]})
    second = run_with_tree(Ledger.open(tmp_path / "l"), shards={"b": [Document("two")]})
    ledger = Ledger.open(tmp_path / "l")
    one = sha256_name(b"one")
    assert check_proof(json.dumps(prove(ledger, one)).encode()).claims["run"] == first
    absent = check_proof(json.dumps(prove(ledger, one, run=second)).encode())
    assert (absent.kind, absent.claims["run"]) == ("absence", second)


def test_verify_finds_facts_and_trees_that_are_not_the_run_s(tmp_path: Path) -> None:
    ledger = Ledger.open(tmp_path / "l", create=True)
    run = run_with_tree(ledger, shards=DEFAULT)
    assert verify(ledger, level="full").findings == ()
    ledger.append(Entry(EntryKind.RUN, run, TIME, {**run_facts(ledger.manifest(run)), "run_digest": ABSENT}))
    assert [one.kind for one in verify(ledger, level="quick").findings] == ["facts_mismatch"]
    wrong = make_ledger(tmp_path / "w", manifest={"absence_root": ABSENT}).ledger
    assert [one.kind for one in verify(wrong, level="full").findings] == ["absence_root_mismatch"]


def test_a_fork_is_proved_by_two_signed_heads(tmp_path: Path) -> None:
    histories = []
    for name in "ab":
        ledger = Ledger(Ledger.open(tmp_path / name, create=True).store, signer=KEY)
        add_record(ledger, {"first": 1})
        add_record(ledger, {"name": name})
        histories.append(ledger)
    mine, theirs = histories
    remembered = theirs.stored_note()
    assert remembered is not None
    add_record(mine, {"third": 3})
    proof = prove_fork(mine, remembered)
    assert check_proof(json.dumps(proof).encode(), key=KEY.public).exit_code == 0
    unsigned = {**(proof or {}), "remembered": theirs.head().to_bytes().decode()}
    assert check_proof(json.dumps(unsigned).encode(), key=KEY.public).exit_code == 1
    assert prove_fork(mine, mine.stored_note() or b"") is None


def leaves_of(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    if isinstance(value, dict | list):
        for name, inner in value.items() if isinstance(value, dict) else enumerate(value):
            yield from leaves_of(inner, (*path, name))
    else:
        yield path


def changed(value: Any, path: tuple[Any, ...], to: Any) -> Any:
    value = copy.deepcopy(value)
    inner = value
    for name in path[:-1]:
        inner = inner[name]
    inner[path[-1]] = to(inner[path[-1]])
    return value


def flipped(value: Any) -> Any:
    if isinstance(value, int):
        return value + 1
    if not isinstance(value, str):
        return "x"
    try:
        raw = bytearray(base64.b64decode(value, validate=True))
        raw[0] ^= 1
        return base64.b64encode(bytes(raw)).decode()
    except (ValueError, IndexError):
        return value[:-1] + ("0" if value[-1:] != "0" else "1")


INERT = {"other_runs"}  # for people
FREE = {("listed", "size"), ("run", "size")}
"""Sizes of inner trees: they give a path its shape, and another of the same shape claims nothing else."""


@pytest.mark.parametrize("what", PROOFS)
def test_every_part_of_a_proof_matters(proved: Proved, what: str) -> None:
    proof = json.loads(proved.proofs[what])
    survived = [
        path
        for path in leaves_of(proof)
        if path[0] not in INERT
        and path not in FREE
        and check_proof(json.dumps(changed(proof, path, flipped)).encode(), key=KEY.public).exit_code == 0
    ]
    # The neighbour of an absent digest is absent too, and its gap is the same.
    assert survived == ([("subject",)] if what == "an absent document" else [])


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=12),
    lambda x: st.lists(x, max_size=4) | st.dictionaries(st.text(max_size=8), x, max_size=4),
)


@settings(max_examples=300)
@given(data=st.data())
def test_whatever_stands_in_a_field_is_answered(proved: Proved, data: st.DataObject) -> None:
    proof = json.loads(proved.proofs[data.draw(st.sampled_from(PROOFS))])
    path = data.draw(st.sampled_from(sorted(leaves_of(proof), key=str)))
    cut = path[: data.draw(st.integers(1, len(path)))]
    value = data.draw(JSON)
    report = check_proof(json.dumps(changed(proof, cut, lambda _: value)).encode(), key=KEY.public)
    assert report.exit_code in {0, 1}
    assert (
        report.exit_code == 1
        or cut[0] in INERT
        or cut in FREE
        or changed(proof, cut, lambda _: value) == proof
        or proof["kind"] == "absence"
    )


@given(st.binary(max_size=400))
def test_whatever_bytes_come_are_answered(data: bytes) -> None:
    assert check_proof(data).exit_code == 1


BOMBS = {
    "deep lists": b"[" * 200_000,
    "deep objects": b'{"a":' * 100_000,
    "a huge number": b'{"schema":"forebear/proof/1","kind":"object","entry":' + b"9" * 100_000 + b"}",
    "many keys": b'{"schema":"forebear/proof/1",' + b",".join(b'"%d":1' % n for n in range(100_000)) + b"}",
    "more bytes than any proof has": b" " * (17 << 20),
}


@pytest.mark.parametrize("what", BOMBS)
def test_a_bomb_is_no_proof(what: str) -> None:
    assert check_proof(BOMBS[what], key=KEY.public).exit_code == 1


@given(st.text(max_size=60))
def test_a_row_text_is_sixteen_netstrings_or_refused(text: str) -> None:
    from forebear.tracer.ledger.proof_check import _Invalid

    try:
        fields = row_fields(text)
    except (_Invalid, ValueError):
        return
    assert "".join("~," if one is None else f"{len(one.encode())}:{one}," for one in fields.values()) == text


def test_a_note_over_another_size_is_not_taken_for_the_head_of_a_proof(proved: Proved) -> None:
    older = proved.ledger.at(2)
    proof = prove(older, KEPT)
    assert Head.from_bytes(proof["note"].encode()) == older.head()
    assert check_proof(json.dumps(proof).encode(), head=older.head()).exit_code == 0
    signed = {**proof, "note": sign_head(older.head(), KEY).decode()}
    assert check_proof(json.dumps(signed).encode(), key=KEY.public).exit_code == 0
