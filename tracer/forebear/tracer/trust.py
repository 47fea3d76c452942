"""The commands by which a ledger is trusted: `verify`, `prove`, `verify-proof`, `export-salted`, `key`, `gc`.

Always true here: bodies are thin, the library does the work; an answer goes to standard output, with `--json` as one object; what is
written to a file is written to a new one; exit codes are CONTRACT's. Nothing here opens a network connection but to the ledger's own
bucket.
"""

from __future__ import annotations

import json
import os
import re
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from forebear.schemas.errors import ForebearError, UsageError

if TYPE_CHECKING:
    from forebear.schemas.records import Head
    from forebear.tracer.ledger.ledger import Ledger

__all__ = ["register"]

LedgerUrl = Callable[[str | None], str]
"""Gives the ledger that is meant: the command's own option, else what was given before the command or by the environment."""

_Ledger = Annotated[str | None, typer.Option("--ledger", help="The ledger; default: $FOREBEAR_LEDGER, else ./ledger.")]
_Json = Annotated[bool, typer.Option("--json", help="One JSON object on standard output.")]
_Out = Annotated[Path | None, typer.Option("--output", "-o", help="Write it to this new file instead of standard output.")]
_DAY = 86400.0


def register(app: typer.Typer, *, ledger_url: LedgerUrl) -> None:
    """Add the commands to the command line."""
    _add_verify(app, ledger_url)
    _add_prove(app, ledger_url)
    _add_verify_proof(app)
    _add_export_salted(app, ledger_url)
    _add_gc(app, ledger_url)
    keys = typer.Typer(no_args_is_help=True, help="Signing keys of a ledger: make, sign, rotate, revoke.", rich_markup_mode=None)
    _add_keys(keys, ledger_url)
    app.add_typer(keys, name="key")


def _add_verify(app: typer.Typer, ledger_url: LedgerUrl) -> None:
    @app.command()
    def verify(
        quick: Annotated[bool, typer.Option("--quick", help="Presence and sizes only.")] = False,
        full: Annotated[bool, typer.Option("--full", help="Every byte and every count (default).")] = False,
        sample: Annotated[str | None, typer.Option("--sample", help="The n-th of t equal shares of the objects.", metavar="N/T")] = None,
        key: Annotated[Path | None, typer.Option("--key", help="The public key by which the head must be signed.")] = None,
        since: Annotated[Path | None, typer.Option("--since", help="A head kept elsewhere, which the ledger must continue.")] = None,
        record: Annotated[bool, typer.Option("--record", help="Write down what was checked, as an entry.")] = False,
        fork: Annotated[Path | None, typer.Option("--fork", help="Where to write the proof, if the ledger was forked.")] = None,
        ledger: _Ledger = None,
        as_json: _Json = False,
    ) -> None:
        """Check the ledger; changes nothing (`--record` adds an entry)."""
        from forebear.tracer.ledger.keys import load_public
        from forebear.tracer.ledger.ledger import Ledger
        from forebear.tracer.ledger.proofs import prove_fork
        from forebear.tracer.ledger.verification import record_verification
        from forebear.tracer.ledger.verify import verify as verify_ledger
        from forebear.tracer.render import show_verify

        if quick + full + (sample is not None) > 1:
            raise _wrong("too_many_arguments", "one of --quick, --full, --sample", "several", "Give one of them.")
        there = Ledger.open(ledger_url(ledger))
        remembered = None if since is None else _head_file(since)
        public = None if key is None else load_public(key)
        level = "quick" if quick else "sample" if sample is not None else "full"
        share = None if sample is None else _share(sample)
        report = verify_ledger(there, level=level, sample=share, since=remembered, key=public)
        answer = report.to_json()
        if since is not None and any(one.kind == "forked" for one in report.findings):
            answer["fork"] = prove_fork(there, since.read_bytes())
            if fork is not None:
                _write_new(fork, json.dumps(answer["fork"], ensure_ascii=False) + "\n")
        if record:
            answer["recorded"] = record_verification(there, report, now=datetime.now(UTC))
        _print(answer) if as_json else show_verify(answer)
        raise typer.Exit(0 if report.ok and report.authentic is not False else 1)


def _add_prove(app: typer.Typer, ledger_url: LedgerUrl) -> None:
    @app.command()
    def prove(
        subject: Annotated[str, typer.Argument(help="Digest of a document or an object.", metavar="DOCUMENT_OR_OBJECT")] = "",
        text_file: Annotated[Path | None, typer.Option("--text-file", help="A file that holds the document's text.")] = None,
        run: Annotated[str | None, typer.Option("--run", help="Of this run; default: the newest that has the document.")] = None,
        consistent_with: Annotated[int | None, typer.Option("--since", help="Prove that the ledger continues this older head.")] = None,
        head: Annotated[int | None, typer.Option("--head", help="Lead to an older head: its number of entries.", min=0)] = None,
        output: _Out = None,
        ledger: _Ledger = None,
        as_json: _Json = False,
    ) -> None:
        """Prove inclusion or absence to somebody who does not have the ledger: a small JSON file."""
        from forebear.tracer.ledger.ledger import Ledger
        from forebear.tracer.ledger.proofs import prove as make
        from forebear.tracer.ledger.proofs import prove_consistency

        del as_json  # a proof is JSON
        if (subject != "") + (text_file is not None) + (consistent_with is not None) != 1:
            raise _wrong("missing_argument", "a digest, --text-file or --since", "none of them, or several", "Say what to prove.")
        there = Ledger.open(ledger_url(ledger))
        if head is not None:
            there = there.at(head)
        named = subject if text_file is None else _digest_of(text_file)
        proof = make(there, named, run=run) if consistent_with is None else prove_consistency(there, consistent_with)
        text = json.dumps(proof, ensure_ascii=False, separators=(",", ":")) + "\n"
        sys.stdout.write(text) if output is None else _write_new(output, text)


def _add_verify_proof(app: typer.Typer) -> None:
    @app.command("verify-proof")
    def verify_proof(
        file: Annotated[Path, typer.Argument(help="A proof.", metavar="FILE")],
        key: Annotated[Path | None, typer.Option("--key", help="The public key by which its head must be signed.")] = None,
        head: Annotated[Path | None, typer.Option("--head", help="A head kept elsewhere, to which it must lead.")] = None,
        as_json: _Json = False,
    ) -> None:
        """Check a proof, without the ledger; one of --key and --head must say whom it is from."""
        from forebear.tracer.ledger.keys import load_public
        from forebear.tracer.ledger.proof_check import MAX_PROOF, check_proof

        public = None if key is None else load_public(key)
        remembered = None if head is None else _head_file(head)
        report = check_proof(_read(file, MAX_PROOF + 1), key=public, head=remembered)
        answer = report.to_json()
        if report.authentic is None:
            answer["note"] = "a proof carries its own head: give --key or --head, from elsewhere"
        _print(answer) if as_json else _show(answer)
        raise typer.Exit(report.exit_code)


def _add_export_salted(app: typer.Typer, ledger_url: LedgerUrl) -> None:
    @app.command("export-salted")
    def export_salted(
        folder: Annotated[Path, typer.Argument(help="The ledger to publish: a new folder, or one made so.", metavar="DIR")],
        salt_file: Annotated[Path, typer.Option("--salt", help="Where the salt is kept: a new file for a new ledger.")],
        run: Annotated[str | None, typer.Option("--run", help="Of this run; default: the newest.")] = None,
        ledger: _Ledger = None,
        as_json: _Json = False,
    ) -> None:
        """Commit in public to a run's documents under a salt, which is kept for an auditor who challenges."""
        from forebear.tracer.ledger.ledger import Ledger
        from forebear.tracer.ledger.salted import publish_salted, salts_of

        private = Ledger.open(ledger_url(ledger))
        runs = private.runs() if run is None else [private.find_run(run)]
        if not runs:
            raise _wrong("no_run", "a ledger with a run", "none", "`forebear scan` logs a run.")
        if salt_file.absolute().resolve().is_relative_to(folder.absolute().resolve()):
            raise _wrong("salt_published", f"a file outside {folder}", str(salt_file), "Keep the salt apart from what is published.")
        published = Ledger.open(folder, create=True)
        made = not salts_of(published)
        salt = _new_salt(salt_file) if made else _read(salt_file, 1 << 10)
        try:
            record = publish_salted(private, published, salt=salt, run=runs[-1][1], now=datetime.now(UTC))
        except BaseException:
            if made and not published.entries():  # nothing was published under it: the same command can be given again
                salt_file.unlink()
            raise
        answer = {"schema": "forebear/export-salted/1", "record": record, "head": published.head().to_json()}
        answer |= {"published": str(folder), "salt_file": str(salt_file)}
        _print(answer) if as_json else _show(answer)


def _new_salt(path: Path) -> bytes:
    """32 random bytes, also written to a new file that its owner alone may read."""
    salt = os.urandom(32)
    try:
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(salt)
    except FileExistsError as error:
        raise _wrong("file_exists", f"no file at {path}", "one", "Name a new file: each published ledger has a salt of its own.") from error
    except OSError as error:
        raise _wrong("unwritable_file", f"a place for {path}", error.strerror or str(error), "Name another file.") from error
    return salt


def _add_gc(app: typer.Typer, ledger_url: LedgerUrl) -> None:
    @app.command()
    def gc(
        dry_run: Annotated[bool, typer.Option("--dry-run", help="List; remove nothing.")] = False,
        older_than: Annotated[float, typer.Option("--older-than", help="Days that an orphan or a dead job must be old.", min=0.0)] = 1.0,
        forget: Annotated[list[str] | None, typer.Option("--forget", help="A job of another machine, known to be dead.")] = None,
        ledger: _Ledger = None,
        as_json: _Json = False,
    ) -> None:
        """Remove what killed scans left: dead jobs, and objects to which nothing leads."""
        from forebear.tracer.ledger.ledger import Ledger
        from forebear.tracer.scan.leftovers import clean_leftovers

        there = Ledger.open(ledger_url(ledger))
        found = clean_leftovers(there, now=time.time(), older_than=older_than * _DAY, dry_run=dry_run, forget=forget or ())
        _print(found.to_json()) if as_json else _show(found.to_json())


def _add_keys(app: typer.Typer, ledger_url: LedgerUrl) -> None:
    @app.command()
    def make(
        name: Annotated[Path, typer.Argument(help="NAME.key and NAME.pub are written.", metavar="NAME")],
        as_json: _Json = False,
    ) -> None:
        """Make an Ed25519 key pair, in two new files."""
        from forebear.tracer.ledger.keys import generate, write_pair

        key = generate()
        private, public = name.with_name(name.name + ".key"), name.with_name(name.name + ".pub")
        write_pair(key, private=private, public=public)
        answer = {"schema": "forebear/key-made/1", "key": key.public.key_id, "private": str(private), "public": str(public)}
        _print(answer) if as_json else _show(answer)

    @app.command()
    def sign(
        key: Annotated[Path, typer.Argument(help="The private key's file.", metavar="KEY")],
        ledger: _Ledger = None,
        as_json: _Json = False,
    ) -> None:
        """Sign the head (FOREBEAR_KEY=KEY signs it with every entry)."""
        from forebear.tracer.ledger.keys import load_private

        there = _signing(ledger_url(ledger), load_private(key))
        _say_head(there.sign_head(), as_json)

    @app.command()
    def rotate(
        old: Annotated[Path, typer.Argument(help="The private key in force.", metavar="OLD_KEY")],
        new: Annotated[Path, typer.Argument(help="The private key that signs from now on.", metavar="NEW_KEY")],
        why: Annotated[str, typer.Option("--why", help="For people.")] = "",
        ledger: _Ledger = None,
        as_json: _Json = False,
    ) -> None:
        """Hand over from one key to another: an entry signed by the old one, then a head signed by the new one."""
        from forebear.tracer.ledger.keys import load_private
        from forebear.tracer.ledger.verification import add_key_record

        successor = load_private(new)
        there = _signing(ledger_url(ledger), successor)
        add_key_record(there, "rotate", successor.public, by=load_private(old), why=why, now=datetime.now(UTC))
        _say_head(there.sign_head(), as_json)

    @app.command()
    def revoke(
        key: Annotated[Path, typer.Argument(help="The public key to withdraw.", metavar="PUB")],
        by: Annotated[Path, typer.Option("--by", help="The private key that says so: the key in force, or the withdrawn one itself.")],
        why: Annotated[str, typer.Option("--why", help="For people.")] = "",
        ledger: _Ledger = None,
        as_json: _Json = False,
    ) -> None:
        """Withdraw a key: an entry signed by the key in force, or by the withdrawn one."""
        from forebear.tracer.ledger.keys import load_private, load_public
        from forebear.tracer.ledger.verification import add_key_record

        signer, withdrawn = load_private(by), load_public(key)
        there = _signing(ledger_url(ledger), None if signer.public == withdrawn else signer)
        add_key_record(there, "revoke", withdrawn, by=signer, why=why, now=datetime.now(UTC))
        _say_head(there.head(), as_json)


def _signing(url: str, signer: Any) -> Ledger:
    from forebear.tracer.ledger.ledger import Ledger

    return Ledger(Ledger.open(url).store, signer=signer)


def _say_head(head: Head, as_json: bool) -> None:
    answer = {"schema": "forebear/head/1", "head": head.to_json()}
    _print(answer) if as_json else _show(answer)


def _share(text: str) -> tuple[int, int]:
    found = re.fullmatch(r"([1-9][0-9]{0,8})/([1-9][0-9]{0,8})", text)
    if found is None:
        raise _wrong("unknown_level", "a share such as 1/10", repr(text[:40]), "Give N/T, the n-th of t shares.")
    return int(found[1]), int(found[2])


def _head_file(path: Path) -> Head:
    """A head as it was kept: the file `head` itself, or the object that answers carry."""
    from forebear.schemas.canonical import parse_json
    from forebear.schemas.digests import digest_bytes
    from forebear.schemas.records import Head
    from forebear.tracer.ledger.layout import MAX_HEAD, parse_head

    data = _read(path, MAX_HEAD)
    try:
        if not data.lstrip().startswith(b"{"):
            return parse_head(data)
        value = parse_json(data)
        value = value.get("head", value)
        return Head(int(value["size"]), digest_bytes(value["root"]))
    except (ForebearError, ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        remedy = "Give a copy of the ledger's file `head`, or the object `head` of an answer."
        raise _wrong("not_a_head", f"a head in {path}", f"{type(error).__name__}: {str(error)[:200]}", remedy) from error


def _digest_of(path: Path) -> str:
    from forebear.schemas.digests import sha256_name

    return sha256_name(_read(path, 1 << 30))


def _read(path: Path, limit: int) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(limit)
    except OSError as error:
        raise _wrong("unreadable_file", f"a file {path}", error.strerror or str(error), "Name a file that can be read.") from error


def _write_new(path: Path, text: str) -> None:
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError as error:
        raise _wrong("file_exists", f"no file at {path}", "one", "Name another file.") from error
    except OSError as error:
        raise _wrong("unwritable_file", f"a place for {path}", error.strerror or str(error), "Name another file.") from error


def _print(answer: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(answer, ensure_ascii=False).encode(errors="backslashreplace").decode() + "\n")


def _show(answer: dict[str, Any]) -> None:
    """An answer for people: one line a fact, control characters escaped."""
    for name, value in answer.items():
        if name == "schema":
            continue
        text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, indent=2)
        clean = "".join(one if one.isprintable() or one == "\n" else f"\\x{ord(one):02x}" for one in text)
        sys.stdout.write(f"{name}: {clean}\n".encode(errors="backslashreplace").decode())


def _wrong(kind: str, expected: str, found: str, remedy: str) -> UsageError:
    return UsageError(kind, expected=expected, found=found, remedy=remedy)
