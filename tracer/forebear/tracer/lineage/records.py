"""Training records from files: YAML or JSON in, parsed records out.

Always true here: YAML is read without tags and without aliases, so that a small file cannot stand for a large one; a key given
twice is refused; decimals stay exact.
"""

from __future__ import annotations

import json
from decimal import Decimal
from pathlib import Path
from typing import Any

from forebear.schemas.errors import DataError, UsageError
from forebear.schemas.lineage import TrainingRecord, parse_record

__all__ = ["parse_text", "read_record"]


def read_record(path: str | Path) -> TrainingRecord:
    """The training record in a YAML or JSON file.

    Raises:
        UsageError: The file cannot be read.
        DataError: It is neither YAML nor JSON, or not a training record.
    """
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise UsageError(
            "unreadable_record",
            expected="a training record, YAML or JSON",
            found=f"{path}: {error.strerror}",
            remedy="Name a file that can be read.",
        ) from error
    return parse_text(data, where=str(path))


def parse_text(data: bytes, *, where: str) -> TrainingRecord:
    """The training record in some bytes of YAML or JSON.

    Raises:
        DataError: The bytes are neither, or not a training record.
    """
    try:
        text = data.decode("utf-8-sig")
        value = _json(text) if text.lstrip()[:1] in ("{", "[") else None
        if value is None:
            value = _yaml(text)
    except (ValueError, RecursionError) as error:
        raise DataError(
            "unreadable_record",
            expected=f"YAML or JSON in {where}",
            found=f"{type(error).__name__}: {' '.join(str(error).split())[:300]}",
            remedy="Mend the file at that place.",
        ) from error
    return parse_record(value, where=where)


def _json(text: str) -> Any:
    """JSON, or None where the text is not JSON (YAML's flow style opens with the same signs)."""
    try:
        return json.loads(text, parse_float=Decimal, object_pairs_hook=_unique)
    except json.JSONDecodeError:
        return None


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        keys = [key for key, _ in pairs]
        raise ValueError(f"key {next(key for key in keys if keys.count(key) > 1)!r} is given twice")
    return found


def _yaml(text: str) -> Any:
    import yaml

    fast: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

    class Loader(fast):  # type: ignore[misc]
        """Safe YAML that refuses a key given twice, and reads dates as the text they are."""

        yaml_implicit_resolvers = {  # noqa: RUF012
            first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:timestamp"]
            for first, resolvers in fast.yaml_implicit_resolvers.items()
        }

        def construct_mapping(self, node: Any, deep: bool = False) -> Any:
            keys = [self.construct_object(key, deep=True) for key, _ in node.value]
            for n, key in enumerate(keys):
                if not isinstance(key, str) or key in keys[:n]:
                    fault = "is given twice" if isinstance(key, str) else "is no text"
                    raise yaml.constructor.ConstructorError(None, None, f"key {key!r} {fault}", node.start_mark)
            return super().construct_mapping(node, deep=deep)

    try:
        if "*" in text and any(isinstance(event, yaml.AliasEvent) for event in yaml.parse(text, Loader=fast)):
            raise ValueError("an alias (*name): write the value out where it is meant")
        return yaml.load(text, Loader=Loader)  # noqa: S506 - a subclass of the safe loader
    except yaml.YAMLError as error:
        raise ValueError(str(error)) from error
