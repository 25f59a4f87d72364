"""Results as tables: what a person reads at the end."""

from __future__ import annotations

import io
from itertools import product
from typing import Any

from rich.console import Console
from rich.table import Table

from mwm.runner.reporting.results import TrialResult
from mwm.runner.reporting.tables import WORST_CASE, tables
from tests.helpers.ended import DISTILLED, HARD, MARGIN, NONE, SOFT, failed, result, stolen, trial


def shown(results: list[TrialResult]) -> str:
    console = Console(record=True, width=100, file=io.StringIO())
    for made in tables(results):
        console.print(made)
    return console.export_text()


def sheet(results: list[TrialResult], number: int = 0) -> Table:
    made = [*tables(results)][number].renderables[0]
    assert isinstance(made, Table)
    return made


def cells(results: list[TrialResult], number: int = 0) -> list[list[str]]:
    """A table's cells, row by row."""
    made = sheet(results, number)
    return [
        list(row)
        for row in zip(*([str(cell).strip() for cell in column.cells] for column in made.columns), strict=True)
    ]


def headings(results: list[TrialResult], number: int = 0) -> list[str]:
    return [str(column.header).replace("\n", " ") for column in sheet(results, number).columns]


def caption(results: list[TrialResult], number: int = 2) -> str:
    return str([*tables(results)][number].renderables[1])


def test_the_table_shows_means_and_deviations_over_seeds() -> None:
    ended = []
    for seed, (clean, query, kept) in enumerate([(0.9, 1.0, 0.40), (0.92, 0.95, 0.5), (0.97, 0.9, 0.45)]):
        ended.append(result(trial(NONE, seed), clean_acc=0.98, query_acc=0.0, log10_p=0.0))
        ended.append(result(trial(MARGIN, seed), clean_acc=clean, query_acc=query))
        ended.append(result(trial(MARGIN, seed, SOFT), query_acc=kept))
        ended.append(result(trial(NONE, seed, SOFT), query_acc=0.0, log10_p=0.0))
    ended.append(failed(trial(MARGIN, 3, SOFT)))
    assert cells(ended) == [
        ["none", ".980 ± .000", ".000 ± .000", ".00 ± .00", ".00 ± .00"],
        ["margin", ".930 ± .036", ".050 ± .036", ".95 ± .05", ".45 ± .05\n(1 failed)"],
    ]
    assert headings(ended) == ["scheme", "victim clean", "clean drop", "victim query", "extraction"]
    text = " ".join(shown(ended).split())
    for figure in (".930 ± .036", ".45 ± .05", "(1 failed)", "mean ± sd of 3 seeds", "query accuracy"):
        assert figure in text


def test_a_single_seed_has_no_deviation_and_a_lost_group_no_figure() -> None:
    ended = [result(trial(MARGIN), clean_acc=0.9994), failed(trial(MARGIN, 0, SOFT))]
    ended += [failed(trial(MARGIN, 0, HARD), "skipped")]
    assert cells(ended) == [["margin", ".999", "", ".50", "(1 failed)", "(1 skipped)"]]
    assert "1 seed;" in shown(ended)


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
    soft = ["extraction soft T=1", "extraction soft T=4", "extraction soft resnet18 T=1", "extraction soft svhn T=1"]
    assert [sorted(soft), *headings(ended)[8:]] == [
        sorted(headings(ended)[4:8]),
        "extraction hard T=1",
        "distillation soft T=1",
    ]
    assert headings(ended[::-1]) == headings(ended), "the order depends on which trial ended first"


def test_students_that_follow_their_victim_are_one_attack_and_a_fixed_student_is_one_too() -> None:
    networks = ({"kind": "cnn", "width": 8}, {"kind": "cnn", "width": 16}, {"kind": "resnet20"})
    follow = [result(trial(MARGIN, 0, SOFT, model=network)) for network in networks]
    fixed = [result(trial(MARGIN, 0, SOFT | {"student": "resnet20"}, model=network)) for network in networks]
    for ended in (follow, fixed):
        assert headings(ended)[-1] == "extraction"
        assert [row[-1] for row in cells(ended)] == [".50"] * 3
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
    assert len(lines) == 2 + 1 + 10 + 1, "a cell was broken over two lines"
    assert "margin 100 reference 10/255" in "\n".join(lines)


def test_many_attacks_are_several_tables_and_budgets_of_one_stay_together() -> None:
    attacks = [attack | {"query_budget": budget} for attack in (SOFT, HARD) for budget in (100, 200, 300, 400)]
    ended = [result(trial(scheme)) for scheme in (NONE, MARGIN)]
    came = [attacks[number] for number in (0, 3, 6, 1, 2, 7, 4, 5)]
    ended += [stolen(scheme, 0, attack, 0.3) for scheme in (NONE, MARGIN) for attack in came]
    own = ["scheme", "victim clean", "clean drop", "victim query"]
    assert headings(ended) == own + [f"extraction soft {budget} calls" for budget in (100, 200, 300, 400)]
    assert headings(ended, 1) == ["scheme", *(f"extraction hard {budget} calls" for budget in (100, 200, 300, 400))]
    assert cells(ended, 1)[1] == ["margin"] + 4 * [".30"]
    assert headings(ended, 2)[0] == "attack"
    text = shown(ended)
    assert text.count("the student's query accuracy") == 1
    assert max(map(len, text.splitlines())) <= 100


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


def test_the_headline_is_that_of_the_best_thief_who_gives_up_so_much() -> None:
    ended = [result(trial(MARGIN, seed), clean_acc=0.95) for seed in (0, 1)]
    ended += [result(trial(NONE, seed), clean_acc=0.98) for seed in (0, 1)]
    for seed in (0, 1):
        ended.append(stolen(MARGIN, seed, SOFT, 0.6, clean_acc=0.96))
        ended.append(stolen(MARGIN, seed, SOFT | {"query_budget": 100}, 0.2 + 0.1 * seed, clean_acc=0.9 + 0.02 * seed))
        ended.append(stolen(NONE, seed, SOFT | {"query_budget": 100}, 0.0, clean_acc=0.8))
    assert headings(ended, 2) == ["scheme", "≤1 lost", "≤3 lost", "≤5 lost"]
    assert cells(ended, 2) == [["margin", ".60", ".60", ".25"], ["none", "-", "-", "-"]]
    assert caption(ended) == f"{WORST_CASE}; mean of 2 seeds"


def test_the_headline_says_over_how_many_seeds_and_which_thieves_it_leaves_out() -> None:
    few = SOFT | {"query_budget": 100}
    ended = [result(trial(scheme, seed)) for scheme, seeds in ((MARGIN, 3), (NONE, 1)) for seed in range(seeds)]
    assert caption([*ended, failed(trial(MARGIN, 0, SOFT))]).endswith(
        "at most; left out: 1 of 1 attacks, whose seeds are not all done"
    )
    ended.append(stolen(NONE, 0, SOFT, 0.0))
    assert caption(ended) == f"{WORST_CASE}; 1 seed"
    ended += [stolen(MARGIN, seed, SOFT, 0.6) for seed in range(3)]
    assert caption(ended) == f"{WORST_CASE}; mean of 1-3 seeds"
    ended += [stolen(MARGIN, 0, few, 0.1), stolen(MARGIN, 1, few, 0.1), failed(trial(MARGIN, 2, few))]
    assert caption(ended) == f"{WORST_CASE}; mean of 1-3 seeds; left out: 1 of 3 attacks, whose seeds are not all done"
    assert cells(ended, 2)[0] == ["margin", ".60", ".60", ".60"]


def test_where_nothing_was_stolen_there_is_one_table() -> None:
    for ended in ([], [result(trial(MARGIN))], [failed(trial(MARGIN))]):
        assert len([*tables(ended)]) == 1
    assert cells([]) == []
    assert "no results" in shown([])


def test_a_sweep_whose_students_all_failed_is_still_told() -> None:
    ended = [result(trial(MARGIN)), failed(trial(MARGIN, 0, SOFT))]
    assert cells(ended, 1) == [["extraction", "-"]]
    assert cells(ended, 2) == [["margin", "-", "-", "-"]]
