"""How a runner is chosen, and what is refused."""

from __future__ import annotations

import pytest
from apache_beam.options.pipeline_options import DirectOptions, PortableOptions, StandardOptions

from forebear.pipelines.options import beam_options
from forebear.schemas.errors import UsageError

REFUSED = {
    "threads by their name": (2, ("--direct_running_mode=multi_threading",)),
    "threads of one worker": (1, ("--direct_running_mode=multi_threading",)),
    "several workers in one process": (1, ("--direct_num_workers=2",)),
    "as many workers as cores in one process": (1, ("--direct_num_workers=0",)),
    "several workers put back into one process": (2, ("--direct_running_mode=in_memory",)),
    "a second runner among Beam's options": (1, ("--runner=SparkRunner",)),
    "no worker": (0, ()),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refuses(case: str) -> None:
    workers, extra = REFUSED[case]
    with pytest.raises(UsageError):
        beam_options(runner=None, workers=workers, extra=extra)


@pytest.mark.parametrize("workers", [1, 2, 7])
def test_workers_are_processes_never_threads(workers: int) -> None:
    direct = beam_options(runner=None, workers=workers).view_as(DirectOptions)
    assert direct.direct_num_workers == workers
    assert direct.direct_running_mode == ("in_memory" if workers == 1 else "multi_processing")


@pytest.mark.parametrize("name", [None, "FnApiRunner", "DirectRunner"])
def test_this_machine_is_never_a_runner_that_beam_would_download(name: str | None) -> None:
    assert beam_options(runner=name, workers=1).view_as(StandardOptions).runner == "FnApiRunner"


def test_other_runners_take_their_options_as_they_are() -> None:
    options = beam_options(runner="SparkRunner", workers=2, extra=["--spark_master_url=spark://host:7077"])
    assert options.view_as(StandardOptions).runner == "SparkRunner"
    assert options.get_all_options()["spark_master_url"] == "spark://host:7077"
    assert options.view_as(DirectOptions).direct_num_workers == 1


KEPT = {
    "Spark keeps its Python workers from stage to stage": ("SparkRunner", (), 600_000),
    "what a user says of it wins": ("SparkRunner", ("--environment_cache_millis=5",), 5),
    "Dataflow's are its own matter": ("DataflowRunner", (), 0),
}


@pytest.mark.parametrize("case", KEPT)
def test_python_workers(case: str) -> None:
    runner, extra, milliseconds = KEPT[case]
    options = beam_options(runner=runner, workers=1, extra=extra).view_as(PortableOptions)
    assert int(options.environment_cache_millis) == milliseconds
