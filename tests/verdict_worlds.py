"""Random worlds for comparing the engine with the reference: the same world as a `Case` and as a ledger in memory."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import reference_verdicts as ref
from world import Document, World, add_run, detector, shard_digest

from forebear.schemas.advisory import Advisory
from forebear.schemas.digests import sha256_name
from forebear.schemas.lineage import parse_record
from forebear.schemas.records import Entry, Head, RunManifest
from forebear.schemas.tables import read_parquet
from forebear.tracer.audit.advisories import Advised, Published
from forebear.tracer.audit.asked import Run, ask
from forebear.tracer.audit.rows import ScannedRows
from forebear.tracer.audit.scans import Scans
from forebear.tracer.audit.walk import Walker
from forebear.tracer.lineage.graph import Graph, build_graph
from forebear.tracer.lineage.link import build_document

__all__ = ["MemoryLedger", "engine", "evidence_world", "graph_of", "graph_world", "read_engine"]

DETECTORS = {"tox": "toxicity", "tox2": "toxicity", "leak": "benchmark"}
MODEL_RELATIONS = [*ref.WEIGHTS, "distilled_from", "same_weights_as", *ref.GUIDES, "tokenizer_from"]
DATASET_RELATIONS = ["cleaned_from", "deduplicated_from", "mixed_from", "mixed_from"]
PROMPTS = [sha256_name(b"a prompt"), sha256_name(b"another prompt")]
MADE_BY = ["generated_by", "generated_by", *ref.GUIDES]


class MemoryLedger:
    """What `world.add_run` writes and an audit reads, in a dictionary: a thousand worlds a minute."""

    def __init__(self) -> None:
        self.objects: dict[str, bytes] = {}
        self.runs: list[Run] = []

    def put_object(self, data: bytes) -> str:
        name = sha256_name(data)
        self.objects[name] = data
        return name

    def append(self, entry: Entry) -> Head:
        manifest = RunManifest.from_bytes(self.objects[entry.object])
        self.runs.append((len(self.runs), entry.object, manifest))
        return Head(len(self.runs), bytes(32))

    def read_table(self, digest: str, schema: pa.Schema, *, columns: list[str] | None = None) -> pa.Table:
        return read_parquet(self.objects[digest], schema, columns=columns)


def scan(
    ledger: Any,
    case: ref.Case,
    shards: Mapping[str, Sequence[Document]],
    *,
    detectors: Mapping[str, Mapping[str, int]],
    clean: bool = False,
    against: Sequence[str] = (),
) -> World:
    """Add a run to a ledger and to a case; `detectors` gives flags by source for each name."""
    records = [
        detector(
            name,
            category=DETECTORS[name],
            flag=flags[""],
            drop=1024,
            action="drop",
            sources={source: (flag, 1024) for source, flag in flags.items() if source},
            reason=f"by_{name}",
        )
        for name, flags in detectors.items()
    ]
    world = add_run(ledger, shards=shards, detectors=records, clean=clean, against=against)
    judged = {name: (DETECTORS[name], dict(flags)) for name, flags in detectors.items()}
    logs = {world.shards[name]: [_row(one, shards, world) for one in documents] for name, documents in shards.items()}
    wrote = [(world.cleaned[name], world.shards[name]) for name in shards] if clean else []
    case.runs.append(ref.Run(judged, logs, wrote))
    return world


def _row(one: Document, shards: Mapping[str, Sequence[Document]], world: World) -> ref.Row:
    keeper = None if one.keeper is None else (world.shards[one.keeper[0]], one.keeper[1])
    return ref.Row(one.text, dict(one.scores), one.source or "", one.action or "keep", keeper)


def documents(rng: random.Random, names: Sequence[str], size: int) -> list[Document]:
    """Rows of a shard: few texts, so that documents repeat within and across shards."""
    return [
        Document(
            f"text {rng.randrange(6)}",
            {name: rng.choice([0, 500, 600, 900]) for name in names},
            rng.choice(["", "forum"]) or None,
            action=rng.choice(["keep", "keep", "keep", "drop"]),
        )
        for _ in range(size)
    ]


def graph_world(rng: random.Random) -> tuple[MemoryLedger, ref.Case, dict[str, Any]]:
    """A mixed graph over four shards: a bad one, a clean one, one that errored in part, one never scanned."""
    ledger, case = MemoryLedger(), ref.Case()
    shards = {
        "bad": [Document("vile", {"tox": 900}), Document("vile", {"tox": 900}), Document("fine", {"tox": 0})],
        "good": [Document("plain", {"tox": 0}), Document("plainer", {"tox": 10})],
        "half": [Document("half", {"tox": 0}), Document(None, action="error", reasons=("not_text",))],
    }
    world = scan(ledger, case, shards, detectors={"tox": {"": 800}})
    names = [*world.shards.values(), sha256_name(b"never scanned")]
    models, datasets = [f"m{n}" for n in range(rng.randint(2, 6))], [f"d{n}" for n in range(rng.randint(1, 5))]
    for kind, nodes in (("model", models), ("dataset", datasets)):
        for node in nodes:
            if rng.random() < 0.96 or node == "m0":
                case.recorded[kind, node] = "closed" if rng.random() < 0.93 else "open"
    for one in datasets:
        if ("dataset", one) in case.recorded and rng.random() < 0.8:
            picked = [rng.choices(names, [5, 5, 1, 0.4])[0] for _ in range(rng.randint(1, 2))]
            case.lists[one] = [(shard, _range(rng, case, shard)) for shard in picked]
    _relate(rng, case, models, datasets)
    while rng.random() < 0.4:
        case.advice.append(_advice(rng, texts=["vile", "plain", "half"], shards=names, models=models))
    return ledger, case, record_of(case)


def _advice(rng: random.Random, *, texts: Sequence[str], shards: Sequence[str], models: Sequence[str]) -> ref.Advice:
    """An advisory that names one thing of some kinds, at least one."""
    kinds: list[tuple[str, Sequence[str]]] = [("documents", texts), ("shards", shards), ("models", models), ("prompts", PROMPTS)]
    chosen = rng.sample([one for one in kinds if one[1]], rng.choice([1, 1, 2]))
    return ref.Advice(**{kind: frozenset([rng.choice(names)]) for kind, names in chosen})


def _range(rng: random.Random, case: ref.Case, shard: str) -> tuple[int, int] | None:
    size = ref.count(case, shard)
    if rng.random() < 0.7 or size == 0:
        return None
    first = rng.randrange(size or 3)
    return first, rng.randint(first + 1, size or 5)


def _relate(rng: random.Random, case: ref.Case, models: list[str], datasets: list[str]) -> None:
    edges: dict[Any, ref.Edge] = {}
    for _ in range(rng.randint(3, 16)):
        kind = rng.choice(["trained_on", "trained_on", "model", "made", "reworded", "dataset"])
        child = "m0" if rng.random() < 0.3 else rng.choice(models)
        grade = rng.choice(["declared"] * 4 + ["logged", "logged", "signed", "weight_verified", "contradicted"])
        other, prompt = rng.choice(datasets), rng.choice([None, *PROMPTS])
        if kind == "trained_on":
            stage, epochs = rng.choice([None, "pretrain", "sft"]), rng.choice([None, 1.0, 0.5, 2.0])
            complete = rng.random() < 0.3
            found = [ref.Edge("trained_on", ("model", child), ("dataset", other), grade, stage, epochs, complete)]
            if complete and rng.random() < 0.8:
                listed = case.lists.get(other, [])
                case.usage[child, stage] = sorted({(shard, 0, rng.randint(1, 2)) for shard, _ in listed})
        elif kind == "model":
            found = [ref.Edge(rng.choice(MODEL_RELATIONS), ("model", child), ("model", rng.choice(models)), grade, prompt=prompt)]
        elif kind == "made":
            found = [ref.Edge(rng.choice(MADE_BY), ("dataset", other), ("model", child), grade, prompt=prompt)]
        elif kind == "reworded":
            relation = rng.choice(["rewritten_by", "translated_by"])
            found = [ref.Edge(relation, ("dataset", other), ("model", child), grade, prompt=prompt)]
            found.append(ref.Edge(relation, ("dataset", other), ("dataset", rng.choice(datasets)), grade))
        else:
            found = [ref.Edge(rng.choice(DATASET_RELATIONS), ("dataset", other), ("dataset", rng.choice(datasets)), grade)]
        # A record names the rewriter and what was rewritten in one breath, with one grade.
        again = kind == "reworded" and any(key[:2] == (found[0].relation, found[0].child) for key in edges)
        if not again and all(one.child in case.recorded for one in found):
            edges.update(((one.relation, one.child, one.parent, one.stage), one) for one in found)
    # A usage log with nothing in it narrows to nothing; logs are of stages that are named in some relation.
    case.usage = {key: reads for key, reads in case.usage.items() if reads}
    case.edges = list(edges.values())


def evidence_world(rng: random.Random) -> tuple[MemoryLedger, ref.Case, dict[str, Any]]:
    """Several runs over shards that share documents: other detectors and thresholds, cleaned shards, keepers in other runs."""
    ledger, case = MemoryLedger(), ref.Case()
    names = ["s0", "s1", "s2"]
    texts = {name: documents(rng, list(DETECTORS), rng.randint(0, 5)) for name in names}
    # Shards are what they hold: two with the same rows are one.
    known: dict[str, list[Document]] = {name: texts[name] for name in {shard_digest(texts[n]): n for n in names}.values()}
    for _ in range(rng.randint(1, 4)):
        judges = {name: {"": rng.choice([550, 700]), **({"forum": 550} if rng.random() < 0.3 else {})} for name in DETECTORS}
        judges = {name: flags for name, flags in judges.items() if rng.random() < 0.6}
        picked = {name: _rescored(rng, rows, list(judges)) for name, rows in known.items() if rng.random() < 0.6}
        clean = rng.random() < 0.5
        against = [sha256_name(b"another run")] if rng.random() < 0.5 else []
        logged = {shard for run in case.runs for shard in run.logs}
        others = {name: rows for name, rows in known.items() if name not in picked and rows and shard_digest(rows) in logged}
        if against and others:
            picked = {name: [_removed(rng, one, others) for one in rows] for name, rows in picked.items()}
            add = {**others, **picked}
            world = _scan_some(ledger, case, add, set(picked), judges, clean=clean, against=against)
        else:
            world = scan(ledger, case, picked, detectors=judges, clean=clean)
        if clean:
            for name, rows in picked.items():
                kept = [one for one in rows if one.action == "keep"]
                if shard_digest(kept) not in {shard_digest(one) for one in known.values()}:
                    known[f"{name}+{len(known)}"] = kept
        del world
    shards = sorted({shard for run in case.runs for shard in (*run.logs, *(one for one, _ in run.wrote))}) or [sha256_name(b"nothing")]
    case.recorded["model", "m0"] = "closed"
    for n in range(4):
        one = f"d{n}"
        case.recorded["dataset", one] = "closed"
        case.lists[one] = [(shard, _range(rng, case, shard)) for shard in rng.sample(shards, min(len(shards), rng.randint(1, 3)))]
        case.edges.append(ref.Edge("trained_on", ("model", "m0"), ("dataset", one), "declared", None, 1.0))
    if rng.random() < 0.5:
        case.advice.append(_advice(rng, texts=[f"text {n}" for n in range(6)], shards=shards, models=[]))
    return ledger, case, record_of(case)


def _rescored(rng: random.Random, rows: Sequence[Document], names: Sequence[str]) -> list[Document]:
    found = []
    for one in rows:
        error = rng.random() < 0.15
        found.append(
            Document(
                one.text,
                {} if error else {name: rng.choice([0, 500, 600, 900]) for name in names},
                one.source,
                action="error" if error else rng.choice(["keep", "keep", "keep", "drop"]),
                reasons=("detector_failed",) if error else (),
            )
        )
    return found


def _removed(rng: random.Random, one: Document, others: Mapping[str, Sequence[Document]]) -> Document:
    """The row as a removed duplicate of a row of another run's shard, now and then."""
    if one.action != "drop" or rng.random() < 0.3:
        return one
    name = rng.choice(sorted(others))
    keeper = (name, rng.randrange(len(others[name])))
    return Document(one.text, one.scores, one.source, "drop", ("near_duplicate",), keeper, (9, 10))


def _scan_some(
    ledger: Any, case: ref.Case, rows: Mapping[str, list[Document]], scanned: set[str], judges: Any, *, clean: bool, against: Any
) -> World:
    """A run over some shards whose keepers lie in shards of other runs: those are named, and not scanned."""
    import world as builder

    digests = {name: shard_digest(documents) for name, documents in rows.items()}
    own = {name: rows[name] for name in rows if name in scanned}
    original = builder._row

    def row(name: str, n: int, shards: Any, **options: Any) -> Any:
        return original(name, n, {**rows, **shards}, **{**options, "digests": digests})

    builder._row = row
    try:
        found = scan(ledger, ref.Case(), {}, detectors={}) if not own else None
        world = add_run(
            ledger,
            shards=own,
            detectors=[
                detector(
                    name,
                    category=DETECTORS[name],
                    flag=flags[""],
                    drop=1024,
                    sources={source: (flag, 1024) for source, flag in flags.items() if source},
                    reason=f"by_{name}",
                )
                for name, flags in judges.items()
            ],
            clean=clean,
            against=against,
        )
        del found
    finally:
        builder._row = original
    logs = {
        digests[name]: [
            ref.Row(
                one.text,
                dict(one.scores),
                one.source or "",
                one.action or "keep",
                None if one.keeper is None else (digests[one.keeper[0]], one.keeper[1]),
            )
            for one in documents
        ]
        for name, documents in own.items()
    }
    wrote = [(world.cleaned[name], world.shards[name]) for name in own] if clean else []
    case.runs.append(ref.Run({name: (DETECTORS[name], dict(flags)) for name, flags in judges.items()}, logs, wrote))
    return world


def record_of(case: ref.Case) -> dict[str, Any]:
    """The case's lineage as a training record."""
    models: dict[str, Any] = {}
    datasets: dict[str, Any] = {}
    for (kind, name), ancestry in case.recorded.items():
        (models if kind == "model" else datasets)[name] = {"name": name, "ancestry": ancestry}
    for dataset, listed in case.lists.items():
        if dataset in datasets:
            shards = [shard if rows is None else {"shard": shard, "rows": [list(rows)]} for shard, rows in listed]
            datasets[dataset]["shards"] = shards
    for edge in case.edges:
        node = (models if edge.child[0] == "model" else datasets)[edge.child[1]]
        if edge.relation == "trained_on":
            said: dict[str, Any] = {"dataset": edge.parent[1], "evidence": edge.grade}
            said |= {key: value for key, value in (("stage", edge.stage), ("epochs", edge.epochs)) if value is not None}
            said |= {"usage": "complete"} if edge.complete else {}
            node.setdefault("trained_on", []).append(said)
            continue
        said = {"relation": edge.relation, edge.parent[0]: edge.parent[1], "evidence": edge.grade}
        said |= {} if edge.prompt is None else {"system_prompt": edge.prompt}
        if edge.relation in ("rewritten_by", "translated_by") and edge.parent[0] == "dataset":
            continue  # said together with the model, below
        if edge.relation in ("rewritten_by", "translated_by"):
            mine = [e for e in case.edges if e.child == edge.child and e.relation == edge.relation and e.parent[0] == "dataset"]
            for one in mine:
                each = {**said, "dataset": one.parent[1]}
                node.setdefault("relations", []).append(each)
            continue
        node.setdefault("parents" if edge.child[0] == "model" else "relations", []).append(said)
    return {"models": list(models.values()), "datasets": list(datasets.values())}


def graph_of(case: ref.Case, record: dict[str, Any]) -> Graph:
    """The graph of a case, through the parser and the builder."""
    reads = [(model, stage, shard, a, b) for (model, stage), rows in case.usage.items() for shard, a, b in rows]
    document = build_document([(parse_record(record), Path())], resolve=lambda use, _: (use.shard, None), reads=reads)
    return build_graph([(0, type(document).from_bytes(document.to_bytes()))])


def engine(ledger: MemoryLedger, case: ref.Case, record: dict[str, Any], *, threshold: float | None = None) -> tuple[Graph, Walker]:
    """The engine over a case."""
    graph = graph_of(case, record)
    asked = ask(ledger.runs, threshold=threshold)
    scans = Scans(ledger, ledger.runs)
    published = [_published(1000 + n, one) for n, one in enumerate(case.advice)]
    return graph, Walker(graph, ScannedRows(graph, scans, asked), advised=Advised(graph, scans, published) if published else None)


def _published(entry: int, one: ref.Advice) -> Published:
    documents = tuple(sha256_name(text.encode()) for text in one.documents)
    named = {"models": tuple(f"name:{name}" for name in one.models), "shards": tuple(one.shards)}
    return Published(entry, "", Advisory("why", "who", "when", documents=documents, system_prompts=tuple(one.prompts), **named))


def read_engine(graph: Graph, walker: Walker, model: str) -> dict[str, Any]:
    """The engine's answer in the reference's words."""
    trace = walker.trace(graph.find(model))

    def plain(node: str) -> str:
        return node.removeprefix("name:")

    exposures = {}
    for one in trace.exposures:
        walked = [*one.path, *one.through]
        exposures[one.category, one.verdict.value, plain(one.ancestor.id), plain(one.dataset.id)] = {
            "rows": one.rows,
            "documents": one.documents,
            "epochs": one.epochs,
            "grade": one.evidence.value,
            "length": len(walked),
            "names": [model, *(plain(step.parent) for step in walked)],
            "depth": one.depth,
        }
    return {
        "verdict": trace.verdict.value,
        "at_worst": trace.at_worst.value,
        "verdicts": {name: one.value for name, one in trace.verdicts.items()},
        "exposures": exposures,
        "unknown": {(plain(one.node), one.why, one.category): one.at_worst.value for one in trace.unknown},
        "first_exposed": sorted(plain(one.id) for one in trace.first_exposed),
        "last_unexposed": sorted(plain(one.id) for one in trace.last_unexposed),
    }
