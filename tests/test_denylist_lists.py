"""Known-bad lists: what each kind finds, what is said of it, and which lists are refused."""

from __future__ import annotations

import hashlib
import json
import random
from fractions import Fraction
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from real_texts import topics
from scanning import NO_TOXICITY, log_rows, policy_of, scan, write_jsonl

from forebear.schemas.advisory import Advisory
from forebear.schemas.errors import IntegrityError, UsageError
from forebear.schemas.tables import DIGEST
from forebear.tracer.audit.publish import publish
from forebear.tracer.audit.session import Session
from forebear.tracer.dedupe.shingles import ShingleOptions, shingle_hashes
from forebear.tracer.detect.denylist_near import build_near_index, find_near
from forebear.tracer.detect.denylists import Denylist, Likeness, host_of
from forebear.tracer.detect.detector import GRID, Detector
from forebear.tracer.detect.row_detector import Rows, rows_of
from forebear.tracer.ledger.ledger import Ledger

TEXTS = [text for text in topics() if len(text) > 1500][:40]


def digest(text: str) -> str:
    return "sha256:" + hashlib.sha256(text.encode()).hexdigest()


def said(detector: Denylist, rows: Rows) -> list[tuple[int, str, int, dict]]:
    """(position, label, score, entry) of all findings."""
    found = detector.score_rows(rows, {})
    items = [json.loads(item) for item in found.item]
    return list(zip(found.index.tolist(), found.labels(), found.score.tolist(), items, strict=True))


def rows(ids: list[str | None], sources: list[str | None] | None = None) -> Rows:
    nothing = pa.nulls(len(ids), pa.large_string())
    names = pa.array(sources or [None] * len(ids), pa.string())
    return Rows(nothing, pa.nulls(len(ids), DIGEST), pa.array(ids, pa.string()), names)


def listed(folder, entries, kind, **rest) -> Denylist:
    return Denylist(str(write_jsonl(folder / "list.jsonl", entries)), kind, **rest)


def test_a_listed_text_is_found_exact_and_near(tmp_path):
    words = TEXTS[0].split()
    near = " ".join(words[:-6]).upper()
    detector = listed(tmp_path, [{"text": TEXTS[0]}], "text", reason="withdrawn", authority="acme legal")
    found = said(detector, rows_of(pa.array([TEXTS[0], near, TEXTS[1], None, ""])))
    assert [hit[:2] for hit in found] == [(0, "exact"), (1, "near")]
    assert found[0][2:] == (GRID, {"authority": "acme legal", "entry": digest(TEXTS[0]), "reason": "withdrawn"})
    a, b = set(shingle_hashes(near)), set(shingle_hashes(TEXTS[0]))
    measured = (found[1][3]["intersection"], found[1][3]["union"])
    assert measured == (len(a & b), len(a | b))
    assert found[1][2] == -(-measured[0] * GRID // measured[1])


def test_the_text_of_a_listed_document_is_not_in_the_evidence(tmp_path):
    detector = listed(tmp_path, [{"text": TEXTS[0]}], "text")
    assert TEXTS[0][:40] not in json.dumps([hit[3] for hit in said(detector, rows_of(pa.array([TEXTS[0]])))])


SMALL = st.lists(st.sampled_from("abcdefgh"), max_size=30).map(" ".join)


@settings(max_examples=150, deadline=None)
@given(st.lists(SMALL, min_size=1, max_size=6), st.lists(SMALL, max_size=6), st.sampled_from(["1/2", "4/5", "9/10", "1"]))
def test_near_copies_are_those_that_brute_force_finds(entries, documents, jaccard):
    limit = Fraction(jaccard)
    index = build_near_index(pa.array(entries, pa.large_string()), ShingleOptions(3, 3), jaccard=limit)
    found = {tuple(row) for row in find_near(pa.array(documents, pa.large_string()), index).tolist()}
    want = set()
    for n, document in enumerate(documents):
        for e, entry in enumerate(entries):
            a, b = (set(shingle_hashes(text, ShingleOptions(3, 3))) for text in (document, entry))
            if a and b and Fraction(len(a & b), len(a | b)) >= limit:
                want.add((n, e, len(a & b), len(a | b)))
    assert found == want


def test_a_copy_that_lacks_the_first_shingles_of_the_index_is_found_by_the_last():
    words = sorted((f"word{n}" for n in range(10)), key=lambda word: shingle_hashes(word, ShingleOptions(1, 1)))
    listed_text, copy = " ".join(words), " ".join(words[2:])
    index = build_near_index(pa.array([listed_text], pa.large_string()), ShingleOptions(1, 1), jaccard=Fraction(4, 5))
    assert find_near(pa.array([copy], pa.large_string()), index).tolist() == [[0, 0, 8, 10]]


def test_edited_copies_of_real_texts_are_those_that_brute_force_finds():
    rng = random.Random(5)
    documents = []
    for text in TEXTS:
        words = text.split()
        for _ in range(rng.randrange(60)):
            words[rng.randrange(len(words))] = "other"
        documents.append(" ".join(words))
    index = build_near_index(pa.array(TEXTS, pa.large_string()), ShingleOptions(), jaccard=Fraction(4, 5))
    found = {tuple(row[:2]) for row in find_near(pa.array(documents, pa.large_string()), index).tolist()}
    sets = [(set(shingle_hashes(text)), set(shingle_hashes(document))) for text, document in zip(TEXTS, documents, strict=True)]
    want = {(n, n) for n, (a, b) in enumerate(sets) if len(a & b) * 5 >= len(a | b) * 4}
    assert found == want
    assert 5 < len(want) < len(TEXTS)


def test_documents_are_listed_by_digest(tmp_path):
    detector = listed(tmp_path, [{"document": digest(TEXTS[2])}, {"document": digest("x")[7:]}], "document")
    found = said(detector, rows_of(pa.array([TEXTS[0], TEXTS[2], "x"])))
    assert [(n, label, item["entry"]) for n, label, _, item in found] == [
        (1, "document", digest(TEXTS[2])),
        (2, "document", digest("x")),
    ]


def test_ids_are_listed_as_they_stand(tmp_path):
    detector = listed(tmp_path, [{"id": "a-1"}, {"id": "A-2"}], "id")
    assert [hit[0] for hit in said(detector, rows(["a-1", "a-2", None, "A-2", "a-11"]))] == [0, 3]


DOMAINS = {
    "the domain itself": ("https://bad.example/page?x=1", True),
    "a domain under it": ("http://user@www.sub.bad.example:8080/", True),
    "without a scheme": ("bad.example/page", True),
    "in capitals": ("HTTPS://BAD.Example./", True),
    "another that ends alike": ("https://notbad.example/", False),
    "one above it": ("https://example/", False),
    "a path that holds it": ("https://good.example/bad.example", False),
    "an id that is no URL": ("row-17", False),
    "an international name": ("https://bücher.example/", True),
}


@pytest.mark.parametrize("what", DOMAINS)
def test_a_listed_domain_covers_what_lies_under_it(what, tmp_path):
    url, met = DOMAINS[what]
    detector = listed(tmp_path, [{"domain": "bad.example"}, {"domain": "https://xn--bcher-kva.example/"}], "domain")
    assert [hit[0] for hit in said(detector, rows([None, url]))] == ([1] if met else [])


def test_the_source_tells_the_domain_where_the_id_is_no_url(tmp_path):
    detector = listed(tmp_path, [{"domain": "bad.example"}], "domain")
    assert [hit[0] for hit in said(detector, rows(["7", "8", None], ["www.bad.example", "good.example", None]))] == [0]
    assert host_of("no host here") is None


def test_an_entry_has_its_own_reason_and_authority(tmp_path):
    entries = [{"id": "a", "reason": "opt-out", "authority": "author"}, {"id": "b"}]
    detector = listed(tmp_path, entries, "id", reason="withdrawn", authority="legal")
    assert [(hit[3]["reason"], hit[3]["authority"]) for hit in said(detector, rows(["a", "b"]))] == [
        ("opt-out", "author"),
        ("withdrawn", "legal"),
    ]


def test_parquet_and_text_files_are_lists_too(tmp_path):
    pq.write_table(pa.table({"id": ["a", "b"], "note": ["x", "y"]}), tmp_path / "l.parquet")
    (tmp_path / "l.txt").write_text("a\n\nb\n")
    for name in ("l.parquet", "l.txt"):
        detector = Denylist(str(tmp_path / name), "id")
        assert isinstance(detector, Detector)
        assert [hit[0] for hit in said(detector, rows(["a", "b", "c"]))] == [0, 1]


def test_the_digest_follows_content_and_likeness_not_the_path(tmp_path):
    one = listed(tmp_path / "a", [{"text": TEXTS[0]}], "text")
    assert one.digest == listed(tmp_path / "b", [{"text": TEXTS[0]}], "text").digest
    other = listed(tmp_path / "c", [{"text": TEXTS[0]}], "text", likeness=Likeness(Fraction(9, 10)))
    assert len({one.digest, other.digest, listed(tmp_path / "d", [{"text": TEXTS[1]}], "text").digest}) == 3


WRONG = {
    "an empty list": ("empty_denylist", "id", "list.txt", "\n\n"),
    "a list without the field": ("missing_field", "id", "list.jsonl", '{"name": "a"}\n'),
    "an entry without its value": ("missing_field", "text", "list.jsonl", '{"text": "a b"}\n{"text": null}\n'),
    "a digest that is none": ("not_an_entry", "document", "list.txt", "sha256:12\n"),
    "a domain that is none": ("not_an_entry", "domain", "list.txt", "nothing here\n"),
    "a file of an unknown kind": ("unknown_format", "id", "list.xyz", "a\n"),
    "bytes that are no text": ("unreadable_list", "id", "list.txt", b"\xff\xfe\x00"),
}


@pytest.mark.parametrize("what", WRONG)
def test_this_list_is_wrong_use(what, tmp_path):
    kind, holds, name, content = WRONG[what]
    (tmp_path / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(UsageError) as raised:
        Denylist(str(tmp_path / name), holds)
    assert raised.value.kind == kind


def test_a_scan_drops_what_is_listed_and_says_why(tmp_path):
    (tmp_path / "texts.txt").write_text(" ".join(TEXTS[3].split()) + "\n")
    (tmp_path / "domains.txt").write_text("bad.example\n")
    policy = policy_of(
        tmp_path,
        f'{NO_TOXICITY}[[denylists]]\npath = "texts.txt"\nreason = "withdrawn"\nauthority = "acme legal, 2026-10-01"\n'
        '[[denylists]]\npath = "domains.txt"\nkind = "domain"\naction = "flag"\n',
    )
    documents = {
        "near": TEXTS[3] + " and a few words more",
        "far": " ".join(TEXTS[3].split()[: len(TEXTS[3].split()) // 2]),
        "https://www.bad.example/1": TEXTS[5],
        "https://good.example/": TEXTS[6],
    }
    write_jsonl(tmp_path / "in" / "0.jsonl", [{"id": name, "text": text} for name, text in documents.items()])
    found = {row["source_id"]: row for row in log_rows(tmp_path / "l", scan(tmp_path / "l", [tmp_path / "in"], policy=policy))}
    assert {name: (row["action"], row["reasons"]) for name, row in found.items()} == {
        "near": ("drop", ["denylisted"]),
        "far": ("keep", []),
        "https://www.bad.example/1": ("keep", ["denylisted"]),
        "https://good.example/": ("keep", []),
    }
    assert json.loads(found["near"]["evidence"][0]["item"])["authority"] == "acme legal, 2026-10-01"


# Advisories

TIME = "2026-11-02T00:00:00.000000Z"


def advisory(folder, **named) -> str:
    """An advisory as an object of a ledger lies."""
    data = Advisory("withdrawn", "acme legal", TIME, **named).to_bytes()
    name = hashlib.sha256(data).hexdigest()
    path = folder / "objects" / "sha256" / name[:2] / name
    path.parent.mkdir(parents=True)
    path.write_bytes(data)
    return str(path)


@pytest.mark.parametrize("kind", ["text", "document", "id", "domain"])
def test_an_advisory_lists_its_documents_whatever_kind_is_written(kind, tmp_path):
    detector = Denylist(advisory(tmp_path, documents=(digest("x"), digest("y"))), kind)
    found = said(detector, rows_of(pa.array([TEXTS[0], "x", None, "y"])))
    assert [(n, label, item["entry"]) for n, label, _, item in found] == [(1, "document", digest("x")), (3, "document", digest("y"))]
    assert (detector.name, detector.kind, len(detector)) == ("denylist/document", "document", 2)


def test_an_advisory_is_one_detector_whatever_kind_is_written(tmp_path):
    path = advisory(tmp_path, documents=(digest("x"),))
    assert Denylist(path).digest == Denylist(path, "document").digest != Denylist(path, reason="ours").digest


def test_the_policys_words_go_before_an_advisorys(tmp_path):
    path = advisory(tmp_path, documents=(digest("x"),))
    items = [said(Denylist(path, **words), rows_of(pa.array(["x"])))[0][3] for words in ({}, {"reason": "ours"}, {"authority": "us"})]
    assert [(item["reason"], item["authority"]) for item in items] == [
        ("withdrawn", "acme legal"),
        ("ours", "acme legal"),
        ("withdrawn", "us"),
    ]


def test_an_advisory_without_documents_is_wrong_use(tmp_path):
    with pytest.raises(UsageError) as raised:
        Denylist(advisory(tmp_path, shards=(digest("s"),), models=("name:a", "name:b")))
    assert (raised.value.kind, raised.value.found) == ("empty_denylist", "models: 2, shards: 1")


DAMAGED = {
    "another document than was published": ("object_mismatch", lambda data: data.replace(digest("x").encode(), digest("y").encode())),
    "cut short": ("object_mismatch", lambda data: data[:-30]),
}


@pytest.mark.parametrize("what", DAMAGED)
def test_a_damaged_object_is_no_list(what, tmp_path):
    kind, damage = DAMAGED[what]
    path = advisory(tmp_path, documents=(digest("x"),))
    Path(path).write_bytes(damage(Path(path).read_bytes()))
    with pytest.raises(IntegrityError) as raised:
        Denylist(path)
    assert raised.value.kind == kind


def test_a_copied_advisory_is_a_list_under_any_name_and_an_edited_one_is_not(tmp_path):
    data = Advisory("withdrawn", "acme legal", TIME, documents=(digest("x"),)).to_bytes()
    (tmp_path / "copy.json").write_bytes(data)
    (tmp_path / "edited.json").write_bytes(data.replace(b'","', b'", "'))
    assert len(said(Denylist(str(tmp_path / "copy.json")), rows_of(pa.array(["x"])))) == 1
    with pytest.raises(IntegrityError, match="canonical"):
        Denylist(str(tmp_path / "edited.json"))


def test_a_text_that_quotes_an_advisory_is_a_text(tmp_path):
    quoted = Advisory("withdrawn", "acme legal", TIME, documents=(digest("x"),)).to_bytes().decode()
    detector = listed(tmp_path, [{"text": quoted}], "text")
    assert [hit[:2] for hit in said(detector, rows_of(pa.array([quoted, "x"])))] == [(0, "exact")]


def test_a_published_advisory_keeps_its_documents_out_of_the_next_scan(tmp_path):
    write_jsonl(tmp_path / "in" / "0.jsonl", [{"id": str(n), "text": TEXTS[n]} for n in range(3)])
    scan(tmp_path / "l", [tmp_path / "in"], policy=policy_of(tmp_path, NO_TOXICITY))
    ledger = Ledger.open(str(tmp_path / "l"))
    words = {"reason": "withdrawn by its author", "authority": "acme legal", "time": TIME}
    name = publish(ledger, Session(ledger), [digest(TEXTS[1])], **words).object.removeprefix("sha256:")
    policy = policy_of(tmp_path, f'{NO_TOXICITY}[[denylists]]\npath = "l/objects/sha256/{name[:2]}/{name}"\n')
    found = log_rows(tmp_path / "l", scan(tmp_path / "l", [tmp_path / "in"], policy=policy))
    assert [(row["source_id"], row["action"], row["reasons"]) for row in found] == [
        ("0", "keep", []),
        ("1", "drop", ["denylisted"]),
        ("2", "keep", []),
    ]
    assert json.loads(found[1]["evidence"][0]["item"]) == {
        "authority": "acme legal",
        "entry": digest(TEXTS[1]),
        "reason": "withdrawn by its author",
    }
