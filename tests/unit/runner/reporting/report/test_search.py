"""What a search has found, as tables, pictures and a section of a report."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from mwm.runner.reporting.figures import style
from mwm.runner.reporting.report import search_figures as figures
from mwm.runner.reporting.report.files import write_sweep_report
from mwm.runner.reporting.report.markdown import description
from mwm.runner.reporting.report.search_tables import MOST_SHOWN, read_search_results, search_tables
from tests.helpers.pages import Page
from tests.helpers.reported import ended, sweep_folder

PARAMETERS = ("victim.scheme.step_size", "victim.recipe.lr")


def found(count: int = 3, objectives: tuple[str, ...] = ("clean_acc", "worst_log10_p"), **more: Any) -> dict[str, Any]:
    """A search with `count` trials on its front, one that is not, one that failed and one that has only begun."""
    values = [(0.9 - 0.01 * place, -1.0 - place, 0.5) for place in range(count)] + [(0.5, -0.5, 0.1)]
    trials = [
        {
            "number": number,
            "state": "done",
            "digest": f"{number:016x}",
            "label": f"margin {number}",
            "objectives": dict(zip(objectives, own, strict=False)),
            "parameters": dict(zip(PARAMETERS, (4 / 255, 0.1 + number), strict=True)),
            "on_front": number < count,
        }
        for number, own in enumerate(values)
    ]
    lost = {"digest": "", "label": "margin", "objectives": {}, "parameters": {}, "on_front": False}
    trials[0]["file"] = "best-1.yaml"
    return {
        "sweep": "s",
        "objectives": {name: "minimize" if "log10" in name else "maximize" for name in objectives},
        "parameters": PARAMETERS,
        "front": list(range(count)),
        "importance": {name: dict(zip(PARAMETERS, (0.25, 0.75), strict=True)) for name in objectives},
        "no_importance": {},
        "trials": [*trials, lost | {"number": 98, "state": "failed"}, lost | {"number": 99, "state": "begun"}],
    } | more


def shown(search: dict[str, Any]) -> list[str]:
    """The lines of the tables."""
    console = Console(width=160, record=True, file=io.StringIO())
    for table in search_tables(search):
        console.print(table)
    return [" ".join(line.split()) for line in console.export_text().splitlines()]


def test_the_front_has_a_line_for_each_trial() -> None:
    lines = shown(found())
    assert "0 0.9 -1 4/255 0.1 best-1.yaml" in lines
    assert "2 0.88 -3 4/255 2.1" in lines
    assert not [line for line in lines if line.startswith("3 0.5")]
    told = "clean_acc (larger is better), worst_log10_p (smaller is better)"
    assert f"of 4 trials that are done, those which no other one beats in all of {told}" in lines
    assert lines.index("lr 75 % 75 %") < lines.index("step size 25 % 25 %")


def test_a_long_front_is_cut_and_says_so() -> None:
    lines = shown(found(MOST_SHOWN + 3))
    assert "and 3 more on the front, in search.csv" in lines
    assert not [line for line in lines if line.startswith(f"{MOST_SHOWN} ")]


def test_importance_says_where_it_is_unknown_and_how_little_few_trials_tell() -> None:
    assert [line for line in shown(found()) if line.endswith("4 trials are few for that")]
    assert not [line for line in shown(found(40)) if "few for that" in line]
    lines = shown(found(importance={"clean_acc": {}}, no_importance={"clean_acc": "it is the same in every trial"}))
    assert "no importance of parameters for clean_acc: it is the same in every trial" in lines
    assert not [line for line in lines if "%" in line]


def test_without_a_search_nothing_is_shown(tmp_path: Path) -> None:
    assert shown(dict(read_search_results(tmp_path))) == []
    assert shown(found(0)) == []


@pytest.mark.parametrize("objectives", [("clean_acc",), ("clean_acc", "worst_log10_p", "query_acc")], ids=len)
def test_a_panel_for_each_further_objective(objectives: tuple[str, ...]) -> None:
    with style.rules():
        made = figures.front(found(objectives=objectives))
        bars = figures.importance(found(objectives=objectives))
    assert (made and len(made.axes)) == (len(objectives) - 1 or None)
    assert [panel.get_title() for panel in bars.axes] == [*objectives]


@pytest.mark.parametrize("objectives", [("clean_acc", "worst_log10_p"), ("worst_log10_p", "clean_acc")])
def test_the_stairs_part_what_the_front_beats(objectives: tuple[str, ...]) -> None:
    with style.rules():
        (panel,) = figures.front(found(objectives=objectives)).axes
    others, best, stairs = panel.lines
    places = sorted(zip(*best.get_data(), strict=True))
    assert len(places) == 3
    assert len(others.get_xdata()) == 1
    up = {"clean_acc": 1, "worst_log10_p": -1}
    path = stairs.get_path().interpolated(50).vertices
    for across, height in path:
        better = [(up[objectives[0]] * (x - across), up[objectives[1]] * (y - height)) for x, y in map(tuple, places)]
        assert any(one >= -1e-9 and two >= -1e-9 for one, two in better), "no trial reaches the stairs"
        assert not any(one > 1e-9 and two > 1e-9 for one, two in better), "a trial lies beyond the stairs"
    assert {text.get_text() for text in panel.texts} == {"0", "1", "2"}


def test_a_report_shows_what_its_search_found(tmp_path: Path) -> None:
    folder = sweep_folder(tmp_path / "s", ended())
    before = Page(write_sweep_report(folder).read_text())
    (folder / "search.json").write_text(json.dumps(found()))
    made = Page(write_sweep_report(folder).read_text())
    assert "What the search found" not in before.text
    assert "What the search found" in made.text
    assert ["0", "0.9", "-1", "4/255", "0.1", "best-1.yaml"] in made.rows
    assert ["lr", "75 %", "75 %"] in made.rows
    assert len(made.figures) == len(before.figures) + 2


def test_the_description_on_mlflow_s_page_tells_what_mattered() -> None:
    text = description("", [], {}, search=found())
    assert "3 of 4 trials are on the front" in text
    assert "What matters to worst\\_log10\\_p: lr 75 %, step size 25 %." in text
    assert "Search" not in description("", [], {}, search={})
