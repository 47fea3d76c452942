"""Bad input costs its own rows and nothing else: one scan over a folder of broken files, judged through the command line alone.

What each file costs stands in `FILES`; what is wrong use, and so never begins, is in `test_scan_command`.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard

from forebear.pipelines import score
from forebear.tracer.scan import near

KEPT = ("keep", [])
NOT_TEXT, UTF8, UNREADABLE = (("error", [reason]) for reason in ("not_text", "invalid_utf8", "unreadable"))
HUGE = 50_000_000


def plain(name: str, count: int) -> list[dict[str, str]]:
    """Documents that nothing is wrong with, unlike all others."""
    words = lambda n: (hashlib.sha256(f"{name} {n} {k}".encode()).hexdigest()[:7] for k in range(20))  # noqa: E731
    return [{"id": f"{name}-{n}", "text": " ".join(words(n))} for n in range(count)]


def line(value: Any) -> bytes:
    return json.dumps(value).encode()


def among(*odd: bytes, name: str, end: bytes = b"\n") -> bytes:
    """JSONL: two plain documents, the odd lines, two more."""
    good = [line(one) for one in plain(name, 4)]
    return end.join([*good[:2], *odd, *good[2:], b""])


def parquet(rows: list[dict[str, Any]]) -> bytes:
    sink = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows), sink)
    return sink.getvalue()


def said(text: object, name: str) -> bytes:
    return among(line({"id": "odd", "text": text}), name=name)


@dataclass(frozen=True)
class Bad:
    """A file, the number of its rows, those that are not simply kept, and whether the shard is damaged."""

    name: str
    data: bytes
    rows: int
    odd: dict[int, tuple[str, list[str]]]
    damaged: bool = False


BROKEN = b'{"id": "odd", "text": "cut off'
GZ, ZST = (b"".join(line(one) + b"\n" for one in plain(name, 4000)) for name in ("gz", "zst"))
CUT_GZ, CUT_ZST = (data[: len(data) // 2] for data in (gzip.compress(GZ, mtime=0), zstandard.ZstdCompressor().compress(ZST)))
WHOLE_GZ = zlib.decompressobj(31).decompress(CUT_GZ).count(b"\n")
WHOLE_ZST = zstandard.ZstdDecompressor().decompressobj().decompress(CUT_ZST).count(b"\n")

FILES = {
    "an empty file has no rows": Bad("empty.jsonl", b"", 0, {}),
    "a null text is kept": Bad("null.jsonl", said(None, "null"), 5, {}),
    "an empty text is kept": Bad("none.jsonl", said("", "none"), 5, {}),
    "a text of one character is kept": Bad("one.jsonl", said("x", "one"), 5, {}),
    "a text without tokens is kept": Bad("blank.jsonl", said(" \n\t\u3000 ", "blank"), 5, {}),
    "a document of 50 MB is kept": Bad("huge.jsonl", said("word " * (HUGE // 5), "huge"), 5, {}),
    "NUL characters are text": Bad("nul.jsonl", said("a\x00b \x00 c", "nul"), 5, {}),
    "a byte order mark is no row and breaks none": Bad("bom.jsonl", b"\xef\xbb\xbf" + among(name="bom"), 4, {}),
    "CRLF ends a line": Bad("crlf.jsonl", among(name="crlf", end=b"\r\n"), 4, {}),
    "blank lines are no rows": Bad("blanks.jsonl", among(b"", b"  \t", b"\r", name="blanks"), 4, {}),
    "invalid UTF-8 costs its row": Bad("utf8.jsonl", among(b'{"text": "\xff\xfe"}', name="utf8"), 5, {2: UTF8}),
    "a lone surrogate costs its row": Bad("alone.jsonl", among(b'{"text": "\\ud800 x"}', name="alone"), 5, {2: UTF8}),
    "a broken JSON line in the middle costs its row": Bad("broken.jsonl", among(BROKEN, name="broken"), 5, {2: UNREADABLE}),
    "a row that is no object costs its row": Bad("list.jsonl", among(b"[1, 2]", b'"x"', name="list"), 6, {2: NOT_TEXT, 3: NOT_TEXT}),
    "a text that is no string costs its row": Bad("seven.jsonl", said(7, "seven"), 5, {2: NOT_TEXT}),
    "a row without the text field costs its row": Bad("field.jsonl", among(line({"id": "odd"}), name="field"), 5, {2: NOT_TEXT}),
    "two rows of one id are two rows": Bad("twice.jsonl", among(*[line({"id": "t", "text": w}) for w in "ab"], name="twice"), 6, {}),
    "a Parquet file named .jsonl is read as what it is": Bad("named.jsonl", parquet(plain("named", 4)), 4, {}),
    "a Parquet file of numbers costs its rows": Bad("number.parquet", parquet([{"text": 1}, {"text": 2}]), 2, {0: NOT_TEXT, 1: NOT_TEXT}),
    "a file without the text column costs its rows": Bad(
        "other.parquet", parquet([{"body": "x"}, {"body": "y"}]), 2, {0: NOT_TEXT, 1: NOT_TEXT}
    ),
    "a truncated Parquet file is one unreadable row": Bad("cut.parquet", parquet(plain("p", 9))[:-40], 1, {0: UNREADABLE}, True),
    "a truncated .gz keeps its whole lines": Bad("cut.jsonl.gz", CUT_GZ, WHOLE_GZ + 1, {WHOLE_GZ: UNREADABLE}, True),
    "a truncated .zst keeps its whole lines": Bad("cut.jsonl.zst", CUT_ZST, WHOLE_ZST + 1, {WHOLE_ZST: UNREADABLE}, True),
    "a file that is no .gz at all is one unreadable row": Bad("fake.jsonl.gz", b"\x1f\x8b\x08\x00 no", 1, {0: UNREADABLE}, True),
}


@dataclass(frozen=True)
class World:
    """The scan of all of them in one folder, with a second copy of one and a link to nothing."""

    folder: Path
    answer: Any
    logged: dict[str, list[dict[str, Any]]]


@pytest.fixture(scope="module")
def world(forebear: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory) -> World:
    folder = tmp_path_factory.mktemp("bad")
    corpus = folder / "corpus"
    corpus.mkdir()
    for bad in FILES.values():
        (corpus / bad.name).write_bytes(bad.data)
    (corpus / "twin.jsonl").write_bytes(FILES["CRLF ends a line"].data)
    (corpus / "lost.jsonl").symlink_to(folder / "nowhere")
    answer = forebear("scan", corpus, "--ledger", folder / "ledger", "--json")
    query = "SELECT path, row, action, reasons, d.bytes FROM audit.decision d JOIN audit.shard s USING (run, shard) ORDER BY path, row"
    logged: dict[str, list[dict[str, Any]]] = {}
    for row in forebear("sql", query, "--ledger", folder / "ledger", "--json").json["rows"]:
        logged.setdefault(Path(row["path"]).name, []).append(row)
    return World(folder, answer, logged)


@pytest.mark.parametrize("claim", FILES)
def test_a_bad_file_costs_its_own_rows(world: World, claim: str) -> None:
    bad = FILES[claim]
    rows = world.logged.get(bad.name, [])
    found = [(row["action"], row["reasons"]) for row in rows]
    assert found == [bad.odd.get(n, KEPT) for n in range(bad.rows)]
    assert [row["row"] for row in rows] == list(range(bad.rows))


def test_every_row_is_counted_once_and_the_exit_code_tells(world: World) -> None:
    counts, answer = world.answer.json["rows"], world.answer
    assert answer.code == 1
    assert counts["in"] == counts["kept"] + counts["dropped"] + counts["errored"] == sum(bad.rows for bad in FILES.values())
    assert min(WHOLE_GZ, WHOLE_ZST) > 100, "the cut files hold whole lines"
    errors = {"not_text": 8, "invalid_utf8": 2, "unreadable": 5}
    assert answer.json["reasons"] == errors
    assert counts["errored"] == sum(errors.values())
    assert counts["dropped"] == 0


def test_damaged_shards_and_lost_files_are_listed_as_incomplete_and_no_others(world: World) -> None:
    listed = {Path(one["path"]).name: one for one in world.answer.json["incomplete"]}
    assert set(listed) == {bad.name for bad in FILES.values() if bad.damaged} | {"lost.jsonl"}
    assert listed["lost.jsonl"]["shard"] is None
    assert all(one["why"] for one in listed.values())


def test_two_shards_with_the_same_bytes_are_scanned_once_with_both_paths(world: World, forebear: Callable[..., Any]) -> None:
    assert world.answer.json["shards"] == len(FILES)
    assert len({"crlf.jsonl", "twin.jsonl"} & set(world.logged)) == 1
    query = "SELECT count(*) AS n FROM audit.decision WHERE source_id LIKE 'crlf-%'"
    (row,) = forebear("sql", query, "--ledger", world.folder / "ledger", "--json").json["rows"]
    assert row["n"] == 4


def test_the_huge_document_was_read_whole(world: World) -> None:
    assert world.logged["huge.jsonl"][2]["bytes"] == HUGE


def test_the_ledger_of_bad_input_verifies(world: World, forebear: Callable[..., Any]) -> None:
    answer = forebear("verify", "--full", "--ledger", world.folder / "ledger", "--json")
    assert (answer.code, answer.json["findings"]) == (0, [])


def test_nothing_was_said_but_the_answer(world: World) -> None:
    assert "Traceback" not in world.answer.err
    assert "Error" not in world.answer.err


def write(path: Path, documents: list[dict[str, str]]) -> Path:
    path.write_bytes(b"".join(line(one) + b"\n" for one in documents))
    return path


Seam = Callable[[pytest.MonkeyPatch, Callable[[], object]], None]


def before_evidence(monkeypatch: pytest.MonkeyPatch, happens: Callable[[], object]) -> None:
    """Something happens after the files were named by their bytes, before their rows are read."""
    gather = score.gather_evidence

    def seam(*given: Any) -> Iterator[Any]:
        happens()
        return gather(*given)

    monkeypatch.setattr(score, "gather_evidence", seam)


def before_measuring(monkeypatch: pytest.MonkeyPatch, happens: Callable[[], object]) -> None:
    """Something happens after the evidence is stored, before candidates are read again."""
    again = near.read_again

    def seam(*given: Any, **named: Any) -> int:
        happens()
        return again(*given, **named)

    monkeypatch.setattr(near, "read_again", seam)


EVENTS: dict[str, Callable[[Path], object]] = {
    "it is gone": lambda path: path.unlink(),
    "it has other bytes": lambda path: write(path, plain("other", 5)),
    "it has grown": lambda path: path.write_bytes(path.read_bytes() + line({"text": "one more"}) + b"\n"),
    "it is a folder now": lambda path: (path.unlink(), path.mkdir()),
}


@pytest.mark.parametrize("claim", EVENTS)
def test_a_source_that_changes_before_it_is_read_costs_its_shard(
    claim: str, tmp_path: Path, forebear: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    files = [write(tmp_path / f"{name}.jsonl", plain(name, 5)) for name in ("stays", "changes")]
    named = f"sha256:{hashlib.sha256(files[1].read_bytes()).hexdigest()}"
    with monkeypatch.context() as patched:
        before_evidence(patched, lambda: files[1].is_file() and EVENTS[claim](files[1]))
        answer = forebear("scan", *files, "--ledger", tmp_path / "ledger", "--json")
    assert answer.code == 1
    assert answer.json["rows"] == {"in": 6, "kept": 5, "dropped": 0, "errored": 1}
    assert answer.json["reasons"] == {"unreadable": 1}
    (listed,) = answer.json["incomplete"]
    assert (listed["path"], listed["shard"]) == (str(files[1]), named)
    assert forebear("verify", "--full", "--ledger", tmp_path / "ledger").code == 0


def test_what_a_changed_source_left_is_never_taken_for_evidence_of_its_bytes(
    tmp_path: Path, forebear: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    file = write(tmp_path / "a.jsonl", plain("a", 5))
    whole = file.read_bytes()
    with monkeypatch.context() as patched:
        before_evidence(patched, file.unlink)
        assert forebear("scan", file, "--ledger", tmp_path / "ledger", "--json").code == 1
    file.write_bytes(whole)
    again = forebear("scan", file, "--ledger", tmp_path / "ledger", "--json")
    fresh = forebear("scan", file, "--ledger", tmp_path / "fresh", "--json")
    assert (again.code, again.json["rows"]["kept"], again.json["reused"]) == (0, 5, {"shards": 0})
    assert again.json["run_digest"] == fresh.json["run_digest"]


@pytest.mark.parametrize("claim", ["it is gone", "it has other bytes"])
def test_a_source_gone_at_verification_leaves_its_pairs_unmeasured_and_removes_nothing(
    claim: str, tmp_path: Path, forebear: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    text = " ".join(one["text"] for one in plain("near", 10))
    files = [write(tmp_path / f"{n}.jsonl", [{"id": str(n), "text": f"{text} and {n}"}]) for n in range(2)]
    with monkeypatch.context() as patched:
        before_measuring(patched, lambda: files[1].is_file() and EVENTS[claim](files[1]))
        answer = forebear("scan", *files, "--ledger", tmp_path / "ledger", "--json")
    assert answer.json["rows"] == {"in": 2, "kept": 2, "dropped": 0, "errored": 0}
    assert answer.json["unmeasured"] == 1
    assert answer.code == 1, "a pair that was not compared is a finding"
    assert forebear("verify", "--full", "--ledger", tmp_path / "ledger").code == 0


def test_the_same_two_texts_are_near_duplicates_where_their_sources_stay(tmp_path: Path, forebear: Callable[..., Any]) -> None:
    """What the test above would lose: it is not that the pair was never a candidate."""
    text = " ".join(one["text"] for one in plain("near", 10))
    files = [write(tmp_path / f"{n}.jsonl", [{"id": str(n), "text": f"{text} and {n}"}]) for n in range(2)]
    answer = forebear("scan", *files, "--ledger", tmp_path / "ledger", "--json")
    assert (answer.code, answer.json["reasons"], answer.json["unmeasured"]) == (0, {"near_duplicate": 1}, 0)


def test_a_file_that_may_not_be_read_costs_itself(ordinary_user: Path, forebear: Callable[..., Any]) -> None:
    closed = write(ordinary_user / "closed.jsonl", plain("closed", 3))
    write(ordinary_user / "open.jsonl", plain("open", 3))
    closed.chmod(0)
    answer = forebear("scan", ordinary_user, "--ledger", ordinary_user / "ledger", "--json")
    assert answer.code == 1
    assert answer.json["rows"]["kept"] == 3
    (listed,) = answer.json["incomplete"]
    assert (listed["path"], listed["shard"]) == (str(closed), None)
    assert "Permission denied" in listed["why"]


def test_a_corpus_of_files_that_may_not_be_read_is_wrong_use(ordinary_user: Path, forebear: Callable[..., Any]) -> None:
    closed = write(ordinary_user / "closed.jsonl", plain("closed", 3))
    closed.chmod(0)
    answer = forebear("scan", closed, "--ledger", ordinary_user / "ledger", "--json")
    assert answer.code == 2
    assert "Permission denied" in answer.error["found"]
    assert not (ordinary_user / "ledger").exists()
