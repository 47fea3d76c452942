"""Text from records, made harmless for the document that it goes into.

Always true here: names, ids and labels are written by strangers; whatever they hold, they stay text: no markup, no link, no end
of a comment, no control or formatting character (these are shown as escapes). YAML and JSON are written by their libraries alone.
"""

from __future__ import annotations

import html
import re
from decimal import Decimal
from typing import Any

__all__ = ["decimal", "html_text", "markdown_text", "one_line", "shortened"]

# Letters, digits, and what never means anything inside a line of Markdown. Everything else of ASCII becomes an entity, which
# CommonMark never reads as structure. GitHub's dialect turns bare addresses into links: their colon or first dot becomes one too.
_MARKDOWN = re.compile(r"(?<![0-9A-Za-z])_|_(?![0-9A-Za-z])|[^0-9A-Za-z /.,;:%()_\u0080-\U0010ffff-]")
_LINKED = re.compile(r"(?i)(?<=www)\.|(?<=http|xmpp):|(?<=https):|(?<=mailto):|(?<=ftp):")


def one_line(value: object, *, limit: int = 600) -> str:
    """A value as one line of printable text: control and formatting characters as escapes, at most `limit` characters."""
    text = "" if value is None else str(value)
    cut = text[:limit]
    shown = "".join(one if one.isprintable() else one.encode("unicode_escape").decode() for one in cut)
    return shown if len(text) <= limit else f"{shown}… ({len(text) - limit} more characters)"


def html_text(value: object) -> str:
    """For HTML, inside elements and double-quoted attributes."""
    return html.escape(one_line(value), quote=True)


def markdown_text(value: object) -> str:
    """For Markdown inside a line, a table's cell included; HTML in it stays text, nothing in it becomes a link."""
    found = _MARKDOWN.sub(lambda one: f"&#{ord(one[0])};", one_line(value))
    return _LINKED.sub(lambda one: f"&#{ord(one[0])};", found)


def shortened(digest: object, *, digits: int = 12) -> str:
    """A digest as its first hex digits, anything else as it is."""
    text = one_line(digest)
    return f"{text[: 7 + digits]}…" if text.startswith("sha256:") and len(text) > 7 + digits else text


def decimal(value: Any) -> Any:
    """A JSON value with every floating-point number as plain decimal text, so that it has one encoding."""
    if isinstance(value, float):
        text = format(Decimal(repr(value)), "f")
        return text.rstrip("0").rstrip(".") if "." in text else text
    if isinstance(value, dict):
        return {key: decimal(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [decimal(inner) for inner in value]
    return value
