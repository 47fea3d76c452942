"""SPEC's rules of text, written out in plain Python from SPEC alone, against the compiled code.

Lower case and tokens, shingle hashes, MinHash with a Mersenne Twister of its own, band hashes, windows, JSONL rows.
"""

from __future__ import annotations

import hashlib
import json
import re
import sys
import unicodedata
from collections.abc import Callable, Iterator

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from real_texts import MULTILINGUAL
from test_spec_document import block, code, section, table

from forebear.schemas import normalise
from forebear.schemas.case_tables import CASE_IGNORABLE, CASED, LOWER_RUNS
from forebear.tracer.corpus.inputs import ReaderOptions
from forebear.tracer.corpus.rows import Source, read_rows
from forebear.tracer.dedupe.shingles import shingle_sets, token_hash
from forebear.tracer.dedupe.signatures import SignatureOptions, permutations, signatures, sketch
from forebear.tracer.detect.windows import WindowRule, cut_windows, text_bytes

M64, M32 = (1 << 64) - 1, (1 << 32) - 1
TEXT = json.loads(block("text shard-file").split("\n")[0])["text"]
SPACELESS_TEXT = "日本語のテキスト"


# Section 10


def ranges(name: str) -> list[tuple[int, int]]:
    (told,) = re.findall(rf"\*\*{name}\*\*: ([^.]*)\.", section("10. Normalised text"))
    return [(int(first, 16), int(last, 16)) for first, last in re.findall(r"U\+([0-9A-F]+)-([0-9A-F]+)", told)]


WHITE = {point for first, last in ranges("White space") for point in range(first, last + 1)}
SPACELESS = {point for first, last in ranges("Scripts without spaces") for point in range(first, last + 1)}


def test_white_space_and_scripts_without_spaces_are_the_codes():
    assert ranges("White space") == list(normalise.WHITE_SPACE)
    assert ranges("Scripts without spaces") == list(normalise.SPACELESS)
    assert {point for point in range(sys.maxunicode + 1) if chr(point).isspace()} == WHITE


def points(given_ranges: tuple[tuple[int, int], ...]) -> list[int]:
    return sorted(point for first, last in given_ranges for point in range(first, last + 1))


LINES: dict[str, Callable[[], list[str]]] = {
    "lower case, those that change, without U+0130": lambda: [
        f"{point:04X} {point + delta:04X}"
        for point, delta in sorted((point, delta) for first, last, step, delta in LOWER_RUNS for point in range(first, last + 1, step))
    ],
    "Cased and not Case_Ignorable": lambda: [f"{point:04X}" for point in points(CASED)],
    "Case_Ignorable": lambda: [f"{point:04X}" for point in points(CASE_IGNORABLE)],
}


@pytest.mark.parametrize("name", LINES)
def test_table_of_unicode_has_the_digest_that_spec_gives(name):
    row = next(row for row in table("10. Normalised text", "table") if row["table"] == name)
    lines = LINES[name]()
    assert code(row["line"]) == lines[0]
    assert int(row["lines"]) == len(lines)
    assert hashlib.sha256("".join(line + "\n" for line in lines).encode()).hexdigest() == code(row["SHA-256"])


@pytest.mark.skipif(unicodedata.unidata_version != "14.0.0", reason="this Python has another Unicode")
def test_the_lower_case_table_is_unicode_14s():
    native = [
        f"{point:04X} {ord(chr(point).lower()):04X}"
        for point in range(sys.maxunicode + 1)
        if point != 0x130 and not 0xD800 <= point < 0xE000 and chr(point).lower() != chr(point)
    ]
    assert native == LINES["lower case, those that change, without U+0130"]()


CASED_POINTS, IGNORABLE = set(points(CASED)), set(points(CASE_IGNORABLE))
LOWER = {int(a, 16): chr(int(b, 16)) for a, b in map(str.split, LINES["lower case, those that change, without U+0130"]())}


def lower(text: str) -> str:
    return "".join(_lower(text, at) for at in range(len(text)))


def _lower(text: str, at: int) -> str:
    point = ord(text[at])
    if point == 0x130:
        return "\u0069\u0307"
    if point == 0x3A3:
        before = next((ord(one) for one in reversed(text[:at]) if ord(one) not in IGNORABLE), None)
        after = next((ord(one) for one in text[at + 1 :] if ord(one) not in IGNORABLE), None)
        return "\u03c2" if before in CASED_POINTS and after not in CASED_POINTS else "\u03c3"
    return LOWER.get(point, text[at])


def tokens(text: str) -> tuple[list[str], bool]:
    words = re.split(f"[{''.join(map(chr, sorted(WHITE)))}]+", lower(text))
    words = [word for word in words if word]
    solid = [ord(one) for one in text if ord(one) not in WHITE]
    dense = 2 * sum(point in SPACELESS for point in solid) > len(solid)
    return (list("".join(words)) if dense else words), dense


# Section 11


def fmix64(value: int) -> int:
    for factor in (0xFF51AFD7ED558CCD, 0xC4CEB9FE1A85EC53):
        value = (value ^ value >> 33) * factor & M64
    return value ^ value >> 33


def fmix32(value: int) -> int:
    value = (value ^ value >> 16) * 0x85EBCA6B & M32
    value = (value ^ value >> 13) * 0xC2B2AE35 & M32
    return value ^ value >> 16


def hash_of_token(token: str) -> int:
    value = 0xCBF29CE484222325
    for byte in token.encode():
        value = (value ^ byte) * 0x100000001B3 & M64
    return fmix64(value)


def shingles(text: str, ngram: int = 5, characters: int = 5) -> list[int]:
    found, dense = tokens(text)
    if not found:
        return []
    size, hashes = (characters if dense else ngram), [hash_of_token(token) for token in found]
    return [shingle(hashes[at : at + size]) for at in range(max(1, len(hashes) - size + 1))]


def shingle(hashes: list[int]) -> int:
    value = 0
    for one in hashes:
        value = (value * 0x9E3779B97F4A7C15 + one) & M64
    return fmix64(value)


def mersenne_twister(seed: int) -> Iterator[int]:
    """MT19937 with init_genrand (Matsumoto and Nishimura, 2002), 32-bit outputs."""
    state = [seed]
    for n in range(1, 624):
        state.append((1812433253 * (state[-1] ^ state[-1] >> 30) + n) & M32)
    while True:
        for n in range(624):
            mixed = (state[n] & 0x80000000) | (state[(n + 1) % 624] & 0x7FFFFFFF)
            state[n] = state[(n + 397) % 624] ^ mixed >> 1 ^ (0x9908B0DF if mixed & 1 else 0)
        for value in state:
            value ^= value >> 11
            value ^= value << 7 & 0x9D2C5680
            value ^= value << 15 & 0xEFC60000
            yield value ^ value >> 18


def draw(count: int, seed: int) -> tuple[list[int], list[int]]:
    outputs = mersenne_twister(seed)
    return [2 * (next(outputs) % 2**31) + 1 for _ in range(count)], [next(outputs) for _ in range(count)]


def signature(text: str, options: SignatureOptions) -> list[int]:
    hashes = [fmix32(one & M32) for one in set(shingles(text, options.ngram, options.characters))]
    pairs = zip(*draw(options.bands * options.rows, options.seed), strict=True)
    return [min((a * h + b) & M32 for h in hashes) for a, b in pairs]


def band_hashes(values: list[int], options: SignatureOptions) -> list[int]:
    found = []
    for band in range(options.bands):
        value = fmix64(band + 1)
        for one in values[band * options.rows : (band + 1) * options.rows]:
            value = fmix64((value * 0x9E3779B97F4A7C15 + one) & M64)
        found.append(value)
    return found


def vectors() -> dict[str, str]:
    options = SignatureOptions()
    (a, b), signed = draw(112, 1), signature(TEXT, options)
    bands = band_hashes(signed, options)
    return {
        "token hash of `north`": f"{hash_of_token('north'):016x}",
        "token hash of `日`": f"{hash_of_token('日'):016x}",
        "first shingle hash": f"{shingles(TEXT)[0]:016x}",
        "second shingle hash": f"{shingles(TEXT)[1]:016x}",
        f"last shingle hash of `{SPACELESS_TEXT}`": f"{shingles(SPACELESS_TEXT)[-1]:016x}",
        "a, first permutation": f"{a[0]:08x}",
        "b, first permutation": f"{b[0]:08x}",
        "signature, first value": f"{signed[0]:08x}",
        "signature, last value": f"{signed[-1]:08x}",
        "band hash, first band": f"{bands[0]:016x}",
        "band hash, last band": f"{bands[-1]:016x}",
    }


def test_values_that_spec_gives_for_hashes_signatures_and_bands():
    listed = {row["value"]: code(row["hex"]) for row in table("11. Shingles, signatures, bands", "value")}
    assert listed == vectors()


@pytest.mark.parametrize("seed", [0, 1, 42, 2**32 - 1])
def test_permutations_are_those_of_a_plain_mersenne_twister(seed):
    assert (permutations(400, seed) == np.array(draw(400, seed), dtype="u4")).all()


AWKWARD = [
    TEXT,
    SPACELESS_TEXT,
    "İstanbul ΟΔΥΣΣΕΥΣ ʰΣ aΣʰb a.Σ",
    "one",
    "日本 and more words than that",
    "日本語 ab",
    "a\u2003b\x85c\x1cd",
    *MULTILINGUAL,
]


@pytest.mark.parametrize("options", [SignatureOptions(), SignatureOptions(ngram=2, characters=3, bands=3, rows=5, seed=9)])
def test_the_kernel_gives_the_shingles_signatures_and_bands_of_the_rules(options):
    column = pa.array(AWKWARD, pa.large_string())
    bounds, values = shingle_sets(column, options.shingles)
    found = [values[bounds[k] : bounds[k + 1]].tolist() for k in range(len(AWKWARD))]
    assert found == [sorted(set(shingles(text, options.ngram, options.characters))) for text in AWKWARD]
    signable = [text for text in AWKWARD if shingles(text)]
    column = pa.array(signable, pa.large_string())
    signed = [signature(text, options) for text in signable]
    assert signatures(column, options).tolist() == signed
    assert sketch(column, options).bands.tolist() == [band_hashes(one, options) for one in signed]


@settings(max_examples=200, deadline=None)
@given(st.text(alphabet=st.sampled_from("aAbΣσİ'.ʰͅ 日本ไ\u2003\x85\x1c\n🙂"), max_size=30))
def test_rules_and_kernel_agree_on_awkward_texts(text):
    bounds, values = shingle_sets(pa.array([text], pa.large_string()))
    assert values[: bounds[1]].tolist() == sorted(set(shingles(text)))


def test_one_token_hash_is_the_codes():
    assert token_hash("north") == hash_of_token("north")


# Section 14: windows


HEAVY = ((0x0E00, 0x0EFF), (0x1000, 0x10BF), (0x1780, 0x17FF), (0x3000, 0x9FFF), (0x20000, 0x33FFF))


def window_words(text: str) -> list[tuple[int, int, str]]:
    """(first byte, one past the last, what stands between it and the word before) of every word, long ones cut."""
    found: list[tuple[int, int, str]] = []
    at, gap, weight, inside = 0, "", 0, False
    for one in text:
        size = len(one.encode())
        if ord(one) in WHITE:
            gap, inside = gap + one, False
        else:
            if not inside or weight >= 64:
                found.append((at, at, gap))
                gap, weight, inside = "", 0, True
            weight += size + (16 if any(first <= ord(one) <= last for first, last in HEAVY) else 0)
            found[-1] = (found[-1][0], at + size, found[-1][2])
        at += size
    return found


def windows(text: str, size: int, split: str) -> list[tuple[int, int]]:
    found: list[tuple[int, int]] = []
    count = size
    for start, stop, gap in window_words(text):
        ends = split == "paragraphs" and (gap.count("\n") >= 2 or "\u2029" in gap)
        if count == size or ends:
            found.append((start, stop))
            count = 0
        found[-1] = (found[-1][0], stop)
        count += 1
    return found


def test_the_scripts_that_weigh_more_are_spec_s():
    told = " ".join(section("14. Scores and detectors").split())
    assert ", ".join(f"U+{first:04X}-{last:04X}" for first, last in HEAVY) in told


@settings(max_examples=300, deadline=None)
@given(
    st.lists(
        st.sampled_from(["a ", "bc", "日本語", "ก", "\n", "\n\n", " \n\t\n", "\u2029", "x" * 70, "é" * 33, "\u3000", "𠀀"]), max_size=25
    ),
    st.integers(1, 4),
    st.sampled_from(["words", "paragraphs"]),
)
def test_windows_are_cut_as_spec_says(parts, size, split):
    text = "".join(parts)
    cut = cut_windows(text_bytes(pa.array([text], pa.large_string())), WindowRule(words=size, split=split))
    assert list(zip(cut.start.tolist(), cut.stop.tolist(), strict=True)) == windows(text, size, split)


# Section 9


def _cell(cell: str) -> str | None:
    return {"null": None, "(empty)": "", "": None}[cell] if not cell.startswith("`") else code(cell)


def rows_of(data: bytes, name: str = "x.jsonl") -> list[tuple[str | None, str | None, str | None]]:
    batches = list(read_rows(Source.from_bytes(data, name=name), options=ReaderOptions()))
    columns = [[value for batch in batches for value in getattr(batch, field).to_pylist()] for field in ("texts", "source_id", "error")]
    return list(zip(*columns, strict=True))


@pytest.mark.parametrize("row", table("9. Reading rows", "line"), ids=lambda row: row["line"])
def test_a_line_gives_the_row_that_spec_says(row):
    assert rows_of(code(row["line"]).encode() + b"\n") == [(_cell(row["text"]), _cell(row["id"]), _cell(row["error"]))]


A, B = b'{"text": "a"}', b'{"text": "b"}'

LINES_AND_ROWS = {
    "a byte order mark at the start is passed over": (b"\xef\xbb\xbf" + A + b"\n", [("a", None, None)]),
    "a byte order mark elsewhere is no JSON": (A + b"\n\xef\xbb\xbf" + B + b"\n", [("a", None, None), (None, None, "unreadable")]),
    "a CR before the LF is JSON's white space": (A + b"\r\n" + B + b"\r\n", [("a", None, None), ("b", None, None)]),
    "the last line may lack its LF": (A + b"\n" + B, [("a", None, None), ("b", None, None)]),
    "lines of ASCII white space are no rows": (b"\n \t\x0b\x0c\r\n" + A + b"\n\n", [("a", None, None)]),
    "other white space is a line that is no JSON": ("\u2003\n".encode(), [(None, None, "unreadable")]),
    "CR alone, U+2028 and U+0085 end no line": ('{"text": "\u2028\x85"}\r{}\n'.encode(), [(None, None, "unreadable")]),
    "a line that is not UTF-8 says so": (b'{"text": "\xff"}\n' + A + b"\n", [(None, None, "invalid_utf8"), ("a", None, None)]),
    "256 levels are read": (b'{"text": "a", "n": ' + b"[" * 255 + b"]" * 255 + b"}\n", [("a", None, None)]),
    "257 levels are not": (b'{"text": "a", "n": ' + b"[" * 256 + b"]" * 256 + b"}\n", [(None, None, "unreadable")]),
}


@pytest.mark.parametrize("claim", LINES_AND_ROWS)
def test_lines_and_rows(claim):
    data, expected = LINES_AND_ROWS[claim]
    assert rows_of(data) == expected


def test_of_a_truncated_gzip_file_whole_lines_count_and_one_row_stands_for_the_rest():
    import gzip
    import zlib

    data = gzip.compress(b"".join(b'{"text": "row %d"}\n' % n for n in range(5000)), mtime=0)
    cut = data[: len(data) // 2]
    whole = zlib.decompressobj(wbits=31).decompress(cut).count(b"\n")
    found = rows_of(cut, name="x.jsonl.gz")
    assert found == [(f"row {n}", None, None) for n in range(whole)] + [(None, None, "unreadable")]
    assert 0 < whole < 5000
