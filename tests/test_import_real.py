"""Lineage from elsewhere on real sets: Ecosystem Graphs and DataComp-LM, counted against what was counted by hand."""

from __future__ import annotations

from pathlib import Path

import pytest
from conftest import SHARED

from forebear.tracer.audit.session import Session
from forebear.tracer.ledger.ledger import Ledger
from forebear.tracer.lineage.importers.kinds import Imported, import_lineage

pytestmark = pytest.mark.shared_data


def take(folder: Path, kind: str, path: Path) -> Imported:
    return import_lineage(Ledger.open(folder / "ledger", create=True), kind, [str(path)], time="2026-11-01T12:00:00+00:00")


@pytest.fixture(scope="module")
def graphs(tmp_path_factory: pytest.TempPathFactory) -> tuple[Imported, Session]:
    folder = tmp_path_factory.mktemp("graphs")
    return take(folder, "ecosystem-graphs", SHARED / "lineage_ecosystem_graphs" / "assets"), Session.open(folder / "ledger")


@pytest.fixture(scope="module")
def dclm(tmp_path_factory: pytest.TempPathFactory) -> tuple[Imported, Session]:
    folder = tmp_path_factory.mktemp("dclm")
    return take(folder, "dclm", SHARED / "lineage_dclm" / "exp_data"), Session.open(folder / "ledger")


def test_all_639_assets_are_taken_or_counted_as_left_out(graphs: tuple[Imported, Session]) -> None:
    imported, _ = graphs
    assert (imported.counts["models"], imported.counts["datasets"], imported.left_out["application assets"]) == (429, 112, 98)
    assert imported.refused == ()


def test_all_816_dependencies_are_taken_or_named(graphs: tuple[Imported, Session]) -> None:
    """One of them is a dataset's on itself: it stands among the cycles."""
    imported, _ = graphs
    told = imported.counts["relations"] + len(imported.unresolved) + imported.left_out["dependencies of application assets"]
    assert told + 1 == 816


def test_names_that_match_no_asset_are_all_named(graphs: tuple[Imported, Session]) -> None:
    """240 distinct names as they are written, in 309 dependencies; four differ from an asset's in case alone, and stay unmatched."""
    unmatched = [one.what for one in graphs[0].unresolved if one.why == "no asset has this name"]
    assert (len(unmatched), len(set(unmatched))) == (309, 240)
    assert {"LLaMA 2", "LLaMa"} <= set(unmatched)


def test_duplicated_names_and_cycles_are_reported(graphs: tuple[Imported, Session]) -> None:
    imported, session = graphs
    assert imported.duplicates == ("ChatGLM", "Dragonfly", "GPT-4o", "Imagen 3", "InternLM")
    assert len(imported.cycles) == 3
    assert ("VIMA dataset",) in imported.cycles
    assert len(session.graph.candidates("GPT-4o")) == 2


def test_an_imported_model_is_unknown_and_its_ancestors_are_there(graphs: tuple[Imported, Session]) -> None:
    _, session = graphs
    trace = session.trace("Alpaca")
    assert (trace.verdict, trace.at_worst, trace.exposures) == ("unknown", "direct", ())
    above = {row["name"] for row in session.sql("FROM audit.ancestors('Alpaca')").rows()}
    assert above == {"Alpaca dataset", "text-davinci-003", "text-davinci-002", "code-davinci-002", "code-davinci-002 dataset"}


def test_no_imported_model_is_clean(graphs: tuple[Imported, Session], dclm: tuple[Imported, Session]) -> None:
    for _, session in (graphs, dclm):
        assert {trace.verdict for trace in session.trace_all()} == {"unknown"}


def test_127_of_133_models_resolve_to_their_dataset(dclm: tuple[Imported, Session]) -> None:
    imported, session = dclm
    assert (imported.counts["models"], imported.counts["datasets"]) == (133, 91)
    (count,) = session.sql("SELECT count(*) AS n FROM audit.relation WHERE relation = 'trained_on'").rows()
    assert count == {"n": 127}
    assert sum("no dataset UUID" in one.why for one in imported.unresolved) == 6


def test_sources_that_no_file_has_are_kept_by_their_uuid(dclm: tuple[Imported, Session]) -> None:
    imported, session = dclm
    (count,) = session.sql("SELECT count(*) AS n FROM audit.dataset WHERE NOT recorded").rows()
    tokenizers = [one for one in imported.not_recorded if "@" not in one]
    assert count["n"] == len(imported.not_recorded) - len(tokenizers)
    assert sum("without a UUID" in one.why for one in imported.unresolved) == 24
