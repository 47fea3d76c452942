"""Training records: what a release engineer says of models and datasets, parsed strictly.

Always true here: a key that is not known is refused with the nearest one that is; names hold no control characters; digests,
relations, grades and row ranges are checked before anything is kept. The same rules stand as a JSON Schema in
`training_record.schema.json` beside this module; this parser is the stricter of the two. Nothing here reads a file.
"""

from __future__ import annotations

import difflib
import unicodedata
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from enum import StrEnum
from typing import Any, NoReturn, TypeVar

from forebear.schemas.digests import is_digest
from forebear.schemas.enums import Ancestry, Grade, Relation, Stage
from forebear.schemas.errors import DataError

__all__ = [
    "DATASET_RELATIONS",
    "MODEL_RELATIONS",
    "TO_BOTH",
    "TO_DATASET",
    "TO_MODEL",
    "DatasetRecord",
    "ModelRecord",
    "Parent",
    "Reference",
    "ShardUse",
    "TrainedOn",
    "TrainingRecord",
    "decimal_text",
    "parse_record",
]

_WEIGHTS = (
    Relation.FINETUNED_FROM,
    Relation.CONTINUED_FROM,
    Relation.MERGED_FROM,
    Relation.QUANTIZED_FROM,
    Relation.PRUNED_FROM,
    Relation.CONVERTED_FROM,
    Relation.UPCYCLED_FROM,
    Relation.ADAPTER_OF,
)
_GUIDANCE = (Relation.JUDGED_BY, Relation.SELECTED_BY, Relation.REWARDED_BY)

TO_BOTH = frozenset({Relation.REWRITTEN_BY, Relation.TRANSLATED_BY})
"""Relations of a dataset that name a model (who reworded) and a dataset (what was reworded)."""

TO_DATASET = frozenset({Relation.TRAINED_ON, Relation.EVALUATED_ON, Relation.CLEANED_FROM, Relation.DEDUPLICATED_FROM, Relation.MIXED_FROM})
"""Relations whose parent is a dataset."""

TO_MODEL = frozenset({*Relation} - TO_BOTH - TO_DATASET)
"""Relations whose parent is a model."""

MODEL_RELATIONS = frozenset(
    {
        *_WEIGHTS,
        *_GUIDANCE,
        Relation.DISTILLED_FROM,
        Relation.SAME_WEIGHTS_AS,
        Relation.TOKENIZER_FROM,
        Relation.EVALUATED_ON,
    }
)
"""What a model's `parents` may say; `trained_on` has a list of its own."""

DATASET_RELATIONS = frozenset(
    {
        *TO_BOTH,
        *_GUIDANCE,
        Relation.GENERATED_BY,
        Relation.CLEANED_FROM,
        Relation.DEDUPLICATED_FROM,
        Relation.MIXED_FROM,
        Relation.TOKENIZER_FROM,
    }
)
"""What a dataset's `relations` may say."""

MAX_NAME = 512
_Kind = TypeVar("_Kind", bound=StrEnum)


@dataclass(frozen=True, slots=True)
class Reference:
    """How a record points at a model or dataset: by digest, or by name with or without a revision."""

    name: str | None
    revision: str | None = None
    digest: str | None = None

    @property
    def id(self) -> str:
        """The node's id where nothing more is known: its digest, else `name:NAME[@REVISION]`."""
        if self.digest is not None:
            return self.digest
        return f"name:{self.name}" + ("" if self.revision is None else f"@{self.revision}")


@dataclass(frozen=True, slots=True)
class TrainedOn:
    """A dataset that a model consumed; `epochs` is a decimal text, `complete` says that a usage log tells every row."""

    dataset: Reference
    stage: Stage | None
    epochs: str | None
    complete: bool
    evidence: Grade


@dataclass(frozen=True, slots=True)
class Parent:
    """A relation to a model, a dataset, or (rewritten, translated) both."""

    relation: Relation
    model: Reference | None
    dataset: Reference | None
    evidence: Grade
    run: str | None
    system_prompt: str | None


@dataclass(frozen=True, slots=True)
class ShardUse:
    """A shard of a dataset as the record writes it (path, digest or prefix), whole or narrowed to half-open row ranges."""

    shard: str
    rows: tuple[tuple[int, int], ...] | None


@dataclass(frozen=True, slots=True)
class ModelRecord:
    """What a record says of one model."""

    reference: Reference
    aliases: tuple[str, ...]
    ancestry: Ancestry | None
    trained_on: tuple[TrainedOn, ...]
    parents: tuple[Parent, ...]


@dataclass(frozen=True, slots=True)
class DatasetRecord:
    """What a record says of one dataset."""

    reference: Reference
    aliases: tuple[str, ...]
    ancestry: Ancestry | None
    shards: tuple[ShardUse, ...]
    relations: tuple[Parent, ...]


@dataclass(frozen=True, slots=True)
class TrainingRecord:
    """One training record, parsed."""

    models: tuple[ModelRecord, ...]
    datasets: tuple[DatasetRecord, ...]


def parse_record(value: object, *, where: str = "record") -> TrainingRecord:
    """A training record from what YAML or JSON gave.

    Args:
        value: The parsed document.
        where: What to call it in messages, e.g. the file's path.

    Raises:
        DataError: Something in it is not what a training record may hold; the message names the place.
    """
    top = _Fields(value, where)
    models = tuple(_model(one, place) for one, place in top.items("models"))
    datasets = tuple(_dataset(one, place) for one, place in top.items("datasets"))
    top.done()
    if not models and not datasets:
        _fail("empty_record", where, "`models` or `datasets` with something in them", "neither", "Name a model or a dataset.")
    _refuse_twice(models, f"{where}.models")
    _refuse_twice(datasets, f"{where}.datasets")
    return TrainingRecord(models, datasets)


def decimal_text(value: object) -> str | None:
    """A positive finite number as its shortest plain decimal text, or None where it is not one."""
    if isinstance(value, bool) or not isinstance(value, int | float | str | Decimal):
        return None
    try:
        number = Decimal(repr(value) if isinstance(value, float) else str(value))
    except InvalidOperation:
        return None
    if not number.is_finite() or number <= 0 or abs(number.adjusted()) > 12:
        return None
    text = format(number, "f")
    return text.rstrip("0").rstrip(".") if "." in text else text


def _model(value: object, where: str) -> ModelRecord:
    fields = _Fields(value, where)
    reference = fields.node()
    record = ModelRecord(
        reference,
        aliases=tuple(_name(one, place) for one, place in fields.items("aliases")),
        ancestry=fields.choice("ancestry", Ancestry),
        trained_on=tuple(_trained_on(one, place) for one, place in fields.items("trained_on")),
        parents=tuple(_parent(one, place, allowed=MODEL_RELATIONS) for one, place in fields.items("parents")),
    )
    fields.done()
    return record


def _dataset(value: object, where: str) -> DatasetRecord:
    fields = _Fields(value, where)
    reference = fields.node()
    record = DatasetRecord(
        reference,
        aliases=tuple(_name(one, place) for one, place in fields.items("aliases")),
        ancestry=fields.choice("ancestry", Ancestry),
        shards=tuple(_shard(one, place) for one, place in fields.items("shards")),
        relations=tuple(_parent(one, place, allowed=DATASET_RELATIONS) for one, place in fields.items("relations")),
    )
    fields.done()
    return record


def _trained_on(value: object, where: str) -> TrainedOn:
    fields = _Fields(value, where)
    dataset = fields.reference("dataset")
    if dataset is None:
        _fail("missing_key", where, "`dataset`", "none", "Name the dataset that was consumed.")
    epochs = fields.take("epochs")
    text = decimal_text(epochs)
    if epochs is not None and text is None:
        _fail("bad_epochs", f"{where}.epochs", "a positive number", repr(epochs), "Leave epochs out where they are not known.")
    usage = fields.take("usage")
    if usage not in (None, "complete", "absent"):
        _fail("bad_usage", f"{where}.usage", "`complete` or `absent`", repr(usage), "Leave usage out without a usage log.")
    record = TrainedOn(
        dataset,
        stage=fields.choice("stage", Stage),
        epochs=text,
        complete=usage == "complete",
        evidence=fields.choice("evidence", Grade) or Grade.DECLARED,
    )
    fields.done()
    return record


def _parent(value: object, where: str, *, allowed: frozenset[Relation]) -> Parent:
    fields = _Fields(value, where)
    relation = fields.choice("relation", Relation)
    if relation is None or relation not in allowed:
        names = ", ".join(sorted(allowed))
        _fail("bad_relation", f"{where}.relation", f"one of {names}", repr(relation and relation.value), "Use one of these.")
    model = fields.reference("model") if relation in TO_MODEL | TO_BOTH else None
    dataset = fields.reference("dataset") if relation in TO_DATASET | TO_BOTH else None
    for key, found, needed in (("model", model, TO_MODEL | TO_BOTH), ("dataset", dataset, TO_DATASET | TO_BOTH)):
        if relation in needed and found is None and not (relation in TO_BOTH and key == "dataset"):
            _fail("missing_key", where, f"`{key}`, whom {relation} points at", "none", f"Name the {key}.")
    record = Parent(
        relation,
        model,
        dataset,
        evidence=fields.choice("evidence", Grade) or Grade.DECLARED,
        run=fields.digest("run"),
        system_prompt=fields.digest("system_prompt"),
    )
    fields.done()
    return record


def _shard(value: object, where: str) -> ShardUse:
    if isinstance(value, str):
        return ShardUse(_path(value, where), None)
    fields = _Fields(value, where)
    shard = fields.take("shard")
    if not isinstance(shard, str):
        _fail("missing_key", where, "`shard`, a path or a digest", repr(shard), "Name the shard.")
    rows = None
    if fields.has("rows"):
        rows = tuple(_range(one, place) for one, place in fields.items("rows"))
        if not rows:
            _fail("bad_rows", f"{where}.rows", "at least one range", "none", "Leave rows out to mean the whole shard.")
    fields.done()
    return ShardUse(_path(shard, where), rows)


def _range(value: object, where: str) -> tuple[int, int]:
    if (
        not isinstance(value, list | tuple)
        or len(value) != 2
        or not all(isinstance(one, int) and not isinstance(one, bool) for one in value)
        or not 0 <= value[0] < value[1] < 1 << 62
    ):
        _fail("bad_rows", where, "[first, last): two whole numbers, 0 <= first < last", repr(value)[:80], "Correct the range.")
    return value[0], value[1]


class _Fields:
    """The keys of one mapping, taken one by one; `done` refuses what is left."""

    def __init__(self, value: object, where: str) -> None:
        if not isinstance(value, Mapping) or not all(isinstance(key, str) for key in value):
            _fail("not_a_mapping", where, "a mapping with text keys", type(value).__name__, "See the training record's schema.")
        self._value: Mapping[str, Any] = value
        self._where = where
        self._known: list[str] = []

    def has(self, key: str) -> bool:
        return self._value.get(key) is not None

    def take(self, key: str) -> Any:
        self._known.append(key)
        return self._value.get(key)

    def items(self, key: str) -> Iterable[tuple[object, str]]:
        found = self.take(key)
        if found is None:
            return ()
        if not isinstance(found, list | tuple):
            _fail("not_a_list", f"{self._where}.{key}", "a list", type(found).__name__, "Write it as a list.")
        return ((one, f"{self._where}.{key}[{n}]") for n, one in enumerate(found))

    def choice(self, key: str, kind: type[_Kind]) -> _Kind | None:
        found = self.take(key)
        if found is None:
            return None
        values = [one.value for one in kind]
        if found not in values:
            near = difflib.get_close_matches(str(found), values, n=1)
            remedy = f"Did you mean {near[0]}?" if near else "Use one of these."
            _fail(f"bad_{key}", f"{self._where}.{key}", f"one of {', '.join(values)}", repr(found)[:80], remedy)
        return kind(found)

    def digest(self, key: str) -> str | None:
        found = self.take(key)
        if found is None:
            return None
        if not isinstance(found, str) or not is_digest(found):
            expected = "sha256: and 64 lower-case hex digits"
            _fail("not_a_digest", f"{self._where}.{key}", expected, repr(found)[:80], "Give the whole digest.")
        return found

    def node(self) -> Reference:
        """The node that this mapping is about: `name`, `revision`, `digest`."""
        name, revision, digest = self.take("name"), self.take("revision"), self.digest("digest")
        if name is None and digest is None:
            _fail("missing_key", self._where, "`name` or `digest`", "neither", "Name it.")
        place = f"{self._where}.name"
        return Reference(
            None if name is None else _name(name, place),
            None if revision is None else _name(revision, f"{self._where}.revision"),
            digest,
        )

    def reference(self, key: str) -> Reference | None:
        """A pointer at another node: its name or digest under `key`, and a `revision` beside a model's name."""
        found = self.take(key)
        revision = self.take("revision") if key == "model" or "model" not in self._value else None
        if found is None:
            return None
        text = _name(found, f"{self._where}.{key}")
        if is_digest(text):
            return Reference(None, None, text)
        if text.startswith("sha256:"):
            expected = "sha256: and 64 lower-case hex digits"
            _fail("not_a_digest", f"{self._where}.{key}", expected, repr(text)[:80], "Give the whole digest.")
        return Reference(text, None if revision is None else _name(revision, f"{self._where}.revision"))

    def done(self) -> None:
        for key in self._value:
            if key not in self._known:
                near = difflib.get_close_matches(key, self._known, n=1)
                remedy = f"Did you mean `{near[0]}`?" if near else "Remove it."
                _fail("unknown_key", self._where, f"keys {', '.join(sorted(set(self._known)))}", repr(key)[:80], remedy)


def _name(value: object, where: str) -> str:
    if not isinstance(value, str):
        _fail("bad_name", where, "text", f"{value!r:.80} ({type(value).__name__})", "Put it in quotation marks.")
    if not 0 < len(value) <= MAX_NAME or value != value.strip():
        _fail("bad_name", where, f"1 to {MAX_NAME} characters, no white space around", repr(value[:80]), "Correct the name.")
    _refuse_controls(value, where)
    return value


def _path(value: str, where: str) -> str:
    if not value:
        _fail("bad_name", where, "a path or a digest", "an empty text", "Name the shard.")
    _refuse_controls(value, where)
    return value


def _refuse_controls(value: str, where: str) -> None:
    if value.isascii() and value.isprintable():
        return
    # Cc: control; Cf: formatting, such as bidirectional overrides, which make one name look like another; Cs: surrogates.
    if any(unicodedata.category(one) in ("Cc", "Cf", "Cs", "Zl", "Zp") for one in value):
        _fail("bad_name", where, "text without control characters", ascii(value)[:80], "Remove them.")


def _refuse_twice(records: tuple[ModelRecord, ...] | tuple[DatasetRecord, ...], where: str) -> None:
    seen: set[str] = set()
    for record in records:
        if record.reference.id in seen:
            _fail(
                "named_twice",
                where,
                "one record for each",
                record.reference.id,
                "Join the two, or give them revisions or digests.",
            )
        seen.add(record.reference.id)


def _fail(kind: str, where: str, expected: str, found: str, remedy: str) -> NoReturn:
    raise DataError(kind, expected=f"{expected} at {where}", found=found, remedy=remedy)
