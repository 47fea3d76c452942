"""Progress of a scan, read from what its workers have left in the job: no metrics, which runners report differently or not at all.

Always true here: progress goes to standard error; on a terminal as a bar, elsewhere as a line now and then; it never raises.
"""

from __future__ import annotations

import json
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from forebear.pipelines.cluster import HOT, PARTITIONS
from forebear.schemas.errors import ForebearError
from forebear.tracer.scan.work import Work

__all__ = ["watching"]

_EVERY = 0.5  # seconds between looks
_LINE_EVERY = 20.0  # seconds between lines where there is no terminal


@contextmanager
def watching(total_bytes: int, *, quiet: bool = False) -> Iterator[_Watcher]:
    """Show the progress of the job that `see` names, until the block ends."""
    watcher = _Watcher(total_bytes, quiet)
    try:
        yield watcher
    finally:
        watcher.stop()


class _Watcher:
    def __init__(self, total_bytes: int, quiet: bool) -> None:
        self._total, self._quiet = max(1, total_bytes), quiet
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def see(self, job: Work) -> None:
        """Begin to watch a job."""
        if not self._quiet:
            self._thread = threading.Thread(target=self._look, args=(job,), daemon=True)
            self._thread.start()

    def stop(self) -> None:
        """Stop watching."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join(timeout=5)

    def _look(self, job: Work) -> None:
        counts = _Counts(job)
        console = Console(stderr=True)
        if console.is_terminal:
            columns = (
                TextColumn("{task.description}"),
                BarColumn(),
                TextColumn("{task.fields[rows]:,} rows, {task.fields[rate]:,.0f}/s"),
            )
            with Progress(*columns, TimeElapsedColumn(), TimeRemainingColumn(), console=console, transient=True) as bar:
                task = bar.add_task("reading and scoring", total=self._total, rows=0, rate=0.0)
                while not self._stop.wait(_EVERY):
                    self._draw(bar, task, counts)
            return
        last = time.monotonic()
        while not self._stop.wait(_EVERY):
            if time.monotonic() - last >= _LINE_EVERY:
                last = time.monotonic()
                counts.look()
                print(counts.line(self._total), file=sys.stderr, flush=True)  # noqa: T201 - progress is for people

    def _draw(self, bar: Progress, task: TaskID, counts: _Counts) -> None:
        counts.look()
        bar.update(task, completed=counts.bytes, rows=counts.rows, rate=counts.rate, description=counts.stage)


class _Counts:
    """What a job's records say so far."""

    def __init__(self, job: Work) -> None:
        self._job, self._seen, self._began = job, set[str](), time.monotonic()
        self.rows = self.bytes = self.packs = self.logs = 0
        self.comparing = ""

    @property
    def rate(self) -> float:
        return self.rows / max(1e-9, time.monotonic() - self._began)

    @property
    def stage(self) -> str:
        if self.logs:
            return f"logging {self.logs}/{self.packs}"
        return self.comparing or "reading and scoring"

    def look(self) -> None:
        """Read the records that are new."""
        try:
            for name in self._job.names("packs"):
                if name not in self._seen:
                    self._seen.add(name)
                    pack = json.loads(bytes(self._job.get(name)))
                    self.packs += 1
                    self.rows += sum(span["rows"] for span in pack["spans"])
                    self.bytes += sum(shard["bytes"] for shard in pack["used"] if shard["digest"] in pack["ends"])
            self.logs = len(self._job.names("logs"))
            if not self.logs:
                self.comparing = self._comparing()
        except (OSError, KeyError, ValueError, ForebearError):
            return  # a record being written; the next look sees it

    def _comparing(self) -> str:
        if not self._job.has(PARTITIONS):
            return ""
        hot = self._job.get_json(HOT) if self._job.has(HOT) else {"buckets": 0}
        tail = f", {hot['buckets']:,} large buckets, up to {hot['largest']:,} documents in one" if hot["buckets"] else ""
        return f"comparing{tail}"

    def line(self, total: int) -> str:
        left = (total - self.bytes) / max(1, self.bytes) * (time.monotonic() - self._began)
        tail = f", about {left:,.0f} s left" if self.bytes and not self.logs and not self.comparing else ""
        return f"{self.stage}: {self.rows:,} rows, {self.rate:,.0f}/s, {self.bytes / total:.0%} of the bytes{tail}"
