"""The decision in one worker over verified edges: time and memory for paths, stars, random graphs and one giant component.

    python tests/benchmarks/components_decide.py 10000000

Each shape runs in a process of its own; memory is the peak of its resident set less what it was before the edges were made.
"""

from __future__ import annotations

import resource
import subprocess
import sys
import time

import numpy as np

SHAPES = ("paths of 10", "stars of 10", "random pairs", "one path", "one star", "one giant random component")


def edges_of(shape: str, count: int, draw: np.random.Generator) -> tuple[np.ndarray, np.ndarray, int]:
    """(left, right, documents) of a shape with about so many edges, documents in no order."""
    n = np.arange(count, dtype="u8")
    if shape == "one path":
        left, right = n, n + 1
    elif shape == "one star":
        left, right = np.zeros(count, "u8"), n + 1
    elif shape == "paths of 10":
        left = n + n // 9
        right = left + 1
    elif shape == "stars of 10":
        left = (n // 9) * 10
        right = left + 1 + n % 9
    else:
        size = count * 2 if shape == "random pairs" else count // 3
        left, right = draw.integers(0, size, count, dtype="u8"), draw.integers(0, size, count, dtype="u8")
        different = left != right
        left, right = left[different], right[different]
    documents = int(max(left.max(), right.max())) + 1
    mixed = draw.permutation(documents).astype("u8")
    left, right = mixed[left], mixed[right]
    return np.minimum(left, right), np.maximum(left, right), documents


def measure(shape: str, count: int) -> None:
    """One shape: what `Decide` does, from measured edges to decisions."""
    from forebear.tracer.dedupe.clusters import Copies, decide
    from forebear.tracer.dedupe.similarity import Edges
    from forebear.tracer.scan.decide import verified
    from forebear.tracer.scan.near import Measured

    draw = np.random.default_rng(3)
    warm = np.zeros(0, "u8")
    decide(_documents(2, draw), Edges(np.array([0], "u8"), np.array([1], "u8"), np.array([9]), np.array([10])), Copies(warm, warm))
    left, right, documents = edges_of(shape, count, draw)
    sizes = draw.integers(80, 101, len(left))
    edges = Edges(left, right, sizes, np.full(len(left), 100))
    facts = _documents(documents, draw)
    before, start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.perf_counter()
    every = verified([Measured(edges, 0, warm)])
    decided = decide(facts, every.edges, Copies(warm, warm))
    spent = time.perf_counter() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    removed = int((decided.keeper >= 0).sum())
    print(
        f"{shape:28} {len(left):>12,} edges, {documents:>12,} documents: {spent:6.1f} s, peak {peak / 1e3:8,.0f} MB"
        f" (inputs {before / 1e3:,.0f} MB, {1024 * (peak - before) / len(left):,.0f} B an edge more), {removed:,} removed",
        flush=True,
    )


def _documents(count: int, draw: np.random.Generator) -> object:
    from forebear.tracer.dedupe.clusters import Documents

    return Documents(
        number=np.arange(count, dtype="u8"),
        rank=np.zeros(count, "i8"),
        bytes=draw.integers(200, 5000, count),
        digest=draw.integers(0, 2**63, (count, 4), dtype="u8"),
        shard=np.zeros(count, "i8"),
        row=np.arange(count),
        survives=np.ones(count, dtype=bool),
        shingles=np.full(count, 90),
    )


def main() -> None:
    """Every shape, or the one that is named."""
    count = int(sys.argv[1])
    if len(sys.argv) > 2:
        measure(sys.argv[2], count)
        return
    for shape in SHAPES:
        subprocess.run([sys.executable, __file__, str(count), shape], check=True)


if __name__ == "__main__":
    main()
