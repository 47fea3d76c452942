"""What a run's entry says of its run, so that a proof need not carry the whole manifest.

Always true here: each fact follows from the manifest alone, and `verify` compares them; a head commits to the entry's bytes, and so
to these facts.
"""

from __future__ import annotations

from collections.abc import Iterator

import pyarrow as pa

from forebear.schemas.canonical import canonical_json
from forebear.schemas.digests import digest_name, leaf_hash, merkle_root
from forebear.schemas.records import RunManifest
from forebear.tracer.ledger.absence import absence_root
from forebear.tracer.ledger.ledger import Ledger
from forebear.tracer.ledger.reconcile import manifest_refs

__all__ = ["documents_of_run", "object_leaves", "run_absence_root", "run_facts"]


def run_facts(manifest: RunManifest) -> dict[str, str]:
    """The facts that proofs rest on: `run_digest`, `objects_root` and, where there is one, `absence_root`."""
    facts = {"run_digest": manifest.run_digest, "objects_root": digest_name(merkle_root(map(leaf_hash, object_leaves(manifest))))}
    return facts if manifest.absence_root is None else {**facts, "absence_root": manifest.absence_root}


def object_leaves(manifest: RunManifest) -> list[bytes]:
    """The leaves of `objects_root`: canonical JSON of [object, bytes] of all that a manifest refers to, each once, sorted."""
    return [canonical_json(list(one)) for one in sorted({(ref.object, ref.bytes) for ref in manifest_refs(manifest)})]


def documents_of_run(ledger: Ledger, manifest: RunManifest) -> Iterator[pa.ChunkedArray]:
    """The `document` column of each log pack."""
    for ref in manifest.log:
        yield ledger.read_log(ref.object, columns=["document"])["document"]


def run_absence_root(ledger: Ledger, manifest: RunManifest) -> bytes:
    """The root of the tree over a run's documents, from its log."""
    return absence_root(lambda: documents_of_run(ledger, manifest), manifest.rows["in"])
