"""Read: name every input file by its bytes, and bring together what is the same.

Always true here: the same bytes given twice are one shard with several paths; a file that cannot be opened is named, not lost; work
is dealt out in batches of files, so that a million small files cost no million elements.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import apache_beam as beam
from apache_beam.pvalue import PCollection

from forebear.pipelines.steps import Step
from forebear.schemas.errors import DataError
from forebear.tracer.corpus.inputs import InputFile, file_digest
from forebear.tracer.scan.evidence import warm_up
from forebear.tracer.scan.packs import Shard
from forebear.tracer.scan.plan import Plan
from forebear.tracer.scan.work import Work

__all__ = ["NameShards", "ReadInputs", "batches", "put_inputs"]

BATCH_BYTES = 64 << 20
BATCH_FILES = 4096


def batches(files: Sequence[InputFile], *, workers: int) -> list[str]:
    """Files dealt into batches of bounded bytes and number, as JSON; at least one for each worker where there are files."""
    total = sum(file.size for file in files)
    limit = min(BATCH_BYTES, max(1, total // max(1, 2 * workers)))
    found: list[list[InputFile]] = []
    size = limit
    for file in files:
        if size >= limit or len(found[-1]) >= BATCH_FILES:
            found.append([])
            size = 0
        found[-1].append(file)
        size += file.size
    return [json.dumps([[file.path, file.size, file.format, file.expected] for file in batch]) for batch in found]


def put_inputs(files: Sequence[InputFile], work: Work, *, workers: int) -> None:
    """Leave the batches in the work place, one a line: a graph that held 100,000 paths would be larger than services take."""
    work.put("inputs", "\n".join(batches(files, workers=workers)).encode())


class ReadInputs(Step):
    """One element in; (number, batch of files as JSON) out."""

    def work_on(self, element: object) -> Iterator[tuple[int, str]]:
        """Read what the driver left."""
        yield from enumerate(bytes(self.work.get("inputs")).decode().splitlines())


class HashFiles(Step):
    """Name each file of a batch by its SHA-256.

    Yields ("shard", (digest, facts)) or ("unopened", ("", facts)), facts as JSON.
    """

    def begin(self) -> None:
        """Load models and kernels before the first file is touched, so that start-up can be told apart."""
        warm_up(self.plan)

    def work_on(self, element: tuple[int, Iterable[str]]) -> Iterator[tuple[str, tuple[str, str]]]:
        """Hash a batch."""
        self.mark_start()
        number, batch = element[0], next(iter(element[1]))
        for path, _, form, expected in json.loads(batch):
            try:
                digest, size = file_digest(path)
                if expected and digest != expected:
                    raise DataError("source_changed", expected=f"{path} with {expected}", found=digest, remedy="See the list of inputs.")
            except DataError as error:
                yield "unopened", ("", json.dumps({"path": path, "shard": None, "why": str(error)}))
                continue
            facts = {"path": path, "bytes": size, "format": form, "batch": number}
            yield "shard", (digest, json.dumps(facts))


class AssignShards(Step):
    """Send each shard to the evidence that the index offers, or to the batch that will read it."""

    def begin(self) -> None:
        """Read what the index offers."""
        self.offers = Work(self.plan.work).get_json("offers.json")

    def work_on(self, element: tuple[str, Iterable[str]]) -> Iterator[tuple[str, str]]:
        digest, facts = element[0], sorted((json.loads(one) for one in element[1]), key=lambda one: one["path"])
        first = facts[0]
        shard = Shard(digest, tuple(one["path"] for one in facts), first["bytes"], first["format"])
        offered = self.offers.get(digest)
        key = "reuse:" + "+".join(offered) if offered else f"read:{first['batch']:08d}"
        yield key, shard.to_json()


@dataclass
class NameShards(beam.PTransform[PCollection[tuple[int, str]], PCollection[tuple[str, Iterable[str]]]]):
    """Batches of files in; shards out, grouped by who makes or offers their evidence. Beside them, files that did not open."""

    plan: Plan

    def expand(self, pcoll: PCollection[tuple[int, str]]) -> tuple[PCollection[Any], PCollection[str]]:  # type: ignore[override]
        """Hash, bring the same bytes together, assign."""
        named = pcoll | "Deal out" >> beam.GroupByKey() | "Hash files" >> beam.ParDo(HashFiles(self.plan))
        shards = (
            named
            | "Shards" >> beam.FlatMap(_of_kind, "shard").with_output_types(tuple[str, str])
            | "Same bytes together" >> beam.GroupByKey()
            | "Assign shards" >> beam.ParDo(AssignShards(self.plan)).with_output_types(tuple[str, str])
            | "Shards of a batch together" >> beam.GroupByKey()
        )
        unopened = named | "Unopened" >> beam.FlatMap(_of_kind, "unopened").with_output_types(tuple[str, str]) | beam.Values()
        return shards, unopened


def _of_kind(element: tuple[str, tuple[str, str]], kind: str) -> Iterator[tuple[str, str]]:
    if element[0] == kind:
        yield element[1]
