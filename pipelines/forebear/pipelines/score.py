"""Score: evidence of every shard, from the index or read anew, and the roster that later steps look documents up in."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from forebear.pipelines.steps import Step
from forebear.tracer.scan.evidence import gather_evidence, reuse
from forebear.tracer.scan.packs import Pack, Shard, build_roster, put_roster, read_evidence

__all__ = ["GatherEvidence"]


class GatherEvidence(Step):
    """Shards of a batch in; packs of evidence out, as JSON."""

    def begin(self) -> None:
        """Load the models once."""
        _ = self.plan.detectors

    def work_on(self, element: tuple[str, Iterable[str]]) -> Iterator[str]:
        """Take up what the index offers, read the rest."""
        key, shards = element[0], sorted((Shard.from_json(text) for text in element[1]), key=lambda shard: shard.path)
        for pack in self._packs(key, shards):
            table = build_roster(read_evidence(pack, self.ledger), pack, self.plan)
            put_roster(table, pack, self.work)
            self.job.put(f"packs/{pack.name}.json", pack.to_json().encode())
            yield pack.to_json()

    def _packs(self, key: str, shards: list[Shard]) -> Iterator[Pack]:
        how, _, names = key.partition(":")
        if how == "reuse":
            found = [reuse(name, shards, self.plan, self.ledger) for name in names.split("+")]
            if None not in found:
                return iter([pack for pack in found if pack is not None])
        return gather_evidence(shards, self.plan, self.ledger)
