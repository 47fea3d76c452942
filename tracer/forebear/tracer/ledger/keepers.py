"""Removed duplicates against their keepers: each names a row that was kept, with the similarity that the policy asks for.

Always true here: one log pack is looked at at a time; what is remembered between packs is some thirty bytes for each keeper.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from forebear.schemas.digests import digest_name
from forebear.schemas.enums import Action, Reason
from forebear.tracer.ledger.findings import RESCAN, Findings
from forebear.tracer.ledger.parts import raw_digests

__all__ = ["KEEPER_COLUMNS", "KeeperCheck"]

KEEPER_COLUMNS = ["shard", "row", "document", "action"]
"""The columns of a log pack that `KeeperCheck.resolve` needs."""

_DUPLICATE = pa.array([Reason.EXACT_DUPLICATE.value, Reason.NEAR_DUPLICATE.value])
_NAMED = 5  # unresolved keepers that are named each; the others are counted

Ints = npt.NDArray[np.int64]
Documents = npt.NDArray[np.uint64]  # the first 16 bytes of a digest as two words: enough to tell documents apart


@dataclass
class _Wanted:
    """Keeper rows of one shard: row, document, and whether the row was found kept."""

    rows: Ints
    documents: Documents
    resolved: npt.NDArray[np.bool_]


@dataclass
class KeeperCheck:
    """The keepers that a run's log names.

    Args:
        run: Digest of the run's manifest, for messages.
        jaccard: The least similarity of a duplicate with its keeper; None: any.
        found: Where findings go.
    """

    run: str
    jaccard: Fraction | None
    found: Findings
    _parts: dict[bytes, list[tuple[Ints, Documents]]] = field(default_factory=dict)
    _wanted: dict[bytes, _Wanted] = field(default_factory=dict)

    def add(self, pack: str, log: pa.Table) -> None:
        """Note the keepers that a log pack names, and check what it says of their similarity."""
        named = log["keeper_document"].is_valid()
        self._check_named(pack, log, named)
        duplicates = log.select(["document", "keeper_document", "keeper_shard", "keeper_row", "intersection", "union_size"]).filter(named)
        if not duplicates.num_rows:
            return
        if duplicates["keeper_shard"].null_count or duplicates["keeper_row"].null_count:
            self._unnamed(pack, duplicates["keeper_shard"].null_count + duplicates["keeper_row"].null_count)
            return
        self._check_similarity(pack, duplicates)
        shards = np.ascontiguousarray(raw_digests(duplicates["keeper_shard"])).view("S32").ravel()
        rows = duplicates["keeper_row"].to_numpy()
        documents = _words(duplicates["keeper_document"])
        order = np.lexsort((rows, shards))
        starts = np.flatnonzero(np.concatenate([[True], shards[order][1:] != shards[order][:-1]]))
        for mine in np.split(order, starts[1:]):
            name = shards[mine[:1]].tobytes()
            self._parts.setdefault(name, []).append((rows[mine], documents[mine]))

    def shards(self) -> set[str]:
        """The shards in which keepers are still to be found."""
        self._gather()
        return {digest_name(name) for name, wanted in self._wanted.items() if not wanted.resolved.all()}

    def resolve(self, log: pa.Table) -> None:
        """Find keepers among the rows of a log pack (`KEEPER_COLUMNS`), of this run or one it ran against."""
        self._gather()
        if not log.num_rows:
            return
        shards = np.ascontiguousarray(raw_digests(log["shard"])).view("S32").ravel()
        rows, documents = log["row"].to_numpy(), _words(log["document"])
        kept = pc.equal(log["action"], Action.KEEP.value).to_numpy()
        starts = np.flatnonzero(np.concatenate([[True], shards[1:] != shards[:-1]])).tolist()
        for start, stop in zip(starts, [*starts[1:], len(shards)], strict=True):
            wanted = self._wanted.get(shards[start : start + 1].tobytes())
            if wanted is None:
                continue
            low, high = np.searchsorted(wanted.rows, [rows[start], rows[stop - 1] + 1])
            at = start + wanted.rows[low:high] - rows[start]
            same = (documents[at] == wanted.documents[low:high]).all(axis=1)
            wanted.resolved[low:high] |= kept[at] & same

    def finish(self) -> None:
        """A finding for keepers that no log kept."""
        self._gather()
        missing = [
            (digest_name(name), int(row)) for name, wanted in sorted(self._wanted.items()) for row in wanted.rows[~wanted.resolved].tolist()
        ]
        for shard, row in missing[:_NAMED]:
            others = f"; {len(missing)} such keepers in this run" if len(missing) > 1 else ""
            self.found.add(
                self.run,
                "keeper_not_kept",
                expected=f"row {row} of {shard} to be kept, and to be the document that duplicates name",
                found=f"no such row{others}",
                remedy=RESCAN,
            )

    def _gather(self) -> None:
        for name, parts in self._parts.items():
            before = self._wanted.get(name)
            rows = np.concatenate([part for part, _ in parts] + ([before.rows] if before else []))
            documents = np.concatenate([part for _, part in parts] + ([before.documents] if before else []))
            resolved = np.concatenate([np.zeros(sum(len(p) for p, _ in parts), bool)] + ([before.resolved] if before else []))
            # A keeper of many duplicates is wanted once; two documents at one row are two wishes, of which one fails.
            order = np.lexsort((~resolved, documents[:, 1], documents[:, 0], rows))
            rows, documents, resolved = rows[order], documents[order], resolved[order]
            new = np.ones(len(rows), dtype=bool)
            new[1:] = (rows[1:] != rows[:-1]) | (documents[1:] != documents[:-1]).any(axis=1)
            self._wanted[name] = _Wanted(rows[new], documents[new], resolved[new])
        self._parts = {}

    def _check_named(self, pack: str, log: pa.Table, named: pa.ChunkedArray) -> None:
        lists = log["reasons"].combine_chunks()
        duplicate = pc.is_in(lists.flatten(), value_set=_DUPLICATE).to_numpy(zero_copy_only=False)
        parents = pc.list_parent_indices(lists).to_numpy(zero_copy_only=False)
        marked = np.zeros(log.num_rows, dtype=bool)
        marked[parents[duplicate]] = True
        alone = marked & ~named.to_numpy()
        if alone.any():
            self._unnamed(pack, int(alone.sum()))

    def _unnamed(self, pack: str, count: int) -> None:
        self.found.add(
            pack,
            "keeper_not_named",
            expected="every duplicate to name its keeper's document, shard and row",
            found=f"{count} that do not",
            remedy=RESCAN,
        )

    def _check_similarity(self, pack: str, duplicates: pa.Table) -> None:
        same = (_words(duplicates["document"]) == _words(duplicates["keeper_document"])).all(axis=1)
        shared, union = (duplicates[name].fill_null(-1).to_numpy() for name in ("intersection", "union_size"))
        pairs = np.unique(np.stack([shared, union, same.astype(np.int64)], axis=1), axis=0).tolist()
        wrong = [(i, u) for i, u, copy in pairs if not self._is_similar(i, u, copy=bool(copy))]
        if wrong:
            self.found.add(
                pack,
                "not_similar",
                expected=f"duplicates to share at least {self.jaccard or 0} of their shingles with their keeper",
                found=", ".join("no measurement" if u < 0 else f"{i} of {u}" for i, u in wrong[:5]),
                remedy=RESCAN,
            )

    def _is_similar(self, shared: int, union: int, *, copy: bool) -> bool:
        if copy:  # the same text: measured or not, all is shared
            return shared == union
        return union > 0 and 0 <= shared <= union and (self.jaccard is None or Fraction(shared, union) >= self.jaccard)


def _words(column: Any) -> Documents:
    return np.ascontiguousarray(raw_digests(column)[:, :16]).view(np.uint64)
