"""The second tier with a real, tiny checkpoint in Detoxify's layout: loading, scores, limits, refusals."""

from __future__ import annotations

import json
import os
import pickle
import shutil
from decimal import Decimal
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from real_texts import topics
from scanning import by_id, policy_of, scan, write_jsonl

from forebear.schemas.errors import UsageError
from forebear.tracer.detect.detector import GRID, Detector, to_grid
from forebear.tracer.detect.second_tier import SecondTier
from forebear.tracer.detect.toxicity import Toxicity

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
library = pytest.importorskip("detoxify")

from forebear.tracer.detect.detoxify import Detoxify  # noqa: E402
from forebear.tracer.detect.detoxify_files import load_detoxify  # noqa: E402

BAD = "you are a stupid fucking idiot and everyone hates you, shut the fuck up"
TEXTS = [BAD, *topics()[:8]]
CLASSES = ["toxic", "severe_toxic", "obscene", "threat", "insult", "identity_hate"]
LABELS = ("toxicity", "severe_toxicity", "obscene", "threat", "insult", "identity_attack")


def tiny(folder: Path, *, classes=CLASSES, outputs=6, size=32) -> Path:
    """A small random BERT with a tokenizer, saved as Detoxify saves its own."""
    hub = folder / "hf"
    hub.mkdir(parents=True)
    words = sorted({word for text in TEXTS for word in text.lower().split()})[:2000]
    (hub / "vocab.txt").write_text("\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *words]))
    tokenizer = transformers.BertTokenizerFast(vocab_file=str(hub / "vocab.txt"))
    tokenizer.save_pretrained(hub)
    torch.manual_seed(0)
    config = transformers.BertConfig(
        vocab_size=len(tokenizer), hidden_size=size, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64,
        num_labels=outputs, initializer_range=0.5,  # scores that differ from text to text
    )  # fmt: skip
    config.save_pretrained(hub)
    model = transformers.BertForSequenceClassification(config)
    arch = {
        "model_type": "bert-base-uncased",
        "model_name": "BertForSequenceClassification",
        "tokenizer_name": "BertTokenizer",
        "num_classes": outputs,
    }
    described = {"arch": {"args": arch}, "dataset": {"args": {"classes": classes}}}
    torch.save({"config": described, "state_dict": model.state_dict()}, folder / "tiny.ckpt")
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    os.environ["HF_HUB_OFFLINE"] = "1"
    return tiny(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="module")
def first() -> Toxicity:
    return Toxicity()


def tier(folder: Path, first: Toxicity, **rest) -> Detoxify:
    given = {"checkpoint": str(folder / "tiny.ckpt"), "config": str(folder / "hf"), **rest}
    return Detoxify(first, SecondTier(**given))


def test_scores_are_those_of_the_librarys_own_class(folder, first, tmp_path):
    pointed = tmp_path / "pointed.ckpt"
    value = torch.load(folder / "tiny.ckpt", weights_only=True)
    value["config"]["arch"]["args"]["model_type"] = str(folder / "hf")  # else the library asks the hub
    torch.save(value, pointed)
    bare = library.Detoxify(checkpoint=str(pointed), huggingface_config_path=str(folder / "hf"))
    texts = [text[:400] for text in TEXTS]
    ours = tier(folder, first).predict(texts)
    for n, text in enumerate(texts):
        theirs = bare.predict(text)
        assert np.abs(ours[n] - [theirs[label] for label in LABELS]).max() < 1e-5
    assert np.ptp(ours[:, 0]) > 0.05


def test_every_label_of_a_scored_document_is_logged_with_its_worst_window(folder, first):
    detector = tier(folder, first, sample=Decimal(1))
    assert isinstance(detector, Detector)
    found = detector.score(pa.array([None, TEXTS[1], BAD]))
    assert found.labels() == list(LABELS) * 2
    assert found.index.tolist() == [1] * 6 + [2] * 6
    windows = first.windows(pa.array([TEXTS[1]]))
    pieces = [TEXTS[1].encode()[a:b].decode() for a, b in zip(windows.start.tolist(), windows.stop.tolist(), strict=True)]
    each = to_grid(detector.predict(pieces))
    assert found.score[:6].tolist() == each.max(axis=0).tolist()
    assert found.start[:6].tolist() == [int(windows.start[n]) for n in each.argmax(axis=0)]


def test_documents_that_are_neither_suspicious_nor_sampled_have_no_finding(folder, first):
    found = tier(folder, first, sample=Decimal(0)).score(pa.array(TEXTS))
    assert set(found.index.tolist()) == {0}


def test_the_same_rows_give_the_same_scores_again(folder, first):
    column = pa.array(TEXTS)
    one, other = (tier(folder, first, sample=Decimal(1)) for _ in range(2))
    assert one.digest == other.digest
    assert one.score(column).score.tolist() == other.score(column).score.tolist()


def test_a_window_beyond_the_models_limit_is_cut_and_not_truncated(folder):
    wide = Toxicity(window=100_000)
    detector = tier(folder, wide, sample=Decimal(1))
    text = max(topics(), key=len)
    late = len(text.encode())
    pieces = detector._fitting(0, 0, late, data={0: text.encode()})
    assert len(pieces) > 1
    assert pieces[0][1] == 0
    assert pieces[-1][2] == late
    assert all(one[2] == other[1] for one, other in zip(pieces, pieces[1:], strict=False))
    tokenizer = detector._loaded.tokenizer
    assert all(len(tokenizer(text.encode()[a:b].decode())["input_ids"]) <= 512 for _, a, b in pieces)


def test_the_digest_follows_files_and_settings_not_places(folder, first, tmp_path):
    one = tier(folder, first)
    shutil.copytree(folder, tmp_path / "copy")
    assert tier(tmp_path / "copy", first).digest == one.digest
    others = [tier(folder, first, sample=Decimal("0.5")), tier(folder, first, suspicious=5), tier(folder, Toxicity(window=50))]
    assert len({one.digest, *(other.digest for other in others)}) == 4
    assert {"torch", "transformers", "detoxify", "device", "dtype"} <= set(one.parameters["numerics"])


def test_a_policys_digest_holds_no_place(folder, tmp_path):
    shutil.copytree(folder, tmp_path / "copy")
    digests = {
        policy_of(tmp_path, f'[toxicity.detoxify]\ncheckpoint = "{place}/tiny.ckpt"\nconfig = "{place}/hf"\n').digest
        for place in (folder, tmp_path / "copy")
    }
    assert len(digests) == 1


class Harmful:
    """What a checkpoint must not be able to do."""

    def __reduce__(self):
        return os.mkdir, (os.environ["FOREBEAR_TEST_HARM"],)


def test_a_checkpoint_with_code_in_it_is_refused_and_not_run(folder, tmp_path, monkeypatch):
    monkeypatch.setenv("FOREBEAR_TEST_HARM", str(tmp_path / "harm"))
    torch.save({"config": Harmful(), "state_dict": {}}, tmp_path / "bad.ckpt", pickle_module=pickle)
    with pytest.raises(UsageError) as raised:
        load_detoxify(str(tmp_path / "bad.ckpt"), str(folder / "hf"), device="cpu")
    assert raised.value.kind == "unsafe_checkpoint"
    assert not (tmp_path / "harm").exists()


def _changed(folder, tmp_path, change):
    value = torch.load(folder / "tiny.ckpt", weights_only=True)
    change(value)
    torch.save(value, tmp_path / "other.ckpt")
    return str(tmp_path / "other.ckpt"), str(folder / "hf")


REFUSED = {
    "a checkpoint without a configuration": ("checkpoint_without_config", lambda v: v.pop("config")),
    "a checkpoint without classes": ("checkpoint_without_config", lambda v: v["config"]["dataset"].clear()),
    "more labels than outputs": ("labels_do_not_match", lambda v: v["config"]["dataset"]["args"]["classes"].append("x")),
    "a label twice": ("labels_do_not_match", lambda v: v["config"]["dataset"]["args"].update(classes=["toxic", "toxicity"])),
    "another number of outputs": ("detoxify_not_loaded", lambda v: v["config"]["arch"]["args"].update(num_classes=9)),
    "another architecture": ("unknown_architecture", lambda v: v["config"]["arch"]["args"].update(model_name="pipeline")),
    "weights that are missing": ("weights_do_not_match", lambda v: v["state_dict"].pop("classifier.weight")),
}


@pytest.mark.parametrize("what", REFUSED)
def test_this_checkpoint_is_refused(what, folder, tmp_path):
    kind, change = REFUSED[what]
    with pytest.raises(UsageError) as raised:
        load_detoxify(*_changed(folder, tmp_path, change), device="cpu")
    assert raised.value.kind == kind


def test_files_that_are_not_there_are_wrong_use(folder, tmp_path):
    for checkpoint, config, kind in (
        (str(tmp_path / "no.ckpt"), str(folder / "hf"), "no_such_checkpoint"),
        (str(folder / "tiny.ckpt"), str(tmp_path), "no_such_config"),
    ):
        with pytest.raises(UsageError) as raised:
            load_detoxify(checkpoint, config, device="cpu")
        assert raised.value.kind == kind


def test_fewer_labels_than_outputs_are_the_first_of_them(tmp_path, first):
    made = tiny(tmp_path / "wide", classes=["toxicity", "obscene"], outputs=5)
    found = tier(made, first).score(pa.array([BAD]))
    assert found.labels() == ["toxicity", "obscene"]


def test_a_scan_cascades_and_counts_its_audit_sample(folder, tmp_path):
    toml = f'[toxicity.detoxify]\ncheckpoint = "{folder}/tiny.ckpt"\nconfig = "{folder}/hf"\nsample = 0.5\nflag = 0.99\ndrop = 1\n'
    policy = policy_of(tmp_path, toml)
    write_jsonl(tmp_path / "in" / "0.jsonl", [{"id": str(n), "text": text} for n, text in enumerate([BAD, *topics()[:30]])])
    scanned = scan(tmp_path / "l", [tmp_path / "in"], policy=policy)
    rows = by_id(tmp_path / "l", scanned)
    second = {name: [e for e in row["evidence"] if e["label"] in LABELS] for name, row in rows.items()}
    scored = {name for name, found in second.items() if found}
    assert "0" in scored
    assert len(second["0"]) == 6
    assert 1 < len(scored) < 31
    counts = json.loads(scanned.committed.manifest.to_bytes())["environment"]["second_tier"]
    assert counts["suspicious"] + counts["sampled"] == len(scored)
    assert counts["suspicious"] + counts["rest"] == 31
    assert counts["sampled"] > 5
    assert all(0 <= e["score"] <= GRID for found in second.values() for e in found)


@pytest.mark.skipif("FOREBEAR_DETOXIFY" not in os.environ, reason="FOREBEAR_DETOXIFY names no folder with original.ckpt and hf/")
def test_real_weights_keep_the_bounds_that_detoxify_publishes():
    real = Path(os.environ["FOREBEAR_DETOXIFY"])
    loaded = Detoxify(Toxicity(), SecondTier(checkpoint=str(real / "original.ckpt"), config=str(real / "hf")))
    place = loaded.parameters["labels"].index("toxicity")
    scores = loaded.predict(["shut up, you liar", "i am a jewish woman who is blind"])[:, place]
    assert scores[0] >= 0.7
    assert scores[1] < 0.5
