"""Hugging Face model cards: the YAML front matter of a README.md names base models, how they relate, and datasets.

Always true here: a card does not say whose it is, so its model is named by the call (`NAME=PATH`), by the hub's cache folder (with
the revision), by `model_name` or `model-index`, or else after its folder, and the last is reported. Base models and datasets are hub
ids: they are kept as they are written. All four relations of the hub pass weights, so one that is left out is assumed among them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from forebear.schemas.enums import Relation
from forebear.schemas.lineage import Reference
from forebear.tracer.lineage.importers.gathered import Gathered
from forebear.tracer.lineage.importers.reading import files, parse_yaml, read_text, text_of

__all__ = ["RELATIONS", "read"]

RELATIONS: dict[str, Relation] = {
    "adapter": Relation.ADAPTER_OF,
    "merge": Relation.MERGED_FROM,
    "quantized": Relation.QUANTIZED_FROM,
    "finetune": Relation.FINETUNED_FROM,
}
"""What `base_model_relation` may say, and what that is here."""

_CACHE = re.compile(r"models--([^/]+(?:--[^/]+)?)/snapshots/([0-9a-f]{40})(?:/|$)")


def read(gathered: Gathered, paths: Sequence[str]) -> None:
    """Gather the models of cards: files, folders of them, or `NAME=PATH`."""
    for text in paths:
        given, _, path = text.rpartition("=")
        if Path(text).exists():
            given, path = "", text
        for card in files(gathered, [path], ("README.md",)):
            _card(gathered, card, given or None)


def _card(gathered: Gathered, path: Path, given: str | None) -> None:
    where, text = str(path), read_text(gathered, path)
    if text is None:
        return
    front = _front(text)
    if front is None:
        gathered.refuse(where, path.name, "front matter between two lines `---` is expected")
        return
    value = parse_yaml(gathered, front, where=where)
    if value is None or not isinstance(value, dict):
        if value is not None:
            gathered.refuse(where, repr(value)[:80], "front matter is a mapping")
        return
    name, revision = (given, None) if given else _name(gathered, path, value)
    child = gathered.node("model", name, where=where, revision=revision)
    if child is not None:
        _bases(gathered, value, child, where=where)
        for one in _texts(gathered, value.get("datasets"), where=where):
            gathered.relate(Relation.TRAINED_ON, ("model", child), ("dataset", Reference(one)), where=where)


def _front(text: str) -> str | None:
    """The lines between the first line, which is `---`, and the next such line."""
    lines = text.splitlines()
    if not lines or lines[0].rstrip() != "---":
        return None
    end = next((n for n, line in enumerate(lines[1:], 1) if line.rstrip() == "---"), None)
    return None if end is None else "\n".join(lines[1:end])


def _name(gathered: Gathered, path: Path, value: Mapping[str, Any]) -> tuple[str, str | None]:
    cached = _CACHE.search(path.absolute().as_posix())
    if cached:
        return cached[1].replace("--", "/", 1), cached[2]
    told = text_of(value.get("model_name"))
    index = value.get("model-index")
    if told is None and isinstance(index, list) and len(index) == 1 and isinstance(index[0], dict):
        told = text_of(index[0].get("name"))
    if told is None:
        told = path.absolute().parent.name or path.stem
        gathered.unresolve(str(path), told, "the card does not say whose it is: named after its folder; NAME=PATH says it")
    return told, None


def _bases(gathered: Gathered, value: Mapping[str, Any], child: Reference, *, where: str) -> None:
    bases = list(_texts(gathered, value.get("base_model"), where=where))
    said = text_of(value.get("base_model_relation"))
    relation = RELATIONS.get(said or "")
    if said is not None and relation is None:
        for base in bases:
            gathered.unresolve(where, base, f"base_model_relation {said[:80]!r} is none of {', '.join(RELATIONS)}")
        return
    # The hub reads several bases as a merge and one as a fine-tune where nothing is said.
    assumed = Relation.MERGED_FROM if len(bases) > 1 else Relation.FINETUNED_FROM
    for base in bases:
        name = Reference(base)
        gathered.relate(relation or assumed, ("model", child), ("model", name), where=where, assumed=relation is None)


def _texts(gathered: Gathered, value: Any, *, where: str) -> Iterator[str]:
    """A field that holds one name or a list of them."""
    for one in value if isinstance(value, list) else [] if value is None or value == "" else [value]:
        text = text_of(one)
        if text is None:
            gathered.unresolve(where, repr(one)[:200], "the name of a model or dataset is expected")
        else:
            yield text
