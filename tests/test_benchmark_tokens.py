"""Tokens of benchmark items: what is folded, what is kept, and where they stand in the text."""

from __future__ import annotations

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from forebear.tracer.detect.benchmark_tokens import ALONE, IGNORED, OPERATOR, WORD, character_classes, tokenise
from forebear.tracer.detect.windows import text_bytes


def tokens(text: str) -> tuple[list[int], list[str]]:
    """Hashes, and the bytes each token stands for."""
    raw = text_bytes(pa.array([text], pa.large_string()))
    found = tokenise(raw.data, raw.offsets)
    data = text.encode()
    return found.hashes.tolist(), [data[a:b].decode() for a, b in zip(found.start.tolist(), found.stop.tolist(), strict=True)]


SAME = {
    "case": ("Janet Lays EGGS", "janet lays eggs"),
    "curly and straight apostrophes, and none": ("Janet’s ducks don't", "Janets ducks dont"),
    "quotes of any kind": ("he said “no” and 'yes'", 'he said "no" and yes'),
    "punctuation at the end of a word": ("How many, then? Two.", "how many then two"),
    "white space of any kind": ("two  eggs\n\nper\tday", "two eggs per day"),
    "invisible characters": ("two eg\u00adgs\u200b per day\ufeff", "two eggs per day"),
    "hyphens between words": ("a two-day trip", "a two day trip"),
    "thousands separators": ("$1,000,000 a year", "$1000000 a year"),
    "spacing around an operator": ("x = 3 * (4+5)", "x=3*(4 + 5)"),
    "a minus sign and a hyphen before a number": ("16 − 3", "16 - 3"),
    "emphasis marks": ("the *red* hen is **very** red", "the red hen is very red"),
    "bullets and headings": ("- two eggs\n* three eggs\n# four eggs", "two eggs\nthree eggs\nfour eggs"),
    "capital and final sigma": ("ΟΔΥΣΣΕΥΣ", "οδυσσευς"),
    "underscores in names": ("has_close_elements", "has close elements"),
}

DIFFERENT = {
    "numbers": ("16 eggs", "17 eggs"),
    "decimals and two numbers": ("3.50 dollars", "3 50 dollars"),
    "a list of numbers and a number": ("[1,2]", "[12]"),
    "plus and times": ("3 + 4", "3 * 4"),
    "comparisons": ("a <= b", "a >= b"),
    "minus and plus": ("16 - 3", "16 + 3"),
    "diacritics": ("résumé", "resume"),
    "mathematical symbols": ("x ∈ A", "x ∉ A"),
}


@pytest.mark.parametrize("what", SAME)
def test_this_is_folded(what):
    one, other = SAME[what]
    assert tokens(one)[0] == tokens(other)[0]


@pytest.mark.parametrize("what", DIFFERENT)
def test_this_is_kept(what):
    one, other = DIFFERENT[what]
    assert tokens(one)[0] != tokens(other)[0]


def test_a_script_without_spaces_gives_a_token_a_character():
    assert tokens("日本語のテキスト。二番目")[1] == list("日本語のテキスト二番目")


def plain(text: str) -> list[str]:
    """What the kernel's tokens stand for, by another way: characters one at a time."""
    kind = character_classes().kind
    found: list[str] = []
    begin: int | None = None
    end = at = 0
    fresh = True

    def close() -> None:
        nonlocal begin
        if begin is not None:
            found.append(text[begin:end])
        begin = None

    while at < len(text):
        char, cls = text[at], kind[ord(text[at])]
        rest = text[at + 1 :]
        if cls == WORD:
            begin, fresh = (at if begin is None else begin), False
            at = end = at + 1
        elif cls == IGNORED or (begin is not None and text[at - 1] in "0123456789" and char in ".," and _numeric(char, rest)):
            at += 1
        else:
            close()
            run = at
            while cls == OPERATOR and run < len(text) and kind[ord(text[run])] == OPERATOR:
                run += 1
            if cls == ALONE or (cls == OPERATOR and not fresh and _operates(text, at, run)):
                found.append(text[at : max(run, at + 1)])
            fresh = cls not in (ALONE, OPERATOR) and (char == "\n" or (fresh and char <= " "))
            at = max(run, at + 1)
    close()
    return found


def _numeric(char: str, rest: str) -> bool:
    digits = 0
    while digits < len(rest) and rest[digits] in "0123456789":
        digits += 1
    return digits >= 1 if char == "." else digits == 3


def _operates(text: str, at: int, run: int) -> bool:
    before = at > 0 and text[at - 1] > " "
    if run - at > 3 or run >= len(text) or before != (text[run] > " "):
        return False
    ahead = text[run:].lstrip(" ")
    return text[at:run] not in ("-", "−") or (ahead != "" and ahead[0] in "0123456789")


MESSY = st.text(st.one_of(st.sampled_from(list("ab1.,'’-+*/=<> \n\t日Σ−×é_")), st.characters(codec="utf-8")), max_size=60)


@settings(max_examples=400, deadline=None)
@given(MESSY)
def test_the_kernel_cuts_as_the_plain_rules_do(text):
    assert tokens(text)[1] == plain(text)


@settings(max_examples=100, deadline=None)
@given(st.lists(MESSY, max_size=8))
def test_texts_of_a_column_do_not_touch_each_other(texts):
    raw = text_bytes(pa.array(texts, pa.large_string()))
    found = tokenise(raw.data, raw.offsets)
    for n, text in enumerate(texts):
        assert found.hashes[found.bounds[n] : found.bounds[n + 1]].tolist() == tokens(text)[0]
