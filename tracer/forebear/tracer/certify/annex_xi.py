"""EU AI Act, Annex XI, Section 1, point 2(c), of a model: what the ledger says of its training data, and what it cannot say.

Always true here: every field that the point names is there; what the ledger holds is stated with its head, and what it does not hold
is said to be not filled, with who could fill it. Nothing is guessed.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from forebear.tracer.certify import wording
from forebear.tracer.certify.escape import markdown_text, shortened

__all__ = ["annex_xi"]

_ROWS = 200
_MADE_BY = ("generated_by", "rewritten_by", "translated_by")
_CURATED_BY = ("judged_by", "selected_by", "rewarded_by")


def annex_xi(predicate: Mapping[str, Any]) -> str:
    """The section in Markdown."""
    fields = (
        ("Type of data", _type(predicate)),
        ("Provenance of data", _provenance(predicate)),
        ("Curation methodologies (cleaning, filtering, etc.)", _curation(predicate)),
        ("Number of data points", _points(predicate)),
        ("Scope and main characteristics", _scope(predicate)),
        ("How the data was obtained and selected", _obtained(predicate)),
        ("Measures to detect the unsuitability of data sources", _unsuitable(predicate)),
        ("Methods to detect identifiable biases", _biases()),
    )
    name = markdown_text(wording.name_of(predicate["model"]))
    lines = [
        f"# Annex XI, Section 1, point 2(c): training data of {name}",
        "",
        "Regulation (EU) 2024/1689, technical documentation of general-purpose AI models: information on the data used for training,",
        "testing and validation. Filled from a forebear ledger; this page says which fields it could not fill. It is no legal advice.",
        "",
        f"Stated {wording.as_of(predicate)} (`{predicate['heads'][0]['root']}`).",
        "",
    ]
    open_fields = []
    for number, (title, (said, missing)) in enumerate(fields, 1):
        lines += [f"## {number}. {title}", "", *said, ""]
        if missing:
            open_fields.append((number, title, missing))
            lines += [f"**Not filled:** {missing}", ""]
    lines += ["## Fields that could not be filled, or not wholly", ""]
    lines += [f"{number}. {title}: {missing}" for number, title, missing in open_fields] or ["None."]
    return "\n".join([*lines, ""])


_Field = tuple[list[str], str]


def _type(predicate: Mapping[str, Any]) -> _Field:
    stages = {one.get("stage") for one in predicate["ancestry"]["relations"] if one["relation"] == "trained_on"} - {None}
    made = _named(predicate, _MADE_BY)
    said = ["Text, in rows of table files."]
    said += [f"Stages at which it was used: {', '.join(sorted(stages))}."] if stages else []
    said += ["Synthetic or reworded by models:", "", *made] if made else ["No dataset of the lineage is recorded as made by a model."]
    return said, "languages, modalities beyond text, and whether personal or copyrighted data is in it (the provider)."


def _provenance(predicate: Mapping[str, Any]) -> _Field:
    lines = ["| dataset | ancestry | shards | rows | root over the shards |", "|---|---|---|---|---|"]
    ancestry = {one["id"]: one["ancestry"] for one in predicate["ancestry"]["nodes"]}
    for one in predicate["datasets"][:_ROWS]:
        rows = "not counted" if one["rows"] is None else f"{one['rows']:,}"
        root = f"`{one['root']}`" if one["listed"] else "none listed"
        known = ancestry.get(one["id"], "open")
        lines.append(f"| {markdown_text(wording.name_of(one))} | {known} | {one['listed']:,} | {rows} | {root} |")
    if len(predicate["datasets"]) > _ROWS:
        lines.append(f"\n{len(predicate['datasets']) - _ROWS:,} more datasets are in the certificate.")
    if not predicate["datasets"]:
        return ["No dataset is recorded."], "every dataset (link training records)."
    gaps = [one for one in predicate["unknown"]["listed"] if one["why"] in ("ancestry open", "dataset not recorded", "no shards listed")]
    missing = "where each dataset was first obtained, and under which licence (the provider)"
    return lines, missing + (f"; {len(gaps)} nodes whose origin is open." if gaps else ".")


def _curation(predicate: Mapping[str, Any]) -> _Field:
    if not predicate["runs"]:
        return ["No scan of these data is in the ledger."], "all of it (scan the shards, or describe what was done elsewhere)."
    lines = []
    for run in predicate["runs"][:_ROWS]:
        rows, reasons = run["rows"], ", ".join(f"{name} {count:,}" for name, count in sorted(run["reasons"].items()))
        counts = f"{rows['in']:,} rows in, {rows['kept']:,} kept, {rows['dropped']:,} dropped, {rows['errored']:,} errored"
        duplicates = run["policy"].get("duplicates", {})
        near = f"near-duplicates at a measured Jaccard similarity of {markdown_text(duplicates.get('jaccard', '?'))} or more"
        acted = "dropped" if duplicates.get("action") == "drop" else markdown_text(duplicates.get("action", "not looked for"))
        lines += [f"- Run `{run['run']}`, policy `{run['policy_digest']}`: {counts}."]
        lines += [f"  Reasons: {markdown_text(reasons) or 'none'}. {near[0].upper()}{near[1:]}: {acted}."]
    lines += _more(len(predicate["runs"]), "runs")
    return lines, "curation before the data reached these scans (the provider)."


def _points(predicate: Mapping[str, Any]) -> _Field:
    counted = [one["rows"] for one in predicate["datasets"]]
    known = [one for one in counted if one is not None]
    said = [f"{sum(known):,} rows in {len(known)} datasets, before overlaps between them."] if known else ["Not counted."]
    open_ones = len(counted) - len(known)
    missing = f"rows of {open_ones} datasets; " if open_ones else ""
    return said, f"{missing}tokens (a tokenizer's count, the provider)."


def _scope(predicate: Mapping[str, Any]) -> _Field:
    said = [_exposure_line(one) for one in predicate["exposures"]["listed"][:_ROWS]]
    answer = markdown_text(wording.answer(predicate))
    said += _more(len(predicate["exposures"]["listed"]) + predicate["exposures"]["omitted"], "exposures")
    return [answer, "", *said], "domains, languages, periods and demographics covered (the provider)."


def _exposure_line(one: Mapping[str, Any]) -> str:
    """One exposure as an item of a list."""
    where = f"{one['class']} in {one['dataset']}, consumed by {wording.name_of(one['ancestor'])}, {wording.CHANNEL[one['channel']]}"
    return f"- {markdown_text(where)}: {markdown_text(wording.dose(one))} (evidence: {markdown_text(one['evidence'])})"


def _obtained(predicate: Mapping[str, Any]) -> _Field:
    chosen = _named(predicate, _CURATED_BY)
    said = chosen or ["No model is recorded as having judged, selected or rewarded."]
    return said, "how and when the data was collected, by whom, and the criteria of selection (the provider)."


def _unsuitable(predicate: Mapping[str, Any]) -> _Field:
    asked = [
        f"- {markdown_text(one['detector'])} (class {markdown_text(one['class'])}), threshold {one['threshold']}, `{one['digest']}`"
        for one in predicate["asked"]
    ]
    rates = {detector["digest"]: detector["false_positive_rate"] for run in predicate["runs"] for detector in run["detectors"]}
    said = [f"- measured false-positive rate of {shortened(digest)}: {_rate(rate)}" for digest, rate in sorted(rates.items()) if rate]
    missing = "" if asked else "no detector was run on these data."
    listed, omitted = predicate["unknown"]["listed"], predicate["unknown"]["omitted"]
    unknown = [f"- unknown: {markdown_text(one['node'])}: {markdown_text(wording.unknown_line(one))}" for one in listed[:_ROWS]]
    unknown += _more(len(listed) + omitted, "unknown things")
    published = [f"- {markdown_text(wording.advisory_line(one))}" for one in predicate["advisories"][:_ROWS]]
    published += _more(len(predicate["advisories"]), "advisories")
    return [*asked, *said, *published, *unknown] or ["None recorded."], missing


def _rate(rate: Mapping[str, Any]) -> str:
    return markdown_text(f"{rate.get('rate', '?')} on {rate.get('on', '?')}, flag {rate.get('flag', '?')}")


def _more(count: int, what: str) -> list[str]:
    """A word on what a list of at most `_ROWS` leaves out."""
    return [f"- {count - _ROWS:,} more {what} are in the certificate."] if count > _ROWS else []


def _biases() -> _Field:
    return ["No detector of biases is part of the ledger."], "which methods were used (the provider)."


def _named(predicate: Mapping[str, Any], relations: tuple[str, ...]) -> list[str]:
    names = {one["id"]: wording.name_of(one) for one in predicate["ancestry"]["nodes"]}
    mine = [one for one in predicate["ancestry"]["relations"] if one["relation"] in relations]
    said = [
        f"- {markdown_text(names.get(one['child'], one['child']))} {one['relation']} "
        f"{markdown_text(names.get(one['parent'], one['parent']))} (evidence: {one['evidence']})"
        for one in mine[:_ROWS]
    ]
    return said + _more(len(mine), "relations of this kind")
