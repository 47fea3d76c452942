"""The command line of the auditor and the release engineer: thin bodies over the library.

Always true here: an answer goes to standard output, with `--json` as one object a line and nothing else; an error is one message
on standard error and, with `--json`, also an object on standard output; exit codes are CONTRACT's. DuckDB, Arrow and the rest are
imported inside the bodies, so that `forebear --help` is quick. The one place that catches the root of errors is `run`.
"""

from __future__ import annotations

import json
import os
import sys
import traceback
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

from forebear.schemas.errors import ForebearError, UsageError
from forebear.schemas.moments import utc_text
from forebear.tracer.certify.commands import register as register_certify
from forebear.tracer.trust import register as register_trust

if TYPE_CHECKING:
    from forebear.tracer.audit.session import Session
    from forebear.tracer.lineage.usage import Read

__all__ = ["JsonOption", "LedgerOption", "app", "ledger_url", "run", "usage_reader"]

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    help="Which of a model's ancestors saw contaminated data, and how do you know?",
)

LedgerOption = Annotated[str | None, typer.Option("--ledger", help="The ledger; default: $FOREBEAR_LEDGER, else ./ledger.")]
JsonOption = Annotated[bool, typer.Option("--json", help="One JSON object on standard output.")]
_HeadOption = Annotated[int | None, typer.Option("--head", help="As of an older head: its number of entries.", min=0)]
_Detectors = Annotated[list[str] | None, typer.Option("--detector", help="Only these: names or digests.")]
_Threshold = Annotated[str | None, typer.Option("--threshold", help="Another flag threshold, from the logged scores.")]
_Policy = Annotated[Path | None, typer.Option("--policy", help="The thresholds of this policy.")]

# typer brings a click of its own from some version on: its root of errors is found, not imported.
_ClickException: Any = next(one for one in typer.BadParameter.__mro__ if one.__name__ == "ClickException")

_given: dict[str, str | None] = {"ledger": None}

usage_reader: dict[str, Callable[[Sequence[str | Path]], Sequence[Read]]] = {}
"""How `link --usage` reads logs, under "read"; where nobody says, by `lineage.usage.read_usage`."""


@app.callback()
def _options(
    ledger: LedgerOption = None,
    debug: Annotated[bool, typer.Option("--debug", help="Show a traceback where something fails.")] = False,
) -> None:
    del debug  # taken by `run`, wherever it stands
    _given["ledger"] = ledger


def ledger_url(own: str | None) -> str:
    """The ledger that is meant: the command's own option, the one before the command, the environment, ./ledger."""
    return own or _given["ledger"] or os.environ.get("FOREBEAR_LEDGER") or "ledger"


@app.command()
def link(
    records: Annotated[list[Path], typer.Argument(help="Training records, YAML or JSON.", metavar="RECORD...")],
    usage: Annotated[list[Path] | None, typer.Option("--usage", help="Usage logs: Parquet or JSONL.")] = None,
    ledger: LedgerOption = None,
    as_json: JsonOption = False,
) -> None:
    """Add training records: what models and datasets came from."""
    from forebear.tracer.ledger.ledger import Ledger
    from forebear.tracer.lineage.link import link as link_records
    from forebear.tracer.lineage.records import read_record
    from forebear.tracer.render import show_link

    parsed = [(read_record(path), path.absolute().parent) for path in records]
    there = Ledger.open(ledger_url(ledger), create=True)
    now = utc_text(datetime.now(UTC))
    linked = link_records(there, parsed, usage=usage or (), time=now, read=usage_reader.get("read"))
    _print(linked.to_json()) if as_json else show_link(linked)


@app.command("import")
def import_(
    kind: Annotated[str, typer.Argument(help="hf-card, ecosystem-graphs, dclm, openlineage, mlflow, dolma or decon.", metavar="KIND")],
    paths: Annotated[list[str], typer.Argument(help="Files or folders; a model card may be NAME=PATH.", metavar="PATH...")],
    stated_only: Annotated[bool, typer.Option("--stated-only", help="Leave out relations that the source does not name.")] = False,
    attribute: Annotated[str | None, typer.Option("--attribute", help="Of dolma: the attribute that counts.")] = None,
    at_least: Annotated[float | None, typer.Option("--at-least", help="Of dolma and decon: the score that counts.")] = None,
    authority: Annotated[str | None, typer.Option("--authority", help="Of dolma and decon: whose word it is.")] = None,
    ledger: LedgerOption = None,
    as_json: JsonOption = False,
) -> None:
    """Add lineage, or evidence of contamination, from elsewhere; says what it could not resolve."""
    from forebear.tracer.audit.outside import EVIDENCE, Flags, import_evidence
    from forebear.tracer.ledger.ledger import Ledger
    from forebear.tracer.lineage.importers.kinds import KINDS, import_lineage
    from forebear.tracer.render import show_import, show_testimony

    if kind not in {*KINDS, *EVIDENCE}:
        raise _wrong("unknown_kind", f"one of {', '.join(sorted({*KINDS, *EVIDENCE}))}", repr(kind)[:80], "Use one of these.")
    now = utc_text(datetime.now(UTC))
    if kind in EVIDENCE:
        there, session = Ledger.open(ledger_url(ledger)), _session(ledger, None)
        flags = Flags(attribute, at_least)
        told = import_evidence(there, session, kind, paths, flags=flags, authority=authority, time=now)
        _print(told.to_json()) if as_json else show_testimony(told)
        return
    imported = import_lineage(Ledger.open(ledger_url(ledger), create=True), kind, paths, time=now, stated_only=stated_only)
    _print(imported.to_json()) if as_json else show_import(imported)


@app.command()
def trace(
    models: Annotated[list[str] | None, typer.Argument(help="Digests, prefixes, names or aliases.", metavar="MODEL...")] = None,
    every: Annotated[bool, typer.Option("--all", help="Every recorded model.")] = False,
    detectors: _Detectors = None,
    threshold: _Threshold = None,
    policy: _Policy = None,
    at_least: Annotated[int, typer.Option("--at-least", help="Only exposures of so many documents count.", min=0)] = 0,
    as_mermaid: Annotated[bool, typer.Option("--mermaid", help="A Mermaid flowchart of the ancestors.")] = False,
    as_dot: Annotated[bool, typer.Option("--dot", help="A Graphviz graph of the ancestors.")] = False,
    head: _HeadOption = None,
    ledger: LedgerOption = None,
    as_json: JsonOption = False,
) -> None:
    """Verdict and exposures of models, through all their ancestors."""
    from forebear.tracer.audit.answer import exit_code
    from forebear.tracer.render import show_trace

    if bool(models) == every:
        raise _wrong("missing_argument", "one model or more, or --all", "neither" if every is False else "both", "Name a model.")
    if as_json + as_mermaid + as_dot > 1:
        raise _wrong("too_many_arguments", "one of --json, --mermaid and --dot", "several", "Give one of them.")
    session = _session(ledger, head)
    question = session.question(detectors=detectors or (), threshold=threshold, policy=policy, at_least=at_least)
    found = [session.graph.find(one) for one in models or ()]
    walker, verdicts = session.walker(question), []
    traces = session.trace_all(question=question) if every else (walker.trace(one, at_least=at_least) for one in found)
    if as_mermaid or as_dot:
        from forebear.tracer.pictures import dot, mermaid

        answered = list(traces)
        sys.stdout.write((mermaid if as_mermaid else dot)(session, answered, question=question))
        raise typer.Exit(exit_code([one.verdict for one in answered]))
    context = session.context(question)
    for one in traces:
        verdicts.append(one.verdict)
        _print({**one.to_json(context), **session.notes(one)}) if as_json else show_trace(session, one, question)
    raise typer.Exit(exit_code(verdicts))


@app.command()
def impact(
    shards: Annotated[list[str], typer.Argument(help="Files, digests, or prefixes of digests.", metavar="SHARD...")],
    head: _HeadOption = None,
    ledger: LedgerOption = None,
    as_json: JsonOption = False,
) -> None:
    """Models that a shard reached, directly or through their ancestors."""
    from forebear.tracer.render import show_recall

    session = _session(ledger, head)
    recalled = session.impact(shards)
    _print(recalled.to_json(session.head)) if as_json else show_recall(recalled)
    raise typer.Exit(recalled.exit_code)


@app.command()
def recall(
    targets: Annotated[list[str] | None, typer.Argument(help="Documents, shards, runs, models, prompts.", metavar="TARGET...")] = None,
    texts: Annotated[list[Path] | None, typer.Option("--text-file", help="A file that holds a document's text.")] = None,
    head: _HeadOption = None,
    ledger: LedgerOption = None,
    as_json: JsonOption = False,
) -> None:
    """Models that known-bad documents, shards, runs, models or system prompts reached."""
    from forebear.tracer.render import show_recall

    if not targets and not texts:
        raise _wrong("missing_argument", "a target, or --text-file", "neither", "Name what is known to be bad.")
    session = _session(ledger, head)
    recalled = session.recall(targets or (), texts=texts or ())
    _print(recalled.to_json(session.head)) if as_json else show_recall(recalled)
    raise typer.Exit(recalled.exit_code)


@app.command()
def advisory(
    targets: Annotated[list[str] | None, typer.Argument(help="Documents, shards, runs, models, prompts.", metavar="TARGET...")] = None,
    reason: Annotated[str, typer.Option("--reason", help="Why, in a sentence.")] = "",
    authority: Annotated[str, typer.Option("--authority", help="Who says so.")] = "",
    texts: Annotated[list[Path] | None, typer.Option("--text-file", help="A file that holds a document's text; its digest counts.")] = None,
    ledger: LedgerOption = None,
    as_json: JsonOption = False,
) -> None:
    """Publish a recall: what it names counts in every answer from then on."""
    from forebear.tracer.audit.publish import publish
    from forebear.tracer.ledger.ledger import Ledger
    from forebear.tracer.render import show_advisory

    if not targets and not texts:
        raise _wrong("missing_argument", "a target, or --text-file", "neither", "Name what is recalled.")
    session, there = _session(ledger, None), Ledger.open(ledger_url(ledger))
    now = utc_text(datetime.now(UTC))
    answer = publish(there, session, targets or (), texts=texts or (), reason=reason, authority=authority, time=now).to_json()
    _print(answer) if as_json else show_advisory(answer)


@app.command()
def receipt(
    documents: Annotated[list[str] | None, typer.Argument(help="Digests of documents' texts.", metavar="DOCUMENT...")] = None,
    texts: Annotated[list[Path] | None, typer.Option("--text-file", help="A file that holds a document's text.")] = None,
    head: _HeadOption = None,
    ledger: LedgerOption = None,
    as_json: JsonOption = False,
) -> None:
    """The answer to an opt-out: where a document was dropped or kept, and who had consumed it."""
    from forebear.tracer.audit.receipt import exit_code
    from forebear.tracer.render import show_receipt

    if not documents and not texts:
        raise _wrong("missing_argument", "a document's digest, or --text-file", "neither", "Name the document.")
    answer = _session(ledger, head).receipt(documents or (), texts=texts or ())
    _print(answer) if as_json else show_receipt(answer)
    raise typer.Exit(exit_code(answer))


@app.command()
def why(
    document: Annotated[str, typer.Argument(help="Digest of a document, a prefix of one, or the row's own id.")],
    head: _HeadOption = None,
    ledger: LedgerOption = None,
    as_json: JsonOption = False,
) -> None:
    """Every decision about a document: run, row, score, threshold, keeper."""
    from forebear.tracer.audit.why import why as explain
    from forebear.tracer.render import show_why

    session = _session(ledger, head)
    answer = explain(session, document)
    _print(answer) if as_json else show_why(answer)


@app.command()
def runs(head: _HeadOption = None, ledger: LedgerOption = None, as_json: JsonOption = False) -> None:
    """The runs of the ledger, and jobs that did not end."""
    from forebear.tracer.audit.runs import list_runs
    from forebear.tracer.render import show_runs

    answer = list_runs(_session(ledger, head))
    _print(answer) if as_json else show_runs(answer)


@app.command()
def diff(
    run_a: Annotated[str, typer.Argument(metavar="RUN_A", help="The older run.")],
    run_b: Annotated[str, typer.Argument(metavar="RUN_B", help="The newer run.")],
    ledger: LedgerOption = None,
    as_json: JsonOption = False,
) -> None:
    """Decisions that changed between two runs, by reason and threshold."""
    from forebear.tracer.audit.diff import diff_runs
    from forebear.tracer.render import show_diff

    answer = diff_runs(_session(ledger, None), run_a, run_b)
    _print(answer) if as_json else show_diff(answer)
    raise typer.Exit(0 if answer["same"] else 1)


@app.command()
def sql(
    query: Annotated[str | None, typer.Argument(help="One DuckDB query over the schema `audit`; none: a shell.")] = None,
    file: Annotated[Path | None, typer.Option("--file", help="The query in a file.")] = None,
    untrusted: Annotated[bool, typer.Option("--untrusted", help="A stranger's query: one SELECT, locked in, within limits.")] = False,
    head: _HeadOption = None,
    ledger: LedgerOption = None,
    as_json: JsonOption = False,
) -> None:
    """DuckDB over the audit schema."""
    from forebear.tracer.render import show_answer, show_rows

    if query is not None and file is not None:
        raise _wrong("too_many_arguments", "a query or --file", "both", "Give one of them.")
    text = _read(file) if file is not None else query
    if untrusted:
        from forebear.tracer.audit.untrusted import answer_untrusted

        found = answer_untrusted(ledger_url(ledger), text or "", head=head)
        _print(found) if as_json else show_rows(found["columns"], found["rows"])
        return
    session = _session(ledger, head)
    if text is None:
        _shell(session)
        return
    answer = session.sql(text)
    _print(answer.to_json(session.head)) if as_json else show_answer(answer)


@app.command()
def rules(as_json: JsonOption = False) -> None:
    """The rule table: how exposure passes along each relation."""
    from forebear.tracer.render import rules_json, show_rules

    _print(rules_json()) if as_json else show_rules()


@app.command()
def policy(
    file: Annotated[Path | None, typer.Argument(help="A policy (TOML); none: the default.")] = None, as_json: JsonOption = False
) -> None:
    """The effective policy, explained."""
    from forebear.tracer.policy import policy_command
    from forebear.tracer.render import show_policy

    answer = policy_command(file)
    _print(answer) if as_json else show_policy(answer)


register_certify(app, ledger_url=ledger_url)
register_trust(app, ledger_url=ledger_url)


def run(application: typer.Typer, arguments: Sequence[str] | None = None) -> NoReturn:
    """Run the command line and exit: errors become one message and CONTRACT's exit codes.

    Args:
        application: The typer application.
        arguments: What was given, without the program's name; None: `sys.argv`.
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    debug, as_json = "--debug" in given, "--json" in given
    # Wherever it stands: a traceback is wanted.
    given = [one for one in given if one != "--debug"]
    try:
        code = typer.main.get_command(application).main(given, prog_name="forebear", standalone_mode=False)
        sys.stdout.flush()
        sys.exit(code if isinstance(code, int) else 0)
    except SystemExit:
        raise
    except BaseException as error:  # noqa: BLE001 - the one place: whatever fails becomes one message and an exit code
        if debug:
            traceback.print_exception(error)
        sys.exit(_failed(error, as_json))


def _failed(error: BaseException, as_json: bool) -> int:
    """Say what failed, and which exit code that is."""
    if isinstance(error, BrokenPipeError):  # whoever read has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    if isinstance(error, KeyboardInterrupt | typer.Abort):
        sys.stderr.write("forebear: interrupted\n")
        return 130
    if isinstance(error, _ClickException):
        if type(error).__name__ == "NoArgsIsHelpError":
            sys.stderr.write(error.format_message() + "\n")
            return 2
        expected = "options and arguments as `forebear COMMAND --help` lists them"
        known: ForebearError = _wrong("bad_usage", expected, error.format_message(), "Correct the call.")
    elif isinstance(error, ForebearError):
        known = error
    else:
        known = _bug(error)
    if as_json:
        _print(known.to_json())
    sys.stderr.write(f"forebear: {' '.join(str(known).split())}\n")
    return 3 if known.kind == "bug" else known.exit_code


def _bug(error: BaseException) -> ForebearError:
    found = f"{type(error).__name__}: {str(error)[:300]}"
    return ForebearError("bug", expected="no failure", found=found, remedy="Run it again with --debug and report what it says.")


def _session(ledger: str | None, head: int | None) -> Session:
    from forebear.tracer.audit.session import Session

    return Session.open(ledger_url(ledger), head=head)


def _print(answer: dict[str, Any]) -> None:
    # Lone surrogates cannot be written; names hold none, but messages quote what was found.
    sys.stdout.write(json.dumps(answer, ensure_ascii=False).encode(errors="backslashreplace").decode() + "\n")


def _read(path: Path) -> str:
    try:
        return path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise _wrong("unreadable_file", f"a query in {path}", str(error), "Name a file that can be read.") from error


def _shell(session: Session) -> None:
    from forebear.tracer.render import show_answer

    if sys.stdin.isatty():
        sys.stderr.write("DuckDB over the schema audit; a query ends with `;`, the shell with .quit\n")
    held = ""
    for line in sys.stdin:
        if line.strip() in (".quit", ".exit"):
            break
        held += line
        if not held.strip().endswith(";"):
            continue
        try:
            show_answer(session.sql(held))
        except ForebearError as error:
            sys.stderr.write(f"{error}\n")
        held = ""
    if held.strip():
        show_answer(session.sql(held))


def _wrong(kind: str, expected: str, found: str, remedy: str) -> UsageError:
    return UsageError(kind, expected=expected, found=found, remedy=remedy)
