"""Results as tables: what a person reads at the end."""

from __future__ import annotations

import io
from itertools import product
from typing import Any

import pytest
from rich.console import Console

from mwm.runner.reporting.results import TrialResult
from mwm.runner.reporting.tables.layout import WIDTH
from mwm.runner.reporting.tables.terminal import tables
from tests.helpers.ended import (
    CONFUSION,
    DISTILLED,
    HARD,
    MARGIN,
    NONE,
    SOFT,
    answers,
    control,
    failed,
    result,
    stolen,
    trial,
    unmarked,
)
from tests.helpers.ended import shown as answered
from tests.helpers.tabled import caption, cells, headings, sheet, shown

TRIGGERS = {"kind": "trigger_set", "num_queries": 20}


def test_the_table_shows_means_and_deviations_over_seeds() -> None:
    ended = []
    for seed, (clean, query, kept) in enumerate([(0.9, 1.0, 0.40), (0.92, 0.95, 0.5), (0.97, 0.9, 0.45)]):
        ended.append(result(trial(NONE, seed), clean_acc=0.98, query_acc=0.0, log10_p=-0.0))
        ended.append(result(trial(MARGIN, seed), clean_acc=clean, query_acc=query))
        ended.append(result(trial(MARGIN, seed, SOFT), query_acc=kept, log10_p=-9.0 - seed / 4))
        ended.append(result(trial(NONE, seed, SOFT), query_acc=0.0, log10_p=0.0))
    ended.append(failed(trial(MARGIN, 3, SOFT)))
    assert cells(ended) == [
        ["none", ".980±.000", ".000±.000", "0.0/.00", "0.0/.00"],
        ["margin", ".930±.036", ".050±.036", "5.0/.95", "9.2/.45\n(1 failed)"],
    ]
    assert headings(ended) == ["scheme", "victim clean", "clean drop", "victim proof", "extraction"]
    text = " ".join(shown(ended).split())
    for figure in (".930±.036", "9.2/.45", "(1 failed)", "mean ± sd of 3 seeds", "−log10 p/query accuracy"):
        assert figure in text


def test_a_single_seed_has_no_deviation_and_a_lost_group_no_figure() -> None:
    ended = [result(trial(MARGIN), clean_acc=0.9994), failed(trial(MARGIN, 0, SOFT))]
    ended += [failed(trial(MARGIN, 0, HARD), "skipped")]
    assert cells(ended) == [["margin", ".999", "", "5.0/.50", "(1 failed)", "(1 skipped)"]]
    assert "1 seed;" in shown(ended)


def test_victims_that_start_from_weights_show_how_good_these_were() -> None:
    ended = [result(trial(MARGIN, seed), clean_acc=0.98) for seed in (0, 1)]
    assert "start clean" not in headings(ended)
    warm = [result(trial(TRIGGERS, seed, start="a.pt"), start_acc=0.99 + seed / 100, clean_acc=0.97) for seed in (0, 1)]
    assert headings([*ended, *warm])[-4:] == ["start clean", "victim clean", "clean drop", "victim proof"]
    assert [row[-4:-2] for row in cells([*ended, *warm])] == [["", ".980±.000"], [".995±.007", ".970±.000"]]


def test_the_table_names_only_the_fields_that_differ() -> None:
    ended = [result(trial(NONE))]
    for size, per_step in ((10 / 255, 25), (0.1, "all")):
        scheme = MARGIN | {"step_size": size, "queries_per_step": per_step}
        ended += [result(trial(scheme)), result(trial(scheme, 1)), result(trial(scheme, split={"seed": 3}))]
    assert headings(ended)[:3] == ["scheme", "per step", "step size"]
    assert [row[:3] for row in cells(ended)] == [["none", "", ""], ["margin", "25", "10/255"], ["margin", "all", "0.1"]]


def test_attacks_are_named_by_what_tells_them_apart() -> None:
    attacks: list[dict[str, Any]] = [SOFT, HARD, DISTILLED, SOFT | {"student": "resnet18"}, SOFT | {"temperature": 4.0}]
    attacks += [SOFT | {"source": "svhn"}, SOFT | {"seed": 5}]
    ended = [result(trial(MARGIN, 0, attack)) for attack in attacks]
    assert headings(ended)[4:] == [
        "extraction soft",
        *("extraction soft svhn", "extraction soft T=4", "extraction soft resnet18"),
        *("extraction hard", "distillation soft"),
    ]
    assert headings(ended[::-1]) == headings(ended), "the order depends on which trial ended first"


def test_a_recipe_is_named_only_where_nothing_else_tells_attacks_apart() -> None:
    short, few = {"recipe": {"epochs": 1, "batch_size": 64}}, {"query_budget": 100}
    longer = {"recipe": {"epochs": 2, "batch_size": 64}}
    assert attacks_named([SOFT, HARD | short]) == ["extraction soft", "extraction hard"]
    assert attacks_named([SOFT, SOFT | few | short]) == ["extraction", "extraction 100 calls"]
    assert attacks_named([SOFT | few | short, SOFT | few | longer, SOFT]) == [
        *("extraction", "extraction epochs=1 100 calls", "extraction epochs=2 100 calls"),
    ]


def test_a_sequence_is_named_by_its_steps() -> None:
    steps: list[dict[str, Any]] = [{"kind": "batchnorm_reestimation"}, SOFT]
    sequence = {"kind": "sequence", "steps": steps}
    assert attacks_named([SOFT, sequence]) == ["extraction", "batchnorm_reestimation + extraction"]
    harder = {"kind": "sequence", "steps": [*steps[:1], HARD]}
    assert attacks_named([sequence, harder]) == [
        *("batchnorm_reestimation + extraction hard", "batchnorm_reestimation + extraction soft"),
    ]


def attacks_named(attacks: list[dict[str, Any]]) -> list[str]:
    return headings([result(trial(MARGIN, 0, attack)) for attack in attacks])[4:]


def test_students_that_follow_their_victim_are_one_attack_and_a_fixed_student_is_one_too() -> None:
    networks = ({"kind": "cnn", "width": 8}, {"kind": "cnn", "width": 16}, {"kind": "resnet20"})
    follow = [result(trial(MARGIN, 0, SOFT, model=network)) for network in networks]
    fixed = [result(trial(MARGIN, 0, SOFT | {"student": "resnet20"}, model=network)) for network in networks]
    for ended in (follow, fixed):
        assert headings(ended)[-1] == "extraction"
        assert [row[-1] for row in cells(ended)] == ["5.0/.50"] * 3
    assert headings(follow)[1:3] == ["model", "width"]


def test_proven_thefts_are_bold() -> None:
    proofs = [(SOFT, 0, -3.0), (SOFT, 1, -9.0), (HARD, 0, -9.0), (HARD, 1, -2.9)]
    ended = [result(trial(MARGIN, seed, attack), log10_p=proof) for attack, seed, proof in proofs]
    soft, hard = sheet(ended).columns[-2:]
    assert [getattr(cell, "style", None) for column in (soft, hard) for cell in column.cells] == ["bold", ""]


def test_three_fields_and_three_attacks_fit_a_hundred_columns() -> None:
    ended = []
    for count, norm, size, seed in product((20, 100), ("reference", "clean"), (4 / 255, 10 / 255), range(3)):
        scheme = MARGIN | {"num_queries": count, "batchnorm": norm, "step_size": size}
        ended.append(result(trial(scheme, seed), clean_acc=0.9 + seed / 50))
        ended += [result(trial(scheme, seed, a), query_acc=seed / 4) for a in (SOFT, HARD, DISTILLED)]
    ended += [result(trial(NONE, seed), clean_acc=0.93) for seed in range(3)]
    console = Console(record=True, width=100, file=io.StringIO())
    console.print(next(tables(ended)))
    lines = [line.rstrip() for line in console.export_text().splitlines()]
    assert max(map(len, lines)) <= 100
    assert len(lines) == 2 + 1 + 10 + 2, "a cell was broken over two lines"
    assert "margin 100 reference 10/255" in "\n".join(lines)


def retention(results: list[TrialResult]) -> list[list[str]]:
    """The headings of the tables of retention; detections, worst cases, threat models and networks follow."""
    found = [headings(results, number) for number in range(len([*tables(results)]) - 4)]
    assert all(names[0] == "scheme" for names in found)
    return [names[1:] for names in found]


@pytest.mark.parametrize(("count", "wide"), [(2, [3 + 2 + 2]), (4, [3 + 4 + 4]), (6, [3 + 6, 6])])
def test_many_attacks_are_several_tables_and_budgets_of_one_stay_together(count: int, wide: list[int]) -> None:
    budgets = [100 * place for place in range(1, count + 1)]
    attacks = [attack | {"query_budget": budget} for attack in (SOFT, HARD) for budget in budgets]
    ended = [result(trial(scheme), clean_acc=0.9) for scheme in (NONE, MARGIN)]
    ended += [stolen(scheme, 0, attack, 0.3) for scheme in (NONE, MARGIN) for attack in attacks[::-1]]
    found = retention(ended)
    own, *named = [name for names in found for name in names][2:]
    assert own == "victim proof"
    assert named == [f"extraction {kind} {budget} calls" for kind in ("soft", "hard") for budget in budgets]
    assert [*map(len, found)] == wide
    assert cells(ended, len(found) - 1)[1][-1] == "9.0/.30"
    text = shown(ended)
    assert text.count("bold: p ≤ .001") == 1
    lines = text.splitlines()
    assert max(map(len, lines)) <= WIDTH
    assert sum(line.startswith("margin") for line in lines) == len(found) + 2, (
        "also in the tables of attackers and of networks"
    )
    assert not [line for line in lines if line.startswith(" " * 8) and "/" in line], "a cell was broken over two lines"


def test_the_convicted_are_counted_by_attack_and_kind_of_scheme() -> None:
    wide, ended = MARGIN | {"step_size": 0.1}, []
    for seed in (0, 1, 2):
        ended += [result(trial(scheme, seed)) for scheme in (NONE, MARGIN, wide)]
        ended += [stolen(NONE, seed, SOFT, 0.0), stolen(MARGIN, seed, SOFT, 0.5), stolen(wide, seed, SOFT, seed / 10)]
        ended += [stolen(MARGIN, seed, HARD, 0.05)]
    ended += [failed(trial(MARGIN, 3, HARD)), failed(trial(wide, 0, HARD), "skipped"), failed(trial(NONE, 0, HARD))]
    assert headings(ended, 1) == ["attack", "none", "margin"]
    assert cells(ended, 1) == [
        ["extraction soft", "0/3 [.00, .71]", "5/6 [.36, 1.00]"],
        ["extraction hard", "-", "0/3 [.00, .71]"],
    ]
    assert "p ≤ .001" in shown(ended)


def test_a_student_of_a_control_counts_once_for_all_keys() -> None:
    """Three keys are tried on each: one that proves it is enough for a false positive."""
    ended = [control(seed) for seed in range(4)]
    marked: list[dict[str, Any]] = [MARGIN, MARGIN | {"num_queries": 30}, CONFUSION]
    ended += [result(trial(scheme, seed)) for scheme in marked for seed in range(4)]
    ended += [control(seed, SOFT) for seed in range(3)]
    guilty = unmarked(answers(0, cells=100, seed=9), answers(6, cells=10))
    ended += [result(trial(NONE, 3, SOFT), **guilty), stolen(MARGIN, 0, SOFT, 0.5)]
    assert cells(ended, 1) == [["extraction", "1/4 [.01, .81]", "1/1 [.03, 1.00]"]]
    assert "a student of a control counts once" in " ".join(shown(ended).split())
    assert [row[:2] for row in cells(ended)][:3] == [["none", "20"], ["none", "30"], ["none", "classes"]]
    assert "a student of a control" not in shown([result(trial(MARGIN)), stolen(MARGIN, 0, SOFT, 0.5)])


def test_keys_of_classes_are_told_from_those_of_images() -> None:
    ended = [control(), result(trial(MARGIN)), control(0, SOFT)]
    ended += [
        result(trial(CONFUSION | {"mass": mass}), **told(3.0 * place)) for place, mass in enumerate((0.1, 0.3), 1)
    ]
    ended += [result(trial(MARGIN | {"mass": 0.4}), **told(2.0)), result(trial(CONFUSION, 0, SOFT), **told(9.0))]
    assert headings(ended)[:3] == ["scheme", "n", "mass"]
    assert [row[:3] for row in cells(ended)] == [
        *(["none", "20", ""], ["none", "classes", ""], ["margin", "20", "1"]),
        *(["confusion", "classes", "0.1"], ["confusion", "classes", "0.3"], ["margin", "20", "0.4"]),
    ]


def test_the_queries_of_a_combined_scheme_stand_in_the_column_of_all_others() -> None:
    combined = {"kind": "combined", "queries": MARGIN | {"num_queries": 50}, "confusion": {"mass": 0.2}}
    ended = [control(), result(trial(MARGIN)), result(trial(combined)), result(trial(CONFUSION))]
    assert headings(ended)[:3] == ["scheme", "n", "mass"]
    assert [row[:3] for row in cells(ended)] == [
        *(["none", "20", ""], ["none", "50", ""], ["none", "classes", ""], ["margin", "20", "1"]),
        *(["combined", "50", "1"], ["confusion", "classes", "0.1"]),
    ]


def told(hint: float) -> dict[str, Any]:
    """What is measured of a network on a key with a cell for each class."""
    return answered(*answers(hint, cells=10, ahead=9.0))


def test_victims_that_are_compared_with_a_control_are_told_from_others() -> None:
    ended = [result(trial(MARGIN, seed, control=asked)) for seed in (0, 1) for asked in (False, True)]
    assert headings(ended)[:2] == ["scheme", "control"]
    assert [row[:2] for row in cells(ended)] == [["margin", "no"], ["margin", "yes"]]
    assert "control" not in headings([one for one in ended if one.trial.victim.control])


def test_accuracy_that_rests_on_damaged_statistics_is_told() -> None:
    ended = []
    for seed in (0, 1):
        ended.append(result(trial(MARGIN, seed), clean_acc=0.93 + seed / 50, reestimated_clean_acc=0.99))
        ended.append(result(trial(MARGIN | {"weight": 0.3}, seed), clean_acc=0.98, reestimated_clean_acc=0.99))
        ended.append(result(trial(TRIGGERS, seed), clean_acc=0.98 + seed / 100, reestimated_clean_acc=0.98))
        ended.append(result(trial(NONE, seed), clean_acc=0.99))
    text = " ".join(shown(ended).split())
    assert "warning: this accuracy rests on damaged statistics" in text
    assert "margin weight=0.1: .940, re-estimated .990" in text
    assert text.count("re-estimated .9") == 1, "a point is no damage, nor is what seeds differ by"
    assert "warning" not in shown(ended[1:4])


def test_where_nothing_was_stolen_there_is_one_table() -> None:
    for ended in ([], [failed(trial(MARGIN))]):
        assert len([*tables(ended)]) == 1
    assert len([*tables([result(trial(MARGIN))])]) == 2, "that of networks"
    assert cells([]) == []
    assert "no results" in shown([])


def test_a_sweep_whose_students_all_failed_is_still_told() -> None:
    ended = [result(trial(MARGIN)), failed(trial(MARGIN, 0, SOFT))]
    assert cells(ended, 1) == [["extraction", "-"]]
    assert cells(ended, 2) == [["margin", "-", "-", "-"]]


def test_networks_are_named_by_the_digests_of_their_trainings() -> None:
    marked = [result(trial(MARGIN, seed)) for seed in range(5)]
    ended = [*marked, failed(trial(TRIGGERS)), result(trial(MARGIN, 0, SOFT))]
    own = "\n".join(one.outcome.digest for one in marked[:3])
    assert sorted((row[0], row[-1]) for row in cells(ended, -1)) == [("margin", own), ("trigger_set", "")]
    assert (headings(ended, -1)[0], headings(ended, -1)[-1]) == ("scheme", "victims")
    assert "launch.py model DIGEST FILE" in caption(ended, -1)
