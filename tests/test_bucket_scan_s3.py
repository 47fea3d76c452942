"""A corpus and a ledger in a bucket: scan, link, trace and verify against a real S3 server, and through an outage of ten seconds."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from buckets import MinIO
from scanning import write_jsonl

from forebear.tracer.ledger.bucket import Bucket

pytestmark = pytest.mark.engine

FOREBEAR = str(Path(sys.executable).parent / "forebear")
BAD = "you are a stupid fucking idiot and everyone hates you, shut the fuck up you worthless piece of shit"


def documents(count: int) -> list[dict[str, str]]:
    made = [{"id": str(n), "text": " ".join(f"w{n}x{k}" for k in range(40))} for n in range(count)]
    made += [{"id": f"copy-{n}", "text": made[n]["text"]} for n in range(0, count, 7)]
    made += [{"id": f"near-{n}", "text": made[n]["text"] + " more"} for n in range(1, count, 7)]
    return [*made, {"id": "bad", "text": BAD}]


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    minio = MinIO(tmp_path_factory.mktemp("minio"))
    minio.start()
    yield minio
    minio.stop()


@pytest.fixture(scope="module")
def world(server, tmp_path_factory):
    """The same corpus on disk and in the bucket, and the run digest of the one on disk."""
    folder = tmp_path_factory.mktemp("corpus")
    rows = documents(2000)
    patch = pytest.MonkeyPatch()
    for name, value in server.environment.items():
        patch.setenv(name, value)
    bucket = Bucket("s3://bucket/corpus")
    for n in range(6):
        path = write_jsonl(folder / "in" / f"{n}.jsonl", rows[n::6])
        bucket.replace(path.name, path.read_bytes(), durable=True)
    patch.undo()
    return folder, forebear("scan", str(folder / "in"), "--ledger", str(folder / "ledger"))["run_digest"]


def forebear(*arguments: str, server: MinIO | None = None, ok: tuple[int, ...] = (0, 1)) -> Any:
    """The command's JSON answer."""
    environment = {**os.environ, **(server.environment if server else {})}
    done = subprocess.run([FOREBEAR, *arguments, "--json"], env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode in ok, done.stderr[-3000:]
    return json.loads(done.stdout)


def test_scan_link_trace_and_verify_with_corpus_and_ledger_in_a_bucket(server, world, tmp_path):
    _, expected = world
    ledger = "s3://bucket/ledger"
    scanned = forebear("scan", "s3://bucket/corpus", "--ledger", ledger, "--workers", "2", server=server)
    assert scanned["run_digest"] == expected
    assert scanned["incomplete"] == []
    digests = [row[0] for row in sql("SELECT shard FROM audit.shard", ledger, server)]
    record = {
        "models": [{"name": "acme/base", "ancestry": "closed", "trained_on": [{"dataset": "acme/web", "stage": "pretrain"}]}],
        "datasets": [{"name": "acme/web", "ancestry": "closed", "shards": digests}],
    }
    (tmp_path / "record.json").write_text(json.dumps(record))
    forebear("link", str(tmp_path / "record.json"), "--ledger", ledger, server=server)
    traced = forebear("trace", "acme/base", "--ledger", ledger, server=server)
    assert (traced["verdict"], traced["exposures"][0]["documents"]) == ("direct", 1)
    verified = forebear("verify", "--full", "--ledger", ledger, server=server, ok=(0,))
    assert verified["ok"]
    assert verified["checked"]["rows"] == scanned["rows"]["in"]
    again = forebear("scan", "s3://bucket/corpus", "--ledger", ledger, server=server)
    assert (again["run_digest"], again["reused"]["shards"]) == (expected, 6)


def sql(query: str, ledger: str, server: MinIO) -> list[list[Any]]:
    rows = forebear("sql", query, "--ledger", ledger, server=server)["rows"]
    return [list(row.values()) for row in rows]


def test_an_outage_of_ten_seconds_in_the_middle_passes_unnoticed(server, world):
    folder, expected = world
    arguments = ["scan", str(folder / "in"), "--ledger", "s3://bucket/outage", "--work-dir", "s3://bucket/outage-work", "--json"]
    environment = {**os.environ, **server.environment}
    with subprocess.Popen([FOREBEAR, *arguments], env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as scan:
        try:
            for _ in range(600):
                if any((server.folder / "data" / "bucket").glob("outage/jobs/*/started/*")):
                    break
                assert scan.poll() is None, scan.stderr.read().decode()[-3000:]
                time.sleep(0.05)
            server.stop()
            time.sleep(10)
            assert scan.poll() is None, "the scan ended while its ledger was away"
        finally:
            server.start()
        out, err = scan.communicate(timeout=300)
    assert scan.returncode in (0, 1), err.decode()[-3000:]
    assert json.loads(out)["run_digest"] == expected
    assert forebear("verify", "--full", "--ledger", "s3://bucket/outage", server=server, ok=(0,))["ok"]
