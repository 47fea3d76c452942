"""A whole scan against datatrove's four MinHash stages, on the same files, in the same run: documents/s and peak memory.

Run: `python tests/benchmarks/scan_speed.py [--documents 60000] [--runs 2] [--no-peer]`. The scan is `forebear scan` with two workers and
the default policy (toxicity, exact and near duplicates, log); its start-up is told apart, as `--json` reports it. The peer is
datatrove 0.10.1 (signatures, buckets, cluster, filter; 14 x 8) with two workers, in a virtual environment that this script makes; it
neither scores nor logs. Wall clock and CPU seconds are of the whole tree of processes, and so is the peak of memory (sum of
proportional shares, sampled). On a machine with other work trust the ratio of CPU seconds.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import threading
import time
from dataclasses import dataclass
from pathlib import Path

import psutil
from scan_corpus import make_corpus

PEER = ("datatrove[io,processing]==0.10.1", "spacy", "orjson")
STAGES = """
import sys, time
from datatrove.executor import LocalPipelineExecutor as Executor
from datatrove.pipeline.dedup import *
from datatrove.pipeline.dedup.minhash import MinhashConfig
from datatrove.pipeline.readers import ParquetReader
from datatrove.pipeline.writers import JsonlWriter

source, out = sys.argv[1:3]
config = MinhashConfig(num_buckets=14, hashes_per_bucket=8)

def main():
    began = time.time()
    Executor([ParquetReader(source), MinhashDedupSignature(out + "/sig", config=config)], tasks=12, workers=2, logging_dir=out + "/1").run()
    Executor([MinhashDedupBuckets(out + "/sig", out + "/b", config=config)], tasks=14, workers=2, logging_dir=out + "/2").run()
    Executor([MinhashDedupCluster(out + "/b", out + "/c", config=config)], tasks=1, logging_dir=out + "/3").run()
    filtered = [ParquetReader(source), MinhashDedupFilter(out + "/c"), JsonlWriter(out + "/o")]
    Executor(filtered, tasks=12, workers=2, logging_dir=out + "/4").run()
    print("SECONDS", time.time() - began)

if __name__ == "__main__":
    main()
"""


@dataclass(frozen=True)
class Cost:
    """What a command took: wall clock and CPU seconds, and the peak of memory (bytes) of its tree of processes."""

    wall: float
    cpu: float
    peak: int
    out: str


def measured(command: list[str]) -> Cost:
    """Run a command and watch its processes."""
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    peak, done = [0], threading.Event()
    with tempfile.TemporaryFile("w+") as out, subprocess.Popen(command, stdout=out, stderr=subprocess.DEVNULL) as process:
        watcher = threading.Thread(target=_watch, args=(process.pid, peak, done))
        watcher.start()
        code = process.wait()
        wall = time.perf_counter() - began
        done.set()
        watcher.join()
        out.seek(0)
        text = out.read()
    if code not in (0, 1):
        sys.exit(f"{command[0]} ended with {code}: {text[-500:]}")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return Cost(wall, cpu, peak[0], text)


def _watch(pid: int, peak: list[int], done: threading.Event) -> None:
    while not done.wait(0.2):
        peak[0] = max(peak[0], _tree(pid))


def _tree(pid: int) -> int:
    total = 0
    try:
        root = psutil.Process(pid)
        for process in [root, *root.children(recursive=True)]:
            total += process.memory_full_info().pss  # pages shared by processes count once
    except (psutil.NoSuchProcess, psutil.AccessDenied):
        pass
    return total


def peer_python(folder: Path) -> str:
    """The interpreter of the peer's own environment, made at the first run."""
    root = folder / "datatrove"
    if not (root / "ready").exists():
        shutil.rmtree(root, ignore_errors=True)
        subprocess.run([sys.executable, "-m", "venv", root], check=True)
        subprocess.run([root / "bin" / "python", "-m", "pip", "install", "-q", *PEER], check=True)
        (root / "ready").touch()
    return str(root / "bin" / "python")


def ours(corpus: Path, work: Path, runs: int) -> tuple[Cost, float]:
    """The best of some scans, and its seconds without start-up."""
    found = []
    for n in range(runs):
        command = [str(Path(sysconfig.get_path("scripts")) / "forebear"), "scan", str(corpus), "--workers", "2", "--json"]
        cost = measured([*command, "--ledger", str(work / f"ledger-{n}")])
        found.append((cost, json.loads(cost.out)["seconds"]["scan"]))
    return min(found, key=lambda one: one[1])


def theirs(corpus: Path, work: Path, folder: Path) -> tuple[Cost, float]:
    """The peer's four stages, and the seconds it took after its imports."""
    script = work / "stages.py"
    script.write_text(STAGES)
    cost = measured([peer_python(folder), str(script), str(corpus), str(work / "peer")])
    return cost, float(cost.out.rpartition("SECONDS ")[2].split()[0])


def line(name: str, documents: int, cost: Cost, seconds: float) -> str:
    """A row of the table."""
    return f"{name:12} {documents / seconds:10,.0f} {seconds:8.1f} {cost.wall:8.1f} {cost.cpu:8.1f} {cost.peak / 2**30:8.2f}"


def main() -> None:
    """Print a table and the ratios."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()) / "forebear-benchmarks")
    parser.add_argument("--documents", type=int, default=60_000)
    parser.add_argument("--runs", type=int, default=2)
    parser.add_argument("--no-peer", action="store_true")
    given = parser.parse_args()
    corpus = make_corpus(given.folder, documents=given.documents, shards=12)
    peer = None if given.no_peer else peer_python(given.folder)
    work = Path(tempfile.mkdtemp(dir=given.folder))
    try:
        print(f"load before: {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores; {given.documents:,} documents")
        print(f"{'':12} {'docs/s':>10} {'seconds':>8} {'wall':>8} {'CPU s':>8} {'GiB':>8}")
        cost, seconds = ours(corpus, work, given.runs)
        print(line("forebear", given.documents, cost, seconds))
        if peer:
            other, taken = theirs(corpus, work, given.folder)
            print(line("datatrove", given.documents, other, taken))
            print(f"ratio: {taken / seconds:.1f}x without start-up, {other.wall / cost.wall:.1f}x wall, {other.cpu / cost.cpu:.1f}x CPU")
    finally:
        shutil.rmtree(work, ignore_errors=True)


if __name__ == "__main__":
    main()
