"""The corpus of the scan's benchmarks: documents of about 2.3 kB made of real sentences, in Parquet shards; one in twenty is a copy.

Always true here: the same count and seed give the same documents; sentences come from Reuters-21578 and C4 as they lie in
`../shared/data`.
"""

from __future__ import annotations

import gzip
import json
import random
import re
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

__all__ = ["DATA", "made", "make_corpus"]

DATA = Path(__file__).resolve().parents[3] / "shared" / "data"
BYTES = 2300


def _sentences(data: Path) -> list[str]:
    texts = []
    for file in sorted((data / "text_reuters21578").rglob("*.sgm")):
        bodies = re.findall(r"<BODY>(.*?)</BODY>", file.read_text("latin-1"), re.DOTALL)
        texts += [body.replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&").strip() for body in bodies]
    for file in sorted((data / "text_c4_wimbd").rglob("*.gz")):
        with gzip.open(file, "rt", encoding="utf-8") as lines:
            texts += [json.loads(line)["text"] for line in lines]
    return [part for text in texts for part in re.split(r"(?<=[.!?])\s+", text) if 20 < len(part) < 400]


def made(count: int, *, seed: int = 7, data: Path = DATA) -> list[str]:
    """Texts of about 2.3 kB."""
    draw, sentences, texts = random.Random(seed), _sentences(data), []
    for _ in range(count):
        parts: list[str] = []
        size = 0
        while size < BYTES:
            parts.append(draw.choice(sentences))
            size += len(parts[-1]) + 1
        texts.append(" ".join(parts))
    return texts


def make_corpus(folder: Path, *, documents: int, shards: int, seed: int = 7) -> Path:
    """Write the corpus, unless it is there."""
    target = folder / f"made-{documents}-{shards}-{seed}"
    if (target / "ready").exists():
        return target / "shards"
    (target / "shards").mkdir(parents=True, exist_ok=True)
    texts, draw, per = made(documents, seed=seed), random.Random(seed), documents // shards
    for shard in range(shards):
        mine = texts[shard * per : (shard + 1) * per]
        for _ in range(per // 20):
            mine[draw.randrange(per // 2, per)] = mine[draw.randrange(per // 2)]
        rows = [{"id": f"{shard}-{n}", "source": "made", "text": text} for n, text in enumerate(mine)]
        pq.write_table(pa.Table.from_pylist(rows), target / "shards" / f"{shard:02}.parquet")
    (target / "ready").touch()
    return target / "shards"
