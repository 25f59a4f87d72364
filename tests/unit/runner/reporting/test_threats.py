"""What attackers are given: in rows, in tables, and as the groups in which worst cases are told."""

from __future__ import annotations

import csv
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from mwm.attacks.threat import ThreatModel
from mwm.runner.reporting.csv_files import read_results
from mwm.runner.reporting.export import write_results
from mwm.runner.reporting.groups.configurations import attacked, group_by_configuration
from mwm.runner.reporting.groups.names import attack_names
from mwm.runner.reporting.groups.threats import COMPARABLE, rows_of_threats, threat_of, threat_words, threats
from mwm.runner.reporting.report.tables import read_table
from mwm.runner.reporting.results import TrialResult, result_rows
from mwm.runner.reporting.retention import points, worst_by_threat, worst_case
from mwm.runner.reporting.tables.attackers import threat_table, worst_by_threat_table
from mwm.runner.reporting.tables.layout import GIVEN, pointer
from mwm.runner.reporting.tables.retention import rejecting_table
from tests.helpers.drawn import arsenal, grouped
from tests.helpers.ended import HARD, MARGIN, NONE, SOFT, result, stolen, trial
from tests.helpers.tabled import cells, headings, shown

TUNED = {"kind": "fine_tuning"}
ADAPTED = SOFT | {"query_budget": 100, "smoothing": 2}


def test_every_row_of_an_attack_has_the_threat_model_of_its_record(tmp_path: Path) -> None:
    ended = [result(trial(MARGIN)), *(result(trial(MARGIN, 0, attack)) for attack in arsenal())]
    write_results(tmp_path, "s", ended, seconds=0.0, complete=True)
    rows = read_results(tmp_path)
    assert threat_of(rows[:1]) is None
    for one, row, read in zip(ended[1:], result_rows(ended)[1:], rows[1:], strict=True):
        assert one.trial.attack is not None
        own = one.trial.attack.threat_model()
        assert threat_of([row]) == threat_of([read]) == own
        assert {name.removeprefix("threat.") for name in row if name.startswith("threat.")} == {*asdict(own)}


def test_rows_of_earlier_releases_tell_no_threat_model_and_are_still_told() -> None:
    ended = [result(trial(MARGIN)), stolen(MARGIN, 0, SOFT, 0.5)]
    rows = [{name: value for name, value in row.items() if "threat" not in name} for row in result_rows(ended)]
    groups = group_by_configuration(rows)
    assert threats(groups) == {}
    assert threat_table(groups) is worst_by_threat_table(groups) is None
    assert not pointer(groups), "there is no table to point to"
    assert [*attack_names(groups).values()] == ["extraction"]


def test_attackers_of_one_threat_model_stand_on_one_line_with_all_that_they_spent() -> None:
    ended = [result(trial(MARGIN))]
    held: dict[str, Any] = {"attacker_images": 1200}
    ended += [stolen(MARGIN, 0, SOFT | {"query_budget": budget}, 0.5, **held) for budget in (100, 400)]
    ended += [stolen(MARGIN, 0, SOFT | {"student": "resnet20"}, 0.4, **held)]
    ended += [result(trial(MARGIN, 0, TUNED), attacker_images=1200, oracle_calls=None)]
    assert headings(ended, 3) == ["access", "true labels", "answers", "calls", "images", "start", "attacks"]
    lines = [[" ".join(cell.split()) for cell in row] for row in cells(ended, 3)]
    black = ["black box", "no", "soft", "100–50,000", "1,200 victim_data", "fresh"]
    white = ["white box", "yes", "–", "–", "1,200 victim_data", "victim's weights"]
    assert lines == [[*black, "extraction soft; extraction soft resnet20"], [*white, "fine_tuning"]]


def test_attackers_that_know_a_scheme_are_named_as_such() -> None:
    ended = [result(trial(MARGIN)), stolen(MARGIN, 0, SOFT, 0.5), stolen(MARGIN, 0, ADAPTED, 0.1)]
    assert headings(ended)[-1] == "extraction x2 averaged 100 calls (adaptive: margin)"
    assert cells(ended, 2)[0][4].replace("\n  ", " ") == "extraction x2 averaged 100 calls (adaptive: margin)"
    assert headings(ended, 3)[-2] == "adaptive to"
    assert [row[-2] for row in cells(ended, 3)] == ["–", "margin"]


PUBLIC = {"kind": "extraction", "source": "svhn", "query_budget": 1200}

BLACK: dict[str, Any] = {"access": "black box", "true_labels": False, "start": "fresh"}
MODELS = [
    ThreatModel(**BLACK, images="victim_data", answers="hard"),
    ThreatModel(**BLACK, images="svhn", answers="soft"),
    ThreatModel(**BLACK, images="victim_data", answers="soft"),
    ThreatModel(**BLACK, images="victim_data", answers="soft", adaptive="margin"),
    ThreatModel(access="white box", images="victim_data", true_labels=True, answers="", start="victim's weights"),
]


def of_many_threat_models() -> list[TrialResult]:
    """Two settings; attacks that differ in answers, images, adaptation, start and calls."""
    held: dict[str, Any] = {"clean_acc": 0.95, "attacker_images": 1200}
    ended = [result(trial(scheme), clean_acc=0.95) for scheme in (MARGIN, NONE)]
    few = SOFT | {"query_budget": 100}
    for attack, query in ((SOFT, 0.5), (few, 0.6), (HARD, 0.3), (ADAPTED, 0.2), (PUBLIC, 0.4)):
        ended.append(stolen(MARGIN, 0, attack, query, **held))
    ended.append(stolen(MARGIN, 0, TUNED, 0.1, **held | {"oracle_calls": None}))
    return [*ended, stolen(NONE, 0, SOFT, 0.0, **held)]


def test_the_worst_case_of_each_threat_model_is_that_of_attacks_that_agree_in_all_of_it() -> None:
    groups = grouped(of_many_threat_models())
    found, victims = points(groups), attacked(groups)
    by_group = worst_by_threat(found, victims)
    assert [*by_group] == [*rows_of_threats(groups)] == MODELS
    for threat, best in by_group.items():
        assert best == worst_case([one for one in found if one.threat == threat], victims)
    rows = rows_of_threats(groups)
    assert sorted(row["digest"] for own in rows.values() for row in own) == sorted(
        row["digest"] for (_, attack), own in groups.items() if attack is not None for row in own
    )


def test_the_worst_case_of_each_threat_model_stands_beside_what_its_attacks_spent_and_its_own_calls() -> None:
    made = worst_by_threat_table(grouped(of_many_threat_models()))
    assert made is not None
    table = read_table("", made)
    lines = [[cell.text for cell in row] for row in table.rows]
    assert [cell.text for cell in table.headings[:7]] == [
        *("access", "true labels", "answers", "calls", "images", "start", "adaptive to"),
    ]
    assert [cell.text for cell in table.headings[7:]] == ["margin", "none"]
    assert [line[3:5] for line in lines] == [
        *(["50,000", "1,200 victim_data"], ["1,200", "1,200 svhn"], ["100–50,000", "1,200 victim_data"]),
        *(["100", "1,200 victim_data"], ["–", "1,200 victim_data"]),
    ]
    worst = [" ".join(line[-2].split()) for line in lines]
    assert worst == [
        "9.0/.30 extraction hard spent 50,000 calls",
        "12.0/.40 extraction soft svhn 1200 calls spent 1,200 calls",
        "15.0/.50 extraction soft spent 50,000 calls",
        "6.0/.20 extraction soft x2 averaged 100 calls (adaptive: margin) spent 100 calls",
        "3.0/.10 fine_tuning",
    ]
    assert [line[-1].split("\n")[0] for line in lines] == ["-", "-", "0.0/.00", "-", "-"]
    assert table.notes[0].endswith(COMPARABLE)
    assert worst_by_threat_table(grouped([result(trial(MARGIN)), stolen(MARGIN, 0, SOFT, 0.5)])) is None


def test_what_is_said_to_be_equal_is_what_a_threat_model_holds() -> None:
    equal, shown_alone = COMPARABLE.split("; ")
    said = {"access": "access", "true_labels": "true labels", "answers": "answers", "images": "whose images"}
    said |= {"start": "start", "adaptive": "adaptation"}
    assert {*said} == {field.name for field in fields(ThreatModel)}
    assert all(words in equal for words in said.values())
    assert "images and calls" in shown_alone


def test_tables_that_name_attacks_point_to_their_threat_models() -> None:
    text = " ".join(shown([result(trial(MARGIN)), stolen(MARGIN, 0, SOFT, 0.5)]).split())
    assert text.count(GIVEN) == 2, "what is left of each setting, and whom it detects"
    assert GIVEN not in shown([result(trial(MARGIN))])


def test_of_networks_that_turn_queries_away_it_is_told_how_many_honest_images_they_turn_away() -> None:
    ended = [result(trial(MARGIN)), stolen(MARGIN, 0, SOFT, 0.5), stolen(MARGIN, 0, TUNED, 0.1, false_rejects=0.125)]
    made = rejecting_table(grouped(ended))
    assert made is not None
    assert [cell.text for cell in read_table("", made).rows[0]] == ["margin", "fine_tuning", "3.0/.10", ".950", ".125"]
    assert "false rejects: the share of honest test images" in " ".join(shown(ended).split())
    assert rejecting_table(grouped(ended[:2])) is None


def test_retention_tells_strength_and_threat_model_of_each_point(tmp_path: Path) -> None:
    ended = [result(trial(MARGIN)), stolen(MARGIN, 0, SOFT | {"query_budget": 100}, 0.5)]
    ended += [stolen(MARGIN, 0, TUNED | {"recipe": {"epochs": count}}, 0.1, oracle_calls=None) for count in (3, 9)]
    write_results(tmp_path, "s", ended, seconds=0.0, complete=True)
    with (tmp_path / "retention.csv").open(newline="") as file:
        lines = [*csv.DictReader(file)]
    told = [[line[name] for name in ("query_budget", "strength", "strength_field")] for line in lines]
    assert told == [["100", "100", "query_budget"], ["", "3", "recipe.epochs"], ["", "9", "recipe.epochs"]]
    assert [line["threat.access"] for line in lines] == ["black box", "white box", "white box"]
    assert {line["attack"] for line in lines} == {"extraction soft", "fine_tuning"}


def test_a_threat_model_of_no_images_says_so() -> None:
    given = ThreatModel(access="black box", images="none", true_labels=False, answers="hard", start="fresh")
    assert threat_words(given) == "black box, hard answers, no true labels, no images, start: fresh"
