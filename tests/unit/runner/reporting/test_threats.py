"""What attackers are given: in rows, in tables, and as the groups in which worst cases are told."""

from __future__ import annotations

import csv
from dataclasses import asdict
from pathlib import Path
from typing import Any

from mwm.attacks.threat import ThreatModel
from mwm.runner.reporting.csv_files import read_results
from mwm.runner.reporting.export import write_results
from mwm.runner.reporting.groups.configurations import attacked, group_by_configuration
from mwm.runner.reporting.groups.names import attack_names
from mwm.runner.reporting.groups.threats import Knowledge, threat_of, threats
from mwm.runner.reporting.report.tables import read_table
from mwm.runner.reporting.results import result_rows
from mwm.runner.reporting.retention import points, worst_by_knowledge, worst_case
from mwm.runner.reporting.tables.attackers import knowledge_table, threat_table
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
    assert threat_table(groups) is knowledge_table(groups) is None
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


def test_the_worst_case_of_each_threat_model_is_that_of_its_attacks_alone() -> None:
    ended = [result(trial(scheme), clean_acc=0.95) for scheme in (MARGIN, NONE)]
    left: dict[str, tuple[dict[str, Any], float]] = {
        "soft": (SOFT, 0.5),
        "hard": (HARD, 0.3),
        "tuned": (TUNED, 0.1),
        "adapted": (ADAPTED, 0.2),
    }
    ended += [stolen(MARGIN, 0, attack, query, clean_acc=0.95) for attack, query in left.values()]
    ended.append(stolen(NONE, 0, SOFT, 0.0, clean_acc=0.95))
    groups = grouped(ended)
    found, victims = points(groups), attacked(groups)
    by_group = worst_by_knowledge(found, victims)
    assert [*by_group] == [
        Knowledge("black box", False, "hard"),
        Knowledge("black box", False, "soft"),
        Knowledge("white box", True, ""),
    ]
    for known, best in by_group.items():
        own = [one for one in found if one.threat is not None and Knowledge.of(one.threat) == known]
        assert best == worst_case(own, victims)
    made = knowledge_table(groups)
    assert made is not None
    table = read_table("", made)
    assert [cell.text for cell in table.headings[-3:]] == [str(known) for known in by_group]
    assert [cell.text for cell in table.rows[0][-3:]] == [
        *("9.0/.30\nextraction hard", "6.0/.20\nextraction soft x2\naveraged 100 calls\n(adaptive: margin)"),
        "3.0/.10\nfine_tuning",
    ]
    assert "comparable only where their threat models agree" in table.notes[0]


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
    from mwm.runner.reporting.groups.threats import threat_words

    given = ThreatModel(access="black box", images="none", true_labels=False, answers="hard", start="fresh")
    assert threat_words(given) == "black box, hard answers, no true labels, no images, start: fresh"
