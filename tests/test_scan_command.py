"""`forebear scan` from outside: what is wrong use, what fails in the middle, what it says, and where its options lead."""

from __future__ import annotations

import hashlib
import json
import os
import re
import subprocess
import sys
import sysconfig
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

FOREBEAR = str(Path(sysconfig.get_path("scripts")) / "forebear")
BAD = "you are a stupid fucking idiot and everyone hates you, shut the fuck up you worthless piece of shit"


def texts(name: str, count: int, *, words: int = 20) -> list[dict[str, str]]:
    """Documents unlike all others."""
    parts = lambda n: (hashlib.sha256(f"{name} {n} {k}".encode()).hexdigest()[:7] for k in range(words))  # noqa: E731
    return [{"id": f"{name}-{n}", "text": " ".join(parts(n))} for n in range(count)]


def messages(err: str) -> list[str]:
    """Lines of standard error but those of progress, which a slow machine gets to see."""
    return [line for line in err.splitlines() if not re.match(r"[a-z0-9/ ]+: [\d,]+ rows, [\d,]+/s, ", line)]


def jsonl(path: Path, rows: Sequence[dict[str, Any]]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with what the cases of wrong use name; no case may change it."""
    folder = tmp_path_factory.mktemp("wrong")
    jsonl(folder / "good.jsonl", texts("good", 5))
    (folder / "empty").mkdir()
    pq.write_table(pa.table({"body": ["x"], "title": ["y"]}), folder / "columns.parquet")
    (folder / "notes.txt").write_text("not data")
    (folder / "model.bin").write_bytes(b"not a model at all")
    (folder / "file").write_text("hello")
    (folder / "photos").mkdir()
    (folder / "photos" / "cat.png").write_bytes(b"\x89PNG")
    policies = {
        "unknown": "[toxicty]\nflag = 0.5\n",
        "key": "[duplicates]\njacard = 0.5\n",
        "above": "[toxicity]\nflag = 1.5\n",
        "order": "[toxicity]\nflag = 0.9\ndrop = 0.5\n",
        "broken": "[toxicity\n",
        "model": '[toxicity]\nmodel = "nowhere.bin"\n',
    }
    for name, toml in policies.items():
        (folder / f"{name}.toml").write_text(toml)
    (folder / "list.txt").write_text(f"good.jsonl sha256:{'0' * 63}\n")
    return folder


# claim: (arguments after `scan`, with {} for the folder; kind of error; words that the message must hold)
WRONG: dict[str, tuple[str, str, str]] = {
    "no input at all": ("", "no_inputs", "files, folders or globs"),
    "a file that is not there": ("{}/nope.jsonl", "no_such_file", "nope.jsonl"),
    "a glob that matches nothing": ("{}/nope*.jsonl", "no_match", "nope*.jsonl"),
    "an empty folder": ("{}/empty", "empty_folder", ".parquet"),
    "a file of no known format": ("{}/notes.txt", "unknown_format", "notes.txt"),
    "no input has the text column: the message names those there are": ("{}/columns.parquet", "missing_text_column", "body, title"),
    "a device": ("/dev/full", "not_a_file", "/dev/full"),
    "a list that is not there": ("--inputs {}/nowhere.txt", "unreadable_list", "nowhere.txt"),
    "a list with half a digest": ("--inputs {}/list.txt", "not_a_digest", "64"),
    "a policy that is not there": ("{}/good.jsonl --policy {}/nowhere.toml", "unreadable_policy", "nowhere.toml"),
    "a policy that is no TOML": ("{}/good.jsonl --policy {}/broken.toml", "malformed_policy", "broken.toml"),
    "a policy with an unknown table: the nearest is named": ("{}/good.jsonl --policy {}/unknown.toml", "unknown_key", "'toxicity'"),
    "a policy with an unknown key: the nearest is named": ("{}/good.jsonl --policy {}/key.toml", "unknown_key", "'jaccard'"),
    "a threshold above 1": ("{}/good.jsonl --policy {}/above.toml", "impossible_threshold", "1.5"),
    "a drop threshold below the flag threshold": ("{}/good.jsonl --policy {}/order.toml", "impossible_threshold", "0.5"),
    "a toxicity model that is none": ("{}/good.jsonl --toxicity-model {}/model.bin", "", "model.bin"),
    "a toxicity model that is not there": ("{}/good.jsonl --toxicity-model {}/nowhere.bin", "", "nowhere.bin"),
    "a policy whose model is not there": ("{}/good.jsonl --policy {}/model.toml", "", "nowhere.bin"),
    "no workers": ("{}/good.jsonl --workers 0", "wrong_value", "--workers"),
    "a share above 1": ("{}/good.jsonl --max-errored 5", "wrong_value", "--max-errored"),
    "a share that is no number": ("{}/good.jsonl --max-errored nan", "wrong_value", "--max-errored"),
    "an unknown runner: those there are, are named": ("{}/good.jsonl --runner Nonsense", "unknown_runner", "FnApiRunner"),
    "an unknown option": ("{}/good.jsonl --wrokers 2", "bad_usage", "--wrokers"),
    "workers in threads": ("{}/good.jsonl -- --direct_running_mode=multi_threading", "wrong_value", "--workers"),
    "a runner behind the dashes": ("{}/good.jsonl -- --runner=DirectRunner", "wrong_value", "--runner"),
    "a ledger that is a file": ("{}/good.jsonl --ledger {}/file", "not_a_ledger", "file"),
    "a ledger that is a folder of something else": ("{}/good.jsonl --ledger {}/photos", "not_a_ledger", "cat.png"),
    "a ledger below a file": ("{}/good.jsonl --ledger {}/file/ledger", "not_a_ledger", "file"),
    "a ledger in no store we know": ("{}/good.jsonl --ledger ftp://host/ledger", "unknown_store", "ftp://"),
}


def listing(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


@pytest.mark.parametrize("claim", WRONG)
def test_wrong_use_is_told_before_anything_is_written(claim: str, place: Path, forebear: Callable[..., Any]) -> None:
    given, kind, words = WRONG[claim]
    before = listing(place)
    arguments, dashes, beam = given.replace("{}", str(place)).partition(" -- ")
    ledger = [] if "--ledger" in given else ["--ledger", place / "ledger"]
    answer = forebear("scan", *arguments.split(), "--json", *ledger, *([dashes.strip(), beam] if dashes else []))
    assert answer.code == 2
    assert kind in ("", answer.error["kind"])
    assert words in " ".join(answer.error.values())
    assert listing(place) == before


def test_without_json_the_error_is_one_line_on_standard_error(place: Path, forebear: Callable[..., Any]) -> None:
    answer = forebear("scan", place / "nope*.jsonl", "--ledger", place / "ledger")
    assert (answer.code, answer.out) == (2, "")
    assert len(answer.err.splitlines()) == 1
    assert answer.err.startswith("forebear: expected files that match ")


def test_debug_adds_the_traceback_and_keeps_the_exit_code(place: Path, forebear: Callable[..., Any]) -> None:
    answer = forebear("scan", place / "nope*.jsonl", "--ledger", place / "ledger", "--debug")
    assert answer.code == 2
    assert "Traceback" in answer.err


def test_a_ledger_that_may_not_be_written_is_told(tmp_path: Path, ordinary_user: Path, forebear: Callable[..., Any]) -> None:
    file = jsonl(ordinary_user / "a.jsonl", texts("a", 3))
    closed = ordinary_user / "closed"
    closed.mkdir(mode=0o500)
    answer = forebear("scan", file, "--ledger", closed / "ledger", "--json")
    assert (answer.code, answer.error["kind"]) == (2, "not_permitted")
    assert str(closed) in answer.error["expected"]


def test_a_work_folder_that_may_not_be_written_is_told(ordinary_user: Path, forebear: Callable[..., Any]) -> None:
    file = jsonl(ordinary_user / "a.jsonl", texts("a", 3))
    closed = ordinary_user / "closed"
    closed.mkdir(mode=0o500)
    answer = forebear("scan", file, "--ledger", ordinary_user / "ledger", "--work-dir", closed, "--json")
    assert (answer.code, answer.error["kind"]) == (2, "not_permitted")
    assert str(closed) in answer.error["expected"]


def test_a_folder_for_cleaned_shards_that_may_not_be_written_is_told(ordinary_user: Path, forebear: Callable[..., Any]) -> None:
    file = jsonl(ordinary_user / "a.jsonl", texts("a", 3))
    closed = ordinary_user / "closed"
    closed.mkdir(mode=0o500)
    answer = forebear("scan", file, "--ledger", ordinary_user / "ledger", "--clean", closed / "clean", "--json")
    assert answer.code == 2
    assert str(closed) in " ".join(answer.error.values())


@contextmanager
def small_disk(folder: Path, *, size: str) -> Iterator[Path]:
    """A file system of its own of so many bytes."""
    folder.mkdir()
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)], capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"no small file system can be mounted here: {done.stderr.strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def near_pairs(count: int) -> list[dict[str, str]]:
    """Documents in pairs that must be read again to be measured: what no estimate from a sample foresees."""
    return [{"id": f"{n}-{k}", "text": f"{row['text']} {k}"} for n, row in enumerate(texts("pair", count // 2, words=60)) for k in "ab"]


@pytest.mark.parametrize("workers", [1, 2])
def test_a_disk_that_fills_in_the_work_folder_is_one_message_and_what_is_finished_is_taken_up(
    workers: int, tmp_path: Path, forebear: Callable[..., Any]
) -> None:
    """In a process of its own, so that all that anything writes to standard error is seen."""
    file = jsonl(tmp_path / "a.jsonl", near_pairs(2000))
    with small_disk(tmp_path / "disk", size="400k") as disk:
        command = [FOREBEAR, "scan", str(file), "--ledger", str(tmp_path / "ledger"), "--json", "--workers", str(workers)]
        done = subprocess.run([*command, "--work-dir", str(disk)], capture_output=True, text=True, timeout=300)
        assert not listing(disk), "what no later scan takes up leaves the full disk"
    assert done.returncode == 2, done.stderr
    (message,) = messages(done.stderr)
    assert "No space left on device" in message
    assert "--work-dir" in message
    assert json.loads(done.stdout)["error"]["kind"] == "disk_full"
    assert forebear("runs", "--ledger", tmp_path / "ledger", "--json").json["runs"] == []
    again = forebear("scan", file, "--ledger", tmp_path / "ledger", "--json")
    assert (again.code, again.json["reused"], again.json["rows"]["kept"]) == (0, {"shards": 1}, 1000)


@pytest.mark.parametrize("size", ["200k", "300k", "400k"])
def test_a_disk_that_fills_under_the_ledger_is_one_message_and_the_ledger_stays_sound(
    size: str, tmp_path: Path, forebear: Callable[..., Any]
) -> None:
    file = jsonl(tmp_path / "a.jsonl", near_pairs(2000))
    with small_disk(tmp_path / "disk", size=size) as disk:
        answer = forebear("scan", file, "--ledger", disk / "ledger", "--work-dir", tmp_path / "work", "--json")
        assert (answer.code, answer.error["kind"]) == (2, "disk_full")
        assert len(messages(answer.err)) == 1
        assert forebear("verify", "--full", "--ledger", disk / "ledger", "--json").code == 0


def test_a_disk_that_cannot_hold_the_scan_is_refused_before_anything_is_written(tmp_path: Path, forebear: Callable[..., Any]) -> None:
    file = jsonl(tmp_path / "a.jsonl", near_pairs(2000))
    with small_disk(tmp_path / "disk", size="40k") as disk:
        answer = forebear("scan", file, "--ledger", disk / "ledger", "--json")
        assert (answer.code, answer.error["kind"]) == (2, "disk_full")
        assert not listing(disk)


def test_a_file_size_limit_is_told_like_a_full_disk(tmp_path: Path) -> None:
    """Where no file system can be mounted: the kernel refuses bytes beyond a limit."""
    file = jsonl(tmp_path / "a.jsonl", texts("a", 8000, words=6))
    limited = "import resource, sys; resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000)); from forebear.pipelines.cli import main; main()"
    command = [sys.executable, "-c", limited, "scan", str(file), "--ledger", str(tmp_path / "ledger"), "--json"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 2, done.stderr
    assert json.loads(done.stdout)["error"]["kind"] == "disk_full"
    assert "Traceback" not in done.stderr


def test_the_users_own_pipelines_and_schemas_folders_are_left_alone_by_two_workers(tmp_path: Path) -> None:
    """Worker processes start with the working directory first on their path."""
    for name in ("pipelines", "schemas", "tracer"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text("raise SystemExit('the user\\'s own package was imported')\n")
    jsonl(tmp_path / "in" / "0.jsonl", texts("a", 300))
    jsonl(tmp_path / "in" / "1.jsonl", texts("b", 300))
    command = [FOREBEAR, "scan", "in", "--workers", "2", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, cwd=tmp_path, env={**os.environ, "FOREBEAR_LEDGER": "own"})
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["rows"]["kept"] == 600
    assert messages(done.stderr) == [], "two workers say no more than one"
    assert (tmp_path / "own" / "head").exists()


def test_too_many_errors_do_not_commit_and_the_same_scan_does_with_a_higher_limit(tmp_path: Path, forebear: Callable[..., Any]) -> None:
    file = jsonl(tmp_path / "a.jsonl", [*texts("a", 8), {"text": 1}, {"text": 2}])
    common = ["scan", file, "--ledger", tmp_path / "ledger", "--json", "--max-errored"]
    refused = forebear(*common, "0.19")
    assert (refused.code, refused.error["kind"], refused.error["found"]) == (2, "too_many_errors", "2 of 10")
    assert forebear("runs", "--ledger", tmp_path / "ledger", "--json").json["runs"] == []
    assert not list((tmp_path / "ledger").glob("entries/*"))
    allowed = forebear(*common, "0.2")
    assert (allowed.code, allowed.json["rows"]["errored"]) == (1, 2)


KEYS = {"schema", "run", "run_digest", "head", "shards", "rows", "incomplete", "reasons", "clean", "reused", "seconds"}


def test_the_answer_has_every_key_of_the_contract_and_the_page_says_the_same(
    tmp_path: Path, forebear: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "160")
    same = texts("same", 1, words=60)[0]["text"]
    rows = [
        *({"id": f"web-{n}", "source": "web", "text": row["text"]} for n, row in enumerate(texts("w", 3))),
        {"id": "bad", "source": "forum", "text": BAD},
        {"id": "one", "source": "books", "text": same},
        {"id": "two", "source": "forum", "text": same},
        {"id": "number", "source": "web", "text": 7},
    ]
    file = jsonl(tmp_path / "a.jsonl", rows)
    answer = forebear("scan", file, "--ledger", tmp_path / "ledger", "--clean", tmp_path / "clean", "--json").json
    assert set(answer) >= KEYS
    assert answer["schema"] == "forebear/scan/1"
    assert answer["head"]["size"] == 1
    assert answer["rows"] == {"in": 7, "kept": 4, "dropped": 2, "errored": 1}
    assert answer["reasons"] == {"toxic": 1, "exact_duplicate": 1, "not_text": 1}
    (cleaned,) = answer["clean"]
    assert cleaned["rows"] == 4
    assert cleaned["shard"] == f"sha256:{hashlib.sha256(Path(cleaned['path']).read_bytes()).hexdigest()}"
    page = forebear("scan", file, "--ledger", tmp_path / "ledger")
    assert page.code == 1
    for words in ("7 rows", "4 kept", "2 dropped", "1 errored", "exact_duplicate", "toxic", answer["run_digest"], "14 bands x 8 rows"):
        assert words in " ".join(page.out.split())
    forum = next(line for line in page.out.splitlines() if line.split()[:1] == ["forum"])
    assert "loses more than half" in forum
    assert page.out.count("loses more than half") == 1


def test_fields_and_a_source_may_be_named(tmp_path: Path, forebear: Callable[..., Any]) -> None:
    rows = [{"key": n, "body": row["text"], "site": "a"} for n, row in enumerate(texts("a", 3))]
    file = jsonl(tmp_path / "a.jsonl", rows)
    options = ["--text-field", "body", "--id-field", "key", "--source", "books", "--ledger", tmp_path / "ledger", "--json"]
    answer = forebear("scan", file, *options)
    assert answer.json["sources"] == {"books": {"in": 3, "kept": 3, "dropped": 0, "errored": 0}}
    said = forebear("sql", "SELECT source_id FROM audit.decision ORDER BY row", "--ledger", tmp_path / "ledger", "--json").json
    assert [row["source_id"] for row in said["rows"]] == ["0", "1", "2"]


def test_a_list_gives_inputs_and_a_file_that_is_not_what_it_expects_is_said(tmp_path: Path, forebear: Callable[..., Any]) -> None:
    files = [jsonl(tmp_path / f"{n}.jsonl", texts(str(n), 3)) for n in range(2)]
    right = hashlib.sha256(files[0].read_bytes()).hexdigest()
    (tmp_path / "list").write_text(f"{files[0]} sha256:{right}\n{files[1]} sha256:{'0' * 64}\n")
    answer = forebear("scan", "--inputs", tmp_path / "list", "--ledger", tmp_path / "ledger", "--json")
    assert (answer.code, answer.json["rows"]["in"]) == (1, 3)
    (listed,) = answer.json["incomplete"]
    assert (listed["path"], listed["shard"]) == (str(files[1]), None)


def test_beams_options_are_taken_after_the_dashes(tmp_path: Path, forebear: Callable[..., Any]) -> None:
    file = jsonl(tmp_path / "a.jsonl", texts("a", 5))
    plain = forebear("scan", file, "--ledger", tmp_path / "one", "--json").json
    replayed = forebear("scan", file, "--ledger", tmp_path / "two", "--json", "--", "--direct_runner_bundle_repeat=1").json
    assert replayed["run_digest"] == plain["run_digest"]


def test_the_ledger_may_be_named_before_the_command(tmp_path: Path, forebear: Callable[..., Any]) -> None:
    file = jsonl(tmp_path / "a.jsonl", texts("a", 2))
    assert forebear("--ledger", tmp_path / "before", "scan", file, "--json").code == 0
    assert (tmp_path / "before" / "head").exists()


def test_a_second_scan_of_the_same_takes_up_the_evidence(tmp_path: Path, forebear: Callable[..., Any]) -> None:
    file = jsonl(tmp_path / "a.jsonl", texts("a", 5))
    first, second = (forebear("scan", file, "--ledger", tmp_path / "ledger", "--json").json for _ in range(2))
    assert (first["reused"]["shards"], second["reused"]["shards"]) == (0, 1)
    assert (first["run_digest"], first["head"]["size"]) == (second["run_digest"], 1)
    assert second["head"]["size"] == 2
