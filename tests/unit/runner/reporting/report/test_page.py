"""The page: it stands alone, has what there is, leaves out what there is not, and escapes what users write."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from mwm.runner.reporting.figures.queries import draw_query_grid
from mwm.runner.reporting.report.files import write_report, write_sweep_report
from mwm.runner.reporting.report.pictures import HIGH, MOST
from mwm.runner.reporting.report.selection import MOST_SETTINGS
from mwm.runner.reporting.report.source import read_sweep_data
from mwm.runner.reporting.results import TrialResult
from mwm.watermarks.queries import QuerySet
from tests.helpers.ended import CONFUSION, MARGIN, NONE, SOFT, control, failed, result, stolen, trial
from tests.helpers.pages import Page
from tests.helpers.reported import ended, sweep_folder

NASTY = '<script>alert("x")</script>&amp;'


def page(folder: Path, results: list[TrialResult], **asked: Any) -> Page:
    return Page(write_sweep_report(sweep_folder(folder / "s", results, **asked)).read_text())


def test_a_report_answers_the_question_and_shows_why(tmp_path: Path) -> None:
    made = page(tmp_path, ended())
    assert "Question: which one survives ?" in made.text
    assert "Of 2 watermarks margin keeps the most proof: −log10 p 6.0 after its worst attack" in made.text
    order = ("Results", "by setting and attack", "The front", "Cost", "How it came about", "do not say")
    places = [made.text.index(heading) for heading in order]
    assert places == sorted(places)
    assert ["margin", "20", "1", ".970±.000", ".010±.000", "26.0/1.00", "12.0/.40", "6.0/.20"] in made.rows
    assert len(made.figures) >= 2
    assert all(made.figures)
    assert "abc123" in made.text
    assert "1:15 (m:ss)" in made.text
    assert ["margin", "extraction hard", "2", "50,000", "6.1", "–"] in made.rows


def test_what_did_not_end_well_is_told_with_its_reason(tmp_path: Path) -> None:
    results = [*ended(), failed(trial(MARGIN, 9), "skipped"), *(failed(trial(NONE, seed)) for seed in range(2, 5))]
    made = page(tmp_path, results)
    assert "extraction hard on confusion: 1 failed (the loss is nan)" in made.text
    assert "margin: 1 skipped" in made.text
    assert "3 failed" in made.text


def test_damaged_statistics_are_warned_of(tmp_path: Path) -> None:
    made = page(tmp_path, [result(trial(MARGIN), clean_acc=0.9, reestimated_clean_acc=0.95)])
    assert "warning: this accuracy rests on damaged statistics" in made.text
    assert "Some accuracies rest on damaged statistics" in made.text


def test_sections_without_data_are_left_out(tmp_path: Path) -> None:
    made = page(tmp_path, [result(trial(MARGIN))])
    for heading in ("The front", "Queries", "worst attack, by", "How many students"):
        assert heading not in made.text
    assert "Cost" in made.text


def test_what_users_write_is_text_and_nothing_else(tmp_path: Path) -> None:
    data = {"kind": "npz", "path": f"{NASTY}.npz", "flip": False, "pad": 0}
    wrong = failed(trial(MARGIN, 0, SOFT))
    wrong = replace(wrong, outcome=replace(wrong.outcome, error=NASTY))
    results = [*ended(), wrong, result(trial(MARGIN, data=data)), result(trial(CONFUSION, data=data))]
    made = page(tmp_path, results, description=NASTY, tags={NASTY: NASTY})
    assert made.text.count(NASTY) >= 4


def pictured(folder: Path, results: list[TrialResult]) -> None:
    (folder / "queries").mkdir()
    images = torch.randint(0, 256, (30, 1, 8, 8), dtype=torch.uint8)
    asked = QuerySet(images, torch.arange(30) % 10, (torch.arange(30) + 1) % 10)
    for one in results:
        if one.trial.attack is None:
            draw_query_grid(asked, images, folder / "queries" / f"{one.outcome.digest}.png")


def test_of_query_sets_the_first_rows_of_one_victim_of_each_scheme_are_shown(tmp_path: Path) -> None:
    results = ended()
    folder = sweep_folder(tmp_path / "s", results)
    pictured(folder, results)
    made = Page(write_sweep_report(folder).read_text())
    assert len(made.images) == 2 <= MOST
    assert [image.shape for image in made.images] == [(260, 1048)] * 2
    assert HIGH <= 260


def test_a_key_of_a_secret_is_not_shown(tmp_path: Path) -> None:
    results = [result(trial(MARGIN, secret="owner.secret")), result(trial(CONFUSION))]
    folder = sweep_folder(tmp_path / "s", results)
    pictured(folder, results)
    assert len(Page(write_sweep_report(folder).read_text()).images) == 1


def test_a_damaged_picture_is_left_out(tmp_path: Path) -> None:
    folder = sweep_folder(tmp_path / "s", [result(trial(MARGIN))])
    pictured(folder, [result(trial(MARGIN))])
    for path in (folder / "queries").iterdir():
        path.write_bytes(path.read_bytes()[:200])
    assert Page(write_sweep_report(folder).read_text()).images == []


def test_of_many_settings_those_that_tell_most_are_shown(tmp_path: Path) -> None:
    results = [control(), control(0, SOFT)]
    for number in range(60):
        scheme = MARGIN | {"weight": (number + 1) / 100}
        results += [result(trial(scheme), clean_acc=0.97), stolen(scheme, 0, SOFT, number / 60, clean_acc=0.97)]
    made = page(tmp_path, results)
    place = made.rows[0].index("weight")
    assert f"Of 61 settings {MOST_SETTINGS} are shown" in made.text
    weights = {float(row[place]) for row in made.rows[1 : MOST_SETTINGS + 1] if row[0] == "margin"}
    assert weights == {number / 100 for number in range(12, 61)}
    assert "Of 60 watermarks margin weight=0.6 keeps the most" in made.text


def test_several_sweeps_are_compared_in_one(tmp_path: Path) -> None:
    margin = [one for one in ended() if one.trial.victim.scheme.kind != "confusion"]
    other = [one for one in ended() if one.trial.victim.scheme.kind == "confusion"]
    folders = [sweep_folder(tmp_path / name, results) for name, results in (("a", margin), ("b", other))]
    path = write_report(tmp_path / "both", [read_sweep_data(folder) for folder in folders])
    made = Page(path.read_text())
    assert "Question of a: which one" in made.text
    assert "Of 2 watermarks margin keeps the most" in made.text
    proofs = [row for row in made.rows if any("/" in one for one in row)]
    assert {(row[0], row[1]) for row in proofs if row[0] in ("margin", "confusion")} == {
        ("margin", "a"),
        ("confusion", "b"),
    }
    assert made.text.count("to repeat it") == 2
    assert {path.suffix for path in (tmp_path / "both" / "figures").iterdir()} == {".svg", ".pdf"}


def test_the_file_that_was_asked_for_stands_in_the_report_and_can_be_run(tmp_path: Path) -> None:
    folder = sweep_folder(tmp_path / "s", ended())
    text = write_sweep_report(folder).read_text()
    inside = text.split("<pre>")[1].split("</pre>")[0].replace("&#34;", '"')
    assert json.loads(inside) == json.loads((folder / "sweep.json").read_text())


def test_whatever_is_wrong_with_the_files_is_told_in_one_line(tmp_path: Path) -> None:
    folder = sweep_folder(tmp_path / "s", ended())
    text = (folder / "results.csv").read_text()
    (folder / "results.csv").write_text(re.sub(r'"\{.*\}"', "null", text))
    with pytest.raises(ValueError, match=r"^report\.html: KeyError: ") as error:
        write_sweep_report(folder)
    assert len(str(error.value).splitlines()) == 1
    assert not (folder / "report.html").exists()
