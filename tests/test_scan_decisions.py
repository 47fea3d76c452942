"""What a scan decides, on real text: every logged keeper and similarity against brute force, policies, sources, cleaned shards."""

from __future__ import annotations

import gzip
import hashlib
import json
import random
from collections import Counter
from fractions import Fraction
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from real_texts import c4, reuters, topics
from scanning import FLAG_TOXICITY, NO_TOXICITY, by_id, cleaned_rows, log_rows, policy_of, scan, write_jsonl

from forebear.tracer.dedupe.shingles import shingle_hashes

BAD = "you are a stupid fucking idiot and everyone hates you, shut the fuck up you worthless piece of shit"


def sentences(texts: list[str]) -> list[str]:
    return [part.strip() for text in texts for part in text.split(". ") if 40 < len(part) < 300]


def corpus_of(texts: list[str], *, seed: int = 3) -> list[dict]:
    """Texts with planted copies, edits, whitespace changes and chains, under ids that say what they are."""
    draw = random.Random(seed)
    documents = [{"id": f"real-{n}", "source": "real", "text": text} for n, text in enumerate(texts)]
    pool = sentences(texts)
    for n in range(30):
        base = draw.sample(pool, 12)
        text = ". ".join(base)
        documents.append({"id": f"base-{n}", "source": "made", "text": text})
        documents.append({"id": f"copy-{n}", "source": "made", "text": text})
        documents.append({"id": f"edit-{n}", "source": "made", "text": ". ".join(base[:-1]) + " and so on"})
        if n >= 15:
            documents.append({"id": f"case-{n}", "source": "made", "text": text.upper().replace(" ", "  ")})
    for n in range(10):
        words = [f"w{n}x{k}" for k in range(224)]
        documents += [{"id": f"chain-{n}-{k}", "source": "made", "text": " ".join(words[12 * k : 12 * k + 200])} for k in range(3)]
    draw.shuffle(documents)
    return documents


def jaccard(a: str, b: str) -> tuple[int, int]:
    one, two = set(shingle_hashes(a)), set(shingle_hashes(b))
    return len(one & two), len(one | two)


def assert_every_decision_is_justified(rows: dict[str, dict], text: dict[str, str], threshold: Fraction) -> Counter:
    """Each removed duplicate's keeper is kept, measured exactly, at or above the threshold, and earlier in the total order."""
    of = {(row["shard"], row["row"]): name for name, row in rows.items()}
    counted: Counter = Counter()
    for name, row in rows.items():
        if row["keeper_row"] is None:
            assert not {"exact_duplicate", "near_duplicate"} & set(row["reasons"])
            continue
        keeper = of[row["keeper_shard"], row["keeper_row"]]
        kept = rows[keeper]
        assert kept["action"] == "keep"
        assert kept["document"] == row["keeper_document"] == hashlib.sha256(text[keeper].encode()).digest()
        assert (row["intersection"], row["union_size"]) == jaccard(text[name], text[keeper])
        assert Fraction(row["intersection"], row["union_size"]) >= threshold
        order = [(-r["bytes"], r["document"], r["shard"], r["row"]) for r in (kept, row)]
        assert order[0] < order[1]
        counted[row["reasons"][0]] += 1
    return counted


def test_every_logged_keeper_and_similarity_agrees_with_brute_force(tmp_path):
    documents = corpus_of(topics()[:60])
    files = [write_jsonl(tmp_path / f"{n}.jsonl", documents[n::3]) for n in range(3)]
    done = scan(tmp_path / "ledger", files, policy=policy_of(tmp_path, NO_TOXICITY))
    rows = by_id(tmp_path / "ledger", done)
    text = {d["id"]: d["text"] for d in documents}
    counted = assert_every_decision_is_justified(rows, text, Fraction(4, 5))
    assert counted["exact_duplicate"] >= 15
    assert counted["near_duplicate"] >= 50
    assert all(rows[f"chain-{n}-2"]["action"] == "keep" for n in range(10) if rows[f"chain-{n}-1"]["action"] == "drop")


@pytest.mark.shared_data
def test_every_logged_keeper_and_similarity_agrees_with_brute_force_on_reuters_and_web_text(tmp_path):
    documents = corpus_of(reuters(3000) + c4()[:500])
    files = [write_jsonl(tmp_path / f"{n}.jsonl", documents[n::4]) for n in range(4)]
    done = scan(tmp_path / "ledger", files, policy=policy_of(tmp_path, FLAG_TOXICITY))
    rows, text = by_id(tmp_path / "ledger", done), {d["id"]: d["text"] for d in documents}
    counted = assert_every_decision_is_justified(rows, text, Fraction(4, 5))
    assert counted["near_duplicate"] > 50
    kept = [name for name, row in rows.items() if row["action"] == "keep"]
    sets = {name: frozenset(shingle_hashes(text[name])) for name in kept}
    shared = {}
    for name, shingles in sets.items():
        for one in shingles:
            shared.setdefault(one, []).append(name)
    near = {(a, b) for names in shared.values() if 1 < len(names) < 50 for a in names for b in names if a < b}
    missed = [(a, b) for a, b in near if len(sets[a] & sets[b]) * 20 >= 19 * len(sets[a] | sets[b])]
    assert not missed, "pairs at .95 that were both kept"


def test_large_buckets_lose_all_but_their_leaders(tmp_path):
    template = " ".join(f"word{n}" for n in range(300))
    documents = [{"id": str(n), "text": f"{template} number {n}"} for n in range(150)]
    done = scan(tmp_path / "ledger", [write_jsonl(tmp_path / "0.jsonl", documents)], policy=policy_of(tmp_path, NO_TOXICITY))
    assert done.committed.manifest.rows["kept"] == 1
    assert done.committed.manifest.environment["large_buckets"]
    assert not done.committed.manifest.overflow


POLICIES = {
    "drop: a toxic row is dropped with its reason": ("", ("drop", ["toxic"])),
    "flag: a toxic row is kept, its reason logged": ('[toxicity]\naction = "flag"\n', ("keep", ["toxic"])),
    "off: a toxic row is kept without evidence": (NO_TOXICITY, ("keep", [])),
}


@pytest.mark.parametrize("claim", POLICIES)
def test_toxicity_policy(tmp_path, claim):
    toml, expected = POLICIES[claim]
    files = [write_jsonl(tmp_path / "0.jsonl", [{"id": "bad", "text": BAD}, {"id": "good", "text": "A walk in the park."}])]
    done = scan(tmp_path / "ledger", files, policy=policy_of(tmp_path, toml))
    rows = by_id(tmp_path / "ledger", done)
    assert (rows["bad"]["action"], rows["bad"]["reasons"]) == expected
    assert bool(rows["bad"]["evidence"]) == (toml != NO_TOXICITY)
    assert rows["good"]["action"] == "keep"


def test_a_score_between_flag_and_drop_is_kept_with_its_reason(tmp_path):
    files = [write_jsonl(tmp_path / "0.jsonl", [{"id": "good", "text": "A walk in the park."}])]
    policy = policy_of(tmp_path, "[toxicity]\nflag = 0\ndrop = 0.8\n")
    rows = by_id(tmp_path / "ledger", scan(tmp_path / "ledger", files, policy=policy))
    assert (rows["good"]["action"], rows["good"]["reasons"]) == ("keep", ["toxic"])


def test_a_source_may_have_its_own_thresholds_and_the_surviving_copy_is_kept(tmp_path):
    toml = '[sources.forum]\ntoxicity = {action = "flag"}\n'
    documents = [{"id": "web", "source": "web", "text": BAD}, {"id": "forum", "source": "forum", "text": BAD}]
    done = scan(tmp_path / "ledger", [write_jsonl(tmp_path / "0.jsonl", documents)], policy=policy_of(tmp_path, toml))
    rows = by_id(tmp_path / "ledger", done)
    assert (rows["web"]["action"], rows["web"]["reasons"], rows["web"]["keeper_row"]) == ("drop", ["toxic"], None)
    assert (rows["forum"]["action"], rows["forum"]["reasons"]) == ("keep", ["toxic"])


def test_the_preferred_source_keeps_its_copy(tmp_path):
    text = ". ".join(sentences(topics())[:8])
    documents = [{"id": "web", "source": "web", "text": text}, {"id": "books", "source": "books", "text": text}]
    policy = policy_of(tmp_path, NO_TOXICITY + '[duplicates]\nprefer = ["books"]\n')
    rows = by_id(tmp_path / "l", scan(tmp_path / "l", [write_jsonl(tmp_path / "0.jsonl", documents)], policy=policy))
    assert (rows["web"]["action"], rows["books"]["action"]) == ("drop", "keep")


DUPLICATES = {
    "drop": ("drop", ["exact_duplicate"], True),
    "flag": ("keep", ["exact_duplicate"], True),
    "off": ("keep", [], False),
}


@pytest.mark.parametrize("action", DUPLICATES)
def test_duplicates_policy(tmp_path, action):
    expected = DUPLICATES[action]
    text = ". ".join(sentences(topics())[:8])
    files = [write_jsonl(tmp_path / f"{n}.jsonl", [{"id": str(n), "text": text}]) for n in range(2)]
    policy = policy_of(tmp_path, f'{NO_TOXICITY}[duplicates]\naction = "{action}"\n')
    rows = by_id(
        tmp_path / "l",
        scan(tmp_path / "l", [*files, write_jsonl(tmp_path / "2.jsonl", [{"id": "2", "text": "else"}])], policy=policy),
    )
    lost = max((rows["0"], rows["1"]), key=lambda row: (len(row["reasons"]), row["shard"]))
    assert (lost["action"], lost["reasons"], lost["keeper_row"] is not None) == expected


def test_texts_without_a_token_are_never_duplicates(tmp_path):
    texts = ["", "", "  \n", "  \n", None, None]
    files = [write_jsonl(tmp_path / "0.jsonl", [{"id": str(n), "text": text} for n, text in enumerate(texts)])]
    done = scan(tmp_path / "l", files)
    assert done.committed.manifest.rows == {"in": 6, "kept": 6, "dropped": 0, "errored": 0}
    rows = log_rows(tmp_path / "l", done)
    assert {row["words"] for row in rows} == {0, None}
    assert all(row["cluster"] is None and row["evidence"] for row in rows)
    assert rows[4]["document"] is None


def test_the_evidence_range_holds_the_toxic_passage_in_bytes(tmp_path):
    calm = "ein ruhiger Tag am Fluss mit Käse und Brot " * 40
    text = calm + BAD + " " + calm
    rows = by_id(tmp_path / "l", scan(tmp_path / "l", [write_jsonl(tmp_path / "0.jsonl", [{"id": "x", "text": text}])]))
    (evidence,) = rows["x"]["evidence"]
    found = text.encode()[evidence["start"] : evidence["stop"]].decode()
    assert "fucking" in found
    assert len(found.split()) <= 100


@pytest.mark.parametrize("suffix", ["jsonl", "jsonl.gz", "parquet", "arrow"])
def test_cleaned_shards_hold_the_kept_rows_in_order_with_all_their_columns(tmp_path, suffix):
    documents = corpus_of(topics()[:20])[:120]
    documents = [{**document, "extra": n} for n, document in enumerate(documents)]
    path = tmp_path / f"corpus.{suffix}"
    if suffix.startswith("jsonl"):
        write_jsonl(path, documents)
    elif suffix == "parquet":
        pq.write_table(pa.Table.from_pylist(documents), path)
    else:
        table = pa.Table.from_pylist(documents)
        with pa.ipc.new_file(path, table.schema) as writer:
            writer.write_table(table)
    done = scan(tmp_path / "l", [path], clean=str(tmp_path / "clean"))
    kept = [documents[row["row"]] for row in log_rows(tmp_path / "l", done) if row["action"] == "keep"]
    (cleaned,) = cleaned_rows(tmp_path / "l", done)
    assert cleaned["rows"] == len(kept) < len(documents)
    assert read(cleaned["path"]) == kept
    assert cleaned["shard"] == hashlib.sha256(Path(cleaned["path"]).read_bytes()).digest()


def read(path: str) -> list[dict]:
    if path.endswith(".parquet"):
        return pq.read_table(path).to_pylist()
    if path.endswith(".arrow"):
        return pa.ipc.open_file(path).read_all().to_pylist()
    data = Path(path).read_bytes()
    if path.endswith(".gz"):
        data = gzip.decompress(data)
    return [json.loads(line) for line in data.splitlines()]
