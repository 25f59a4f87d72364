"""Figures and tables for a paper: LaTeX that compiles, with the numbers of the CSV beside it."""

from __future__ import annotations

import csv
import shutil
import subprocess
from dataclasses import fields
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mwm.attacks.threat import ThreatModel
from mwm.runner.reporting.figures.catalogue import drawn
from mwm.runner.reporting.report.paper.latex import ACROSS, Part, escaped, latex
from mwm.runner.reporting.report.paper.write import write_paper
from tests.helpers.drawn import BUDGETS, CASES, TRIGGERS, figures_of, grouped, swept
from tests.helpers.ended import CONFUSION, MARGIN, SOFT, control, failed, result, stolen, trial
from tests.helpers.latex import WORDS, Tabular, number, read

FIGURES = {
    f"{name}{end}" for name in ("front", "heatmap", "retention", "strength") for end in (".svg", ".pdf", "-column.pdf")
}
TABLES = ("cost", "detection", "results", "threats", "worst_case", "worst_case_by_threat")


@cache
def paper(case: str, folder: Path) -> Path:
    write_paper(grouped(CASES[case]), figures_of(case), folder)
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return paper("budgets", tmp_path_factory.mktemp("paper"))


def table(folder: Path, name: str) -> tuple[str, list[Tabular], list[dict[str, str]]]:
    """Caption, tables and lines of a table that was written."""
    caption, label, found = read((folder / "tables" / f"{name}.tex").read_text())
    assert label == name.replace("_", "-")
    with (folder / "tables" / f"{name}.csv").open(newline="") as file:
        return caption, found, list(csv.DictReader(file))


def thousands(number: str) -> str:
    """A count as tables have it."""
    return f"{int(number):,}" if number else "--"


def agrees(cell: str, line: dict[str, str], name: str) -> None:
    """A cell has the rounded numbers of a line."""
    mean, spread, _ = number(cell)
    for shown, key in ((mean, "mean"), (spread, "sd")):
        exact = line[f"{name}_{key}"]
        assert (shown is None) == (exact == ""), (cell, line)
        if shown is not None:
            assert shown == pytest.approx(float(exact), abs=0.501), (cell, exact)
            digits = len(cell.rpartition(".")[2].rstrip("}$")) if "." in cell else 0
            assert round(float(exact), digits) == pytest.approx(shown, abs=0.6 * 10**-digits)


def test_everything_that_a_paper_takes_is_written(folder: Path) -> None:
    assert {path.name for path in (folder / "figures").iterdir()} == FIGURES
    assert {path.name for path in (folder / "tables").iterdir()} == {f"{n}.{e}" for n in TABLES for e in ("tex", "csv")}


def test_the_results_are_those_of_the_csv_and_bold_is_what_is_proven_in_every_seed(folder: Path) -> None:
    caption, found, lines = table(folder, "results")
    known = {(line["setting"], line["attack"]): line for line in lines}
    assert len(known) == len(lines) == (3 + 3) * (1 + len(BUDGETS))
    measures = {"proof, $-\\log_{10} p$": "neg_log10_p", "query accuracy": "query_acc", "clean accuracy": "clean_acc"}
    assert [one.title for one in found] == [title for title in measures for _ in range(2)], "two pieces of 7 columns"
    seen = 0
    for one in found:
        assert len(one.headings) <= ACROSS + 1
        for row in one.rows:
            for attack, cell in zip(one.headings[1:], row[1:], strict=True):
                line = known[row[0].replace(r"\_", "_"), attack]
                agrees(cell, line, measures[one.title])
                assert number(cell)[2] is (measures[one.title] == "neg_log10_p" and line["proven"] == "True")
                seen += 1
    assert seen == 3 * len(lines)
    assert "of 2 seeds" in caption
    assert "fewer than 6 seeds allow no exact paired test" in caption


def test_the_worst_cases_costs_and_detections_are_those_of_the_csv(folder: Path) -> None:
    caption, (worst, models), lines = table(folder, "worst_case")
    kept = {(line["setting"], line["most_points_lost"]): line for line in lines}
    assert models.headings == ["setting", "threat model", "images", "start", "calls"]
    for (setting, *cells, attack), (same, threat, images, start, calls) in zip(worst.rows, models.rows, strict=True):
        assert same == setting
        own = setting.replace(r"\_", "_")
        for most, cell in zip(("1", "3", "5"), cells, strict=True):
            agrees(cell, kept[own, most], "neg_log10_p")
        line = kept[own, "5"]
        assert attack == (line["attack"] or "--")
        known = f"{line['threat.access']}, {line['threat.answers']} answers, no true labels"
        assert threat == (known if line["attack"] else "--")
        told = (line["threat.images"], line["threat.start"]) if line["attack"] else ("--", "--")
        assert (images.replace(r"\_", "_"), start) == told
        assert line["oracle_calls_least"] == line["oracle_calls_most"]
        assert calls == thousands(line["oracle_calls_most"])
    assert len(worst.rows) * 3 == len(lines)
    assert "points of clean accuracy at most" in caption
    _, parts, lines = table(folder, "cost")
    costs = {(line["kind"], line["name"]): line for line in lines}
    names = {"clean accuracy": "clean_acc", "clean drop": "clean_drop", "oracle calls": "oracle_calls"}
    names |= {"seconds": "seconds", "MiB": "peak_mib"}
    for part in parts:
        for row in part.rows:
            for heading, cell in zip(part.headings[1:], row[1:], strict=True):
                agrees(cell, costs[part.headings[0], row[0].replace(r"\_", "_")], names[heading])
    _, (detected,), lines = table(folder, "detection")
    shares = {(line["attack"], line["scheme"]): line for line in lines}
    for attack, *cells in detected.rows:
        for scheme, cell in zip(detected.headings[1:], cells, strict=True):
            line = shares[attack, scheme.replace(r"\_", "_")]
            assert cell.startswith(f"{line['detected']}/{line['students']} [")


def test_the_worst_case_of_each_threat_model_has_the_calls_of_all_its_attacks_and_of_the_worst(folder: Path) -> None:
    caption, parts, lines = table(folder, "worst_case_by_threat")
    assert "need not be equal" in caption
    models = {tuple(line[f"threat.{one.name}"] for one in fields(ThreatModel)) for line in lines}
    assert len(parts) == len(models) == 2
    assert all("images, 150--50,000 calls, start: fresh" in part.title for part in parts)
    assert {(line["group_oracle_calls_least"], line["group_oracle_calls_most"]) for line in lines} == {("150", "50000")}
    kept = [line for line in lines if line["most_points_lost"] == "5"]
    for row, line in zip([row for part in parts for row in part.rows], kept, strict=True):
        setting, proof, attack, calls = row
        assert (setting.replace(r"\_", "_"), attack) == (line["setting"], line["attack"] or "--")
        agrees(proof, line, "neg_log10_p")
        assert calls == thousands(line["oracle_calls_most"])


def test_tables_that_name_attacks_point_to_their_threat_models(folder: Path) -> None:
    for name in ("results", "detection"):
        assert table(folder, name)[0].endswith("What each attacker is given: the table of threat models.")


def test_the_costs_of_victims_that_start_from_weights_say_how_good_these_were(tmp_path: Path) -> None:
    ended = [result(trial(MARGIN, seed, start="a.pt"), start_acc=0.99, clean_acc=0.98) for seed in (0, 1)]
    write_paper(grouped(ended), drawn(grouped(ended)), tmp_path)
    _, (part, *_), lines = table(tmp_path, "cost")
    assert part.headings[1:3] == ["accuracy of the start", "clean accuracy"]
    agrees(part.rows[0][1], lines[0], "start_acc")
    assert float(lines[0]["start_acc_mean"]) == 0.99


def test_students_of_a_control_are_counted_once_in_the_costs(tmp_path: Path) -> None:
    ended = [control(), control(0, SOFT), *(result(trial(scheme)) for scheme in (MARGIN, CONFUSION))]
    write_paper(grouped(ended), drawn(grouped(ended)), tmp_path)
    _, _, lines = table(tmp_path, "cost")
    (attack,) = (line for line in lines if line["kind"] == "attack")
    assert attack["seconds_n"] == "1"


@pytest.mark.parametrize(
    ("ended", "said"),
    [
        (swept([MARGIN], [SOFT], 1, controls=False), "1 seed."),
        (swept([MARGIN, TRIGGERS], [SOFT], 7, controls=False), "bold says nothing of differences"),
        ([result(trial(MARGIN)), failed(trial(MARGIN, 0, SOFT))], "1 seed."),
        ([result(trial(MARGIN, seed)) for seed in (0, 1)] + [stolen(MARGIN, 0, SOFT, 0.5)], "of 1--2 seeds"),
    ],
)
def test_captions_say_how_many_seeds_there_are_and_what_they_allow(ended: list[Any], said: str, tmp_path: Path) -> None:
    write_paper(grouped(ended), drawn(grouped(ended)), tmp_path)
    caption, _, _ = table(tmp_path, "results")
    assert said in caption
    assert "Bold: $p \\leq$ .001 by the exact test of each seed" in caption


def test_without_attacks_there_are_costs_and_results_alone(tmp_path: Path) -> None:
    groups = grouped([result(trial(MARGIN))])
    write_paper(groups, drawn(groups), tmp_path)
    assert sorted(path.name for path in (tmp_path / "tables").glob("*.tex")) == ["cost.tex", "results.tex"]
    assert [*(tmp_path / "figures").iterdir()] == []


@given(st.text(st.sampled_from("aZ09 .,-/=()&%$#_{}~^\\−≤±×…<>–")))
def test_whatever_a_name_holds_can_be_set(text: str) -> None:
    told = escaped(text)
    assert WORDS.fullmatch(told), told
    read(latex("x", text, [Part(text, ["a", text], [[text, "$1.0$"]])]))


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="pdflatex is not installed; a strict reader has read all")
def test_the_tables_compile(folder: Path, tmp_path: Path) -> None:
    inputs = "\n".join(rf"\input{{{folder / 'tables' / name}}}" for name in TABLES)
    document = "\\documentclass{article}\n\\usepackage{booktabs}\n\\begin{document}\n" + inputs + "\n\\end{document}\n"
    (tmp_path / "paper.tex").write_text(document)
    ran = subprocess.run(
        ["pdflatex", "-halt-on-error", "paper.tex"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert ran.returncode == 0, ran.stdout[-2000:]
