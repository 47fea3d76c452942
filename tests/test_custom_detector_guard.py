"""Detectors of a user's own: loaded by import path, guarded row by row."""

from __future__ import annotations

import sys
import textwrap

import numpy as np
import pyarrow as pa
import pytest
from scanning import NO_TOXICITY, by_id, policy_of, scan, write_jsonl

import forebear.tracer.detect.custom as custom
from forebear.schemas.errors import UsageError
from forebear.tracer.detect.custom import GuardedDetector, load_detector
from forebear.tracer.detect.detector import GRID, Detector, Findings, detector_digest, to_grid


def example() -> str:
    """The complete example of the documentation."""
    lines = (custom.__doc__ or "").split("\n")
    return textwrap.dedent("\n".join(line for line in lines if line.startswith("    ") or not line.strip()))


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """A package of the user's own, importable."""
    folder = tmp_path / "site" / "acme_detectors"
    folder.mkdir(parents=True)
    (folder / "emails.py").write_text(example())
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    yield folder
    for name in [name for name in sys.modules if name.startswith("acme_detectors")]:
        del sys.modules[name]


def test_the_documented_example_is_a_whole_detector_of_twenty_lines(installed):
    body = [line for line in example().splitlines() if line.strip()]
    assert len(body) <= 25
    detector = load_detector("acme_detectors.emails:Emails", {"most": 2})
    assert isinstance(detector, Detector)
    text = "naïve: write to a.b@example.com today"
    found = detector.score(pa.array([text, "nothing", None, "x@y.zz and z@y.xx"]))
    assert found.score.tolist() == [GRID // 2, 0, 0, GRID]
    assert text.encode()[found.start[0] : found.stop[0]] == b"a.b@example.com"
    assert detector.digest != load_detector("acme_detectors.emails:Emails", {"most": 3}).digest


def test_a_policys_own_detector_gives_a_reason_under_its_name(installed, tmp_path):
    toml = f'{NO_TOXICITY}[[detectors]]\nuse = "acme_detectors.emails:Emails"\nflag = 0.5\naction = "flag"\noptions = {{most = 2}}\n'
    policy = policy_of(tmp_path, toml)
    write_jsonl(tmp_path / "in" / "0.jsonl", [{"id": "hit", "text": "mail a@b.cc"}, {"id": "miss", "text": "nothing"}])
    rows = by_id(tmp_path / "l", scan(tmp_path / "l", [tmp_path / "in"], policy=policy))
    assert (rows["hit"]["action"], rows["hit"]["reasons"], rows["miss"]["reasons"]) == ("keep", ["emails"], [])


class Scripted:
    """A detector that answers a text as the text asks it to."""

    name, category, version = "scripted", "test", "1"
    parameters = {"n": 1}  # noqa: RUF012
    digest = detector_digest(name, category, version=version, parameters=parameters)

    def score(self, texts):
        values = texts.to_pylist()
        if "raise" in values:
            raise ValueError("of the text: secret words")
        score = to_grid([float("nan") if text == "grid nan" else 0.5 for text in values])
        if "float nan" in values:
            score = np.where([text == "float nan" for text in values], np.nan, 0.5)
        if "too high" in values:
            score = np.full(len(values), GRID + 1)
        index = np.arange(len(values))
        short = len(values) - (1 if "too few" in values else 0)
        stop = np.array([len(text.encode()) if text else 0 for text in values])
        if "beyond" in values:
            stop = stop + 1
        if "é cut" in values:
            stop = np.ones(len(values), "i8")
        return Findings(index, "scripted", score[:short], np.zeros(len(values), "i8"), stop)


BAD = {
    "raises": ("raise", "ValueError"),
    "returns NaN through the grid": ("grid nan", "ValueError"),
    "returns NaN": ("float nan", "a score is NaN"),
    "returns a score beyond the grid": ("too high", "a score is no whole number from 0 to 1024"),
    "returns too few scores": ("too few", "0 of score for 1 findings"),
    "returns a range beyond the text": ("beyond", "a byte range is none of its text, or cuts a character"),
    "returns a range inside a character": ("é cut", "a byte range is none of its text, or cuts a character"),
}


@pytest.mark.parametrize("what", BAD)
def test_a_detector_costs_only_the_row_on_which_it(what):
    text, message = BAD[what]
    found = GuardedDetector(Scripted()).score(pa.array(["fine", text, None, "fine too"]))
    assert found.failed == {1: message}
    assert (found.index.tolist(), found.score.tolist()) == ([0, 2, 3], [GRID // 2] * 3)


def test_a_failing_row_errors_and_the_rest_of_the_scan_goes_on(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "scripted_detector", sys.modules[__name__])
    policy = policy_of(tmp_path, f'{NO_TOXICITY}[[detectors]]\nuse = "scripted_detector:Scripted"\nflag = 0.9\n')
    write_jsonl(tmp_path / "in" / "0.jsonl", [{"id": text, "text": text} for text in ("fine", "raise", "also fine")])
    scanned = scan(tmp_path / "l", [tmp_path / "in"], policy=policy)
    rows = by_id(tmp_path / "l", scanned)
    assert {name: (row["action"], row["reasons"]) for name, row in rows.items()} == {
        "fine": ("keep", []),
        "raise": ("error", ["detector_failed"]),
        "also fine": ("keep", []),
    }
    assert scanned.committed.manifest.rows["errored"] == 1


class Nameless(Scripted):
    name = ""


class Reasoned(Scripted):
    name = "toxic"


class Floating(Scripted):
    parameters = {"share": 0.5}  # noqa: RUF012


class Undigested(Scripted):
    digest = "abc"


REFUSED = {
    "no import path": ("bad_import_path", "acme", {}),
    "a module that is not there": ("no_such_detector", "acme_nowhere.x:Y", {}),
    "a name that is not there": ("no_such_detector", "scripted_detector:Nothing", {}),
    "options that it does not take": ("bad_detector_options", "scripted_detector:Scripted", {"other": 1}),
    "something else than a detector": ("not_a_detector", "scripted_detector:textwrap.dedent", {}),
    "a detector without a name": ("not_a_detector", "scripted_detector:Nameless", {}),
    "a detector named as one of forebear's reasons": ("not_a_detector", "scripted_detector:Reasoned", {}),
    "floats among its parameters": ("not_a_detector", "scripted_detector:Floating", {}),
    "a digest that is none": ("not_a_detector", "scripted_detector:Undigested", {}),
}


@pytest.mark.parametrize("what", REFUSED)
def test_this_is_refused_before_anything_is_scanned(what, monkeypatch):
    monkeypatch.setitem(sys.modules, "scripted_detector", sys.modules[__name__])
    kind, use, options = REFUSED[what]
    with pytest.raises(UsageError) as raised:
        load_detector(use.replace("textwrap.dedent", "GRID"), options)
    assert raised.value.kind == kind
