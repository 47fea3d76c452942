"""A session over a ledger: open it once, ask many questions.

Always true here: every byte that an answer rests on came through the ledger, hashed as it was read; parts of the ledger are read
when a question first needs them and kept; a session stands at one head, so all its answers agree.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from forebear.schemas.advisory import CLASS
from forebear.schemas.enums import EntryKind
from forebear.schemas.records import Head
from forebear.tracer.audit.answer import Trace
from forebear.tracer.audit.asked import AskedDetector, Asks, Run, ask
from forebear.tracer.ledger.ledger import Ledger
from forebear.tracer.policy import load_policy

if TYPE_CHECKING:
    import polars as pl
    import pyarrow as pa

    from forebear.tracer.audit.advisories import Advised
    from forebear.tracer.audit.family import Families
    from forebear.tracer.audit.recall import Recalled
    from forebear.tracer.audit.scans import Scans
    from forebear.tracer.audit.tables import Answer
    from forebear.tracer.audit.walk import Walker
    from forebear.tracer.lineage.graph import Graph

__all__ = ["Question", "Session"]


class Question:
    """What `trace` asks: detectors with thresholds, a floor of documents, and whether detectors, advisories or both count."""

    def __init__(self, asked: tuple[AskedDetector, ...], *, at_least: int = 0, asks: Asks = Asks.BOTH) -> None:
        self.asked = asked
        self.asks = asks
        self.at_least = at_least


class Session:
    """A ledger opened for questions.

    Args:
        ledger: The ledger.
        head: Stand at an older head: its number of entries.
        memory: Bytes that the columns of the log may take which a query names; default: FOREBEAR_SQL_GIB, else 4 GiB.

    Example:
        >>> session = Session.open("ledger")                                   # doctest: +SKIP
        >>> session.trace("acme/chat-7b").verdict                              # doctest: +SKIP
        >>> session.sql("SELECT action, count(*) FROM audit.decision GROUP BY ALL").frame()   # doctest: +SKIP
    """

    def __init__(self, ledger: Ledger, *, head: int | None = None, memory: int | None = None) -> None:
        self.memory = int(float(os.environ.get("FOREBEAR_SQL_GIB") or 4) * 2**30) if memory is None else memory
        # Whatever comes later, this session stands where the ledger is now.
        self.ledger = ledger.at(len(ledger.entries()) if head is None else head)

    @classmethod
    def open(cls, url: str | Path, *, head: int | None = None) -> Session:
        """A session over the ledger at a path or URL.

        Raises:
            UsageError: There is no ledger there, or it never had that head.
        """
        return cls(Ledger.open(url), head=head)

    @cached_property
    def head(self) -> Head:
        """The head that every answer of this session is as of."""
        return self.ledger.head()

    @cached_property
    def runs(self) -> list[Run]:
        """Runs, oldest first."""
        return self.ledger.runs()

    @cached_property
    def graph(self) -> Graph:
        """The lineage."""
        from forebear.tracer.lineage.document import LineageDocument
        from forebear.tracer.lineage.graph import build_graph

        entries = self.ledger.entries()
        documents = (
            (n, LineageDocument.from_bytes(self.ledger.get_object(entry.object)))
            for n, _, entry in entries
            if entry.kind is EntryKind.LINEAGE
        )
        return build_graph(documents)

    @cached_property
    def scans(self) -> Scans:
        """What runs logged."""
        from forebear.tracer.audit.scans import Scans

        return Scans(self.ledger, self.runs)

    @cached_property
    def families(self) -> Families:
        """Who may share weights with whom."""
        from forebear.tracer.audit.family import Families

        return Families(self.graph)

    @cached_property
    def advised(self) -> Advised:
        """What advisories name."""
        from forebear.tracer.audit.advisories import Advised, read_advisories

        return Advised(self.graph, self.scans, read_advisories(self.ledger))

    def question(
        self,
        *,
        detectors: Sequence[str] = (),
        threshold: str | float | None = None,
        policy: str | Path | None = None,
        at_least: int = 0,
    ) -> Question:
        """A question about detectors and thresholds; without further word, those of the newest run of each class.

        Where detectors are named, advisories count only if `advisory` is named too; they are mentioned all the same.
        """
        loaded = None if policy is None else load_policy(policy)
        named = [one for one in detectors if one != CLASS]
        asked = () if detectors and not named else ask(self.runs, detectors=named, threshold=threshold, policy=loaded)
        asks = Asks.BOTH if not detectors or (named and CLASS in detectors) else Asks.DETECTORS if named else Asks.ADVISORIES
        return Question(asked, at_least=at_least, asks=asks)

    def walker(self, question: Question) -> Walker:
        """What answers a question for any model."""
        from forebear.tracer.audit.rows import ScannedRows
        from forebear.tracer.audit.walk import Walker

        if question not in self._walkers:
            judge = ScannedRows(self.graph, self.scans, question.asked)
            advised = self.advised if self.advised.published or question.asks is Asks.ADVISORIES else None
            self._walkers[question] = Walker(self.graph, judge, self.families, advised=advised, asked=question.asks)
        return self._walkers[question]

    @cached_property
    def _walkers(self) -> dict[Question, Walker]:
        return {}

    @cached_property
    def default(self) -> Question:
        """The question without further word."""
        return self.question()

    def trace(self, model: str, *, question: Question | None = None) -> Trace:
        """Verdict and exposures of one model.

        Args:
            model: Digest, prefix of one, id, name or alias.
            question: Detectors and thresholds; default: those of the newest run of each class.

        Raises:
            UsageError: The model is not known, or several are meant.
        """
        question = question or self.default
        return self.walker(question).trace(self.graph.find(model), at_least=question.at_least)

    def trace_all(self, *, question: Question | None = None) -> Iterator[Trace]:
        """Verdict and exposures of every recorded model, one by one, in the order of ids."""
        from forebear.tracer.lineage.graph import MODEL

        question = question or self.default
        graph, walker = self.graph, self.walker(question)
        models = [n for n in range(len(graph.ids)) if graph.kind[n] == MODEL and graph.recorded[n]]
        for model in sorted(models, key=lambda one: graph.ids[one]):
            yield walker.trace(model, at_least=question.at_least)

    def context(self, question: Question) -> Mapping[str, Any]:
        """What all answers to a question share, as CONTRACT's trace has it."""
        return {"asked": [one.to_json() for one in question.asked], "head": self.head.to_json(), "integrity": "checked"}

    def notes(self, trace: Trace) -> dict[str, Any]:
        """What the ledger says otherwise of the nodes of an answer: contradictions, and references that could mean several."""
        ids = {trace.model.id, *(one.node for one in trace.unknown)}
        if self.graph.contradictions or self.graph.ambiguous:
            ids |= {step.child for one in trace.exposures[:100] for step in one.steps}
            ids |= {one.dataset.id for one in trace.exposures}
        found: dict[str, Any] = {}
        said = [one.to_json() for one in self.graph.contradictions if one.node in ids]
        if said:
            found["contradictions"] = said
        graph = self.graph
        several = {graph.ids[one]: [graph.ids[n] for n in nodes] for one, nodes in graph.ambiguous.items() if graph.ids[one] in ids}
        if several:
            found["ambiguous"] = several
        if trace.advisories:
            found["advisories"] = [self.advised.published[one].to_json() for one in trace.advisories]
        return found

    def impact(self, shards: Sequence[str]) -> Recalled:
        """Every model that some shards reached, directly or through its ancestors.

        Args:
            shards: Files, digests, or prefixes of known digests.

        Raises:
            UsageError: A shard that neither a run nor a lineage entry knows.
        """
        from forebear.tracer.audit.recall import impact

        return impact(self, shards)

    def recall(self, targets: Sequence[str], *, texts: Sequence[str | Path] = ()) -> Recalled:
        """Every model that documents, shards, runs, models or system prompts reached.

        Args:
            targets: Shards (file, digest, prefix), documents (digest), runs, models (digest, name), system prompts (digest).
            texts: Files whose whole content is the text of a document.

        Raises:
            UsageError: A target that the ledger knows nothing of.
        """
        from forebear.tracer.audit.recall import recall

        return recall(self, targets, texts=texts)

    def receipt(self, documents: Sequence[str], *, texts: Sequence[str | Path] = ()) -> dict[str, Any]:
        """What became of documents in every run, and which models had consumed them, as `forebear receipt --json` gives it.

        Args:
            documents: Whole digests of documents' texts.
            texts: Files whose whole content is the text of a document.

        Raises:
            UsageError: Something else than the digest of a document, or a file that cannot be read.
        """
        from forebear.tracer.audit.receipt import receipt

        return receipt(self, documents, texts=texts)

    def sql(self, query: str) -> Answer:
        """The answer of one DuckDB query over the schema `audit`.

        Raises:
            UsageError: DuckDB refuses the query.
        """
        answer: Answer = self.database.query(query)
        return answer

    @cached_property
    def database(self) -> Any:
        """The DuckDB database of this session; tables are filled as queries name them."""
        from forebear.tracer.audit.tables import Database

        return Database(self)

    @cached_property
    def answers(self) -> dict[str, pa.Table]:
        """Verdicts, exposures and unknowns of every recorded model, as tables; filled when a query names them."""
        from forebear.tracer.audit.sources import read_answers

        return read_answers(self)

    def frame(self, query: str) -> pl.DataFrame:
        """The answer of a query as a polars frame."""
        return self.sql(query).frame()
