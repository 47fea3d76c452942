"""The commands that need the pipelines: `scan`, `commit`, `demo`; beside them everything of `forebear.tracer.cli`.

Always true here: Beam and the kernels are imported inside the commands that need them, so that an installation without the
`pipelines` extra has every other command.
"""

from __future__ import annotations

import importlib.util
import json
import logging
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from forebear.schemas.errors import UsageError
from forebear.tracer import cli as tracer_cli
from forebear.tracer.cli import JsonOption, LedgerOption, app, ledger_url, run

if TYPE_CHECKING:
    from collections.abc import Sequence

    from forebear.tracer.lineage.usage import Read

__all__ = ["PIPELINE_FROM", "app", "main"]

PIPELINE_FROM = 1 << 28
"""Bytes of usage logs from which a pipeline joins them."""

_BEGAN = time.time()
_beam_arguments: list[str] = []


def main() -> None:
    """The `forebear` command."""
    arguments = sys.argv[1:]
    if "--" in arguments and "scan" in arguments[: arguments.index("--")]:
        # Everything after `--` is Beam's: taken off here, since inputs are a list of any length.
        at = arguments.index("--")
        _beam_arguments[:] = arguments[at + 1 :]
        arguments = arguments[:at]
    tracer_cli.usage_reader["read"] = _read_usage
    run(app, arguments)


@app.command()
def scan(
    inputs: Annotated[
        list[str] | None, typer.Argument(help="Files, folders, globs, URLs, or hf:NAME@REVISION.", metavar="INPUT...")
    ] = None,
    lists: Annotated[list[str] | None, typer.Option("--inputs", help="File of one input per line, with an expected digest.")] = None,
    policy: Annotated[Path | None, typer.Option(help="Policy (TOML); see `forebear policy`.")] = None,
    text_field: Annotated[str, typer.Option(help="Column of the text.")] = "text",
    id_field: Annotated[str, typer.Option(help="Column of the row's own id.")] = "id",
    source_field: Annotated[str, typer.Option(help="Column of the row's source.")] = "source",
    source: Annotated[str | None, typer.Option(help="The source of every row, instead of a column.")] = None,
    clean: Annotated[Path | None, typer.Option(help="Write cleaned shards into this folder.")] = None,
    toxicity_model: Annotated[Path | None, typer.Option(help="fastText classifier instead of the built-in one.")] = None,
    runner: Annotated[str | None, typer.Option(help="A Beam runner; default: this machine.")] = None,
    workers: Annotated[int, typer.Option(help="Processes on this machine.")] = 1,
    work_dir: Annotated[str | None, typer.Option(help="Where intermediate blocks go; default: in the ledger.")] = None,
    against: Annotated[list[str] | None, typer.Option(help="An earlier run: what it kept precedes all of this one.", metavar="RUN")] = None,
    max_errored: Annotated[float, typer.Option(help="Do not commit if a larger share of rows errored.")] = 1.0,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say rows, cost, time and disk from a sample; write nothing.")] = False,
    ledger: LedgerOption = None,
    as_json: JsonOption = False,
) -> None:
    """Score, remove duplicates, and log every decision about every row.

    Options after `--` go to Beam as they are.
    """
    _need_pipelines()
    from forebear.pipelines.command import ScanRequest, scan_command

    request = ScanRequest(
        inputs=tuple(inputs or ()), lists=tuple(lists or ()), policy=policy, toxicity_model=toxicity_model,
        fields=(text_field, id_field, source_field), source=source, clean=clean, runner=runner, workers=workers,
        work_dir=work_dir, max_errored=max_errored, against=tuple(against or ()), dry_run=dry_run,
        beam=tuple(_beam_arguments),
    )  # fmt: skip
    raise typer.Exit(scan_command(request, ledger_url(ledger), as_json=as_json, began=_BEGAN))


@app.command()
def commit(
    job: Annotated[str, typer.Argument(help="A job that `forebear runs` lists as not ended.")],
    ledger: LedgerOption = None,
    as_json: JsonOption = False,
) -> None:
    """Finish a run whose driver died after its workers were done."""
    _need_pipelines()
    from forebear.pipelines.command import scan_exit_code
    from forebear.tracer.ledger.ledger import Ledger
    from forebear.tracer.scan.commit import commit_job

    done = commit_job(Ledger.open(ledger_url(ledger)), job, clock=lambda: datetime.now(UTC))
    answer = {"schema": "forebear/commit/1", "run": done.run, "run_digest": done.manifest.run_digest, "head": done.head.to_json()}
    _say(answer if as_json else f"committed {done.run}")
    raise typer.Exit(scan_exit_code(done.manifest))


@app.command()
def pairs(
    run_name: Annotated[str, typer.Argument(metavar="RUN", help="A run's digest, or a prefix of it.")],
    count: Annotated[int, typer.Option(help="How many pairs.", min=1)] = 10,
    ledger: LedgerOption = None,
    as_json: JsonOption = False,
) -> None:
    """Removed near-duplicates beside their keepers, read from the sources."""
    _need_pipelines()
    from forebear.pipelines.pairs import show_pairs
    from forebear.tracer.ledger.ledger import Ledger

    raise typer.Exit(show_pairs(Ledger.open(ledger_url(ledger)), run_name, count=count, as_json=as_json))


@app.command()
def evaluate(
    detector: Annotated[str, typer.Argument(help="A detector of the policy, or a fastText classifier's file.")],
    labelled: Annotated[str, typer.Argument(metavar="LABELLED_FILE", help="JSONL, CSV, TSV or Parquet of labelled texts.")],
    text_field: Annotated[str, typer.Option(help="Column of the text.")] = "text",
    label_field: Annotated[str, typer.Option(help="Column of the label.")] = "label",
    group_field: Annotated[str, typer.Option(help="Column of a group, for false positives by group; empty: none.")] = "",
    positive: Annotated[list[str] | None, typer.Option(help="A label that means bad; default: what says yes.")] = None,
    policy: Annotated[Path | None, typer.Option(help="Policy (TOML) that has the detector.")] = None,
    picture: Annotated[Path | None, typer.Option(help="Write the curves here (PNG).")] = None,
    output: Annotated[Path | None, typer.Option(help="Write the result here (JSON).")] = None,
    as_json: JsonOption = False,
) -> None:
    """A detector's accuracy on labelled texts."""
    _need_pipelines()
    from forebear.pipelines.summary import show_tables
    from forebear.tracer.detect.evaluate import Fields, tables
    from forebear.tracer.scan.evaluate import EvaluateRequest, evaluate_command

    fields = Fields(text_field, label_field, group_field, positive=tuple(positive or ()))
    result = evaluate_command(EvaluateRequest(detector, labelled, fields, policy, picture, output))
    _say(result) if as_json else show_tables(tables(result))


@app.command()
def demo(
    folder: Annotated[Path, typer.Argument(help="Where the demo's files go.")] = Path("forebear-demo"),
) -> None:
    """Build a small real corpus and lineage, scan, link, trace, and say what to look at."""
    _need_pipelines()
    from forebear.pipelines.demo import run_demo

    raise typer.Exit(run_demo(folder))


def _need_pipelines() -> None:
    """Beam, the kernels and the classifier, or an error that says how to get them."""
    # Before Beam is imported: it warns of what nobody here needs, and logs a traceback of every failure that we tell in one message.
    for name in ("", "apache_beam"):
        logging.getLogger(name).setLevel(logging.ERROR if "--debug" in sys.argv else logging.CRITICAL + 1)
    try:
        import apache_beam
        import fasttext
        import numba
    except ImportError as error:
        raise UsageError(
            "pipelines_not_installed",
            expected="an installation with the pipelines extra",
            found=f"no module {error.name}",
            remedy="pip install 'forebear[pipelines]'",
        ) from error
    del apache_beam, fasttext, numba


def _say(answer: Any) -> None:
    typer.echo(answer if isinstance(answer, str) else json.dumps(answer, ensure_ascii=False))


def _read_usage(paths: Sequence[str | Path]) -> Sequence[Read]:
    """Usage logs: large ones by a pipeline where Beam is installed, which takes longer to start than small ones to read."""
    from forebear.tracer.lineage import usage

    size = sum(path.stat().st_size for path in map(Path, paths) if path.is_file())
    if size < PIPELINE_FROM or importlib.util.find_spec("apache_beam") is None:
        return usage.read_usage(paths)
    from forebear.pipelines import link

    return link.read_usage(paths)
