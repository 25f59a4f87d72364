"""Power by scores against whole numbers, tries, and a search through every number of queries."""

from __future__ import annotations

import math
from collections import Counter
from functools import partial
from itertools import accumulate, pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mwm.stats.rank_sum import CellRank, RankSum, log_chance
from mwm.stats.score_power import (
    _Copy,
    _sums,
    _weights,
    average_for_scores,
    largest_sum,
    required_for_scores,
    score_power,
)
from mwm.stats.sequential import SequentialTest


def tilted(rank: float, classes: int) -> list[float]:
    """The chances of the ranks, by a search for the tilt of our own: ratios q between neighbours."""
    low, high = 0.0, 1.0
    for _ in range(200):
        q = (low + high) / 2
        weights = [q**k for k in range(classes - 1)]
        mean = sum(k * w for k, w in enumerate(weights)) / sum(weights)
        low, high = (q, high) if mean < rank * (classes - 2) else (low, q)
    return [w / sum(weights) for w in weights]


def throws(count: int, faces: int) -> list[int]:
    """In how many ways so many dice show each sum."""
    ways = [1]
    for _ in range(count):
        ways = [sum(ways[max(0, s - faces + 1) : s + 1]) for s in range(len(ways) + faces - 1)]
    return ways


def exact_power(queries: int, *, classes: int, level: float, rank: float) -> float:
    """Sum by sum: those whose p-value, doubled for two forms, is small enough, times the chance of each."""
    ways = throws(queries, classes - 1)
    below = accumulate(ways)
    proved = sum(2 * count <= level * (classes - 1) ** queries for count in below)
    chances = np.ones(1)
    for _ in range(queries):
        chances = np.convolve(chances, tilted(rank, classes))
    return float(chances[:proved].sum())


@settings(deadline=None, max_examples=40)
@given(st.integers(1, 25), st.integers(3, 20), st.floats(1e-9, 0.9), st.floats(0.01, 0.49))
def test_power_is_the_exact_sum(queries: int, classes: int, level: float, rank: float) -> None:
    expected = exact_power(queries, classes=classes, level=level, rank=rank)
    assert score_power(queries, classes=classes, level=level, rank=rank) == pytest.approx(expected, rel=1e-9, abs=1e-14)


@pytest.mark.parametrize("classes", [3, 10, 100])
@pytest.mark.parametrize("rank", [0.0, 0.05, 0.3, 0.5, 0.7, 1.0])
def test_ranks_have_the_mean_that_was_asked_for(classes: int, rank: float) -> None:
    weights = _weights(_Copy(rank, classes, 0.05).tilt, classes)
    assert weights.sum() == pytest.approx(1)
    assert weights @ np.arange(classes - 1) / (classes - 2) == pytest.approx(rank, abs=1e-12)
    likely = weights[weights > 1e-30]
    ratios = likely[1:] / likely[:-1]
    assert np.allclose(ratios, ratios[:1], rtol=1e-6), "of all with that mean the one of maximum entropy"


@pytest.mark.parametrize(("queries", "classes"), [(1, 10), (7, 3), (100, 10), (1000, 10), (30, 1000)])
@pytest.mark.parametrize("level", [0.4, 1e-3, 1e-9])
def test_the_largest_sum_that_proves_is_that_of_the_verdict(queries: int, classes: int, level: float) -> None:
    most = largest_sum(queries, classes=classes, level=level)
    patterns = Counter({(1,) * (classes - 1): queries})
    assert most == -1 or log_chance(2 * most, patterns) <= math.log(level) + 1e-9
    assert log_chance(2 * most + 2, patterns) > math.log(level)


def test_a_level_that_is_hit_exactly() -> None:
    assert largest_sum(3, classes=11, level=1e-3) == 0
    assert largest_sum(6, classes=11, level=1e-6) == 0
    assert largest_sum(2, classes=11, level=1e-3) == -1


def test_sums_are_a_convolution() -> None:
    for tilt, classes, count in ((0.5, 10, 30), (0.0, 3, 200), (-0.2, 5, 12)):
        first, chances = _sums(tilt, classes, count)
        expected = np.ones(1)
        for _ in range(count):
            expected = np.convolve(expected, _weights(tilt, classes))
        part = expected[first : first + len(chances)]
        assert np.allclose(chances[: len(part)], part, rtol=1e-9, atol=1e-14)
        assert expected.sum() - part.sum() < 1e-14


def test_power_of_an_independent_model_is_its_size() -> None:
    for queries in range(1, 300, 13):
        for level in (0.05, 1e-3):
            found = score_power(queries, classes=10, level=level, rank=0.5)
            assert found <= level / 2 * (1 + 1e-9)
            assert found > level / 5 or queries < 10


def test_a_copy_that_is_always_first_needs_what_the_level_needs() -> None:
    assert required_for_scores(0, classes=10, level=1e-3) == 4
    assert required_for_scores(0, classes=10, level=2 * 9.0**-5) == 5
    assert score_power(3, classes=10, level=1e-3, rank=0) == 0
    assert score_power(4, classes=10, level=1e-3, rank=0) == 1


@pytest.mark.parametrize(("rank", "classes"), [(0.1, 10), (0.3, 10), (0.4, 10), (0.3, 3), (0.25, 100)])
@pytest.mark.parametrize("level", [0.05, 1e-6])
def test_number_is_the_first_from_which_on_all_suffice(rank: float, classes: int, level: float) -> None:
    enough = required_for_scores(rank, classes=classes, level=level)
    assert enough is not None
    bound = _Copy(rank, classes, level).sufficient_bound(0.9)
    assert enough <= bound
    assert score_power(enough - 1, classes=classes, level=level, rank=rank) < 0.9
    for queries in [*range(enough, enough + 30), *range(enough + 30, bound + 100, 11)]:
        assert score_power(queries, classes=classes, level=level, rank=rank) >= 0.9


def test_more_queries_may_prove_less() -> None:
    chances = [score_power(n, classes=3, level=1e-3, rank=0.25) for n in range(10, 60)]
    assert any(later < earlier for earlier, later in pairwise(chances))


def test_no_number_suffices_for_what_an_independent_model_does() -> None:
    for rank in (0.5, 0.5 - 1e-7, 0.5 - 1e-13, 0.8, 1.0):
        assert required_for_scores(rank, classes=10, level=0.05) is None
        assert average_for_scores(rank, classes=10, level=0.05) is None


@pytest.mark.parametrize("rank", [0.0, 0.1, 0.3])
def test_mean_of_one_by_one_against_tries(rank: float) -> None:
    rng, lengths = np.random.default_rng(0), []
    weights = _weights(_Copy(rank, 10, 1e-3).tilt, 10)
    for _ in range(200):
        test = SequentialTest(10, 2)
        while test.p_value > 1e-3:
            test.add([CellRank(8, (9,)), CellRank(2 * int(rng.choice(9, p=weights)), (1,) * 9)])
        lengths.append(test.cells)
    error = float(np.std(lengths)) / math.sqrt(len(lengths))
    expected = average_for_scores(rank, classes=10, level=1e-3)
    assert expected == pytest.approx(np.mean(lengths), abs=4 * error + 1e-9)


def test_what_is_promised_is_what_verdicts_say() -> None:
    """A hundred copies, each with as many queries as prove nine of ten: judged by the product's p-value."""
    rank, queries = 0.2, required_for_scores(0.2, classes=10, level=1e-3)
    assert queries is not None
    weights, rng = _weights(_Copy(rank, 10, 1e-3).tilt, 10), np.random.default_rng(0)
    proved = 0
    for _ in range(200):
        ranks = rng.choice(9, queries, p=weights).tolist()
        proved += 2 * RankSum(tuple(CellRank(2 * one, (1,) * 9) for one in ranks)).p_value <= 1e-3
    assert abs(proved - 180) < 20


@pytest.mark.parametrize(
    ("how", "fault"),
    [
        ({"rank": -0.1}, "rank -0.1 is not allowed"),
        ({"rank": math.nan}, "rank nan is not allowed"),
        ({"classes": 2}, "2 classes leave no wrong label"),
        ({"level": 0.0}, "level 0.0 is not allowed"),
    ],
)
def test_mistakes_are_refused(how: dict[str, float], fault: str) -> None:
    plain: Any = {"rank": 0.2, "classes": 10, "level": 1e-3} | how
    for asked in (required_for_scores, average_for_scores, partial(score_power, 10)):
        with pytest.raises(ValueError, match=fault):
            asked(**plain)


def test_other_mistakes_are_refused() -> None:
    with pytest.raises(ValueError, match="power 1 is not allowed"):
        required_for_scores(0.2, classes=10, level=1e-3, power=1)
    with pytest.raises(ValueError, match="0 queries prove nothing"):
        score_power(0, classes=10, level=1e-3, rank=0.2)
