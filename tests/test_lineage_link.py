"""Linking: shards resolved or refused, one entry or none, references, names and contradictions."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from world import DEFAULT, Document, World, make_ledger, shard_bytes

from forebear.schemas.digests import sha256_name
from forebear.schemas.errors import DataError, ForebearError, IntegrityError, UsageError
from forebear.schemas.lineage import parse_record
from forebear.tracer.audit.session import Session
from forebear.tracer.lineage.document import LineageDocument
from forebear.tracer.lineage.link import Linked, link
from forebear.tracer.lineage.usage import read_usage


def refused(kind: str, family: type[ForebearError]) -> Any:
    """Expect an error of a family and a kind."""
    return pytest.raises(family, check=lambda error: error.kind == kind)


TIME = "2026-11-02T00:00:00.000000Z"


@pytest.fixture
def world(tmp_path: Path) -> World:
    return make_ledger(tmp_path / "ledger", clean=True)


def add(world: World, record: dict[str, Any], *, folder: Path = Path(), usage: tuple[Path, ...] = ()) -> Linked:
    return link(world.ledger, [(parse_record(record), folder)], time=TIME, usage=usage)


def closed(name: str, **more: Any) -> dict[str, Any]:
    return {"name": name, "ancestry": "closed", **more}


def test_files_are_hashed_relative_to_the_record_then_to_the_working_directory(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "records").mkdir()
    (tmp_path / "records" / "a.jsonl").write_bytes(shard_bytes(DEFAULT["a"]))
    (tmp_path / "b.jsonl").write_bytes(shard_bytes(DEFAULT["b"]))
    monkeypatch.chdir(tmp_path)
    linked = add(world, {"datasets": [closed("d", shards=["a.jsonl", "b.jsonl"])]}, folder=tmp_path / "records")
    document = LineageDocument.from_bytes(world.ledger.get_object(linked.object))
    assert document.shards.shard == [world.shards["a"], world.shards["b"]]
    assert document.shards.label == ["a.jsonl", "b.jsonl"]


def test_a_prefix_of_a_known_shard_is_resolved(world: World) -> None:
    linked = add(world, {"datasets": [closed("d", shards=[world.shards["a"][7:19], world.cleaned["b"][:22]])]})
    document = LineageDocument.from_bytes(world.ledger.get_object(linked.object))
    assert document.shards.shard == [world.shards["a"], world.cleaned["b"]]


UNRESOLVED = {
    "a file that is not there": "nowhere.jsonl",
    "a folder": ".",
    "a prefix that no shard has": "0123456789ab",
    "a prefix of eleven digits": "sha256:0123456789a",
}


@pytest.mark.parametrize("what", UNRESOLVED)
def test_what_cannot_be_resolved_is_refused_by_name_and_nothing_is_written(world: World, what: str) -> None:
    before = len(world.ledger.entries())
    with refused("unresolved_shard", UsageError) as caught:
        add(world, {"datasets": [closed("d", shards=[world.shards["a"], UNRESOLVED[what]])]})
    assert repr(UNRESOLVED[what]) in caught.value.expected
    assert len(world.ledger.entries()) == before


def test_rows_outside_a_scanned_shard_are_refused(world: World) -> None:
    with refused("rows_outside", DataError):
        add(world, {"datasets": [closed("d", shards=[{"shard": world.shards["a"], "rows": [[0, 5]]}])]})
    add(world, {"datasets": [closed("d", shards=[{"shard": world.shards["a"], "rows": [[0, 4]]}])]})


def test_rows_of_a_shard_that_nobody_counted_are_taken_as_said(world: World) -> None:
    add(world, {"datasets": [closed("d", shards=[{"shard": sha256_name(b"unseen"), "rows": [[0, 10**9]]}])]})


def test_a_parent_that_does_not_exist_is_kept_reported_and_unknown(world: World) -> None:
    linked = add(world, {"models": [closed("m", parents=[{"relation": "finetuned_from", "model": "x/none"}])]})
    assert linked.not_recorded == ("name:x/none",)
    trace = Session(world.ledger).trace("m")
    assert [(one.node, one.why, one.at_worst.value) for one in trace.unknown] == [
        ("name:x/none", "model not recorded", "inherited_weights")
    ]


def test_a_parent_that_is_recorded_later_is_found_by_its_one_name(world: World) -> None:
    add(world, {"models": [closed("m", parents=[{"relation": "finetuned_from", "model": "x/late"}])]})
    add(world, {"models": [closed("x/late", digest=sha256_name(b"late"))]})
    trace = Session(world.ledger).trace("m")
    assert trace.complete
    assert [one.id for one in trace.last_unexposed] == [sha256_name(b"late")]


def test_a_name_that_two_models_have_joins_neither(world: World) -> None:
    add(world, {"models": [closed("m", parents=[{"relation": "finetuned_from", "model": "x/two"}])]})
    add(world, {"models": [closed("x/two", digest=sha256_name(b"one")), closed("x/two", digest=sha256_name(b"two"))]})
    session = Session(world.ledger)
    trace = session.trace("m")
    assert [one.why for one in trace.unknown] == ["model not recorded"]
    assert session.notes(trace)["ambiguous"]["name:x/two"] == [sha256_name(b"one"), sha256_name(b"two")]
    with refused("ambiguous_model", UsageError):
        session.trace("x/two")


def test_a_reference_that_could_mean_two_of_one_record_is_refused(world: World) -> None:
    two = [closed("x", revision="1"), closed("x", revision="2")]
    child = closed("m", parents=[{"relation": "finetuned_from", "model": "x"}])
    with refused("ambiguous_model", UsageError):
        add(world, {"models": [*two, child]})
    child["parents"][0]["revision"] = "2"
    add(world, {"models": [*two, child]})
    assert Session(world.ledger).trace("m").last_unexposed[0].id == "name:x@2"


def test_digests_join_two_names(world: World) -> None:
    digest = sha256_name(b"weights")
    dirty = {"models": [closed("a", digest=digest, trained_on=[{"dataset": "d"}])]}
    add(world, {**dirty, "datasets": [closed("d", shards=[world.shards["a"]])]})
    add(world, {"models": [closed("b", digest=digest)]})
    session = Session(world.ledger)
    assert session.trace("b").verdict == session.trace("a").verdict == "direct"


def test_an_alias_of_another_model_joins_the_two(world: World) -> None:
    dirty = {"models": [closed("a", trained_on=[{"dataset": "d"}])], "datasets": [closed("d", shards=[world.shards["a"]])]}
    add(world, dirty)
    add(world, {"models": [closed("b", aliases=["a"])]})
    assert Session(world.ledger).trace("b").verdict == "direct"


def test_names_alone_never_join(world: World) -> None:
    dirty = {"models": [closed("a", trained_on=[{"dataset": "d"}])], "datasets": [closed("d", shards=[world.shards["a"]])]}
    add(world, dirty)
    add(world, {"models": [closed("a", digest=sha256_name(b"other"))]})
    session = Session(world.ledger)
    assert session.trace(sha256_name(b"other")).verdict == "not_exposed"
    assert session.trace("name:a").verdict == "direct"


def test_of_two_words_about_one_thing_the_newest_holds_and_both_are_shown(world: World) -> None:
    base = {"datasets": [closed("d", shards=[world.shards["a"]])]}
    add(world, {"models": [closed("m", trained_on=[{"dataset": "d", "epochs": 1}])], **base})
    add(world, {"models": [{"name": "m", "ancestry": "open", "trained_on": [{"dataset": "d", "epochs": 3}]}]})
    session = Session(world.ledger)
    trace = session.trace("m")
    assert trace.exposures[0].epochs == 3
    assert "ancestry open" in [one.why for one in trace.unknown]
    said = session.notes(trace)["contradictions"]
    assert [(one["what"], one["was"], one["now"]) for one in said] == [
        ("ancestry", "closed", "open"),
        ("trained_on name:d", "declared, epochs 1", "declared, epochs 3"),
    ]


def test_a_dataset_that_lists_other_shards_now_is_what_the_newest_record_says(world: World) -> None:
    add(world, {"models": [closed("m", trained_on=[{"dataset": "d"}])], "datasets": [closed("d", shards=[world.shards["a"]])]})
    add(world, {"datasets": [closed("d", shards=[world.cleaned["b"]])]})
    session = Session(world.ledger)
    assert session.trace("m").verdict == "not_exposed"
    assert session.notes(session.trace("m")) == {} or "contradictions" in session.notes(session.trace("m"))
    assert session.graph.contradictions[0].what == "shards"


def test_a_record_that_says_the_same_again_contradicts_nothing(world: World) -> None:
    record = {"models": [closed("m", trained_on=[{"dataset": "d"}])], "datasets": [closed("d", shards=[world.shards["a"]])]}
    add(world, record)
    add(world, record)
    assert Session(world.ledger).graph.contradictions == []


def test_an_older_head_answers_as_it_did(world: World) -> None:
    add(world, {"models": [closed("m")]})
    add(world, {"models": [closed("m", trained_on=[{"dataset": "d"}])], "datasets": [closed("d", shards=[world.shards["a"]])]})
    assert Session(world.ledger, head=2).trace("m").verdict == "not_exposed"
    assert Session(world.ledger).trace("m").verdict == "direct"


def test_a_cycle_of_same_weights_ends(world: World) -> None:
    same = [closed(f"m{n}", parents=[{"relation": "same_weights_as", "model": f"m{(n + 1) % 3}"}]) for n in range(3)]
    same[2]["trained_on"] = [{"dataset": "d"}]
    add(world, {"models": same, "datasets": [closed("d", shards=[world.shards["a"]])]})
    session = Session(world.ledger)
    assert {session.trace(f"m{n}").verdict for n in range(3)} == {"direct"}


def test_the_shown_path_is_the_shortest_then_the_strongest_then_the_smallest(world: World) -> None:
    def parent(model: str, evidence: str = "declared") -> dict[str, str]:
        return {"relation": "finetuned_from", "model": model, "evidence": evidence}

    models = [
        closed("top", parents=[parent("a"), parent("b", "signed"), parent("c", "signed"), parent("long")]),
        *(closed(name, parents=[parent("root", "signed")]) for name in ("c", "b", "a")),
        closed("long", parents=[parent("longer", "weight_verified")]),
        closed("longer", parents=[parent("root", "weight_verified")]),
        closed("root", trained_on=[{"dataset": "d", "evidence": "weight_verified"}]),
    ]
    add(world, {"models": models, "datasets": [closed("d", shards=[world.shards["a"]])]})
    (one,) = Session(world.ledger).trace("top").exposures
    assert [step.parent for step in one.path] == ["name:b", "name:root"]
    assert (one.depth, one.evidence) == (2, "signed")


def test_a_usage_log_narrows_only_where_the_record_says_that_it_is_complete(world: World, tmp_path: Path) -> None:
    log = tmp_path / "usage.jsonl"
    reads = [("m", 0, 1), ("m", 2, 3), ("n", 0, 1)]  # row 1 of shard a is the bad one
    lines = [{"model": m, "shard": world.shards["a"], "first_row": a, "last_row": b, "stage": "sft"} for m, a, b in reads]
    log.write_text("".join(json.dumps(line) + "\n" for line in lines))
    models = [
        closed("m", trained_on=[{"dataset": "d", "stage": "sft", "usage": "complete"}]),
        closed("n", trained_on=[{"dataset": "d", "stage": "sft"}]),
    ]
    add(world, {"models": models, "datasets": [closed("d", shards=[world.shards["a"]])]}, usage=(log,))
    session = Session(world.ledger)
    assert session.trace("m").verdict == "not_exposed"
    assert session.trace("n").verdict == "direct"
    assert {one.model.name for one in session.impact([world.shards["a"]]).models} == {"m", "n"}


def test_usage_ranges_of_any_order_are_joined(tmp_path: Path) -> None:
    shard, rng = sha256_name(b"s"), random.Random(3)
    rows = [(rng.randrange(200), rng.randint(1, 9)) for _ in range(400)]
    table = pa.table(
        {
            "model": ["m"] * 400,
            "shard": [shard] * 400,
            "first_row": [a for a, _ in rows],
            "last_row": [a + n for a, n in rows],
            "step": list(range(400)),
        }
    )
    pq.write_table(table, tmp_path / "usage.parquet")
    found = read_usage([tmp_path / "usage.parquet"])
    expected = {row for a, n in rows for row in range(a, a + n)}
    assert {row for _, _, _, a, b in found for row in range(a, b)} == expected
    assert all(one[4] < other[3] for one, other in zip(found, found[1:], strict=False))


@pytest.mark.parametrize("count", [20_000, pytest.param(1_000_000, marks=pytest.mark.slow)])
def test_a_record_of_very_many_shards_is_linked_and_read_again(tmp_path: Path, count: int) -> None:
    world = make_ledger(tmp_path / "ledger", shards={"a": [Document("x", {"toxicity": 1000})]})
    shards = [f"sha256:{n:064x}" for n in range(count)]
    add(world, {"models": [closed("m", trained_on=[{"dataset": "d"}])], "datasets": [closed("d", shards=shards)]})
    trace = Session(world.ledger).trace("m")
    assert [(one.why, one.rows) for one in trace.unknown] == [("rows not scanned", None)]


def test_a_damaged_lineage_object_is_an_integrity_error(world: World, tmp_path: Path) -> None:
    linked = add(world, {"models": [closed("m")]})
    name = linked.object[7:]
    path = tmp_path / "ledger" / "objects" / "sha256" / name[:2] / name
    path.chmod(0o644)
    path.write_bytes(path.read_bytes().replace(b'"m"', b'"n"'))
    with refused("digest_mismatch", IntegrityError):
        Session(world.ledger).trace("m")


DAMAGED = {
    "white space": lambda data: data.replace(b'":', b'": ', 1),
    "another order of keys": lambda data: data.replace(b'{"datasets"', b'{"zzz":0,"datasets"', 1),
    "a key that no version had": lambda data: data.replace(b'"recorded":', b'"hidden":1,"recorded":', 1),
    "a key given twice": lambda data: data.replace(b'"recorded":1', b'"recorded":1,"recorded":1', 1),
    "an escape where none is needed": lambda data: data.replace(b"name", b"n\\u0061me", 1),
    "a floating-point number": lambda data: data.replace(b'"recorded":1', b'"recorded":1.0', 1),
    "another schema": lambda data: data.replace(b"forebear/lineage/1", b"forebear/lineage/2", 1),
}


@pytest.mark.parametrize("sentence", DAMAGED)
def test_a_lineage_object_in_any_other_form_than_its_own_is_refused(world: World, sentence: str) -> None:
    linked = add(world, {"models": [{"name": "m", "ancestry": "closed"}]})
    data = world.ledger.get_object(linked.object)
    assert LineageDocument.from_bytes(data).to_bytes() == data
    damaged = DAMAGED[sentence](data)
    assert damaged != data
    with refused("malformed_record", IntegrityError):
        LineageDocument.from_bytes(damaged)
