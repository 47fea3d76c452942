"""Shingles and signatures: the compiled kernels against plain Python and against datasketch."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from datasketch import MinHash
from hypothesis import given, settings
from hypothesis import strategies as st
from real_texts import MULTILINGUAL, c4, topics

from forebear.schemas import normalise
from forebear.tracer.dedupe.shingles import ShingleOptions, shingle_hashes, shingle_sets, token_hash
from forebear.tracer.dedupe.signatures import SignatureOptions, signatures, sketch

SIZES = [ShingleOptions(5, 5), ShingleOptions(1, 1), ShingleOptions(3, 7)]


def sets(texts: list[str], options: ShingleOptions) -> list[list[int]]:
    bounds, values = shingle_sets(pa.array(texts, pa.large_string()), options)
    return [values[bounds[k] : bounds[k + 1]].tolist() for k in range(len(texts))]


@pytest.mark.parametrize("options", SIZES)
def test_kernel_gives_the_distinct_plain_hashes_ascending(options):
    texts = MULTILINGUAL + topics()[:20]
    assert sets(texts, options) == [sorted(set(shingle_hashes(text, options))) for text in texts]


@settings(max_examples=300, deadline=None)
@given(st.lists(st.text(alphabet=st.sampled_from("aAΣσςİi'.̇ 日本ไ\u2003\x85\x1c🙂ǅꭰᎠ"), max_size=40), max_size=4))
def test_kernel_agrees_with_plain_python_on_awkward_texts(texts):
    assert sets(texts, ShingleOptions()) == [sorted(set(shingle_hashes(text))) for text in texts]


def test_words_are_counted_as_str_split_counts_them():
    texts = MULTILINGUAL + topics()[:20]
    assert sketch(pa.array(texts, pa.large_string())).words.tolist() == [len(text.split()) for text in texts]


def test_a_text_shorter_than_a_shingle_is_one_shingle_and_one_without_a_token_none():
    assert [len(s) for s in sets(["one two", "one", " \n", ""], ShingleOptions())] == [1, 1, 0, 0]


def test_digits_and_diacritics_are_not_folded():
    one, two, three = sets(["call 555 1234 now please ok", "call 555 1235 now please ok", "càll 555 1234 now please ok"], ShingleOptions())
    assert one != two
    assert one != three


def test_mostly_spaceless_text_is_cut_into_characters():
    text = "日本語のテキスト"
    assert len(sets([text], ShingleOptions(5, 5))[0]) == len(text) - 4


def test_sliced_and_null_columns_read_the_right_texts():
    column = pa.array(["zero", None, "two words", "three more words here and there"], pa.large_string())
    bounds, values = shingle_sets(column.slice(1))
    assert np.diff(bounds).tolist() == [0, 1, 2]
    assert values[0] == shingle_hashes("two words")[0]


def datasketch(text: str, options: SignatureOptions) -> np.ndarray:
    reference = MinHash(options.bands * options.rows, seed=options.seed, hashfunc=lambda h: h & 0xFFFFFFFF, scheme="affine32")
    for value in shingle_hashes(text, options.shingles):
        reference.update(value)
    return reference.hashvalues


@pytest.mark.parametrize("options", [SignatureOptions(), SignatureOptions(bands=20, rows=13, seed=42)])
def test_signatures_are_datasketchs_to_the_bit(options):
    texts = MULTILINGUAL + topics()[:15]
    assert (signatures(pa.array(texts, pa.large_string()), options) == [datasketch(text, options) for text in texts]).all()


@pytest.mark.shared_data
def test_signatures_are_datasketchs_to_the_bit_on_web_text():
    texts = c4()[:60]
    assert (signatures(pa.array(texts, pa.large_string())) == [datasketch(text, SignatureOptions()) for text in texts]).all()


def test_the_low_half_of_the_shingle_hash_is_what_is_signed():
    """A second implementation may hash the joined words: the rule of SPEC, written out."""
    words = normalise.words("The quick brown fox jumps")
    polynomial = 0
    for word in words:
        polynomial = (polynomial * 0x9E3779B97F4A7C15 + token_hash(word)) % 2**64
    assert shingle_hashes("The quick brown fox jumps") == [_fmix64(polynomial)]


def _fmix64(value: int) -> int:
    for factor in (0xFF51AFD7ED558CCD, 0xC4CEB9FE1A85EC53):
        value = (value ^ value >> 33) * factor % 2**64
    return value ^ value >> 33
