"""The tests of independence against brute force: every draw of the labels, every answer."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mwm.stats.binomial import p_value
from mwm.stats.multiple_testing import holm_adjust, holm_limits
from mwm.stats.nonparametric import empirical_p_value, permutation_test
from mwm.verification.suspects.outputs import NO_ANSWER
from tests.unit.stats.conftest import Labels, draws, share

LEVELS = (0.5, 0.2, 0.05, 1e-3)


# Permutation


def rearranged(labels: Labels, truth: Labels) -> Iterator[Labels]:
    """The labels in every order that keeps each with a query of its true class."""
    for order in itertools.permutations(range(len(labels))):
        if all(truth[i] == truth[j] for i, j in enumerate(order)):
            yield tuple(labels[j] for j in order)


def matches(answers: Sequence[int], labels: Sequence[int]) -> int:
    return sum(a == t for a, t in zip(answers, labels, strict=True))


@settings(deadline=None, max_examples=25)
@given(st.data())
def test_permutation_estimates_the_share_of_all_rearrangements(data: st.DataObject) -> None:
    truth = data.draw(st.sampled_from([(0, 0, 0, 1, 1, 1), (0, 0, 1, 1, 2, 2), (2, 2, 2, 2, 2, 2), (0, 1, 2, 0, 1, 2)]))
    labels = tuple(data.draw(st.sampled_from([c for c in range(4) if c != true])) for true in truth)
    answers = data.draw(st.tuples(*([st.integers(NO_ANSWER, 3)] * 6)))
    seen, ways = matches(answers, labels), list(rearranged(labels, truth))
    exact = sum(matches(answers, way) >= seen for way in ways) / len(ways)
    found = permutation_test(answers, labels, truth, rounds=1999)
    assert abs(found - (1 + 1999 * exact) / 2000) <= 5 * math.sqrt(exact * (1 - exact) / 1999) + 1e-12


def test_permutation_keeps_its_level_where_labels_favour_a_class() -> None:
    """Labels 1 or 2 with chances 0.9 and 0.1, a suspect that says 1: the binomial test is fooled, this one is not."""
    n, count = 20, 400
    chance, truth = np.random.default_rng(0), np.zeros(n, np.int64)
    labels = np.where(chance.random((count, n)) < 0.9, 1, 2)
    answers = np.where(chance.random((count, n)) < 0.7, 1, 2)
    p = [
        permutation_test(a, t, truth, rounds=199, seed=i) for i, (a, t) in enumerate(zip(answers, labels, strict=True))
    ]
    fooled = [p_value(int((a == t).sum()), n, 10) for a, t in zip(answers, labels, strict=True)]
    assert share(fooled, 0.05) == 1
    for level in (0.2, 0.05):
        assert share(p, level) <= level + 3 * math.sqrt(level / count)


@pytest.mark.parametrize("answers", [(1, 1, 0, 0), (2, 1, 3, 0), (0, 0, 1, 1), (1, 2, 1, 2), (3, 3, 3, 3)])
def test_permutation_detects_no_fixed_suspect_too_often(answers: Labels) -> None:
    truth = (0, 0, 1, 1)
    found = [
        permutation_test(answers, labels, truth, rounds=19, seed=i) for i, labels in enumerate(draws(truth, 4) * 5)
    ]
    for level in (0.5, 0.2, 0.05):
        assert share(found, level) <= level + 3 * math.sqrt(level / len(found))


def test_permutation_by_its_seed() -> None:
    rng = np.random.default_rng(0)
    truth = rng.integers(0, 10, 60)
    labels = (truth + rng.integers(1, 10, 60)) % 10
    answers = rng.integers(0, 10, 60)
    first, again, other = (permutation_test(answers, labels, truth, seed=seed) for seed in (0, 0, 1))
    assert first == again != other
    assert permutation_test(labels, labels, truth) == 1e-4, "the least that 9999 rounds can say"
    assert permutation_test(truth, labels, truth) == 1.0
    assert permutation_test(np.full(60, NO_ANSWER), labels, truth, rounds=10) == 1.0


# Empirical null and several suspects


def test_empirical_counts_itself_and_ties() -> None:
    assert empirical_p_value(3, []) == 1.0
    assert empirical_p_value(3, [1, 2]) == 1 / 3
    assert empirical_p_value(3, [3, 2, 4]) == 3 / 4
    assert empirical_p_value(math.inf, [1.0, -math.inf]) == 1 / 3


@settings(deadline=None)
@given(st.lists(st.integers(0, 5), min_size=1, max_size=12))
def test_empirical_detects_the_share_of_equals_that_it_may(statistics: list[int]) -> None:
    """Whatever the models show: take each for the suspect in turn, and the others for its null."""
    others = [(one, statistics[:i] + statistics[i + 1 :]) for i, one in enumerate(statistics)]
    found = [empirical_p_value(one, null) for one, null in others]
    for level in LEVELS:
        assert share(found, level) <= level


def test_holm_by_hand() -> None:
    assert holm_adjust([]) == []
    assert holm_adjust([0.02]) == [0.02]
    assert holm_adjust([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm_adjust([0.5, 0.001, 0.9, 0.4]) == pytest.approx([1.0, 0.004, 1.0, 1.0])


@settings(deadline=None)
@given(st.lists(st.floats(0, 1), max_size=9), st.sampled_from(LEVELS))
def test_holm_steps_down(p_values: list[float], level: float) -> None:
    """Detected are the smallest, as long as each is below the level over how many are left (Holm, 1979)."""
    ordered, detected = sorted(p_values), 0
    while detected < len(ordered) and (len(ordered) - detected) * ordered[detected] <= level:
        detected += 1
    adjusted = holm_adjust(p_values)
    assert sum(p <= level for p in adjusted) == detected
    assert all(p <= q for p, q in zip(p_values, adjusted, strict=True))
    assert [p for _, p in sorted(zip(p_values, adjusted, strict=True))] == sorted(adjusted)


def test_holm_detects_none_of_several_null_models_too_often() -> None:
    """Three suspects, alike and unlike, asked the same queries: every draw of the labels."""
    truth, suspects = (0, 1, 2, 3), ((1, 0, 0, 0), (1, 0, 0, 1), (2, 2, 1, 1))
    least = [min(holm_adjust([p_value(matches(s, labels), 4, 4) for s in suspects])) for labels in draws(truth, 4)]
    for level in LEVELS:
        assert share(least, level) <= level


# What is refused


@pytest.mark.parametrize(
    ("arrays", "fault"),
    [
        (([1, 1], [1], [0]), r"labels are int64 \(1,\); allowed: integers \(2,\)"),
        (([1], [1], [0, 0]), r"truth are int64 \(2,\)"),
        (([], [], []), "answers are float64"),
        (([1.0], [1], [0]), "answers are float64"),
        (([1], [-1], [0]), "labels hold -1; allowed: 0 and above"),
        (([1], [1], [-1]), "truth hold -1"),
        (([1, 2], [2, 1], [0, 1]), "label 1 is the true one"),
    ],
)
def test_arrays_that_do_not_fit_are_refused(arrays: tuple[list[float], list[int], list[int]], fault: str) -> None:
    with pytest.raises(ValueError, match=fault):
        permutation_test(*arrays)


def test_other_mistakes_are_refused() -> None:
    with pytest.raises(ValueError, match="rounds 0"):
        permutation_test([1], [1], [0], rounds=0)
    with pytest.raises(ValueError, match="NaN"):
        empirical_p_value(1, [math.nan])
    with pytest.raises(ValueError, match=r"p-value 1\.5"):
        holm_adjust([1.5])
    with pytest.raises(ValueError, match="p-value nan"):
        holm_adjust([math.nan])


def test_holm_limits_by_hand() -> None:
    assert holm_limits([0.002, 0.0001, 0.3], 0.003) == pytest.approx([0.0015, 0.001, 0.0015])
    assert holm_limits([0.0014, 0.0001, 0.3], 0.003) == pytest.approx([0.0015, 0.001, 0.003])
    assert holm_limits([0.0008, 0.4], 0.001) == pytest.approx([0.0005, 0.0005]), "named alone it would be proven"


@given(p_values=st.lists(st.integers(0, 1000).map(lambda k: k / 997 % 1), min_size=1, max_size=6))
def test_holm_limits_decide_as_adjusted_p_values_do(p_values: list[float]) -> None:
    level = 0.05
    limits = holm_limits(p_values, level)
    for p, limit, adjusted in zip(p_values, limits, holm_adjust(p_values), strict=True):
        assert (p <= limit) == (adjusted <= level)
        assert level / len(p_values) <= limit <= level
