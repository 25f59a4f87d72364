"""What answers are worth: every test of them, when to stop, and the decision of several suspects together."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mwm.stats import binomial
from mwm.stats.multiple_testing import holm_adjust
from mwm.stats.rank_sum import CellRank, doubled_ranks
from mwm.stats.sequential import SequentialTest
from mwm.verification.decision import (
    VALID,
    best_p_value,
    cells_like_these,
    cells_to_decide,
    decide,
    deciding_test,
    run_tests,
)
from mwm.verification.verdict import TestResult
from mwm.watermarks.evidence import weigh
from tests.helpers.verifying import CLASSES, questions

ASKED = questions(40)
RANKS = (*(CellRank(doubled, (1,) * (CLASSES - 1)) for doubled in (0, 2, 4)), CellRank(0, (1, 2)), CellRank(3, (1, 2)))
"""The ranks that a secret label may have by scores without ties, and by labels."""


def after(ranks: list[CellRank]) -> SequentialTest:
    test = SequentialTest(CLASSES)
    for rank in ranks:
        test.add([rank])
    return test


@settings(deadline=None)
@given(
    ranks=st.lists(st.sampled_from(RANKS), max_size=20),
    left=st.integers(0, 20),
    level=st.sampled_from([0.3, 0.05, 1e-3, 1e-6]),
)
def test_what_is_still_needed_is_needed_and_enough(ranks: list[CellRank], left: int, level: float) -> None:
    test = after(ranks)
    before = test.log_e
    count = cells_to_decide(test, left, level)
    assert (test.cells, test.log_e) == (len(ranks), before), "to look ahead changes nothing"
    best = [CellRank(0, (1, CLASSES - 2))]
    if count:
        assert after(ranks + best * count).p_value <= level
        assert after(ranks + best * (count - 1)).p_value > level
    else:
        assert test.p_value <= level or after(ranks + best * left).p_value > level


def patterns(classes: int) -> Iterator[tuple[int, ...]]:
    """In how many ways so many classes may share scores."""
    yield from [(classes,)] * (classes > 0)
    for first in range(1, classes):
        yield from ((first, *rest) for rest in patterns(classes - first))


def test_no_answers_decide_sooner_than_those_of_a_perfect_copy() -> None:
    """Cell by cell and bet by bet, whatever ties there are."""
    for classes in (3, 4, 7):
        best = SequentialTest(classes)
        best.add_best()
        for ties in patterns(classes - 1):
            for doubled in doubled_ranks(ties):
                test = SequentialTest(classes)
                test.add([CellRank(doubled, ties)])
                assert (test._log_e <= best._log_e + 1e-12).all(), (doubled, ties)


def told(tests: Mapping[str, TestResult | None]) -> dict[str, Any]:
    """Tests as verdict.json tells them."""
    return {name: test and test.to_dict() for name, test in tests.items()}


def judged(choices: Any, scores: Any = None, **options: Any) -> dict[str, Any]:
    """Every test of answers to ASKED."""
    evidence = weigh(choices if scores is None else scores, ASKED.labels, ASKED.truth, classes=CLASSES)
    return told(run_tests(evidence, choices, ASKED, **options))


def test_answers_are_weighed_by_every_test() -> None:
    choices = np.where(np.arange(40) < 30, ASKED.labels, ASKED.truth)
    found = judged(choices, np.eye(CLASSES)[choices], null=[5, 30, 31])
    assert found["unconditional"] == {
        "p_value": binomial.p_value(30, 40, CLASSES),
        "log10_p": binomial.log10_p(30, 40, CLASSES),
    }
    # Thirty wrong answers, and all of them the secret label: by either form it is (1/3)^30.
    assert found["rank_sum"]["p_value"] == pytest.approx(2 * 3.0**-30)
    assert found["empirical"] == {"p_value": 3 / 4, "as_many": 2, "null_models": 3}
    assert found["permutation"] == {"p_value": 1e-4}
    assert found["sequential"]["p_value"] == pytest.approx(10 ** found["sequential"]["log10_p"])
    assert found["uncontrolled"] is None


def test_labels_alone_take_the_level_for_themselves() -> None:
    found = judged(ASKED.labels)
    assert found["rank_sum"]["p_value"] == pytest.approx(3.0**-40)
    assert found["empirical"] is None


def test_no_wrong_answer_is_no_evidence() -> None:
    found = judged(ASKED.truth)
    assert [found[name]["log10_p"] for name in ("rank_sum", "sequential", "unconditional")] == [0.0] * 3
    assert str(found["sequential"]["log10_p"]) == "0.0", "no minus in front of it"


def test_what_a_control_changes_is_set_beside() -> None:
    plain = weigh(ASKED.truth, ASKED.labels, ASKED.truth, classes=CLASSES)
    controlled = weigh(ASKED.labels, ASKED.labels, ASKED.truth, classes=CLASSES)
    found = told(run_tests(controlled, ASKED.truth, ASKED, uncontrolled=plain))
    assert found["uncontrolled"] == {"p_value": 1.0, "log10_p": 0.0}
    assert found["rank_sum"]["p_value"] < 1e-9


def test_only_tests_that_hold_for_the_labels_are_told() -> None:
    evidence = weigh(np.eye(CLASSES)[ASKED.labels], ASKED.labels, ASKED.truth, classes=CLASSES)
    for labels_are, valid in VALID.items():
        how: Any = {"uncontrolled": evidence, "null": [1], "labels_are": labels_are}
        found = run_tests(evidence, ASKED.labels, ASKED, **how)
        assert {name for name, test in found.items() if test} == set(valid)


def test_the_labels_choose_the_test_that_decides() -> None:
    assert deciding_test("uniform_wrong_labels", sequential=False) == "rank_sum"
    assert deciding_test("uniform_wrong_labels", sequential=True) == "sequential"
    assert deciding_test("exchangeable", sequential=False) == "permutation"
    with pytest.raises(ValueError, match=r"^sequential: is not allowed for this key"):
        deciding_test("exchangeable", sequential=True)
    with pytest.raises(ValueError, match=r"^key: .* there is no exact p-value; a comparison .* decides nothing$"):
        deciding_test("null_models", sequential=False)


def test_the_best_answers_are_judged_by_the_weaker_form() -> None:
    """A suspect that gives scores has to show twice as much, and none of the tests is given for free."""
    few = questions(8)
    assert best_p_value("rank_sum", few) == pytest.approx(2 * 3.0**-8)
    by_labels, by_scores = (
        weigh(said, few.labels, few.truth, classes=CLASSES)
        for said in (few.labels, np.eye(CLASSES)[few.labels] + np.linspace(0, 0.1, CLASSES))
    )
    assert best_p_value("rank_sum", few) == by_scores.p_value > by_labels.p_value
    assert best_p_value("sequential", few) == pytest.approx(by_scores.sequential(CLASSES).p_value)
    assert best_p_value("sequential", few) > by_labels.sequential(CLASSES).p_value
    assert best_p_value("permutation", ASKED) == 1e-4


def test_holm_decides_for_several_suspects() -> None:
    """0.02 alone is proven at 0.03; beside another of 0.02 it is not, beside one of 0.001 it is."""
    for p_values, decisions in (
        ([0.02], ["proven"]),
        ([0.02, 0.02], ["not proven", "not proven"]),
        ([0.02, 0.001], ["proven", "proven"]),
        ([0.5, 0.001], ["not proven", "proven"]),
    ):
        found = decide(p_values, 0.03)
        assert [decision for _, decision in found] == decisions
        assert [adjusted for adjusted, _ in found] == holm_adjust(p_values)


def test_how_many_more_answers_like_these_decide() -> None:
    """A copy that ranks two of three secret labels first: what is told is where the test of the repeated ranks ends."""
    drawn = np.random.default_rng(1)
    scores = drawn.normal(size=(12, CLASSES))
    scores[np.arange(12), ASKED.truth[:12]] += 5
    scores[np.arange(12)[::2], ASKED.labels[:12:2]] += 3
    evidence = weigh(scores, ASKED.labels[:12], ASKED.truth[:12], classes=CLASSES)
    more = cells_like_these(evidence, CLASSES, 1e-6)
    assert more is not None
    rows = np.arange(12 + more) % 12
    ended = [
        weigh(scores[rows[:count]], ASKED.labels[rows[:count]], ASKED.truth[rows[:count]], classes=CLASSES)
        .sequential(CLASSES)
        .p_value
        <= 1e-6
        for count in (11 + more, 12 + more)
    ]
    assert ended == [False, True]
    assert cells_like_these(evidence, CLASSES, 1e-300) is None, "ten times as many would not do"
    chance = weigh(drawn.normal(size=(12, CLASSES)), ASKED.labels[:12], ASKED.truth[:12], classes=CLASSES)
    assert cells_like_these(chance, CLASSES, 1e-3) is None
