"""Measures the built-in toxicity model and writes its card: `python infra/toxicity/evaluate.py [--data DIR] [--out DIR] [--curve]`.

Always true here: every figure is of the shipped file through the shipped detector, on texts that it was not trained on;
decimals are text with a fixed number of digits, so the card is the same wherever it is made. The learning curve trains, which
is not the same on every machine: `--curve` measures it anew into curve.json, and it enters no card but of the model it ends in.
"""

from __future__ import annotations

import argparse
import json
import random
import re
import tempfile
from collections.abc import Mapping, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import sets
import train

from forebear.tracer.detect import fasttext_fused, fasttext_kernel
from forebear.tracer.detect.detector import GRID
from forebear.tracer.detect.fasttext_file import read_fasttext
from forebear.tracer.detect.toxicity import Toxicity
from forebear.tracer.detect.windows import WindowRule, cut_windows, text_bytes

ROOT = Path(__file__).resolve().parents[2]
THRESHOLDS = ("0.5", "0.8", "0.9")
DEFAULT = "0.8"
SHARES = ("1/8", "1/4", "1/2", "1")
CURVE = Path(__file__).parent / "curve.json"

GROUPS: Mapping[str, str] = {
    "gay, lesbian, bisexual, queer": r"gay|gays|lesbian|lesbians|bisexual|queer|homosexual|homosexuals|homosexuality|lgbt",
    "transgender": r"transgender|trans|transsexual",
    "muslim": r"muslim|muslims|islam|islamic",
    "jewish": r"jew|jews|jewish|judaism",
    "christian": r"christian|christians|catholic|catholics|protestant",
    "black, african": r"black|blacks|african|africans",
    "white, european": r"white|whites|european|europeans",
    "asian": r"asian|asians|chinese|japanese|indian",
    "latino": r"latino|latina|latinos|hispanic|hispanics|mexican|mexicans",
    "women": r"woman|women|female|females|girl|girls",
    "men": r"man|men|male|males|boy|boys",
    "disability": r"deaf|blind|paralyzed|disabled|disability",
    "age": r"old|older|elderly|young|younger|teenage|teenager",
}

Scores = npt.NDArray[np.int16]


def scores(texts: Sequence[str]) -> Scores:
    """Scores of the shipped model, on the grid."""
    return Toxicity().score(pa.array(texts, pa.string())).score


def reaches(score: Scores, threshold: str) -> npt.NDArray[np.bool_]:
    """Which scores are at or above a threshold."""
    return np.asarray(score >= float(threshold) * GRID)


def area(score: Scores, truth: npt.NDArray[np.bool_]) -> float:
    """Area under the ROC curve, ties counted half (Mann-Whitney)."""
    order = np.sort(score[~truth])
    below = np.searchsorted(order, score[truth], "left") + np.searchsorted(order, score[truth], "right")
    return float(below.mean() / 2 / len(order))


def labelled(rows: Sequence[tuple[str, bool]]) -> dict[str, Any]:
    """AUC, and precision, recall and false-positive rate at each threshold."""
    score, truth = scores([text for text, _ in rows]), np.array([toxic for _, toxic in rows])
    at = {}
    for threshold in THRESHOLDS:
        hit = reaches(score, threshold)
        at[threshold] = {
            "precision": f"{truth[hit].mean():.3f}",
            "recall": f"{hit[truth].mean():.3f}",
            "false_positive_rate": f"{hit[~truth].mean():.4f}",
        }
    return {"texts": len(rows), "toxic": int(truth.sum()), "auc": f"{area(score, truth):.4f}", "at": at}


def clean(texts: Sequence[str]) -> dict[str, Any]:
    """How many texts that nobody called toxic are flagged at the default threshold."""
    hit = int(reaches(scores(texts), DEFAULT).sum())
    return {"texts": len(texts), "flagged": hit, "rate": f"{hit / len(texts):.4f}"}


def by_group(sentences: Sequence[str], comments: Sequence[tuple[str, bool]]) -> dict[str, Any]:
    """False positives by identity group named in the text: sentences and non-toxic comments."""
    fine = [text for text, toxic in comments if not toxic]
    result = {}
    for group, words in GROUPS.items():
        named = re.compile(rf"\b(?:{words})\b", re.I)
        found = {}
        for name, texts in (("sentences", sentences), ("comments", fine)):
            chosen = [text for text in texts if named.search(text)]
            if len(chosen) >= 20:
                found[name] = clean(chosen)
        if found:
            result[group] = found
    return result


def scores_of(model: Path, texts: Sequence[str]) -> Scores:
    """Scores of a file trained as the shipped one is, read as that one is (a detector folds the text for the shipped file only)."""
    fused = fasttext_fused.fuse(read_fasttext(model), ["toxic"], mapping=fasttext_fused.FOLDED)
    assert fused is not None
    given = text_bytes(pa.array(texts, pa.string()))
    return fasttext_kernel.score_windows(fused, given, windows=cut_windows(given, WindowRule()))[0]


def learning_curve(data: Path) -> list[dict[str, Any]]:
    """Models of growing shares of the training rows: same seed and settings, judged on the same unseen texts."""
    rows = train.examples(data, random.Random(train.SEED))  # noqa: S311 - reproducible, nothing secret
    comments, identity = sets.wiki_comments(data), sets.sentences(data, "test", identity=True)
    truth = np.array([toxic for _, toxic in comments])
    points = []
    with tempfile.TemporaryDirectory() as folder:
        for share in SHARES:
            model, part = Path(folder) / "model.bin", train.part(rows, Fraction(share))
            words = train.fit(part, model)
            flagged = reaches(scores_of(model, identity), DEFAULT)
            points.append({
                "share": share,
                "texts": len(part),
                "words": words,
                "auc": f"{area(scores_of(model, [text for text, _ in comments]), truth):.4f}",
                "false_positive_rate": f"{flagged.mean():.4f}",
                "model": read_fasttext(model).digest,
            })  # fmt: skip
    return points


def stored_curve(model: str) -> list[dict[str, Any]]:
    """The curve as last measured, which must end in this model."""
    points: list[dict[str, Any]] = json.loads(CURVE.read_text(encoding="utf-8"))
    if points[-1]["model"] != model:
        raise SystemExit(f"{CURVE.name} ends in {points[-1]['model']}, the shipped model is {model}: run evaluate.py --curve")
    return points


def measure(data: Path) -> dict[str, Any]:
    """The whole card as JSON."""
    detector = Toxicity()
    identity = sets.sentences(data, "test", identity=True)
    web = sets.c4_documents(data, odd=True)
    comments = sets.wiki_comments(data)
    measured = {
        "wikipedia comments (tox_wiki_bias, non-fuzzed test set)": labelled(comments),
        "wikipedia comments (tox_jigsaw_5k, without those above; settings were chosen on it)": labelled(sets.jigsaw_comments(data)),
    }
    false = {
        "wikipedia sentences with identity terms (test split)": clean(identity),
        "wikipedia sentences at random (test split)": clean(sets.sentences(data, "test", identity=False)),
        "C4 documents (odd half)": clean(web),
        "Reuters-21578 stories": clean(sets.reuters_stories(data)),
    }
    return {
        "schema": "forebear/model-card/1",
        "name": "toxicity",
        "model": detector.model_digest,
        "licence": "Apache-2.0",
        "languages": ["en"],
        "threshold": DEFAULT,
        "false_positive_rate": false["C4 documents (odd half)"]["rate"],
        "false_positive_set": "C4 documents (odd half), per document",
        "trained_on": [
            {"set": "tox_davidson: tweets (Davidson et al. 2017)", "licence": "MIT"},
            {"set": "tox_wiki_bias: templates, and Wikipedia sentences of the train split (Jigsaw)", "licence": "Apache-2.0"},
            {"set": "text_c4_wimbd: C4 documents, even half", "licence": "Apache-2.0 as its repository states; C4 is ODC-BY"},
            {"set": "word and phrase lists written for this model (infra/toxicity)", "licence": "Apache-2.0"},
        ],
        "settings": {name: str(value) for name, value in train.SETTINGS.items()},
        "measured": measured,
        "false_positives": false,
        "by_identity_group": by_group(identity + sets.sentences(data, "dev", identity=True), comments),
        "learning_curve": {
            "auc_on": "wikipedia comments (tox_wiki_bias, non-fuzzed test set)",
            "false_positives_on": "wikipedia sentences with identity terms (test split)",
            "points": stored_curve(detector.model_digest),
        },
    }


def render(card: Mapping[str, Any]) -> str:
    """The card for people."""
    template = (Path(__file__).parent / "card.template.md").read_text(encoding="utf-8")
    tables = {"MODEL": card["model"], "ACCURACY": _accuracy(card), "FALSE": _false(card), "GROUPS": _groups(card)}
    tables |= {"CURVE": _curve(card), "GAIN": _gain(card)}
    tables["SOURCES"] = "\n".join(f"- {source['set']}: {source['licence']}" for source in card["trained_on"])
    for name, text in tables.items():
        template = template.replace("{" + name + "}", text)
    return template


def _accuracy(card: Mapping[str, Any]) -> str:
    lines = ["| set | texts (toxic) | AUC | at | precision | recall | false positives |", "|---|---|---|---|---|---|---|"]
    for name, found in card["measured"].items():
        for threshold, at in found["at"].items():
            shown = f"| {name} | {found['texts']} ({found['toxic']}) | {found['auc']} "
            lines.append(f"{shown}| {threshold} | {at['precision']} | {at['recall']} | {at['false_positive_rate']} |")
    return "\n".join(lines)


def _false(card: Mapping[str, Any]) -> str:
    lines = ["| set | texts | flagged | rate |", "|---|---|---|---|"]
    for name, found in card["false_positives"].items():
        lines.append(f"| {name} | {found['texts']} | {found['flagged']} | {found['rate']} |")
    return "\n".join(lines)


def _groups(card: Mapping[str, Any]) -> str:
    lines = ["| named in the text | sentences: flagged of all | non-toxic comments: flagged of all |", "|---|---|---|"]
    for group, found in card["by_identity_group"].items():
        cells = [
            f"{found[kind]['flagged']} of {found[kind]['texts']}" if kind in found else "fewer than 20"
            for kind in ("sentences", "comments")
        ]
        lines.append(f"| {group} | {cells[0]} | {cells[1]} |")
    return "\n".join(lines)


def _curve(card: Mapping[str, Any]) -> str:
    lines = ["| of the training rows | texts | words kept | AUC, comments | false positives, sentences |", "|---|---|---|---|---|"]
    columns = ("share", "texts", "words", "auc", "false_positive_rate")
    lines += [f"| {' | '.join(str(one[name]) for name in columns)} |" for one in card["learning_curve"]["points"]]
    return "\n".join(lines)


def _gain(card: Mapping[str, Any]) -> str:
    before, after = card["learning_curve"]["points"][-2:]
    gain = float(after["auc"]) - float(before["auc"])
    rates = f"from {before['false_positive_rate']} to {after['false_positive_rate']}"
    return f"changed the AUC by {gain:+.4f} and took false positives {rates}"


def main() -> None:
    """Write card.json and card.md."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, default=ROOT.parent / "shared" / "data")
    parser.add_argument("--out", type=Path, default=ROOT / "tracer/forebear/tracer/detect/builtin")
    parser.add_argument("--curve", action="store_true", help="measure the learning curve anew (trains four models)")
    given = parser.parse_args()
    if given.curve:
        CURVE.write_text(json.dumps(learning_curve(given.data), indent=1) + "\n", encoding="utf-8")
    card = measure(given.data)
    (given.out / "card.json").write_text(json.dumps(card, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    (given.out / "card.md").write_text(render(card), encoding="utf-8")
    print(render(card))


if __name__ == "__main__":
    main()
