"""A sweep read back from its files: the same groups as those of its trials."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from mwm.runner.reporting.groups.configurations import Row, group_by_configuration
from mwm.runner.reporting.report.comparing import compared_rows
from mwm.runner.reporting.report.source import read_sweep_data
from mwm.runner.reporting.results import TrialResult, result_rows
from tests.helpers.ended import CONFUSION, MARGIN, SOFT, control, result, stolen, trial
from tests.helpers.reported import ended, sweep_folder

BUDGETED = SOFT | {"query_budget": 300, "student": {"kind": "cnn", "width": 4}}
SEQUENCE = {"kind": "sequence", "steps": [{"kind": "batchnorm_reestimation"}, SOFT]}


def grouped(rows: Sequence[Row]) -> list[tuple[frozenset[Any], frozenset[Any], list[str]]]:
    """Groups in their order, each with the trials in it; the order of fields is left open."""
    groups = group_by_configuration(rows)
    return [
        (frozenset(victim), frozenset(attack or ()), [row["digest"] for row in members])
        for (victim, attack), members in groups.items()
    ]


def test_files_give_the_groups_of_their_trials_back(tmp_path: Path) -> None:
    results = [*ended(), stolen(MARGIN, 0, BUDGETED, 0.1), stolen(MARGIN, 0, SEQUENCE, 0.1)]
    data = read_sweep_data(sweep_folder(tmp_path / "s", results))
    assert grouped(data.rows) == grouped(result_rows(results))
    assert (data.name, data.question, data.summary["seconds"]) == ("s", "which one `survives`?", 75.0)
    assert data.provenance == {"git.revision": "abc123", "version.torch": "2.14.1"}


def test_pictures_are_found_by_digest_and_other_files_may_be_missing(tmp_path: Path) -> None:
    folder = sweep_folder(tmp_path / "s", ended())
    for name in ("sweep.json", "summary.json", "journal.jsonl"):
        (folder / name).unlink()
    (folder / "queries").mkdir()
    (folder / "queries" / "abc.png").write_bytes(b"")
    data = read_sweep_data(folder)
    assert (data.name, data.question, data.provenance) == ("s", "", {})
    assert data.pictures == {"abc": folder / "queries" / "abc.png"}


def test_a_damaged_file_is_told_in_one_line(tmp_path: Path) -> None:
    folder = sweep_folder(tmp_path / "s", ended())
    (folder / "summary.json").write_text("{")
    with pytest.raises(ValueError, match=r"summary\.json: cannot be read") as error:
        read_sweep_data(folder)
    assert len(str(error.value).splitlines()) == 1
    with pytest.raises(ValueError, match=r"results\.csv: cannot be read"):
        read_sweep_data(tmp_path)


def compared(folder: Path, **sweeps: list[TrialResult]) -> list[dict[str, object]]:
    return [
        dict(row)
        for row in compared_rows([read_sweep_data(sweep_folder(folder / name, one)) for name, one in sweeps.items()])
    ]


def test_a_trial_of_two_sweeps_counts_once_and_a_setting_says_which_sweeps_have_it(tmp_path: Path) -> None:
    both = [result(trial(MARGIN)), stolen(MARGIN, 0, SOFT, 0.4)]
    rows = compared(tmp_path, a=both, b=[*both, result(trial(MARGIN, 1)), result(trial(CONFUSION))])
    told = [f"{row['victim.scheme.kind']} {row['victim.seed']} {row['kind']}: {row['victim.sweep']}" for row in rows]
    assert sorted(told) == [
        "confusion 0 victim: b",
        "margin 0 attack: a + b",
        "margin 0 victim: a + b",
        "margin 1 victim: a + b",
    ]


def test_a_control_of_another_sweep_tells_what_a_watermark_costs(tmp_path: Path) -> None:
    rows = compared(tmp_path, a=[control(clean_acc=0.99)], b=[result(trial(MARGIN), clean_acc=0.97)])
    (marked,) = (row for row in rows if row["victim.scheme.kind"] == "margin")
    assert marked["clean_drop"] == pytest.approx(0.02)
