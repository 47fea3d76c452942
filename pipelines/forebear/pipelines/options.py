"""Runners: how a scan's command line becomes Beam's options.

Always true here: without a runner named, the scan runs in this process (FnApiRunner), or in several processes of this machine where
more workers are asked for; never in threads, which corrupt large shuffles; `DirectRunner` is taken for the same, since what
Beam makes of that name may try to download another runner.
"""

from __future__ import annotations

from collections.abc import Sequence

from apache_beam.options.pipeline_options import DirectOptions, PipelineOptions

from forebear.schemas.errors import UsageError

__all__ = ["LOCAL", "beam_options"]

LOCAL = ("FnApiRunner", "DirectRunner")


def beam_options(*, runner: str | None, workers: int, extra: Sequence[str] = ()) -> PipelineOptions:
    """The pipeline's options.

    Args:
        runner: A Beam runner's name, or None for this machine.
        workers: Processes on this machine; other runners take theirs from `extra`.
        extra: Options handed to Beam as they are.

    Raises:
        UsageError: Threads are asked for, or workers are not positive.
    """
    if workers < 1:
        raise UsageError("wrong_value", expected="--workers of 1 or more", found=str(workers), remedy="Leave it out for one worker.")
    local = runner is None or runner in LOCAL
    arguments = [f"--runner={'FnApiRunner' if local else runner}"]
    if local and workers > 1:
        arguments += [f"--direct_num_workers={workers}", "--direct_running_mode=multi_processing"]
    options = PipelineOptions([*arguments, *extra])
    if local and options.view_as(DirectOptions).direct_running_mode == "multi_threading":
        raise UsageError(
            "wrong_value",
            expected="workers that are processes",
            found="--direct_running_mode=multi_threading",
            remedy="Beam's threaded mode corrupts large shuffles; use --workers N.",
        )
    return options
