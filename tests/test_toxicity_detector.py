"""The first tier as a detector: what it says, what its digest covers, and what it refuses."""

import json
import os
import pickle
import random
import shutil
import subprocess
import sys
from pathlib import Path

import fasttext
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from forebear.schemas.digests import sha256_name
from forebear.schemas.errors import UsageError
from forebear.tracer.detect import fasttext_library
from forebear.tracer.detect.detector import GRID, Detector
from forebear.tracer.detect.fasttext_file import read_fasttext
from forebear.tracer.detect.toxicity import Toxicity, model_card

ROOT = Path(__file__).resolve().parents[1]
DATA = ROOT.parent / "shared" / "data"
BUILTIN = ROOT / "tracer/forebear/tracer/detect/builtin"
WORDS = ["red", "green", "blue", "straße", "naïve", "ёлка", "a", "b", "the", "of", "and", "to"]

ABUSE = {
    "open abuse": "you are a stupid fucking idiot, shut the fuck up you worthless piece of shit",
    "open abuse with hate": ("you are a stupid fucking idiot and everyone hates you, shut the fuck up you worthless piece of shit"),
    "in capitals": "YOU ARE A STUPID FUCKING IDIOT!!! SHUT THE FUCK UP, YOU WORTHLESS PIECE OF SHIT!!!",
}
PLAIN = {
    "a notice": "The committee will meet on Tuesday at ten to discuss the budget for the new library.",
    "identity": "She is a muslim woman who works as a doctor in London.",
    "another language": "Der Ausschuss tritt am Dienstag zusammen, um den Haushalt zu beraten.",
}


def train(path, *, loss="softmax", quantize=False, supervised=True, **how):
    """A small classifier on random words."""
    rng = random.Random(7)
    lines = [f"__label__{'toxic' if n % 2 else 'clean'} {' '.join(rng.choices(WORDS[n % 2 :: 2] + WORDS, k=9))}" for n in range(1500)]
    source = path.with_suffix(".txt")
    source.write_text("\n".join(lines) + "\n", encoding="utf-8")
    common = {"thread": 1, "verbose": 0, "minCount": 1, "dim": 8}
    if not supervised:
        model = fasttext.train_unsupervised(str(source), epoch=1, bucket=100, **common)
    else:
        model = fasttext.train_supervised(str(source), loss=loss, epoch=5, lr=0.5, seed=7, **common, **how)
    if quantize:
        model.quantize(input=str(source), qnorm=True, retrain=False, cutoff=300, dsub=2)
    model.save_model(str(path))
    return path


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return train(tmp_path_factory.mktemp("model") / "m.bin", wordNgrams=2, bucket=50)


@pytest.mark.parametrize("sentence", ABUSE)
def test_the_builtin_model_flags(sentence):
    assert Toxicity().score(pa.array([ABUSE[sentence]])).score[0] >= 0.8 * GRID


@pytest.mark.parametrize("sentence", PLAIN)
def test_the_builtin_model_passes(sentence):
    assert Toxicity().score(pa.array([PLAIN[sentence]])).score[0] < 0.5 * GRID


def test_a_long_document_is_as_toxic_as_its_worst_passage_and_shows_it():
    abuse = ABUSE["open abuse"]
    clean = " ".join([PLAIN["a notice"]] * 40)
    text = f"{clean}\n\nÄußerst: {abuse}\n\n{clean}"
    found = Toxicity(split="paragraphs").score(pa.array(["short", text]))
    assert found.score[1] >= 0.8 * GRID
    assert text.encode()[found.start[1] : found.stop[1]].decode() == f"Äußerst: {abuse}"


def test_null_and_wordless_texts_are_covered_with_score_zero_at_nothing():
    found = Toxicity().score(pa.array([None, "", " \n\u3000", "word"]))
    assert found.index.tolist() == [0, 1, 2, 3]
    assert found.score[:3].tolist() == found.start[:3].tolist() == found.stop[:3].tolist() == [0, 0, 0]
    assert found.stop[3] == 4
    assert found.labels() == ["toxic"] * 4
    assert found.failed == {}


def test_an_empty_column_has_no_findings():
    assert len(Toxicity().score(pa.array([], pa.string()))) == 0


def test_the_detector_follows_the_interface_and_names_its_model():
    detector = Toxicity()
    assert isinstance(detector, Detector)
    assert (detector.name, detector.category) == ("toxicity", "toxicity")
    assert detector.parameters["model"] == sha256_name((BUILTIN / "toxicity.bin").read_bytes())
    assert not any(isinstance(value, float) for value in detector.parameters.values())


def test_the_digest_covers_what_changes_the_output_and_not_where_the_file_lies(model, tmp_path):
    elsewhere = shutil.copy(model, tmp_path / "other name.bin")
    assert Toxicity(elsewhere).digest == Toxicity(model).digest
    assert Toxicity(model, ["__label__toxic"]).digest == Toxicity(model).digest
    assert Toxicity(model, ["clean", "toxic"]).digest == Toxicity(model, ["toxic", "clean", "toxic"]).digest
    variants = [
        Toxicity(),
        Toxicity(BUILTIN / "toxicity.bin"),  # the same file as a user's own: its text is not folded
        Toxicity(model),
        Toxicity(model, ["clean"]),
        Toxicity(model, ["clean", "toxic"]),
        Toxicity(model, split="paragraphs"),
        Toxicity(model, window=99),
        Toxicity(model, engine="library"),
    ]
    assert len({detector.digest for detector in variants}) == len(variants)


def test_the_librarys_version_and_the_architecture_are_in_its_digest(model):
    import importlib.metadata
    import platform

    version = importlib.metadata.version("fasttext-community")
    numerics = Toxicity(model, engine="library").parameters["numerics"]
    assert numerics == f"fasttext-community {version} {platform.machine()}"


OTHERS = {
    "hierarchical softmax": {"loss": "hs"},
    "one-vs-all": {"loss": "ova"},
    "negative sampling": {"loss": "ns"},
    "character n-grams": {"minn": 2, "maxn": 4, "bucket": 200},
    "quantised": {"quantize": True, "wordNgrams": 2, "bucket": 500},
}


@pytest.mark.parametrize("kind", OTHERS)
def test_other_fasttext_classifiers_run_through_the_library(tmp_path, kind):
    path = train(tmp_path / ("m.ftz" if kind == "quantised" else "m.bin"), **OTHERS[kind])
    detector, library = Toxicity(path, window=5), fasttext.load_model(str(path))
    assert detector.parameters["numerics"].startswith("fasttext")
    texts = [None, *(" ".join(random.Random(n).choices([*WORDS, "new\nline"], k=n)) for n in range(60))]
    found = detector.score(pa.array(texts))
    for text, score, start, stop in list(zip(texts, found.score, found.start, found.stop, strict=True))[2:]:
        words = text.split()
        windows = [" ".join(words[i : i + 5]) for i in range(0, len(words), 5)]
        meant = [dict(zip(*library.predict(w, k=-1), strict=True)).get("__label__toxic", 0.0) for w in windows]
        assert abs(score / GRID - min(1.0, max(meant))) <= 0.51 / GRID
        assert text.encode()[start:stop].decode().split() == windows[int(np.argmax(np.round(np.array(meant) * GRID)))].split()


def test_one_bad_text_costs_one_row(model):
    raw = b"red" + b"\xff\xfe" + b"blue"
    offsets = pa.py_buffer(np.array([0, 3, 5, 9], "i4"))
    column = pa.Array.from_buffers(pa.string(), 3, [None, offsets, pa.py_buffer(raw)])
    found = Toxicity(model, engine="library").score(column)
    assert found.index.tolist() == [0, 2]
    assert list(found.failed) == [1]
    assert len(found.score) == len(found.start) == len(found.stop) == 2


def test_a_probability_that_is_no_number_fails_the_row(tmp_path):
    path = train(tmp_path / "m.bin")
    data = bytearray(path.read_bytes())
    data[-4:] = np.float32("nan").tobytes()
    path.write_bytes(data)
    found = Toxicity(path).score(pa.array(["red", None]))
    assert list(found.failed) == [0]
    assert found.index.tolist() == [1]


def broken(name):
    def make(path, model):
        data = model.read_bytes()
        made = {
            "no file": None,
            "an empty file": b"",
            "some text": b"hello, this is no model" * 10,
            "half a model": data[: len(data) // 2],
            "all but its last byte": data[:-1],
            "another magic number": b"\0" + data[1:],
            "a later format": data[:4] + b"\x0d" + data[5:],
        }[name]
        if made is not None:
            path.write_bytes(made)
        return path

    return make


NOT_MODELS = {
    name: broken(name)
    for name in (
        "no file", "an empty file", "some text", "half a model", "all but its last byte", "another magic number",
        "a later format",
    )
} | {
    "word vectors": lambda path, _: train(path, supervised=False),
    "a folder": lambda path, _: path.parent,
}  # fmt: skip


@pytest.mark.parametrize("what", NOT_MODELS)
def test_a_file_that_is_no_classifier_is_wrong_use(what, model, tmp_path):
    path = NOT_MODELS[what](tmp_path / "m.bin", model)
    with pytest.raises(UsageError) as caught:
        Toxicity(path)
    assert str(path) in caught.value.expected
    assert caught.value.found
    assert "supervised" in caught.value.remedy


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_a_damaged_model_is_refused_or_read_but_never_crashes(model, tmp_path_factory, data):
    raw = bytearray(model.read_bytes())
    dictionary = 2000  # settings, counts and words come first
    for _ in range(data.draw(st.integers(1, 3))):
        raw[data.draw(st.integers(0, dictionary))] = data.draw(st.integers(0, 255))
    raw = raw[: data.draw(st.sampled_from([len(raw), len(raw) - 1, 300]))]
    path = tmp_path_factory.mktemp("damaged") / "m.bin"
    path.write_bytes(raw)
    try:
        file = read_fasttext(path)
    except UsageError:
        return
    assert file.labels
    assert file.quantized or len(file.input) == len(file.words) + file.bucket


def test_a_label_that_the_model_lacks_is_wrong_use_and_the_message_names_those_it_has(model):
    for labels in (["hateful"], [], "toxic"):
        with pytest.raises(UsageError) as caught:
            Toxicity(model, labels)
        assert "toxic" in caught.value.expected
        assert "clean" in caught.value.expected


def test_without_the_library_the_builtin_model_still_runs():
    code = (
        "import sys; sys.modules['fasttext'] = None\n"
        "import pyarrow as pa\n"
        "from forebear.tracer.detect.toxicity import Toxicity\n"
        "print(Toxicity().score(pa.array(['you fucking idiot'])).score[0])\n"
        "from forebear.schemas.errors import UsageError\n"
        "try: Toxicity(engine='library')\n"
        "except UsageError as e: print(e.kind)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment())
    assert done.stdout.split() == ["1024", "no_fasttext"]


def environment(**more):
    """This process's environment, with the project importable as it is here."""
    paths = [str(ROOT / part) for part in ("schemas", "tracer", "pipelines")]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(paths), **more}


def test_kernels_run_where_no_folder_can_be_written(tmp_path):
    """The package's folder is a read-only copy for numba (its locator is told so) and the user has no cache folder."""
    code = (
        "import numba.core.caching as c\n"
        "def refused(self): raise OSError('read-only file system')\n"
        "c._CacheLocator.ensure_cache_path = refused\n"
        "import pyarrow as pa\n"
        "from forebear.tracer.detect.windows import WindowRule, cut_windows, text_bytes\n"
        "print(cut_windows(text_bytes(pa.array(['a b c'])), WindowRule(words=1)).start)"
    )
    run = [sys.executable, "-c", code]
    done = subprocess.run(run, capture_output=True, text=True, env=environment(HOME=str(tmp_path / "none")), check=False)
    assert done.stdout.strip() == "[0 2 4]", done.stderr[-500:]
    assert not (tmp_path / "none").exists()


def test_a_pickled_detector_reads_its_file_again_and_is_the_same(model):
    for detector in (Toxicity(), Toxicity(model, ["clean"], split="paragraphs", window=7), Toxicity(model, engine="library")):
        packed = pickle.dumps(detector)
        assert len(packed) < 1000
        again = pickle.loads(packed)
        assert again.digest == detector.digest
        texts = pa.array(["red green\n\nblue " * 20])
        assert again.score(texts).score.tolist() == detector.score(texts).score.tolist()


def test_a_model_that_changed_under_a_pickled_detector_is_refused(model, tmp_path):
    path = shutil.copy(model, tmp_path / "m.bin")
    packed = pickle.dumps(Toxicity(path))
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    with pytest.raises(UsageError, match="one model file everywhere"):
        pickle.loads(packed)


def test_the_library_is_not_loaded_for_what_the_kernel_computes(model, monkeypatch):
    monkeypatch.setattr(fasttext_library, "_load", lambda file: pytest.fail("loaded"))
    Toxicity(model).score(pa.array(["red"]))


def test_the_rate_of_false_positives_is_told_only_for_what_was_measured(model):
    card = model_card()
    assert Toxicity().false_positive_rate == {
        "rate": card["false_positive_rate"], "on": card["false_positive_set"], "flag": card["threshold"],
    }  # fmt: skip
    assert Toxicity(model).false_positive_rate is None
    assert Toxicity(window=50).false_positive_rate is None
    assert Toxicity(labels=["clean"]).false_positive_rate is None


def test_the_card_is_of_the_shipped_file_and_keeps_what_the_issue_asks():
    card = model_card()
    assert card["model"] == sha256_name((BUILTIN / "toxicity.bin").read_bytes())
    assert card["model"] in (BUILTIN / "card.md").read_text(encoding="utf-8")
    wiki, _ = card["measured"].values()
    assert wiki["texts"] == 1492
    assert float(wiki["auc"]) >= 0.85
    assert float(card["false_positives"]["wikipedia sentences with identity terms (test split)"]["rate"]) < 0.01
    assert float(card["false_positive_rate"]) < 0.02


def test_the_shipped_model_is_small():
    assert sum(path.stat().st_size for path in BUILTIN.iterdir()) < 3_000_000


@pytest.fixture
def scripts(monkeypatch):
    """The folder of the training scripts, importable for one test."""
    monkeypatch.syspath_prepend(str(ROOT / "infra" / "toxicity"))
    yield
    for name in ("evaluate", "sets", "train"):
        sys.modules.pop(name, None)


@pytest.mark.shared_data
@pytest.mark.skipif(not DATA.is_dir(), reason="no ../shared/data")
@pytest.mark.usefixtures("scripts")
def test_the_card_says_what_is_measured_again():
    """Repair: python infra/toxicity/evaluate.py."""
    import evaluate

    measured = evaluate.measure(DATA)
    assert json.loads(json.dumps(measured)) == model_card()
    assert evaluate.render(measured) == (BUILTIN / "card.md").read_text(encoding="utf-8")


@pytest.mark.shared_data
@pytest.mark.skipif(not DATA.is_dir(), reason="no ../shared/data")
@pytest.mark.usefixtures("scripts")
def test_no_text_that_the_card_calls_unseen_is_trained_on():
    import sets
    import train as trainer

    examples = [text.split() for text, _ in trainer.examples(DATA, random.Random(trainer.SEED))]
    seen = {" ".join(words) for words in examples if len(words) > 3}  # "you suck" is anyone's
    unseen = [text for text, _ in sets.wiki_comments(DATA)] + [text for text, _ in sets.jigsaw_comments(DATA)]
    unseen += sets.sentences(DATA, "test") + sets.c4_documents(DATA, odd=True) + sets.reuters_stories(DATA)
    assert len(seen) > 50_000
    assert not [text for text in unseen if " ".join(text.split()) in seen]
