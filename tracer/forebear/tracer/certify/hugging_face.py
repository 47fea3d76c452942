"""The model card: front matter and a section of README.md, between markers of ours, made from a certificate's predicate.

Always true here: only what lies between our markers is ever written or removed; writing twice changes nothing; what the author
said in the front matter stands, and where the ledger says otherwise the difference is returned, not overwritten. A card whose front
matter or markers are broken is refused, whole.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import yaml

from forebear.schemas.digests import digest_name
from forebear.schemas.errors import DataError
from forebear.tracer.certify import wording
from forebear.tracer.certify.escape import markdown_text, shortened

__all__ = ["BEGIN", "END", "Card", "find_section", "front_matter", "new_card", "section", "section_digest", "update_card"]

BEGIN = "<!-- forebear:begin (made by `forebear certify`; what is edited here is lost) -->"
END = "<!-- forebear:end -->"
_BEGIN_FIELDS = "# forebear:begin"
_END_FIELDS = "# forebear:end"
_ANY_BEGIN = re.compile(r"^<!-- forebear:begin\b[^\n]*-->[ \t]*$", re.MULTILINE)
_ANY_END = re.compile(r"^<!-- forebear:end -->[ \t]*$", re.MULTILINE)
_FRONT = re.compile(r"\A(\s*---[ \t]*\n)(.*?)(^---[ \t]*(?:\n|\Z))", re.DOTALL | re.MULTILINE)
_OWN_FIELDS = re.compile(r"^# forebear:begin[ \t]*\n.*?^# forebear:end[ \t]*\n", re.DOTALL | re.MULTILINE)
_MAX_FRONT = 256 << 10
_ROWS = 20

# What the hub accepts as a repository's name; a name that is none would make the whole card invalid there.
_REPOSITORY = re.compile(r"(?:[A-Za-z0-9_][A-Za-z0-9_.-]*/)?[A-Za-z0-9_][A-Za-z0-9_.-]*")

# Relation of the hub's `base_model_relation`, for those it knows.
_HUB_RELATION = {
    "finetuned_from": "finetune", "continued_from": "finetune", "quantized_from": "quantized", "converted_from": "quantized",
    "merged_from": "merge", "adapter_of": "adapter",
}  # fmt: skip
_WEIGHTS = (*_HUB_RELATION, "pruned_from", "upcycled_from")


@dataclass(frozen=True)
class Card:
    """A card's text, and what its front matter says otherwise than the ledger."""

    text: str
    differences: tuple[str, ...] = ()


def front_matter(predicate: Mapping[str, Any]) -> dict[str, Any]:
    """The hub's fields that follow from the lineage: base models and how, datasets, and the verdict under a key of ours."""
    own = predicate["model"]["id"]
    relations = [one for one in predicate["ancestry"]["relations"] if one["child"] == own]
    names = {one["id"]: one["name"] for one in predicate["ancestry"]["nodes"]}
    parents = [one for one in relations if one["relation"] in _WEIGHTS]
    bases = _repositories(names, parents)
    datasets = _repositories(names, [one for one in relations if one["relation"] == "trained_on"])
    kinds = {_HUB_RELATION.get(one["relation"]) for one in parents}
    fields: dict[str, Any] = {}
    if bases:
        fields["base_model"] = bases
        if len(kinds) == 1 and (kind := kinds.pop()) is not None:
            fields["base_model_relation"] = kind
    if datasets:
        fields["datasets"] = datasets
    fields["forebear"] = {name: predicate[name] for name in ("verdict", "at_worst", "complete")}
    fields["forebear"]["head"] = predicate["as_of"]["head"]
    return fields


def _repositories(names: Mapping[str, str | None], relations: list[dict[str, Any]]) -> list[str]:
    """Names that the hub accepts, revisions left out."""
    found = [(names.get(one["parent"]) or "").split("@", 1)[0] for one in relations]
    return sorted({name for name in found if len(name) <= 96 and _REPOSITORY.fullmatch(name) and ".." not in name})


def section(predicate: Mapping[str, Any]) -> str:
    """The README's section, markers included, LF at line ends."""
    lines = [BEGIN, "", "## Training data: what is known", "", markdown_text(wording.answer(predicate)), ""]
    lines += [f"Stated {wording.as_of(predicate)}.", ""]
    lines += _exposures(predicate["exposures"])
    lines += _unknowns(predicate)
    lines += _advisories(predicate["advisories"])
    lines += _asked(predicate["asked"])
    lines += [
        "Check it, with the publisher's key from outside this repository:",
        "",
        "```sh",
        "forebear verify-certificate . --key PUBLISHER.pub",
        "sha256sum -c forebear/SHA256SUMS",
        "```",
        "",
        END,
        "",
    ]
    return "\n".join(lines)


def _exposures(exposures: Mapping[str, Any]) -> list[str]:
    listed = exposures["listed"]
    if not listed:
        return []
    lines = ["| through | class | consumed by | dataset | dose | evidence |", "|---|---|---|---|---|---|"]
    for one in listed[:_ROWS]:
        cells = (one["channel"], one["class"], wording.name_of(one["ancestor"]), one["dataset"], wording.dose(one), one["evidence"])
        lines.append("| " + " | ".join(markdown_text(cell) for cell in cells) + " |")
    more = len(listed) - _ROWS + exposures["omitted"]
    return [*lines, "", *([f"{more:,} more exposures are not shown here.", ""] if more > 0 else [])]


def _unknowns(predicate: Mapping[str, Any]) -> list[str]:
    unknown = predicate["unknown"]
    names = {one["id"]: one["name"] for one in predicate["ancestry"]["nodes"]}
    lines = [
        f"- {markdown_text(names.get(one['node']) or shortened(one['node']))}: {markdown_text(wording.unknown_line(one))}"
        for one in unknown["listed"][:_ROWS]
    ]
    more = len(unknown["listed"]) - _ROWS + unknown["omitted"]
    if more > 0:
        lines.append(f"- and {more:,} more")
    return ["Not known:", "", *lines, ""] if lines else []


def _advisories(advisories: list[dict[str, Any]]) -> list[str]:
    lines = [f"- {markdown_text(wording.advisory_line(one))}" for one in advisories[:_ROWS]]
    more = len(advisories) - _ROWS
    return ["Advisories:", "", *lines, *([f"- and {more:,} more"] if more > 0 else []), ""] if lines else []


def _asked(asked: list[dict[str, Any]]) -> list[str]:
    said = ", ".join(f"{one['detector']} at {one['threshold']} ({shortened(one['digest'])})" for one in asked)
    return [f"Detectors asked: {markdown_text(said)}.", ""] if said else []


def section_digest(text: str) -> str:
    """SHA-256 of a section with LF line ends, as a certificate's `documents` has it."""
    return digest_name(hashlib.sha256(text.replace("\r\n", "\n").strip("\n").encode()).digest())


def find_section(text: str) -> str | None:
    """The section between our markers, markers included, or None where there are none.

    Raises:
        DataError: A marker is missing or stands twice.
    """
    found = _span(text.replace("\r\n", "\n"))
    return None if found is None else text.replace("\r\n", "\n")[slice(*found)]


def _span(text: str) -> tuple[int, int] | None:
    begins, ends = list(_ANY_BEGIN.finditer(text)), list(_ANY_END.finditer(text))
    if not begins and not ends:
        return None
    if len(begins) != 1 or len(ends) != 1 or begins[0].start() > ends[0].start():
        raise DataError(
            "broken_markers",
            expected="one `<!-- forebear:begin ... -->` line followed by one `<!-- forebear:end -->` line in README.md",
            found=f"{len(begins)} of the first and {len(ends)} of the second",
            remedy="Remove the markers and what lies between them; `forebear certify` writes them anew.",
        )
    return begins[0].start(), ends[0].end()


def new_card(predicate: Mapping[str, Any]) -> str:
    """A card that holds nothing but our parts, under the model's name."""
    title = markdown_text(wording.name_of(predicate["model"]))
    return update_card(f"# {title}\n", predicate).text


def update_card(text: str, predicate: Mapping[str, Any]) -> Card:
    """A card with our parts put in, or brought up to date.

    Args:
        text: The card as it is; line ends are kept as they are.
        predicate: A certificate's predicate.

    Raises:
        DataError: The front matter is no YAML mapping, or markers are broken.
    """
    windows = "\r\n" in text
    plain = text.replace("\r\n", "\n")
    bom = "\ufeff" if plain.startswith("\ufeff") else ""
    card, differences = _with_fields(plain.removeprefix("\ufeff"), front_matter(predicate))
    span = _span(card)
    body = section(predicate)
    if span is None:
        card = f"{card.rstrip()}\n\n{body}" if card.strip() else body
    else:
        card = card[: span[0]] + body.rstrip("\n") + card[span[1] :]
    done = bom + card
    return Card(done.replace("\n", "\r\n") if windows else done, differences)


def _with_fields(text: str, fields: Mapping[str, Any]) -> tuple[str, tuple[str, ...]]:
    found = _FRONT.match(text)
    opening, inner, closing, rest = (found[1], found[2], found[3], text[found.end() :]) if found else ("---\n", "", "---\n", text)
    theirs = _OWN_FIELDS.sub("", inner)
    known = _parse(theirs)
    mine = {key: value for key, value in fields.items() if key not in known}
    differences = tuple(
        f"README.md says {key}: {known[key]!r:.200}, the ledger {value!r:.200}"
        for key, value in fields.items()
        if key in known and not _covers(known[key], value)
    )
    block = f"{_BEGIN_FIELDS}\n{yaml.safe_dump(mine, sort_keys=True, allow_unicode=False)}{_END_FIELDS}\n" if mine else ""
    ended = theirs if not theirs or theirs.endswith("\n") else f"{theirs}\n"
    gap = "" if found else "\n"
    return f"{opening}{ended}{block}{closing}{gap}{rest}", differences


def _parse(text: str) -> dict[str, Any]:
    try:
        if len(text) > _MAX_FRONT:
            raise ValueError(f"{len(text)} characters")
        if re.search(r"(?:^|\s)[&*][A-Za-z0-9_]", text):
            # Aliases can make a few lines unfold into gigabytes; a card's front matter has no use for them.
            events = yaml.parse(text, Loader=yaml.SafeLoader)
            if any(isinstance(event, yaml.AliasEvent) for event in events):
                raise ValueError("YAML aliases")
        value = yaml.safe_load(text)
        if value is None:
            return {}
        if not isinstance(value, dict):
            raise TypeError(f"a {type(value).__name__}")
    except (yaml.YAMLError, ValueError, TypeError, RecursionError) as error:
        raise DataError(
            "broken_front_matter",
            expected="a YAML mapping without aliases between the `---` lines at the top of README.md",
            found=" ".join(str(error).split())[:300],
            remedy="Correct the front matter; nothing was changed.",
        ) from error
    return value


def _covers(said: Any, value: Any) -> bool:
    """Whether what the author says holds what the ledger says."""
    if isinstance(value, list):
        listed = said if isinstance(said, list) else [said]
        return all(one in listed for one in value)
    return bool(said == value)
