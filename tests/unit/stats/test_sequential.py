"""The sequential test against its definition, every draw of the labels, and every way to stop."""

from __future__ import annotations

import copy
import itertools
import math
from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from mwm.stats.binomial import p_value
from mwm.stats.rank_sum import CellRank, RankSum, Ties, doubled_ranks, rank_labels
from mwm.stats.sequential import TILTS, SequentialTest
from tests.unit.stats.conftest import draws, share

LEVELS = (0.7, 0.5, 0.35, 0.2, 0.05)
FIRST = np.eye(4)


def ended(forms: Sequence[RankSum], classes: int) -> SequentialTest:
    test = SequentialTest(classes, len(forms))
    for ranks in zip(*forms, strict=True):
        test.add(ranks)
    return test


def e_value(forms: Sequence[RankSum], classes: int) -> float:
    """By its definition: the mean over forms and bets of the products, term by term."""
    products = []
    for form, tilt in itertools.product(forms, TILTS.tolist()):
        product = 1.0
        for cell in form:
            ranks = [rank for rank, size in zip(doubled_ranks(cell.ties), cell.ties, strict=True) for _ in range(size)]
            bets = [math.exp(-tilt * rank / (2 * (classes - 2))) for rank in ranks]
            product *= math.exp(-tilt * cell.doubled / (2 * (classes - 2))) / (sum(bets) / len(bets))
        products.append(product)
    return sum(products) / len(products)


def scored(seed: int, classes: int, cells: int, *, coarse: bool) -> NDArray[Any]:
    scores = np.random.default_rng(seed).normal(size=(cells, classes))
    return scores.round() if coarse else scores


def both(scores: NDArray[Any], labels: Sequence[int], truth: Sequence[int]) -> tuple[RankSum, RankSum]:
    first = np.eye(scores.shape[1])[scores.argmax(1)]
    return rank_labels(first, np.array(labels), truth), rank_labels(scores, np.array(labels), truth)


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("coarse", [False, True])
def test_e_value_is_that_of_the_definition(seed: int, coarse: bool) -> None:
    classes = 3 + seed
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, classes, 12)
    labels = (truth + rng.integers(1, classes, 12)) % classes
    label_ranks, score_ranks = both(scored(seed, classes, 12, coarse=coarse), labels.tolist(), truth.tolist())
    for forms in ([label_ranks], [score_ranks], [label_ranks, score_ranks]):
        lengths = [[form[:n] for form in forms] for n in range(13)]
        logs = [math.log(e_value(part, classes)) for part in lengths]
        test = ended(forms, classes)
        assert test.log_e == pytest.approx(logs[-1], rel=1e-12, abs=1e-13)
        assert test.highest == pytest.approx(max(0.0, *logs), rel=1e-12, abs=1e-13)
        assert test.p_value == pytest.approx(math.exp(-test.highest))
        assert test.log10_p == pytest.approx(math.log10(test.p_value), abs=1e-13)
        assert (test.cells, test.p_value <= math.exp(-test.log_e) * (1 + 1e-12)) == (12, True)


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("coarse", [False, True])
def test_mean_is_one_over_every_draw(seed: int, coarse: bool) -> None:
    """A fair bet: the mean e-value of any suspect is exactly 1, by labels, by scores and by both; and Ville's bound."""
    truth = (0, 1, 2, 0)
    scores = scored(seed, 4, 4, coarse=coarse)
    drawn = [both(scores, labels, truth) for labels in draws(truth, 4)]
    for forms in ([pair[:1] for pair in drawn], [pair[1:] for pair in drawn], drawn):
        tests = [ended(one, 4) for one in forms]
        assert math.fsum(math.exp(test.log_e) for test in tests) / len(tests) == pytest.approx(1, rel=1e-12)
        for level in LEVELS:
            assert share([test.p_value for test in tests], level) <= level


def test_each_step_is_a_fair_bet() -> None:
    """Whatever came before: the mean of the next e-value over the next label is the one before."""
    test = SequentialTest(5, 2)
    rng = np.random.default_rng(0)
    for _ in range(20):
        ties = [random_ties(rng, 5) for _ in range(2)]
        further = []
        for place in range(4):
            one = copy.copy(test)
            one.add([CellRank(nth(form, place), form) for form in ties])
            further.append(one)
        assert np.mean([math.exp(one.log_e) for one in further]) == pytest.approx(math.exp(test.log_e), rel=1e-12)
        test = further[int(rng.integers(4))]


def random_ties(rng: np.random.Generator, classes: int) -> Ties:
    apart = np.flatnonzero(rng.random(classes - 2) < 0.5) + 1
    return tuple(np.diff([0, *apart, classes - 1]).tolist())


def nth(ties: Ties, place: int) -> int:
    """The doubled mid-rank of the wrong class at a place."""
    return [rank for rank, size in zip(doubled_ranks(ties), ties, strict=True) for _ in range(size)][place]


@cache
def smallest(answers: tuple[int, ...], labels: tuple[int, ...], truth: tuple[int, ...]) -> float:
    first = np.vstack([np.eye(3), np.zeros(3)])[list(answers)]
    return ended([rank_labels(first, np.array(labels), truth)], 3).p_value


def test_no_fixed_suspect_is_a_false_positive_too_often() -> None:
    """Any answer, or none, to each of 4 queries in 3 classes, against every draw of the labels, stopped at its best."""
    truth = (0, 1, 2, 0)
    for answers in itertools.product((0, 1, 2, 3), repeat=4):
        found = [smallest(answers, labels, truth) for labels in draws(truth, 3)]
        for level in LEVELS:
            assert share(found, level) <= level


@cache
def simulated(classes: int, *, runs: int, cells: int, seed: int) -> NDArray[Any]:
    """The highest e-value on the way of suspects that answer wrongly, by labels and scores, labels drawn at random."""
    rng = np.random.default_rng(seed)
    ranks = rng.integers(0, classes - 1, (runs, cells))
    units = classes - 2
    forms = []
    for ties, values in (((1, classes - 2), np.where(ranks > 0, (classes - 1) / 2, 0)), ((1,) * (classes - 1), ranks)):
        every = np.array([*doubled_ranks(ties)]) / 2
        means = np.array([np.exp(-t * every / units) @ ties / sum(ties) for t in TILTS])
        forms.append(np.cumsum(-values[..., None] / units * TILTS - np.log(means), axis=1))
    e = np.mean([np.exp(form).mean(-1) for form in forms], axis=0)
    found: NDArray[Any] = e.max(1)
    return found


@pytest.mark.parametrize("level", [0.2, 0.05, 0.01])
def test_the_level_is_kept_by_looking_after_every_cell(level: float) -> None:
    """Ville's bound in 10,000 runs of 150 cells: kept, and not by detecting nobody."""
    highest = simulated(10, runs=10_000, cells=150, seed=1)
    rate = (highest >= 1 / level).mean()
    assert level / 10 < rate <= level + 3 * math.sqrt(level / 10_000)


def test_what_is_simulated_is_the_test() -> None:
    highest = simulated(10, runs=1, cells=150, seed=1)
    ranks = np.random.default_rng(1).integers(0, 9, 150).tolist()
    labels = [CellRank(9 if rank else 0, (1, 8)) for rank in ranks]
    scores = [CellRank(2 * rank, (1,) * 9) for rank in ranks]
    test = ended([RankSum(tuple(labels)), RankSum(tuple(scores))], 10)
    assert test.highest == pytest.approx(max(0, math.log(highest[0])), rel=1e-9)


def test_repeated_exact_tests_would_not_keep_the_level() -> None:
    """What the sequential test is for: to look at the exact p-value after each wrong answer detects too many."""
    null, level = 1 / 9, 0.05
    alive, detected = np.ones(1), 0.0
    for n in range(1, 151):
        alive = np.convolve(alive, (1 - null, null))
        ends = np.array([p_value(k, n, 10) <= level for k in range(n + 1)])
        detected += alive[ends].sum()
        alive[ends] = 0
    assert detected > 2 * level


def test_answers_that_are_right_or_missing_change_nothing() -> None:
    test = SequentialTest(10, 2)
    test.add([CellRank(8, (9,)), CellRank(8, (9,))])
    assert (test.cells, test.log_e, test.p_value) == (1, 0.0, 1.0)


@pytest.mark.parametrize("forms", [1, 2])
def test_the_best_answer_is_the_best(forms: int) -> None:
    """No cell raises the e-value more than that of a perfect copy, whatever its ties."""
    best = SequentialTest(6, forms)
    best.add_best()
    for seed in range(40):
        other = SequentialTest(6, forms)
        other.add([CellRank(nth(ties, 0), ties) for ties in [random_ties(np.random.default_rng(seed), 6)] * forms])
        assert other.log_e <= best.log_e + 1e-12


def test_long_keys_neither_overflow_nor_underflow() -> None:
    copied, independent = SequentialTest(1000, 2), SequentialTest(10)
    for _ in range(2000):
        copied.add_best()
        independent.add([CellRank(16, (1,) * 9)])
    assert copied.p_value == 0
    assert -2000 * math.log10(999) < copied.log10_p < -0.9 * 2000 * math.log10(999)
    assert (independent.p_value, independent.log10_p) == (1.0, 0.0)
    assert independent.log_e < -500


def test_too_few_classes_are_refused() -> None:
    with pytest.raises(ValueError, match="2 classes"):
        SequentialTest(2)
