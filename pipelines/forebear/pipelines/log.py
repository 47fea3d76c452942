"""Log: the decision rows of a pack, stored by digest, with the reference that the finaliser reads."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
import pyarrow as pa

from forebear.pipelines.cluster import fetched
from forebear.pipelines.steps import Step
from forebear.schemas.tables import parquet_bytes
from forebear.tracer.scan.log import log_pack, ref_bytes
from forebear.tracer.scan.packs import Pack
from forebear.tracer.scan.work import arrays_block

__all__ = ["LogPack"]


class LogPack(Step):
    """(pack, its reference and its decisions) in; (shard, kept rows) out, for those who clean."""

    def work_on(self, element: tuple[str, Iterable[tuple[str, bytes]]]) -> Iterator[tuple[str, bytes]]:
        """Build, store, leave the reference."""
        parts = dict(element[1])
        pack = Pack.from_json(parts["pack"])
        decisions = None
        if "decision" in parts:
            (block,) = fetched([parts["decision"]], self)
            decisions = pa.ipc.open_stream(block).read_all()
        logged = log_pack(pack, decisions, self.plan, ledger=self.ledger)
        self.job.put(f"flagged/{pack.name}", parquet_bytes(logged.flagged))
        self.job.put(f"logs/{pack.name}.json", ref_bytes(logged.ref))
        if self.plan.clean:
            yield from ((shard, arrays_block(row=rows)) for shard, _, rows in logged.kept)
            yield from ((digest, arrays_block(row=np.zeros(0, "i8"))) for digest in pack.ends if digest in _used(pack))


def _used(pack: Pack) -> set[str]:
    return {shard.digest for shard in pack.used}
