"""Microseconds a document of the first tier: kernel against library, one core, documents of about 2.3 kB.

Run: `python tests/benchmarks/toxicity_speed.py [--data DIR] [--documents N]`. Documents are made of real C4 sentences. Both
engines run in this process on the same documents, the best of five passes each (one for the library), start-up apart.
"""

from __future__ import annotations

import argparse
import gzip
import json
import random
import re
import time
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa

from forebear.tracer.detect.toxicity import Toxicity
from forebear.tracer.detect.windows import WindowRule, cut_windows, text_bytes

ROOT = Path(__file__).resolve().parents[2]


def documents(data: Path, count: int) -> pa.Array:
    """Documents of about 2.3 kB and 400 words."""
    path = data / "text_c4_wimbd" / "c4-sample.00000-of-00001.json.gz"
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        texts = [json.loads(line)["text"] for line in lines]
    sentences = [s for text in texts for s in re.split(r"(?<=[.!?])\s+", text) if 20 < len(s) < 400]
    rng, made = random.Random(7), []
    for _ in range(count):
        parts: list[str] = []
        while sum(map(len, parts)) + len(parts) < 2300:
            parts.append(rng.choice(sentences))
        made.append(" ".join(parts))
    return pa.array(made)


def best(run: Callable[[], object], passes: int) -> float:
    """Seconds of the fastest pass."""
    times = []
    for _ in range(passes):
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
    return min(times)


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=ROOT.parent / "shared" / "data")
    parser.add_argument("--documents", type=int, default=4096)
    parser.add_argument("--model", default="builtin", help="a fastText classifier, or builtin")
    parser.add_argument("--label", default="toxic")
    given = parser.parse_args()
    texts = documents(given.data, given.documents)
    fused = Toxicity(given.model, [given.label])
    library = Toxicity(given.model, [given.label], engine="library")
    fused.warm()
    raw = text_bytes(texts)
    rows = {
        "windows alone": best(lambda: cut_windows(raw, WindowRule()), 5),
        f"kernel ({fused.parameters['numerics']})": best(lambda: fused.score(texts), 5),
        f"library ({library.parameters['numerics']})": best(lambda: library.score(texts), 1),
    }
    print(f"{len(texts)} documents, {raw.offsets[-1] / len(texts):.0f} bytes each")
    for name, seconds in rows.items():
        print(f"{name:45} {seconds / len(texts) * 1e6:7.1f} us/document")


if __name__ == "__main__":
    main()
