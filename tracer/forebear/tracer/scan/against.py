"""Earlier runs that a scan is held against: what they kept precedes every document of the scan.

Always true here: an earlier run is taken as its log says, under the digest that names it; its band tables are read as they are;
its texts are read again only where one of them has a candidate. Its documents are never judged anew and always stay.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from forebear.schemas.digests import digest_name
from forebear.schemas.enums import Action
from forebear.schemas.errors import UsageError
from forebear.schemas.records import ObjectRef, RunManifest
from forebear.schemas.tables import DIGEST, LOG, SHARDS
from forebear.tracer.corpus.inputs import ReaderOptions
from forebear.tracer.dedupe.signatures import SignatureOptions
from forebear.tracer.ledger.ledger import Ledger
from forebear.tracer.scan.packs import ABSENT, ROSTER, SURVIVES, Pack, Shard, Span

__all__ = ["EarlierPack", "earlier_packs", "earlier_reader", "earlier_roster", "find_earlier"]


def find_earlier(ledger: Ledger, names: Sequence[str], signature: SignatureOptions | None) -> tuple[tuple[str, str], ...]:
    """The runs that names stand for, as sorted (run digest, manifest's digest); the same run twice counts once.

    Raises:
        UsageError: There is no such run, or its band tables say nothing of the documents of this scan.
    """
    found: dict[str, str] = {}
    for name in names:
        _, digest, manifest = ledger.find_run(name)
        _require_comparable(name, manifest, signature)
        found[manifest.run_digest] = digest
    return tuple(sorted(found.items()))


def _require_comparable(name: str, manifest: RunManifest, signature: SignatureOptions | None) -> None:
    if signature is None:
        raise UsageError(
            "nothing_compared",
            expected="a policy that looks for duplicates, where a scan is held against earlier runs",
            found='duplicates.action = "off"',
            remedy="Leave --against out, or let the policy look for duplicates.",
        )
    if manifest.signature is None or dict(manifest.signature) != signature.to_json():
        raise UsageError(
            "other_signature",
            expected=f"run {name} to be signed as this scan is: {json.dumps(signature.to_json(), sort_keys=True)}",
            found=json.dumps(manifest.signature and dict(manifest.signature), sort_keys=True),
            remedy="Use the same ngram, characters, bands, rows and seed, or scan the earlier corpus once more under this policy.",
        )


@dataclass(frozen=True)
class EarlierPack:
    """One band table of an earlier run, with the places of its rows' log: (object, offset, shard, first row, rows)."""

    pack: Pack
    log: tuple[tuple[str, int, str, int, int], ...]

    def to_json(self) -> str:
        """As it travels between steps."""
        return json.dumps([self.pack.to_json(), self.log])

    @classmethod
    def from_json(cls, text: str) -> EarlierPack:
        """The reference again."""
        pack, log = json.loads(text)
        return cls(Pack.from_json(pack), tuple((*place[:4], place[4]) for place in log))


def earlier_packs(run: str, ledger: Ledger) -> list[EarlierPack]:
    """The band tables of an earlier run, whose numbering of rows they keep."""
    manifest = ledger.manifest(run)
    shards = ledger.read_table(manifest.shards.object, SHARDS).to_pylist()
    by_table: dict[bytes, list[dict[str, Any]]] = {}
    for shard in shards:
        for table in {place["pack"] for place in shard["bands"]}:
            by_table.setdefault(table, []).append(shard)
    tables = {ref.object: ref for ref in manifest.bands}
    return [_earlier_pack(run, tables[digest_name(table)], held) for table, held in sorted(by_table.items())]


def _earlier_pack(run: str, table: ObjectRef, shards: Sequence[dict[str, Any]]) -> EarlierPack:
    spans, used, log = [], [], []
    for shard in shards:
        name = digest_name(shard["shard"])
        used.append(Shard(name, tuple(shard["paths"]), shard["bytes"], shard["format"]))
        mine = [place for place in shard["bands"] if digest_name(place["pack"]) == table.object]
        spans += [Span(name, place["first_row"], place["rows"], place["offset"]) for place in mine]
        log += [
            (digest_name(place["pack"]), place["offset"], name, place["first_row"], place["rows"])
            for place in shard["log"]
            if place["first_row"] in {one["first_row"] for one in mine}
        ]
    pack = Pack(
        name=hashlib.sha256(f"{run} {table.object}".encode()).hexdigest(),
        evidence="",
        key="",
        positions=max((span.offset + span.rows for span in spans), default=0),
        spans=tuple(sorted(spans, key=lambda span: span.offset)),
        ends={},
        bands=table,
        used=tuple(used),
        reused=True,
        earlier=run,
    )
    return EarlierPack(pack, tuple(sorted(log)))


def earlier_reader(run: str, ledger: Ledger) -> ReaderOptions:
    """How the sources of an earlier run were read."""
    given = ledger.manifest(run).reader
    default = ReaderOptions()
    return ReaderOptions(given["text_field"], given["id_field"], given["source_field"] or default.source_field, given["source"])


def earlier_roster(earlier: EarlierPack, ledger: Ledger) -> pa.Table:
    """The roster of an earlier pack, from the log: what was kept and has a token stands before every document of this run."""
    n = earlier.pack.positions
    size, state, document = np.zeros(n, "i8"), np.full(n, ABSENT, "u1"), np.zeros((n, 32), "u1")
    offsets = {(span.shard, span.first_row): span.offset for span in earlier.pack.spans}
    for rows, name, first_row in _log_rows(earlier, ledger):
        at = slice(offsets[name, first_row], offsets[name, first_row] + rows.num_rows)
        kept = pc.and_(pc.equal(rows["action"], Action.KEEP.value), pc.greater(rows["words"], 0))
        size[at] = rows["bytes"].fill_null(0).to_numpy()
        state[at] = np.where(kept.fill_null(False).to_numpy(), SURVIVES, ABSENT)
        raw = rows["document"].combine_chunks().fill_null(bytes(32))
        document[at] = np.frombuffer(b"".join(raw.to_pylist()), "u1").reshape(-1, 32)
    columns = [
        pa.Array.from_buffers(DIGEST, n, [None, pa.py_buffer(document.tobytes())]),
        pa.array(size),
        pa.array(np.full(n, -1, "i8")),
        pa.array(np.full(n, -1, "i4")),
        pa.array(state),
    ]
    return pa.table(columns, schema=ROSTER)


def _log_rows(earlier: EarlierPack, ledger: Ledger) -> Iterator[tuple[pa.Table, str, int]]:
    """(rows, shard, first row) of every place of the log; one object is held at a time."""
    held, table = "", LOG.empty_table()
    for name, offset, shard, first_row, rows in earlier.log:
        if name != held:
            held, table = name, ledger.read_log(name, columns=["document", "bytes", "words", "action"])
        yield table.slice(offset, rows), shard, first_row
