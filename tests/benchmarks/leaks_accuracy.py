"""Benchmark leaks on GSM8K: recall by kind of edit, beside exact 13-grams; false positives; microseconds a document.

Run: `python tests/benchmarks/leaks_accuracy.py [--data DIR] [--documents N]`. Every test item is planted in the middle of a C4
document, once for each edit; "13-gram" is GPT-3's rule (one shared run of 13 tokens) over the same tokens. Speed is of documents of
about 2.3 kB made of real C4 sentences, on one core, the best of five passes in CPU time, start-up apart.
"""

from __future__ import annotations

import argparse
import gzip
import json
import random
import re
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
from toxicity_speed import ROOT, documents

from forebear.tracer.detect.benchmark_index import ngram_hashes
from forebear.tracer.detect.benchmark_tokens import tokenise
from forebear.tracer.detect.benchmarks import BenchmarkLeaks
from forebear.tracer.detect.windows import text_bytes

FLAG = 820


def _words(text: str, places: Sequence[int], other: str = "other") -> str:
    return " ".join(other if n in places else word for n, word in enumerate(text.split()))


def _some(text: str, count: int) -> list[int]:
    size = len(text.split())
    return random.Random(text).sample(range(size), min(size, count))


EDITS: dict[str, Callable[[str], str]] = {
    "verbatim": lambda q: q,
    "one word changed": lambda q: _words(q, [len(q.split()) // 2]),
    "two words changed (4th, 15th)": lambda q: _words(q, [4, 15]),
    "two words changed (anywhere)": lambda q: _words(q, _some(q, 2)),
    "four words changed (anywhere)": lambda q: _words(q, _some(q, 4)),
    "every number changed": lambda q: re.sub(r"\d+", lambda m: str(int(m[0]) + 3), q),
    "capitals, a line a sentence": lambda q: "\n".join(q.upper().split(". ")),
    "double spaces, curly quotes": lambda q: q.replace(" ", "  ").replace("'", "’"),
    "Markdown list, bold": lambda q: "- **" + q.replace(". ", ".**\n- **") + "**",
    "a word put in after every eighth": lambda q: " ".join(w + (" really" if n % 8 == 7 else "") for n, w in enumerate(q.split())),
}


def exact(questions: Sequence[str], texts: Sequence[str]) -> float:
    """Share of texts that share 13 tokens in a row with their question."""
    hits = 0
    for question, text in zip(questions, texts, strict=True):
        runs = [ngram_hashes(tokenise(*_raw(one)).hashes, 13) for one in (question, text)]
        hits += bool(np.isin(*runs).any())
    return hits / len(questions)


def _raw(text: str) -> tuple[np.ndarray, np.ndarray]:
    raw = text_bytes(pa.array([text], pa.large_string()))
    return raw.data, raw.offsets


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=ROOT.parent / "shared" / "data")
    parser.add_argument("--documents", type=int, default=8192)
    given = parser.parse_args()
    folder = given.data / "bench_gsm8k"
    test, train = ([json.loads(line) for line in (folder / f"{name}.jsonl").open(encoding="utf-8")] for name in ("test", "train"))
    with gzip.open(given.data / "text_c4_wimbd" / "c4-sample.00000-of-00001.json.gz", "rt", encoding="utf-8") as lines:
        web = [json.loads(line)["text"] for line in lines]
    start = time.process_time()
    detector = BenchmarkLeaks(name="gsm8k", split="test", path=str(folder / "test.jsonl"), answer="answer")
    print(f"index of {detector.parameters['parts']} parts: {time.process_time() - start:.1f} s")
    questions = [item["question"] for item in test]
    print(f"{'planted':36} {'recall':>7} {'13-gram':>8}")
    for kind, edit in EDITS.items():
        edited = [edit(question) for question in questions]
        hosts = [web[n % len(web)].split() for n in range(len(edited))]
        texts = [" ".join([*host[: len(host) // 2], text, *host[len(host) // 2 :]]) for host, text in zip(hosts, edited, strict=True)]
        found = detector.score(pa.array(texts))
        hits = {(n, i) for n, i, s in zip(found.index.tolist(), found.item, found.score.tolist(), strict=True) if s >= FLAG}
        recall = np.mean([(n, f"gsm8k/test/{n}") in hits for n in range(len(texts))])
        print(f"{kind:36} {recall:7.3f} {exact(questions, edited):8.3f}")
    for name, texts in (("C4", web), ("GSM8K train", [f"{one['question']} {one['answer']}" for one in train])):
        found = detector.score(pa.array(texts))
        print(f"flagged of {len(texts)} documents of {name}: {len(set(found.index[found.score >= FLAG].tolist()))}")
    column = documents(given.data, given.documents)
    times = []
    for _ in range(5):
        start = time.process_time()
        detector.score(column)
        times.append(time.process_time() - start)
    print(f"{min(times) / len(column) * 1e6:.1f} us a document, {len(column) / min(times):,.0f} documents/s on one core")


if __name__ == "__main__":
    main()
