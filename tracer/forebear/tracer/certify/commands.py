"""The commands `certify`, `verify-certificate` and `report`: thin bodies over this package.

Always true here: a document asked for by `--format` goes to standard output and nothing is written; files go into the model's folder;
what a person should know besides goes to standard error. Exit codes are CONTRACT's.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from forebear.schemas.errors import UsageError

if TYPE_CHECKING:
    from forebear.tracer.audit.session import Session
    from forebear.tracer.certify.folder import Progress
    from forebear.tracer.certify.release import Release
    from forebear.tracer.certify.verify import Checked

__all__ = ["Format", "register"]

LedgerUrl = Callable[[str | None], str]
"""Gives the ledger that is meant: the command's own option, else what was given before the command or by the environment."""

_DEFAULT_LEDGER = "ledger"
_Ledger = Annotated[str | None, typer.Option("--ledger", help="The ledger; default: $FOREBEAR_LEDGER, else ./ledger.")]
_Json = Annotated[bool, typer.Option("--json", help="One JSON object on standard output.")]
_Head = Annotated[int | None, typer.Option("--head", help="As of an older head: its number of entries.", min=0)]
_SHOWN = 20


class Format(StrEnum):
    """Documents that `certify --format` makes."""

    INTOTO = "intoto"
    CYCLONEDX = "cyclonedx"
    HF = "hf"
    CROISSANT = "croissant"
    ANNEX_XI = "annex-xi"
    OPENLINEAGE = "openlineage"


def register(app: typer.Typer, *, ledger_url: LedgerUrl) -> None:
    """Add the commands to the command line."""
    _add_certify(app, ledger_url)
    _add_verify(app, ledger_url)
    _add_report(app, ledger_url)


def _add_certify(app: typer.Typer, ledger_url: LedgerUrl) -> None:
    @app.command()
    def certify(
        subject: Annotated[str, typer.Argument(help="A model; a dataset or a run for their formats.", metavar="MODEL|DATASET|RUN")],
        model_dir: Annotated[Path | None, typer.Option("--model-dir", help="The folder of the model's files.")] = None,
        form: Annotated[Format | None, typer.Option("--format", help="One document on standard output; nothing is written.")] = None,
        sign: Annotated[Path | None, typer.Option("--sign", help="Private key (Ed25519, PEM) that signs the certificate.")] = None,
        head: _Head = None,
        ledger: _Ledger = None,
        as_json: _Json = False,
    ) -> None:
        """The birth certificate of a model: what is known of its data, signed; and the same in other formats."""
        from forebear.tracer.audit.session import Session

        key = _private(sign)
        session = Session.open(ledger_url(ledger), head=head)
        if form is not None:
            sys.stdout.write(_document(session, subject, form, model_dir=model_dir, key=key))
            return
        if model_dir is None:
            raise UsageError(
                "missing_option",
                expected="--model-dir DIR, where the certificate goes, or --format NAME",
                found="neither",
                remedy="Name the folder of the model's files.",
            )
        release, written = _release(session, subject, model_dir, key)
        _print(_released(release, written)) if as_json else _show_release(release, written, model_dir)


def _add_verify(app: typer.Typer, ledger_url: LedgerUrl) -> None:
    @app.command("verify-certificate")
    def verify_certificate(
        path: Annotated[Path, typer.Argument(help="A model's folder, or a certificate.")],
        key: Annotated[Path | None, typer.Option("--key", help="The publisher's public key (PEM), from outside the folder.")] = None,
        require: Annotated[str | None, typer.Option("--require", help="Fail unless the verdict is this one or better.")] = None,
        ledger: _Ledger = None,
        as_json: _Json = False,
    ) -> None:
        """Check a certificate: signature, files, proofs and, with --ledger, every statement."""
        from forebear.tracer.certify.verify import check_certificate, gate, known_verdict
        from forebear.tracer.ledger.keys import load_public

        if require is not None:
            known_verdict(require)
        public = None if key is None else load_public(key)
        url = ledger_url(ledger)
        given = url if ledger is not None or url != _DEFAULT_LEDGER else None
        with _progress("hashing") as told:
            checked = check_certificate(path, key=public, ledger=given, progress=told)
        gated = None if require is None else gate(checked, require)
        # A finding wins over what cannot be told, and both over yes.
        codes = {checked.exit_code, gated or 0}
        code = next((one for one in (1, 2) if one in codes), 0)
        answer = {**checked.to_json(), "ok": code == 0, "required": require, "gate": None if gated is None else gated == 0}
        _print(answer) if as_json else _show_checked(checked, answer)
        raise typer.Exit(code)


def _add_report(app: typer.Typer, ledger_url: LedgerUrl) -> None:
    @app.command()
    def report(
        subject: Annotated[str, typer.Argument(help="A model, or a run.", metavar="MODEL|RUN")],
        output: Annotated[Path, typer.Option("--output", "-o", help="The page to write.", metavar="FILE.html")],
        source: Annotated[
            list[Path] | None, typer.Option("--source", help="Of a run: files whose texts may be shown as samples; others are not opened.")
        ] = None,
        head: _Head = None,
        ledger: _Ledger = None,
        as_json: _Json = False,
    ) -> None:
        """One self-contained page about a model, or about a scan."""
        from forebear.tracer.audit.session import Session

        session = Session.open(ledger_url(ledger), head=head)
        shown = ledger_url(ledger)
        kind = _kind(session, subject)
        if kind == "model":
            from forebear.tracer.certify.report.model import model_report

            page = model_report(session, subject, ledger=shown)
        else:
            from forebear.tracer.certify.report.scan import scan_report

            page = scan_report(session, subject, ledger=shown, sources=source or ())
        _write_page(output, page)
        answer = {"schema": "forebear/report/1", "subject": subject, "kind": kind, "path": str(output), "head": session.head.to_json()}
        _print(answer) if as_json else typer.echo(f"wrote {output}")


def _kind(session: Session, subject: str) -> str:
    """Whether a text means a model or a run; a model where it could be either, since names are models'.

    Raises:
        UsageError: It means neither, or several.
    """
    if session.graph.candidates(subject):
        return "model"
    try:
        session.ledger.find_run(subject)
    except UsageError as error:
        if error.kind == "ambiguous_run":
            raise
        session.graph.find(subject)  # says what there is that is called alike
    return "run"


def _write_page(path: Path, page: str) -> None:
    try:
        temporary = path.with_name(f".{path.name}.new")
        temporary.write_text(page, encoding="utf-8", errors="backslashreplace")
        temporary.replace(path)
    except OSError as error:
        found = error.strerror or str(error)
        raise UsageError("unwritable_file", expected=f"to write {path}", found=found, remedy="Name another file.") from error


def _document(session: Session, subject: str, form: Format, *, model_dir: Path | None, key: Any) -> str:
    if key is not None and form is not Format.INTOTO:
        raise UsageError("nothing_to_sign", expected="--format intoto", found=f"--sign with {form.value}", remedy="Drop --sign.")
    if form is Format.CROISSANT:
        from forebear.tracer.certify.croissant import croissant

        return _pretty(croissant(session, subject))
    if form is Format.OPENLINEAGE:
        from forebear.tracer.certify.openlineage import run_event

        return _pretty(run_event(session, subject))
    return _model_document(session, subject, form, model_dir, key)


def _claims(session: Session, model: str) -> dict[str, Any]:
    """What the ledger says of a model; of a dataset or a run, which document there is of those."""
    from forebear.tracer.certify.statement import claims
    from forebear.tracer.lineage.graph import DATASET

    try:
        return claims(session, model)
    except UsageError as error:
        if error.kind != "unknown_model" or not session.graph.candidates(model, kind=DATASET):
            raise
        raise UsageError(
            "not_a_model", expected="a model", found=f"the dataset {model!r}", remedy="Of a dataset there is --format croissant."
        ) from error


def _model_document(session: Session, model: str, form: Format, model_dir: Path | None, key: Any) -> str:
    from forebear.tracer.certify.statement import described, statement, statement_bytes

    claimed = _claims(session, model)
    with _progress("hashing") as told:
        folder = None if model_dir is None else _folder(model_dir, told)
    if form is Format.INTOTO:
        payload = statement_bytes(statement(claimed, folder=folder))
        if key is None:
            return payload.decode() + "\n"
        from forebear.tracer.certify.dsse import sign_envelope

        return sign_envelope(payload, key).to_bytes().decode()
    predicate = described(claimed) if folder is None else statement(claimed, folder=folder)["predicate"]
    if form is Format.CYCLONEDX:
        from forebear.tracer.certify.cyclonedx import ml_bom

        return _pretty(ml_bom(predicate))
    if form is Format.HF:
        from forebear.tracer.certify.hugging_face import new_card

        return new_card(predicate)
    from forebear.tracer.certify.annex_xi import annex_xi

    return annex_xi(predicate)


def _folder(path: Path, told: Progress | None) -> Any:
    from forebear.tracer.certify.folder import read_folder

    return read_folder(path, progress=told)


def _private(path: Path | None) -> Any:
    if path is None:
        return None
    from forebear.tracer.ledger.keys import load_private

    return load_private(path)


def _release(session: Session, model: str, folder: Path, key: Any) -> tuple[Release, list[str]]:
    from forebear.tracer.certify.release import prepare, write

    claimed = _claims(session, model)
    with _progress("hashing") as told:
        files = _folder(folder, told)
    release = prepare(claimed, folder, files, key=key)
    return release, write(release, folder)


def _released(release: Release, written: list[str]) -> dict[str, Any]:
    said = release.statement["predicate"]
    found: dict[str, Any] = {"schema": "forebear/certify/1", "model": said["model"], "signed": _signed(written)}
    found |= {name: said[name] for name in ("verdict", "at_worst", "complete")}
    found |= {"head": said["heads"][0], "files": written, "subjects": release.statement["subject"]}
    return {**found, "differences": list(release.differences)}


def _signed(written: list[str]) -> bool:
    from forebear.tracer.certify.release import CERTIFICATE

    return CERTIFICATE in written


def _show_release(release: Release, written: list[str], folder: Path) -> None:
    from forebear.tracer.certify import wording
    from forebear.tracer.certify.escape import one_line

    said = release.statement["predicate"]
    typer.echo(one_line(wording.answer(said)))
    typer.echo(f"Stated {wording.as_of(said)}.")
    for path in written:
        typer.echo(f"wrote {folder / path}")
    for one in release.differences:
        typer.echo(f"forebear: {one_line(one)}; what the README says was left as it is", err=True)
    if not _signed(written):
        typer.echo("forebear: no --sign KEY was given, so there is no certificate: nothing here says whose word this is", err=True)


def _show_checked(checked: Checked, answer: dict[str, Any]) -> None:
    from forebear.tracer.certify import wording
    from forebear.tracer.certify.escape import one_line

    authentic = {True: "authentic", False: "NOT authentic", None: "not known whose (no --key)"}[checked.authentic]
    counts = f"{checked.files} files and {checked.proofs} proofs checked; ledger: {checked.ledger}"
    typer.echo(f"{'ok' if answer['ok'] else 'not ok'}: {authentic}; {counts}")
    if checked.predicate:
        typer.echo(one_line(wording.answer(checked.predicate)))
        typer.echo(wording.as_of(checked.predicate))
    for finding in checked.findings[:_SHOWN]:
        where = f"{finding.object}: {finding.kind}: expected {finding.expected}, found {finding.found}. {finding.remedy}"
        typer.echo(one_line(where, limit=2000))
    if len(checked.findings) > _SHOWN:
        typer.echo(f"and {len(checked.findings) - _SHOWN} more findings; `--json` has them all")
    for note in checked.notes:
        typer.echo(f"note: {one_line(note)}")
    if answer["gate"] is False:
        typer.echo(f"the verdict is not {answer['required']} or better")


def _pretty(value: dict[str, Any]) -> str:
    return json.dumps(value, ensure_ascii=False, indent=1) + "\n"


def _print(answer: dict[str, Any]) -> None:
    # Messages quote what was found, and names of files may hold what no UTF-8 text does.
    sys.stdout.write(json.dumps(answer, ensure_ascii=False).encode(errors="backslashreplace").decode() + "\n")


@contextmanager
def _progress(what: str) -> Iterator[Progress | None]:
    """Bytes as they are hashed, shown where a person looks on."""
    if not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import DownloadColumn, Progress, TextColumn, TransferSpeedColumn

    columns = TextColumn(what), DownloadColumn(), TransferSpeedColumn()
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(what, total=None)
        yield lambda size: bar.advance(task, size)
