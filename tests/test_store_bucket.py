"""A bucket as a store, against a small S3 on loopback: conditional creation, listing, outages, and the same ledger as in a folder."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit

import pytest
from world import add_record, make_ledger

from forebear.schemas.errors import IntegrityError, UsageError
from forebear.tracer.ledger.ledger import Ledger
from forebear.tracer.ledger.store import Store
from forebear.tracer.ledger.verify import verify


class S3(ThreadingHTTPServer):
    """As much of S3 as a ledger needs: PUT with If-None-Match, GET with Range, HEAD, DELETE, ListObjectsV2 in pages."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.objects: dict[str, bytes] = {}
        self.lock = threading.Lock()
        self.broken_until = 0.0
        self.denied = False
        self.refused = 0
        self.page = 1000


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: S3

    def answer(self, code: int, body: bytes = b"", **headers: str) -> None:
        self.send_response(code)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        if "Content_Length" not in headers:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def is_out(self) -> bool:
        if self.server.denied:
            self.answer(403, b"<Error><Code>AccessDenied</Code></Error>")
        elif time.monotonic() < self.server.broken_until:
            self.server.refused += 1
            self.answer(503, b"<Error><Code>SlowDown</Code></Error>")
        else:
            return False
        return True

    @property
    def key(self) -> str:
        return unquote(urlsplit(self.path).path).split("/", 2)[2]

    def do_PUT(self) -> None:
        data = self.rfile.read(int(self.headers["Content-Length"]))
        if self.is_out():
            return
        with self.server.lock:
            taken = self.headers.get("If-None-Match") == "*" and self.key in self.server.objects
            if not taken:
                self.server.objects[self.key] = data
        if taken:
            self.answer(412, b"<Error><Code>PreconditionFailed</Code></Error>")
        else:
            self.answer(200, ETag='"x"')

    def do_DELETE(self) -> None:
        with self.server.lock:
            self.server.objects.pop(self.key, None)
        self.answer(204)

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"])).decode()
        keys = re.findall("<Key>(.*?)</Key>", body)
        with self.server.lock:
            for key in keys:
                self.server.objects.pop(key, None)
        gone = "".join(f"<Deleted><Key>{key}</Key></Deleted>" for key in keys)
        self.answer(200, f"<DeleteResult>{gone}</DeleteResult>".encode())

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        if self.is_out():
            return
        if "list-type" in self.path:
            self.answer(200, self.listing(parse_qs(urlsplit(self.path).query)))
            return
        data = self.server.objects.get(self.key)
        stamp = {"Last_Modified": "Tue, 03 Nov 2026 10:00:00 GMT", "ETag": '"x"'}
        asked = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", ""))
        if data is None:
            self.answer(404, b"<Error><Code>NoSuchKey</Code></Error>")
        elif asked and int(asked[1]) >= len(data):
            self.answer(416, b"<Error><Code>InvalidRange</Code></Error>")
        elif asked:
            start, stop = int(asked[1]), min(int(asked[2]) + 1, len(data))
            self.answer(206, data[start:stop], Content_Range=f"bytes {start}-{stop - 1}/{len(data)}", **stamp)
        else:
            self.answer(200, data, Content_Length=str(len(data)), **stamp)

    def listing(self, query: dict[str, list[str]]) -> bytes:
        prefix, after = query.get("prefix", [""])[0], query.get("continuation-token", query.get("start-after", [""]))[0]
        with self.server.lock:
            keys = sorted(key for key in self.server.objects if key.startswith(prefix) and key > after)
        folders: list[str] = []
        if "delimiter" in query:
            folders = sorted({prefix + key[len(prefix) :].split("/")[0] + "/" for key in keys if "/" in key[len(prefix) :]})
            keys = [key for key in keys if "/" not in key[len(prefix) :]]
        page = keys[: self.server.page]
        items = "".join(
            f"<Contents><Key>{key}</Key><LastModified>2026-11-03T10:00:00.000Z</LastModified><ETag>x</ETag>"
            f"<Size>{len(self.server.objects[key])}</Size></Contents>"
            for key in page
        )
        items += "".join(f"<CommonPrefixes><Prefix>{name}</Prefix></CommonPrefixes>" for name in folders)
        more = f"<NextContinuationToken>{page[-1]}</NextContinuationToken>" if len(keys) > len(page) else ""
        cut = "true" if more else "false"
        return f"<ListBucketResult><IsTruncated>{cut}</IsTruncated>{more}{items}</ListBucketResult>".encode()

    def log_message(self, *args: object) -> None:
        return


@pytest.fixture
def s3(monkeypatch: pytest.MonkeyPatch) -> Iterator[S3]:
    server = S3()
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{server.server_address[1]}")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    monkeypatch.setenv("AWS_REGION", "us-east-1")
    yield server
    server.shutdown()
    server.server_close()


URL = "s3://bucket/some/ledger"


def test_verbs_mean_the_same_as_in_a_folder(s3: S3) -> None:
    s3.page = 3
    store = Store.open(URL, create=True)
    assert store.put_new("objects/x", b"0123456789")
    assert not store.put_new("objects/x", b"other")
    assert store.get("objects/x") == b"0123456789"
    assert store.get_range("objects/x", 8, 10) == b"89"
    assert store.get_range("objects/x", 10, 1) == b""
    assert store.put_new("objects/empty", b"")
    assert store.get_range("objects/empty", 0, 5) == b""
    assert (store.size("objects/x"), store.size("objects/y")) == (10, None)
    for n in range(7):
        store.put(f"jobs/{n}", b"")
    store.put("head", b"h")
    store.delete("jobs/3")
    store.delete("jobs/3")
    assert store.list("jobs") == [(f"jobs/{n}", 0) for n in (0, 1, 2, 4, 5, 6)]
    assert store.names() == ["head", "jobs/", "objects/"]
    assert store.local_path("head") is None
    assert sorted(s3.objects)[0] == "some/ledger/head"
    with pytest.raises(IntegrityError) as caught:
        store.get("objects/none")
    assert caught.value.kind == "object_missing"


def test_a_ledger_in_a_bucket_has_the_same_objects_and_head_as_one_in_a_folder(s3: S3, tmp_path: Path) -> None:
    there, here = make_ledger(URL, packs=2, clean=True), make_ledger(tmp_path / "l", packs=2, clean=True)
    assert (there.run, there.manifest) == (here.run, here.manifest)
    assert there.ledger.head() == here.ledger.head()
    assert there.ledger.store.list("") == here.ledger.store.list("")
    assert verify(Ledger.open(URL), level="full").findings == ()


def test_eight_writers_at_once_all_land(s3: S3) -> None:
    def write(writer: int) -> None:
        ledger = Ledger.open(URL, create=True)
        for n in range(2):
            add_record(ledger, {"writer": writer, "n": n})

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(write, range(8)))
    ledger = Ledger.open(URL)
    assert len({entry.object for _, _, entry in ledger.entries()}) == len(ledger.entries()) == 16
    assert ledger.stored_head() == ledger.head()
    assert verify(ledger, level="full").notes == ()


def test_an_outage_of_three_seconds_passes_unnoticed(s3: S3) -> None:
    ledger = Ledger.open(URL, create=True)
    s3.broken_until = time.monotonic() + 3
    add_record(ledger, {"n": 1})
    assert s3.refused > 1
    assert len(ledger.entries()) == 1


def test_an_entry_whose_answer_was_lost_is_not_written_twice(s3: S3, monkeypatch: pytest.MonkeyPatch) -> None:
    ledger = Ledger.open(URL, create=True)
    put_new = Store.put_new

    def lossy(self: Store, path: str, data: bytes) -> bool:
        return put_new(self, path, data) and not path.startswith("entries/")

    monkeypatch.setattr(Store, "put_new", lossy)
    add_record(ledger, {"n": 1})
    assert [key for key in s3.objects if "/entries/" in key] == ["some/ledger/entries/000000000000"]


def test_a_bucket_that_denies_is_wrong_use_with_a_remedy(s3: S3) -> None:
    s3.denied = True
    with pytest.raises(UsageError) as caught:
        Ledger.open(URL, create=True)
    assert caught.value.kind == "not_permitted"


def test_a_prefix_that_holds_other_things_is_refused(s3: S3) -> None:
    s3.objects["some/ledger/photo.jpg"] = b"x"
    s3.objects["some/elsewhere"] = b"x"
    with pytest.raises(UsageError) as caught:
        Ledger.open(URL, create=True)
    assert caught.value.kind == "not_a_ledger"
    with pytest.raises(UsageError) as caught:
        Ledger.open("s3://bucket/new")
    assert caught.value.kind == "no_ledger"
