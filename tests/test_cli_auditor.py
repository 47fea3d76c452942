"""The command line as a script sees it: exit codes, one object on standard output, one message on standard error."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import typer
from world import World, make_ledger

from forebear.schemas.digests import sha256_name
from forebear.tracer.cli import app, run

START = "from forebear.tracer.cli import app, run; run(app)"


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    folder = tmp_path_factory.mktemp("cli")
    world = make_ledger(folder / "ledger", clean=True)
    raw, clean = [world.shards[name] for name in "ab"], sorted(set(world.cleaned.values()))
    closed = {"ancestry": "closed"}
    record = {
        "models": [
            {"name": "a/dirty", **closed, "trained_on": [{"dataset": "d/b"}, {"dataset": "d/bad", "epochs": 2, "stage": "sft"}]},
            {"name": "a/clean", **closed, "trained_on": [{"dataset": "d/clean"}]},
            {"name": "a/chat", **closed, "parents": [{"relation": "finetuned_from", "model": "a/dirty"}]},
            {"name": "a/[bold]open", "aliases": ["a/open"], "trained_on": [{"dataset": "d/clean"}]},
        ],
        "datasets": [
            {"name": "d/bad", **closed, "shards": [{"shard": raw[0], "rows": [[0, 3]]}]},
            {"name": "d/b", **closed, "shards": raw[1:]},
            {"name": "d/clean", **closed, "shards": clean, "relations": [{"relation": "cleaned_from", "dataset": "d/bad"}]},
        ],
    }
    (folder / "record.json").write_text(json.dumps(record))
    assert call("--ledger", folder / "ledger", "link", folder / "record.json")[0] == 0
    return world


def call(*arguments: object) -> tuple[int, str, str]:
    """The command in this process: (exit code, standard output, standard error)."""
    import contextlib
    import io

    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err), pytest.raises(SystemExit) as caught:
        run(app, [str(one) for one in arguments])
    return int(caught.value.code or 0), out.getvalue(), err.getvalue()


def ask(world: World, *arguments: object, code: int = 0) -> dict[str, Any]:
    found, out, err = call(*arguments, "--ledger", world.ledger.store.url, "--json")
    assert found == code, (found, out, err)
    (line,) = out.splitlines()
    answer: dict[str, Any] = json.loads(line)
    return answer


VERDICTS = {"a/dirty": ("direct", 1), "a/chat": ("inherited_weights", 1), "a/clean": ("cleared", 0), "a/open": ("unknown", 2)}


@pytest.mark.parametrize("model", VERDICTS)
def test_a_trace_gives_verdict_and_exit_code(world: World, model: str) -> None:
    verdict, code = VERDICTS[model]
    answer = ask(world, "trace", model, code=code)
    assert answer["verdict"] == answer["verdicts"]["toxicity"] == verdict
    keys = ["schema", "model", "verdict", "at_worst", "complete", "verdicts", "asked", "head", "integrity", "exposures"]
    assert set(keys) <= set(answer)


def test_an_exposure_has_every_field_of_the_contract(world: World) -> None:
    (one,) = ask(world, "trace", "a/chat", code=1)["exposures"]
    expected = {
        "channel": "weights",
        "verdict": "inherited_weights",
        "class": "toxicity",
        "ancestor": {"name": "a/dirty", "id": "name:a/dirty"},
        "depth": 1,
        "path": [{"relation": "finetuned_from", "child": "name:a/chat", "parent": "name:a/dirty"}],
        "dataset": "d/bad",
        "documents": 1,
        "rows": 1,
        "words": 5,
        "epochs": 2.0,
        "presentations": 2.0,
        "expected_false": None,
        "reasons": {"toxic": 1},
        "evidence": "declared",
    }
    assert {key: one[key] for key in expected} == expected


def test_several_models_give_one_object_a_line_and_a_finding_wins(world: World) -> None:
    code, out, _ = call("--ledger", world.ledger.store.url, "trace", "a/clean", "a/open", "a/dirty", "--json")
    assert [json.loads(line)["verdict"] for line in out.splitlines()] == ["cleared", "unknown", "direct"]
    assert code == 1


def test_all_traces_every_recorded_model(world: World) -> None:
    code, out, _ = call("trace", "--all", "--json", "--ledger", world.ledger.store.url)
    assert (code, len(out.splitlines())) == (1, 4)


def test_a_higher_threshold_clears_and_a_lower_one_exposes(world: World) -> None:
    assert ask(world, "trace", "a/chat", "--threshold", "0.99")["verdict"] == "not_exposed"
    lower = ask(world, "trace", "a/chat", "--threshold", "0.5", code=1)
    assert {one["dataset"] for one in lower["exposures"]} == {"d/bad", "d/b"}
    assert lower["asked"][0]["threshold"] == 0.5


def test_a_floor_does_not_count_what_lies_under_it_and_says_so(world: World) -> None:
    answer = ask(world, "trace", "a/dirty", "--at-least", "5")
    assert answer["exposures"] == []
    assert [one["documents"] for one in answer["below_floor"]] == [1]


def test_a_detector_may_be_named(world: World) -> None:
    assert ask(world, "trace", "a/dirty", "--detector", "toxicity", code=1)["asked"][0]["detector"] == "toxicity"
    assert ask(world, "trace", "a/dirty", "--detector", "toxicty", code=2)["error"]["kind"] == "unknown_detector"


def test_another_policy_judges_by_its_thresholds(world: World, tmp_path: Path) -> None:
    (tmp_path / "policy.toml").write_text("[toxicity]\nflag = 0.99\ndrop = 0.99\n")
    assert ask(world, "trace", "a/dirty", "--policy", tmp_path / "policy.toml")["verdict"] == "not_exposed"


WRONG_USE: dict[str, tuple[list[str], str]] = {
    "an unknown model is answered with near names": (["trace", "a/durty"], "unknown_model"),
    "a prefix that is too short": (["trace", "sha256:0123"], "unknown_model"),
    "no model and not all": (["trace"], "missing_argument"),
    "a threshold above one": (["trace", "a/dirty", "--threshold", "7"], "bad_threshold"),
    "a threshold that is no number": (["trace", "a/dirty", "--threshold", "x"], "bad_threshold"),
    "a head that never was": (["trace", "a/dirty", "--head", "99"], "unknown_head"),
    "an option that there is not": (["trace", "a/dirty", "--colour", "red"], "bad_usage"),
    "a number that is not one": (["trace", "a/dirty", "--at-least", "x"], "bad_usage"),
    "a command that there is not": (["trance"], "bad_usage"),
    "broken SQL": (["sql", "SELEC 1"], "bad_sql"),
    "a table that there is not": (["sql", "FROM audit.nothing"], "bad_sql"),
    "a document that was never logged": (["why", "sha256:" + "00" * 32], "unknown_document"),
    "a run that there is not": (["diff", "0123456789ab", "0123456789ab"], "unknown_run"),
    "a shard that nobody knows": (["impact", "sha256:" + "00" * 32], "unknown_shard"),
    "a record that is not there": (["link", "nowhere.yaml"], "unreadable_record"),
    "a query that is not there": (["sql", "--file", "nowhere.sql"], "unreadable_file"),
}


@pytest.mark.parametrize("what", WRONG_USE)
def test_wrong_use_exits_2_with_one_message_and_one_object(world: World, what: str) -> None:
    arguments, kind = WRONG_USE[what]
    code, out, err = call("--ledger", world.ledger.store.url, *arguments, "--json")
    assert code == 2
    assert json.loads(out)["error"]["kind"] == kind
    assert len(err.splitlines()) == 1
    assert err.startswith("forebear: expected ")


def test_near_names_are_offered(world: World) -> None:
    assert "a/dirty" in ask(world, "trace", "a/durty", code=2)["error"]["remedy"]


NO_LEDGER = {"a file": "file", "a missing folder": "missing", "a folder of something else": "folder"}


@pytest.mark.parametrize("what", NO_LEDGER)
def test_what_is_no_ledger_is_refused(tmp_path: Path, what: str) -> None:
    (tmp_path / "file").write_text("hello")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "thesis.txt").write_text("hello")
    code, out, err = call("trace", "x", "--ledger", tmp_path / NO_LEDGER[what])
    assert (code, out) == (2, "")
    assert "Traceback" not in err


def test_an_unexpected_failure_exits_3_with_one_line_and_a_traceback_only_with_debug() -> None:
    broken = typer.Typer()

    @broken.command()
    def fail(as_json: bool = typer.Option(False, "--json")) -> None:
        raise RuntimeError("boom\nand more")

    import contextlib
    import io

    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err), pytest.raises(SystemExit) as caught:
        run(broken, ["--json"])
    assert caught.value.code == 3
    assert json.loads(out.getvalue())["error"]["kind"] == "bug"
    assert err.getvalue().count("\n") == 1
    assert "Traceback" not in err.getvalue()
    with contextlib.redirect_stderr(err), pytest.raises(SystemExit) as caught:
        run(broken, ["--debug"])
    assert caught.value.code == 3
    assert "Traceback" in err.getvalue()


def test_the_ledger_comes_from_the_environment_and_from_before_the_command(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    url = world.ledger.store.url
    monkeypatch.setenv("FOREBEAR_LEDGER", url)
    assert call("trace", "a/clean")[0] == 0
    monkeypatch.setenv("FOREBEAR_LEDGER", "/nowhere")
    assert call("--ledger", url, "trace", "a/clean")[0] == 0
    assert call("trace", "a/clean")[0] == 2


def test_why_tells_row_score_threshold_and_keeper(world: World) -> None:
    toxic = ask(world, "why", "a1")
    (row,) = toxic["decisions"]
    assert (row["row"], row["action"], row["reasons"]) == (1, "drop", ["toxic"])
    (one,) = row["evidence"]
    assert (one["detector"], one["score"], one["flag"]) == ("toxicity", 1000 / 1024, 820 / 1024)
    near = "the north wind and the sun disputed which was the strongest of them"
    (row,) = ask(world, "why", sha256_name(near.encode()))["decisions"]
    assert (row["keeper_shard"], row["keeper_row"], row["intersection"], row["union_size"]) == (world.shards["a"], 0, 9, 11)


def test_impact_names_the_models_and_what_is_unknown(world: World) -> None:
    answer = ask(world, "impact", world.shards["a"], code=1)
    found = {one["name"]: (one["channel"], one["documents"], len(one["path"])) for one in answer["models"]}
    assert found["a/dirty"] == ("documents", 3, 0)
    assert found["a/chat"] == ("weights", 3, 1)
    assert found["a/clean"] == ("documents", 2, 0)
    assert [one["why"] for one in answer["unknown"]] == ["ancestry open"]
    assert not answer["complete"]


def test_impact_takes_a_file(world: World, tmp_path: Path) -> None:
    from world import DEFAULT, shard_bytes

    (tmp_path / "a.jsonl").write_bytes(shard_bytes(DEFAULT["a"]))
    assert ask(world, "impact", tmp_path / "a.jsonl", code=1)["target"] == [world.shards["a"]]


def test_runs_lists_runs_and_jobs_that_did_not_end(world: World) -> None:
    world.ledger.store.put("jobs/j1/plan.json", b'{"started": "yesterday"}')
    world.ledger.store.put("jobs/j2/plan.json", b"{}")
    world.ledger.store.put("jobs/j2/done.json", b"{}")
    answer = ask(world, "runs")
    assert [one["run"] for one in answer["runs"]] == [world.run]
    assert answer["jobs"] == [{"job": "j1", "started": "yesterday"}]


def test_rules_prints_every_rule(world: World) -> None:
    from forebear.tracer.lineage.relations import RULES

    assert len(ask_rules()) == len(RULES)


def ask_rules() -> list[dict[str, Any]]:
    code, out, _ = call("rules", "--json")
    assert code == 0
    rules: list[dict[str, Any]] = json.loads(out)["rules"]
    return rules


def test_markup_and_control_characters_of_names_are_printed_as_they_are(world: World) -> None:
    _, out, _ = call("trace", "a/open", "--ledger", world.ledger.store.url)
    assert "a/[bold]open: unknown" in out


def test_human_output_of_every_command_is_not_empty(world: World) -> None:
    url = world.ledger.store.url
    commands: list[list[str]] = [["trace", "a/chat"], ["impact", world.shards["a"]], ["why", "a1"], ["runs"], ["rules"], ["policy"]]
    commands += [["sql", "FROM audit.run"], ["verify", "--quick"], ["diff", world.run, world.run]]
    for one in commands:
        code, out, err = call("--ledger", url, *one)
        assert out.strip(), (one, err)
        assert code in (0, 1), (one, err)


def test_diff_of_a_run_with_itself_is_the_same(world: World) -> None:
    assert ask(world, "diff", world.run, world.run)["same"] is True


def test_a_shell_answers_queries_from_standard_input(world: World) -> None:
    done = subprocess.run(
        [sys.executable, "-c", START, "--ledger", world.ledger.store.url, "sql"],
        input="SELECT count(*) AS n\nFROM audit.decision;\nSELEC;\nSELECT 42 AS answer;\n.quit\n",
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0
    assert "7" in done.stdout
    assert "42" in done.stdout
    assert "bad_sql" in done.stderr or "Correct the query" in done.stderr


def test_a_reader_that_stops_reading_is_no_failure(world: World) -> None:
    command = f"'{sys.executable}' -c '{START}' --ledger '{world.ledger.store.url}' trace --all --json | head -c 1"
    done = subprocess.run(["bash", "-c", f"set -o pipefail; {command}"], capture_output=True, text=True, check=False)
    assert done.returncode in (0, 1)  # whether the pipe closed before the answer was out or after
    assert done.stderr == ""


def test_help_does_not_load_the_engine() -> None:
    code = "import sys; sys.argv=['f','--help']\nfrom forebear.tracer.cli import app, run\ntry: run(app)\nexcept SystemExit: pass\n"
    code += (
        "bad = {'duckdb', 'pyarrow', 'numpy', 'polars', 'rich.table'} & set(sys.modules); sys.stderr.write(str(bad)); sys.exit(bool(bad))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, env={**os.environ})
    assert done.returncode == 0, done.stderr
