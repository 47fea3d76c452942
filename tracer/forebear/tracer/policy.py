"""The policy: thresholds over detectors. Evidence in, decision out.

Always true here: every key is optional and an unknown one is an error that names the nearest; decimals are exact; a threshold
becomes the least score on the 1/1024 grid that reaches it; files and folders that a policy names enter its digest by their
content, never by their place. The policy's digest covers everything that changes a decision and nothing else.
"""

from __future__ import annotations

import dataclasses
import difflib
import hashlib
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from fractions import Fraction
from functools import lru_cache
from pathlib import Path
from typing import Any

from forebear.schemas.canonical import canonical_json
from forebear.schemas.digests import digest_name, sha256_name
from forebear.schemas.enums import Category
from forebear.schemas.errors import UsageError
from forebear.schemas.records import Threshold
from forebear.schemas.tables import GRID

__all__ = [
    "Benchmark",
    "Custom",
    "Denylist",
    "Detoxify",
    "Duplicates",
    "Policy",
    "Toxicity",
    "explain",
    "grid",
    "load_policy",
    "parse_policy",
    "policy_command",
    "thresholds_of",
]

_ACTIONS = ("drop", "flag", "off")
_DEFAULT = Decimal("0.8")


def _key(default: Any, doc: str, **rules: Any) -> Any:
    return field(default=default, metadata={"doc": doc, **rules})


def _share(default: Decimal, doc: str) -> Any:
    return _key(default, doc, low=Decimal(0), high=Decimal(1))


def _action(doc: str = "drop, flag (kept, reason logged) or off (not run)") -> Any:
    return _key("drop", doc, choices=_ACTIONS)


@dataclass(frozen=True)
class Detoxify:
    """Second tier: windows that the first tier finds suspicious are scored again."""

    checkpoint: str = _key("original", "a name that detoxify knows, or a checkpoint file", path=True)
    config: str = _key("", "folder with the transformer's configuration and tokenizer, for offline use", path=True)
    suspicious: Decimal = _share(Decimal("0.3"), "first-tier score from which a window is scored again")
    sample: Decimal = _share(Decimal("0.001"), "share of the other documents scored all the same")
    device: str = _key("cpu", "where the model runs: cpu or cuda; scores of the two are not the same", choices=("cpu", "cuda"))
    flag: Decimal = _share(_DEFAULT, "score from which a row is contaminated")
    drop: Decimal = _share(_DEFAULT, "score from which a row is dropped")


@dataclass(frozen=True)
class Toxicity:
    """First tier: a fastText classifier over windows of every document."""

    model: str = _key("builtin", "builtin, or a fastText classifier's file", path=True)
    labels: tuple[str, ...] = _key(("toxic",), "labels whose probabilities are summed to the score")
    flag: Decimal = _share(_DEFAULT, "score >= flag: contaminated (what trace counts)")
    drop: Decimal = _share(_DEFAULT, "score >= drop: not in the cleaned shards")
    action: str = _action()
    split: str = _key("words", "cut windows at words, or at paragraphs first", choices=("words", "paragraphs"))
    window: int = _key(100, "words in a window, without overlap", low=1, high=1_000_000)
    detoxify: Detoxify | None = _key(None, "second tier, off unless the table is there")


@dataclass(frozen=True)
class Duplicates:
    """Exact copies and near-duplicates."""

    ngram: int = _key(5, "words in a shingle", low=1, high=100)
    characters: int = _key(5, "characters in a shingle, for scripts without spaces", low=1, high=100)
    bands: int = _key(14, "bands of the signature", low=1, high=1024)
    rows: int = _key(8, "rows in a band", low=1, high=64)
    seed: int = _key(1, "seed of the permutations", low=0, high=2**32 - 1)
    jaccard: Decimal = _share(_DEFAULT, "measured similarity >= jaccard: near-duplicate")
    action: str = _action()
    prefer: tuple[str, ...] = _key((), "sources whose copy is kept first, best first")

    @property
    def threshold(self) -> Fraction:
        """The similarity threshold as an exact fraction."""
        return Fraction(self.jaccard)


@dataclass(frozen=True)
class Benchmark:
    """A benchmark whose items must not stand in the corpus."""

    name: str = _key("", "name of the benchmark", required=True)
    split: str = _key("test", "split of the benchmark that the file holds")
    path: str = _key("", "JSONL or Parquet file of items", path=True, required=True)
    question: str = _key("question", "field of the question")
    answer: str = _key("", "field of the answer")
    passage: str = _key("", "field of the passage")
    flag: Decimal = _share(_DEFAULT, "share of an item's tokens covered by matches, from which a row is contaminated")
    drop: Decimal = _share(_DEFAULT, "share from which a row is dropped")
    action: str = _action()


@dataclass(frozen=True)
class Denylist:
    """A list of documents known to be bad."""

    path: str = _key("", "Parquet, JSONL or text file", path=True, required=True)
    kind: str = _key("text", "what the list holds", choices=("text", "document", "id", "domain"))
    reason: str = _key("", "why they are listed")
    authority: str = _key("", "who listed them")
    action: str = _action()


@dataclass(frozen=True)
class Custom:
    """A detector of the user's own."""

    use: str = _key("", "import path of a Detector, module:Name", required=True)
    flag: Decimal = _share(_DEFAULT, "score from which a row is contaminated")
    drop: Decimal = _share(_DEFAULT, "score from which a row is dropped")
    action: str = _action()
    options: Mapping[str, Any] = field(default_factory=dict, metadata={"doc": "handed to the detector"})


@dataclass(frozen=True)
class Override:
    """What one source may have otherwise: thresholds and actions."""

    toxicity: Mapping[str, Any] = field(default_factory=dict, metadata={"doc": "flag, drop, action"})
    duplicates: Mapping[str, Any] = field(default_factory=dict, metadata={"doc": "action"})
    benchmarks: Mapping[str, Any] = field(default_factory=dict, metadata={"doc": "flag, drop, action"})
    denylists: Mapping[str, Any] = field(default_factory=dict, metadata={"doc": "action"})
    detectors: Mapping[str, Any] = field(default_factory=dict, metadata={"doc": "flag, drop, action"})


@dataclass(frozen=True)
class Policy:
    """The effective policy of a run."""

    toxicity: Toxicity = Toxicity()
    duplicates: Duplicates = Duplicates()
    benchmarks: tuple[Benchmark, ...] = ()
    denylists: tuple[Denylist, ...] = ()
    detectors: tuple[Custom, ...] = ()
    sources: Mapping[str, Override] = field(default_factory=dict)

    def canonical(self) -> dict[str, Any]:
        """As it stands in a run manifest: decimals as text, files by the digest of their content."""
        value: dict[str, Any] = _plain(self)
        return value

    @property
    def digest(self) -> str:
        """Names the policy."""
        return sha256_name(canonical_json(self.canonical()))

    def thresholds(self, category: str, name: str | None = None) -> dict[str, Threshold]:
        """Thresholds of a class, by source; key "" is every other source.

        Args:
            category: The class of contaminant.
            name: The detector's name; without it, and where the policy does not tell detectors of a class apart (a user's own),
                the lowest of the class hold.
        """
        return _lowest([self.part_thresholds(part) for part in self._parts(category, name)])

    def part_thresholds(self, part: Any) -> dict[str, Threshold]:
        """Thresholds of one part of the policy, with what sources have otherwise."""
        name, flag = _PLACES[type(part)], getattr(part, "flag", None)
        if isinstance(part, Denylist) and part.kind == "text":
            flag = self.duplicates.jaccard  # what is scored is the similarity with the listed text
        overrides = {source: getattr(override, name) for source, override in self.sources.items()}
        return thresholds_of(part, overrides, flag=flag)

    def _parts(self, category: str, name: str | None) -> Sequence[Any]:
        if category == Category.TOXICITY:
            second = self.toxicity.detoxify
            return [second] if name == "detoxify" and second is not None else [self.toxicity]
        if category == Category.BENCHMARK:
            named = [one for one in self.benchmarks if f"{one.name}/{one.split}" == name]
            return named or self.benchmarks or [Benchmark()]
        if category == Category.DENYLIST:
            named_kind = [one for one in self.denylists if f"denylist/{one.kind}" == name]
            return named_kind or self.denylists or [Denylist()]
        return self.detectors or [Custom()]

    def duplicates_action(self, source: str | None) -> str:
        """What is done with a duplicate of a source."""
        override = self.sources.get(source or "")
        return str((override.duplicates if override else {}).get("action", self.duplicates.action))


_PLACES: Mapping[type[Any], str] = {
    Toxicity: "toxicity",
    Detoxify: "toxicity",
    Benchmark: "benchmarks",
    Denylist: "denylists",
    Custom: "detectors",
}
"""Where `[sources.NAME]` steers a part otherwise."""


def thresholds_of(part: Any, overrides: Mapping[str, Mapping[str, Any]], *, flag: Decimal | None = None) -> dict[str, Threshold]:
    """Thresholds on the grid of one part of a policy, with what sources have otherwise; `flag` for a part that has none."""
    low = getattr(part, "flag", flag or Decimal(1))
    base = {"flag": low, "drop": getattr(part, "drop", low), "action": getattr(part, "action", "drop")}
    found = {"": _threshold(base)}
    found |= {source: _threshold(_ordered({**base, **own}, own)) for source, own in overrides.items() if own}
    return found


def _lowest(tables: Sequence[Mapping[str, Threshold]]) -> dict[str, Threshold]:
    """The lowest thresholds of several parts, source by source."""
    sources = sorted({source for table in tables for source in table})
    rows = {source: [table.get(source, table[""]) for table in tables] for source in sources}
    return {source: min(each, key=lambda one: (one.action == "off", one.flag, one.drop)) for source, each in rows.items()}


def _threshold(values: Mapping[str, Any]) -> Threshold:
    return Threshold(flag=grid(values["flag"]), drop=grid(values["drop"]), action=values["action"])


def grid(value: Decimal) -> int:
    """The least score on the grid that reaches a threshold."""
    return -int(-Fraction(value) * GRID // 1)


def load_policy(path: str | Path | None, *, toxicity_model: str | None = None) -> Policy:
    """The policy of a TOML file (None: the default), with another first-tier model if one is given.

    Raises:
        UsageError: The file is not there or no TOML; a key is unknown; a value cannot be.
    """
    data: dict[str, Any] = {}
    folder = Path()
    if path is not None:
        folder = Path(path).parent
        try:
            data = tomllib.loads(Path(path).read_bytes().decode(), parse_float=Decimal)
        except OSError as error:
            raise _wrong("unreadable_policy", "a policy file", f"{path}: {error.strerror}", "Name a TOML file.") from error
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise _wrong("malformed_policy", f"TOML in {path}", str(error), "Mend the file at that place.") from error
    if toxicity_model is not None:
        data["toxicity"] = {**data.get("toxicity", {}), "model": str(Path(toxicity_model).absolute())}
    return parse_policy(data, folder=folder)


def parse_policy(data: Mapping[str, Any], *, folder: Path = Path()) -> Policy:
    """A policy from parsed TOML; paths in it are relative to `folder`."""
    known = {f.name for f in dataclasses.fields(Policy)}
    for key in data:
        _refuse_unknown(key, known, "the policy")
    toxicity = _section(Toxicity, data.get("toxicity", {}), "toxicity", folder)
    duplicates = _section(Duplicates, data.get("duplicates", {}), "duplicates", folder)
    lists = {
        name: tuple(_section(cls, one, name, folder) for one in _tables(data, name))
        for name, cls in (("benchmarks", Benchmark), ("denylists", Denylist), ("detectors", Custom))
    }
    sources = {name: _override(own, f"sources.{name}") for name, own in _mapping(data.get("sources", {}), "sources").items()}
    return Policy(toxicity, duplicates, lists["benchmarks"], lists["denylists"], lists["detectors"], sources)


def explain(policy: Policy) -> list[tuple[str, str, str]]:
    """Every key of the effective policy: (key, value, what it means)."""
    rows: list[tuple[str, str, str]] = []
    for name in ("toxicity", "duplicates"):
        rows += _explained(name, getattr(policy, name))
    for name in ("benchmarks", "denylists", "detectors"):
        for n, part in enumerate(getattr(policy, name)):
            rows += _explained(f"{name}[{n}]", part)
    for source, override in policy.sources.items():
        rows += _explained(f"sources.{source}", override)
    return rows


def policy_command(path: str | Path | None, *, toxicity_model: str | None = None) -> dict[str, Any]:
    """What `forebear policy` says: CONTRACT's JSON object, with every key explained and the recall that the bands promise.

    Raises:
        UsageError: As `load_policy`.
    """
    from forebear.tracer.dedupe.bands import curve

    loaded = load_policy(path, toxicity_model=toxicity_model)
    duplicates = loaded.duplicates
    sought = duplicates.action != "off"
    return {
        "schema": "forebear/policy/1",
        "digest": loaded.digest,
        "policy": loaded.canonical(),
        "keys": [{"key": key, "value": value, "means": means} for key, value, means in explain(loaded)],
        "recall": curve(bands=duplicates.bands, rows=duplicates.rows) if sought else [],
    }


def _explained(name: str, part: Any) -> list[tuple[str, str, str]]:
    rows = []
    for f in dataclasses.fields(part):
        value = getattr(part, f.name)
        if dataclasses.is_dataclass(value):
            rows += _explained(f"{name}.{f.name}", value)
        else:
            rows.append((f"{name}.{f.name}", str(_plain(value)), f.metadata.get("doc", "")))
    return rows


def _section(cls: Any, data: Any, name: str, folder: Path) -> Any:
    data = _mapping(data, name)
    fields = {f.name: f for f in dataclasses.fields(cls)}
    for key in data:
        _refuse_unknown(key, set(fields), f"[{name}]")
    for key, f in fields.items():
        if f.metadata.get("required") and not data.get(key):
            raise _wrong("missing_key", f"{name}.{key} ({f.metadata['doc']})", "nothing", f"Give {name}.{key}.")
    values = {key: _value(fields[key], value, f"{name}.{key}", folder) for key, value in data.items()}
    if "flag" in fields and "drop" in fields:
        values = _ordered({"flag": fields["flag"].default, "drop": fields["drop"].default, **values}, values)
        _check_order(values["flag"], values["drop"], name)
    return cls(**values)


def _ordered(values: dict[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """A threshold that was not given follows the one that was, so that drop >= flag."""
    if "drop" not in given:
        values["drop"] = max(values["drop"], values["flag"])
    if "flag" not in given:
        values["flag"] = min(values["drop"], values["flag"])
    return values


def _check_order(flag: Decimal, drop: Decimal, name: str) -> None:
    if drop < flag:
        raise _wrong("impossible_threshold", f"{name}.drop >= {name}.flag", f"drop {drop}, flag {flag}", "Raise drop, or lower flag.")


def _override(data: Any, name: str) -> Override:
    data = _mapping(data, name)
    parts: dict[str, Any] = {"toxicity": Toxicity, "duplicates": Duplicates, "benchmarks": Benchmark, "denylists": Denylist}
    parts["detectors"] = Custom
    allowed = {key: {"flag", "drop", "action"} & {f.name for f in dataclasses.fields(cls)} for key, cls in parts.items()}
    values = {}
    for part, own in data.items():
        _refuse_unknown(part, set(parts), f"[{name}]")
        fields = {f.name: f for f in dataclasses.fields(parts[part])}
        for key in _mapping(own, f"{name}.{part}"):
            _refuse_unknown(key, allowed[part], f"{name}.{part} (a source may have its own thresholds and actions only)")
        values[part] = {key: _value(fields[key], value, f"{name}.{part}.{key}", Path()) for key, value in own.items()}
        if {"flag", "drop"} <= values[part].keys():
            _check_order(values[part]["flag"], values[part]["drop"], f"{name}.{part}")
    return Override(**values)


def _value(f: dataclasses.Field[Any], value: Any, name: str, folder: Path) -> Any:
    kind = {"Decimal": Decimal, "int": int, "str": str}.get(str(f.type))
    if kind is Decimal and isinstance(value, int) and not isinstance(value, bool):
        value = Decimal(value)
    if str(f.type).startswith("tuple"):
        if not isinstance(value, list) or not all(isinstance(one, str) for one in value):
            raise _wrong("wrong_type", f"{name}: a list of texts", repr(value), f'Write {name} = ["..."].')
        return tuple(value)
    if str(f.type).startswith("Detoxify"):
        return _section(Detoxify, value, name, folder)
    if kind is not None and (not isinstance(value, kind) or isinstance(value, bool)):
        raise _wrong("wrong_type", f"{name}: {_TYPES[kind]}", repr(value), f"See what {name} means with `forebear policy`.")
    _check_rules(f, value, name)
    if f.metadata.get("path") and value and not Path(value).is_absolute() and (folder / value).exists():
        return str((folder / value).absolute())
    return value


_TYPES = {Decimal: "a number", int: "a whole number", str: "a text"}


def _check_rules(f: dataclasses.Field[Any], value: Any, name: str) -> None:
    choices, low, high = (f.metadata.get(rule) for rule in ("choices", "low", "high"))
    if choices and value not in choices:
        raise _wrong("wrong_value", f"{name}: one of {', '.join(choices)}", repr(value), "Choose one of them.")
    if low is not None and not (low <= value <= high):
        kind = "impossible_threshold" if isinstance(low, Decimal) else "wrong_value"
        raise _wrong(kind, f"{name} from {low} to {high}", str(value), "Choose a value in that range.")


def _tables(data: Mapping[str, Any], name: str) -> list[Any]:
    value = data.get(name, [])
    if not isinstance(value, list):
        raise _wrong("wrong_type", f"[[{name}]], a list of tables", type(value).__name__, f"Write [[{name}]] with two brackets.")
    return value


def _mapping(value: Any, name: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise _wrong("wrong_type", f"a table [{name}]", repr(value), f"Write [{name}] and its keys below.")
    return value


def _refuse_unknown(key: str, known: set[str], where: str) -> None:
    if key not in known:
        near = difflib.get_close_matches(key, known, n=1, cutoff=0.0)
        remedy = f"Did you mean {near[0]!r}?" if near else "Remove it."
        raise _wrong("unknown_key", f"in {where} one of: {', '.join(sorted(known))}", f"{key!r}", remedy)


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = dataclasses.fields(value)
        return {f.name: _file_digest(getattr(value, f.name)) if f.metadata.get("path") else _plain(getattr(value, f.name)) for f in fields}
    if isinstance(value, Decimal):
        return format(value.normalize(), "f")
    if isinstance(value, float):
        return repr(value)
    if isinstance(value, Mapping):
        return {key: _plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in value]
    return value


def _file_digest(path: str) -> str:
    """A file or folder by its content; a name that is neither (builtin, a model's name) stands for itself."""
    if path and Path(path).is_file():
        return _one_file(path, *_stamp(Path(path)))
    if path and Path(path).is_dir():
        files = sorted(file for file in Path(path).rglob("*") if file.is_file())
        held = {file.relative_to(path).as_posix(): _one_file(str(file), *_stamp(file)) for file in files}
        return sha256_name(canonical_json(held))
    return path


def _stamp(path: Path) -> tuple[int, int]:
    facts = path.stat()
    return facts.st_size, facts.st_mtime_ns


@lru_cache(maxsize=1024)
def _one_file(path: str, size: int, changed: int) -> str:  # noqa: ARG001 - they make a changed file another one
    with Path(path).open("rb") as file:
        return digest_name(hashlib.file_digest(file, "sha256").digest())


def _wrong(kind: str, expected: str, found: str, remedy: str) -> UsageError:
    return UsageError(kind, expected=expected, found=found, remedy=remedy)
