"""Normalised text: what near-duplicate detection compares, fixed for good.

Always true here: normalisation is lower case and white space only, as ``text.lower().split()`` of CPython 3.11 (Unicode 14.0),
under every Python version. No digit is folded and no diacritic stripped, so texts that differ only there stay different.
"""

from __future__ import annotations

import re
import unicodedata
from functools import cache

from forebear.schemas.case_tables import CASE_IGNORABLE, CASED, LOWER_RUNS

__all__ = ["SPACELESS", "WHITE_SPACE", "code_points", "is_spaceless", "lower", "lower_by_table", "words"]

WHITE_SPACE: tuple[tuple[int, int], ...] = (
    (0x09, 0x0D), (0x1C, 0x20), (0x85, 0x85), (0xA0, 0xA0), (0x1680, 0x1680), (0x2000, 0x200A),
    (0x2028, 0x2029), (0x202F, 0x202F), (0x205F, 0x205F), (0x3000, 0x3000),
)  # fmt: skip
"""Ranges (first, last) of the code points at which ``str.split`` splits."""

SPACELESS: tuple[tuple[int, int], ...] = (
    (0x0E00, 0x0EFF),    # Thai, Lao
    (0x0F00, 0x0FFF),    # Tibetan
    (0x1000, 0x109F),    # Myanmar
    (0x1780, 0x17FF),    # Khmer
    (0x1950, 0x19FF),    # Tai Le, New Tai Lue, Khmer symbols
    (0x1A20, 0x1AAF),    # Tai Tham
    (0x1B00, 0x1B7F),    # Balinese
    (0x3040, 0x30FF),    # Hiragana, Katakana
    (0x31F0, 0x31FF),    # Katakana extensions
    (0x3400, 0x4DBF),    # Han extension A
    (0x4E00, 0x9FFF),    # Han
    (0xA980, 0xA9DF),    # Javanese
    (0xAA60, 0xAA7F),    # Myanmar extension A
    (0xF900, 0xFAFF),    # Han compatibility
    (0xFF66, 0xFF9F),    # half-width Katakana
    (0x20000, 0x323AF),  # Han extensions B to H, compatibility supplement
)  # fmt: skip
"""Ranges of code points of scripts written without spaces between words."""

_SIGMA, _FINAL_SIGMA = "Σ", "ς"


def lower(text: str) -> str:
    """Lower case as CPython 3.11's ``str.lower`` (Unicode 14.0 with the final-sigma rule)."""
    if text.isascii() or unicodedata.unidata_version == "14.0.0":
        return text.lower()
    return lower_by_table(text)


def lower_by_table(text: str) -> str:
    """The same by the fixed tables alone, whatever Unicode version the interpreter has."""
    if _SIGMA in text:
        text = _final_sigma_context().sub(rf"\1{_FINAL_SIGMA}", text)
    return text.translate(_lower_table())


def words(text: str) -> list[str]:
    """The normalised words of a text."""
    return lower(text).split()


def is_spaceless(text: str) -> bool:
    """Whether more than half of the text's code points that are no white space belong to scripts without spaces."""
    dense = "".join(text.split())
    return 2 * len(_spaceless().findall(dense)) > len(dense)


def code_points(text: str) -> list[str]:
    """The normalised text's code points without white space: what takes the place of words in scripts without spaces."""
    return list("".join(words(text)))


def _char_class(ranges: tuple[tuple[int, int], ...]) -> str:
    return "[" + "".join(f"\\U{first:08x}-\\U{last:08x}" for first, last in ranges) + "]"


@cache
def _spaceless() -> re.Pattern[str]:
    return re.compile(_char_class(SPACELESS))


@cache
def _lower_table() -> dict[int, int | str]:
    table: dict[int, int | str] = {c: c + d for first, last, step, d in LOWER_RUNS for c in range(first, last + 1, step)}
    table[0x130] = "i̇"
    return table


@cache
def _final_sigma_context() -> re.Pattern[str]:
    # Unicode 14.0, section 3.13, Final_Sigma; `re` has no look-behind of varying width, so what precedes is captured.
    cased, ignorable = _char_class(CASED), _char_class(CASE_IGNORABLE)
    return re.compile(rf"({cased}{ignorable}*){_SIGMA}(?!{ignorable}*{cased})")
