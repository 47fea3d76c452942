"""MLflow runs: the datasets that `log_input` gave them, from a run's JSON or from the folder of a file store.

Always true here: a run stands for the model that it trained, by its name with the run's id as revision and alias; a dataset is its name
with MLflow's digest as revision, which covers part of the data and is no SHA-256; the context says whether it was trained or
evaluated on, and where it says neither, training is assumed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from forebear.schemas.enums import Relation
from forebear.schemas.lineage import Reference
from forebear.tracer.lineage.importers.gathered import Gathered
from forebear.tracer.lineage.importers.reading import files, parse_json, parse_yaml, read_text, text_of

__all__ = ["read"]

_CONTEXT = "mlflow.data.context"
_TRAINED = frozenset({"train", "training", "pretraining", "finetuning", "fine-tuning"})
_EVALUATED = frozenset({"eval", "evaluation", "test", "testing", "validation", "valid", "val"})


@dataclass(frozen=True)
class _Input:
    """A dataset of a run, as MLflow tells it, and its context."""

    dataset: Any
    context: str | None


def read(gathered: Gathered, paths: Sequence[str]) -> None:
    """Gather runs: JSON as `runs/get` and `runs/search` give it, or folders of a file store."""
    for path in files(gathered, paths, (".json", "meta.yaml")):
        text = read_text(gathered, path)
        if text is None:
            continue
        if path.name == "meta.yaml":
            _folder(gathered, path, text)
        else:
            _json(gathered, path, text)


def _json(gathered: Gathered, path: Path, text: str) -> None:
    value = parse_json(gathered, text, where=str(path))
    if value is None:
        return
    runs = value.get("runs") if isinstance(value, dict) and "runs" in value else value if isinstance(value, list) else [value]
    for n, one in enumerate(runs if isinstance(runs, list) else []):
        run = one.get("run", one) if isinstance(one, dict) else None
        info = run.get("info") if isinstance(run, dict) else None
        inputs = run.get("inputs") if isinstance(run, dict) else None
        if not isinstance(info, dict):
            gathered.refuse(f"{path}[{n}]", type(one).__name__, "a run with `info` and `inputs` is expected")
            continue
        listed = inputs.get("dataset_inputs") if isinstance(inputs, dict) else []
        _run(gathered, info, list(_inputs(gathered, listed, f"{path}[{n}]")), where=f"{path}[{n}]")


def _inputs(gathered: Gathered, listed: Any, where: str) -> Iterator[_Input]:
    for one in listed if isinstance(listed, list) else []:
        if not isinstance(one, dict):
            gathered.unresolve(where, repr(one)[:200], "a dataset input is expected")
            continue
        tags = one.get("tags")
        pairs = [tag for tag in tags if isinstance(tag, dict)] if isinstance(tags, list) else []
        context = next((text_of(tag.get("value")) for tag in pairs if tag.get("key") == _CONTEXT), None)
        yield _Input(one.get("dataset"), context)


def _folder(gathered: Gathered, path: Path, text: str) -> None:
    """A run's folder: `meta.yaml`, `inputs/ID/meta.yaml`, and `../datasets/ID/meta.yaml`."""
    value = parse_yaml(gathered, text, where=str(path))
    if not isinstance(value, dict) or not (text_of(value.get("run_id")) or text_of(value.get("run_uuid"))):
        return  # of an experiment, a dataset or an input
    inputs = []
    for link in sorted((path.parent / "inputs").glob("*/meta.yaml")):
        told = _yaml(gathered, link)
        source = text_of(told.get("source_id"))
        dataset = path.parent.parent / "datasets" / (source or "") / "meta.yaml"
        if source is None or "/" in source or source in (".", "..") or not dataset.is_file():
            gathered.unresolve(str(link), source or "", "no dataset of this id beside the run")
            continue
        tags = told.get("tags")
        inputs.append(_Input(_yaml(gathered, dataset), text_of(tags.get(_CONTEXT)) if isinstance(tags, dict) else None))
    _run(gathered, value, inputs, where=str(path))


def _yaml(gathered: Gathered, path: Path) -> dict[str, Any]:
    text = read_text(gathered, path)
    value = None if text is None else parse_yaml(gathered, text, where=str(path))
    return value if isinstance(value, dict) else {}


def _run(gathered: Gathered, info: Mapping[str, Any], inputs: Sequence[_Input], *, where: str) -> None:
    run_id = text_of(info.get("run_id")) or text_of(info.get("run_uuid"))
    if run_id is None:
        gathered.refuse(where, "info", "a run has a run_id")
        return
    name = text_of(info.get("run_name")) or run_id
    child = gathered.node("model", name, where=where, revision=run_id, aliases=[run_id])
    for one in inputs if child else ():
        told = one.dataset if isinstance(one.dataset, dict) else {}
        title, digest = text_of(told.get("name")), text_of(told.get("digest"))
        if title is None:
            gathered.unresolve(where, repr(one.dataset)[:200], "a dataset has a name")
            continue
        dataset = gathered.node("dataset", title, where=where, revision=digest)
        if child is None or dataset is None:
            continue
        context = (one.context or "").lower()
        relation = Relation.EVALUATED_ON if context in _EVALUATED else Relation.TRAINED_ON
        assumed = context not in _EVALUATED | _TRAINED
        gathered.relate(relation, ("model", child), ("dataset", Reference(dataset.name, dataset.revision)), where=where, assumed=assumed)
