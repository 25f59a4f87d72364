"""Steps of a sequence: what each of them left survives files, and is told in the report and in MLflow."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from mwm.runner.reporting.report.source import read_sweep_data
from mwm.runner.reporting.report.tables import read_table
from mwm.runner.reporting.results import TrialResult, result_rows
from mwm.runner.reporting.tables.layout import WIDTH
from mwm.runner.reporting.tables.steps import MOST_STEPS, step_summary, step_table
from mwm.runner.tracking.runs import step_metrics
from mwm.trials.outcome import Outcome
from tests.helpers.drawn import grouped
from tests.helpers.ended import MARGIN, SOFT, result, stolen, trial
from tests.helpers.reported import sweep_folder
from tests.helpers.tabled import cells, headings, shown

SEQUENCE: dict[str, Any] = {"kind": "sequence", "steps": [{"kind": "batchnorm_reestimation"}, SOFT]}


def steps(query: float) -> list[dict[str, Any]]:
    repaired = {"kind": "batchnorm_reestimation", "epoch": 3, "clean_acc": 0.97, "query_acc": 1.0, "oracle_calls": None}
    return [repaired, {"kind": "extraction", "epoch": 9, "clean_acc": 0.9, "query_acc": query, "oracle_calls": 600}]


def ended() -> list[TrialResult]:
    found = [result(trial(MARGIN, seed)) for seed in (0, 1)]
    found += [stolen(MARGIN, seed, SEQUENCE, 0.2, steps=steps(0.2 + seed / 5)) for seed in (0, 1)]
    return [*found, stolen(MARGIN, 0, SOFT, 0.5)]


def test_steps_are_json_in_one_column_and_come_back(tmp_path: Path) -> None:
    rows = result_rows(ended())
    assert [json.loads(row["steps"]) for row in rows if row["steps"]] == [steps(0.2), steps(0.4)]
    read = read_sweep_data(sweep_folder(tmp_path / "s", ended())).rows
    assert [row["steps"] for row in read] == [row["steps"] for row in rows]


def test_an_outcome_that_was_written_down_has_its_steps() -> None:
    outcome = ended()[2].outcome
    assert Outcome(**json.loads(json.dumps(asdict(outcome)))) == outcome


def test_the_table_says_what_each_step_left() -> None:
    made = step_table(grouped(ended()))
    assert made is not None
    table = read_table("", made)
    assert [[cell.text for cell in row] for row in table.rows] == [
        [
            "margin",
            "batchnorm_reestimation + extraction",
            "1 batchnorm_reestimation",
            "3",
            ".970±.000",
            "1.000±.000",
            "–",
        ],
        ["margin", "batchnorm_reestimation + extraction", "2 extraction", "9", ".900±.000", ".300±.141", "600"],
    ]
    assert step_table(grouped(ended()[:2])) is None


def test_the_terminal_has_a_line_for_each_step_and_setting_below_the_attack() -> None:
    wide = MARGIN | {"step_size": 0.1}
    other = [result(trial(wide)), stolen(wide, 0, SEQUENCE, 0.2, steps=steps(0.6))]
    results = [*ended(), *other]
    assert headings(results, 4) == ["attack, step", "setting", "clean accuracy", "query accuracy", "calls"]
    assert cells(results, 4) == [
        ["batchnorm_reestimation + extraction", "", "", "", ""],
        ["1 batchnorm_reestimation", "margin 10/255", ".970±.000", "1.000±.000", "–"],
        ["2 extraction", "margin 10/255", ".900±.000", ".300±.141", "600"],
        ["1 batchnorm_reestimation", "margin 0.1", ".970", "1.000", "–"],
        ["2 extraction", "margin 0.1", ".900", ".600", "600"],
    ]
    assert max(map(len, shown(results).splitlines())) <= WIDTH
    assert "attack, step" not in shown([*ended()[:2], ended()[-1]]), "there is no sequence"


def test_the_terminal_has_the_first_of_many_steps_and_says_how_many_more_there_are() -> None:
    schemes = [MARGIN | {"weight": 0.1 + place / 100} for place in range(MOST_STEPS)]
    results = [result(trial(scheme)) for scheme in schemes]
    results += [stolen(scheme, 0, SEQUENCE, 0.2, steps=steps(0.2)) for scheme in schemes]
    made = step_summary(grouped(results))
    assert made is not None
    table = read_table("", made)
    assert len(table.rows) == 1 + MOST_STEPS
    assert table.notes[1] == f"and {MOST_STEPS} more, in the report"


def test_mlflow_is_told_of_each_step_at_its_last_epoch() -> None:
    assert {(name, epoch): value for name, value, _, epoch in step_metrics(ended()[2].outcome, 7)} == {
        **{("step.clean_acc", 3): 0.97, ("step.query_acc", 3): 1.0},
        **{("step.clean_acc", 9): 0.9, ("step.query_acc", 9): 0.2, ("step.oracle_calls", 9): 600.0},
    }
    assert step_metrics(ended()[0].outcome, 7) == []
