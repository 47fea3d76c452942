"""What a ledger may not say even where every digest fits: each lie is found by its kind, and nothing hostile is an exception."""

from __future__ import annotations

import copy
import dataclasses
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from world import TIME, Document, World, add_record, add_run, make_ledger

from forebear.schemas.canonical import canonical_json
from forebear.schemas.digests import leaf_hash, merkle_root, sha256_name
from forebear.schemas.enums import EntryKind
from forebear.schemas.errors import UsageError
from forebear.schemas.records import Entry, Head, ObjectRef, RunManifest
from forebear.schemas.tables import BANDS, CLEANED, FLAGGED, LOG, SHARDS, parquet_bytes
from forebear.tracer.ledger.findings import Findings
from forebear.tracer.ledger.heads import check_head, check_since
from forebear.tracer.ledger.ledger import Ledger
from forebear.tracer.ledger.verify import VerifyReport, verify

TEXT = "one two three four five six seven"


def kinds(report: VerifyReport) -> set[str]:
    return {one.kind for one in report.findings}


def with_manifest(ledger: Ledger, change: Callable[[dict[str, Any]], None], manifest: RunManifest) -> None:
    """Append a run whose manifest differs from a sound one."""
    value = json.loads(manifest.to_bytes())
    change(value)
    ledger.append(Entry(EntryKind.RUN, ledger.put_object(canonical_json(value)), TIME))


def with_table(world: World, field: str, change: Callable[[pa.Table], pa.Table], schema: pa.Schema, *, at: int | None = None) -> None:
    """Append a run one of whose tables was changed and stored under its right digest."""
    ref = getattr(world.manifest, field)
    ref = ref if at is None else ref[at]
    data = parquet_bytes(change(world.ledger.read_table(ref.object, schema)))
    new = ObjectRef(world.ledger.put_object(data), len(data), ref.rows)
    refs: Any = new if at is None else tuple(new if n == at else one for n, one in enumerate(getattr(world.manifest, field)))
    lie = dataclasses.replace(world.manifest, **{field: refs})
    world.ledger.append(Entry(EntryKind.RUN, world.ledger.put_object(lie.to_bytes()), TIME))


def column_set(name: str, row: int, value: Any) -> Callable[[pa.Table], pa.Table]:
    def change(table: pa.Table) -> pa.Table:
        rows = table.to_pylist()
        rows[row][name] = value
        return pa.Table.from_pylist(rows, schema=table.schema)

    return change


MANIFEST_LIES: dict[str, tuple[Callable[[dict[str, Any]], None], str]] = {
    "fewer rows were read than decided": (lambda m: m["rows"].update({"in": 6}), "not_reconciled"),
    "a dropped row was counted as kept": (lambda m: m["rows"].update(kept=4, dropped=2), "not_reconciled"),
    "a reason was left out": (lambda m: m["reasons"].pop("toxic"), "not_reconciled"),
    "a source was renamed": (lambda m: m["sources"].update(wiki=m["sources"].pop("web")), "not_reconciled"),
    "the run digest is another's": (lambda m: m.update(run_digest=sha256_name(b"")), "run_digest_mismatch"),
    "the reader's options were altered": (lambda m: m["reader"].update(text_field="body"), "run_digest_mismatch"),
    "the policy was altered": (lambda m: m["policy"].update(more="x"), "policy_digest_mismatch"),
    "a log pack was left out": (lambda m: m.update(log=m["log"][:1]), "log_place_mismatch"),
    "a threshold was raised": (lambda m: m["detectors"][0]["thresholds"][""].update(flag=1024), "flagged_mismatch"),
    "a detector was left out": (lambda m: m.update(detectors=[]), "unknown_detector"),
    "a table is said to be larger": (lambda m: m["log"][0].update(bytes=10**6), "size_mismatch"),
    "a table is said to have more rows": (lambda m: m["bands"][0].update(rows=10**6), "not_reconciled"),
    "a table is of another kind": (lambda m: m.update(flagged=m["shards"]), "unreadable_table"),
    "a table is no table": (lambda m: m["log"][0].update(object=sha256_name(b"never")), "object_missing"),
    "a count is negative": (lambda m: m["rows"].update(errored=-1), "malformed_record"),
    "a count is text": (lambda m: m["rows"].update(errored="1"), "malformed_record"),
    "a detector has no threshold for the rest": (lambda m: m["detectors"][0]["thresholds"].clear(), "malformed_record"),
    "a reference is no digest": (lambda m: m["log"][0].update(object="../../etc/passwd"), "malformed_record"),
    "it ran against a run that is not there": (lambda m: m.update(against=[sha256_name(b"x")]), "unknown_run"),
    "the jaccard threshold is no number": (lambda m: m["policy"]["duplicates"].update(jaccard="high"), "malformed_record"),
}


@pytest.mark.parametrize("sentence", MANIFEST_LIES)
def test_a_manifest_is_found_out_when(sentence: str, tmp_path: Path) -> None:
    world = make_ledger(tmp_path / "l", packs=2, clean=True)
    change, kind = MANIFEST_LIES[sentence]
    with_manifest(world.ledger, lambda m: change(m) and None, world.manifest)
    assert kind in kinds(verify(world.ledger, level="full"))


TABLE_LIES: dict[str, tuple[str, int | None, pa.Schema, Callable[[pa.Table], pa.Table], str]] = {
    "a flagged row is left out": ("flagged", None, FLAGGED, lambda t: t.slice(1), "flagged_mismatch"),
    "a flagged score is lower": ("flagged", None, FLAGGED, column_set("score", 0, 900), "flagged_mismatch"),
    "a kept row is logged as dropped": ("log", 0, LOG, column_set("action", 0, "drop"), "log_digest_mismatch"),
    "a row's document is another": ("log", 0, LOG, column_set("document", 0, bytes(32)), "documents_digest_mismatch"),
    "a row's score is lower": ("log", 0, LOG, column_set("evidence", 1, []), "log_digest_mismatch"),
    "a row is missing from the log": ("log", 0, LOG, lambda t: t.slice(0, 1), "log_place_mismatch"),
    "rows are out of order": ("log", 0, LOG, lambda t: t.take([1, 0, *range(2, t.num_rows)]), "rows_not_consecutive"),
    "an action is none": ("log", 0, LOG, column_set("action", 0, "keeep"), "unknown_action"),
    "a dropped row has no reason": (
        "log",
        0,
        LOG,
        lambda t: column_set("reasons", 1, [])(column_set("action", 1, "drop")(t)),
        "reason_missing",
    ),
    "a shard's root is another": ("shards", None, SHARDS, column_set("log_digest", 0, bytes(32)), "log_digest_mismatch"),
    "a shard's documents are others": (
        "shards",
        None,
        SHARDS,
        column_set("documents_digest", 1, bytes(32)),
        "documents_digest_mismatch",
    ),
    "a shard counts a row too many": ("shards", None, SHARDS, column_set("kept", 0, 9), "not_reconciled"),
    "a shard is left out": ("shards", None, SHARDS, lambda t: t.slice(1), "run_digest_mismatch"),
    "shards are not sorted": ("shards", None, SHARDS, lambda t: t.take([2, 1, 0]), "not_sorted"),
    "a shard is there twice": ("shards", None, SHARDS, lambda t: pa.concat_tables([t.slice(0, 1), t]), "not_sorted"),
    "bands are not sorted": ("bands", 0, BANDS, lambda t: t.take([*range(1, t.num_rows), 0]), "not_sorted"),
    "a cleaned shard has another length": ("cleaned", None, CLEANED, column_set("rows", 0, 9), "not_reconciled"),
}


@pytest.mark.parametrize("sentence", TABLE_LIES)
def test_a_table_is_found_out_when(sentence: str, tmp_path: Path) -> None:
    world = make_ledger(tmp_path / "l", clean=True)
    field, at, schema, change, kind = TABLE_LIES[sentence]
    with_table(world, field, change, schema, at=at)
    assert kind in kinds(verify(world.ledger, level="full"))


KEPT = Document(TEXT)


def duplicate(**fields: Any) -> Document:
    told = {"keeper": ("a", 0), "shared": (9, 10), "action": "drop", "reasons": ("near_duplicate",), **fields}
    return Document(TEXT + " eight", **told)


KEEPER_LIES = {
    "the keeper was dropped": ([Document(TEXT, action="drop", reasons=("toxic",)), duplicate()], "keeper_not_kept"),
    "the keeper was an error": ([Document(TEXT, action="error", reasons=("detector_failed",)), duplicate()], "keeper_not_kept"),
    "the keeper is a duplicate itself": ([KEPT, duplicate(), duplicate(keeper=("a", 1), shared=(3, 3))], "keeper_not_kept"),
    "two rows keep each other": ([duplicate(keeper=("a", 1), shared=(3, 3)), duplicate(shared=(3, 3))], "keeper_not_kept"),
    "no keeper is named": ([KEPT, duplicate(keeper=None, shared=None)], "keeper_not_named"),
    "the similarity is below the threshold": ([KEPT, duplicate(shared=(79, 100))], "not_similar"),
    "the similarity was not measured": ([KEPT, duplicate(shared=None)], "not_similar"),
    "more is shared than there is": ([KEPT, duplicate(shared=(11, 10))], "not_similar"),
    "nothing is shared of nothing": ([KEPT, duplicate(shared=(0, 0))], "not_similar"),
    "a copy shares less than all": ([KEPT, dataclasses.replace(duplicate(shared=(9, 10)), text=TEXT)], "not_similar"),
}


@pytest.mark.parametrize("sentence", KEEPER_LIES)
def test_a_duplicate_is_found_out_when(sentence: str, tmp_path: Path) -> None:
    rows, kind = KEEPER_LIES[sentence]
    assert kinds(verify(make_ledger(tmp_path / "l", shards={"a": rows}).ledger, level="full")) == {kind}


SOUND = {
    "a duplicate at the very threshold": [KEPT, duplicate(shared=(8, 10))],
    "a copy whose similarity nobody measured": [KEPT, dataclasses.replace(duplicate(shared=None), text=TEXT)],
    "a copy with all shared": [KEPT, dataclasses.replace(duplicate(shared=(3, 3)), text=TEXT)],
    "a duplicate that was only flagged": [KEPT, duplicate(action="keep")],
    "no row at all": [],
}


@pytest.mark.parametrize("sentence", SOUND)
def test_a_sound_run_may_have(sentence: str, tmp_path: Path) -> None:
    assert verify(make_ledger(tmp_path / "l", shards={"a": SOUND[sentence]}).ledger, level="full").findings == ()


def test_a_keeper_is_another_document_when_the_row_holds_another(tmp_path: Path) -> None:
    world = make_ledger(tmp_path / "l", shards={"a": [KEPT, duplicate()]})
    with_table(world, "log", column_set("keeper_document", 1, bytes(32)), LOG, at=0)
    assert "keeper_not_kept" in kinds(verify(world.ledger, level="full"))


def test_keepers_in_another_pack_and_in_a_run_held_against_are_found(tmp_path: Path) -> None:
    world = make_ledger(tmp_path / "l", shards={"a": [KEPT], "b": [duplicate()]}, packs=2)
    assert verify(world.ledger, level="full").findings == ()
    later = {"a": [KEPT], "c": [duplicate()]}
    add_run(world.ledger, shards={**later, "a": [dataclasses.replace(KEPT, action="drop", reasons=("toxic",))]})
    assert kinds(verify(world.ledger, level="full")) == {"keeper_not_kept"}
    fresh = make_ledger(tmp_path / "m", shards={"a": [KEPT], "b": [duplicate()]}, packs=2)
    dropped = {"a": [dataclasses.replace(KEPT, action="drop", reasons=("toxic",))], "c": [duplicate()]}
    add_run(fresh.ledger, shards=dropped, against=[fresh.manifest.run_digest])
    assert verify(fresh.ledger, level="full").findings == ()


def test_a_damaged_page_is_found_where_the_digest_was_made_to_fit(tmp_path: Path) -> None:
    world = make_ledger(tmp_path / "l")
    data = bytearray(world.ledger.get_object(world.manifest.log[0].object))
    offset = pq.ParquetFile(pa.BufferReader(bytes(data))).metadata.row_group(0).column(2).data_page_offset
    data[offset + 60] ^= 1
    new = ObjectRef(world.ledger.put_object(bytes(data)), len(data), world.manifest.log[0].rows)
    lie = dataclasses.replace(world.manifest, log=(new,))
    world.ledger.append(Entry(EntryKind.RUN, world.ledger.put_object(lie.to_bytes()), TIME))
    assert "unreadable_table" in kinds(verify(world.ledger, level="full"))


def test_a_record_that_is_not_canonical_json_is_found(tmp_path: Path) -> None:
    for n, data in enumerate((b'{"b":1, "a":2}', b"\xff", b"[" * 100_000, b'{"a":1.5}', b'{"a":1,"a":1}', b"x")):
        ledger = make_ledger(tmp_path / str(n)).ledger
        ledger.append(Entry(EntryKind.LINEAGE, ledger.put_object(data), TIME))
        assert kinds(verify(ledger)) == {"malformed_record"}


def test_objects_that_a_record_refers_to_are_checked(tmp_path: Path) -> None:
    world = make_ledger(tmp_path / "l")
    usage = world.ledger.put_object(b"usage log")
    add_record(world.ledger, {"usage": [{"object": usage, "bytes": 9, "rows": 1}]})
    assert verify(world.ledger, level="full").notes == ()
    file = tmp_path / "l" / "objects" / "sha256" / usage[7:9] / usage[7:]
    file.write_bytes(b"usage_log")
    assert kinds(verify(world.ledger, level="full")) == {"digest_mismatch"}
    file.unlink()
    assert kinds(verify(world.ledger)) == {"object_missing"}


def test_orphans_temporaries_jobs_and_caches_are_no_findings(tmp_path: Path) -> None:
    world = make_ledger(tmp_path / "l")
    orphan = world.ledger.put_object(b"of a killed scan")
    (tmp_path / "l" / "objects" / "sha256" / orphan[7:9] / f"{orphan[7:]}#77").write_bytes(b"of a")
    (tmp_path / "l" / "entries" / f"{1:012}#3").write_bytes(b"")
    world.ledger.store.put("jobs/x/plan.json", b"whatever")
    world.ledger.store.put("index/y", b"whatever")
    report = verify(world.ledger, level="full")
    assert report.findings == ()
    assert [one.kind for one in report.notes] == ["temporaries", "orphans"]


def test_an_orphan_that_is_not_what_its_name_says_is_a_finding(tmp_path: Path) -> None:
    world = make_ledger(tmp_path / "l")
    orphan = world.ledger.put_object(b"of a killed scan")
    (tmp_path / "l" / "objects" / "sha256" / orphan[7:9] / orphan[7:]).write_bytes(b"of a Killed scan")
    assert kinds(verify(world.ledger, level="full")) == {"digest_mismatch"}


def test_a_ledger_of_a_first_scan_that_was_killed_is_sound_and_empty(tmp_path: Path) -> None:
    ledger = Ledger.open(tmp_path / "l", create=True)
    ledger.store.put("jobs/x/plan.json", b"{}")
    ledger.put_object(b"an object")
    report = verify(Ledger.open(tmp_path / "l"), level="full")
    assert report.ok
    assert report.head == Head(0, merkle_root([])).to_json()


def test_a_ledger_that_grows_while_it_is_verified_looks_sound(tmp_path: Path) -> None:
    """A writer commits between any two looks at the store."""
    for level in ("quick", "full"):
        world = make_ledger(tmp_path / level)
        report = verify(Ledger(Growing(world.ledger)), level=level)
        assert report.findings == ()
        assert len(world.ledger.entries()) > 3


@pytest.mark.parametrize("gone", [0, 1])
def test_a_hole_between_entries_is_named(tmp_path: Path, gone: int) -> None:
    world = make_ledger(tmp_path / "l")
    add_record(world.ledger, {"n": 1})
    add_record(world.ledger, {"n": 2})
    before = [leaf_hash(data) for _, data, _ in world.ledger.entries()[:gone]]
    (tmp_path / "l" / "entries" / f"{gone:012}").unlink()
    report = verify(Ledger.open(tmp_path / "l"))
    assert {"entry_missing", "head_beyond_entries"} == kinds(report)
    assert report.findings[0].object == f"entries/{gone:012}"
    assert report.head == Head(gone, merkle_root(before)).to_json()


ENTRIES = [b"a", b"b", b"c"]


def head_of(entries: list[bytes]) -> bytes:
    return Head(len(entries), merkle_root(map(leaf_hash, entries))).to_bytes()


HEADS: Mapping[str, tuple[bytes | None, list[bytes], str | None, str | None]] = {
    "the head of all entries is sound": (head_of(ENTRIES), ENTRIES, None, None),
    "an older head is behind": (head_of(ENTRIES[:2]), ENTRIES, None, "head_behind"),
    "the head of no entries is behind": (head_of([]), ENTRIES, None, "head_behind"),
    "none with no entries is sound": (None, [], None, None),
    "none with one entry is a note": (None, ENTRIES[:1], None, "head_missing"),
    "none with two entries is a finding": (None, ENTRIES[:2], "head_missing", None),
    "one of more entries is beyond": (head_of(ENTRIES), ENTRIES[:2], "head_beyond_entries", None),
    "one of other entries is inconsistent": (head_of([b"a", b"x", b"c"]), ENTRIES, "head_inconsistent", None),
    "an empty file is malformed": (b"", ENTRIES, "head_malformed", None),
    "one cut short is malformed": (head_of(ENTRIES)[:-1], ENTRIES, "head_malformed", None),
    "a new line after it is malformed": (head_of(ENTRIES) + b"\n", ENTRIES, "head_malformed", None),
    "rubbish after it is malformed": (head_of(ENTRIES) + b"\nrubbish\n", ENTRIES, "head_malformed", None),
    "a signature after it is left to its key": (head_of(ENTRIES) + "\n— acme AbCd+/==\n".encode(), ENTRIES, None, None),
}


@pytest.mark.parametrize("sentence", HEADS)
def test_of_heads(sentence: str) -> None:
    data, entries, finding, note = HEADS[sentence]
    found = Findings()
    check_head(data, entries, found)
    assert [one.kind for one in found.findings] == ([finding] if finding else [])
    assert [one.kind for one in found.notes] == ([note] if note else [])


SINCE = {
    "the entries continue the remembered head": (ENTRIES[:2], True, None),
    "nothing was added since": (ENTRIES, True, None),
    "entries are gone": ([*ENTRIES, b"d"], False, "rolled_back"),
    "an entry was exchanged": ([b"a", b"x"], False, "forked"),
}


@pytest.mark.parametrize("sentence", SINCE)
def test_a_remembered_head_tells_whether(sentence: str) -> None:
    remembered, authentic, finding = SINCE[sentence]
    found = Findings()
    assert check_since(Head.from_bytes(head_of(remembered)), ENTRIES, found) is authentic
    assert [one.kind for one in found.findings] == ([finding] if finding else [])


def test_nothing_is_authentic_without_a_head_from_elsewhere(tmp_path: Path) -> None:
    world = make_ledger(tmp_path / "l")
    assert verify(world.ledger).authentic is None
    assert verify(world.ledger, since=world.ledger.head()).authentic is True
    assert verify(world.ledger, since=Head(1, bytes(32))).authentic is False


def test_verification_changes_nothing(tmp_path: Path) -> None:
    world = make_ledger(tmp_path / "l")
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "l").rglob("*")}
    verify(world.ledger, level="full")
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "l").rglob("*")} == before


def test_levels_say_what_they_looked_at(tmp_path: Path) -> None:
    world = make_ledger(tmp_path / "l")
    every = [size for path, size in world.ledger.store.list("objects")]
    full, quick = verify(world.ledger, level="full"), verify(world.ledger)
    assert full.checked == {"objects": len(every), "bytes": sum(every), "rows": 7}
    assert quick.checked["rows"] == 0
    assert [one.kind for one in quick.notes] == ["not_hashed"]
    shares = [verify(world.ledger, level="sample", sample=(n, 3)) for n in (1, 2, 3)]
    assert sum(share.checked["rows"] for share in shares) == 7
    seen: list[tuple[int, int]] = []
    verify(world.ledger, level="full", progress=lambda done, of: seen.append((done, of)))
    assert seen[-1] == (len(every), len(every))


@pytest.mark.parametrize(("level", "sample"), [("fast", None), ("sample", None), ("sample", (0, 3)), ("sample", (4, 3)), ("full", (1, 2))])
def test_a_level_that_cannot_be_is_wrong_use(tmp_path: Path, level: str, sample: tuple[int, int] | None) -> None:
    with pytest.raises(UsageError):
        verify(make_ledger(tmp_path / "l").ledger, level=level, sample=sample)


def test_damage_to_one_run_leaves_the_other_checked(tmp_path: Path) -> None:
    world = make_ledger(tmp_path / "l")
    other = add_run(world.ledger, shards={"c": [Document("another text")]})
    name = world.manifest.log[0].object
    (tmp_path / "l" / "objects" / "sha256" / name[7:9] / name[7:]).unlink()
    report = verify(world.ledger, level="full")
    assert [(one.object, one.kind) for one in report.findings] == [(name, "object_missing")]
    assert report.checked["rows"] == other.manifest.rows["in"]


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Every place inside a JSON value."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path, *(place for key, inner in items for place in places(inner, (*path, key)))]


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5) | st.sampled_from([sha256_name(b""), "sha256:x", ""]),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
    max_leaves=4,
)


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> tuple[World, dict[str, Any]]:
    world = make_ledger(tmp_path_factory.mktemp("hostile") / "l", clean=True)
    return world, json.loads(world.manifest.to_bytes())


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(st.data())
def test_no_manifest_makes_verification_fail(hostile: tuple[World, dict[str, Any]], data: st.DataObject) -> None:
    """One value anywhere in a manifest is replaced by another; the answer is a report, whatever it says."""
    world, sound = hostile
    value = copy.deepcopy(sound)
    place = data.draw(st.sampled_from(places(sound)[1:]))
    inner = value
    for key in place[:-1]:
        inner = inner[key]
    inner[place[-1]] = data.draw(json_values)
    try:
        written = canonical_json(value)
    except (UnicodeEncodeError, TypeError):
        return
    ledger = Ledger(Overlay(world.ledger, written))
    report = verify(ledger, level="full")
    assert report.to_json()["schema"] == "forebear/verify/1"
    if value != sound:
        json.dumps(report.to_json())


class Growing:
    """The store of a ledger to which another writer adds a record before every look."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger, self._store, self._n = ledger, ledger.store, 0

    def __getattr__(self, name: str) -> Any:
        self._n += 1
        add_record(self._ledger, {"n": self._n})
        return getattr(self._store, name)


class Overlay:
    """The store of a ledger with one more object and an entry for it, in memory."""

    def __init__(self, ledger: Ledger, manifest: bytes) -> None:
        self._store = ledger.store
        name = sha256_name(manifest)
        entry = Entry(EntryKind.RUN, name, TIME).to_bytes()
        self._more = {f"objects/sha256/{name[7:9]}/{name[7:]}": manifest, "entries/000000000001": entry}

    def get(self, path: str) -> bytes:
        return self._more[path] if path in self._more else self._store.get(path)

    def get_range(self, path: str, start: int, length: int) -> bytes:
        return self._more[path][start : start + length] if path in self._more else self._store.get_range(path, start, length)

    def list(self, prefix: str) -> list[tuple[str, int]]:
        more = [(path, len(data)) for path, data in self._more.items() if path.startswith(prefix)]
        return sorted({**dict(self._store.list(prefix)), **dict(more)}.items())
