"""Verdicts, unknowns and doses as sentences, the same ones in every document.

Always true here: a sentence states what was found and on what ground, never an effect on the model; what is unknown is in the
first sentence, not in a footnote. Sentences are plain text: whoever puts one into a document escapes it there.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

__all__ = ["CHANNEL", "VERDICT", "advisory_line", "answer", "as_of", "dose", "name_of", "remedy_for", "unknown_line"]

VERDICT: Mapping[str, str] = {
    "direct": "consumed contaminated rows itself",
    "inherited_weights": "descends by weights from a model that consumed contaminated rows",
    "subliminal_possible": "learned from what an exposed model generated or taught; filtering content does not clear that",
    "content_possible": "may have received contaminated content reworded",
    "guidance_possible": "was guided by an exposed model that judged, selected or rewarded",
    "unknown": "may be exposed or not: something needed is not recorded, not scanned or damaged",
    "cleared": "is not exposed: contaminated rows were there once and are not in the bytes that were used",
    "not_exposed": "is not exposed: its ancestry is closed, every shard was scanned, nothing was found",
}
"""What a verdict says of a model, after its name."""

CHANNEL: Mapping[str, str] = {
    "documents": "in the bytes it consumed",
    "weights": "through its parents' weights",
    "subliminal": "through data that an exposed model made",
    "content": "reworded",
    "guidance": "through an exposed judge",
}
"""How an exposure reaches the model, by channel."""

_REMEDIES: Mapping[str, str] = {
    "ancestry open": "Link a record that lists everything it came from and says `ancestry: closed`.",
    "model not recorded": "Link a record of this model.",
    "dataset not recorded": "Link a record of this dataset.",
    "no shards listed": "List the dataset's shards in a record, by path or digest.",
    "rows not scanned": "Scan the shards that no run covered.",
    "detector not run": "Scan with this detector.",
    "rows errored": "Repair the rows that could not be read, and scan again.",
    "no signatures to look near matches up in": "Scan with duplicates looked for, so that signatures are stored.",
    "contradicted relation": "Settle which record is right, and link it anew.",
}


def name_of(node: Mapping[str, Any]) -> str:
    """A node's name, else its id."""
    return str(node["name"] or node["id"])


def answer(predicate: Mapping[str, Any]) -> str:
    """The answer in one sentence."""
    verdict, name = predicate["verdict"], name_of(predicate["model"])
    said = f"{name} {VERDICT[verdict]} ({verdict})"
    if predicate["complete"]:
        return f"{said}; nothing that was needed is unknown."
    count = len(predicate["unknown"]["listed"]) + predicate["unknown"]["omitted"]
    things = "1 thing is unknown" if count == 1 else f"{count} things are unknown"
    bound = "which changes nothing of this verdict" if predicate["at_worst"] == verdict else f"at worst {predicate['at_worst']}"
    return f"{said}; {things}, {bound}."


def as_of(predicate: Mapping[str, Any]) -> str:
    """Which state of the ledger an answer is of."""
    return f"as of head {predicate['as_of']['head']}; later advisories not seen"


def dose(exposure: Mapping[str, Any]) -> str:
    """How much, and how many false alarms to expect."""
    documents = exposure["documents"]
    said = "an unknown number of documents" if documents is None else f"{documents:,} document{'s' if documents != 1 else ''}"
    if exposure.get("presentations") is not None:
        said += f", {float(exposure['presentations']):,.6g} presentations"
    if exposure.get("upper_bound"):
        said += " at most"
    if exposure.get("expected_false") is not None:
        said += f"; {float(exposure['expected_false']):,.1f} false alarms to expect"
    return said


def advisory_line(one: Mapping[str, Any]) -> str:
    """Who published what about the model or an ancestor."""
    return f"advisory of entry {one['entry']}: {one['reason']} ({one['authority']}, {one['time']})"


def unknown_line(one: Mapping[str, Any]) -> str:
    """What is unknown, of how many rows, and the worst it could mean."""
    rows = "" if one["rows"] is None else f" ({one['rows']:,} of {'?' if one['of'] is None else format(one['of'], ',')} rows)"
    about = f", asked for {one['class']}" if one["class"] else ""
    return f"{one['why']}{rows}{about}, at worst {one['at_worst']}"


def remedy_for(one: Mapping[str, Any]) -> str:
    """What would settle an unknown."""
    return _REMEDIES.get(one["why"], "Ask `forebear verify --full` what is damaged, and restore it.")
