"""What a million documents cost: the first tier alone, and the cascade at 1%, 5% and 20% suspicion; in core-hours.

Run where the extra `detoxify` is installed: `python tests/benchmarks/cascade_cost.py [--data DIR] [--documents N] [--layers 12]`. The
model is a BERT of the published size (12 layers of 768) with random weights: the cost is the same, the scores mean nothing. For each
share the threshold is set so that the first tier finds that share of the documents suspicious; the windows counted are those that
the cascade then scores. CPU time on one thread, in this process.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path

import numpy as np
from toxicity_speed import ROOT, documents

from forebear.tracer.detect.detoxify import Detoxify
from forebear.tracer.detect.row_detector import rows_of
from forebear.tracer.detect.second_tier import SecondTier, choose
from forebear.tracer.detect.toxicity import Toxicity


def model(folder: Path, words: list[str], layers: int) -> SecondTier:
    """A checkpoint of the published shape, random."""
    import torch
    from transformers import BertConfig, BertForSequenceClassification, BertTokenizerFast

    (folder / "hf").mkdir()
    (folder / "hf" / "vocab.txt").write_text("\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *words]))
    tokenizer = BertTokenizerFast(vocab_file=str(folder / "hf" / "vocab.txt"))
    tokenizer.save_pretrained(folder / "hf")
    config = BertConfig(vocab_size=30522, num_hidden_layers=layers, num_labels=6)
    config.save_pretrained(folder / "hf")
    arch = {"model_type": "x", "model_name": "BertForSequenceClassification", "tokenizer_name": "BertTokenizer", "num_classes": 6}
    described = {"arch": {"args": arch}, "dataset": {"args": {"classes": list("abcdef")}}}
    torch.save({"config": described, "state_dict": BertForSequenceClassification(config).state_dict()}, folder / "x.ckpt")
    return SecondTier(checkpoint=str(folder / "x.ckpt"), config=str(folder / "hf"))


def seconds(run: Callable[[], object]) -> float:
    """CPU seconds of a run."""
    start = time.process_time()
    run()
    return time.process_time() - start


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=ROOT.parent / "shared" / "data")
    parser.add_argument("--documents", type=int, default=4096)
    parser.add_argument("--layers", type=int, default=12)
    given = parser.parse_args()
    column = documents(given.data, given.documents)
    first = Toxicity()
    first.warm()
    alone = min(seconds(lambda: first.score(column)) for _ in range(3)) / len(column)
    vocabulary = sorted({word for text in column.to_pylist()[:500] for word in text.lower().split()})[:20000]
    with tempfile.TemporaryDirectory() as folder:
        tier = model(Path(folder), vocabulary, given.layers)
        second = Detoxify(first, tier)
        texts = [" ".join(text.split()[:100]) for text in column.to_pylist()[:64]]
        second.predict(texts[:4])
        window = seconds(lambda: second.predict(texts)) / len(texts)
    print(f"first tier {alone * 1e6:.0f} us a document; second tier {window * 1e3:.0f} ms a window of 100 words, one thread")
    print(f"{'':24} {'windows scored':>16} {'core-hours a million':>22}")
    print(f"{'first tier alone':24} {0:16} {alone * 1e6 / 3600:22.3f}")
    rows = rows_of(column)
    found = first.score(rows.texts)
    for share in (0.01, 0.05, 0.2):
        limit = int(np.quantile(found.score, 1 - share)) + 1
        chosen = choose(rows, first, found, tier=SecondTier(suspicious=limit, sample=Decimal("0.001")))
        each = len(chosen) / len(column)
        suspicious = np.mean(found.score >= limit)
        print(f"cascade at {suspicious:6.2%} {'':5} {each * 1e6:18,.0f} {(alone + each * window) * 1e6 / 3600:22.2f}")
    whole = len(first.windows(column)) / len(column)
    print(f"{'second tier on all':24} {whole * 1e6:16,.0f} {(alone + whole * window) * 1e6 / 3600:22.2f}")


if __name__ == "__main__":
    main()
