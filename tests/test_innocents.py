"""The benchmark of innocents in small: no test accuses too often, and one that would is found out."""

from __future__ import annotations

import numpy as np

from tests.benchmarks import innocents
from tests.benchmarks.innocents import CASES, LEVELS, TESTS, matches, measured, rate


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
    one, again, other = (innocents.keys(number, count=3, queries=20) for number in (0, 0, 1))
    assert [part.tobytes() for part in one] == [part.tobytes() for part in again]
    assert not np.array_equal(one[1], other[1])
    assert not np.array_equal(one[1][0], one[1][1])
    assert (one[1] != one[2]).all(), "a label is the true one"


def test_matches_are_those_of_each_model() -> None:
    scores = np.array([[[3.0, 1, 0], [0, 5, 4]], [[0, 0, 1], [1, 2, 0]]])
    assert matches(scores, np.array([0, 1])).tolist() == [2, 1]
