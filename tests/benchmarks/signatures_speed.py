"""The signature kernel against datasketch on the same documents, one core: documents/s, the ratio, and that all bits agree.

Run: `python tests/benchmarks/signatures_speed.py [--documents 4000] [--bands 14] [--rows 8]`. Documents of about 2.3 kB made of real
sentences. datasketch is given our shingles already hashed (its fastest way, `update_batch`), and apart from that as its users give
them: word 5-grams, lower case, hashed by SHA-1. CPU time in this process, best of five passes of the kernel and one of the peer.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import numpy as np
import pyarrow as pa
from datasketch import MinHash
from scan_corpus import made

from forebear.tracer.dedupe.shingles import shingle_hashes, shingle_sets
from forebear.tracer.dedupe.signatures import SignatureOptions, signatures, sketch


def best(run: Callable[[], object], passes: int) -> float:
    """CPU seconds of the fastest pass."""
    times = []
    for _ in range(passes):
        began = time.process_time()
        run()
        times.append(time.process_time() - began)
    return min(times)


def hashed(texts: list[str], options: SignatureOptions) -> list[list[int]]:
    """The 32-bit hashes of each text's distinct shingles, in plain Python."""
    return [[value & 0xFFFFFFFF for value in shingle_hashes(text, options.shingles)] for text in texts]


def theirs_hashed(hashes: list[list[int]], options: SignatureOptions) -> list[MinHash]:
    """datasketch over shingles that are already hashed."""
    found = []
    for values in hashes:
        one = MinHash(num_perm=options.bands * options.rows, seed=options.seed, hashfunc=int, scheme="affine32")
        one.update_batch(values)
        found.append(one)
    return found


def theirs_whole(texts: list[str], options: SignatureOptions) -> list[MinHash]:
    """datasketch as its users call it, from the text."""
    found = []
    for text in texts:
        words = text.lower().split()
        shingles = {" ".join(words[n : n + 5]).encode() for n in range(max(1, len(words) - 4))}
        one = MinHash(num_perm=options.bands * options.rows, seed=options.seed, scheme="affine32")
        one.update_batch(shingles)
        found.append(one)
    return found


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--documents", type=int, default=4000)
    parser.add_argument("--bands", type=int, default=14)
    parser.add_argument("--rows", type=int, default=8)
    given = parser.parse_args()
    options = SignatureOptions(bands=given.bands, rows=given.rows)
    texts = made(given.documents)
    column = pa.array(texts, pa.large_string())
    sketch(column.slice(0, 8), options), shingle_sets(column.slice(0, 8))
    hashes = hashed(texts, options)
    peer = theirs_hashed(hashes, options)
    same = (signatures(column, options) == np.array([one.hashvalues for one in peer])).all()
    rows = {
        "kernel: text to signatures and bands": best(lambda: sketch(column, options), 5),
        "kernel: text to shingle sets alone": best(lambda: shingle_sets(column, options.shingles), 5),
        "datasketch: from the text (SHA-1)": best(lambda: theirs_whole(texts, options), 1),
        "datasketch: shingles already hashed": best(lambda: theirs_hashed(hashes, options), 1),
    }
    print(f"{len(texts)} documents of {sum(map(len, texts)) / len(texts):.0f} characters, {options.bands * options.rows} permutations")
    ours = next(iter(rows.values()))
    for name, seconds in rows.items():
        print(f"{name:40} {len(texts) / seconds:10,.0f} documents/s {seconds / ours:7.1f}x the kernel's time")
    print(f"bit-identical: {'yes' if same else 'NO'}")


if __name__ == "__main__":
    main()
