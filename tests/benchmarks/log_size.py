"""Bytes a document: of the log, the evidence and the band table, and of the ledger as a whole.

Run: `python tests/benchmarks/log_size.py [--documents 20000] [--shards 4]`. One scan with the default policy of documents of about
2.3 kB made of real sentences, with ids such as `3-1499` and one source. The log is what is kept for ever; evidence is a cache under
`index/`, band tables are objects that later runs read.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sysconfig
import tempfile
from pathlib import Path

import pyarrow.parquet as pq
from scan_corpus import make_corpus

from forebear.schemas.records import ObjectRef
from forebear.tracer.ledger.ledger import Ledger


def size(refs: tuple[ObjectRef, ...]) -> int:
    """Bytes of some objects."""
    return sum(ref.bytes for ref in refs)


def columns(ledger: Ledger, refs: tuple[ObjectRef, ...]) -> dict[str, int]:
    """Compressed bytes of each column of the log."""
    total: dict[str, int] = {}
    for ref in refs:
        meta = pq.ParquetFile(_open(ledger, ref)).metadata
        for group in range(meta.num_row_groups):
            for n in range(meta.num_columns):
                column = meta.row_group(group).column(n)
                name = column.path_in_schema.replace(".list.element", "")
                total[name] = total.get(name, 0) + column.total_compressed_size
    return total


def _open(ledger: Ledger, ref: ObjectRef) -> Path:
    name = ref.object.removeprefix("sha256:")
    path = ledger.store.local_path(f"objects/sha256/{name[:2]}/{name}")
    assert path is not None
    return path


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()) / "forebear-benchmarks")
    parser.add_argument("--documents", type=int, default=20_000)
    parser.add_argument("--shards", type=int, default=4)
    given = parser.parse_args()
    corpus = make_corpus(given.folder, documents=given.documents, shards=given.shards)
    with tempfile.TemporaryDirectory() as work:
        place = str(Path(work) / "ledger")
        command = [str(Path(sysconfig.get_path("scripts")) / "forebear"), "scan", str(corpus), "--ledger", place, "--json"]
        rows = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)["rows"]["in"]
        ledger = Ledger.open(place)
        _, _, manifest = ledger.runs()[-1]
        files = [path for path in Path(place).rglob("*") if path.is_file()]
        evidence = sum(path.stat().st_size for path in files if path.relative_to(place).parts[:2] == ("index", "evidence"))
        parts = {
            "log": size(manifest.log),
            "band tables": size(manifest.bands),
            "evidence (cache)": evidence,
            "flagged rows, shards": size((manifest.flagged, manifest.shards)),
            "ledger, all files": sum(path.stat().st_size for path in files),
        }
        print(f"{rows:,} rows in {given.shards} shards")
        for name, count in parts.items():
            print(f"{name:24} {count / rows:8.1f} bytes a document")
        print("the log's columns:")
        for name, count in sorted(columns(ledger, manifest.log).items(), key=lambda one: -one[1])[:8]:
            print(f"  {name:22} {count / rows:8.1f}")


if __name__ == "__main__":
    main()
