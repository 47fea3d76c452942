"""Data sets of the Hugging Face hub as inputs: `hf:NAME@REVISION`, taken as the files of that pinned revision.

Always true here: a branch or a tag is resolved to its commit once, and every path names the commit; files keep their identity, and where
the hub tells a file's SHA-256 it is expected of the bytes; nothing is streamed as rows and nothing is run that a data set ships.
"""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Sequence
from typing import Any

from forebear.schemas.errors import UsageError
from forebear.tracer.corpus.formats import format_by_name
from forebear.tracer.corpus.inputs import InputFile, Survey

__all__ = ["hub_survey", "is_hub"]

_NAME = re.compile(r"hf:(?P<name>[\w.-]+(?:/[\w.-]+)?)(?:@(?P<revision>[^/]+))?(?:/(?P<pattern>.+))?")


def is_hub(text: str) -> bool:
    """Whether an input names a data set of the hub."""
    return text.startswith("hf:") and not text.startswith("hf://")


def hub_survey(inputs: Sequence[str]) -> Survey:
    """The files of data sets, as hf://datasets/NAME@COMMIT/PATH.

    Args:
        inputs: Each `hf:NAME@REVISION`, or `hf:NAME@REVISION/PATTERN` for those of its files that match.

    Raises:
        UsageError: No revision is named, the hub does not answer or has no such thing, or there is nothing to read in it.
    """
    files: dict[str, InputFile] = {}
    skipped: list[str] = []
    for text in inputs:
        found = _NAME.fullmatch(text)
        if found is None:
            raise _wrong("not_a_dataset", "hf:NAME@REVISION or hf:NAME@REVISION/PATTERN", text, "Write hf:owner/name@commit.")
        taken, left = _files(found["name"], found["revision"], found["pattern"], text)
        files |= {one.path: one for one in taken}
        skipped += left
    return Survey([files[path] for path in sorted(files)], sorted(skipped))


def _files(name: str, revision: str | None, pattern: str | None, text: str) -> tuple[list[InputFile], list[str]]:
    if revision is None:
        expected = f"a revision, so that the same bytes are meant later too: hf:{name}@REVISION"
        raise _wrong(
            "no_revision", expected, text, "Name a commit, a tag or a branch; @main takes what is newest now, and logs its commit."
        )
    info = _info(name, revision)
    place = f"hf://datasets/{name}@{info.sha}"
    taken, left = [], []
    for one in info.siblings or ():
        path, kind = f"{place}/{one.rfilename}", format_by_name(one.rfilename)
        if kind is None or one.rfilename.startswith(".") or not fnmatch.fnmatchcase(one.rfilename, pattern or "*"):
            left.append(path)
            continue
        sha256 = one.lfs.sha256 if one.lfs else None
        taken.append(InputFile(path, one.size or 0, kind, f"sha256:{sha256}" if sha256 else None))
    if not taken:
        remedy = "Many data sets have their rows as Parquet under another revision: hf:NAME@refs%2Fconvert%2Fparquet."
        raise _wrong("no_match", f"Parquet, JSONL or Arrow files in {text}", f"{len(left)} other files", remedy)
    return taken, left


def _info(name: str, revision: str) -> Any:
    try:
        from huggingface_hub import HfApi
    except ImportError as error:
        expected = "an installation with the datasets extra"
        raise _wrong("datasets_not_installed", expected, str(error), "pip install 'forebear[datasets]'") from error
    try:
        return HfApi().dataset_info(name, revision=revision.replace("%2F", "/"), files_metadata=True)
    except Exception as error:  # the hub package lets through what its HTTP client raises, of no common root
        found = f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0][:300]}"
        remedy = "Check name and revision, the network, and HF_TOKEN where the data set is not public; or name downloaded files."
        raise _wrong("unknown_dataset", f"data set {name} at revision {revision} on the hub", found, remedy) from error


def _wrong(kind: str, expected: str, found: str, remedy: str) -> UsageError:
    return UsageError(kind, expected=expected, found=found, remedy=remedy)
