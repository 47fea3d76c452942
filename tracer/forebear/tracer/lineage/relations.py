"""The rule table: how exposure passes along each relation. Every verdict derives from it, and `forebear rules` prints it.

Always true here: a rule lowers a cap or leaves it, never raises it; a relation between two kinds of node has one rule; what has
no rule is not walked. The table is the one in VERDICTS; nothing else in forebear decides what a relation passes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from forebear.schemas.enums import Channel, Grade, Mode, Relation, Verdict

__all__ = ["CAPS", "CHANNELS", "GRADES", "RULES", "WEIGHT_RELATIONS", "Kind", "Rule", "rule_for"]

Kind = Literal["model", "dataset"]

CAPS: tuple[Verdict, ...] = (
    Verdict.DIRECT,
    Verdict.INHERITED_WEIGHTS,
    Verdict.SUBLIMINAL_POSSIBLE,
    Verdict.CONTENT_POSSIBLE,
    Verdict.GUIDANCE_POSSIBLE,
)
"""What a path may still say, worst first; a cap is an index into this."""

CHANNELS: tuple[Channel, ...] = tuple(Channel)
"""The channel of an exposure at each cap, in the order of `CAPS`."""

GRADES: tuple[Grade, ...] = tuple(Grade)
"""Grades of evidence, weakest first; a grade is an index into this."""

_TEACHING = "arXiv 2507.14805; Nature 2026, s41586-026-10319-8"


@dataclass(frozen=True, slots=True)
class Rule:
    """What one relation from child to parent passes.

    Args:
        relation: The relation.
        child: Kind of the node that has the relation.
        parent: Kind of the node that it points at.
        cap: The path's cap is at most this afterwards; None leaves it unchanged.
        mode: How a dataset parent is met; "kept" means as the child is met where the child lists no shards, else `lineage`.
        condition: What else decides, in words.
        unrelated_cap: The cap instead of `cap` where consumer and maker are demonstrably of other families.
        both_ways: Whether it is walked from parent to child as well.
        walked: Whether it passes anything at all.
        weights: Whether it passes weights (families are components over such relations).
        source: Why.
    """

    relation: Relation
    child: Kind
    parent: Kind
    cap: Verdict | None
    mode: Mode | Literal["kept"] | None = None
    condition: str = ""
    unrelated_cap: Verdict | None = None
    both_ways: bool = False
    walked: bool = True
    weights: bool = False
    source: str = ""


def _weights(relation: Relation, source: str) -> Rule:
    return Rule(relation, "model", "model", Verdict.INHERITED_WEIGHTS, weights=True, source=source)


def _made_by(relation: Relation, child: Kind) -> Rule:
    return Rule(
        relation,
        child,
        "model",
        Verdict.SUBLIMINAL_POSSIBLE,
        condition="content_possible if consumer and maker are unrelated",
        unrelated_cap=Verdict.CONTENT_POSSIBLE,
        source=_TEACHING,
    )


def _reworded(relation: Relation) -> Rule:
    source = "the source's statements survive rewording"
    return Rule(relation, "dataset", "dataset", Verdict.CONTENT_POSSIBLE, Mode.CONTENT, source=source)


def _guided(relation: Relation, child: Kind) -> Rule:
    return Rule(relation, child, "model", Verdict.GUIDANCE_POSSIBLE, source="the parent chose or ranked, and gave no bytes")


def _from_rows(relation: Relation) -> Rule:
    condition = "the child's own bytes decide"
    return Rule(relation, "dataset", "dataset", None, Mode.LINEAGE, condition=condition, source="only bytes clear")


RULES: tuple[Rule, ...] = (
    Rule(Relation.TRAINED_ON, "model", "dataset", None, Mode.BYTES, source="the consumer saw these bytes"),
    Rule(
        Relation.SAME_WEIGHTS_AS,
        "model",
        "model",
        None,
        condition="both ways; an alias says the same",
        both_ways=True,
        source="one model under two names",
    ),
    _weights(Relation.FINETUNED_FROM, "fine-tuning starts from the parent's weights"),
    _weights(Relation.CONTINUED_FROM, "training goes on from the parent's weights"),
    _weights(Relation.MERGED_FROM, "a merge is arithmetic on the parents' weights"),
    _weights(Relation.QUANTIZED_FROM, "quantising rounds the parent's weights"),
    _weights(Relation.PRUNED_FROM, "pruning keeps some of the parent's weights"),
    _weights(Relation.CONVERTED_FROM, "conversion rewrites the parent's weights"),
    _weights(Relation.UPCYCLED_FROM, "upcycling copies the parent's weights"),
    _weights(Relation.ADAPTER_OF, "an adapter runs on the parent's weights"),
    _made_by(Relation.DISTILLED_FROM, "model"),
    _made_by(Relation.GENERATED_BY, "dataset"),
    _made_by(Relation.REWRITTEN_BY, "dataset"),
    _made_by(Relation.TRANSLATED_BY, "dataset"),
    _reworded(Relation.REWRITTEN_BY),
    _reworded(Relation.TRANSLATED_BY),
    _from_rows(Relation.CLEANED_FROM),
    _from_rows(Relation.DEDUPLICATED_FROM),
    Rule(
        Relation.MIXED_FROM,
        "dataset",
        "dataset",
        None,
        "kept",
        condition="kept if the mixture lists no shards of its own, else lineage",
        source="a mixture without shards of its own is its parts",
    ),
    *(_guided(one, kind) for one in (Relation.JUDGED_BY, Relation.SELECTED_BY, Relation.REWARDED_BY) for kind in ("model", "dataset")),
    Rule(Relation.TOKENIZER_FROM, "model", "model", None, walked=False, condition="recorded, passes nothing"),
    Rule(Relation.TOKENIZER_FROM, "dataset", "model", None, walked=False, condition="recorded, passes nothing"),
    Rule(Relation.EVALUATED_ON, "model", "dataset", None, walked=False, condition="recorded, passes nothing"),
)
"""The rule table of VERDICTS, one row for each relation and pair of kinds."""

WEIGHT_RELATIONS: frozenset[Relation] = frozenset(rule.relation for rule in RULES if rule.weights)
"""Relations that pass weights."""

_BY_KEY = {(rule.relation, rule.child, rule.parent): rule for rule in RULES}


def rule_for(relation: Relation, child: Kind, parent: Kind) -> Rule | None:
    """The rule of a relation between two kinds of node, None where there is none."""
    return _BY_KEY.get((relation, child, parent))
