"""Real texts for tests: what the checkout's neighbour `../shared/data` holds, and what every Python installation carries."""

from __future__ import annotations

import gzip
import json
import pydoc_data.topics
import re
from pathlib import Path

import pytest

SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"

MULTILINGUAL = [
    "",
    " \n\t ",
    "a",
    "Ὀδυσσεύς ΧΑΟΣ. ΣΑΣ Σ' ΑΣ",
    "İstanbul'da ılık bir İlkbahar günü",
    "日本語のテキストはスペースがありません。これは二番目の文です。",
    "ภาษาไทยไม่มีช่องว่างระหว่างคำ",
    "漢字とmixed words in one テキスト line",
    "Straße ẞ ﬀ ǅ Ⱥ Ⱦ ÅNGSTRÖM",
    "שלום עולם مرحبا بالعالم नमस्ते दुनिया",
    "emoji 👩‍👩‍👧 🇩🇪 and\x00NUL and\x1cfile separator\x85next line\u2003em space",
    "𐐀𐐁 DESERET 𝔘𝔫𝔦𝔠𝔬𝔡𝔢",
]


def shared(name: str) -> Path:
    """A folder of the shared data; the test is skipped where it is absent."""
    folder = SHARED / name
    if not folder.exists():
        pytest.skip(f"{folder} is not there")
    return folder


def topics() -> list[str]:
    """The language reference as Python carries it."""
    return [text for _, text in sorted(pydoc_data.topics.topics.items())]


def c4() -> list[str]:
    """A thousand web documents."""
    files = sorted(shared("text_c4_wimbd").rglob("*.gz"))
    return [json.loads(line)["text"] for file in files for line in gzip.open(file, "rt", encoding="utf-8")]


def reuters(limit: int) -> list[str]:
    """Bodies of Reuters-21578, in file order."""
    found: list[str] = []
    for file in sorted(shared("text_reuters21578").rglob("*.sgm")):
        for body in re.findall(r"<BODY>(.*?)</BODY>", file.read_text("latin-1"), re.S):
            found.append(body.replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&").strip())
        if len(found) >= limit:
            break
    return found[:limit]
