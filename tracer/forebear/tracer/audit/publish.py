"""Publishing a recall: what is known to be bad becomes an advisory, which every later answer of the ledger counts.

Always true here: what is published is what the targets are at this head, by digest; a run becomes its shards; near matches of a text
are not published, for they are another document's rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from forebear.schemas.advisory import Advisory
from forebear.schemas.enums import EntryKind
from forebear.schemas.records import Entry, Head
from forebear.tracer.audit.recall import name_targets

if TYPE_CHECKING:
    from forebear.tracer.audit.session import Session
    from forebear.tracer.ledger.ledger import Ledger

__all__ = ["Advisement", "publish"]

_NAMED = ("documents", "models", "shards", "system_prompts")


@dataclass(frozen=True)
class Advisement:
    """An advisory that was published: its entry, its object, and the head right after it."""

    entry: int
    object: str
    head: Head
    advisory: Advisory

    def to_json(self) -> dict[str, Any]:
        """The answer of `forebear advisory --json`."""
        named = {name: list(getattr(self.advisory, name)) for name in _NAMED}
        said = {name: getattr(self.advisory, name) for name in ("reason", "authority", "time")}
        return {"schema": "forebear/advised/1", "entry": self.entry, "object": self.object, "head": self.head.to_json(), **said, **named}


def publish(
    ledger: Ledger,
    session: Session,
    targets: Sequence[str],
    *,
    texts: Sequence[str | Path] = (),
    reason: str,
    authority: str,
    time: str,
) -> Advisement:
    """Publish an advisory as an entry of the ledger.

    Args:
        ledger: Where.
        session: The same ledger, opened for questions: it says what targets are.
        targets: As of a recall.
        texts: Files whose whole content is the text of a document.
        reason: Why, in a sentence.
        authority: Who says so.
        time: ISO 8601 in UTC.

    Raises:
        UsageError: A target that the ledger knows nothing of, or no reason or authority.
    """
    named = name_targets(session, targets, texts=texts)
    advisory = Advisory(
        reason,
        authority,
        time,
        documents=tuple(named.documents),
        models=tuple(session.graph.ids[one] for one in named.models),
        shards=tuple(named.shards),
        system_prompts=tuple(named.prompts),
    )
    name = ledger.put_object(advisory.to_bytes())
    counts = {one: len(getattr(advisory, one)) for one in _NAMED}
    head = ledger.append(Entry(EntryKind.ADVISORY, name, time, counts))
    return Advisement(head.size - 1, name, head, advisory)
