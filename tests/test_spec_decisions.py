"""SPEC's sections 12 and 13 in plain Python, against the log of a real scan.

From the texts, the evidence in the log and the policy, every decision is made again by the rules as SPEC words them, leaders
of large buckets and what an earlier run kept included; nothing of the deciding code is imported.
"""

from __future__ import annotations

import hashlib
import random
from collections import Counter, defaultdict
from dataclasses import dataclass, field, replace
from fractions import Fraction
from typing import Any

import pytest
from scanning import log_rows, policy_of, scan, write_jsonl
from test_scan_decisions import BAD
from test_spec_text import band_hashes, shingles, signature

from forebear.tracer.dedupe.signatures import SignatureOptions

POLICY = """
[duplicates]
jaccard = 0.7
prefer = ["wiki"]
[[denylists]]
path = "ids.txt"
kind = "id"
[sources.forum]
duplicates = {action = "flag"}
toxicity = {action = "flag"}
"""
JACCARD = Fraction(7, 10)


def corpus() -> list[dict[str, Any]]:
    """Families of near copies, exact copies, two templates, toxic texts, and texts without a token; shuffled."""
    rng = random.Random(7)
    words = [f"w{n}" for n in range(400)]
    documents: list[str | None] = []
    for _ in range(8):
        text = rng.choices(words, k=rng.randrange(25, 45))
        for _ in range(6):
            near = list(text)
            for _ in range(rng.randrange(3)):
                near[rng.randrange(len(near))] = rng.choice(words)
            documents.append(" ".join(near))
    template = rng.choices(words, k=60)
    documents += [" ".join([*template, f"entry{n}", *rng.choices(words, k=n % 9)]) for n in range(150)]
    alike = " ".join(["alike", *rng.choices(words, k=80)])
    documents += [f"{alike} end{n}" for n in range(120)]
    documents += rng.choices(documents, k=40)
    documents += [BAD, BAD, f"{BAD} {BAD}", f"{BAD} {BAD}", None, None, "", "", " \n", " \n", "one two", "one two"]
    sources = ["wiki", "forum", "web", None]
    rows = [{"id": str(n), "text": text, "source": rng.choice(sources)} for n, text in enumerate(documents)]
    rng.shuffle(rows)
    return rows


def listed(documents: list[dict[str, Any]]) -> list[str]:
    """Ids on the denylist: the first of a large bucket in the total order, and of copies the one of the best source."""
    family = [one for one in documents if (one["text"] or "").startswith("alike")]
    first = sorted(family, key=lambda one: (one["source"] != "wiki", -len(one["text"]), hashlib.sha256(one["text"].encode()).digest()))
    times = Counter(one["text"] for one in documents)
    copies = [one for one in documents if one["text"] and times[one["text"]] > 1 and one["source"] == "wiki"]
    return [one["id"] for one in first[:3] + copies]


@dataclass(repr=False)  # rows lead to rows: their text would never end
class Row:
    """A row as the rules see it."""

    log: dict[str, Any]
    text: str | None
    survives: bool
    reasons: set[str]
    earlier: bool = False  # kept by a run that this one is held against
    shingles: frozenset[int] = frozenset()
    keeper: Row | None = None
    exact: bool = False
    shared: tuple[int, int] | None = None
    edges: dict[int, Row] = field(default_factory=dict)

    @property
    def order(self) -> tuple[Any, ...]:
        preferred = -1 if self.earlier else 0 if self.log["source"] == "wiki" else 1
        return preferred, -len((self.text or "").encode()), self.log["document"], self.log["shard"], self.log["row"]


def read(log: list[dict[str, Any]], texts: dict[str, str | None], manifest: Any) -> list[Row]:
    """Step 2: what detectors make of the evidence."""
    rows = []
    for one in log:
        text = texts[one["source_id"]]
        row = Row(one, text, survives=True, reasons=set(), shingles=frozenset(shingles(text or "")))
        for detector in manifest.detectors:
            threshold = detector.thresholds.get(one["source"] or "", detector.thresholds[""])
            mine = (piece["score"] for piece in one["evidence"] if "sha256:" + piece["detector"].hex() == detector.digest)
            best = max(mine, default=-1)
            row.survives &= threshold.action != "drop" or best < threshold.drop
            row.reasons |= {detector.reason} if best >= threshold.flag else set()
        rows.append(row)
    return rows


def similarity(a: Row, b: Row) -> tuple[int, int]:
    return len(a.shingles & b.shingles), len(a.shingles | b.shingles)


def can_reach(a: Row, b: Row) -> bool:
    sizes = sorted((len(a.shingles), len(b.shingles)))
    return Fraction(sizes[0], sizes[1]) >= JACCARD


def link(a: Row, b: Row) -> bool:
    """Measure; make an edge where it reaches the threshold."""
    shared, union = similarity(a, b)
    if Fraction(shared, union) < JACCARD:
        return False
    a.edges[id(b)], b.edges[id(a)] = b, a
    return True


def work_off(group: list[tuple[int, list[Row]]]) -> None:
    """Large buckets that share rows, by leaders."""
    leaders: dict[int, list[Row]] = {number: [] for number, _ in group}
    members = {id(row): row for _, rows in group for row in rows}
    for row in sorted(members.values(), key=lambda row: row.order):
        mine = [number for number, rows in sorted(group) if any(row is one for one in rows)]
        met: set[int] = set()
        matched = False
        for leader in [leader for number in mine for leader in leaders[number]]:
            if matched or id(leader) in met:
                continue
            met.add(id(leader))
            matched = not row.earlier and can_reach(row, leader) and link(row, leader)
        if not matched and row.survives:
            for number in mine:
                leaders[number].append(row)


def groups_of(large: dict[int, list[Row]]) -> list[list[tuple[int, list[Row]]]]:
    groups: list[list[tuple[int, list[Row]]]] = []
    for number, rows in large.items():
        mine = {id(row) for row in rows}
        touched = [group for group in groups if any(mine & {id(row) for row in other} for _, other in group)]
        groups = [group for group in groups if group not in touched]
        groups.append([(number, rows), *(bucket for group in touched for bucket in group)])
    return groups


def decide(rows: list[Row], options: SignatureOptions) -> dict[str, int]:
    """Sections 12 and 13; returns how often each rule was used."""
    compared = [row for row in rows if row.log["document"] is not None and row.shingles]
    copies: dict[bytes, list[Row]] = defaultdict(list)
    for row in sorted(compared, key=lambda row: (not row.survives, row.order)):
        copies[row.log["document"]].append(row)
    representatives = [group[0] for group in copies.values()]
    buckets: dict[int, list[Row]] = defaultdict(list)
    for row in representatives:
        for number in band_hashes(signature(row.text or "", options), options):
            buckets[number].append(row)
    large = {number: bucket for number, bucket in buckets.items() if len(bucket) > 64}
    for number, bucket in buckets.items():
        if number not in large:
            for n, a in enumerate(bucket):
                for b in bucket[:n]:
                    if can_reach(a, b) and not (a.earlier and b.earlier):
                        link(a, b)
    for group in groups_of(large):
        work_off(group)
    for row in sorted((row for row in representatives if row.survives and not row.earlier), key=lambda row: row.order):
        earlier = [one for one in row.edges.values() if one.survives and one.order < row.order and one.keeper is None]
        if earlier:
            row.keeper = min(earlier, key=lambda one: (-Fraction(*similarity(row, one)), one.order))
            row.shared = similarity(row, row.keeper)
    for first, *others in copies.values():
        for row in others:
            if row.survives:
                row.exact = first.keeper is None
                row.keeper = first.keeper or first
                row.shared = first.shared or (len(first.shingles), len(first.shingles))
    return {"large buckets": len(large), "edges": sum(len(row.edges) for row in rows) // 2}


def clusters(rows: list[Row]) -> dict[int, bytes | None]:
    """The smallest document of each component; None for a row that nothing concerns."""
    neighbours: dict[int, list[Row]] = {id(row): list(row.edges.values()) for row in rows}
    by_document: dict[bytes, list[Row]] = defaultdict(list)
    for row in rows:
        if row.log["document"] is not None and row.shingles:
            by_document[row.log["document"]].append(row)
    for same in by_document.values():
        for row in same:
            neighbours[id(row)] += [one for one in same if one is not row]
    found: dict[int, bytes | None] = {}
    for row in rows:
        reached, waiting = {id(row): row}, [row]
        while waiting:
            for one in neighbours[id(waiting.pop())]:
                if id(one) not in reached:
                    reached[id(one)] = one
                    waiting.append(one)
        found[id(row)] = min(one.log["document"] for one in reached.values()) if len(reached) > 1 else None
    return found


def expected(row: Row, cluster: bytes | None) -> dict[str, Any]:
    reasons = set(row.reasons)
    dropped = not row.survives
    if row.keeper is not None:
        reasons.add("exact_duplicate" if row.exact else "near_duplicate")
        dropped |= row.log["source"] != "forum"
    keeper = row.keeper.log if row.keeper else {}
    return {
        "action": "drop" if dropped else "keep",
        "reasons": reasons,
        "keeper": (keeper.get("document"), keeper.get("shard"), keeper.get("row")),
        "shared": row.shared or (None, None),
        "cluster": cluster,
    }


def logged(row: Row) -> dict[str, Any]:
    log = row.log
    return {
        "action": log["action"],
        "reasons": set(log["reasons"]),
        "keeper": (log["keeper_document"], log["keeper_shard"], log["keeper_row"]),
        "shared": (log["intersection"], log["union_size"]),
        "cluster": log["cluster"],
    }


@pytest.fixture(scope="module", params=["alone", "against"])
def decided(request, tmp_path_factory):
    """A real scan of three shards, its rows decided again; alone, or the last two held against a run over the first."""
    folder = tmp_path_factory.mktemp("decisions")
    documents = corpus()
    files = [write_jsonl(folder / f"{n}.jsonl", documents[n::3]) for n in range(3)]
    (folder / "ids.txt").write_text("\n".join(listed(documents)) + "\n")
    policy, ledger = policy_of(folder, POLICY), folder / "ledger"
    texts = {one["id"]: one["text"] for one in documents}
    before: list[Row] = []
    if request.param == "against":
        first = scan(ledger, files[:1], policy=policy)
        rows = read(log_rows(ledger, first), texts, first.committed.manifest)
        before = [replace(row, survives=True, earlier=True) for row in rows if row.log["action"] == "keep" and row.shingles]
        done = scan(ledger, files[1:], policy=policy, against=(first.committed.run,))
        assert done.committed.manifest.against == (first.committed.manifest.run_digest,)
    else:
        done = scan(ledger, files, policy=policy)
    rows = before + read(log_rows(ledger, done), texts, done.committed.manifest)
    used = decide(rows, SignatureOptions())
    named = clusters(rows)
    return [(row, named[id(row)]) for row in rows if not row.earlier], used, done.committed.manifest


def test_the_corpus_puts_every_rule_to_use(decided):
    rows, used, manifest = decided
    assert used["large buckets"] > 0
    assert used["edges"] > 60
    assert len(manifest.environment["large_buckets"]) == min(20, used["large buckets"])
    assert {reason for row, _ in rows for reason in row.log["reasons"]} == {"toxic", "denylisted", "exact_duplicate", "near_duplicate"}
    assert any(row.keeper and row.log["action"] == "keep" for row, _ in rows)
    assert any(not row.survives and row.log["cluster"] for row, _ in rows)
    assert bool(manifest.against) == any(row.keeper and row.keeper.earlier for row, _ in rows)


def test_every_decision_of_a_real_scan_follows_from_the_rules_of_spec(decided):
    rows, _, _ = decided
    both = [(row.log["source_id"], logged(row), expected(row, cluster)) for row, cluster in rows]
    assert [one for one in both if one[1] != one[2]] == []


def test_documents_bytes_and_words_are_those_of_the_texts(decided):
    rows, _, _ = decided
    for row, _ in rows:
        data = None if row.text is None else row.text.encode()
        assert row.log["document"] == (None if data is None else hashlib.sha256(data).digest())
        assert row.log["bytes"] == (None if data is None else len(data))
        assert row.log["words"] == (None if row.text is None else len(row.text.split()))


def test_the_curve_of_the_manifest_is_the_one_that_spec_gives(decided):
    _, _, manifest = decided
    assert len(manifest.curve) > 5
    for point in manifest.curve:
        assert f"{1 - (1 - float(point['jaccard']) ** 8) ** 14:.4f}" == point["probability"]
