"""Scans held against earlier runs: what those kept precedes every document, with the same evidence in the log."""

from __future__ import annotations

import hashlib
import json
import random
from fractions import Fraction

import numpy as np
import pytest
from real_texts import topics
from scanning import NO_TOXICITY, by_id, log_rows, policy_of, scan, write_jsonl
from test_scan_decisions import corpus_of, jaccard

from forebear.pipelines import cluster
from forebear.schemas.errors import UsageError
from forebear.tracer.corpus.inputs import ReaderOptions
from forebear.tracer.dedupe.clusters import Copies, Documents, decide
from forebear.tracer.dedupe.similarity import Edges
from forebear.tracer.ledger.ledger import Ledger
from forebear.tracer.ledger.parts import run_scope
from forebear.tracer.ledger.verify import verify
from forebear.tracer.scan import evidence, near, sets


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """A corpus scanned, and a second one with copies, edits and a template of the first."""
    folder = tmp_path_factory.mktemp("against")
    policy = policy_of(folder, NO_TOXICITY)
    documents = [one for one in corpus_of(topics()[:24]) if not one["id"].startswith("chain")]
    template = " ".join(f"term{n}" for n in range(250))
    documents += [{"id": f"template-{n}", "text": f"{template} entry {n}"} for n in range(70)]
    random.Random(5).shuffle(documents)
    old = [write_jsonl(folder / "old" / f"{n}.jsonl", documents[n::3]) for n in range(3)]
    first = scan(folder / "ledger", old, policy=policy)
    kept = [row["source_id"] for row in log_rows(folder / "ledger", first) if row["action"] == "keep"]
    text = {one["id"]: one["text"] for one in documents}
    real = [name for name in kept if name.startswith(("base", "edit", "copy", "case", "real"))]
    new = [{"id": f"copied-{name}", "text": text[name]} for name in real[::3]]
    new += [{"id": f"longer-{name}", "text": text[name] + " with three more words"} for name in real[1::3] if len(text[name]) > 800]
    new += [{"id": f"template-again-{n}", "text": f"{template} entry {n} once more"} for n in range(90)]
    new += [{"id": f"own-{n}", "text": " ".join(f"own{n}x{k}" for k in range(60))} for n in range(20)]
    new += [{"id": f"own-copy-{n}", "text": " ".join(f"own{n}x{k}" for k in range(60))} for n in range(5)]
    random.Random(6).shuffle(new)
    files = [write_jsonl(folder / "new" / f"{n}.jsonl", new[n::2]) for n in range(2)]
    second = scan(folder / "ledger", files, policy=policy, against=(first.committed.run,))
    return folder, policy, first, second, files, text | {one["id"]: one["text"] for one in new}


def test_copies_and_near_copies_of_what_an_earlier_run_kept_are_dropped_with_measured_evidence(world):
    folder, _, first, second, _, text = world
    before = {(row["shard"], row["row"]): row for row in log_rows(folder / "ledger", first)}
    rows = by_id(folder / "ledger", second)
    counted = {"copied": 0, "longer": 0, "template-again": 0}
    for name, row in rows.items():
        kind = name.rpartition("-")[0] if name.startswith("template") else name.partition("-")[0]
        if kind not in counted:
            continue
        keeper = before[row["keeper_shard"], row["keeper_row"]]
        assert (row["action"], keeper["action"]) == ("drop", "keep")
        assert row["keeper_document"] == keeper["document"] == hashlib.sha256(text[keeper["source_id"]].encode()).digest()
        assert (row["intersection"], row["union_size"]) == jaccard(text[name], text[keeper["source_id"]])
        assert Fraction(row["intersection"], row["union_size"]) >= Fraction(4, 5)
        assert row["reasons"] == ["exact_duplicate" if kind == "copied" else "near_duplicate"]
        assert kind == "copied" or row["bytes"] > keeper["bytes"], "an earlier run's document precedes a longer one"
        counted[kind] += 1
    assert min(counted.values()) > 10


def test_the_scan_s_own_documents_are_decided_among_themselves(world):
    folder, _, _, second, _, _ = world
    rows = by_id(folder / "ledger", second)
    pairs = [(rows[f"own-{n}"], rows[f"own-copy-{n}"]) for n in range(5)]
    assert all({a["action"], b["action"]} == {"keep", "drop"} for a, b in pairs)
    assert all(rows[f"own-{n}"]["action"] == "keep" for n in range(5, 20))


def test_the_earlier_run_is_in_the_run_digest_and_the_manifest(world):
    folder, policy, first, second, files, _ = world
    assert second.committed.manifest.against == (first.committed.manifest.run_digest,)
    assert run_scope(second.committed.manifest)["against"] == [first.committed.manifest.run_digest]
    alone = scan(folder / "ledger", files, policy=policy)
    assert alone.committed.manifest.run_digest != second.committed.manifest.run_digest
    assert alone.committed.manifest.rows["kept"] > second.committed.manifest.rows["kept"]


def test_workers_bundles_packs_and_partitions_do_not_change_its_digest(world, tmp_path, monkeypatch):
    folder, policy, first, second, files, _ = world
    expected = second.committed.manifest.run_digest
    prefix = first.committed.manifest.run_digest[:19]
    again = scan(folder / "ledger", files, policy=policy, against=(prefix, first.committed.run), workers=2)
    assert again.committed.manifest.run_digest == expected
    monkeypatch.setattr(evidence, "PACK_BYTES", 1)
    monkeypatch.setattr(cluster, "PARTITION_BYTES", 20_000)
    monkeypatch.setattr(near, "CHUNK_PAIRS", 7)
    monkeypatch.setattr(sets, "BLOCK_SHINGLES", 1000)
    scan(tmp_path / "l", sorted((folder / "old").iterdir()), policy=policy)
    fresh = scan(tmp_path / "l", files, policy=policy, against=(prefix,), beam=["--direct_runner_bundle_repeat=1"])
    assert fresh.committed.manifest.run_digest == expected


def test_verify_accepts_keepers_of_the_earlier_run(world):
    folder, *_ = world
    assert verify(Ledger.open(str(folder / "ledger")), level="full").findings == ()


def test_a_shard_that_the_earlier_run_kept_is_dropped_whole_by_its_own_rows(world, tmp_path):
    folder, policy, first, _, _, _ = world
    old = sorted((folder / "old").iterdir())[0]
    rows = by_id(folder / "ledger", scan(folder / "ledger", [old], policy=policy, against=(first.committed.run,)))
    kept = {row["source_id"]: row for row in log_rows(folder / "ledger", first) if row["action"] == "keep"}
    mine = [row for name, row in rows.items() if name in kept]
    assert mine
    assert all(row["reasons"] == ["exact_duplicate"] and row["keeper_row"] is not None for row in mine)
    assert verify(Ledger.open(str(folder / "ledger")), level="full").findings == ()


def test_sources_of_the_earlier_run_that_are_gone_leave_pairs_unmeasured_and_copies_dropped(tmp_path):
    policy = policy_of(tmp_path, NO_TOXICITY)
    text = " ".join(f"w{n}" for n in range(200))
    old = write_jsonl(tmp_path / "old.jsonl", [{"id": "a", "text": text}])
    first = scan(tmp_path / "l", [old], policy=policy)
    new = write_jsonl(tmp_path / "new.jsonl", [{"id": "copy", "text": text}, {"id": "near", "text": text + " more"}])
    old.unlink()
    second = scan(tmp_path / "l", [new], policy=policy, against=(first.committed.run,))
    rows = by_id(tmp_path / "l", second)
    assert (rows["copy"]["action"], rows["near"]["action"]) == ("drop", "keep")
    assert second.committed.manifest.environment["unmeasured"] == 1


def test_near_copies_that_two_earlier_runs_kept_both_stay_keepers(tmp_path):
    policy = policy_of(tmp_path, NO_TOXICITY)
    words = [f"w{n}" for n in range(220)]
    texts = {"a": words[0:200], "b": words[10:210], "near-b": words[20:220]}
    runs = []
    for name in ("a", "b"):
        path = write_jsonl(tmp_path / f"{name}.jsonl", [{"id": name, "text": " ".join(texts[name])}])
        runs.append(scan(tmp_path / "l", [path], policy=policy).committed.run)
    new = write_jsonl(tmp_path / "new.jsonl", [{"id": "near-b", "text": " ".join(texts["near-b"])}])
    (row,) = log_rows(tmp_path / "l", scan(tmp_path / "l", [new], policy=policy, against=tuple(runs)))
    assert row["keeper_document"] == hashlib.sha256(" ".join(texts["b"]).encode()).digest()


REFUSED = {
    "a run that is not there": (("sha256:" + "0" * 64,), NO_TOXICITY, "unknown_run"),
    "another signature": (None, NO_TOXICITY + "[duplicates]\nbands = 20\n", "other_signature"),
    "a policy that looks for no duplicates": (None, NO_TOXICITY + '[duplicates]\naction = "off"\n', "nothing_compared"),
}


@pytest.mark.parametrize("claim", REFUSED)
def test_what_cannot_be_compared_is_refused_before_anything_is_read(world, tmp_path, claim):
    folder, _, first, _, files, _ = world
    runs, toml, kind = REFUSED[claim]
    before = sorted(str(path) for path in (folder / "ledger").rglob("*"))
    with pytest.raises(UsageError) as caught:
        scan(folder / "ledger", files, policy=policy_of(tmp_path, toml), against=runs or (first.committed.run,))
    assert caught.value.kind == kind
    assert sorted(str(path) for path in (folder / "ledger").rglob("*")) == before
    assert json.dumps(caught.value.to_json())


def test_a_document_that_an_earlier_run_kept_is_never_removed():
    facts = Documents(
        number=np.arange(3, dtype="u8"),
        rank=np.array([-1, -1, 0]),
        bytes=np.array([30, 20, 40]),
        digest=np.arange(12, dtype="u8").reshape(3, 4),
        shard=np.zeros(3, "i8"),
        row=np.arange(3),
        survives=np.ones(3, bool),
        shingles=np.array([-1, -1, 100]),
    )
    edges = Edges(np.array([0, 1], "u8"), np.array([1, 2], "u8"), np.array([95, 90]), np.array([100, 100]))
    none = np.zeros(0, "u8")
    assert decide(facts, edges, Copies(none, none)).keeper.tolist() == [-1, -1, 1]


def test_earlier_texts_that_read_otherwise_than_they_were_logged_are_not_measured(tmp_path, monkeypatch):
    policy = policy_of(tmp_path, NO_TOXICITY)
    text = " ".join(f"w{n}" for n in range(200))
    first = scan(tmp_path / "l", [write_jsonl(tmp_path / "old.jsonl", [{"id": text + " other", "text": text}])], policy=policy)
    new = write_jsonl(tmp_path / "new.jsonl", [{"id": "near", "text": text + " more"}])
    monkeypatch.setattr("forebear.pipelines.cluster.earlier_reader", lambda run, ledger: ReaderOptions(text_field="id"))
    second = scan(tmp_path / "l", [new], policy=policy, against=(first.committed.run,))
    assert second.committed.manifest.rows["kept"] == 1
    assert second.committed.manifest.environment["unmeasured"] == 1
