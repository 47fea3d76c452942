"""What `certify` puts into a model's folder: certificate, ML-BOM, checksums, and our section of the README.

Always true here: nothing is written before everything was made; a file is replaced in one step, never through a symbolic link; the
certificate is the last one written, so that a folder that has a new certificate has all that it speaks of. The certificate holds the
digests of the others.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from forebear.schemas.digests import sha256_name
from forebear.schemas.errors import DataError, UsageError
from forebear.tracer.certify.cyclonedx import ml_bom
from forebear.tracer.certify.dsse import sign_envelope
from forebear.tracer.certify.folder import ModelFolder
from forebear.tracer.certify.hugging_face import find_section, new_card, section_digest, update_card
from forebear.tracer.certify.statement import statement, statement_bytes
from forebear.tracer.ledger.keys import PrivateKey

__all__ = ["BOM", "CERTIFICATE", "CHECKSUMS", "README", "SECTION", "Release", "checksums", "prepare", "write"]

FOLDER = "forebear"
CERTIFICATE = f"{FOLDER}/certificate.dsse.json"
BOM = f"{FOLDER}/ml-bom.cdx.json"
CHECKSUMS = f"{FOLDER}/SHA256SUMS"
README = "README.md"
SECTION = "README.md#forebear"
"""The name under which a certificate's `documents` has the digest of our section of the README."""

_MAX_README = 16 << 20


@dataclass(frozen=True)
class Release:
    """Files to write, by relative path, the certificate last where there is one; and what the README says otherwise."""

    statement: Mapping[str, Any]
    files: Mapping[str, bytes]
    differences: tuple[str, ...]


def checksums(folder: ModelFolder) -> bytes:
    """The files of weights as `sha256sum -c` reads them, in the model's folder."""
    return "".join(f"{one.sha256.removeprefix('sha256:')}  {_escaped(one.path)}\n" for one in folder.weights).encode()


def _escaped(path: str) -> str:
    # sha256sum marks a line whose name holds a backslash; names with line ends are refused before this.
    if "\\" in path:
        remedy = "Rename the file."
        raise UsageError("odd_file_name", expected="file names without a backslash", found=ascii(path), remedy=remedy)
    return path


def prepare(claimed: dict[str, Any], folder: Path, files: ModelFolder, *, key: PrivateKey | None) -> Release:
    """Make everything, write nothing.

    Args:
        claimed: What `claims` gave.
        folder: The model's folder; its README is read.
        files: The folder's files.
        key: Signs the certificate; None: there will be none.

    Raises:
        DataError: The README is broken.
        IntegrityError: The files are not those that the ledger records.
        UsageError: A link stands where a file would be written.
    """
    for path in (FOLDER, CERTIFICATE, BOM, CHECKSUMS, README):
        _refuse_link(folder / path)
    draft = statement(claimed, folder=files)["predicate"]
    readme = _read_card(folder / README)
    card = update_card(readme, draft) if readme is not None else None
    text = card.text if card is not None else new_card(draft)
    bom = (json.dumps(ml_bom(draft), ensure_ascii=False, indent=1, sort_keys=True) + "\n").encode()
    written = {BOM: bom, CHECKSUMS: checksums(files), README: text.encode()}
    found = find_section(text)
    assert found is not None, "a card that was updated has our section"
    documents = {path: sha256_name(data) for path, data in written.items() if path != README}
    made = statement(claimed, folder=files, documents={**documents, SECTION: section_digest(found)})
    if key is not None:
        written[CERTIFICATE] = sign_envelope(statement_bytes(made), key).to_bytes()
    return Release(made, written, card.differences if card is not None else ())


def write(release: Release, folder: Path) -> list[str]:
    """Write the files of a release; gives their relative paths.

    Raises:
        UsageError: A file cannot be written.
    """
    try:
        (folder / FOLDER).mkdir(exist_ok=True)
        for path, data in release.files.items():
            target = folder / path
            # In our own folder, which the root leaves out: what a kill leaves behind breaks nothing.
            temporary = folder / FOLDER / f".{target.name}.new"
            temporary.unlink(missing_ok=True)
            with temporary.open("xb") as out:
                out.write(data)
                out.flush()
                os.fsync(out.fileno())
            temporary.replace(target)
    except OSError as error:
        found = f"{error.strerror or error} at {error.filename or folder}"
        raise UsageError(
            "unwritable_file", expected=f"to write into {folder}", found=found, remedy="Make the folder writable, with room in it."
        ) from error
    return list(release.files)


def _read_card(path: Path) -> str | None:
    try:
        with path.open("rb") as file:
            data = file.read(_MAX_README + 1)
    except FileNotFoundError:
        return None
    except OSError as error:
        found = error.strerror or str(error)
        raise UsageError("unreadable_file", expected=f"to read {path}", found=found, remedy="Make it readable.") from error
    try:
        if len(data) > _MAX_README:
            raise ValueError(f"more than {_MAX_README} bytes")
        return data.decode()
    except ValueError as error:
        found = str(error)[:200]
        raise DataError("unreadable_card", expected=f"UTF-8 text in {path}", found=found, remedy="Save it as UTF-8.") from error


def _refuse_link(path: Path) -> None:
    if path.is_symlink():
        raise UsageError(
            "symbolic_link",
            expected=f"a file, a folder or nothing at {path}",
            found=f"a symbolic link to {path.readlink()}",
            remedy="Replace it by what it points at: writing through it would change files elsewhere.",
        )
