"""One run digest: whatever the order, place, workers, bundles, packs, partitions, or what an earlier run left."""

from __future__ import annotations

import json
import random
import shutil

import pytest
from real_texts import topics
from scanning import log_rows, policy_of, scan, shard_rows, write_jsonl
from test_scan_decisions import BAD, corpus_of

from forebear.pipelines import cluster
from forebear.schemas.canonical import row_leaves
from forebear.schemas.digests import digest_name, merkle_root
from forebear.schemas.records import run_digest_leaves
from forebear.schemas.tables import LOG
from forebear.tracer.ledger.ledger import Ledger
from forebear.tracer.ledger.parts import run_scope
from forebear.tracer.scan import evidence, near


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """Four shards with copies and near copies across them, toxic rows, bad rows and a large bucket; and their digest."""
    folder = tmp_path_factory.mktemp("world")
    documents = corpus_of(topics()[:30])
    documents += [{"id": f"bad-{n}", "text": f"{BAD} {n}"} for n in range(5)]
    template = " ".join(f"term{n}" for n in range(250))
    documents += [{"id": f"template-{n}", "text": f"{template} entry {n}"} for n in range(80)]
    random.Random(5).shuffle(documents)
    files = [write_jsonl(folder / "in" / f"{n}.jsonl", documents[n::4]) for n in range(4)]
    with files[2].open("ab") as file:
        file.write(b'{"id": "cut", "text": "no end\n[1]\n\xff\xfe\n')
    done = scan(folder / "ledger", files)
    manifest = done.committed.manifest
    assert manifest.rows["errored"] == 3
    assert min(manifest.reasons.get(name, 0) for name in ("exact_duplicate", "near_duplicate", "toxic")) > 0
    assert manifest.environment["large_buckets"]
    return folder, files, manifest.run_digest


def digest(folder, name, inputs, **options):
    return scan(folder / name, inputs, **options).committed.manifest.run_digest


def test_two_workers_give_the_same_digest(world):
    folder, files, expected = world
    assert digest(folder, "two", files, workers=2) == expected


def test_replayed_bundles_give_the_same_digest(world):
    folder, files, expected = world
    assert digest(folder, "replayed", files, beam=["--direct_runner_bundle_repeat=1"]) == expected


def test_order_of_inputs_and_place_do_not_matter(world, tmp_path):
    _, files, expected = world
    for n, file in enumerate(reversed(files)):
        (tmp_path / "elsewhere").mkdir(exist_ok=True)
        shutil.copy(file, tmp_path / "elsewhere" / f"renamed-{n}.jsonl")
    assert digest(tmp_path, "ledger", [tmp_path / "elsewhere"]) == expected


def test_how_packs_and_partitions_and_chunks_are_cut_does_not_matter(world, tmp_path, monkeypatch):
    _, files, expected = world
    monkeypatch.setattr(evidence, "PACK_BYTES", 1)
    monkeypatch.setattr(evidence, "RANGE_ROWS", 1 << 20)
    monkeypatch.setattr(cluster, "PARTITION_BYTES", 20_000)
    monkeypatch.setattr(near, "CHUNK_PAIRS", 7)
    assert digest(tmp_path, "ledger", files) == expected


def test_what_an_earlier_smaller_run_left_is_reused_and_changes_nothing(world, tmp_path):
    _, files, expected = world
    scan(tmp_path / "ledger", files[:2])
    again = scan(tmp_path / "ledger", files)
    assert again.committed.reused == 2
    assert again.committed.manifest.run_digest == expected


def test_a_larger_earlier_run_is_reused_in_part(world, tmp_path):
    _, files, _ = world
    fresh = digest(tmp_path, "fresh", files[:2])
    scan(tmp_path / "ledger", files)
    again = scan(tmp_path / "ledger", files[:2])
    assert (again.committed.reused, again.committed.manifest.run_digest) == (2, fresh)


def test_a_damaged_index_costs_a_second_reading_and_nothing_else(world, tmp_path):
    _, files, expected = world
    scan(tmp_path / "ledger", files)
    for path in (tmp_path / "ledger" / "index" / "evidence").rglob("*"):
        if path.is_file():
            path.write_bytes(path.read_bytes()[:-1])
    again = scan(tmp_path / "ledger", files)
    assert (again.committed.reused, again.committed.manifest.run_digest) == (0, expected)


def test_the_same_bytes_given_twice_are_one_shard_with_both_paths(world, tmp_path):
    _, files, expected = world
    double = tmp_path / "double.jsonl"
    shutil.copy(files[0], double)
    done = scan(tmp_path / "ledger", [*files, double])
    assert done.committed.manifest.run_digest == expected
    assert sorted([str(files[0]), str(double)]) in [sorted(row["paths"]) for row in shard_rows(tmp_path / "ledger", done)]


DIFFERENT = {
    "another threshold": "[duplicates]\njaccard = 0.9\n",
    "another flag": "[toxicity]\nflag = 0.7\n",
    "another window": "[toxicity]\nwindow = 50\n",
    "another seed": "[duplicates]\nseed = 2\n",
    "another source's policy, though no row has that source": '[sources.x]\ntoxicity = {action = "flag"}\n',
}


@pytest.mark.parametrize("claim", DIFFERENT)
def test_another_policy_is_another_digest(world, tmp_path, claim):
    _, files, expected = world
    assert digest(tmp_path, "ledger", files, policy=policy_of(tmp_path, DIFFERENT[claim])) != expected


def test_the_run_digest_is_the_root_that_spec_describes(world):
    """Recomputed from the log's rows and the manifest alone."""
    folder, files, expected = world
    done = scan(folder / "again", files)
    ledger, manifest = Ledger.open(str(folder / "again")), done.committed.manifest
    leaves: dict[bytes, list[tuple[int, bytes]]] = {}
    for ref in manifest.log:
        table = ledger.read_table(ref.object, LOG)
        for shard, row, leaf in zip(table["shard"].to_pylist(), table["row"].to_pylist(), row_leaves(table), strict=True):
            leaves.setdefault(shard, []).append((row, leaf))
    shards = []
    for shard, rows in leaves.items():
        assert [row for row, _ in sorted(rows)] == list(range(len(rows)))
        shards.append((digest_name(shard), "", len(rows), digest_name(merkle_root(leaf for _, leaf in sorted(rows)))))
    assert digest_name(merkle_root(run_digest_leaves(scope=run_scope(manifest), shards=shards))) == expected


def test_no_text_enters_the_ledger(world):
    folder, files, _ = world
    texts = [json.loads(line)["text"] for line in files[0].read_text().splitlines()]
    passages = [text[k : k + 24].encode() for text in texts for k in range(0, len(text) - 24, 400)]
    data = b"".join(path.read_bytes() for path in (folder / "ledger").rglob("*") if path.is_file())
    assert len(passages) > 200
    assert not [passage for passage in passages if passage in data]


def test_every_row_is_logged_once(world):
    folder, files, _ = world
    done = scan(folder / "ledger", files)
    rows = log_rows(folder / "ledger", done)
    expected = sum(len([line for line in file.read_bytes().split(b"\n") if line.strip()]) for file in files)
    assert len(rows) == len({(row["shard"], row["row"]) for row in rows}) == expected
