"""Why: every decision about one document, with the scores, thresholds and keepers that it rests on."""

from __future__ import annotations

import re
from importlib import resources
from typing import TYPE_CHECKING, Any

from forebear.schemas.errors import UsageError

if TYPE_CHECKING:
    from forebear.tracer.audit.session import Session

__all__ = ["why"]

_PREFIX = re.compile(r"(?:sha256:)?([0-9a-f]{12,64})")


def why(session: Session, document: str) -> dict[str, Any]:
    """The answer of `forebear why`.

    Args:
        session: The ledger.
        document: A document's digest, a prefix of one, or a row's own id.

    Raises:
        UsageError: No row has it, or the prefix could mean several documents.
    """
    match = _PREFIX.fullmatch(document)
    prefix = f"sha256:{match[1]}" if match else None
    decisions = _rows(session, "why", {"prefix": prefix, "id": document})
    named = {row["document"] for row in decisions if row["document"]}
    documents = sorted(one for one in named if prefix and one.startswith(prefix))
    if len(documents) > 1:
        raise UsageError(
            "ambiguous_document",
            expected=f"a document that {document!r} alone means",
            found=f"{len(documents)}: {', '.join(documents[:5])}",
            remedy="Give more digits.",
        )
    if not decisions:
        raise UsageError(
            "unknown_document",
            expected="a document that a run logged: digest, prefix of 12 hex digits or more, or the row's own id",
            found=repr(document),
            remedy="`sha256sum` of the text's UTF-8 bytes is its digest.",
        )
    evidence = _rows(session, "why_evidence", {"prefix": prefix, "id": document})
    for row in decisions:
        key = (row["run"], row["shard"], row["row"])
        row["evidence"] = [
            {name: value for name, value in one.items() if name not in ("run", "shard", "row")}
            for one in evidence
            if (one["run"], one["shard"], one["row"]) == key
        ]
    return {
        "schema": "forebear/why/1",
        "document": documents[0] if documents else decisions[0]["document"],
        "decisions": decisions,
        "complete": True,
        "head": session.head.to_json(),
        "integrity": "checked",
    }


def _rows(session: Session, name: str, parameters: dict[str, Any]) -> list[dict[str, Any]]:
    query = (resources.files("forebear.tracer.audit") / "sql" / "questions" / f"{name}.sql").read_text("utf-8")
    rows: list[dict[str, Any]] = session.database.query(query, parameters=parameters).rows()
    return rows
