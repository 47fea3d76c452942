"""The policy file: keys, places, thresholds, digests, and what is said of them."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest
from scanning import policy_of

from forebear.schemas.errors import UsageError
from forebear.schemas.records import Threshold
from forebear.tracer.policy import explain, grid, load_policy, parse_policy, policy_command
from forebear.tracer.scan.plan import build_detectors, detector_records

WRONG = {
    "a key that is none": ("unknown_key", "[toxicty]\n", "toxicity"),
    "a key of a table that is none": ("unknown_key", "[toxicity]\nflagg = 0.5\n", "flag"),
    "a key of a list that is none": ("unknown_key", '[[denylists]]\npath = "a"\nkinds = "id"\n', "kind"),
    "drop below flag": ("impossible_threshold", "[toxicity]\nflag = 0.9\ndrop = 0.8\n", "drop"),
    "a threshold beyond 1": ("impossible_threshold", "[toxicity]\nflag = 1.5\n", "toxicity.flag"),
    "a text where a number is meant": ("wrong_type", '[toxicity]\nflag = "high"\n', "toxicity.flag"),
    "a benchmark without its file": ("missing_key", '[[benchmarks]]\nname = "x"\n', "benchmarks.path"),
    "a kind of list that is none": ("wrong_value", '[[denylists]]\npath = "a"\nkind = "hash"\n', "document"),
    "one table where a list is meant": ("wrong_type", '[benchmarks]\nname = "x"\n', "[[benchmarks]]"),
    "something else than TOML": ("malformed_policy", "[toxicity\n", "Mend"),
    "a device that is none": ("wrong_value", '[toxicity.detoxify]\ndevice = "tpu"\n', "cuda"),
    "a source's own option": ("unknown_key", '[sources.a]\ndetectors = {use = "x:Y"}\n', "flag"),
}


@pytest.mark.parametrize("what", WRONG)
def test_this_policy_is_refused(what, tmp_path):
    kind, toml, said = WRONG[what]
    with pytest.raises(UsageError) as raised:
        policy_of(tmp_path, toml)
    assert raised.value.kind == kind
    assert said in str(raised.value)


def test_a_file_beside_the_policy_is_found_from_anywhere(tmp_path, monkeypatch):
    (tmp_path / "p").mkdir()
    (tmp_path / "p" / "bad.txt").write_text("x\n")
    policy = policy_of(tmp_path / "p", '[[denylists]]\npath = "bad.txt"\nkind = "id"\n')
    assert policy.denylists[0].path == str(tmp_path / "p" / "bad.txt")
    monkeypatch.chdir(tmp_path)
    assert load_policy("p/policy.toml").denylists[0].path == str(tmp_path / "p" / "bad.txt")


def test_the_digest_follows_the_content_of_files_and_folders_not_their_places(tmp_path):
    def made(name: str, word: str = "a") -> str:
        folder = tmp_path / name
        (folder / "hf").mkdir(parents=True)
        (folder / "hf" / "config.json").write_text(word)
        (folder / "list.txt").write_text(word)
        return policy_of(folder, '[toxicity.detoxify]\nconfig = "hf"\n[[denylists]]\npath = "list.txt"\nkind = "id"\n').digest

    one = made("one")
    assert one == made("two")
    assert one != made("three", "b")
    shutil.move(tmp_path / "one", tmp_path / "moved")
    assert load_policy(tmp_path / "moved" / "policy.toml").digest == one


def test_a_file_changed_in_place_changes_the_digest(tmp_path):
    (tmp_path / "list.txt").write_text("a\n")
    policy = policy_of(tmp_path, '[[denylists]]\npath = "list.txt"\nkind = "id"\n')
    before = policy.digest
    (tmp_path / "list.txt").write_text("a\nb\n")
    assert policy.digest != before


def test_no_path_stands_in_the_canonical_policy(tmp_path):
    (tmp_path / "list.txt").write_text("a\n")
    policy = policy_of(tmp_path, '[[denylists]]\npath = "list.txt"\nkind = "id"\n')
    assert str(tmp_path) not in str(policy.canonical())


THRESHOLDS = """
[toxicity]
flag = 0.5
drop = 0.9
[toxicity.detoxify]
flag = 0.7
[duplicates]
jaccard = 0.75
[[benchmarks]]
name = "one"
path = "b.jsonl"
flag = 0.6
[[benchmarks]]
name = "two"
path = "b.jsonl"
flag = 0.4
action = "flag"
[[denylists]]
path = "l.txt"
[[denylists]]
path = "i.txt"
kind = "id"
[[detectors]]
use = "a:B"
flag = 0.3
[sources.forum]
toxicity = {flag = 0.6, drop = 1}
detectors = {flag = 0.1}
benchmarks = {action = "flag"}
"""


def test_thresholds_are_told_by_class_and_by_name(tmp_path):
    policy = policy_of(tmp_path, THRESHOLDS)
    half, most, all_ = (grid(policy.toxicity.flag), grid(policy.toxicity.drop), 1024)
    assert policy.thresholds("toxicity") == {"": Threshold(half, most, "drop"), "forum": Threshold(615, all_, "drop")}
    assert policy.thresholds("toxicity", "detoxify")[""] == Threshold(717, 820, "drop")
    assert policy.thresholds("benchmark", "one/test")[""] == Threshold(615, 820, "drop")
    assert policy.thresholds("benchmark", "one/test")["forum"].action == "flag"
    assert policy.thresholds("benchmark")[""].flag == 410
    assert policy.thresholds("denylist", "denylist/text")[""] == Threshold(768, 768, "drop")
    assert policy.thresholds("denylist", "denylist/id")[""] == Threshold(1024, 1024, "drop")
    assert policy.thresholds("pii")[""].flag == 308
    assert policy.thresholds("pii")["forum"].flag == 103


def test_records_carry_the_thresholds_of_their_part(tmp_path):
    (tmp_path / "i.txt").write_text("a\n")
    (tmp_path / "b.jsonl").write_text('{"question": "one two three four five six"}\n')
    toml = '[toxicity]\naction = "off"\n[[benchmarks]]\nname = "n"\npath = "b.jsonl"\nflag = 0.5\naction = "flag"\n'
    policy = policy_of(tmp_path, toml + '[[denylists]]\npath = "i.txt"\nkind = "id"\n')
    records = {record.name: record for record in detector_records(policy)}
    assert {name: (one.category, one.reason, one.thresholds[""]) for name, one in records.items()} == {
        "n/test": ("benchmark", "benchmark_leak", Threshold(512, 820, "flag")),
        "denylist/id": ("denylist", "denylisted", Threshold(1024, 1024, "drop")),
    }


def test_a_benchmark_threshold_below_what_is_reported_is_refused(tmp_path):
    (tmp_path / "b.jsonl").write_text('{"question": "one two three four five six"}\n')
    with pytest.raises(UsageError) as raised:
        build_detectors(policy_of(tmp_path, '[[benchmarks]]\nname = "n"\npath = "b.jsonl"\nflag = 0.1\n'))
    assert raised.value.kind == "impossible_threshold"


def test_one_list_twice_is_refused(tmp_path):
    (tmp_path / "i.txt").write_text("a\n")
    with pytest.raises(UsageError) as raised:
        build_detectors(policy_of(tmp_path, '[[denylists]]\npath = "i.txt"\nkind = "id"\n' * 2))
    assert raised.value.kind == "same_detector_twice"


def test_detectors_are_made_once_in_a_process_while_the_policy_stays(tmp_path):
    (tmp_path / "i.txt").write_text("a\n")
    policy = policy_of(tmp_path, '[[denylists]]\npath = "i.txt"\nkind = "id"\n')
    first = build_detectors(policy)
    assert build_detectors(load_policy(tmp_path / "policy.toml")) is first
    (tmp_path / "i.txt").write_text("b\n")
    assert build_detectors(load_policy(tmp_path / "policy.toml")) is not first


def test_the_policy_command_explains_every_key_and_the_recall_of_its_bands(tmp_path):
    said = policy_command(policy_of(tmp_path, THRESHOLDS) and tmp_path / "policy.toml")
    assert (said["schema"], said["digest"]) == ("forebear/policy/1", load_policy(tmp_path / "policy.toml").digest)
    keys = {one["key"]: one for one in said["keys"]}
    assert keys["toxicity.flag"]["value"] == "0.5"
    assert all(one["means"] for one in said["keys"])
    at = {point["jaccard"]: float(point["probability"]) for point in said["recall"]}
    assert abs(at["0.80"] - (1 - (1 - 0.8**8) ** 14)) < 0.001


def test_the_policy_command_promises_no_recall_where_duplicates_are_off(tmp_path):
    policy_of(tmp_path, '[duplicates]\naction = "off"\n')
    assert policy_command(tmp_path / "policy.toml")["recall"] == []


def test_every_key_of_the_contract_is_one_of_the_policy():
    contract = Path(__file__).resolve().parents[2] / "shared" / "CONTRACT.md"
    if not contract.exists():
        pytest.skip("the contract is not beside the checkout")
    toml = re.search(r"## Policy.*?```toml\n(.*?)```", contract.read_text(), re.S)
    assert toml is not None
    import tomllib
    from decimal import Decimal

    policy = parse_policy(tomllib.loads(toml[1], parse_float=Decimal))
    assert len(explain(policy)) > 40
