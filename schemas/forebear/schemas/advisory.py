"""Advisories: what was found bad after it had been used, by digest, published as an entry of the ledger.

Always true here: an advisory names documents, shards and system prompts by digest and models by id, sorted and each once; its
bytes are canonical JSON and parsing is strict; it says why and on whose authority, and carries no text of what it names.
"""

from __future__ import annotations

import dataclasses
import unicodedata
from dataclasses import dataclass
from typing import Any

from forebear.schemas.canonical import canonical_json, parse_json
from forebear.schemas.digests import is_digest
from forebear.schemas.errors import IntegrityError, UsageError

__all__ = ["CLASS", "Advisory"]

CLASS = "advisory"
"""The contaminant class of what advisories name: a verdict of its own, beside those of detectors."""

_SCHEMA = "forebear/advisory/1"
_LISTS = ("documents", "models", "shards", "system_prompts")
_MAX_WORDS = 1000  # characters of a reason or an authority: a sentence, not a document


@dataclass(frozen=True)
class Advisory:
    """What is recalled, why, on whose authority, and when it was said.

    Args:
        documents: Digests of documents' texts.
        models: Ids of models: a digest, or `name:NAME[@REVISION]`.
        shards: Digests of shards.
        system_prompts: Digests of system prompts.
        reason: Why, in a sentence.
        authority: Who says so.
        time: ISO 8601 in UTC.

    Raises:
        UsageError: Nothing is named, a name is no digest, or the words are empty, too long or no plain line.
    """

    reason: str
    authority: str
    time: str
    documents: tuple[str, ...] = ()
    models: tuple[str, ...] = ()
    shards: tuple[str, ...] = ()
    system_prompts: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name in _LISTS:
            object.__setattr__(self, name, tuple(sorted(set(getattr(self, name)))))
        if not any(getattr(self, name) for name in _LISTS):
            raise _wrong("a document, shard, model or system prompt", "none", "Name what is recalled.")
        for name in _LISTS:
            for one in getattr(self, name):
                if not is_digest(one) and not (name == "models" and one.startswith("name:") and _is_line(one)):
                    raise _wrong(f"{name} by digest", repr(one[:80]), "Give the whole digest.")
        for name in ("reason", "authority"):
            words = getattr(self, name)
            if not 0 < len(words.strip()) <= _MAX_WORDS or not _is_line(words):
                raise _wrong(f"a {name}: one line of 1 to {_MAX_WORDS} characters", ascii(words[:80]), f"Give a {name}.")

    def to_bytes(self) -> bytes:
        """Canonical JSON."""
        return canonical_json({"schema": _SCHEMA, **dataclasses.asdict(self)})

    @classmethod
    def from_bytes(cls, data: bytes) -> Advisory:
        """Parse strictly.

        Raises:
            IntegrityError: The bytes are not an advisory in canonical form.
        """
        try:
            value = parse_json(data)
            if value.pop("schema", None) != _SCHEMA:
                raise ValueError(f"schema is not {_SCHEMA}")
            lists: dict[str, Any] = {name: tuple(value.pop(name)) for name in _LISTS}
            advisory = cls(**value, **lists)
            if advisory.to_bytes() != data:
                raise ValueError("not in canonical form")
        except (UsageError, ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
            raise IntegrityError(
                "malformed_record",
                expected="an advisory in canonical form",
                found=f"{type(error).__name__}: {str(error)[:200]}",
                remedy="Restore the object from a copy of the ledger; `forebear verify --full` names what else is damaged.",
            ) from error
        return advisory


def _is_line(text: str) -> bool:
    """Whether a text is one line without control, formatting or surrogate characters."""
    return (text.isascii() and text.isprintable()) or not any(unicodedata.category(one) in ("Cc", "Cf", "Cs", "Zl", "Zp") for one in text)


def _wrong(expected: str, found: str, remedy: str) -> UsageError:
    return UsageError("bad_advisory", expected=expected, found=found, remedy=remedy)
