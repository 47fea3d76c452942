"""`forebear evaluate`: figures against plain definitions, labels, groups, the picture, and what is refused."""

from __future__ import annotations

import csv
import io
import itertools
import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from real_texts import shared, topics
from scanning import policy_of, write_jsonl

from forebear.schemas.errors import UsageError
from forebear.tracer.detect.detector import GRID, Findings, detector_digest
from forebear.tracer.detect.evaluate import Fields, Labelled, area, average_precision, evaluate, read_labelled, tables, wilson
from forebear.tracer.detect.evaluate_picture import draw_evaluation
from forebear.tracer.scan.evaluate import EvaluateRequest, evaluate_command

SCORED = st.lists(st.tuples(st.integers(0, 6), st.booleans()), min_size=1, max_size=40)


def split(pairs):
    return np.array([score for score, _ in pairs], "i8"), np.array([truth for _, truth in pairs], dtype=bool)


@given(SCORED)
def test_the_area_is_the_share_of_pairs_in_order_with_ties_half(pairs):
    pairs_of = list(itertools.product([s for s, t in pairs if t], [s for s, t in pairs if not t]))
    want = None if not pairs_of else sum((a > b) + (a == b) / 2 for a, b in pairs_of) / len(pairs_of)
    assert area(*split(pairs)) == (want if want is None else pytest.approx(want))


@given(SCORED)
def test_average_precision_is_precision_at_each_score_weighted_by_new_recall(pairs):
    positive, want, before = sum(t for _, t in pairs), 0.0, 0
    for limit in sorted({s for s, _ in pairs}, reverse=True):
        taken = [t for s, t in pairs if s >= limit]
        want += (sum(taken) - before) / max(1, positive) * sum(taken) / len(taken)
        before = sum(taken)
    assert average_precision(*split(pairs)) == (pytest.approx(want) if positive else None)


@pytest.mark.parametrize(("hits", "n", "low", "high"), [(0, 10, 0.0, 0.2775), (5, 10, 0.2366, 0.7634), (10, 10, 0.7225, 1.0)])
def test_the_interval_is_wilsons(hits, n, low, high):
    assert wilson(hits, n) == pytest.approx((low, high), abs=1e-4)


class Told:
    """A detector that scores a text by the number it begins with, and fails where there is none."""

    name, category, version = "told", "test", "1"
    parameters = {"n": 1}  # noqa: RUF012
    digest = detector_digest(name, category, version=version, parameters=parameters)

    def score(self, texts):
        said = [(n, text.split()[0]) for n, text in enumerate(texts.to_pylist())]
        good = [(n, int(word)) for n, word in said if word.isdigit()]
        index, score = (np.array([one[k] for one in good], "i8") for k in (0, 1))
        zeros = np.zeros(len(good), "i8")
        return Findings(index, "told", score.astype("i2"), zeros, zeros, failed={n: "x" for n, word in said if not word.isdigit()})


def labelled(rows):
    texts, truth, group = zip(*rows, strict=True)
    return Labelled("sha256:" + 64 * "0", pa.array(texts, pa.large_string()), np.array(truth, dtype=bool), group)


ROWS = [
    ("1000 a", True, "x"), ("900 b", False, "x"), ("820 c", True, "y"), ("819 d", True, "y"), ("100 e", False, "y"),
    ("5 f", False, ""), ("what g", True, "x"),
]  # fmt: skip


def test_thresholds_groups_and_failures_are_counted_as_they_are():
    result = evaluate(Told(), labelled(ROWS), flag=820)
    assert (result["failed"], result["set"]["texts"], result["set"]["positive"]) == (1, 7, 4)
    at = {one["threshold"]: one for one in result["at"]}
    assert [at["0.8"][key] for key in ("true_positives", "false_positives", "flagged")] == [2, 1, 3]
    assert (at["0.8"]["precision"], at["0.8"]["recall"]) == (round(2 / 3, 6), round(2 / 3, 6))
    groups = {one["group"]: one for one in result["groups"]}
    assert {name: (one["texts"], one["false_positives"], one["recall"]) for name, one in groups.items()} == {
        "": (1, 0, None),
        "x": (2, 1, 1.0),
        "y": (3, 0, 0.5),
    }


def test_the_threshold_in_force_is_among_those_shown():
    result = evaluate(Told(), labelled(ROWS), flag=777)
    assert next(one for one in result["at"] if one["threshold"] == "0.7588")["flagged"] == 4


def test_what_one_class_alone_cannot_tell_is_null_not_zero():
    result = evaluate(Told(), labelled([row for row in ROWS[:6] if not row[1]]), flag=820)
    assert (result["auc"], result["average_precision"]) == (None, None)
    assert result["at"][0]["recall"] is None
    assert "not known" in str(tables(result))
    assert Image.open(io.BytesIO(draw_evaluation(result))).format == "PNG"


def test_calibration_compares_the_mean_score_with_the_share_of_positives():
    rows = [(f"{GRID} a", True, "")] * 3 + [(f"{GRID} a", False, "")] + [("0 b", False, "")] * 4
    found = evaluate(Told(), labelled(rows), flag=820)["calibration"]
    assert found["bins"] == [
        {"from": 0.0, "texts": 4, "score": 0.0, "positive": 0.0},
        {"from": 0.9, "texts": 4, "score": 1.0, "positive": 0.75},
    ]
    assert found["error"] == 0.125


BAD = "you are a stupid fucking idiot, shut the fuck up"


def test_the_command_measures_the_policys_detector_and_writes_both_files(tmp_path):
    rows = [{"text": BAD, "label": 1, "group": "a"}] * 3 + [{"text": t, "label": 0, "group": "b"} for t in topics()[:40]]
    path = write_jsonl(tmp_path / "set.jsonl", rows)
    policy_of(tmp_path, "[toxicity]\nflag = 0.6\n")
    request = EvaluateRequest(
        "toxicity", str(path), Fields(group="group"), tmp_path / "policy.toml", tmp_path / "p.png", tmp_path / "r.json"
    )
    result = evaluate_command(request)
    assert json.loads((tmp_path / "r.json").read_text()) == result
    assert result["auc"] > 0.95
    assert result["flag"] == pytest.approx(0.6, abs=1 / GRID)
    picture = Image.open(tmp_path / "p.png")
    assert picture.size[0] > 800
    assert len(picture.convert("L").getcolors()) > 2
    assert evaluate_command(request) == result


def test_csv_parquet_and_named_labels_are_read(tmp_path):
    rows = [{"comment": f"text, {n}\nline", "verdict": "BAD" if n % 2 else "FINE"} for n in range(4)]
    with (tmp_path / "set.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, ["comment", "verdict"])
        writer.writeheader()
        writer.writerows(rows)
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "set.parquet")
    fields = Fields("comment", "verdict", positive=("BAD",))
    for name in ("set.csv", "set.parquet"):
        found = read_labelled(str(tmp_path / name), fields)
        assert found.truth.tolist() == [False, True, False, True]
        assert found.texts.to_pylist() == [row["comment"] for row in rows]


REFUSED = {
    "a field that is not there": ("missing_field", {"text": "a", "label": 1}, Fields(group="group")),
    "a label that is neither": ("unknown_label", {"text": "a", "label": "maybe"}, Fields()),
    "a positive label that none has": ("unknown_label", {"text": "a", "label": "x"}, Fields(positive=("y",))),
    "a text that is none": ("not_text", {"text": 7, "label": 1}, Fields()),
}


@pytest.mark.parametrize("what", REFUSED)
def test_this_file_is_refused(what, tmp_path):
    kind, row, fields = REFUSED[what]
    with pytest.raises(UsageError) as raised:
        read_labelled(str(write_jsonl(tmp_path / "set.jsonl", [row])), fields)
    assert raised.value.kind == kind


def test_a_detector_that_the_policy_has_not_is_refused_with_the_nearest(tmp_path):
    path = write_jsonl(tmp_path / "set.jsonl", [{"text": "a", "label": 1}])
    with pytest.raises(UsageError) as raised:
        evaluate_command(EvaluateRequest("toxcity", str(path)))
    assert raised.value.kind == "unknown_detector"
    assert "toxicity" in raised.value.remedy


@pytest.mark.shared_data
def test_the_built_in_model_holds_on_comments_it_never_saw(tmp_path):
    folder = shared("tox_jigsaw_5k")
    files = sorted(folder.rglob("*.csv"))
    if not files:
        pytest.skip("no CSV there")
    with files[0].open(encoding="utf-8", newline="") as file:
        header = next(csv.reader(file))
    result = evaluate_command(EvaluateRequest("toxicity", str(files[0]), Fields(header[1], header[2])))
    assert result["auc"] > 0.85
