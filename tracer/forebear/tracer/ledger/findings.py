"""What verification found: findings, notes, and the report that carries them.

Always true here: a finding means that the ledger is not what was written, and names the object, what was expected, what was
found and what to do; a note is worth knowing and no fault. No finding means sound; whose it is, only a key or a remembered
head can tell.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from forebear.schemas.errors import ForebearError

__all__ = ["Finding", "Findings", "VerifyReport"]

RESTORE = "Restore it from a copy of the ledger."
RESCAN = "Restore the run's objects from a copy, or scan the corpus again."


@dataclass(frozen=True)
class Finding:
    """One thing that is not as it must be (or, among the notes, merely as it need not be)."""

    object: str
    kind: str
    expected: str
    found: str
    remedy: str


@dataclass
class Findings:
    """Findings and notes as they are gathered; the same one twice counts once."""

    findings: list[Finding] = field(default_factory=list)
    notes: list[Finding] = field(default_factory=list)

    def add(self, subject: str, kind: str, *, expected: object, found: object, remedy: str = RESTORE) -> None:
        """A finding."""
        self._append(self.findings, Finding(subject, kind, str(expected)[:500], str(found)[:500], remedy))

    def note(self, subject: str, kind: str, *, expected: object, found: object, remedy: str = "Nothing need be done.") -> None:
        """A note."""
        self._append(self.notes, Finding(subject, kind, str(expected)[:500], str(found)[:500], remedy))

    def add_error(self, subject: str, error: ForebearError) -> None:
        """A finding from an error that reading or checking raised."""
        self.add(subject, error.kind, expected=error.expected, found=error.found, remedy=error.remedy)

    def compare(self, subject: str, kind: str, *, expected: object, found: object, remedy: str = RESCAN) -> bool:
        """A finding if two values differ; whether they are equal."""
        if expected != found:
            self.add(subject, kind, expected=expected, found=found, remedy=remedy)
        return expected == found

    @staticmethod
    def _append(to: list[Finding], one: Finding) -> None:
        if one not in to[-50:]:  # repetitions come close together; a look at all would be quadratic
            to.append(one)


@dataclass(frozen=True)
class VerifyReport:
    """The answer of `verify`.

    Args:
        level: quick, full or sample.
        checked: Objects, bytes and rows that were looked at; bytes are those that were hashed.
        head: Size and root of the entries as they are, None where they cannot be read.
        authentic: Whether the ledger continues a head remembered elsewhere; None where none was given.
    """

    level: str
    checked: Mapping[str, int]
    head: Mapping[str, object] | None
    authentic: bool | None
    findings: tuple[Finding, ...]
    notes: tuple[Finding, ...]

    @property
    def ok(self) -> bool:
        """Whether nothing was found."""
        return not self.findings

    def to_json(self) -> dict[str, Any]:
        """CONTRACT's object."""
        return {
            "schema": "forebear/verify/1",
            "ok": self.ok,
            "authentic": self.authentic,
            "checked": dict(self.checked),
            "level": self.level,
            "head": self.head,
            "findings": [asdict(one) for one in self.findings],
            "notes": [asdict(one) for one in self.notes],
        }
