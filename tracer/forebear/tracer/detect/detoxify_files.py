"""Detoxify's checkpoints: loaded without running what is in them, and offline where a folder holds the configuration.

Always true here: checkpoints are read with `weights_only=True`, so one with code in it is refused instead of run; only the four
architectures that detoxify publishes are built; every weight of the model comes from the checkpoint. The library itself
reads checkpoints with `weights_only=False` and asks the hub even when given a folder: it is handed the state, and the folder
as its model type.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.metadata
import pickle
import platform
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from forebear.schemas.canonical import canonical_json
from forebear.schemas.digests import digest_name, sha256_name
from forebear.schemas.errors import UsageError

__all__ = ["Loaded", "load_detoxify"]

_ARCHITECTURES = {
    "BertForSequenceClassification": ("BertTokenizer", "BertTokenizerFast"),
    "AlbertForSequenceClassification": ("AlbertTokenizer", "AlbertTokenizerFast"),
    "RobertaForSequenceClassification": ("RobertaTokenizer", "RobertaTokenizerFast"),
    "XLMRobertaForSequenceClassification": ("XLMRobertaTokenizer", "XLMRobertaTokenizerFast"),
}
_RENAMED = {"toxic": "toxicity", "identity_hate": "identity_attack", "severe_toxic": "severe_toxicity"}
_LIMIT = 512


@dataclass(frozen=True)
class Loaded:
    """A model ready to be asked.

    Args:
        model: The transformer, in evaluation mode.
        tokenizer: Its tokenizer.
        labels: Its labels, in the order of its outputs, named alike for all of detoxify's models.
        limit: The most tokens it reads, special ones included.
        files: Digests of the checkpoint and of the configuration folder.
        numerics: Library versions, device, precision and processor: what the last bits of a score depend on.
    """

    model: Any
    tokenizer: Any
    labels: tuple[str, ...]
    limit: int
    files: Mapping[str, str]
    numerics: Mapping[str, str]


def load_detoxify(checkpoint: str, config: str, *, device: str) -> Loaded:
    """Load a checkpoint by name (fetched, where the network allows) or by file.

    Args:
        checkpoint: "original", "unbiased", "multilingual", "original-small", "unbiased-small", or a file.
        config: Folder with config.json and the tokenizer's files; empty: fetched by the name that the checkpoint gives.
        device: What torch calls it: "cpu", "cuda".

    Raises:
        UsageError: The extra is not installed; the checkpoint holds code, lacks its configuration, or its labels or weights do
            not match; the folder lacks its files; something must be fetched and cannot be.
    """
    try:
        torch: Any = importlib.import_module("torch")
        library: Any = importlib.import_module("detoxify.detoxify")
        logging: Any = importlib.import_module("transformers.utils.logging")
    except ImportError as error:
        remedy = "Install it: pip install 'forebear[detoxify]'."
        raise _wrong("missing_extra", "the extra detoxify, for [toxicity.detoxify]", str(error), remedy) from error
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    path = _path(checkpoint, library.MODEL_URLS, torch)
    value = _read(path, device, torch)
    arch, labels = _described(value, checkpoint)
    if config:
        _require_files(config)
        arch["model_type"] = config
    try:
        model, tokenizer = library.get_model_and_tokenizer(**arch, state_dict=value["state_dict"])
    except (OSError, ValueError, RuntimeError, TypeError, ImportError) as error:
        remedy = "Set `config` to a folder with the configuration and tokenizer that belong to the checkpoint."
        raise _wrong("detoxify_not_loaded", f"a model of {checkpoint}", _first_line(error), remedy) from error
    _require_weights(model, value["state_dict"], checkpoint)
    model.to(torch.device(device)).eval()
    return Loaded(
        model=model,
        tokenizer=tokenizer,
        labels=labels,
        limit=_token_limit(model.config, tokenizer),
        files={"checkpoint": _file_digest(path), "config": _folder_digest(config)},
        numerics=_numerics(model, device, torch),
    )


def _path(checkpoint: str, urls: Mapping[str, str], torch: Any) -> Path:
    if checkpoint not in urls:
        path = Path(checkpoint)
        if not path.is_file():
            expected = f"one of {', '.join(sorted(urls))}, or a checkpoint file"
            raise _wrong("no_such_checkpoint", expected, repr(checkpoint), "Correct `checkpoint`.")
        return path
    folder = Path(torch.hub.get_dir()) / "checkpoints"
    path = folder / urls[checkpoint].rpartition("/")[2]
    if not path.is_file():
        folder.mkdir(parents=True, exist_ok=True)
        try:
            torch.hub.download_url_to_file(urls[checkpoint], str(path), progress=False)
        except OSError as error:
            remedy = "Fetch it where the network is open, and name the file as `checkpoint` and its folder as `config`."
            raise _wrong("not_fetched", f"the checkpoint {checkpoint!r} to be fetched", _first_line(error), remedy) from error
    return path


def _read(path: Path, device: str, torch: Any) -> Mapping[str, Any]:
    try:
        value = torch.load(path, map_location="cpu" if device != "cpu" else device, weights_only=True)
    except pickle.UnpicklingError as error:
        remedy = "Do not use it: a checkpoint of weights needs no code. Save it anew as tensors, text and numbers."
        raise _wrong("unsafe_checkpoint", f"weights alone in {path.name}", _first_line(error), remedy) from error
    except (OSError, RuntimeError, EOFError, ValueError, KeyError) as error:
        raise _wrong("unreadable_checkpoint", f"a checkpoint in {path.name}", _first_line(error), "Fetch it again.") from error
    if not isinstance(value, Mapping) or "config" not in value or "state_dict" not in value:
        held = ", ".join(sorted(map(str, value)))[:200] if isinstance(value, Mapping) else type(value).__name__
        remedy = "Save config (arch and dataset) and state_dict together, as detoxify's own training does."
        raise _wrong("checkpoint_without_config", f"config and state_dict in {path.name}", held, remedy)
    return value


def _described(value: Mapping[str, Any], checkpoint: str) -> tuple[dict[str, Any], tuple[str, ...]]:
    """The architecture's arguments and the labels."""
    try:
        given = value["config"]["arch"]["args"]
        arch = {key: given[key] for key in ("model_type", "model_name", "tokenizer_name", "num_classes")}
        labels = tuple(_RENAMED.get(label, label) for label in value["config"]["dataset"]["args"]["classes"])
    except (KeyError, TypeError) as error:
        expected = f"config.arch.args and config.dataset.args.classes in {checkpoint}"
        raise _wrong("checkpoint_without_config", expected, f"no {error}", "Use a checkpoint of detoxify's layout.") from error
    if arch["tokenizer_name"] not in _ARCHITECTURES.get(arch["model_name"], ()):
        found = f"{arch['model_name']} with {arch['tokenizer_name']}"
        known = ", ".join(sorted(_ARCHITECTURES))
        remedy = "Use a checkpoint of detoxify's layout."
        raise _wrong("unknown_architecture", f"one of {known} with its tokenizer", found, remedy)
    outputs = arch["num_classes"]
    named = len(set(labels)) == len(labels) and all(isinstance(label, str) and label for label in labels)
    if not labels or not named or not isinstance(outputs, int) or len(labels) > outputs:
        found = f"{len(labels)} labels for {outputs} outputs: {', '.join(map(str, labels))[:200]}"
        raise _wrong("labels_do_not_match", f"a label for each output of {checkpoint}", found, "Correct the checkpoint's config.")
    return arch, labels


def _require_files(config: str) -> None:
    if not (Path(config) / "config.json").is_file():
        remedy = "Save the model's configuration and tokenizer there (save_pretrained)."
        raise _wrong("no_such_config", f"config.json in the folder {config}", "none", remedy)


def _require_weights(model: Any, state: Mapping[str, Any], checkpoint: str) -> None:
    """transformers fills weights that are missing at random, with no more than a warning."""
    missing = sorted(name for name, _ in model.named_parameters() if name not in state)
    if missing:
        found = f"{len(missing)} weights are not there: {', '.join(missing)[:200]}"
        remedy = "Set `config` to the folder that belongs to this checkpoint."
        raise _wrong("weights_do_not_match", f"every weight of the model in {checkpoint}", found, remedy)


def _token_limit(config: Any, tokenizer: Any) -> int:
    positions = int(getattr(config, "max_position_embeddings", _LIMIT))
    if "roberta" in str(config.model_type):
        positions -= int(config.pad_token_id) + 1  # its positions begin after the padding's
    return min(_LIMIT, positions, int(tokenizer.model_max_length))


def _file_digest(path: Path) -> str:
    with path.open("rb") as file:
        return digest_name(hashlib.file_digest(file, "sha256").digest())


def _folder_digest(config: str) -> str:
    if not config:
        return ""
    files = sorted(file for file in Path(config).rglob("*") if file.is_file())
    return sha256_name(canonical_json({file.relative_to(config).as_posix(): _file_digest(file) for file in files}))


def _numerics(model: Any, device: str, torch: Any) -> dict[str, str]:
    kind = torch.device(device).type
    processor = torch.cuda.get_device_name(device) if kind == "cuda" else torch.backends.cpu.get_cpu_capability()
    return {
        **{name: importlib.metadata.version(name) for name in ("detoxify", "torch", "transformers")},
        "device": kind,
        "dtype": str(model.dtype).removeprefix("torch."),
        "machine": platform.machine(),
        "processor": str(processor),
    }


def _first_line(error: BaseException) -> str:
    text = str(error).strip().splitlines()
    return f"{type(error).__name__}: {text[0][:300]}" if text else type(error).__name__


def _wrong(kind: str, expected: str, found: str, remedy: str) -> UsageError:
    return UsageError(kind, expected=expected, found=found, remedy=remedy)
