"""Which files a scan reads: paths, folders, globs and lists of them become one sorted list of files with their formats.

Always true here: the list is sorted and names no path twice; a file is known by its first bytes before its name; links that
run in circles end; and every name in a folder that is left out is returned, so that a caller can say so.
"""

from __future__ import annotations

import fnmatch
import hashlib
import json
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace

from forebear.schemas.digests import is_digest
from forebear.schemas.errors import DataError, UsageError
from forebear.tracer.corpus.formats import SUFFIXES, format_by_name, sniff
from forebear.tracer.corpus.places import Entry, Kind, absolute, children, describe, is_url, join, open_input, unreadable

__all__ = ["READER_VERSION", "InputFile", "ReaderOptions", "Survey", "discover", "file_digest", "sniff", "survey"]

READER_VERSION = "1"
"""Changes whenever the same bytes would give other rows; it enters the run digest."""

# What Hugging Face's `save_to_disk` and hub folders hold beside their data.
_NOT_DATA = frozenset({"dataset_info.json", "dataset_infos.json", "state.json", "dataset_dict.json"})
_MAGIC_GLOB = re.compile(r"[*?\[]")
_CHUNK = 1 << 20


@dataclass(frozen=True)
class ReaderOptions:
    """How rows are taken from files.

    Args:
        text_field: Column or key of the text.
        id_field: Column or key of the row's own id.
        source_field: Column or key of the row's source.
        source: The source of every row, where given; then `source_field` is not read.
    """

    text_field: str = "text"
    id_field: str = "id"
    source_field: str = "source"
    source: str | None = None

    def to_json(self) -> dict[str, object]:
        """What enters the run digest: everything here that changes a row, and the reader's version."""
        return {
            "id_field": self.id_field,
            "source": self.source,
            "source_field": None if self.source is not None else self.source_field,
            "text_field": self.text_field,
            "version": READER_VERSION,
        }


@dataclass(frozen=True)
class InputFile:
    """One file of a corpus.

    Args:
        path: Absolute path, or URL.
        size: Bytes, 0 where it cannot be told.
        format: ``jsonl``, ``jsonl.gz``, ``jsonl.zst``, ``parquet`` or ``arrow``.
        expected: The digest that a list gave for it.
    """

    path: str
    size: int
    format: str
    expected: str | None = None


@dataclass(frozen=True)
class Survey:
    """What the inputs name.

    Args:
        files: Files to read, sorted by path, none twice.
        skipped: Names in folders and globs that are left out: hidden or ``_``-prefixed, of no known suffix, not regular files.
    """

    files: list[InputFile]
    skipped: list[str] = field(default_factory=list)


def discover(inputs: Sequence[str], *, lists: Sequence[str] = ()) -> list[InputFile]:
    """The files of `survey`, for callers who do not ask what was left out."""
    return survey(inputs, lists=lists).files


def survey(inputs: Sequence[str], *, lists: Sequence[str] = ()) -> Survey:
    """Resolve files, folders, globs, URLs and lists of them.

    Args:
        inputs: Paths, folders (recursive), globs (``**`` too) and URLs.
        lists: Files of one path a line, with an expected digest after white space where one is known; relative to the
            working directory.

    Raises:
        UsageError: Something named is not there, a folder or glob has nothing to read, no file at all can be read, or two
            lists expect different bytes of one file.
    """
    wanted = [(text, None) for text in inputs] + [item for path in lists for item in _read_list(path)]
    if not wanted:
        raise _usage("no_inputs", "files, folders or globs to read", "none", "Name at least one.")
    files: dict[str, InputFile] = {}
    skipped: set[str] = set()
    for text, expected in wanted:
        for entry in _resolve(text, skipped):
            known = files.get(entry.path) or _input_file(entry)
            files[entry.path] = _expecting(known, expected)
    _require_one_readable(files.values())
    return Survey([files[path] for path in sorted(files)], sorted(skipped - files.keys()))


def file_digest(path: str) -> tuple[str, int]:
    """SHA-256 of a file's bytes as ``sha256:<hex>``, and their number; read in chunks of 1 MiB.

    Raises:
        DataError: ``unreadable_file``.
    """
    state, size = hashlib.sha256(), 0
    try:
        with open_input(path) as handle:
            while chunk := handle.read(_CHUNK):
                state.update(chunk)
                size += len(chunk)
    except OSError as error:
        raise unreadable(path, error) from error
    return f"sha256:{state.hexdigest()}", size


def _usage(kind: str, expected: str, found: str, remedy: str) -> UsageError:
    return UsageError(kind, expected=expected, found=found, remedy=remedy)


def _read_list(path: str) -> Iterator[tuple[str, str | None]]:
    try:
        with open_input(absolute(path)) as handle:
            text = handle.read().decode("utf-8-sig")
    except (DataError, UnicodeDecodeError) as error:
        raise _usage("unreadable_list", f"a list of inputs, one a line, at {path}", str(error), "Give a text file.") from error
    for line in text.splitlines():
        entry = line.strip()
        if entry and not entry.startswith("#"):
            yield _list_line(entry, path)


def _list_line(entry: str, path: str) -> tuple[str, str | None]:
    # Only a last word that looks like a digest is one: file names may hold spaces.
    name, gap, last = entry.replace("\t", " ").rpartition(" ")
    if gap and is_digest(last):
        return entry[: len(name)].rstrip(), last
    if gap and last.startswith("sha256:"):
        raise _usage("not_a_digest", f"sha256: and 64 lower-case hex digits in {path}", last, "Write the whole digest.")
    return entry, None


def _resolve(text: str, skipped: set[str]) -> list[Entry]:
    path = absolute(text)
    entry = describe(path)
    if entry is None and _MAGIC_GLOB.search(path.partition("?")[0] if is_url(path) else path):
        return _glob(path, skipped)
    if entry is None or (entry.kind is Kind.DANGLING and entry.link):
        raise _usage("no_such_file", f"a file, folder or glob at {text}", "nothing there", "Check the path.")
    if entry.kind is Kind.OTHER:
        raise _usage("not_a_file", f"a regular file or folder at {text}", "a pipe, socket or device", "Write it to a file first.")
    if entry.kind is Kind.FOLDER:
        found = list(_walk(entry, skipped))
        if not found:
            what = f"nothing of a known suffix ({', '.join(sorted(SUFFIXES))})"
            raise _usage("empty_folder", f"files to read in {text}", what, "Name the files, or another folder.")
        return found
    return [entry]


def _input_file(entry: Entry) -> InputFile:
    told = sniff(entry.path)
    if told is None:
        raise _usage(
            "unknown_format",
            "Parquet, JSONL (.gz, .zst) or Arrow IPC",
            f"{entry.path}: neither its first bytes nor its suffix tell",
            f"Rename it to one of {', '.join(sorted(SUFFIXES))}.",
        )
    return InputFile(entry.path, entry.size, told)


def _expecting(known: InputFile, expected: str | None) -> InputFile:
    if expected is None:
        return known
    if known.expected not in (None, expected):
        found = f"{known.expected} and {expected}"
        raise _usage("digest_conflict", f"one expected digest for {known.path}", found, "Correct the lists.")
    return replace(known, expected=expected)


def _require_one_readable(files: Iterable[InputFile]) -> None:
    """One file that cannot be opened is the shard's affair; when none can be, the use is wrong."""
    first: DataError | None = None
    for item in files:
        try:
            open_input(item.path).close()
        except DataError as error:
            first = first or error
        else:
            return
    if first is not None:
        raise UsageError("unreadable_inputs", expected=first.expected, found=first.found, remedy=first.remedy)


def _listed(folder: Entry) -> list[Entry]:
    try:
        return children(folder.path)
    except OSError as error:
        raise _usage("unreadable_folder", f"to list {folder.path}", str(error), "Restore its permissions.") from error


def _walk(top: Entry, skipped: set[str]) -> Iterator[Entry]:
    """Files below a folder; each real folder once, and by its own path before any link to it."""
    real, links, seen = [top], list[Entry](), set[tuple[int, ...]]()
    while real or links:
        folder = real.pop() if real else links.pop()
        if folder.stamp and folder.stamp in seen:
            continue
        seen.add(folder.stamp)
        entries = _listed(folder)
        saved = _saved_dataset(folder, entries, skipped)
        if saved is not None:
            yield from saved
            continue
        for entry in entries:
            if entry.name.startswith((".", "_")):
                skipped.add(entry.path)
            elif entry.kind is Kind.FOLDER:
                (links if entry.link else real).append(entry)
            elif _readable_name(entry):
                yield entry
            else:
                skipped.add(entry.path)


def _readable_name(entry: Entry) -> bool:
    return entry.kind is not Kind.OTHER and entry.name not in _NOT_DATA and format_by_name(entry.path) is not None


def _saved_dataset(folder: Entry, entries: list[Entry], skipped: set[str]) -> list[Entry] | None:
    """The Arrow files of a `save_to_disk` folder, as its state.json lists them; None for any other folder."""
    by_name = {entry.name: entry for entry in entries}
    if "state.json" not in by_name:
        return None
    try:
        with open_input(by_name["state.json"].path) as handle:
            names = [str(item["filename"]) for item in json.loads(handle.read())["_data_files"]]
    except (DataError, OSError, ValueError, KeyError, TypeError):
        return None
    skipped.update(entry.path for name, entry in by_name.items() if name not in names)
    # A file that the dataset lists and that is gone stays in the list: its loss is reported, not hidden.
    plain = [name for name in names if "/" not in name and name not in (".", "..")]
    return [by_name.get(name) or Entry(join(folder.path, name), Kind.DANGLING) for name in plain]


def _glob(pattern: str, skipped: set[str]) -> list[Entry]:
    scheme, colons, rest = pattern.partition("://") if is_url(pattern) else ("", "", pattern)
    rest, mark, query = rest.partition("?") if colons else (rest, "", "")
    parts = rest.split("/")
    fixed = next(n for n, part in enumerate(parts) if _MAGIC_GLOB.search(part))
    root = f"{scheme}{colons}{'/'.join(parts[:fixed]) or '/'}{mark}{query}"
    start = describe(root)
    matched = {entry.path: entry for entry in (_expand([start], parts[fixed:]) if start else [])}
    found: list[Entry] = []
    for entry in matched.values():
        if entry.kind is Kind.FOLDER:
            found.extend(_walk(entry, skipped))
        elif _readable_name(entry) or (entry.kind is Kind.FILE and entry.name not in _NOT_DATA and sniff(entry.path)):
            found.append(entry)
        else:
            skipped.add(entry.path)
    if not found:
        raise _usage("no_match", f"files that match {pattern}", f"{len(matched)} names, none to read", "Check the pattern.")
    return found


def _expand(folders: Iterable[Entry], parts: Sequence[str]) -> Iterator[Entry]:
    """Match a pattern's parts one folder level at a time; ``**`` is any number of levels, none included."""
    head, rest = parts[0], parts[1:]
    for folder in folders:
        if folder.kind is not Kind.FOLDER:
            continue
        if head == "**":
            below = list(_folders(folder))
            yield from _expand(below, rest) if rest else below[:1]
            continue
        matches = [entry for entry in _listed(folder) if _matches(entry.name, head)]
        yield from _expand(matches, rest) if rest else matches


def _matches(name: str, pattern: str) -> bool:
    return fnmatch.fnmatchcase(name, pattern) and (pattern.startswith(".") or not name.startswith("."))


def _folders(top: Entry) -> Iterator[Entry]:
    """A folder and all below it, each real one once; hidden ones left out."""
    waiting, links, seen = [top], list[Entry](), set[tuple[int, ...]]()
    while waiting or links:
        folder = waiting.pop() if waiting else links.pop()
        if folder.stamp and folder.stamp in seen:
            continue
        seen.add(folder.stamp)
        yield folder
        inner = [e for e in _listed(folder) if e.kind is Kind.FOLDER and not e.name.startswith(".")]
        for entry in inner:
            (links if entry.link else waiting).append(entry)
