"""The closed vocabularies of the log, the lineage and the verdicts.

Always true here: values are strings that stay readable for years, named for the fault or the fact; order of definition is the
order of severity where there is one (worst first), and nothing is ever renamed.
"""

from __future__ import annotations

from enum import StrEnum

__all__ = [
    "Action",
    "Ancestry",
    "Category",
    "Channel",
    "EntryKind",
    "Grade",
    "Mode",
    "Reason",
    "Relation",
    "Stage",
    "Verdict",
]


class Action(StrEnum):
    """What became of a row."""

    KEEP = "keep"
    DROP = "drop"
    ERROR = "error"


class Reason(StrEnum):
    """Why; a detector of a user's own adds its name as a further reason."""

    TOXIC = "toxic"
    EXACT_DUPLICATE = "exact_duplicate"
    NEAR_DUPLICATE = "near_duplicate"
    BENCHMARK_LEAK = "benchmark_leak"
    DENYLISTED = "denylisted"
    UNREADABLE = "unreadable"
    NOT_TEXT = "not_text"
    INVALID_UTF8 = "invalid_utf8"
    DETECTOR_FAILED = "detector_failed"


class Category(StrEnum):
    """Contaminant classes that forebear ships; a verdict is given for each apart."""

    TOXICITY = "toxicity"
    BENCHMARK = "benchmark"
    DENYLIST = "denylist"


class EntryKind(StrEnum):
    """What an entry of the ledger adds."""

    RUN = "run"
    LINEAGE = "lineage"
    VERIFICATION = "verification"
    ADVISORY = "advisory"
    KEY = "key"


class Stage(StrEnum):
    """At which stage of its training a model consumed a dataset."""

    PRETRAIN = "pretrain"
    CONTINUED = "continued"
    SFT = "sft"
    PREFERENCE = "preference"
    RL = "rl"


class Ancestry(StrEnum):
    """Whether everything that a node came from is recorded."""

    OPEN = "open"
    CLOSED = "closed"


class Grade(StrEnum):
    """How well a relation is evidenced, weakest first."""

    CONTRADICTED = "contradicted"
    DECLARED = "declared"
    LOGGED = "logged"
    SIGNED = "signed"
    WEIGHT_VERIFIED = "weight_verified"


class Relation(StrEnum):
    """Typed edges of the lineage, child to parent."""

    TRAINED_ON = "trained_on"
    FINETUNED_FROM = "finetuned_from"
    CONTINUED_FROM = "continued_from"
    MERGED_FROM = "merged_from"
    QUANTIZED_FROM = "quantized_from"
    PRUNED_FROM = "pruned_from"
    CONVERTED_FROM = "converted_from"
    UPCYCLED_FROM = "upcycled_from"
    ADAPTER_OF = "adapter_of"
    DISTILLED_FROM = "distilled_from"
    GENERATED_BY = "generated_by"
    REWRITTEN_BY = "rewritten_by"
    TRANSLATED_BY = "translated_by"
    CLEANED_FROM = "cleaned_from"
    DEDUPLICATED_FROM = "deduplicated_from"
    MIXED_FROM = "mixed_from"
    JUDGED_BY = "judged_by"
    SELECTED_BY = "selected_by"
    REWARDED_BY = "rewarded_by"
    TOKENIZER_FROM = "tokenizer_from"
    EVALUATED_ON = "evaluated_on"
    SAME_WEIGHTS_AS = "same_weights_as"


class Channel(StrEnum):
    """How an exposure reaches a model, worst first."""

    DOCUMENTS = "documents"
    WEIGHTS = "weights"
    SUBLIMINAL = "subliminal"
    CONTENT = "content"
    GUIDANCE = "guidance"


class Verdict(StrEnum):
    """What is said of a model, worst first."""

    DIRECT = "direct"
    INHERITED_WEIGHTS = "inherited_weights"
    SUBLIMINAL_POSSIBLE = "subliminal_possible"
    CONTENT_POSSIBLE = "content_possible"
    GUIDANCE_POSSIBLE = "guidance_possible"
    UNKNOWN = "unknown"
    CLEARED = "cleared"
    NOT_EXPOSED = "not_exposed"


class Mode(StrEnum):
    """How a dataset is met on a path: consumed, reworded, or only descended from."""

    BYTES = "bytes"
    CONTENT = "content"
    LINEAGE = "lineage"
