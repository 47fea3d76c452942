"""Scan: the whole pipeline, in the order in which DESIGN tells it, and the driver around it.

Always true here: the graph is the same for every runner; a run is committed by one finaliser after every worker is done; what a
killed scan had finished is taken up by the next.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import apache_beam as beam
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.pvalue import AsList, PBegin, PCollection

from forebear.pipelines.against import ListEarlier, OpenEarlier
from forebear.pipelines.clean import CleanShard
from forebear.pipelines.cluster import FindCandidates, FindCopies, Measure, PlanMeasures, ReadAgain, SplitWork
from forebear.pipelines.decide import Decide
from forebear.pipelines.log import LogPack
from forebear.pipelines.options import LOCAL, step_memory
from forebear.pipelines.read import NameShards, ReadInputs, put_inputs
from forebear.pipelines.score import GatherEvidence
from forebear.pipelines.steps import FAILURE
from forebear.pipelines.worker import worker_processes
from forebear.schemas.errors import ForebearError, UsageError
from forebear.schemas.moments import utc_text
from forebear.tracer.corpus.inputs import InputFile, ReaderOptions
from forebear.tracer.dedupe.bands import curve
from forebear.tracer.ledger.ledger import Ledger
from forebear.tracer.policy import Policy
from forebear.tracer.scan.against import find_earlier
from forebear.tracer.scan.commit import Committed, commit_job, job_name, job_work, plan_record
from forebear.tracer.scan.evidence import reusable_packs
from forebear.tracer.scan.jobs import clear_dead_jobs, this_process
from forebear.tracer.scan.log import LogRef
from forebear.tracer.scan.plan import Plan, signature_options
from forebear.tracer.scan.work import Work

__all__ = ["Scan", "ScanOptions", "launch_scan", "run_scan"]

Block = tuple[str, bytes]


def _only(element: tuple[str, Any], kind: str) -> Any:
    if element[0] == kind:
        yield element[1]


@dataclass
class Cluster(beam.PTransform[PCollection[str], PCollection[Block]]):
    """Packs in; (copies, measured edges, large buckets) out."""

    plan: Plan
    workers: int
    memory: Mapping[str, str] = field(default_factory=dict)

    def expand(  # type: ignore[override]
        self, packs: PCollection[str]
    ) -> tuple[PCollection[bytes], PCollection[Block], PCollection[bytes]]:
        """Copies, candidates, texts again, measures."""
        every, root, plan = AsList(packs), packs.pipeline, self.plan
        ranges = (
            root
            | "Once for ranges" >> beam.Create([None], reshuffle=False)
            | "Split work" >> beam.ParDo(SplitWork(plan, self.workers), every).with_output_types(tuple[int, str])
            | "Deal out ranges" >> beam.GroupByKey()
        )
        copies = ranges | "Find copies" >> beam.ParDo(FindCopies(plan), every).with_output_types(bytes)
        finding = beam.ParDo(FindCandidates(plan), every, AsList(copies)).with_output_types(Block)
        candidates = ranges | _with_memory("Find candidates", finding, self.memory)
        planned = (
            root
            | "Once for measures" >> beam.Create([None], reshuffle=False)
            | "Plan measures" >> beam.ParDo(PlanMeasures(plan), every, AsList(candidates)).with_output_types(tuple[str, Block])
        )
        read = (
            planned
            | "Rows to read again" >> beam.FlatMap(_only, "read").with_output_types(Block)
            | "Rows of a pack together" >> beam.GroupByKey()
            | "Read again" >> beam.ParDo(ReadAgain(plan), every).with_output_types(tuple[str, int])
        )
        measuring = beam.ParDo(Measure(plan), every, AsList(read)).with_output_types(Block)
        measured = (
            planned
            | "Measures to take" >> beam.FlatMap(_only, "measure").with_output_types(Block)
            | "Deal out measures" >> beam.GroupByKey()
            | _with_memory("Measure", measuring, self.memory)
        )
        buckets = planned | "Large buckets" >> beam.FlatMap(_only, "buckets").with_output_types(Block) | "Bucket facts" >> beam.Values()
        return copies, measured, buckets


@dataclass
class Scan(beam.PTransform[PBegin, PCollection[Any]]):
    """The job's batches of files in; logs, and cleaned shards where asked for, into the ledger's store.

    Args:
        plan: What every step knows.
        workers: How many work at once, at the least.
        memory: Least memory of a worker, by a step's label.
    """

    plan: Plan
    workers: int = 1
    memory: Mapping[str, str] = field(default_factory=dict)

    def expand(self, root: PBegin) -> PCollection[Any]:
        """Read, score, cluster, decide, log, clean."""
        plan = self.plan
        files = (
            root.pipeline
            | "Once for inputs" >> beam.Create([None], reshuffle=False)
            | "Inputs" >> beam.ParDo(ReadInputs(plan)).with_output_types(tuple[int, str])
        )
        shards, unopened = files | "Read" >> NameShards(plan)
        packs = shards | _with_memory("Score", beam.ParDo(GatherEvidence(plan)).with_output_types(str), self.memory)
        compared = (packs, self._earlier(root)) | "With earlier packs" >> beam.Flatten() if plan.against else packs
        sides: list[Any] = [AsList(compared), AsList(unopened)]
        if plan.signature is not None:
            copies, measured, buckets = compared | "Cluster" >> Cluster(plan, self.workers, self.memory)
            sides += [AsList(copies), AsList(measured), AsList(buckets)]
        decisions = (
            root.pipeline
            | "Once for decisions" >> beam.Create([None], reshuffle=False)
            | _with_memory("Decide", beam.ParDo(Decide(plan), *sides).with_output_types(tuple[str, Block]), self.memory)
        )
        named = packs | "Packs by name" >> beam.Map(_by_name).with_output_types(tuple[str, Block])
        kept = (
            (named, decisions)
            | "Packs and decisions" >> beam.Flatten()
            | "Decisions to their pack" >> beam.GroupByKey()
            | "Log" >> beam.ParDo(LogPack(plan)).with_output_types(Block)
        )
        if plan.clean is None:
            return kept
        cleaned: PCollection[Any] = (
            kept
            | "Rows of a shard together" >> beam.GroupByKey()
            | "Clean" >> beam.ParDo(CleanShard(plan), AsList(packs)).with_output_types(str)
        )
        return cleaned

    def _earlier(self, root: PBegin) -> PCollection[str]:
        """What the runs kept that this one is held against."""
        return (
            root.pipeline
            | "Once for earlier runs" >> beam.Create([None], reshuffle=False)
            | "List earlier packs" >> beam.ParDo(ListEarlier(self.plan)).with_output_types(tuple[int, str])
            | "Deal out earlier packs" >> beam.GroupByKey()
            | "Open earlier packs" >> beam.ParDo(OpenEarlier(self.plan)).with_output_types(str)
        )


def _with_memory(label: str, step: Any, memory: Mapping[str, str]) -> Any:
    return label >> (step.with_resource_hints(min_ram=memory[label]) if label in memory else step)


def _by_name(pack: str) -> tuple[str, Block]:
    from forebear.tracer.scan.packs import Pack

    return Pack.from_json(pack).name, ("pack", pack.encode())


@dataclass(frozen=True)
class ScanOptions:
    """What a user may ask of a scan beyond its inputs and its policy."""

    clean: str | None = None
    work: str | None = None
    workers: int = 1
    max_errored: float = 1.0
    against: tuple[str, ...] = ()
    runner: str = "FnApiRunner"


@dataclass(frozen=True)
class Scanned:
    """A committed scan and how long its parts took (seconds)."""

    committed: Committed
    start: float
    scan: float


def run_scan(
    ledger: Ledger,
    files: Sequence[InputFile],
    *,
    policy: Policy,
    reader: ReaderOptions,
    options: ScanOptions,
    beam_options: PipelineOptions,
    clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    began: float | None = None,
    watch: Callable[[Work], None] | None = None,
) -> Scanned:
    """Scan files into a ledger.

    Args:
        ledger: Where the run is committed.
        files: What is scanned.
        policy: The effective policy.
        reader: Options of the reader.
        options: Workers, places, bounds.
        beam_options: The runner's options.
        clock: Tells the time.
        began: When the program began (seconds since the epoch), for the report of start-up.
        watch: Called with the job's records before the pipeline runs, for progress.

    Raises:
        ForebearError: What a user can mend.
    """
    began = time.time() if began is None else began
    plan = _begin(ledger, files, policy=policy, reader=reader, options=options, started=clock())
    records, work = job_work(plan.ledger, plan.job), plan.work
    if watch is not None:
        watch(records)
    try:
        _run(plan, records, options=options, beam_options=beam_options)
        _refuse_too_many_errors(records, options.max_errored)
        committed = commit_job(ledger, plan.job, clock=clock)
    finally:
        Work(work).clear()  # what a later scan or `commit` takes up is in the ledger; a full disk needs the room
    first = records.get_json("started/first.json")["time"] if records.names("started") else time.time()
    return Scanned(committed, start=max(0.0, first - began), scan=time.time() - first)


def launch_scan(
    ledger: Ledger,
    files: Sequence[InputFile],
    *,
    policy: Policy,
    reader: ReaderOptions,
    options: ScanOptions,
    beam_options: PipelineOptions,
    clock: Callable[[], datetime] = lambda: datetime.now(UTC),
) -> str:
    """Hand a scan to a service that goes on without this process, and do not wait.

    Returns:
        The job's name: once the service is done, `forebear commit JOB` adds the run to the ledger.
    """
    plan = _begin(ledger, files, policy=policy, reader=reader, options=options, started=clock())
    pipeline = beam.Pipeline(options=beam_options)
    _ = pipeline | "Scan" >> Scan(plan, options.workers, step_memory(beam_options))
    pipeline.run()
    return plan.job


def _begin(
    ledger: Ledger, files: Sequence[InputFile], *, policy: Policy, reader: ReaderOptions, options: ScanOptions, started: datetime
) -> Plan:
    """Name the job and write down all that its workers and its finaliser read."""
    job = job_name(started, secrets.token_hex(3))
    records = job_work(ledger.store.url, job)
    work = f"{_absolute(options.work)}/{job}" if options.work else f"{records.url}/work"
    earlier = find_earlier(ledger, options.against, signature_options(policy)) if options.against else ()
    plan = Plan(job, ledger.store.url, work, policy, reader, options.clean, earlier)
    clear_dead_jobs(ledger)
    _record_plan(plan, ledger, records, started=started, options=options)
    put_inputs(files, Work(work), workers=options.workers)
    return plan


def _absolute(place: str) -> str:
    return place.rstrip("/") if "://" in place else str(Path(place).absolute())


def _record_plan(plan: Plan, ledger: Ledger, records: Work, *, started: datetime, options: ScanOptions) -> None:
    signature = plan.signature
    record = plan_record(
        plan,
        version=version("forebear"),
        started=utc_text(started),
        curve=curve(bands=signature.bands, rows=signature.rows) if signature else [],
        environment={"runner": options.runner, "workers": options.workers},
        work=plan.work,
        owner=this_process() if options.runner in LOCAL else {},  # elsewhere workers may outlive the driver
    )
    records.put_json("plan.json", record)
    Work(plan.work).put_json("offers.json", reusable_packs(plan, ledger))


def _run(plan: Plan, records: Work, *, options: ScanOptions, beam_options: PipelineOptions) -> None:
    try:
        with beam.Pipeline(runner=worker_processes(beam_options), options=beam_options) as pipeline:
            _ = pipeline | "Scan" >> Scan(plan, options.workers, step_memory(beam_options))
    except Exception as error:
        if records.has(FAILURE):
            raise ForebearErrorRecord.rebuild(records.get_json(FAILURE)) from error
        raise


class ForebearErrorRecord:
    """Failures that workers recorded, as errors again."""

    @staticmethod
    def rebuild(record: dict[str, str]) -> ForebearError:
        """The error that a worker recorded."""
        return UsageError(record["kind"], expected=record["expected"], found=record["found"], remedy=record["remedy"])


def _refuse_too_many_errors(records: Work, limit: float) -> None:
    if limit >= 1:
        return
    refs = [LogRef.from_json(records.get_json(name)) for name in records.names("logs")]
    rows = sum(span.rows for ref in refs for span in ref.spans)
    errored = sum(span.errored for ref in refs for span in ref.spans)
    if rows and errored / rows > limit:
        raise UsageError(
            "too_many_errors",
            expected=f"at most {limit:.2%} of the rows errored (--max-errored)",
            found=f"{errored} of {rows}",
            remedy="Mend the inputs, or raise --max-errored; nothing was committed.",
        )
