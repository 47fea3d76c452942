"""Lineage from elsewhere: each kind on small files, what it resolves and what it says it cannot, and files that mean harm."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml

from forebear.schemas.errors import UsageError
from forebear.tracer.audit.session import Session
from forebear.tracer.ledger.ledger import Ledger
from forebear.tracer.lineage.importers.gathered import Gathered, cycles_of
from forebear.tracer.lineage.importers.kinds import KINDS, Imported, import_lineage
from forebear.tracer.lineage.importers.reading import MAX_BYTES, parse_json, parse_yaml
from forebear.tracer.lineage.link import link
from forebear.tracer.lineage.records import parse_text

TIME = "2026-11-01T12:00:00+00:00"


def take(folder: Path, kind: str, paths: Sequence[object], **options: Any) -> Imported:
    ledger = Ledger.open(folder / "ledger", create=True)
    return import_lineage(ledger, kind, [str(one) for one in paths], time=TIME, **options)


def relations(folder: Path) -> set[tuple[str, str, str]]:
    """(child, relation, parent) of the ledger, names for ids."""
    answer = Session.open(folder / "ledger").sql("SELECT child, relation, parent FROM audit.relation")
    return {tuple(value.removeprefix("name:") for value in row.values()) for row in answer.rows()}


def why(imported: Imported) -> dict[str, str]:
    return {one.what: one.why for one in imported.unresolved}


def card(folder: Path, front: str, name: str = "README.md") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(f"---\n{front}\n---\n# A card\n", encoding="utf-8")
    return folder / name


# hf-card

CARDS: dict[str, tuple[str, set[tuple[str, str, str]], dict[str, int]]] = {
    "one base model without a relation is assumed to be fine-tuned": (
        "base_model: meta/llama",
        {("a/m", "finetuned_from", "meta/llama")},
        {"finetuned_from": 1},
    ),
    "several base models without a relation are assumed to be merged": (
        "base_model: [meta/llama, x/y]",
        {("a/m", "merged_from", "meta/llama"), ("a/m", "merged_from", "x/y")},
        {"merged_from": 2},
    ),
    "a relation that is said is taken": (
        "base_model: [meta/llama]\nbase_model_relation: quantized",
        {("a/m", "quantized_from", "meta/llama")},
        {},
    ),
    "an adapter runs on its base": ("base_model: x/y\nbase_model_relation: adapter", {("a/m", "adapter_of", "x/y")}, {}),
    "datasets are what it was trained on": (
        "datasets:\n- allenai/c4\n- 123",
        {("a/m", "trained_on", "allenai/c4"), ("a/m", "trained_on", "123")},
        {},
    ),
    "a base model said twice is one": ("base_model: [x/y, x/y]\nbase_model_relation: merge", {("a/m", "merged_from", "x/y")}, {}),
    "a card that says nothing of its ancestry is a model": ("license: mit", set(), {}),
}


@pytest.mark.parametrize("what", CARDS)
def test_front_matter_of_a_model_card(tmp_path: Path, what: str) -> None:
    front, expected, assumed = CARDS[what]
    imported = take(tmp_path, "hf-card", [f"a/m={card(tmp_path / 'm', front)}"])
    assert relations(tmp_path) == expected
    assert imported.assumed == assumed
    assert imported.counts["models"] == 1


def test_a_relation_that_the_hub_does_not_have_is_unresolved_and_names_the_base(tmp_path: Path) -> None:
    imported = take(tmp_path, "hf-card", [f"a/m={card(tmp_path / 'm', 'base_model: x/y' + chr(10) + 'base_model_relation: cousin')}"])
    assert "cousin" in why(imported)["x/y"]
    assert relations(tmp_path) == set()


def test_a_card_in_the_hubs_cache_has_its_name_and_revision(tmp_path: Path) -> None:
    revision = "0123456789abcdef" * 2 + "01234567"
    card(tmp_path / "models--acme--chat-7b" / "snapshots" / revision, "base_model: x/y\nbase_model_relation: finetune")
    take(tmp_path, "hf-card", [tmp_path / "models--acme--chat-7b"])
    assert relations(tmp_path) == {(f"acme/chat-7b@{revision}", "finetuned_from", "x/y")}
    assert Session.open(tmp_path / "ledger").trace("acme/chat-7b").verdict == "unknown"


def test_a_base_model_that_two_revisions_have_as_name_is_neither(tmp_path: Path) -> None:
    for digit in "12":
        card(tmp_path / "hub" / "models--x--y" / "snapshots" / (digit * 40), "license: mit")
    child = card(tmp_path / "m", "base_model: x/y\nbase_model_relation: finetune")
    imported = take(tmp_path, "hf-card", [tmp_path / "hub", f"a/m={child}"])
    assert "2 models have this name" in why(imported)["x/y"]
    assert relations(tmp_path) == set()


NAMES: dict[str, tuple[str, str, int]] = {
    "model_name": ("model_name: acme/one", "acme/one", 0),
    "the one entry of model-index": ("model-index: [{name: acme/two, results: []}]", "acme/two", 0),
    "the folder, and that is reported": ("license: mit", "folder", 1),
}


@pytest.mark.parametrize("what", NAMES)
def test_whose_a_card_is(tmp_path: Path, what: str) -> None:
    front, name, unresolved = NAMES[what]
    imported = take(tmp_path, "hf-card", [card(tmp_path / "folder", front)])
    assert Session.open(tmp_path / "ledger").sql("SELECT name FROM audit.model").rows() == [{"name": name}]
    assert len(imported.unresolved) == unresolved


def test_a_parent_that_nothing_records_is_kept_and_unknown_until_its_card_comes(tmp_path: Path) -> None:
    child = card(tmp_path / "child", "base_model: acme/base\nbase_model_relation: finetune")
    base = card(tmp_path / "base", "datasets: [acme/web]")
    first = take(tmp_path, "hf-card", [f"acme/chat={child}"])
    assert (first.resolved, first.not_recorded) == (0, ("name:acme/base",))
    second = take(tmp_path, "hf-card", [f"acme/base={base}", f"acme/chat={child}"])
    assert (second.resolved, second.not_recorded) == (1, ("name:acme/web",))
    assert second.already == ("name:acme/chat",)
    session = Session.open(tmp_path / "ledger")
    assert {one.why for one in session.trace("acme/chat").unknown if one.node == "name:acme/base"} == {"ancestry open"}


def test_a_parent_that_the_ledger_records_is_resolved_by_name_or_alias(tmp_path: Path) -> None:
    ledger = Ledger.open(tmp_path / "ledger", create=True)
    record = json.dumps({"models": [{"name": "x/y", "digest": "sha256:" + "ab" * 32, "aliases": ["x/old"], "ancestry": "closed"}]})
    link(ledger, [(parse_text(record.encode(), where="r"), tmp_path)], time=TIME)
    front = "base_model: x/old\nbase_model_relation: finetune"
    imported = take(tmp_path, "hf-card", [f"a/m={card(tmp_path / 'm', front)}"])
    assert (imported.resolved, imported.not_recorded) == (1, ())
    assert relations(tmp_path) == {("a/m", "finetuned_from", "sha256:" + "ab" * 32)}


# ecosystem-graphs

ASSETS = [
    {"type": "dataset", "name": "Web", "dependencies": []},
    {"type": "dataset", "name": "Chat", "dependencies": ["Base"]},
    {"type": "model", "name": "Base", "dependencies": {"explanation": "see the paper", "value": ["Web", "web"]}},
    {"type": "model", "name": "Tuned", "dependencies": ["Base", "Chat", "Nowhere", "App", "Twin"]},
    {"type": "model", "name": "Twin", "organization": "A", "created_date": {"value": "2024-01-01"}, "dependencies": []},
    {"type": "model", "name": "Twin", "organization": "B", "created_date": "2024-02-02", "dependencies": ["Base"]},
    {"type": "application", "name": "App", "dependencies": ["Tuned"]},
]


def graphs(folder: Path, assets: object = ASSETS) -> Path:
    (folder / "org.yaml").write_text(yaml.safe_dump(assets), encoding="utf-8")
    return folder / "org.yaml"


def test_an_ecosystem_graph_resolves_exact_names_only(tmp_path: Path) -> None:
    imported = take(tmp_path, "ecosystem-graphs", [graphs(tmp_path)])
    assert relations(tmp_path) == {
        ("Base", "trained_on", "Web"),
        ("Chat", "generated_by", "Base"),
        ("Tuned", "finetuned_from", "Base"),
        ("Tuned", "trained_on", "Chat"),
        ("Twin@B, 2024-02-02", "finetuned_from", "Base"),
    }
    assert why(imported) == {
        "web": "no asset has this name",
        "Nowhere": "no asset has this name",
        "App": "an asset of type application, neither a model nor a dataset",
        "Twin": "2 assets have this name",
    }
    assert imported.duplicates == ("Twin",)
    assert imported.left_out == {"application assets": 1, "dependencies of application assets": 1}
    assert imported.assumed == {"finetuned_from": 2, "generated_by": 1}


def test_relations_that_a_source_does_not_name_can_be_left_out_and_are_named(tmp_path: Path) -> None:
    imported = take(tmp_path, "ecosystem-graphs", [graphs(tmp_path)], stated_only=True)
    assert relations(tmp_path) == {("Base", "trained_on", "Web"), ("Tuned", "trained_on", "Chat")}
    assert why(imported)["Base"] == "the source does not say by which relation"
    assert imported.assumed == {}


def test_a_name_that_several_assets_have_means_none_of_them(tmp_path: Path) -> None:
    take(tmp_path, "ecosystem-graphs", [graphs(tmp_path)])
    with pytest.raises(UsageError) as caught:
        Session.open(tmp_path / "ledger").trace("Twin")
    assert caught.value.kind == "ambiguous_model"


def test_cycles_are_reported_and_the_walk_ends(tmp_path: Path) -> None:
    loop = [
        {"type": "model", "name": "A", "dependencies": ["D"]},
        {"type": "dataset", "name": "D", "dependencies": ["A"]},
        {"type": "dataset", "name": "Self", "dependencies": ["Self"]},
    ]
    imported = take(tmp_path, "ecosystem-graphs", [graphs(tmp_path, loop)])
    assert set(map(frozenset, imported.cycles)) == {frozenset("AD"), frozenset(["Self"])}
    assert Session.open(tmp_path / "ledger").trace("A").verdict == "unknown"


def test_a_cycle_for_each_relation_that_closes_one() -> None:
    assert cycles_of({"a": ["b", "c"], "b": ["a"], "c": ["d"], "d": ["c", "x"]}) == [["a", "b"], ["c", "d"]]
    long = {str(n): [str(n + 1)] for n in range(50_000)} | {"50000": ["0"]}
    assert [len(one) for one in cycles_of(long)] == [50_001]


# dclm


def dclm(folder: Path, name: str, **value: object) -> None:
    (folder / f"{name}.json").write_text(json.dumps({"name": name, "uuid": f"u-{name}", **value}))


def test_dclm_joins_by_uuid_and_never_by_name(tmp_path: Path) -> None:
    files = tmp_path / "files"
    files.mkdir()
    dclm(files, "data", tokenized=True, sources=[{"uuid": "u-raw", "name": "another name"}, {"uuid": "gone", "name": "old"}, "s3://x"])
    dclm(files, "raw", tokenized=False, sources=[], tokenizer=None)
    dclm(files, "m1", dataset_uuid="u-data", dataset_name="whatever")
    dclm(files, "m2", dataset_uuid="", dataset_name="data")
    imported = take(tmp_path, "dclm", [files])
    assert relations(tmp_path) == {
        ("data@u-data", "mixed_from", "raw@u-raw"),
        ("data@u-data", "mixed_from", "old@gone"),
        ("m1@u-m1", "trained_on", "data@u-data"),
    }
    assert why(imported) == {
        "data": "no dataset UUID, and a name alone does not tell which dataset",
        "s3://x": "a source without a UUID",
    }
    assert (imported.resolved, imported.not_recorded) == (2, ("name:old@gone",))
    session = Session.open(tmp_path / "ledger")
    assert session.trace("u-m1").model == session.trace("m1").model


# openlineage


def event(run: str, state: str, inputs: Sequence[Any] = (), outputs: Sequence[Any] = ()) -> dict[str, Any]:
    return {"eventType": state, "run": {"runId": run}, "job": {"namespace": "n", "name": "j"}, "inputs": inputs, "outputs": outputs}


def data(name: str, **facets: Any) -> dict[str, Any]:
    return {"namespace": "s3://b", "name": name, "facets": facets}


def test_openlineage_takes_the_events_of_a_run_together_and_only_complete_runs(tmp_path: Path) -> None:
    model = data("model", datasetType={"datasetType": "MODEL"}, version={"datasetVersion": "v1"})
    events = [
        event("r1", "START", [data("raw")]),
        event("r1", "COMPLETE", [data("list")], [data("clean")]),
        event("r2", "COMPLETE", [data("clean")], [model]),
        event("r3", "FAIL", [data("raw")], [data("broken")]),
        {"eventType": "COMPLETE"},
    ]
    (tmp_path / "events.jsonl").write_text("\n".join(map(json.dumps, events)) + "\n{not json\n")
    imported = take(tmp_path, "openlineage", [tmp_path / "events.jsonl"])
    assert relations(tmp_path) == {
        ("s3://b/clean", "mixed_from", "s3://b/raw"),
        ("s3://b/clean", "mixed_from", "s3://b/list"),
        ("s3://b/model@v1", "trained_on", "s3://b/clean"),
    }
    assert {one.what for one in imported.refused} == {"r3", "dict", "JSON"}
    assert imported.assumed == {"mixed_from": 2, "trained_on": 1}


def test_a_dataset_that_another_has_as_symlink_is_that_other(tmp_path: Path) -> None:
    known = data("t", symlinks={"identifiers": [{"namespace": "hive://h", "name": "db.t", "type": "TABLE"}]})
    events = [event("r1", "COMPLETE", [], [known]), event("r2", "COMPLETE", [{"namespace": "hive://h", "name": "db.t"}], [data("u")])]
    (tmp_path / "events.json").write_text(json.dumps(events))
    take(tmp_path, "openlineage", [tmp_path / "events.json"])
    assert relations(tmp_path) == {("s3://b/u", "mixed_from", "s3://b/t")}


def test_a_symlink_that_two_datasets_have_means_neither(tmp_path: Path) -> None:
    link_to = {"identifiers": [{"namespace": "hive://h", "name": "db.t"}]}
    outputs = [data("t", symlinks=link_to), data("v", symlinks=link_to)]
    events = [event("r1", "COMPLETE", [], outputs), event("r2", "COMPLETE", [{"namespace": "hive://h", "name": "db.t"}], [data("u")])]
    (tmp_path / "events.json").write_text(json.dumps(events))
    take(tmp_path, "openlineage", [tmp_path / "events.json"])
    assert relations(tmp_path) == {("s3://b/u", "mixed_from", "hive://h/db.t")}


def test_datasets_of_forebears_own_event_are_the_shards_that_it_scanned(tmp_path: Path) -> None:
    from world import make_ledger

    from forebear.tracer.certify.openlineage import run_event

    world = make_ledger(tmp_path / "ledger", clean=True)
    (tmp_path / "event.json").write_text(json.dumps(run_event(Session(world.ledger), world.run)))
    imported = take(tmp_path, "openlineage", [tmp_path / "event.json"])
    assert imported.refused == ()
    session = Session.open(tmp_path / "ledger")
    assert set(session.graph.shards) == {*world.shards.values(), *world.cleaned.values()}


# mlflow


def test_mlflow_context_decides_between_training_and_evaluation(tmp_path: Path) -> None:
    def logged(name: str, context: str | None) -> dict[str, Any]:
        tags = [] if context is None else [{"key": "mlflow.data.context", "value": context}]
        return {"dataset": {"name": name, "digest": "12345678", "source_type": "http", "source": "{}"}, "tags": tags}

    inputs = [logged("web", "training"), logged("held-out", "eval"), logged("other", None), {"dataset": {}}]
    run = {"run": {"info": {"run_id": "0f" * 16, "run_name": "brave-fox"}, "data": {}, "inputs": {"dataset_inputs": inputs}}}
    (tmp_path / "run.json").write_text(json.dumps(run))
    imported = take(tmp_path, "mlflow", [tmp_path / "run.json"])
    child = f"brave-fox@{'0f' * 16}"
    assert relations(tmp_path) == {
        (child, "trained_on", "web@12345678"),
        (child, "evaluated_on", "held-out@12345678"),
        (child, "trained_on", "other@12345678"),
    }
    assert imported.assumed == {"trained_on": 1}
    assert len(imported.unresolved) == 1


def test_mlflow_reads_a_file_store(tmp_path: Path) -> None:
    store = tmp_path / "mlruns" / "0"
    files = {
        "meta.yaml": "experiment_id: '0'\nname: Default\n",
        "run1/meta.yaml": "run_id: run1\nrun_name: brave-fox\nstatus: 3\n",
        "run1/inputs/i1/meta.yaml": "source_id: d1\nsource_type: 1\ndestination_id: run1\ntags: {mlflow.data.context: training}\n",
        "run1/inputs/i2/meta.yaml": "source_id: ../run1\ntags: {}\n",
        "datasets/d1/meta.yaml": "name: web\ndigest: '0123'\nsource_type: local\n",
    }
    for name, text in files.items():
        (store / name).parent.mkdir(parents=True, exist_ok=True)
        (store / name).write_text(text)
    imported = take(tmp_path, "mlflow", [tmp_path / "mlruns"])
    assert relations(tmp_path) == {("brave-fox@run1", "trained_on", "web@0123")}
    assert why(imported) == {"../run1": "no dataset of this id beside the run"}


# Hostile and wrong


BAD_YAML: dict[str, tuple[str, str]] = {
    "an alias, of which a small file could make a large one": ("a: &x [1]\nb: *x", "an alias (*x) at line 2"),
    "flow nesting": ("[" * 100_000, "nested deeper than 100"),
    "block nesting": ("- " * 100_000 + "x", "nested deeper than 100"),
    "a key given twice": ("a: 1\na: 2", "is given twice"),
    "a key that is a list": ("? [a]\n: 1", "is no text"),
    "a null byte": ("a: \x00", "control characters"),
    "an end that does not come": ("a: [1, 2", "while parsing"),
}


@pytest.mark.parametrize("what", BAD_YAML)
def test_bad_yaml_is_refused_with_its_fault(what: str) -> None:
    text, fault = BAD_YAML[what]
    gathered = Gathered()
    assert parse_yaml(gathered, text, where="f") is None
    (refusal,) = gathered.refused
    assert fault in refusal.why


def test_tags_of_yaml_construct_nothing() -> None:
    assert parse_yaml(Gathered(), "a: !!python/object/apply:os.getcwd []", where="f") == {"a": []}


def test_deep_json_is_refused() -> None:
    gathered = Gathered()
    assert parse_json(gathered, "[" * 1_000_000, where="f") is None
    assert gathered.refused[0].why == "nested too deep"


def test_a_huge_file_is_refused_without_being_read(tmp_path: Path) -> None:
    good = card(tmp_path / "good", "base_model: x/y")
    with (tmp_path / "README.md").open("wb") as file:
        file.truncate(MAX_BYTES + 1)
    imported = take(tmp_path, "hf-card", [f"a/huge={tmp_path / 'README.md'}", f"a/m={good}"])
    assert [one.what for one in imported.refused] == [f"{MAX_BYTES + 1} bytes"]
    assert imported.counts["models"] == 1


BAD_NAMES = {
    "control characters": "a\x07b",
    "an override of direction": "a\u202eb",
    "a lone surrogate": "a\ud800",
    "too long": "x" * 513,
    "nothing": "",
}


@pytest.mark.parametrize("what", BAD_NAMES)
def test_a_name_that_cannot_be_one_costs_itself_alone(tmp_path: Path, what: str) -> None:
    name = BAD_NAMES[what]
    files = tmp_path / "files"
    files.mkdir()
    dclm(files, "data", tokenized=True, sources=[{"uuid": "u1", "name": "ok"}], tokenizer=name)
    dclm(files, "m", dataset_uuid=name, dataset_name="x")
    imported = take(tmp_path, "dclm", [files])
    assert relations(tmp_path) == {("data@u-data", "mixed_from", "ok@u1")}
    assert len(imported.unresolved) == (1 if name == "" else 2)
    json.dumps(imported.to_json(), ensure_ascii=True)


def test_a_base_model_that_is_a_digest_is_no_name(tmp_path: Path) -> None:
    imported = take(tmp_path, "hf-card", [f"a/m={card(tmp_path / 'm', 'base_model: sha256:' + '0' * 64)}"])
    assert list(why(imported).values()) == ["a digest is no name"]
    assert relations(tmp_path) == set()


NOTHING: dict[str, tuple[str, str]] = {
    "an empty folder": ("hf-card", ""),
    "a path that there is not": ("dclm", "nowhere"),
    "a card without front matter": ("hf-card", "plain.md"),
    "JSON of another shape": ("openlineage", "list.json"),
    "JSON of another shape, for MLflow": ("mlflow", "list.json"),
    "YAML of another shape": ("ecosystem-graphs", "map.yaml"),
    "a kind that there is not": ("hf-cards", "map.yaml"),
}


@pytest.mark.parametrize("what", NOTHING)
def test_where_nothing_can_be_taken_the_command_exits_2_and_writes_nothing(forebear: Callable[..., Any], tmp_path: Path, what: str) -> None:
    kind, name = NOTHING[what]
    (tmp_path / "in").mkdir()
    if name:
        (tmp_path / "plain.md").write_text("# Hello\n")
        (tmp_path / "list.json").write_text('[1, "x", null, {"a": {"b": []}}]')
        (tmp_path / "map.yaml").write_text("a: b\n")
    answer = forebear("import", kind, tmp_path / name if name else tmp_path / "in", "--ledger", tmp_path / "ledger", "--json")
    assert answer.code == 2
    assert answer.error["kind"] == ("unknown_kind" if kind not in KINDS else "nothing_to_import")
    assert not list((tmp_path / "ledger").glob("entries/*"))


def test_the_command_says_what_it_took_and_the_entry_keeps_the_counts(forebear: Callable[..., Any], tmp_path: Path) -> None:
    answer = forebear("import", "ecosystem-graphs", graphs(tmp_path), "--ledger", tmp_path / "ledger", "--json")
    assert answer.code == 0
    assert answer.json["schema"] == "forebear/import/1"
    assert answer.json["references"] == {"resolved": 5, "not_recorded": 0, "unresolved": 4}
    ((_, _, entry),) = Ledger.open(tmp_path / "ledger").entries()
    assert (entry.facts["imported"], entry.facts["unresolved"], entry.facts["assumed"]) == (
        "ecosystem-graphs",
        4,
        {"finetuned_from": 2, "generated_by": 1},
    )
    human = forebear("import", "ecosystem-graphs", graphs(tmp_path), "--ledger", tmp_path / "ledger")
    assert "unresolved: Nowhere" in human.out
    assert "assumed: 2 relations are read as finetuned_from" in human.out


def test_the_same_files_give_the_same_object(tmp_path: Path) -> None:
    first = take(tmp_path, "ecosystem-graphs", [graphs(tmp_path)])
    assert take(tmp_path, "ecosystem-graphs", [graphs(tmp_path)]).object == first.object


def test_every_kind_is_named_in_the_commands_help(forebear: Callable[..., Any]) -> None:
    said = " ".join(forebear("import", "--help").out.split())
    assert all(kind in said for kind in KINDS)
