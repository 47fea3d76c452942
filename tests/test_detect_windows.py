"""Windows hold every word once, split as str.split() splits, and never cut a character."""

import re
import time

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from forebear.schemas.errors import UsageError
from forebear.tracer.detect.windows import WindowRule, cut_windows, text_bytes

WHITE = [chr(c) for c in range(0x110000) if chr(c).isspace()]
LETTERS = st.text(st.sampled_from("abcé’٣中日ก🙂̈"), min_size=1, max_size=5)
SPACES = st.text(st.sampled_from(WHITE), min_size=1, max_size=3)
TEXTS = st.builds(
    lambda lead, parts: lead + "".join(word + space for word, space in parts),
    st.text(st.sampled_from(WHITE), max_size=2),
    st.lists(st.tuples(LETTERS, SPACES), max_size=30),
)


def cut(text: str, words: int = 100, split: str = "words") -> list[str]:
    """The windows of one text, as text."""
    column = text_bytes(pa.array([text]))
    windows = cut_windows(column, WindowRule(words=words, split=split))
    raw = text.encode()
    return [raw[a:b].decode() for a, b in zip(windows.start, windows.stop, strict=True)]


def test_every_white_space_character_of_python_parts_words_and_no_other():
    points = [*range(0xD800), *range(0xE000, 0x110000, 17), 0xFEFF]
    texts = [f"a{chr(point)}b" for point in points]
    windows = cut_windows(text_bytes(pa.array(texts)), WindowRule(words=1))
    counted = np.bincount(windows.document, minlength=len(texts))
    assert counted.tolist() == [len(text.split()) for text in texts]
    assert set(WHITE) <= {text[1] for text, count in zip(texts, counted, strict=True) if count == 2}


@settings(deadline=None)  # the first example compiles
@given(TEXTS, st.integers(1, 7))
def test_windows_hold_every_word_once_in_order_and_no_more_than_asked(text, words):
    # words of these texts weigh less than 64, except where five characters of an unspaced script meet
    text = re.sub("[中日ก]+", "中", text)
    windows = cut(text, words)
    assert [word for window in windows for word in window.split()] == text.split()
    assert [len(w.split()) for w in windows[:-1]] == [words] * (len(windows) - 1)
    assert all(window == window.strip() and window for window in windows)


@settings(deadline=None)
@given(st.lists(st.one_of(st.none(), st.text(max_size=200)), max_size=8), st.integers(1, 3), st.sampled_from(["words", "paragraphs"]))
@example(["a\n\nb", None, ""], 1, "paragraphs")
def test_a_cut_never_falls_inside_a_character_and_loses_nothing_but_white_space(texts, words, split):
    column = text_bytes(pa.array(texts, pa.string()))
    windows = cut_windows(column, WindowRule(words=words, split=split))
    kept = [""] * len(texts)
    for n, a, b in zip(windows.document, windows.start, windows.stop, strict=True):
        kept[n] += column.data[a:b].tobytes().decode()  # raises inside a character
    assert ["".join(k.split()) for k in kept] == ["".join((t or "").split()) for t in texts]


SCRIPTS = {
    "Latin text without a space is cut every 64 bytes": ("a" * 1000, 64),
    "Cyrillic, two bytes a letter, every 32 letters": ("ж" * 1000, 32),
    "Chinese every four characters": ("中" * 1000, 4),
    "Japanese kana every four characters": ("の" * 1000, 4),
    "Thai every four characters": ("ก" * 1000, 4),
    "Lao every four characters": ("ກ" * 1000, 4),
    "Khmer every four characters": ("ក" * 1000, 4),
    "Burmese every four characters": ("က" * 1000, 4),
    "rare Han beyond the basic plane every four characters": ("𠀀" * 1000, 4),
    "Hindi writes spaces: every 64 bytes": ("क" * 1000, 22),
    "Korean writes spaces: every 64 bytes": ("가" * 1000, 22),
}


@pytest.mark.parametrize("sentence", SCRIPTS)
def test_a_word_without_an_end_is_cut(sentence):
    text, characters = SCRIPTS[sentence]
    pieces = cut(text, words=1)
    assert {len(piece) for piece in pieces[:-1]} == {characters}
    assert "".join(pieces) == text


def test_a_window_of_unspaced_text_counts_its_pieces():
    assert [len(w) for w in cut("中" * 1000, words=100)] == [400, 400, 200]


PARAGRAPHS = {
    "a blank line ends a window": ("a b\n\nc", ["a b", "c"]),
    "so does one with spaces in it": ("a\n \t\nb", ["a", "b"]),
    "so does one of Windows": ("a\r\n\r\nb", ["a", "b"]),
    "so does the paragraph separator": ("a\u2029b", ["a", "b"]),
    "a single line break does not": ("a\nb", ["a\nb"]),
    "three blank lines end one window": ("a\n\n\n\nb", ["a", "b"]),
    "line breaks of two gaps do not add up": ("a\nb\nc", ["a\nb\nc"]),
    "blank lines before and after count for nothing": ("\n\na\n\n", ["a"]),
    "a long paragraph is cut by words too": ("a b c\n\nd", ["a b", "c", "d"]),
}


@pytest.mark.parametrize("sentence", PARAGRAPHS)
def test_paragraphs(sentence):
    text, expected = PARAGRAPHS[sentence]
    assert cut(text, words=2 if "long" in sentence else 100, split="paragraphs") == expected


def test_paragraphs_do_not_matter_to_the_split_by_words():
    assert cut("a\n\nb\u2029c") == ["a\n\nb\u2029c"]


FORMS = {
    "string": lambda texts: pa.array(texts, pa.string()),
    "large_string": lambda texts: pa.array(texts, pa.large_string()),
    "string_view": lambda texts: pa.array(texts, pa.string_view()),
    "a slice": lambda texts: pa.array(["lead in", *texts, "and out"]).slice(1, len(texts)),
    "chunks": lambda texts: pa.chunked_array([pa.array(texts[:2]), pa.array(texts[2:])]),
    "one chunk": lambda texts: pa.chunked_array([pa.array(texts)]),
}


@pytest.mark.parametrize("form", FORMS)
def test_windows_do_not_depend_on_how_arrow_holds_the_column(form):
    texts = ["one two three", None, "", "four five", "sechs sieben ächt neun"]
    column = text_bytes(FORMS[form](texts))
    windows = cut_windows(column, WindowRule(words=2))
    assert windows.document.tolist() == [0, 0, 3, 4, 4]
    assert (windows.start - column.offsets[windows.document]).tolist() == [0, 8, 0, 0, 13]


def test_bytes_under_a_null_are_no_text():
    under = pa.Array.from_buffers(pa.string(), 2, [pa.py_buffer(b"\x02"), pa.py_buffer(np.array([0, 3, 6], "i4")), pa.py_buffer(b"hidshw")])
    column = text_bytes(under)
    assert cut_windows(column, WindowRule()).document.tolist() == [1]


def test_an_empty_column_and_a_column_of_nulls_have_no_windows():
    for column in (pa.array([], pa.string()), pa.array([None, None]), pa.chunked_array([], pa.string())):
        assert len(cut_windows(text_bytes(column), WindowRule())) == 0
        assert len(text_bytes(column)) == len(column)


WRONG = {
    "numbers are no texts": lambda: text_bytes(pa.array([1])),
    "bytes are no texts": lambda: text_bytes(pa.array([b"a"])),
    "a window has words": lambda: WindowRule(words=0),
    "an unknown split": lambda: WindowRule(split="sentences"),
}


@pytest.mark.parametrize("sentence", WRONG)
def test_wrong_use_says_what_to_do(sentence):
    with pytest.raises(UsageError) as caught:
        WRONG[sentence]()
    assert caught.value.remedy


@settings(deadline=None, max_examples=20)
@given(st.binary(max_size=60))
def test_broken_utf8_is_cut_without_reading_past_its_end(data):
    column = pa.Array.from_buffers(pa.string(), 1, [None, pa.py_buffer(np.array([0, len(data)], "i4")), pa.py_buffer(data)])
    windows = cut_windows(text_bytes(column), WindowRule(words=1))
    assert all(0 <= a < b <= len(data) for a, b in zip(windows.start, windows.stop, strict=True))


def test_time_is_linear_in_a_very_long_document():
    cut("warm")
    seconds = []
    for size in (1, 8):
        column = text_bytes(pa.array(["word without end" * 20_000 * size + "中" * 100_000 * size + " " * 300_000 * size]))
        start = time.perf_counter()
        cut_windows(column, WindowRule())
        seconds.append(time.perf_counter() - start)
    assert seconds[1] < 40 * seconds[0] + 0.05  # eight times the bytes; quadratic would be 64 times
