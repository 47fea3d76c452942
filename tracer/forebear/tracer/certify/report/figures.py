"""Figures of a scan read from its log: scores by detector, measured similarities, and a few rows for each reason.

Always true here: packs are read one at a time, hashed as they are read; where a log is larger than the limit only its first packs are
read, and how many of its rows that was is part of the figures; samples are the first rows in the log's order, so that the same log gives
the same samples.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from forebear.schemas.digests import digest_name
from forebear.schemas.tables import GRID

if TYPE_CHECKING:
    from forebear.schemas.records import RunManifest
    from forebear.tracer.ledger.ledger import Ledger

__all__ = ["Figures", "Sample", "read_figures", "texts_of"]

MAX_ROWS = 5_000_000
SAMPLES = 5
BINS = 64

_COLUMNS = ["shard", "row", "document", "source", "action", "reasons", "keeper_document", "intersection", "union_size", "evidence"]


@dataclass(frozen=True)
class Sample:
    """One row of the log, as it is shown; `evidence` has the rows' pieces as the log has them."""

    shard: str
    row: int
    document: str | None
    source: str | None
    action: str
    keeper: str | None
    intersection: int | None
    union: int | None
    evidence: Sequence[Mapping[str, Any]]


@dataclass
class Figures:
    """What was read: `scores` by detector digest and label in `BINS` bins, `similar` by hundredths, `samples` by reason."""

    rows: int = 0
    of: int = 0
    scores: dict[tuple[str, str], npt.NDArray[np.int64]] = field(default_factory=dict)
    similar: Counter[float] = field(default_factory=Counter)
    samples: dict[str, list[Sample]] = field(default_factory=dict)


def read_figures(ledger: Ledger, manifest: RunManifest, *, max_rows: int = MAX_ROWS) -> Figures:
    """Read the figures of a run.

    Raises:
        IntegrityError: A pack is missing or damaged.
    """
    figures = Figures(of=manifest.rows["in"])
    for reference in manifest.log:
        if figures.rows and figures.rows + reference.rows > max_rows:
            break
        table = ledger.read_log(reference.object, columns=_COLUMNS).combine_chunks()
        figures.rows += table.num_rows
        _add_scores(figures, table)
        _add_similar(figures, table)
        _add_samples(figures, table)
    return figures


def _add_scores(figures: Figures, table: pa.Table) -> None:
    evidence = pc.list_flatten(table["evidence"]).combine_chunks()
    if not len(evidence):
        return
    pieces = pa.table({name: pc.struct_field(evidence, name) for name in ("detector", "label", "score")})
    grouped = pieces.group_by(["detector", "label", "score"]).aggregate([([], "count_all")])
    for row in grouped.to_pylist():
        counts = figures.scores.setdefault((digest_name(row["detector"]), row["label"]), np.zeros(BINS, np.int64))
        counts[min(BINS - 1, row["score"] * BINS // GRID)] += row["count_all"]


def _add_similar(figures: Figures, table: pa.Table) -> None:
    pairs = table.select(["intersection", "union_size"]).drop_null()
    for shared, union in zip(pairs["intersection"].to_pylist(), pairs["union_size"].to_pylist(), strict=True):
        if shared < union:
            figures.similar[shared * 100 // union / 100] += 1


def _add_samples(figures: Figures, table: pa.Table) -> None:
    reasons = pc.list_flatten(table["reasons"])
    parents = pc.list_parent_indices(table["reasons"])
    for reason in sorted(set(reasons.unique().to_pylist())):
        have = figures.samples.setdefault(reason, [])
        if len(have) >= SAMPLES:
            continue
        at = parents.filter(pc.equal(reasons, reason))[: SAMPLES - len(have)]
        have += [_sample(row) for row in table.take(at).to_pylist()]


def _sample(row: Mapping[str, Any]) -> Sample:
    return Sample(
        shard=digest_name(row["shard"]),
        row=row["row"],
        document=None if row["document"] is None else digest_name(row["document"]),
        source=row["source"],
        action=row["action"],
        keeper=None if row["keeper_document"] is None else digest_name(row["keeper_document"]),
        intersection=row["intersection"],
        union=row["union_size"],
        evidence=row["evidence"],
    )


def texts_of(figures: Figures, manifest: RunManifest, sources: Sequence[Path]) -> dict[tuple[str, int], str]:
    """Texts of the samples by (shard, row), from files that the user names and whose bytes have the shard's digest.

    Paths that a ledger holds are never opened: a stranger may have written them.

    Raises:
        UsageError: A named file or folder is not there.
    """
    from forebear.tracer.corpus.inputs import ReaderOptions, discover
    from forebear.tracer.corpus.rows import Source, read_texts

    wanted: dict[str, set[int]] = {}
    for samples in figures.samples.values():
        for one in samples:
            if one.action != "error":
                wanted.setdefault(one.shard, set()).add(one.row)
    if not sources or not wanted:
        return {}
    reader = manifest.reader
    names = {key: reader[key] for key in ("text_field", "id_field", "source_field") if reader.get(key)}
    options = ReaderOptions(**names, source=reader.get("source"))
    found: dict[tuple[str, int], str] = {}
    for item in discover([str(one) for one in sources]):
        source = Source.from_path(item.path)
        shard = source.sha256()
        if shard not in wanted:
            continue
        rows = np.array(sorted(wanted[shard]), np.int64)
        for numbers, texts in read_texts(source, options=options, wanted=rows):
            read = zip(numbers.tolist(), texts.to_pylist(), strict=True)
            found.update({(shard, row): text for row, text in read if text is not None})
    return found
