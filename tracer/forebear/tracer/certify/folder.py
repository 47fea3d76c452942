"""A model's folder as digests: every file, which of them are weights, and the root over all of them.

Always true here: files are hashed as bytes and never parsed; paths are relative, with `/`; what a release adds afterwards (the
certificate, the README, a signature, caches, git's files) is left out, at the folder's top only, so that adding or editing it breaks
nothing. The root is model-signing 1.1's: SHA-256 over the files' digests, ordered by the parts of their paths. It does not cover names,
so a certificate lists them too. Making a certificate refuses symbolic links; checking one reads files through them and says so.
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from forebear.schemas.digests import digest_name
from forebear.schemas.errors import UsageError

__all__ = ["LEFT_OUT", "WEIGHT_SUFFIXES", "FolderFile", "ModelFolder", "is_left_out", "read_folder", "signing_root"]

LEFT_OUT: tuple[str, ...] = ("forebear", "README.md", "model.sig", ".cache", ".git*")
"""What the root leaves out at the folder's top; `.git*` is every name that begins so."""

WEIGHT_SUFFIXES: tuple[str, ...] = (
    ".bin", ".ckpt", ".ggml", ".gguf", ".h5", ".keras", ".mlmodel", ".msgpack", ".npy", ".npz", ".onnx", ".onnx_data", ".pb",
    ".pkl", ".pt", ".pte", ".pth", ".safetensors", ".tflite",
)  # fmt: skip
"""A file with such a name holds weights; others (tokenizer, configuration) are covered by the root and listed."""

_NOT_WEIGHTS = frozenset({"training_args.bin", "optimizer.pt", "optimizer.bin", "scheduler.pt", "rng_state.pth", "tokenizer.pkl"})
_CHUNK = 1 << 20

Progress = Callable[[int], None]
"""Called with the number of bytes hashed since the last call."""


@dataclass(frozen=True)
class FolderFile:
    """One file: relative path, size in bytes, digest; `link` where it was read through a symbolic link."""

    path: str
    bytes: int
    sha256: str
    link: bool = False

    @property
    def weights(self) -> bool:
        """Whether its name is that of a file of weights."""
        name = self.path.rsplit("/", 1)[-1].lower()
        return name.endswith(WEIGHT_SUFFIXES) and name not in _NOT_WEIGHTS


@dataclass(frozen=True)
class ModelFolder:
    """The files that count, ordered by the parts of their paths."""

    files: tuple[FolderFile, ...]

    @property
    def weights(self) -> tuple[FolderFile, ...]:
        """The files that hold weights."""
        return tuple(one for one in self.files if one.weights)

    @property
    def root(self) -> str:
        """The model-signing root over all files."""
        return signing_root([(one.path, one.sha256) for one in self.files])

    @property
    def weights_digest(self) -> str | None:
        """What stands for the weights alone: the one file's digest, or the root over several; None without any."""
        weights = self.weights
        if len(weights) < 2:
            return weights[0].sha256 if weights else None
        return signing_root([(one.path, one.sha256) for one in weights])


def signing_root(files: Sequence[tuple[str, str]]) -> str:
    """The root of (path, digest) pairs as model-signing 1.1 computes it: file serialisation, SHA-256.

    Paths are compared part by part, as `pathlib` does: `a/b` comes before `a.txt`.
    """
    state = hashlib.sha256()
    for _, digest in sorted(files, key=lambda one: one[0].split("/")):
        state.update(bytes.fromhex(digest.removeprefix("sha256:")))
    return digest_name(state.digest())


def is_left_out(path: str) -> bool:
    """Whether a relative path is one that the root leaves out."""
    top = path.split("/", 1)[0]
    return top in LEFT_OUT[:-1] or top.startswith(".git")


def read_folder(folder: Path, *, follow_links: bool = False, progress: Progress | None = None) -> ModelFolder:
    """Hash a model's folder.

    Args:
        folder: The folder.
        follow_links: Read files through symbolic links (a cache keeps its files so); links to folders are refused all the same.
        progress: Told of bytes as they are hashed.

    Raises:
        UsageError: There is no such folder, or it holds a link, a device, a pipe, or what cannot be read.
    """
    if not folder.is_dir():
        there = "a file" if folder.exists() else "nothing"
        raise UsageError("no_folder", expected=f"a model's folder at {folder}", found=there, remedy="Name the folder of its files.")
    found = [_file(folder, path, link, progress) for path, link in _paths(folder, "", follow_links)]
    return ModelFolder(tuple(sorted(found, key=lambda one: one.path.split("/"))))


def _paths(folder: Path, prefix: str, follow_links: bool) -> Iterator[tuple[str, bool]]:
    try:
        entries = sorted(os.scandir(folder / prefix), key=lambda one: one.name)
    except OSError as error:
        raise _unreadable(folder / prefix, error) from error
    for entry in entries:
        path = prefix + entry.name
        if not prefix and is_left_out(path):
            continue
        _refuse_odd_name(path)
        if entry.is_symlink():
            if not follow_links or not entry.is_file():
                raise _link(folder / path, "a folder or nothing" if follow_links else Path(entry.path).readlink())
            yield path, True
        elif entry.is_dir():
            yield from _paths(folder, path + "/", follow_links)
        elif entry.is_file():
            yield path, False
        else:
            kind = stat.filemode(entry.stat(follow_symlinks=False).st_mode)[0]
            remedy = "Remove it: only files are released."
            raise UsageError("not_a_file", expected=f"a file at {folder / path}", found=f"a special file ({kind})", remedy=remedy)


def _file(folder: Path, path: str, link: bool, progress: Progress | None) -> FolderFile:
    state, size = hashlib.sha256(), 0
    try:
        with (folder / path).open("rb", buffering=0) as file:
            while chunk := file.read(_CHUNK):
                state.update(chunk)
                size += len(chunk)
                if progress is not None:
                    progress(len(chunk))
    except OSError as error:
        raise _unreadable(folder / path, error) from error
    return FolderFile(path, size, digest_name(state.digest()), link)


def _refuse_odd_name(path: str) -> None:
    """Names that cannot be written in UTF-8, or hold control characters, have no place in a certificate."""
    if not path.isprintable() or any(0xD800 <= ord(one) < 0xE000 for one in path):
        expected = "file names of printable UTF-8 text"
        raise UsageError("odd_file_name", expected=expected, found=ascii(path), remedy="Rename the file, or remove it.")


def _link(path: Path, target: object) -> UsageError:
    return UsageError(
        "symbolic_link",
        expected=f"a file or a folder at {path}",
        found=f"a symbolic link to {target}",
        remedy="Copy what it means into its place (cp -RL): a link is not what a release carries.",
    )


def _unreadable(path: Path, error: OSError) -> UsageError:
    found = error.strerror or str(error)
    return UsageError("unreadable_file", expected=f"to read {path}", found=found, remedy="Make it readable, or remove it.")
