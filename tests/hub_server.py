"""A stand-in of the Hugging Face hub on loopback: one data set at one commit, its API and its files, with ranges."""

from __future__ import annotations

import hashlib
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, unquote, urlsplit

__all__ = ["COMMIT", "Hub", "hub"]

COMMIT = "0123456789abcdef0123456789abcdef01234567"


class Hub(ThreadingHTTPServer):
    """Files by path of the data set `acme/web`; those over 200 bytes are told with their SHA-256, as the hub does of large ones."""

    daemon_threads = True

    def __init__(self, files: dict[str, bytes]) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.files = files
        self.asked: list[str] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def facts(self, path: str) -> dict[str, object]:
        data = self.files[path]
        sha256 = hashlib.sha256(data).hexdigest()
        lfs = {"oid": sha256, "sha256": sha256, "size": len(data), "pointerSize": 130}
        return {"type": "file", "path": path, "rfilename": path, "size": len(data), "oid": sha256[:40]} | (
            {"lfs": lfs} if len(data) > 200 else {}
        )


class _Handler(BaseHTTPRequestHandler):
    server: Hub
    protocol_version = "HTTP/1.1"

    def answer(self, code: int, body: bytes = b"", **headers: str) -> None:
        self.send_response(code)
        for name, value in {"Content-Length": str(len(body)), "X-Repo-Commit": COMMIT, **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def tell(self, value: object) -> None:
        self.answer(200, json.dumps(value).encode(), Content_Type="application/json")

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"])).decode()
        paths = json.loads(body)["paths"] if body.startswith("{") else parse_qs(body)["paths"]
        found = [self.server.facts(path) for path in paths if path in self.server.files]
        folders = [p for p in paths if p not in self.server.files and any(name.startswith(f"{p}/") for name in self.server.files)]
        self.tell(found + [{"type": "directory", "path": path, "oid": "0" * 40} for path in folders])

    def do_GET(self) -> None:
        path = unquote(urlsplit(self.path).path)
        self.server.asked.append(path)
        if found := re.fullmatch(r"/api/datasets/acme/web(?:/revision/([^/]+))?", path):
            if found[1] not in (None, "main", "v1", COMMIT):
                self.answer(404, b'{"error": "Revision Not Found"}', X_Error_Code="RevisionNotFound")
                return
            siblings = [self.server.facts(name) for name in sorted(self.server.files)]
            self.tell({"id": "acme/web", "sha": COMMIT, "siblings": siblings, "private": False, "tags": []})
        elif path.startswith(f"/api/datasets/acme/web/tree/{COMMIT}"):
            below = path.removeprefix(f"/api/datasets/acme/web/tree/{COMMIT}").strip("/")
            self.tell([self.server.facts(name) for name in sorted(self.server.files) if name.startswith(below)])
        elif found := re.fullmatch(rf"/datasets/acme/web/resolve/{COMMIT}/(.+)", path):
            self.file(self.server.files[found[1]])
        else:
            self.answer(404, b'{"error": "Repository not found"}', X_Error_Code="RepoNotFound")

    def file(self, data: bytes) -> None:
        asked = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        etag = {"ETag": f'"{hashlib.sha256(data).hexdigest()}"', "Accept_Ranges": "bytes"}
        if asked is None:
            self.answer(200, data, **etag)
            return
        start, stop = int(asked[1]), min(int(asked[2] or len(data) - 1), len(data) - 1)
        self.answer(206, data[start : stop + 1], Content_Range=f"bytes {start}-{stop}/{len(data)}", **etag)

    def log_message(self, *args: object) -> None:
        return


@contextmanager
def hub(files: dict[str, bytes]) -> Iterator[Hub]:
    """The server, while the block runs."""
    server = Hub(files)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
