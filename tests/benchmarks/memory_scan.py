"""Peak memory of a scan against the number of documents: the whole tree of processes, and its largest process.

    python tests/benchmarks/memory_scan.py 1000000 4000000 --workers 2 --folder /tmp/forebear-memory

Short documents of about 300 bytes are made by a seed, one in twenty a copy of an earlier one and one in twenty a near-copy, in shards
of 31,250; `--one-file` puts all of them into one file, `--tiny N` into files of N documents. Prints one line for each number.
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil

SHARD = 31_250


def made(count: int, *, seed: int = 11) -> Iterator[bytes]:
    """Documents as JSON lines."""
    draw = random.Random(seed)
    vocabulary = ["".join(draw.choices("abcdefghijklmnopqrstuvwxyz", k=draw.randint(2, 9))) for _ in range(20_000)]
    recent: list[str] = []
    for n in range(count):
        kind = draw.random()
        if recent and kind < 0.1:
            text = recent[int(kind * 1e6) % len(recent)]
            text = text if kind < 0.05 else f"{text} {vocabulary[n % 20_000]}"
        else:
            text = " ".join(draw.choices(vocabulary, k=46))
            if len(recent) < 20_000:
                recent.append(text)
            else:
                recent[n % 20_000] = text
        yield b'{"id": "%d", "source": "s%d", "text": "%s"}\n' % (n, n % 7, text.encode())


def write(folder: Path, count: int, per_file: int) -> Path:
    """The documents in files; once."""
    if (folder.parent / f"{folder.name}.ready").exists():
        return folder
    folder.mkdir(parents=True, exist_ok=True)
    lines = made(count)
    for n in range(-(-count // per_file)):
        with (folder / f"{n:07}.jsonl").open("wb") as file:
            file.writelines(next(lines) for _ in range(min(per_file, count - n * per_file)))
    (folder.parent / f"{folder.name}.ready").touch()
    return folder


def scan(corpus: Path, ledger: Path, arguments: list[str]) -> tuple[dict[str, object], list[float], float]:
    """The scan's answer; peak MB of the tree (proportional set size), of its driver and of its largest worker; seconds."""
    shutil.rmtree(ledger, ignore_errors=True)
    command = [str(Path(sys.executable).parent / "forebear"), "scan", str(corpus), "--ledger", str(ledger), "--json", *arguments]
    start, peaks = time.monotonic(), [0.0, 0.0, 0.0]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        root = psutil.Process(process.pid)
        while process.poll() is None:
            sizes = []
            for one in [root, *_children(root)]:
                try:
                    # Pages of a file that several processes have mapped count once, in shares.
                    sizes.append(one.memory_full_info().pss / 1e6)
                except psutil.Error:
                    continue
            now = [sum(sizes), max(sizes[:1], default=0.0), max(sizes[1:], default=0.0)]
            peaks = [max(pair) for pair in zip(peaks, now, strict=True)]
            time.sleep(0.25)
        assert process.stdout is not None
        answer = json.loads(process.stdout.read())
    return answer, peaks, time.monotonic() - start


def _children(root: psutil.Process) -> list[psutil.Process]:
    try:
        return root.children(recursive=True)
    except psutil.Error:
        return []


def main() -> None:
    """Measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("counts", type=int, nargs="+")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--folder", type=Path, default=Path("/tmp/forebear-memory"))
    parser.add_argument("--one-file", action="store_true")
    parser.add_argument("--tiny", type=int)
    given, rest = parser.parse_known_args()
    for count in given.counts:
        per_file = given.tiny or (count if given.one_file else SHARD)
        corpus = write(given.folder / f"{count}-{per_file}", count, per_file)
        answer, (tree, driver, worker), seconds = scan(corpus, given.folder / "ledger", ["--workers", str(given.workers), *rest])
        size = sum(path.stat().st_size for path in corpus.iterdir()) / 1e6
        rows = answer["rows"]["in"]  # type: ignore[index]
        print(
            f"{count:>9,} documents, {size:,.0f} MB in {-(-count // per_file):,} files, {given.workers} workers: tree {tree:,.0f} MB,"
            f" driver {driver:,.0f} MB, largest worker {worker:,.0f} MB, {seconds:,.0f} s, {rows / seconds:,.0f}/s, seconds {answer['seconds']}",
            flush=True,
        )


if __name__ == "__main__":
    main()
