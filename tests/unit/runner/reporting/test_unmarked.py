"""Victims without a watermark: named in every table, line and file that a person reads."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from mwm.runner.reporting.csv_files import read_results
from mwm.runner.reporting.export import write_results
from mwm.runner.reporting.groups.configurations import group_by_configuration
from mwm.runner.reporting.headline import headline
from mwm.runner.reporting.progress import Progress
from mwm.runner.reporting.report.markdown import description
from mwm.runner.reporting.report.words import missing
from mwm.runner.reporting.results import TrialResult, result_rows
from mwm.trials.names import outcome_line
from mwm.trials.outcome import SKIPPED_UNMARKED
from tests.helpers.ended import CONFUSION, HARD, MARGIN, control, failed, result, stolen, trial
from tests.helpers.events import begin, cached, finish, start
from tests.helpers.tabled import cells, headings, shown

BARE: dict[str, Any] = {"marked": False, "log10_p": -0.4, "query_acc": 0.1}


def skipped(seed: int) -> TrialResult:
    made = failed(trial(MARGIN, seed, HARD), "skipped")
    return result(made.trial, status="skipped", clean_acc=None, query_acc=None, log10_p=None, error=SKIPPED_UNMARKED)


def some() -> list[TrialResult]:
    """Of a margin one seed of two is unmarked, and its attack skipped; a confusion and a control are as they should."""
    marked = {"marked": True, "log10_p": -9.0}
    return [
        control(0),
        control(0, HARD),
        result(trial(MARGIN, 0), **BARE),
        skipped(0),
        result(trial(MARGIN, 1), **marked),
        stolen(MARGIN, 1, HARD, 0.2),
        result(trial(CONFUSION, 0), **marked),
        stolen(CONFUSION, 0, HARD, 0.2),
    ]


def groups(results: list[TrialResult]) -> Any:
    return group_by_configuration(result_rows(results))


def test_the_table_says_how_many_seeds_are_unmarked_and_warns_below() -> None:
    own, place = {row[0]: row for row in cells(some())}, headings(some()).index("victim proof")
    assert own["margin"][place] == "4.7/.30\n(1 unmarked)"
    assert own["margin"][-1].endswith("(1 skipped)")
    assert "unmarked" not in own["confusion"][place] + own["none"][place]
    told = shown(some())
    assert "warning: unmarked: the own key is not proven at p ≤ .001" in told
    assert "  margin: 1 of 2\n" in told
    assert "unmarked" not in shown(some()[4:])


def test_a_watermark_that_no_seed_carries_is_not_compared() -> None:
    every = [one for one in some() if one.trial.victim.scheme.kind != "margin" or one.trial.victim.seed == 0]
    told = headline(groups(every))
    assert told.startswith("confusion ")
    assert "; 1 setting carries no watermark in any seed. Threat model" in told
    assert "no watermark" not in headline(groups(some()))
    alone = headline(groups([result(trial(MARGIN, 0), **BARE), skipped(0)]))
    assert alone == "No victim carries a watermark: no key is proven (p ≤ .001) on its own network."


def test_the_cheapest_watermark_is_one_that_is_there() -> None:
    """A network that was taught nothing costs nothing."""
    bare = result(trial(MARGIN, 0), **BARE | {"clean_acc": 0.98})
    marked = result(trial(CONFUSION, 0), marked=True, log10_p=-9.0, clean_acc=0.93)
    told = headline(groups([control(0), bare, marked]))
    assert told == (
        "Nothing was attacked; confusion: it costs 5 points of clean accuracy; "
        "1 setting carries no watermark in any seed."
    )


def test_the_report_names_them_first_and_says_why_attacks_are_missing() -> None:
    lines = list(missing(groups(some())))
    assert lines[0] == "margin: 1 of 2 unmarked: the own key is not proven at p ≤ .001"
    assert any(line.endswith("1 skipped (its victim carries no watermark)") for line in lines[1:])


def test_mlflow_s_page_says_it_beside_the_proof() -> None:
    text = description("which?", result_rows(some()), {}, search={})
    (line,) = (one for one in text.splitlines() if one.startswith("| margin"))
    assert "| 4.7 (1 unmarked) |" in line


def test_the_files_hold_it(tmp_path: Path) -> None:
    write_results(tmp_path, "s", some(), seconds=1.0, complete=False)
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert summary["victims"] == {"done": 4, "failed": 0, "skipped": 0, "stopped": 0, "unmarked": 1}
    (one,) = summary["unmarked"]
    assert (one["victim"]["scheme.kind"], one["victims"], one["unmarked"]) == ("margin", 2, 1)
    rows = {
        (row["victim.scheme.kind"], row["victim.seed"], row["kind"]): row["marked"] for row in read_results(tmp_path)
    }
    assert rows["margin", 0, "victim"] is False
    assert rows["margin", 1, "victim"] is True
    assert rows["none", 0, "victim"] is rows["margin", 1, "attack"] is None


def test_the_line_of_a_trial_begins_with_it() -> None:
    bare = vars(result(trial(MARGIN), **BARE).outcome)
    assert outcome_line("margin n=20", bare).startswith("margin n=20: unmarked, query .10, clean .950, log10 p -0.4")
    assert "unmarked" not in outcome_line("margin n=20", bare | {"marked": None})


@pytest.mark.parametrize("terminal", [True, False])
def test_it_is_said_while_the_sweep_runs(terminal: bool) -> None:
    console = Console(file=io.StringIO(), force_terminal=terminal, width=120, record=True, legacy_windows=False)
    measured: Any = {"marked": False, "query_acc": 0.1, "clean_acc": 0.9, "log10_p": -0.4, "seconds": 1.0}
    with Progress(console, clock=lambda: 0.0) as progress:
        progress.follow(begin(victim=3, attack=0))
        progress.follow(start("v0"))
        progress.follow(finish("v0", **measured))
        progress.follow(cached("v1") | {"marked": False})
        progress.follow(cached("v2") | {"marked": True})
    told = console.export_text()
    assert "v0: unmarked, query .10" in told
    assert not terminal or "2 unmarked" in told
