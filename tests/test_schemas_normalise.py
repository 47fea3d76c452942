"""Normalised text is CPython 3.11's, on every code point and in every context, by tables that do not depend on the interpreter."""

from __future__ import annotations

import sys
import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from forebear.schemas.normalise import WHITE_SPACE, code_points, is_spaceless, lower, lower_by_table, words

unicode_14 = pytest.mark.skipif(unicodedata.unidata_version != "14.0.0", reason="the tables are those of Unicode 14.0")
EVERY = [chr(c) for c in range(sys.maxunicode + 1) if not 0xD800 <= c <= 0xDFFF]


@unicode_14
def test_every_code_point_alone_is_lowered_as_by_the_interpreter() -> None:
    assert [c for c in EVERY if lower_by_table(c) != c.lower()] == []


@unicode_14
@pytest.mark.parametrize("shape", ["a{0}Σ", "{0}Σ", "aΣ{0}a"])
def test_every_code_point_around_a_sigma_is_lowered_as_by_the_interpreter(shape: str) -> None:
    """All in one text: a line's end is neither cased nor ignorable, so no line sees another."""
    every = "\n".join(shape.format(c) for c in EVERY)
    ours, theirs = lower_by_table(every), every.lower()
    assert ours == theirs or [pair for pair in zip(ours.split("\n"), theirs.split("\n"), strict=True) if pair[0] != pair[1]] == []


@unicode_14
@settings(max_examples=200)
@given(st.text(st.sampled_from("ΣσςaA.'\u0345\u00ad İıß1-\u0301ΑΟ"), max_size=12) | st.text(max_size=20))
def test_any_text_is_lowered_as_by_the_interpreter(text: str) -> None:
    assert lower_by_table(text) == lower(text) == text.lower()


def test_white_space_is_where_split_splits() -> None:
    listed = {c for first, last in WHITE_SPACE for c in range(first, last + 1)}
    assert {ord(c) for c in EVERY if len(f"a{c}b".split()) == 2} == listed


WORDS = {
    "case and white space go": ("  The\tQuick\u00a0BROWN\u2003fox\n", ["the", "quick", "brown", "fox"]),
    "digits stay as they are": ("Room 101, room 102", ["room", "101,", "room", "102"]),
    "diacritics stay": ("Café cafe", ["café", "cafe"]),
    "composed and decomposed stay apart": ("\u00e9 e\u0301", ["\u00e9", "e\u0301"]),
    "a final sigma is final": ("ΟΔΟΣ ΣΟΦΟΣ Σ", ["οδος", "σοφος", "σ"]),
    "a dotted capital I becomes two code points": ("İ", ["i\u0307"]),
    "sharp s stays": ("STRASSE Straße ẞ", ["strasse", "straße", "ß"]),
    "nothing has no words": (" \u3000\x1f", []),
}


@pytest.mark.parametrize("sentence", WORDS)
def test_words(sentence: str) -> None:
    text, expected = WORDS[sentence]
    assert words(text) == expected


SCRIPTS = {
    "English is written with spaces": ("a plain sentence", False),
    "Chinese is not": ("今天天气很好", True),
    "Japanese is not": ("これはペンです", True),
    "Thai is not": ("สวัสดีชาวโลก", True),
    "Korean is written with spaces": ("안녕하세요 세계", False),
    "half and half counts as with spaces": ("天天ab", False),
    "more than half counts as without": ("天天天ab", True),
    "white space does not count": ("天天 \n\t a", True),
    "nothing is with spaces": ("", False),
}


@pytest.mark.parametrize("sentence", SCRIPTS)
def test_scripts(sentence: str) -> None:
    text, expected = SCRIPTS[sentence]
    assert is_spaceless(text) is expected


def test_code_points_are_those_of_the_normalised_text_without_white_space() -> None:
    assert code_points("天 A\nb") == ["天", "a", "b"]
