"""Decide: who is kept, over the whole run, handed out by pack; and the record from which a run can be committed."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence

import pyarrow as pa

from forebear.pipelines.cluster import PARTITIONS, open_rosters, read_copies, read_measured, stored
from forebear.pipelines.steps import Step
from forebear.schemas.digests import digest_name
from forebear.tracer.scan.decide import decide_run, verified
from forebear.tracer.scan.packs import U64, Rosters
from forebear.tracer.scan.work import block_arrays

__all__ = ["Decide"]


class Decide(Step):
    """One element in; (pack, ("decision", name of its block)) out; `decided.json` into the job."""

    def work_on(
        self,
        element: object,
        packs: Sequence[str],
        unopened: Sequence[str],
        copies: Sequence[bytes] = (),
        measured: Sequence[tuple[str, bytes]] = (),
        buckets: Sequence[bytes] = (),
    ) -> Iterator[tuple[str, tuple[str, bytes]]]:
        """Decide and record."""
        rosters = open_rosters(packs, self)
        every = verified(read_measured(measured, self))
        for n, table in decide_run(every.edges, read_copies(copies, self), rosters):
            name = rosters.packs[n].name
            yield name, ("decision", stored(_ipc(table), f"decisions/{name}", self))
        hashes, sizes = block_arrays(list(buckets), ("hash", "documents"))
        record = {
            "packs": [pack.to_json() for pack in rosters.packs[: rosters.own]],
            "unopened": sorted((json.loads(one) for one in unopened), key=lambda one: str(one["path"])),
            "unmeasured": every.unmeasured,
            "partitions": self.job.get_json(PARTITIONS)["partitions"] if self.plan.signature else 0,
            "overflow": _overflow(every.unreached, rosters),
            "large_buckets": [
                {"hash": f"{hashed:016x}", "documents": int(size)}
                for size, hashed in sorted(zip(sizes, hashes, strict=True), reverse=True)[:20]
            ],
        }
        self.job.put_json("decided.json", record)


def _overflow(unreached: U64, rosters: Rosters) -> list[dict[str, object]]:
    """Documents that the budget of large buckets did not reach, by shard and row."""
    if not len(unreached):
        return []
    shard, row = rosters.rows(unreached)
    document = rosters.gather(unreached, "document")[0].astype(">u8")
    named = [digest_name(words.tobytes()) for words in document]
    places = zip(named, shard.tolist(), row.tolist(), strict=True)
    found = [{"document": name, "shard": rosters.shard_digests[at], "row": number} for name, at, number in places]
    return sorted(found, key=lambda one: (str(one["document"]), str(one["shard"]), one["row"]))


def _ipc(table: pa.Table) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return bytes(sink.getvalue())
