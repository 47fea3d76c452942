"""Entries and head: writers form one order, none is lost, a death at any step leaves a ledger that reads and goes on."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from world import TIME, Document, add_record, add_run, make_ledger

from forebear.schemas.canonical import canonical_json
from forebear.schemas.digests import leaf_hash, merkle_root, sha256_name
from forebear.schemas.enums import EntryKind
from forebear.schemas.errors import ForebearError, IntegrityError, UsageError
from forebear.schemas.records import Entry, Head
from forebear.tracer.ledger.ledger import Ledger
from forebear.tracer.ledger.store import Store
from forebear.tracer.ledger.verify import verify


def entry(ledger: Ledger, name: str) -> Entry:
    return Entry(EntryKind.LINEAGE, ledger.put_object(canonical_json({"name": name})), TIME)


def names(ledger: Ledger) -> list[str]:
    return [ledger.get_object(one.object).decode() for _, _, one in ledger.entries()]


def test_the_head_is_the_rfc_6962_root_over_the_bytes_of_the_entries(tmp_path: Path) -> None:
    ledger = Ledger.open(tmp_path / "l", create=True)
    heads = [ledger.append(entry(ledger, str(n))) for n in range(5)]
    raw = [(tmp_path / "l" / "entries" / f"{n:012}").read_bytes() for n in range(5)]
    for n, head in enumerate(heads):
        assert head == Head(n + 1, merkle_root(map(leaf_hash, raw[: n + 1])))
    assert ledger.stored_head() == ledger.head() == heads[-1]


def test_eight_threads_append_at_once_and_every_entry_lands(tmp_path: Path) -> None:
    Ledger.open(tmp_path / "l", create=True)

    def write(writer: int) -> list[Head]:
        ledger = Ledger.open(tmp_path / "l", create=True)
        return [ledger.append(entry(ledger, f"{writer}-{n}")) for n in range(6)]

    with ThreadPoolExecutor(8) as pool:
        heads = [head for written in pool.map(write, range(8)) for head in written]
    ledger = Ledger.open(tmp_path / "l")
    assert sorted(names(ledger)) == sorted(canonical_json({"name": f"{w}-{n}"}).decode() for w in range(8) for n in range(6))
    assert sorted(head.size for head in heads) == list(range(1, 49))
    assert ledger.stored_head() == ledger.head()
    assert verify(ledger, level="full").notes == ()


def test_processes_append_at_once_and_every_entry_lands(tmp_path: Path) -> None:
    code = (
        "import sys; from forebear.tracer.ledger.ledger import Ledger; from forebear.schemas.records import Entry;"
        "from forebear.schemas.enums import EntryKind; l = Ledger.open(sys.argv[1], create=True);"
        "[l.append(Entry(EntryKind.LINEAGE, l.put_object(b'{\"n\":\"%s-%d\"}' % (sys.argv[2].encode(), n)), '')) for n in range(8)]"
    )
    running = [subprocess.Popen([sys.executable, "-c", code, tmp_path / "l", str(n)]) for n in range(3)]
    assert [one.wait(timeout=60) for one in running] == [0, 0, 0]
    ledger = Ledger.open(tmp_path / "l")
    assert len(set(names(ledger))) == 24
    assert ledger.stored_head() == ledger.head()


class Died(BaseException):
    """The writer's end, at a step of its choosing."""


class MortalStore(Store):
    """A store whose writer dies before, or right after, its n-th write."""

    def __init__(self, store: Store, *, dies_at: int, after: bool) -> None:
        super().__init__(store.url, store._backend)
        self.left, self.after = dies_at, after

    def _step(self, write: Callable[[], bool | None]) -> bool | None:
        self.left -= 1
        if self.left == 0 and not self.after:
            raise Died
        done = write()
        if self.left == 0:
            raise Died
        return done

    def put_new(self, path: str, data: bytes) -> bool:
        return bool(self._step(lambda: super(MortalStore, self).put_new(path, data)))

    def put(self, path: str, data: bytes) -> None:
        self._step(lambda: super(MortalStore, self).put(path, data))


@pytest.mark.parametrize("entries_before", [0, 1, 3])
@pytest.mark.parametrize("after", [False, True])
def test_a_writer_that_dies_at_any_step_leaves_what_was_before_or_after(tmp_path: Path, entries_before: int, after: bool) -> None:
    survived = False
    for step in range(1, 20):
        path = tmp_path / str(step)
        ledger = Ledger.open(path, create=True)
        for n in range(entries_before):
            add_record(ledger, {"n": n})
        mortal = Ledger(MortalStore(ledger.store, dies_at=step, after=after))
        try:
            mortal.append(entry(mortal, "late"))
        except Died:
            pass
        else:
            survived = True
            break
        seen = len(Ledger.open(path, create=True).entries())
        assert seen in {entries_before, entries_before + 1}
        assert verify(Ledger.open(path, create=True), level="full").findings == ()
        # And a second writer may die at the same step without turning a note into a finding.
        again = Ledger(MortalStore(ledger.store, dies_at=step, after=after))
        with pytest.raises(Died):
            again.append(entry(again, "later"))
        assert verify(Ledger.open(path, create=True), level="full").findings == ()
        final = Ledger.open(path, create=True)
        final.append(entry(final, "last"))
        assert names(final)[-1] == '{"name":"last"}'
        assert final.stored_head() == final.head()
        assert verify(final, level="full").findings == ()
    assert survived


def damaged(tmp_path: Path, count: int = 3) -> tuple[Path, Ledger]:
    ledger = Ledger.open(tmp_path / "l", create=True)
    for n in range(count):
        add_record(ledger, {"n": n})
    return tmp_path / "l", Ledger.open(tmp_path / "l")


def test_nothing_is_appended_after_a_hole(tmp_path: Path) -> None:
    path, ledger = damaged(tmp_path)
    (path / "entries" / f"{1:012}").unlink()
    with pytest.raises(IntegrityError, match="there are later ones"):
        ledger.append(entry(ledger, "new"))


def test_a_listing_that_misses_an_earlier_entry_makes_no_hole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Listings are no snapshots: one may show what was written after it began and not what was written before that."""
    _, ledger = damaged(tmp_path)
    whole = Store.list
    monkeypatch.setattr(Store, "list", lambda self, prefix: [one for one in whole(self, prefix) if not one[0].endswith("001")])
    assert len(ledger.entries()) == 3
    assert verify(ledger).findings == ()


def test_an_entry_of_a_huge_number_costs_no_more_than_a_message(tmp_path: Path) -> None:
    path, ledger = damaged(tmp_path)
    (path / "entries" / ("9" * 12)).write_bytes(b"x")
    with pytest.raises(IntegrityError, match="there are later ones"):
        ledger.entries()
    assert "entry_missing" in {one.kind for one in verify(ledger).findings}


def test_nothing_is_appended_when_the_last_entry_is_gone(tmp_path: Path) -> None:
    path, ledger = damaged(tmp_path)
    (path / "entries" / f"{2:012}").unlink()
    with pytest.raises(IntegrityError, match="3 entries with root"):
        ledger.append(entry(ledger, "new"))
    (path / "head").unlink()  # the loss is accepted, as the message says
    assert Ledger.open(path).append(entry(ledger, "new")).size == 3


def test_nothing_is_appended_when_an_entry_was_exchanged(tmp_path: Path) -> None:
    path, ledger = damaged(tmp_path)
    file = path / "entries" / f"{0:012}"
    file.write_bytes((path / "entries" / f"{1:012}").read_bytes())
    with pytest.raises(IntegrityError, match="another root"):
        ledger.append(entry(ledger, "new"))


def test_an_older_or_unreadable_head_is_written_anew(tmp_path: Path) -> None:
    path, ledger = damaged(tmp_path)
    for data in (ledger.at(1).head().to_bytes(), b"rubbish"):
        (path / "head").write_bytes(data)
        ledger = Ledger.open(path)
        ledger.append(entry(ledger, data.hex()))
        assert ledger.stored_head() == ledger.head()


def test_an_entry_whose_object_is_not_stored_is_refused(tmp_path: Path) -> None:
    ledger = Ledger.open(tmp_path / "l", create=True)
    with pytest.raises(IntegrityError, match="Store the object first"):
        ledger.append(Entry(EntryKind.RUN, sha256_name(b"nothing"), TIME))


def test_the_same_bytes_are_stored_once(tmp_path: Path) -> None:
    ledger = Ledger.open(tmp_path / "l", create=True)
    name = ledger.put_object(b"some bytes")
    file = ledger.store.local_path(f"objects/sha256/{name[7:9]}/{name[7:]}")
    assert file is not None
    before = file.stat().st_ino
    assert ledger.put_object(b"some bytes") == name == sha256_name(b"some bytes")
    assert (file.stat().st_ino, file.read_bytes()) == (before, b"some bytes")


def test_an_object_cut_short_is_named_when_it_is_written_again(tmp_path: Path) -> None:
    ledger = Ledger.open(tmp_path / "l", create=True)
    name = ledger.put_object(b"some bytes")
    (tmp_path / "l" / "objects" / "sha256" / name[7:9] / name[7:]).write_bytes(b"some")
    with pytest.raises(IntegrityError, match="10 bytes"):
        ledger.put_object(b"some bytes")


def test_an_object_is_hashed_whenever_it_is_read(tmp_path: Path) -> None:
    ledger = Ledger.open(tmp_path / "l", create=True)
    name = ledger.put_object(b"some bytes")
    assert ledger.get_object(name) == b"some bytes"
    (tmp_path / "l" / "objects" / "sha256" / name[7:9] / name[7:]).write_bytes(b"sOme bytes")
    with pytest.raises(IntegrityError) as caught:
        ledger.get_object(name)
    assert caught.value.kind == "digest_mismatch"
    with pytest.raises(IntegrityError) as caught:
        ledger.get_object(sha256_name(b"never stored"))
    assert caught.value.kind == "object_missing"


def test_an_older_head_shows_the_ledger_as_it_was(tmp_path: Path) -> None:
    world = make_ledger(tmp_path / "l")
    add_run(world.ledger, shards={"c": [Document("another text")]})
    older = world.ledger.at(1)
    assert [run for _, run, _ in older.runs()] == [world.run]
    assert older.head().size == 1
    assert world.ledger.at(0).runs() == []
    with pytest.raises(UsageError, match="0 to 2 entries"):
        world.ledger.at(3)


def test_a_run_is_found_by_either_digest_or_a_prefix(tmp_path: Path) -> None:
    world = make_ledger(tmp_path / "l")
    for digest in (world.run, world.manifest.run_digest):
        for text in (digest, digest[7:], digest[:19], digest[7:19], digest[7:30].upper()):
            assert world.ledger.find_run(text)[1] == world.run


UNKNOWN = {
    "no run has that digest": "sha256:" + "0" * 64,
    "eleven digits are too few": "0" * 11,
    "a name is no digest": "latest",
    "nothing was given": "",
}


@pytest.mark.parametrize("sentence", UNKNOWN)
def test_a_run_that_is_not_there_is_wrong_use(tmp_path: Path, sentence: str) -> None:
    ledger = make_ledger(tmp_path / "l").ledger
    with pytest.raises(UsageError) as caught:
        ledger.find_run(UNKNOWN[sentence])
    assert caught.value.kind == "unknown_run"


def test_the_same_scan_twice_is_named_by_its_run_digest_as_the_newest(tmp_path: Path) -> None:
    first = make_ledger(tmp_path / "l")
    second = make_ledger(tmp_path / "l", time="2026-11-02T00:00:00+00:00")
    assert first.run != second.run
    assert first.manifest.run_digest == second.manifest.run_digest
    assert first.ledger.find_run(first.manifest.run_digest)[1] == second.run


def test_an_ambiguous_prefix_lists_the_candidates(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    world = make_ledger(tmp_path / "l")
    other = add_run(world.ledger, shards={"c": [Document("x")]}, manifest={"run_digest": world.run[:30] + "0" * 41})
    with pytest.raises(UsageError) as caught:
        world.ledger.find_run(world.run[:30])
    assert caught.value.kind == "ambiguous_run"
    assert world.run in caught.value.found
    assert other.run in caught.value.found


def test_a_full_disk_is_said_and_leaves_nothing_behind(tmp_path: Path) -> None:
    code = (
        "import resource, sys; from forebear.tracer.ledger.ledger import Ledger\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))\n"
        "l = Ledger.open(sys.argv[1], create=True); l.put_object(b'small')\n"
        "try: l.put_object(bytes(1_000_000))\n"
        "except Exception as error: print(error.kind, error.exit_code)"
    )
    done = subprocess.run([sys.executable, "-c", code, tmp_path / "l"], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["disk_full", "2"]
    assert [path.stat().st_size for path in (tmp_path / "l").rglob("*") if path.is_file()] == [5]


def test_errors_of_the_ledger_are_forebears_own(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("hello")
    for path in (tmp_path / "file", tmp_path / "file" / "below", tmp_path / "nowhere"):
        with pytest.raises(ForebearError) as caught:
            Ledger.open(path)
        assert caught.value.exit_code == 2
        assert os.fspath(path) in str(caught.value)
