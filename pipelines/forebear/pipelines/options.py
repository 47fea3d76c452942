"""Runners: how a scan's command line becomes Beam's options, and what a runner is told of the steps' memory.

Always true here: without a runner named, the scan runs in this process (FnApiRunner), or in several processes of this machine
where more workers are asked for; never in threads, which corrupt large shuffles; `DirectRunner` is taken for the same, since what
Beam makes of that name may try to download another runner.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from apache_beam.options.pipeline_options import DirectOptions, PipelineOptions, StandardOptions

from forebear.schemas.errors import UsageError

__all__ = ["LOCAL", "STEP_MEMORY", "beam_options", "step_memory"]

LOCAL = ("FnApiRunner", "DirectRunner")

_PORTABLE = ("--environment_cache_millis=600000",)
"""Spark and Flink start Python workers anew for every stage without it, and each loads the models (16 s became 7 s)."""

STEP_MEMORY = {
    "Score": "4GB",  # the models, and evidence and band hashes of one pack of 256 MB of text
    "Find candidates": "8GB",  # one partition of 96 MB, the copies, and 53 bytes of roster a document
    "Measure": "8GB",  # shingle sets of 2**17 pairs, and the rosters of their packs
    "Decide": "16GB",  # every verified edge of the run in one place
}
"""Least memory of a worker for the steps that need some, by their label."""


def beam_options(*, runner: str | None, workers: int, extra: Sequence[str] = ()) -> PipelineOptions:
    """The pipeline's options.

    Args:
        runner: A Beam runner's name, or None for this machine.
        workers: Processes on this machine; other runners take theirs from `extra`.
        extra: Options handed to Beam as they are, after ours, so that they win.

    Raises:
        UsageError: Threads are asked for, workers are not positive, or `extra` names a runner.
    """
    if workers < 1:
        raise UsageError("wrong_value", expected="--workers of 1 or more", found=str(workers), remedy="Leave it out.")
    named = [option for option in extra if option.partition("=")[0] == "--runner"]
    if named:
        raise UsageError(
            "wrong_value",
            expected="Beam's options without a runner",
            found=named[0],
            remedy="Name the runner before the `--`: forebear scan --runner NAME INPUT... -- OPTIONS.",
        )
    local = runner is None or runner in LOCAL
    arguments = [f"--runner={'FnApiRunner' if local else runner}"]
    if local and workers > 1:
        arguments += [f"--direct_num_workers={workers}", "--direct_running_mode=multi_processing"]
    if not local and not _is_dataflow(runner):
        arguments += _PORTABLE
    options = PipelineOptions([*arguments, *extra])
    if local:
        _refuse_threads(options.view_as(DirectOptions))
    return options


def _refuse_threads(direct: DirectOptions) -> None:
    """Refuse every way to several workers in one process: the threaded mode, and several workers of the in-memory one."""
    several = direct.direct_num_workers != 1 and direct.direct_running_mode != "multi_processing"
    if several or direct.direct_running_mode == "multi_threading":
        raise UsageError(
            "wrong_value",
            expected="workers that are processes",
            found=f"--direct_running_mode={direct.direct_running_mode} --direct_num_workers={direct.direct_num_workers}",
            remedy="Workers in threads corrupt large shuffles; use --workers N.",
        )


def step_memory(options: PipelineOptions) -> Mapping[str, str]:
    """Memory hints for the steps: on Dataflow alone.

    Elsewhere a step with a hint of its own gets an environment of its own, thus a second set of Python processes and models.
    """
    return STEP_MEMORY if _is_dataflow(options.view_as(StandardOptions).runner) else {}


def _is_dataflow(runner: str | None) -> bool:
    return (runner or "").lower() == "dataflowrunner"
