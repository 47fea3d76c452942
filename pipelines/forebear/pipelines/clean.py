"""Clean: the kept rows of a shard as a file of their own, registered with the run."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from forebear.pipelines.steps import Step
from forebear.tracer.corpus.clean import write_cleaned
from forebear.tracer.corpus.rows import Source
from forebear.tracer.scan.packs import Pack
from forebear.tracer.scan.work import block_arrays

__all__ = ["CleanShard"]


class CleanShard(Step):
    """(shard, kept rows) in; a cleaned file, and its record in the job."""

    def work_on(self, element: tuple[str, Iterable[bytes]], packs: Sequence[str]) -> Iterator[str]:
        """Filter the source, never over other bytes."""
        digest, blocks = element
        shard = next(shard for pack in map(Pack.from_json, packs) for shard in pack.used if shard.digest == digest)
        (rows,) = block_arrays(list(blocks), ("row",))
        source = Source.from_path(shard.path, expected=digest)
        assert self.plan.clean is not None
        kept = np.sort(rows).astype("i8")
        done = write_cleaned(source, options=self.plan.reader, kept=kept, folder=self.plan.clean, name_hint=shard.path)
        record = {"source": digest, "shard": done.sha256, "rows": done.rows, "path": done.path}
        self.job.put_json(f"clean/{digest[7:]}.json", record)
        yield done.path
