"""The flex template's program: from the template's parameters to a job that Dataflow runs.

Always true here: it hands the scan over and does not wait, since a template's launcher may not; so the run is added to the ledger by
`forebear commit JOB` once the job is done. Every option that is not a parameter of `metadata.json` goes to Beam as it is.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from forebear.pipelines.options import beam_options
from forebear.pipelines.scan import ScanOptions, launch_scan
from forebear.schemas.errors import ForebearError
from forebear.tracer.corpus.inputs import ReaderOptions, survey
from forebear.tracer.corpus.places import open_input
from forebear.tracer.ledger.ledger import Ledger
from forebear.tracer.policy import Policy, load_policy


def parser() -> argparse.ArgumentParser:
    """The template's parameters."""
    found = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0], allow_abbrev=False)
    found.add_argument("--ledger", required=True, help="URL of the ledger")
    found.add_argument("--inputs", default="", help="files, folders, globs, separated by commas")
    found.add_argument("--input_list", default="", help="file of one input per line")
    found.add_argument("--policy", default="", help="policy (TOML); default: the built-in one")
    found.add_argument("--text_field", default="text", help="column of the text")
    found.add_argument("--id_field", default="id", help="column of the row's own id")
    found.add_argument("--source_field", default="source", help="column of the row's source")
    found.add_argument("--source", default="", help="the source of every row, instead of a column")
    found.add_argument("--clean", default="", help="URL of a folder for cleaned shards")
    found.add_argument("--work_dir", default="", help="URL for intermediate blocks; default: in the ledger")
    found.add_argument("--deal_out", type=int, default=64, help="parts that the work is cut into at the least")
    found.add_argument("--runner", default="DataflowRunner", help=argparse.SUPPRESS)
    return found


def launch(arguments: Sequence[str]) -> str:
    """Hand the scan over; returns the job's name.

    Raises:
        ForebearError: What a user can mend.
    """
    asked, extra = parser().parse_known_args(arguments)
    beam = beam_options(runner=asked.runner, workers=1, extra=extra)
    inputs = [one.strip() for one in asked.inputs.split(",") if one.strip()]
    lists = [asked.input_list] if asked.input_list else []
    return launch_scan(
        Ledger.open(asked.ledger, create=True),
        survey(inputs, lists=lists).files,
        policy=_policy(asked.policy),
        reader=ReaderOptions(asked.text_field, asked.id_field, asked.source_field, source=asked.source or None),
        options=ScanOptions(clean=asked.clean or None, work=asked.work_dir or None, workers=asked.deal_out, runner=asked.runner),
        beam_options=beam,
    )


def _policy(url: str) -> Policy:
    """A policy from wherever it lies; files that it names must be in the image."""
    if not url:
        return load_policy(None)
    with tempfile.TemporaryDirectory() as folder, open_input(url) as source:
        path = Path(folder) / "policy.toml"
        path.write_bytes(source.read())
        return load_policy(path)


def main() -> int:
    """The command line."""
    try:
        job = launch(sys.argv[1:])
    except ForebearError as error:
        print(error, file=sys.stderr)
        return 2
    print(f"launched {job}; once it is done: forebear commit {job}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
