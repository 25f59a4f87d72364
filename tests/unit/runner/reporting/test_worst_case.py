"""The table of worst cases: the least proof that an attack leaves."""

from __future__ import annotations

from mwm.runner.reporting.tables.attackers import WORST_CASE
from tests.helpers.ended import (
    HARD,
    MARGIN,
    NONE,
    SOFT,
    failed,
    result,
    stolen,
    trial,
)
from tests.helpers.tabled import caption, cells, headings, sheet


def test_the_worst_case_is_by_proof_and_not_by_matches() -> None:
    ended = [result(trial(MARGIN, seed), clean_acc=0.95) for seed in (0, 1)]
    for seed in (0, 1):
        ended.append(stolen(MARGIN, seed, SOFT, 0.0, log10_p=-12.0, clean_acc=0.95))
        ended.append(stolen(MARGIN, seed, HARD, 0.3, log10_p=-2.0 - 2 * seed, clean_acc=0.93))
    assert [row[:5] for row in cells(ended, 2)] == [["margin", "12.0/.00", "3.0/.30", "3.0/.30", "extraction hard"]]
    assert " ".join(cells(ended, 2)[0][-1].split()) == (
        "black box, hard answers, no true labels, victim_data images, 50,000 calls, start: fresh"
    )
    bold = [getattr(cell, "style", None) for column in sheet(ended, 2).columns for cell in column.cells]
    assert bold == ["", "bold", "", "", "", ""], "one of the two students of the worst attack is not proven"


def test_the_headline_is_that_of_the_best_thief_who_gives_up_so_much() -> None:
    ended = [result(trial(MARGIN, seed), clean_acc=0.95) for seed in (0, 1)]
    ended += [result(trial(NONE, seed), clean_acc=0.98) for seed in (0, 1)]
    for seed in (0, 1):
        ended.append(stolen(MARGIN, seed, SOFT, 0.6, clean_acc=0.96))
        ended.append(stolen(MARGIN, seed, SOFT | {"query_budget": 100}, 0.2 + 0.1 * seed, clean_acc=0.9 + 0.02 * seed))
        ended.append(stolen(NONE, seed, SOFT | {"query_budget": 100}, 0.0, clean_acc=0.8))
    assert headings(ended, 2)[:4] == ["scheme", "≤1 lost", "≤3 lost", "≤5 lost"]
    assert headings(ended, 2)[4:] == ["worst attack", "its threat model"]
    assert [row[:5] for row in cells(ended, 2)] == [
        ["margin", "18.0/.60", "18.0/.60", "7.5/.25", "extraction 100 calls"],
        ["none", "-", "-", "-", ""],
    ]
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
    assert cells(ended, 2)[0][:5] == ["margin", *["18.0/.60"] * 3, "extraction"]
