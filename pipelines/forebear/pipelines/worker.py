"""A worker process of a scan on this machine: Beam's own, without its log on the user's terminal.

Always true here: a failure reaches the driver, which tells it in one message. Where Beam's errors are shown (`--debug`), Beam starts
its workers itself. Beam is imported inside the functions, since it logs as it is imported.
"""

from __future__ import annotations

import logging
import os
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from apache_beam.options.pipeline_options import PipelineOptions
    from apache_beam.runners.portability.fn_api_runner.fn_runner import FnApiRunner

__all__ = ["worker_processes"]


def worker_processes(options: PipelineOptions) -> FnApiRunner | None:
    """The local runner with worker processes that start here; None where Beam is to choose its runner and start it."""
    from apache_beam.options.pipeline_options import DirectOptions, StandardOptions
    from apache_beam.runners.portability.fn_api_runner.fn_runner import FnApiRunner
    from apache_beam.transforms.environments import SubprocessSDKEnvironment

    direct = options.view_as(DirectOptions)
    local = options.view_as(StandardOptions).runner == "FnApiRunner"
    if not local or direct.direct_running_mode != "multi_processing" or logging.getLogger("apache_beam").isEnabledFor(logging.ERROR):
        return None
    direct.direct_running_mode = "in_memory"  # any other mode would replace the environment that is given
    command = f"{shlex.quote(sys.executable)} -m {__name__}"
    return FnApiRunner(default_environment=SubprocessSDKEnvironment.from_command_string(command))


def _main() -> None:
    # Failures are printed and sent to the driver; here they are only sent. What the interpreter or a library says as it crashes still
    # goes to the terminal, past `sys.stderr`.
    sys.stderr = Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115 - for as long as the process lives
    from apache_beam.runners.worker import sdk_worker_main

    sdk_worker_main.main(sys.argv)


if __name__ == "__main__":
    _main()
