"""Files from outside, read so that a hostile one costs itself alone.

Always true here: what cannot be read is refused by name and the rest goes on; no file is read that is larger than a bound, no YAML
that has aliases, tags that construct, or nests deeper than a bound; every YAML scalar stays the text that it is.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from forebear.tracer.lineage.importers.gathered import Gathered

__all__ = ["MAX_BYTES", "MAX_DEPTH", "files", "parse_json", "parse_yaml", "read_json", "read_text", "text_of"]

MAX_BYTES = 64 << 20
"""Largest file that is read whole."""

MAX_DEPTH = 100
"""Deepest nesting of YAML."""

_NOTHING = ("", "~", "null", "Null", "NULL")


def files(gathered: Gathered, paths: Sequence[str], suffixes: tuple[str, ...]) -> Iterator[Path]:
    """The files that paths mean: a file itself, a folder everything under it that ends so; what is neither is refused."""
    for text in paths:
        path = Path(text)
        if path.is_file():
            yield path
            continue
        found = sorted(one for one in path.rglob("*") if one.name.endswith(suffixes) and one.is_file()) if path.is_dir() else []
        if not found:
            why = f"no file in it ends with {' or '.join(suffixes)}" if path.is_dir() else "no such file or folder"
            gathered.refuse(text, path.name, why)
        yield from found


def read_text(gathered: Gathered, path: Path) -> str | None:
    """A file's text, None where it was refused."""
    try:
        size = path.stat().st_size
        if size > MAX_BYTES:
            gathered.refuse(str(path), f"{size} bytes", f"files of at most {MAX_BYTES} bytes are read; split it")
            return None
        return path.read_bytes().decode("utf-8-sig")
    except OSError as error:
        gathered.refuse(str(path), path.name, error.strerror or type(error).__name__)
    except UnicodeDecodeError as error:
        gathered.refuse(str(path), f"byte {error.start}", "text in UTF-8 is expected")
    return None


def read_json(gathered: Gathered, path: Path) -> Any:
    """What a JSON file holds, None where it was refused."""
    text = read_text(gathered, path)
    return None if text is None else parse_json(gathered, text, where=str(path))


def parse_json(gathered: Gathered, text: str, *, where: str) -> Any:
    """What some JSON says, None where it was refused."""
    try:
        return json.loads(text)
    except RecursionError:
        gathered.refuse(where, "JSON", "nested too deep")
    except ValueError as error:
        gathered.refuse(where, "JSON", str(error)[:200])
    return None


def parse_yaml(gathered: Gathered, text: str, *, where: str) -> Any:
    """What some YAML says, every scalar as text; None where it was refused."""
    import yaml

    fast: Any = getattr(yaml, "CBaseLoader", yaml.BaseLoader)

    class Loader(fast):  # type: ignore[misc]
        """YAML of plain texts, lists and mappings that refuses a key given twice."""

        def construct_mapping(self, node: Any, deep: bool = False) -> Any:
            keys = [self.construct_object(key, deep=True) for key, _ in node.value]
            for n, key in enumerate(keys):
                if not isinstance(key, str) or key in keys[:n]:
                    fault = "is given twice" if isinstance(key, str) else "is no text"
                    raise yaml.constructor.ConstructorError(None, None, f"key {key!r:.80} {fault}", node.start_mark)
            return super().construct_mapping(node, deep=deep)

    try:
        _refuse_bombs(yaml.parse(text, Loader=fast), yaml)
        return yaml.load(text, Loader=Loader)  # noqa: S506 - a subclass of the loader that constructs texts only
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        gathered.refuse(where, "YAML", " ".join(str(error).split())[:200] or type(error).__name__)
    return None


def _refuse_bombs(events: Any, yaml: Any) -> None:
    """Aliases and deep nesting, seen in the events before anything is built of them."""
    depth = 0
    for event in events:
        if isinstance(event, yaml.AliasEvent):
            raise yaml.YAMLError(
                f"an alias (*{event.anchor:.40}) at line {event.start_mark.line + 1}: write the value out where it is meant"
            )
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > MAX_DEPTH:
            raise yaml.YAMLError(f"nested deeper than {MAX_DEPTH} at line {event.start_mark.line + 1}")


def text_of(value: Any) -> str | None:
    """A text that is there, None for what is empty or none."""
    if not isinstance(value, str):
        return None
    stripped = value.strip()
    return None if stripped in _NOTHING else stripped
