"""Benchmark leaks: what flags, what does not, what is said of it."""

from __future__ import annotations

import gzip
import json
import random
import time
from decimal import Decimal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from real_texts import c4, shared, topics
from scanning import NO_TOXICITY, log_rows, policy_of, scan, write_jsonl

from forebear.schemas.errors import UsageError
from forebear.tracer.detect.benchmarks import BenchmarkLeaks
from forebear.tracer.detect.detector import GRID
from forebear.tracer.policy import grid

FLAG = 820  # 0.8 on the grid

WORDS = ("amber", "barge", "cedar", "delta", "ember", "flint", "grove", "heron", "inlet", "jetty", "kayak", "lemon", "maple")


def item(seed: int, size: int = 40) -> str:
    """A text of its own."""
    rng = random.Random(seed)
    return " ".join(f"{rng.choice(WORDS)}{rng.randrange(100)}" for _ in range(size))


def benchmark(folder, items, name="made", split="test", **fields):
    """A benchmark of items, as a detector."""
    path = write_jsonl(folder / f"{name}-{split}.jsonl", items)
    return BenchmarkLeaks(name=name, split=split, path=str(path), **fields)


def found(detector, *texts):
    """(position, item, label, score) of all findings."""
    said = detector.score(pa.array(texts, pa.large_string()))
    return list(zip(said.index.tolist(), said.item, said.labels(), said.score.tolist(), strict=True))


def flagged(detector, *texts):
    """Positions with a finding at the default threshold."""
    return {position for position, _, _, score in found(detector, *texts) if score >= FLAG}


HOST = topics()[0]


def planted(text: str) -> str:
    """A text in the middle of a document."""
    half = len(HOST) // 2
    return HOST[:half] + "\n" + text + "\n" + HOST[half:]


def with_words(text: str, places: dict[int, str]) -> str:
    return " ".join(places.get(n, word) for n, word in enumerate(text.split()))


EDITS = {
    "verbatim": lambda q: q,
    "in capitals": str.upper,
    "with other white space": lambda q: q.replace(" ", " \n "),
    "one word changed": lambda q: with_words(q, {20: "other"}),
    "two words changed": lambda q: with_words(q, {4: "other", 15: "other"}),
    "every ninth word changed": lambda q: with_words(q, dict.fromkeys(range(3, 40, 9), "other")),
    "two words left out": lambda q: with_words(q, {9: "", 30: ""}),
    "words put in": lambda q: with_words(q, {9: "one two three", 30: "more here"}),
    "as a list in Markdown": lambda q: "\n".join(f"- *{q.split()[n]}* " + " ".join(q.split()[n + 1 : n + 8]) for n in range(0, 40, 8)),
}


@pytest.mark.parametrize("edit", EDITS)
def test_an_item_is_found_mid_document(edit, tmp_path):
    items = [{"question": item(n)} for n in range(20)]
    detector = benchmark(tmp_path, items)
    hits = found(detector, planted(EDITS[edit](items[7]["question"])), HOST)
    assert [hit[:3] for hit in hits] == [(0, "made/test/7", "question")]
    assert hits[0][3] >= FLAG


NOT_FOUND = {
    "the same words in another order": lambda q: " ".join(sorted(q.split())),
    "half of the item": lambda q: " ".join(q.split()[:20]),
    "every third word changed": lambda q: with_words(q, dict.fromkeys(range(0, 40, 3), "other")),
    "its pieces far apart": lambda q: ("\n" + HOST[:3000] + "\n").join(" ".join(q.split()[n : n + 8]) for n in range(0, 40, 8)),
}


@pytest.mark.parametrize("edit", NOT_FOUND)
def test_this_is_no_leak(edit, tmp_path):
    items = [{"question": item(n)} for n in range(20)]
    detector = benchmark(tmp_path, items)
    assert flagged(detector, planted(NOT_FOUND[edit](items[7]["question"]))) == set()


def test_the_score_is_the_share_of_the_items_tokens_that_is_covered(tmp_path):
    text = item(1)
    detector = benchmark(tmp_path, [{"question": text}])
    cut = " ".join(text.split()[:30])
    assert [hit[3] for hit in found(detector, text, cut)] == [GRID, 30 * GRID // 40]


def test_a_share_at_the_threshold_reaches_it(tmp_path):
    text = item(1)
    detector = benchmark(tmp_path, [{"question": text}])
    assert found(detector, " ".join(text.split()[:32]))[0][3] == grid(Decimal("0.8"))


def test_the_byte_range_is_the_item_in_the_original_text(tmp_path):
    text = item(3)
    detector = benchmark(tmp_path, [{"question": text}])
    document = "Vorwort: „naïve” 漢字 — " + text.upper() + " Ende."
    said = detector.score(pa.array([None, "", document]))
    assert said.index.tolist() == [2]
    assert document.encode()[said.start[0] : said.stop[0]].decode() == text.upper()


def test_shared_boilerplate_alone_never_flags(tmp_path):
    head = "Answer the following question with the letter of the correct choice and explain every step of your reasoning."
    items = [{"question": f"{head} {item(n, 4)}"} for n in range(30)]
    detector = benchmark(tmp_path, items)
    assert len(head.split()) >= 0.8 * len(items[0]["question"].split())
    assert flagged(detector, planted(head), f"{head} {item(99, 4)}") == set()
    assert flagged(detector, planted(items[4]["question"])) == {0}


def test_a_train_splits_documents_flag_as_train(tmp_path):
    train, test = [{"question": item(n)} for n in range(5)], [{"question": item(n)} for n in range(10, 15)]
    detectors = [benchmark(tmp_path, train, split="train"), benchmark(tmp_path, test, split="test")]
    document = planted(train[2]["question"])
    assert [hit[1] for detector in detectors for hit in found(detector, document)] == ["made/train/2"]


SHORT = "What is the boiling point of radium?"


def test_an_item_of_fewer_than_13_tokens_needs_the_whole(tmp_path):
    detector = benchmark(tmp_path, [{"question": SHORT}, {"question": item(1)}])
    assert found(detector, planted(SHORT))[0][1:] == ("made/test/0", "question", GRID)
    assert found(detector, planted(SHORT.replace("the ", "")), planted("what is the boiling point of water")) == []


def test_a_short_answer_says_nothing_without_its_question(tmp_path):
    answer = "the cat sat on the mat"
    detector = benchmark(tmp_path, [{"q": item(1), "a": answer}, {"q": item(2), "a": item(3)}], question="q", answer="a")
    assert found(detector, planted(answer)) == []
    both = found(detector, planted(f"{item(1)} {answer}"))
    assert {hit[2] for hit in both} == {"question", "answer"}


def test_question_answer_and_passage_are_scored_apart(tmp_path):
    items = [{"q": item(1), "a": item(2), "p": item(3, 200)}]
    detector = benchmark(tmp_path, items, question="q", answer="a", passage="p")
    half = " ".join(items[0]["a"].split()[:20])
    assert [hit[2:] for hit in found(detector, f"{item(3, 200)} then {half}")] == [("answer", GRID // 2), ("passage", GRID)]


def test_parts_too_short_to_seek_are_counted(tmp_path):
    detector = benchmark(tmp_path, [{"question": item(1), "answer": "42"}, {"question": "Why?", "answer": "So."}], answer="answer")
    assert (detector.parameters["unsought"], detector.parameters["parts"], detector.parameters["items"]) == (3, 1, 2)


def test_a_formula_with_another_operator_is_another_item(tmp_path):
    formula = "f(x) = a*x + b/c ; g = x+1 ; h = x*2"
    detector = benchmark(tmp_path, [{"question": formula}])
    assert flagged(detector, formula, formula.replace("*", "-").replace("+", "/")) == {0}


def test_batches_slices_and_chunks_do_not_matter(tmp_path):
    items = [{"question": item(n)} for n in range(20)]
    detector = benchmark(tmp_path, items)
    texts = [planted(item(n)) if n % 3 else None for n in range(12)]
    whole = found(detector, *texts)
    column = pa.chunked_array([pa.array(texts[:5]), pa.array(texts[5:])])
    chunked = detector.score(column)
    assert list(zip(chunked.index.tolist(), chunked.item, strict=True)) == [hit[:2] for hit in whole]
    alone = [(n, hit[1]) for n, text in enumerate(texts) for hit in found(detector, text)]
    assert alone == [hit[:2] for hit in whole]
    assert len(whole) == 8


def test_the_digest_follows_content_and_fields_not_the_path(tmp_path):
    items = [{"question": item(1), "answer": item(2)}]
    one = benchmark(tmp_path / "a", items)
    assert one.digest == benchmark(tmp_path / "b", items).digest
    others = [
        benchmark(tmp_path / "c", [*items, {"question": item(3)}]),
        benchmark(tmp_path / "d", items, answer="answer"),
        benchmark(tmp_path / "e", items, split="dev"),
        benchmark(tmp_path / "f", items, name="other"),
    ]
    assert len({one.digest, *(other.digest for other in others)}) == 5


def test_parquet_and_compressed_files_are_read_like_jsonl(tmp_path):
    items = [{"question": item(n), "id": n} for n in range(3)]
    pq.write_table(pa.Table.from_pylist(items), tmp_path / "b.parquet")
    (tmp_path / "b.jsonl.gz").write_bytes(gzip.compress("\n".join(map(json.dumps, items)).encode()))
    for name in ("b.parquet", "b.jsonl.gz"):
        detector = BenchmarkLeaks(name="made", split="test", path=str(tmp_path / name))
        assert found(detector, items[2]["question"])[0][1] == "made/test/2"


WRONG = {
    "a file that is not there": ("no_such_file", None),
    "a file without the named field": ("missing_field", '{"prompt": "text"}\n'),
    "a field that is no text": ("not_text", '{"question": 7}\n'),
    "a file of nothing": ("missing_field", ""),
    "broken JSON": ("unreadable_list", '{"question": \n'),
    "items too short to seek": ("nothing_to_seek", '{"question": "Why?"}\n'),
}


@pytest.mark.parametrize("what", WRONG)
def test_this_is_wrong_use(what, tmp_path):
    kind, content = WRONG[what]
    if content is not None:
        (tmp_path / "b.jsonl").write_text(content)
    with pytest.raises(UsageError) as raised:
        BenchmarkLeaks(name="made", split="test", path=str(tmp_path / "b.jsonl"))
    assert raised.value.kind == kind


def test_a_megabyte_of_repetition_takes_no_longer_than_other_text(tmp_path):
    detector = benchmark(tmp_path, [{"question": "yes no " * 500}, {"question": item(1)}])
    detector.score(pa.array(["warm"]))
    start = time.process_time()
    detector.score(pa.array(["yes no " * 200_000, "yes yes no " * 100_000]))
    assert time.process_time() - start < 5


def test_two_benchmarks_give_their_reason_once_and_their_items_each(tmp_path):
    one = write_jsonl(tmp_path / "one.jsonl", [{"question": item(1)}])
    other = write_jsonl(tmp_path / "two.jsonl", [{"prompt": item(2)}])
    policy = policy_of(
        tmp_path,
        f'{NO_TOXICITY}[[benchmarks]]\nname = "one"\npath = "{one}"\n'
        f'[[benchmarks]]\nname = "two"\nsplit = "dev"\npath = "{other}"\nquestion = "prompt"\naction = "flag"\n',
    )
    texts = {"both": f"{item(1)} and {item(2)}", "flagged": planted(item(2)), "clean": HOST}
    write_jsonl(tmp_path / "in" / "0.jsonl", [{"id": name, "text": text} for name, text in texts.items()])
    rows = {row["source_id"]: row for row in log_rows(tmp_path / "l", scan(tmp_path / "l", [tmp_path / "in"], policy=policy))}
    assert {name: (row["action"], row["reasons"]) for name, row in rows.items()} == {
        "both": ("drop", ["benchmark_leak"]),
        "flagged": ("keep", ["benchmark_leak"]),
        "clean": ("keep", []),
    }
    assert sorted(one["item"] for one in rows["both"]["evidence"]) == ["one/test/0", "two/dev/0"]


@pytest.mark.shared_data
def test_gsm8k_is_found_in_web_text_and_its_train_split_is_another():
    folder = shared("bench_gsm8k")
    detector = BenchmarkLeaks(name="gsm8k", split="test", path=str(folder / "test.jsonl"), answer="answer")
    questions = [json.loads(line)["question"] for line in (folder / "test.jsonl").open(encoding="utf-8")]
    train = [json.loads(line) for line in (folder / "train.jsonl").open(encoding="utf-8")][:3000]
    web = c4()
    hosts = [text.split() for text in web]
    edited = [with_words(question, {4: "other", 15: "other"}) for question in questions]
    documents = [" ".join([*hosts[n % 1000][:50], text, *hosts[n % 1000][50:]]) for n, text in enumerate(questions + edited)]
    said = detector.score(pa.array(documents))
    hits = {(n, i) for n, i, score in zip(said.index.tolist(), said.item, said.score.tolist(), strict=True) if score >= FLAG}
    met = np.mean([(n, f"gsm8k/test/{n % len(questions)}") in hits for n in range(len(documents))])
    assert met >= 0.99
    assert flagged(detector, *web) == set()
    assert len(flagged(detector, *[f"{one['question']} {one['answer']}" for one in train])) <= 4


def test_two_workers_and_another_order_give_the_same_digest(tmp_path):
    write_jsonl(tmp_path / "b.jsonl", [{"question": item(n)} for n in range(20)])
    (tmp_path / "ids.txt").write_text("3-1\n")
    toml = f'{NO_TOXICITY}[[benchmarks]]\nname = "made"\npath = "b.jsonl"\n[[denylists]]\npath = "ids.txt"\nkind = "id"\n'
    policy = policy_of(tmp_path, toml)
    for shard in range(4):
        texts = [planted(item(n)) for n in range(shard * 3, shard * 3 + 3)] + [HOST]
        write_jsonl(tmp_path / "in" / f"{shard}.jsonl", [{"id": f"{shard}-{n}", "text": text} for n, text in enumerate(texts)])
    files = sorted((tmp_path / "in").iterdir())
    one = scan(tmp_path / "l1", files, policy=policy)
    two = scan(tmp_path / "l2", files[::-1], policy=policy, workers=2)
    assert one.committed.manifest.run_digest == two.committed.manifest.run_digest
    assert one.committed.manifest.reasons["benchmark_leak"] == 12
    assert one.committed.manifest.reasons["denylisted"] == 1
