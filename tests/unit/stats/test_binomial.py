"""The verdict against sums of fractions, published thresholds and the mistakes others made."""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Iterable, Sequence
from decimal import Decimal, localcontext
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mwm.stats.binomial import critical_matches, log10_p, p_value
from mwm.stats.intervals import clopper_pearson

LEVELS = (0.05, 1e-3, 1e-6, 1e-9)
TABLE = {
    (10, 10): (4, 6, 8, 10),
    (30, 10): (7, 11, 15, 18),
    (100, 10): (17, 23, 29, 35),
    (10, 100): (2, 3, 5, 6),
    (30, 100): (2, 4, 6, 8),
    (100, 100): (4, 6, 9, 12),
}


def chance(matches: int, queries: int, classes: int) -> Fraction:
    """Exactly `matches` matches, by the textbook formula."""
    p = Fraction(1, classes - 1)
    return math.comb(queries, matches) * p**matches * (1 - p) ** (queries - matches)


def tail(matches: int, queries: int, classes: int) -> Fraction:
    return sum((chance(k, queries, classes) for k in range(matches, queries + 1)), Fraction())


def far_tail(matches: int, queries: int, classes: int) -> Fraction:
    """The same in whole numbers, which is quick enough for long keys."""
    draws = (math.comb(queries, k) * (classes - 2) ** (queries - k) for k in range(matches, queries + 1))
    return Fraction(sum(draws), (classes - 1) ** queries)


def log10(p: Fraction) -> float:
    with localcontext(prec=400, Emin=-(10**6)):
        return float((Decimal(p.numerator) / Decimal(p.denominator)).log10())


@st.composite
def cases(draw: st.DrawFn, most: int = 60) -> tuple[int, int, int]:
    queries = draw(st.integers(1, most))
    return draw(st.integers(0, queries)), queries, draw(st.integers(3, 1000))


@given(cases())
def test_p_value_is_the_exact_tail_rounded_once(case: tuple[int, int, int]) -> None:
    assert p_value(*case) == float(tail(*case))


@settings(deadline=None)
@given(cases())
def test_logarithm_is_precise_everywhere(case: tuple[int, int, int]) -> None:
    assert log10_p(*case) == pytest.approx(log10(tail(*case)), rel=1e-14, abs=0)


@settings(deadline=None, max_examples=20)
@given(st.integers(1, 2000), st.integers(3, 1000), st.floats(0, 1), st.booleans())
def test_long_keys_are_exact(queries: int, classes: int, part: float, near: bool) -> None:
    """Over the whole range of matches, and near the threshold, where decisions fall."""
    threshold = min(queries, int(queries / (classes - 1) + 5 * part * math.sqrt(queries)))
    matches = threshold if near else int(part * queries)
    exact = far_tail(matches, queries, classes)
    assert p_value(matches, queries, classes) == float(exact)
    if exact < Fraction(1, 2):
        assert log10_p(matches, queries, classes) == pytest.approx(log10(exact), rel=1e-14, abs=0)


@pytest.mark.parametrize("classes", [3, 10, 1000])
@pytest.mark.parametrize("matches", [1800, 1850, 1999, 2000])
def test_logarithm_is_precise_far_out(matches: int, classes: int) -> None:
    """Down to 10^-5999."""
    assert log10_p(matches, 2000, classes) == pytest.approx(log10(far_tail(matches, 2000, classes)), rel=1e-14, abs=0)


def test_long_keys_take_no_time() -> None:
    began = time.process_time()
    for matches in range(0, 2001, 100):
        p_value(matches, 2000, 997)
    assert time.process_time() - began < 2, "a tenth of a second on a free machine"


def test_logarithm_is_precise_on_both_sides_of_one_half() -> None:
    for matches in range(85, 117):
        expected = log10(tail(matches, 200, 3))
        assert log10_p(matches, 200, 3) == pytest.approx(expected, rel=1e-14, abs=0)


def test_logarithm_does_not_underflow() -> None:
    assert p_value(1000, 1000, 10) == 0.0
    assert log10_p(1000, 1000, 10) == pytest.approx(-1000 * math.log10(9), rel=1e-15)
    assert log10_p(2000, 2000, 1000) == pytest.approx(-2000 * math.log10(999), rel=1e-15)


def test_whole_numbers_of_numpy_do_not_overflow() -> None:
    many, fewer = np.int64(2000), np.int64(600)
    assert p_value(fewer, many, np.int64(1000)) == p_value(600, 2000, 1000)  # type: ignore[arg-type]
    assert critical_matches(many, np.int64(1000), 1e-9) == critical_matches(2000, 1000, 1e-9)  # type: ignore[arg-type]


def test_no_match_and_all_matches() -> None:
    assert p_value(0, 2000, 10) == 1.0
    assert log10_p(0, 2000, 10) == 0.0
    assert p_value(20, 20, 3) == 2.0**-20
    assert p_value(1, 1, 10) == 1 / 9, "the null rate is 1/(C-1); one half would be the rate of another problem"


@given(cases())
def test_more_matches_are_more_surprising(case: tuple[int, int, int]) -> None:
    matches, queries, classes = case
    assert log10_p(matches, queries + 1, classes) >= log10_p(matches, queries, classes), "more tries, less surprise"
    assert log10_p(matches, queries, classes + 1) <= log10_p(matches, queries, classes), "more classes, more surprise"
    if matches:
        assert log10_p(matches, queries, classes) <= log10_p(matches - 1, queries, classes)
        assert tail(matches, queries, classes) < tail(matches - 1, queries, classes)


@pytest.mark.parametrize(("queries", "classes"), TABLE)
def test_published_thresholds(queries: int, classes: int) -> None:
    assert tuple(critical_matches(queries, classes, level) for level in LEVELS) == TABLE[queries, classes]


@given(st.integers(1, 80), st.integers(3, 200), st.floats(1e-12, 0.999))
def test_threshold_is_the_first_that_rejects(queries: int, classes: int, level: float) -> None:
    """At the threshold p <= level and one match fewer gives p > level: neither `>` for `>=` nor the reverse."""
    fewest = critical_matches(queries, classes, level)
    if fewest is None:
        assert tail(queries, queries, classes) > level
    else:
        assert 1 <= fewest <= queries
        assert tail(fewest, queries, classes) <= level < tail(fewest - 1, queries, classes)


def test_threshold_at_a_level_that_is_hit_exactly() -> None:
    assert critical_matches(10, 3, 2.0**-10) == 10
    assert critical_matches(10, 3, 2.0**-11) is None
    assert critical_matches(1, 10, 0.05) is None, "one query in ten classes has p = 1/9 at best"


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("classes", [3, 10, 100])
def test_false_positives_stay_within_the_level(classes: int, level: float) -> None:
    for queries in range(1, 41):
        wrong = sum(chance(k, queries, classes) for k in range(queries + 1) if p_value(k, queries, classes) <= level)
        assert wrong <= level


def detected(answers: Sequence[int | None], truth: Sequence[int], level: float) -> Fraction:
    """The share of all draws of the labels, in 4 classes, with which a fixed model is detected."""
    draws = list(itertools.product(*([c for c in range(4) if c != true] for true in truth)))
    matches = [sum(a == t for a, t in zip(answers, labels, strict=True)) for labels in draws]
    return Fraction(sum(p_value(m, len(truth), 4) <= level for m in matches), len(draws))


@pytest.mark.parametrize("level", [0.02, 0.05, 0.3, 0.5])
def test_no_independent_model_is_detected_too_often(level: float) -> None:
    """Every fixed model, right or wrong or without an answer on any query: what was left open counts as no match."""
    for answers in itertools.product((None, 0, 1, 2, 3), repeat=4):
        assert detected(answers, (0, 1, 2, 3), level) <= level


@pytest.mark.parametrize("level", [0.02, 0.05, 0.3, 0.5])
def test_duplicates_detect_nobody_too_often(level: float) -> None:
    """One image several times has one answer, but a label drawn anew each time."""
    for one, other in itertools.product((None, 0, 1, 2, 3), repeat=2):
        assert detected((one, one, one, one), (0, 0, 0, 0), level) <= level
        assert detected((one, one, other, other), (0, 0, 1, 1), level) <= level


def test_duplicates_with_one_label_would_detect_too_often() -> None:
    """Why the labels of duplicates are drawn anew: one draw for four copies is one query, not four."""
    draws = [(label,) * 4 for label in (1, 2, 3)]
    wrong = sum(p_value(sum(label == 1 for label in labels), 4, 4) <= 0.05 for labels in draws)
    assert Fraction(wrong, len(draws)) > 0.3


def test_queries_left_out_by_the_claimant_would_detect_too_often() -> None:
    """Why a query without an answer stays in the count: to drop those that did not match is to choose the result."""
    assert p_value(20, 100, 10) > 1e-3
    assert p_value(20, 20, 10) < 1e-19
    for matches, queries in itertools.product(range(30), range(30, 60)):
        assert p_value(matches, queries + 1, 10) >= p_value(matches, queries, 10), "silence never helps the claimant"


def hits(counts: Iterable[int], queries: int, rate: float) -> float:
    """The chance that the number of matches is among `counts`, at a match rate `rate`."""
    return math.fsum(math.comb(queries, k) * rate**k * (1 - rate) ** (queries - k) for k in counts)


@pytest.mark.parametrize("confidence", [0.5, 0.95])
def test_interval_covers_the_true_rate(confidence: float) -> None:
    ends = [clopper_pearson(k, 9, confidence) for k in range(10)]
    for rate in (percent / 100 for percent in range(1, 100)):
        covered = [k for k, (low, high) in enumerate(ends) if low <= rate <= high]
        assert hits(covered, 9, rate) >= confidence


@settings(deadline=None)
@given(st.integers(1, 50), st.data())
def test_interval_is_where_the_exact_tails_are_half_the_rest(queries: int, data: st.DataObject) -> None:
    matches = data.draw(st.integers(0, queries))
    low, high = clopper_pearson(matches, queries)
    assert 0 <= low <= matches / queries <= high <= 1
    if matches:
        assert hits(range(matches, queries + 1), queries, low) == pytest.approx(0.025, rel=1e-9)
    if matches < queries:
        assert hits(range(matches + 1), queries, high) == pytest.approx(0.025, rel=1e-9)


def test_interval_in_closed_form_at_the_ends() -> None:
    assert clopper_pearson(0, 10) == pytest.approx((0, 1 - 0.025**0.1))
    assert clopper_pearson(10, 10) == pytest.approx((0.025**0.1, 1))
    assert clopper_pearson(10, 10, confidence=0.9) == pytest.approx((0.05**0.1, 1))


@pytest.mark.parametrize(
    ("case", "fault"),
    [
        ((11, 10, 10), "11 matches are impossible; allowed: 0 to 10"),
        ((-1, 10, 10), "-1 matches are impossible"),
        ((0, 0, 10), "0 queries prove nothing"),
        ((5, 10, 2), "2 classes leave no wrong label to draw"),
    ],
)
def test_impossible_counts_are_refused(case: tuple[int, int, int], fault: str) -> None:
    for test in (p_value, log10_p):
        with pytest.raises(ValueError, match=fault):
            test(*case)


def test_other_impossible_questions_are_refused() -> None:
    for level in (0.0, 1.0, -0.1, math.nan):
        with pytest.raises(ValueError, match="must lie strictly between 0 and 1"):
            critical_matches(10, 10, level)
        with pytest.raises(ValueError, match="confidence"):
            clopper_pearson(1, 10, level)
    for queries in (0, -5):
        with pytest.raises(ValueError, match=f"{queries} queries prove nothing; at least 1 is needed"):
            critical_matches(queries, 10, 0.05)
    with pytest.raises(ValueError, match="2 classes"):
        critical_matches(10, 2, 0.05)
    with pytest.raises(ValueError, match="11 matches"):
        clopper_pearson(11, 10)
