"""The data sets that the built-in toxicity model is trained and judged on, and which part of each is for what.

Always true here: what a card calls unseen is read by no function that trains. Trained on: tweets (tox_davidson), templates and
the "train" split of the Wikipedia sentences (tox_wiki_bias), the even documents of the C4 sample (text_c4_wimbd). Settings were
chosen on tox_jigsaw_5k and the "dev" split. Unseen to the end: the 1,492 Wikipedia comments, the "test" split, the odd C4
documents.
"""

from __future__ import annotations

import csv
import functools
import gzip
import html
import json
import re
from pathlib import Path

__all__ = ["c4_documents", "jigsaw_comments", "reuters_stories", "sentences", "templates", "tweets", "wiki_comments", "written"]

Labelled = list[tuple[str, bool]]

_MARKERS = re.compile(r"https?://\S+|@\w+|&#\d+;|\bRT\b|#")


def tweets(data: Path) -> list[tuple[str, str]]:
    """Davidson et al. 2017, each with the majority's class: hate, offensive, neither. Mentions, links and RT are taken out."""
    rows = _table(data / "tox_davidson" / "labeled_data.csv")
    names = {"0": "hate", "1": "offensive", "2": "neither"}
    return [(_MARKERS.sub(" ", html.unescape(row["tweet"])), names[row["class"]]) for row in rows]


def templates(data: Path) -> Labelled:
    """Jigsaw's "madlibs": names and identity terms with good and with bad adjectives."""
    rows = _table(data / "tox_wiki_bias" / "bias_madlibs_77k.csv")
    return [(row["Text"], row["Label"] == "BAD") for row in rows]


def sentences(data: Path, split: str, *, identity: bool | None = None) -> list[str]:
    """Non-toxic Wikipedia sentences of a split: with identity terms, at random, or (None) both."""
    folder = data / "tox_wiki_bias"
    names = {True: [""], False: ["_random"], None: ["", "_random"]}[identity]
    rows = [row for name in names for row in _table(folder / f"toxicity_debiasing_data{name}.tsv", "\t")]
    return [row["comment"] for row in rows if row["split"] == split]


def wiki_comments(data: Path) -> Labelled:
    """1,492 Wikipedia talk comments; never trained on."""
    rows = _table(data / "tox_wiki_bias" / "toxicity_nonfuzzed_testset.csv")
    return [(row["comment"], row["toxic"] == "True") for row in rows]


def jigsaw_comments(data: Path) -> Labelled:
    """5,000 Wikipedia talk comments, those of `wiki_comments` taken out; never trained on."""
    seen = {_letters(text) for text, _ in wiki_comments(data)}
    rows = _table(data / "tox_jigsaw_5k" / "toxic_comments.csv")
    return [(row["text"], row["toxic"] == "1") for row in rows if _letters(row["text"]) not in seen]


def c4_documents(data: Path, *, odd: bool) -> list[str]:
    """Half of the C4 sample: even documents are trained on as clean, odd ones are not."""
    path = data / "text_c4_wimbd" / "c4-sample.00000-of-00001.json.gz"
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        return [json.loads(line)["text"] for n, line in enumerate(lines) if n % 2 == odd]


@functools.cache
def written(name: str) -> list[str]:
    """The lines of one of this folder's own lists."""
    lines = (Path(__file__).parent / f"{name}.txt").read_text(encoding="utf-8").splitlines()
    return [line for line in lines if line and not line.startswith("#")]


def reuters_stories(data: Path) -> list[str]:
    """Bodies of Reuters-21578 (research only): judged on, never trained on."""
    stories = []
    for path in sorted((data / "text_reuters21578").rglob("*.sgm")):
        for body in re.findall(r"<BODY>(.*?)</BODY>", path.read_text("latin-1"), re.S):
            text = html.unescape(body).replace("\x03", " ").strip()
            stories.append(re.sub(r"\s+reuter\s*$", "", text, flags=re.I))
    return stories


def _table(path: Path, delimiter: str = ",") -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as lines:
        return list(csv.DictReader(lines, delimiter=delimiter))


def _letters(text: str) -> str:
    return "".join(character for character in text.lower() if character.isalnum())
