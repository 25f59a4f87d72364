"""The benchmark of false positives in small: no test accuses too often, and one that would is found out."""

from __future__ import annotations

import numpy as np

from mwm.verification.decision import decide, run_tests
from mwm.verification.questions import OrderedQueries
from tests.benchmarks import false_positives
from tests.benchmarks.false_positives import CASES, LEVELS, TESTS, TOGETHER, Keys, judged, matches, measured, rate


def test_no_test_accuses_innocents_too_often() -> None:
    found = measured(models=8, keys_each=25, queries=40, rounds=99, epochs=4, processes=0)
    assert found.keys() == set(TESTS)
    for test, cases in found.items():
        assert cases.keys() == set(CASES)
        for case, levels in cases.items():
            assert [one["of"] for one in levels.values()] == [8 * 25] * len(LEVELS)
            if (test, case) != ("empirical", "always wrong"):
                assert all(one["kept"] for one in levels.values()), (test, case, levels)
    assert found["permutation"]["always wrong"]["0.05"]["accused"], "a benchmark in which nothing happens shows nothing"


def test_a_level_that_is_broken_is_told() -> None:
    accused = np.zeros((4, 100), bool)
    accused[2, :30] = True
    found = rate(accused, 0.01)
    assert (found["accused"], found["of"], found["worst"]) == (30, 400, 0.3)
    assert not found["kept"]
    assert rate(accused, 0.05)["kept"], "7.5 % of 400 may be chance at a level of 5 %"
    assert rate(accused[:2], 1e-3)["kept"]


def test_keys_of_a_model_are_its_own_and_the_same_again() -> None:
    one, again, other = (false_positives.keys(number, count=3, queries=20) for number in (0, 0, 1))
    assert [part.tobytes() for part in one] == [part.tobytes() for part in again]
    assert not np.array_equal(one[1], other[1])
    assert not np.array_equal(one[1][0], one[1][1])
    assert (one[1] != one[2]).all(), "a label is the true one"


def test_matches_are_those_of_each_model() -> None:
    scores = np.array([[[3.0, 1, 0], [0, 5, 4]], [[0, 0, 1], [1, 2, 0]]])
    assert matches(scores, np.array([0, 1])).tolist() == [2, 1]


def test_what_is_measured_is_what_a_verdict_says() -> None:
    """On one key: the p-values of tests without chance, and the least of those that Holm's method corrects."""
    chance, n, classes = np.random.default_rng(0), 30, 10
    truth = chance.integers(0, classes, n)
    labels = (truth + chance.integers(1, classes, n)) % classes
    scores = chance.normal(size=(8, n, classes)).astype(np.float32)
    scores[2, np.arange(n), labels] += 1
    for number in (1, 2):
        found, _ = judged((number, Keys(np.arange(n)[None], labels[None], truth[None])), scores=scores, rounds=9)
        asked = OrderedQueries([*range(n)], np.zeros((n, 1, 1, 1), np.uint8), labels, truth, classes)
        counts = (scores.argmax(2) == labels).sum(1).tolist()
        null = counts[:number] + counts[number + 1 :]
        told = [run_tests(one.argmax(1), asked, scores=one.astype(np.float64), null=null) for one in scores]
        together = [told[place % 8]["binomial"] for place in range(number, number + TOGETHER)]
        named = ("binomial", "rank", "sequential", "empirical")
        said = {name: test.p_value for name in named if (test := told[number][name])}
        said["holm"] = min(adjusted for adjusted, _ in decide([one.p_value for one in together if one], 0.05))
        assert {name: found[TESTS.index(name), 0] for name in said} == said
