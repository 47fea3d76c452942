"""Exact copies: documents with the same SHA-256, found by ranges of digests over the rosters.

Always true here: every group of copies has one representative, the earliest in the total order among those that survive the other
policies (among all, where none does); what an earlier run kept comes before all; near-duplicates are looked for among representatives
only.
"""

from __future__ import annotations

import numpy as np

from forebear.tracer.dedupe.bands import HashRange
from forebear.tracer.dedupe.clusters import Copies
from forebear.tracer.scan.packs import ABSENT, SURVIVES, U64, Rosters, numbers

__all__ = ["find_copies"]


def find_copies(span: HashRange, rosters: Rosters) -> Copies:
    """The copies among documents whose digest's first 64 bits lie in a range."""
    found = _repeated(span, rosters)
    if not len(found):
        return Copies(found, found)
    digest, state, rank = rosters.gather(found, "document", "state", "rank")
    shard, row = rosters.rows(found)
    lost = state != SURVIVES
    words = [digest[:, k] for k in (3, 2, 1, 0)]
    order = np.lexsort((row, shard, rank, lost, *words))
    found, digest = found[order], digest[order]
    starts = np.concatenate([[True], (digest[1:] != digest[:-1]).any(axis=1)])
    group = np.cumsum(starts) - 1
    representative = found[starts][group]
    return Copies(representative[~starts], found[~starts])


def _repeated(span: HashRange, rosters: Rosters) -> U64:
    """Documents of the range whose digest's first 64 bits occur more than once."""
    prefixes, documents = [], []
    for n in range(len(rosters.packs)):
        roster = rosters.roster(n)
        prefix = roster.document[:, 0].astype("u8")
        mine = np.flatnonzero((prefix >= np.uint64(span.first)) & (prefix <= np.uint64(span.last)) & (roster.state != ABSENT))
        prefixes.append(prefix[mine])
        documents.append(numbers(n, mine))
    prefix = np.concatenate(prefixes) if prefixes else np.zeros(0, "u8")
    order = np.argsort(prefix, kind="stable")
    prefix = prefix[order]
    again = np.zeros(len(prefix), dtype=bool)
    same = prefix[1:] == prefix[:-1]
    again[1:] |= same
    again[:-1] |= same
    result: U64 = (np.concatenate(documents) if documents else np.zeros(0, "u8"))[order][again]
    return result
