"""A run's tables against its manifest: a state machine that is fed one table at a time, without IO.

Always true here: everything is counted and derived again from the log's rows; what cannot be compared because a table could not
be read is left to the finding that says so, and never counts as equal.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Mapping, Sequence
from fractions import Fraction
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from forebear.schemas.canonical import canonical_json
from forebear.schemas.digests import digest_name, is_digest, merkle_root, sha256_name
from forebear.schemas.errors import IntegrityError
from forebear.schemas.records import ObjectRef, RunManifest, run_digest_leaves
from forebear.schemas.tables import FLAGGED
from forebear.tracer.ledger.findings import RESCAN, Findings
from forebear.tracer.ledger.keepers import KeeperCheck
from forebear.tracer.ledger.parts import (
    SpanSummary,
    count_reasons,
    count_sources,
    documents_of,
    flagged_rows,
    part_root,
    run_scope,
    summarise,
)

__all__ = ["RunCheck", "manifest_refs", "require_shape"]

_COUNTS = ("kept", "dropped", "errored")
_FLAGGED_ORDER = [(name, "ascending") for name in ("shard", "row", "detector", "label", "item", "score", "flag")]


def require_shape(manifest: RunManifest) -> None:
    """Check what the types of a manifest only promise, so that nothing later stumbles over them.

    Raises:
        IntegrityError: `malformed_record`.
    """
    by_source: Any = manifest.sources.values() if _is_map(manifest.sources) else [None]
    numbers = all(_is_counts(one) for one in (manifest.rows, manifest.reasons, *by_source))
    # One with no threshold for other sources could not say what it flags.
    detectors = all(
        _is_digest(one.digest)
        and isinstance(one.category, str)
        and _is_map(one.thresholds)
        and "" in one.thresholds
        and all(type(t.flag) is int and -1 <= t.flag <= 1 << 14 for t in one.thresholds.values())
        for one in manifest.detectors
    )
    refs = all(_is_digest(ref.object) and type(ref.bytes) is int and type(ref.rows) is int for ref in manifest_refs(manifest))
    others = _is_map(manifest.policy) and all(isinstance(one, str) for one in (*manifest.against, manifest.run_digest))
    if not (numbers and detectors and refs and others):
        raise IntegrityError(
            "malformed_record",
            expected="a run manifest whose counts, detectors and references are such",
            found="one that has other things in their places",
            remedy="It was written so: ask who wrote it.",
        )


def manifest_refs(manifest: RunManifest) -> list[ObjectRef]:
    """Every object that a manifest refers to."""
    cleaned = [manifest.cleaned] if manifest.cleaned else []
    return [manifest.shards, manifest.flagged, *cleaned, *manifest.log, *manifest.bands]


def _is_map(value: object) -> bool:
    return isinstance(value, Mapping)


def _is_counts(value: object) -> bool:
    return isinstance(value, Mapping) and all(type(n) is int and n >= 0 for n in value.values())


def _is_digest(value: object) -> bool:
    return isinstance(value, str) and is_digest(value)


class RunCheck:
    """One run's tables, fed in any order: `shards`, each `log`, each `bands`, `flagged`, `cleaned`; then `finish`.

    Args:
        run: Digest of the manifest.
        manifest: It, after `require_shape`.
        found: Where findings go.
    """

    def __init__(self, run: str, manifest: RunManifest, found: Findings) -> None:
        self.run = run
        self.manifest = manifest
        self.found = found
        self.keepers = KeeperCheck(run, self._jaccard(), found)
        self.rows = 0
        self._shards: list[dict[str, Any]] | None = None
        self._spans: dict[str, list[tuple[SpanSummary, str, int]]] = {}
        self.lost: set[str] = set()
        self._reasons: Counter[str] = Counter()
        self._sources: dict[str, Counter[str]] = {}
        self._derived: list[pa.Table] = []
        self._flagged: pa.Table | None = None

    def lose(self, ref: ObjectRef) -> None:
        """A table that could not be read: nothing that depends on it is compared."""
        self.lost.add(ref.object)

    def shards(self, table: pa.Table) -> None:
        """The run's `tables.SHARDS`."""
        self._count_rows(self.manifest.shards, table)
        self._shards = table.to_pylist()
        names = [row["shard"] for row in self._shards]
        if any(left >= right for left, right in itertools.pairwise(names)):
            expected = "each shard once, sorted by digest"
            self.found.add(self.manifest.shards.object, "not_sorted", expected=expected, found="another order", remedy=RESCAN)
        self._check_run_digest()

    def log(self, ref: ObjectRef, table: pa.Table) -> None:
        """One log pack."""
        self._count_rows(ref, table)
        self.rows += table.num_rows
        try:
            spans = summarise(table)
            self._derived.append(flagged_rows(table, self.manifest.detectors))
        except IntegrityError as error:
            self.found.add_error(ref.object, error)
            self.lose(ref)
            return
        offset = 0
        for span in spans:
            self._spans.setdefault(span.shard, []).append((span, ref.object, offset))
            offset += span.rows
        self._reasons.update(count_reasons(table))
        for source, counts in count_sources(table).items():
            self._sources.setdefault(source, Counter()).update(counts)
        self._check_reasons(ref, table)
        self.keepers.add(ref.object, table)

    def bands(self, ref: ObjectRef, table: pa.Table) -> None:
        """One band table."""
        self._count_rows(ref, table)
        hashes, positions = table["hash"].to_numpy(), table["position"].to_numpy()
        rising = (hashes[1:] > hashes[:-1]) | ((hashes[1:] == hashes[:-1]) & (positions[1:] >= positions[:-1]))
        if not rising.all():
            self.found.add(ref.object, "not_sorted", expected="bands sorted by hash, then position", found="another order")
        self._check_positions(ref, positions)

    def flagged(self, table: pa.Table) -> None:
        """The run's `tables.FLAGGED`."""
        self._count_rows(self.manifest.flagged, table)
        self._flagged = table

    def cleaned(self, ref: ObjectRef, table: pa.Table) -> None:
        """The run's `tables.CLEANED`."""
        self._count_rows(ref, table)
        if self._shards is None:
            return
        kept = {row["shard"]: row["kept"] for row in self._shards}
        for row in table.to_pylist():
            of = digest_name(row["source"])
            expected = f"{kept.get(row['source'], 0)} rows kept of {of}"
            self.found.compare(ref.object, "not_reconciled", expected=expected, found=f"{row['rows']} rows kept of {of}")

    def finish(self) -> None:
        """Compare what was counted and derived with what the run says."""
        if self._shards is not None:
            self._check_parts(self._shards)
            self._check_strays(self._shards)
        self._check_totals()
        if not self.lost:
            self._check_counts()
            self._check_flagged()

    def packs_of(self, shards: set[str]) -> list[str]:
        """The log packs that hold rows of some shards."""
        return sorted({pack for shard in shards for _, pack, _ in self._spans.get(shard, [])})

    def _jaccard(self) -> Fraction | None:
        duplicates = self.manifest.policy.get("duplicates")
        text = duplicates.get("jaccard") if isinstance(duplicates, Mapping) else None
        if text is None:
            return None
        try:
            return Fraction(str(text)[:40])
        except (ValueError, ZeroDivisionError):
            self.found.add(self.run, "malformed_record", expected="policy duplicates.jaccard as a decimal", found=repr(text))
            return None

    def _count_rows(self, ref: ObjectRef, table: pa.Table) -> None:
        self.found.compare(ref.object, "not_reconciled", expected=f"{ref.rows} rows", found=f"{table.num_rows} rows")

    def _check_run_digest(self) -> None:
        listed = [(digest_name(row["shard"]), row["source"], row["rows"], digest_name(row["log_digest"])) for row in self._shards or ()]
        root = digest_name(merkle_root(run_digest_leaves(scope=run_scope(self.manifest), shards=listed)))
        self.found.compare(self.run, "run_digest_mismatch", expected=self.manifest.run_digest, found=root)
        policy = sha256_name(canonical_json(self.manifest.policy))
        self.found.compare(self.run, "policy_digest_mismatch", expected=self.manifest.policy_digest, found=policy)

    def _check_reasons(self, ref: ObjectRef, table: pa.Table) -> None:
        silent = pc.and_(pc.not_equal(table["action"], "keep"), pc.equal(pc.list_value_length(table["reasons"]), 0))
        if count := pc.sum(silent).as_py():
            self.found.add(ref.object, "reason_missing", expected="a reason for every row not kept", found=f"{count} rows without")

    def _check_positions(self, ref: ObjectRef, positions: np.ndarray[Any, Any]) -> None:
        if self._shards is None or not len(positions):
            return
        places = [place for row in self._shards for place in row["bands"] if digest_name(place["pack"]) == ref.object]
        end = max((place["offset"] + place["rows"] for place in places), default=0)
        if positions.max() >= end:
            # A pack that an earlier scan made may hold rows of shards that are not in this run.
            self.found.note(
                ref.object,
                "rows_of_other_shards",
                expected=f"positions below {end}, which the run's shards take up",
                found=f"position {positions.max()}",
            )

    def _check_parts(self, shards: Sequence[Mapping[str, Any]]) -> None:
        for row in shards:
            places = [(digest_name(one["pack"]), one["offset"], one["first_row"], one["rows"]) for one in row["log"]]
            if any(pack in self.lost for pack, *_ in places):
                continue
            name = digest_name(row["shard"])
            spans = sorted(self._spans.get(name, []), key=lambda one: one[0].first_row)
            here = [(pack, offset, span.first_row, span.rows) for span, pack, offset in spans]
            self.found.compare(name, "log_place_mismatch", expected=places, found=here)
            self._check_part(name, row, [span for span, _, _ in spans])
            self._check_band_places(name, row)

    def _check_part(self, name: str, row: Mapping[str, Any], spans: Sequence[SpanSummary]) -> None:
        try:
            log_digest, documents = digest_name(part_root(spans)), digest_name(documents_of(spans))
        except IntegrityError as error:
            self.found.add_error(name, error)
            return
        self.found.compare(name, "log_digest_mismatch", expected=digest_name(row["log_digest"]), found=log_digest)
        self.found.compare(name, "documents_digest_mismatch", expected=digest_name(row["documents_digest"]), found=documents)
        counted = {"rows": sum(span.rows for span in spans)} | {count: sum(getattr(span, count) for span in spans) for count in _COUNTS}
        self.found.compare(name, "not_reconciled", expected={count: row[count] for count in counted}, found=counted)

    def _check_band_places(self, name: str, row: Mapping[str, Any]) -> None:
        places = [(one["first_row"], one["rows"]) for one in row["bands"]]
        if not places:
            return
        known = {ref.object for ref in self.manifest.bands}
        if any(digest_name(one["pack"]) not in known for one in row["bands"]):
            self.found.add(name, "not_reconciled", expected="its bands in tables that the manifest lists", found="another table")
        ends = itertools.accumulate((rows for _, rows in places), initial=0)
        covered = [first for first, _ in places] == list(ends)[:-1] and sum(rows for _, rows in places) == row["rows"]
        if not covered:
            self.found.add(name, "not_reconciled", expected=f"bands of rows 0 to {row['rows']}", found=str(places)[:200])

    def _check_strays(self, shards: Sequence[Mapping[str, Any]]) -> None:
        strays = sorted(self._spans.keys() - {digest_name(row["shard"]) for row in shards})
        for name in strays[:5]:
            self.found.add(
                self.run,
                "not_reconciled",
                expected="rows of the run's shards alone in its log",
                found=f"rows of {name}, one of {len(strays)} others",
            )

    def _check_totals(self) -> None:
        rows = self.manifest.rows
        counted = {name: rows.get(name, 0) for name in ("in", *_COUNTS)}
        parts = sum(counted[name] for name in _COUNTS)
        self.found.compare(self.run, "not_reconciled", expected=f"{counted['in']} rows in", found=f"{parts} rows in")
        if self._shards is not None:
            listed = {"in": sum(row["rows"] for row in self._shards)}
            listed |= {name: sum(row[name] for row in self._shards) for name in _COUNTS}
            self.found.compare(self.run, "not_reconciled", expected=counted, found=listed)
            for row in self._shards:
                whole = sum(row[name] for name in _COUNTS)
                self.found.compare(digest_name(row["shard"]), "not_reconciled", expected=f"{row['rows']} rows", found=f"{whole} rows")

    def _check_counts(self) -> None:
        manifest = self.manifest
        self.found.compare(self.run, "not_reconciled", expected=f"{manifest.rows.get('in')} rows", found=f"{self.rows} rows")
        self.found.compare(self.run, "not_reconciled", expected=dict(manifest.reasons), found=dict(self._reasons))
        sources = {source: dict(counts) for source, counts in self._sources.items()}
        self.found.compare(self.run, "not_reconciled", expected={s: dict(counts) for s, counts in manifest.sources.items()}, found=sources)

    def _check_flagged(self) -> None:
        if self._flagged is None:
            return
        derived = pa.concat_tables([FLAGGED.empty_table(), *self._derived]).sort_by(_FLAGGED_ORDER)
        stored = self._flagged.sort_by(_FLAGGED_ORDER)
        if not stored.equals(derived):
            self.found.add(
                self.manifest.flagged.object,
                "flagged_mismatch",
                expected=f"the {derived.num_rows} rows that follow from the log",
                found=f"{stored.num_rows} rows, and not those",
            )
