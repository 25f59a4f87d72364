"""The sequential test against brute force: every draw of the labels, every answer, every way to stop."""

from __future__ import annotations

import copy
import itertools
import math
from fractions import Fraction
from functools import cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mwm.stats.binomial import p_value
from mwm.stats.sequential import SequentialTest
from mwm.verification.suspects.outputs import NO_ANSWER
from tests.unit.stats.conftest import draws, share


def mixture(n: int, k: int, classes: int) -> Fraction:
    """The e-value by its definition: the mean likelihood ratio over all rates from 1 / (C - 1) to 1, term by term."""
    null = Fraction(1, classes - 1)
    terms = ((-1) ** j * math.comb(n - k, j) * (1 - null ** (k + j + 1)) / (k + j + 1) for j in range(n - k + 1))
    return sum(terms, Fraction()) / (null**k * (1 - null) ** (n - k + 1))


@settings(deadline=None)
@given(st.lists(st.booleans(), max_size=30), st.integers(3, 1000))
def test_e_value_is_the_mixture_whatever_the_order(seen: list[bool], classes: int) -> None:
    test = SequentialTest(classes)
    lowest = 1.0
    for count, matched in enumerate(seen, 1):
        test.add(matched)
        exact = mixture(count, sum(seen[:count]), classes)
        assert test.log10_e == pytest.approx(math.log10(exact), rel=1e-12, abs=1e-15)
        assert test.current_p_value == float(min(Fraction(1), 1 / exact))
        lowest = min(lowest, test.current_p_value)
        assert test.p_value == lowest
    assert (test.queries, test.matches) == (len(seen), sum(seen))


@cache
def smallest(matched: tuple[bool, ...], classes: int) -> float:
    test = SequentialTest(classes)
    for match in matched:
        test.add(match)
    return test.p_value


def test_one_by_one_detects_no_fixed_suspect_too_often() -> None:
    """Any answer, or none, to each of 4 queries in 3 classes, against every draw of the labels, stopped at its best."""
    truth = (0, 1, 2, 0)
    for answers in itertools.product((NO_ANSWER, 0, 1, 2), repeat=4):
        patterns = [tuple(a == t for a, t in zip(answers, labels, strict=True)) for labels in draws(truth, 3)]
        found = [smallest(pattern, 3) for pattern in patterns]
        for level in (0.7, 0.5, 0.35, 0.2, 0.05):
            assert share(found, level) <= level


def lattice(classes: int, most: int) -> list[list[SequentialTest]]:
    """The test after n queries with k matches, for every k up to every n up to `most`."""
    rows = [[SequentialTest(classes)]]
    for _ in range(most):
        rows.append([after(one, False) for one in rows[-1]] + [after(rows[-1][-1], True)])
    return rows


def after(test: SequentialTest, matched: bool) -> SequentialTest:
    further = copy.copy(test)
    further.add(matched)
    return further


@pytest.mark.parametrize("classes", [3, 10, 100])
@pytest.mark.parametrize("level", [0.5, 0.05, 1e-3, 1e-6])
def test_level_is_kept_under_optional_stopping(classes: int, level: float) -> None:
    """Exactly, over the whole binomial tree: the chance that the test ever detects a null model within 150 queries.

    The null model is the worst there is: in every node it may be wrong on the next query, or right, as is worse for it.
    """
    rows, null = lattice(classes, 150), 1 / (classes - 1)
    reached: list[float] = [float(one.current_p_value <= level) for one in rows[-1]]
    for row in reversed(rows[:-1]):
        wrong = [null * reached[k + 1] + (1 - null) * reached[k] for k in range(len(row))]
        worst = [max(w, reached[k]) for k, w in enumerate(wrong)]
        reached = [1.0 if one.current_p_value <= level else w for one, w in zip(row, worst, strict=True)]
    assert level / 50 < reached[0] <= level, "kept, and not by detecting nobody"


@pytest.mark.parametrize("classes", [3, 10])
def test_no_way_to_stop_makes_money(classes: int) -> None:
    """The mean e-value is 1 at most for the best of all stopping rules, in whole numbers: a fair bet (Ville, 1939)."""
    rows, null = lattice(classes, 30), Fraction(1, classes - 1)
    value = [Fraction(*one._odds) for one in rows[-1]]
    for row in reversed(rows[:-1]):
        go_on = [null * value[k + 1] + (1 - null) * value[k] for k in range(len(row))]
        now = [Fraction(*one._odds) for one in row]
        assert go_on == now, "playing on is worth what one has"
        value = [max(*pair) for pair in zip(now, go_on, strict=True)]
    assert value == [1]


def test_repeated_binomial_tests_would_not_keep_the_level() -> None:
    """What the sequential test is for: to look at the binomial p-value after each query detects too many."""
    null, level = 1 / 9, 0.05
    alive, detected = np.ones(1), 0.0
    for n in range(1, 151):
        alive = np.convolve(alive, (1 - null, null))
        ends = np.array([p_value(k, n, 10) <= level for k in range(n + 1)])
        detected += alive[ends].sum()
        alive[ends] = 0
    assert detected > 2 * level


def test_long_keys_neither_overflow_nor_underflow() -> None:
    copied, independent = SequentialTest(1000), SequentialTest(10)
    for _ in range(2000):
        copied.add(True)
        independent.add(False)
    assert copied.log10_e == pytest.approx(2000 * math.log10(999) - math.log10(2001 * (1 - 1 / 999)), rel=1e-14)
    assert (copied.p_value, independent.p_value) == (0.0, 1.0)
    numpy = SequentialTest(np.int64(1000))  # type: ignore[arg-type]
    for matched in np.ones(2000, bool):
        numpy.add(matched)
    assert numpy.log10_e == copied.log10_e, "NumPy's whole numbers overflow"
    assert independent.log10_e == pytest.approx(-math.log10(2001), rel=1e-14)


def test_too_few_classes_are_refused() -> None:
    with pytest.raises(ValueError, match="2 classes"):
        SequentialTest(2)
