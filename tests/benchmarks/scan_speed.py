"""A whole scan against datatrove's four MinHash stages, on the same files, in the same run: documents/s and peak memory.

Run: `python tests/benchmarks/scan_speed.py [--documents 60000] [--runs 2] [--no-peer]`. The scan is `forebear scan` with two workers and
the default policy (toxicity, exact and near duplicates, log); its start-up is told apart, as `--json` reports it. The peer is
datatrove 0.10.1 (signatures, buckets, cluster, filter; 14 x 8) with two workers, in a virtual environment that this script makes; it
neither scores nor logs. Wall clock, CPU seconds and the peak of memory (sum of proportional shares) are of the whole tree of
processes, the last two sampled twice a second. On a machine with other work trust the ratio of CPU seconds.
"""

from __future__ import annotations

import argparse
import json
import os
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


class Watch(threading.Thread):
    """Samples a tree of processes: the peak of its memory, and the CPU seconds of each process that was ever in it."""

    def __init__(self, pid: int) -> None:
        super().__init__(daemon=True)
        self.root = psutil.Process(pid)
        self.done = threading.Event()
        self.peak = 0
        self.seconds: dict[tuple[int, float], float] = {}

    def run(self) -> None:
        """Sample until told to stop."""
        while not self.done.wait(0.5):
            self._sample()

    def _sample(self) -> None:
        total = 0
        try:
            tree = [self.root, *self.root.children(recursive=True)]
        except psutil.NoSuchProcess:
            return
        for process in tree:
            try:
                times = process.cpu_times()
                total += process.memory_full_info().pss  # pages shared by processes count once
                self.seconds[process.pid, process.create_time()] = times.user + times.system
            except (psutil.NoSuchProcess, psutil.AccessDenied):
                continue
        self.peak = max(self.peak, total)


def measured(command: list[str]) -> Cost:
    """Run a command and watch its processes."""
    began = time.perf_counter()
    with tempfile.TemporaryFile("w+") as out, subprocess.Popen(command, stdout=out, stderr=subprocess.DEVNULL) as process:
        watch = Watch(process.pid)
        watch.start()
        code = process.wait()
        wall = time.perf_counter() - began
        watch.done.set()
        watch.join()
        out.seek(0)
        text = out.read()
    if code not in (0, 1):
        sys.exit(f"{command[0]} ended with {code}: {text[-500:]}")
    return Cost(wall, sum(watch.seconds.values()), watch.peak, text)


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
