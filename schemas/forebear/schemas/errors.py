"""Errors of forebear, by who must act.

Always true here: every error says what was expected, what was found and what to do, and has a `kind` that programs may
compare. One root (`ForebearError`), three families: the data is bad, integrity failed, the use is wrong.
"""

from __future__ import annotations

__all__ = ["DataError", "ForebearError", "IntegrityError", "UsageError"]


class ForebearError(Exception):
    """The root of every error that forebear raises on purpose.

    Args:
        kind: A stable word for the fault, e.g. ``unknown_model``.
        expected: What should have been there.
        found: What was there instead.
        remedy: What the reader can do about it.
    """

    exit_code = 2

    def __init__(self, kind: str, *, expected: str, found: str, remedy: str) -> None:
        super().__init__(kind, expected, found, remedy)
        self.kind = kind
        self.expected = expected
        self.found = found
        self.remedy = remedy

    def __str__(self) -> str:
        return f"expected {self.expected}; found {self.found}. {self.remedy}"

    def __reduce__(self) -> tuple[object, ...]:
        # Keyword-only arguments do not survive the default pickling, and errors cross Beam's worker processes.
        return _rebuild, (type(self), self.kind, self.expected, self.found, self.remedy)

    def to_json(self) -> dict[str, object]:
        """The error as CONTRACT's JSON object."""
        error = {"kind": self.kind, "expected": self.expected, "found": self.found, "remedy": self.remedy}
        return {"schema": "forebear/error/1", "error": error}


def _rebuild(cls: type[ForebearError], kind: str, expected: str, found: str, remedy: str) -> ForebearError:
    return cls(kind, expected=expected, found=found, remedy=remedy)


class DataError(ForebearError):
    """The data is bad: a file, a row or a record cannot be read as what it claims to be."""


class IntegrityError(ForebearError):
    """Integrity failed: bytes, digests or counts disagree with what was recorded."""

    exit_code = 1


class UsageError(ForebearError):
    """The use is wrong: an argument, a policy or a path cannot mean what was asked."""
