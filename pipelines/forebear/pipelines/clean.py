"""Clean: the kept rows of a shard as a file of their own, registered with the run."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import numpy.typing as npt

from forebear.pipelines.cluster import open_rosters
from forebear.pipelines.steps import Step
from forebear.schemas.errors import DataError
from forebear.tracer.corpus.clean import write_cleaned
from forebear.tracer.corpus.rows import Source
from forebear.tracer.scan.packs import Shard
from forebear.tracer.scan.work import block_arrays

__all__ = ["CleanShard"]


class CleanShard(Step):
    """(shard, kept rows) in; a cleaned file, and its record in the job."""

    def work_on(self, element: tuple[str, Iterable[bytes]], packs: Sequence[str]) -> Iterator[str]:
        """Filter the source, never over other bytes."""
        digest, blocks = element
        shard = open_rosters(packs, self).shards[digest]
        (rows,) = block_arrays(list(blocks), ("row",))
        record = self._clean(shard, np.sort(rows).astype("i8"))
        self.job.put_json(f"clean/{digest[7:]}.json", record)
        yield digest

    def _clean(self, shard: Shard, kept: npt.NDArray[np.int64]) -> dict[str, object]:
        """The record of a cleaned shard; of one whose source is not what was scanned any more, why there is none."""
        assert self.plan.clean is not None
        try:
            source = Source.from_path(shard.path, expected=shard.digest)
            done = write_cleaned(source, options=self.plan.reader, kept=kept, folder=self.plan.clean, name_hint=shard.path)
        except DataError as error:
            return {"source": shard.digest, "path": shard.path, "failed": str(error)}
        return {"source": shard.digest, "shard": done.sha256, "rows": done.rows, "path": done.path}
