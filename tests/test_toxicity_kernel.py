"""The fused kernel gives the library's scores, on integers: the same whatever the batch, the chunk or the machine."""

import json
import os
import random
from fractions import Fraction
from math import exp
from pathlib import Path

import fasttext
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from forebear.tracer.detect.detector import GRID
from forebear.tracer.detect.fasttext_file import read_fasttext
from forebear.tracer.detect.fasttext_fused import AS_IS, FOLDED, byte_map, fuse
from forebear.tracer.detect.fasttext_kernel import NUMERICS
from forebear.tracer.detect.toxicity import Toxicity

DATA = Path(__file__).resolve().parents[2] / "shared" / "data"
WORDS = [
    "red",
    "green",
    "blue",
    "straße",
    "naïve",
    "中文",
    "हिन्दी",
    "ёлка",
    "🙂",
    "don't",
    "U.S.",
    "x\xa0y",
    "a",
    "b",
    "the",
    "of",
    "and",
    "to",
]
LABELS = ["toxic", "clean", "spam", "odd", "dull"]
CLOSE = 2e-4

MODELS = {
    "two labels, words alone": {"labels": 2, "wordNgrams": 1, "dim": 4},
    "two labels, bigrams": {"labels": 2, "wordNgrams": 2, "dim": 16, "bucket": 997},
    "two labels, 4-grams in few buckets": {"labels": 2, "wordNgrams": 4, "dim": 5, "bucket": 7},
    "three labels, trigrams": {"labels": 3, "wordNgrams": 3, "dim": 8, "bucket": 1000},
    "five labels, words alone": {"labels": 5, "wordNgrams": 1, "dim": 8},
    "one label": {"labels": 1, "wordNgrams": 2, "dim": 4, "bucket": 100},
}


def write_model(path, *, labels=2, loss="softmax", seed=7, **settings):
    """Train a small classifier on random words; each label prefers its own."""
    rng = random.Random(seed)
    lines = []
    for _ in range(600):
        label = rng.randrange(labels)
        words = rng.choices(WORDS, [8 if n % labels == label else 1 for n in range(len(WORDS))], k=rng.randint(1, 12))
        lines.append(f"__label__{LABELS[label]} {' '.join(words)}")
    source = path.with_suffix(".txt")
    source.write_text("\n".join(lines) + "\n", encoding="utf-8")
    model = fasttext.train_supervised(str(source), loss=loss, epoch=8, lr=0.8, thread=1, seed=seed, verbose=0, minCount=1, **settings)
    model.save_model(str(path))
    return path


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    return {name: str(write_model(folder / f"{n}.bin", **how)) for n, (name, how) in enumerate(MODELS.items())}


def expected(model, window, labels=("toxic",)):
    """The library's own probability of one line."""
    found, values = model.predict(window.replace("\n", " "), k=-1)
    return sum(float(p) for label, p in zip(found, values, strict=True) if label.removeprefix("__label__") in labels)


def differs(detector, library, texts, labels=("toxic",)):
    """How far the kernel's score of each text is from the library's of its evidence, beyond the grid's own rounding."""
    found = detector.score(pa.array(texts, pa.string()))
    result = []
    for text, score, start, stop in zip(texts, found.score, found.start, found.stop, strict=True):
        window = text.encode()[start:stop].decode()
        if window:
            result.append(max(0.0, abs(score / GRID - min(1.0, expected(library, window, labels))) - 0.5 / GRID))
    return max(result, default=0.0)


TOKENS = st.one_of(
    st.sampled_from(WORDS),
    st.sampled_from(["</s>", "__label__toxic", "__label__new", "__label", "</s", "\0", "\x85", "\u2003", "\n", "\v"]),
    st.text(max_size=6),
)
TEXTS = st.lists(st.tuples(TOKENS, st.sampled_from([" ", "\n", "\u00a0", "\t", "", "\r\n"])), max_size=60).map(
    lambda parts: "".join(a + b for a, b in parts)
)


@pytest.mark.parametrize("name", MODELS)
def test_the_kernel_gives_the_librarys_score_of_the_window_it_names(models, name):
    detector, library = Toxicity(models[name], window=9), fasttext.load_model(models[name])
    assert detector.parameters["numerics"] == NUMERICS

    @settings(max_examples=150, deadline=None)
    @given(TEXTS)
    @example("</s> red green")
    @example("red </s> green blue")
    @example("__label__toxic")
    @example("unknown words only, none seen")
    def check(text):
        assert differs(detector, library, [text]) < CLOSE

    check()


@pytest.mark.parametrize("labels", [("toxic", "spam"), ("clean",), ("__label__spam",), tuple(LABELS)])
def test_several_labels_are_summed(models, labels):
    name = "five labels, words alone"
    detector, library = Toxicity(models[name], labels), fasttext.load_model(models[name])
    bare = [label.removeprefix("__label__") for label in labels]
    texts = [" ".join(random.Random(n).choices(WORDS, k=n % 30 + 1)) for n in range(200)]
    assert differs(detector, library, texts, bare) < CLOSE
    if len(labels) == len(LABELS):
        assert set(detector.score(pa.array(texts)).score.tolist()) == {GRID}


def test_the_worst_window_counts_and_the_earliest_of_equals(models):
    detector = Toxicity(models["two labels, words alone"], window=2)
    singles = {word: int(detector.score(pa.array([f"{word} {word}"])).score[0]) for word in ("red", "green")}
    bad, good = sorted(singles, key=singles.get, reverse=True)
    assert singles[bad] > singles[good]
    found = detector.score(pa.array([f"{good} {good} {bad} {bad} {good} {good} {bad} {bad}"]))
    assert found.score[0] == singles[bad]
    assert (found.start[0], found.stop[0]) == (len(f"{good} {good} "), len(f"{good} {good} {bad} {bad}"))


def test_scores_do_not_depend_on_the_batch(models):
    texts = [" ".join(random.Random(n).choices(WORDS, k=n * 7 % 50)) for n in range(120)]
    for name in ("two labels, bigrams", "three labels, trigrams"):
        detector = Toxicity(models[name], window=5)
        whole = detector.score(pa.array(texts))
        alone = [detector.score(pa.array([text])) for text in texts]
        chunked = detector.score(pa.chunked_array([texts[:50], texts[50:]], pa.large_string()))
        for part in ("score", "start", "stop"):
            assert getattr(whole, part).tolist() == [int(getattr(one, part)[0]) for one in alone]
            assert getattr(whole, part).tolist() == getattr(chunked, part).tolist()


def test_kernel_and_library_engine_name_the_same_windows_within_a_step_of_the_grid(models):
    texts = [" ".join(random.Random(n).choices(WORDS, k=n * 11 % 90 + 1)) for n in range(300)]
    for name in MODELS:
        fused = Toxicity(models[name], window=10).score(pa.array(texts))
        library = Toxicity(models[name], window=10, engine="library").score(pa.array(texts))
        assert np.abs(fused.score.astype(int) - library.score).max() <= 1
        same = fused.score == library.score
        assert (fused.start == library.start)[same].mean() > 0.95  # ties within a step may name another window


def test_bounds_of_two_labels_are_the_exact_logits_of_the_grid(models):
    fused = fuse(read_fasttext(models["two labels, bigrams"]), ["toxic"])
    assert len(fused.bounds) == GRID
    for k in (1, 2, 511, 512, 513, 820, 1023, 1024):
        least = Fraction(2 * k - 1, 2 * GRID)
        reached, missed = (1 / (1 + exp(-(fused.bounds[k - 1] - d) / 2**fused.bits)) for d in (0, 1))
        assert missed < least <= reached or abs(reached - least) < 1e-15
    assert (np.diff(fused.bounds) > 0).all()


def test_rows_hold_each_features_share_of_the_logit(models):
    path = models["three labels, trigrams"]
    file, fused = read_fasttext(path), fuse(read_fasttext(path), ["toxic"])
    library = fasttext.load_model(path)
    assert [word.decode() for word in file.words] == library.get_words()
    meant = library.get_input_matrix().astype("f8") @ (library.get_output_matrix()[1:] - library.get_output_matrix()[0]).T.astype("f8")
    assert np.abs(fused.rows.reshape(meant.shape) / 2.0**fused.bits - meant).max() < 1e-5


def test_the_fold_lowers_ascii_and_parts_at_punctuation_but_keeps_utf8():
    table = byte_map(FOLDED)
    text = "Don't, STRASSE-ß 1999 — “Ünï”! x_y\tz"
    assert bytes(table[list(text.encode())]).replace(b"\0", b" ").decode() == "don't  strasse ß 0000 — “Ünï”  x y z"
    assert byte_map(AS_IS)[list(b"Aa_'-\x85\xa0")].tolist() == list(b"Aa_'-\x85\xa0")


BUILTIN = "tracer/forebear/tracer/detect/builtin/toxicity.bin"
GOLDEN = Path(__file__).parent / "golden" / "toxicity_scores.json"


def test_the_builtin_models_scores_are_the_same_everywhere():
    """Repair after a deliberate change: FOREBEAR_WRITE_GOLDEN=1 pytest tests/test_toxicity_kernel.py."""
    rng = random.Random(11)
    words = [word.decode() for word in read_fasttext(Path(__file__).parents[1] / BUILTIN).words]
    texts = [" ".join(rng.choices(words, k=n * 13 % 250)) for n in range(200)]
    found = Toxicity().score(pa.array(texts))
    got = {part: getattr(found, part).tolist() for part in ("score", "start", "stop")}
    if os.environ.get("FOREBEAR_WRITE_GOLDEN"):
        GOLDEN.write_text(json.dumps(got) + "\n", encoding="utf-8")
    assert got == json.loads(GOLDEN.read_text(encoding="utf-8"))
    assert len(set(got["score"])) > 100


@pytest.mark.shared_data
@pytest.mark.skipif(not DATA.is_dir(), reason="no ../shared/data")
@pytest.mark.parametrize("grams", [1, 2])
def test_on_real_multilingual_text_the_kernel_is_the_library(tmp_path, grams):
    import csv
    import gzip

    texts = []
    for language in ("de", "nl", "zh-cn", "hi-Latn"):
        with (DATA / f"tox_wiki_bias/sentence_templates/{language}_sentence_templates.csv").open(encoding="utf-8") as rows:
            texts += [row["phrase"] for row in csv.DictReader(rows)][::97]
    with (DATA / "tox_wiki_bias/toxicity_nonfuzzed_testset.csv").open(encoding="utf-8", newline="") as rows:
        texts += [row["comment"] for row in csv.DictReader(rows)]
    with gzip.open(DATA / "text_c4_wimbd/c4-sample.00000-of-00001.json.gz", "rt", encoding="utf-8") as rows:
        texts += [json.loads(row)["text"] for row in rows]
    source = tmp_path / "train.txt"
    lines = [f"__label__{'toxic' if n % 3 else 'clean'} {' '.join(text.split())}" for n, text in enumerate(texts[:3000])]
    source.write_text("\n".join(lines) + "\n", encoding="utf-8")
    model = fasttext.train_supervised(str(source), dim=16, wordNgrams=grams, bucket=20_000, epoch=5, lr=0.5, thread=1, verbose=0)
    model.save_model(str(tmp_path / "m.bin"))
    assert differs(Toxicity(tmp_path / "m.bin"), model, texts) < CLOSE
