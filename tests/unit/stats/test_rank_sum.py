"""The exact test of ranks against whole numbers, closed forms and every draw of the labels."""

from __future__ import annotations

import itertools
import math
import time
from collections import Counter
from collections.abc import Sequence
from decimal import Decimal, localcontext
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from mwm.stats import binomial, rank_sum
from mwm.stats.rank_sum import CellRank, RankSum, Ties, bonferroni, doubled_ranks, log_chance, rank_labels
from tests.unit.stats.conftest import draws, share

LEVELS = (0.5, 0.2, 0.05, 1e-3)
Array = NDArray[Any]


def ways(patterns: Counter[Ties]) -> list[int]:
    """How many of all draws of labels give each sum of doubled ranks, counted out in whole numbers."""
    found = [1]
    for ties, count in patterns.items():
        face = [*zip(doubled_ranks(ties), ties, strict=True)]
        for _ in range(count):
            further = [0] * (len(found) + face[-1][0])
            for total, before in enumerate(found):
                for value, size in face:
                    further[total + value] += before * size
            found = further
    return found


def throws(patterns: Counter[Ties]) -> int:
    return math.prod(sum(ties) ** count for ties, count in patterns.items())


def ln(p: Fraction) -> float:
    with localcontext(prec=60, Emin=-(10**6)):
        return float((Decimal(p.numerator) / Decimal(p.denominator)).ln())


def drawn_patterns(rng: np.random.Generator, count: int, classes: int) -> Counter[Ties]:
    """So many cells with up to four patterns of ties: from all classes apart to all alike."""
    kinds = []
    for _ in range(rng.integers(1, 5)):
        apart = np.flatnonzero(rng.random(classes - 2) < rng.choice([0, 0.3, 0.7, 1])) + 1
        kinds.append(tuple(np.diff([0, *apart, classes - 1]).tolist()))
    return Counter(kinds[place] for place in rng.integers(0, len(kinds), count))


def case(seed: int, *, cells: int, classes: int, kind: str) -> tuple[Array, Array, Array]:
    """Scores, labels and truth of a random suspect: all apart, rounded, labels alone, the best three, votes."""
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, classes, cells)
    labels = (truth + rng.integers(1, classes, cells)) % classes
    scores = rng.normal(size=(cells, classes))
    scores[np.arange(cells), labels] += rng.choice([0, 1])
    scores[np.arange(cells), truth] += 1
    if kind == "rounded":
        scores = scores.round()
    elif kind == "labels":
        scores = np.eye(classes)[scores.argmax(1)]
    elif kind == "three":
        scores = np.where(scores >= np.sort(scores, 1)[:, -3:][:, :1], scores, -np.inf)
    elif kind == "votes":
        scores = rng.multinomial(5, np.full(classes, 1 / classes), cells).astype(float)
    return scores, labels, truth


KINDS = ("apart", "rounded", "labels", "three", "votes")


def mid_ranks(scores: Array, labels: Array, truth: Array) -> list[int]:
    """The doubled mid-rank of each label, by the words of the definition."""
    found = []
    for row, label, own in zip(scores, labels, truth, strict=True):
        wrong = [c for c in range(len(row)) if c != own]
        found.append(2 * sum(row[c] > row[label] for c in wrong) + sum(row[c] == row[label] for c in wrong) - 1)
    return found


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("seed", range(6))
def test_ranks_and_p_are_those_of_the_definition(kind: str, seed: int) -> None:
    """Every draw of the labels, ranked word by word: the share of those with as small a sum."""
    classes = 3 + seed % 3
    scores, labels, truth = case(seed, cells=4, classes=classes, kind=kind)
    found = rank_labels(scores, labels, truth)
    assert [cell.doubled for cell in found] == mid_ranks(scores, labels, truth)
    sums = [sum(mid_ranks(scores, np.array(one), truth)) for one in draws(truth.tolist(), classes)]
    exact = sum(total <= found.total for total in sums) / len(sums)
    assert found.p_value == pytest.approx(exact, rel=1e-12)
    assert sum(sums) / len(sums) == pytest.approx(4 * (classes - 2)), "by chance each rank is in the middle"


@pytest.mark.parametrize("seed", range(40))
def test_p_is_exact(seed: int) -> None:
    """Against whole numbers, up to 300 cells and 20 classes, over the whole range of sums."""
    rng = np.random.default_rng(seed)
    cells = int(rng.integers(1, 301 if seed % 10 == 0 else 60))
    patterns = drawn_patterns(rng, cells, int(rng.integers(3, 21)))
    counts = ways(patterns)
    possible = [total for total, count in enumerate(counts) if count]
    below, all_draws = [*itertools.accumulate(counts)], throws(patterns)
    for total in {*possible[:2], *rng.choice(possible, 8), possible[-1]}:
        exact = Fraction(below[total], all_draws)
        found = log_chance(int(total), patterns)
        assert found == pytest.approx(ln(exact), rel=1e-12, abs=1e-12), "the logarithm's error is the relative one of p"


@pytest.mark.parametrize("kind", KINDS)
def test_logarithm_and_p_agree_to_twelve_digits(kind: str) -> None:
    for seed in range(10):
        found = rank_labels(*case(seed, cells=40, classes=10, kind=kind))
        patterns = Counter(cell.ties for cell in found)
        exact = Fraction(sum(ways(patterns)[: found.total + 1]), throws(patterns))
        assert found.p_value == pytest.approx(float(exact), rel=1e-12, abs=0)
        assert found.log10_p == pytest.approx(ln(exact) / math.log(10), rel=1e-12, abs=1e-13)


@pytest.mark.parametrize("seed", range(30))
def test_the_bound_is_above_and_close(seed: int) -> None:
    """Chernoff's bound: never below, and no more above than a sum of so many cells allows (Bahadur and Rao, 1960)."""
    rng = np.random.default_rng(100 + seed)
    cells = int(rng.integers(30, 200))
    patterns = drawn_patterns(rng, cells, 12)
    spread = math.sqrt(sum(n * float(np.var([*doubled_ranks(t)])) for t, n in patterns.items())) + 1
    counts = ways(patterns)
    middle = round(sum(total * count for total, count in enumerate(counts)) / sum(counts))
    total = max(0, middle - int(spread * rng.uniform(0, 5)))
    exact = log_chance(total, patterns)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rank_sum, "EXACT_SPAN", -1)
        bound = log_chance(total, patterns)
    assert exact <= bound <= 0
    if exact > -math.inf:
        assert bound - exact < 4 + 1e-3 * abs(exact)


def test_a_thousand_classes_and_cells_are_bounded_in_no_time() -> None:
    scores, labels, truth = case(0, cells=1000, classes=1000, kind="apart")
    began = time.process_time()
    by_chance = rank_labels(scores + np.eye(1000)[labels] * -1, labels, truth)
    assert by_chance.p_value > 1e-3
    held = rank_labels(scores + np.eye(1000)[labels], labels, truth)
    assert held.log10_p < -30
    assert time.process_time() - began < 5, "a tenth of a second each on a free machine"


@pytest.mark.parametrize(("ties", "last", "count"), [((1,) * 9, 16, math.comb(1008, 8)), ((1, 8), 9, 8001)])
def test_nothing_underflows(ties: Ties, last: int, count: int) -> None:
    """A thousand cells, all first or all but one: in one way, or in as many as there are sums up to that rank."""
    first = RankSum((CellRank(0, ties),) * 1000)
    assert first.p_value == 0
    assert first.log10_p == pytest.approx(-1000 * math.log10(9), rel=1e-12)
    nearly = RankSum((*first.cells[1:], CellRank(last, ties)))
    assert nearly.log10_p == pytest.approx(math.log10(count) - 1000 * math.log10(9), rel=1e-12)


def test_cells_whose_best_classes_are_many_do_not_underflow() -> None:
    """The best mid-rank is far from 0, and the label has it in every cell: (998 / 999)^100."""
    found = RankSum((CellRank(997, (998, 1)),) * 100)
    assert found.log_p == pytest.approx(100 * math.log(998 / 999), rel=1e-12)


@pytest.mark.parametrize("classes", [3, 11, 101])
def test_p_hits_a_level_that_it_equals(classes: int) -> None:
    """3 first ranks among 10 wrong classes are 1e-3: rounding must not lift them above."""
    for count in (1, 2, 3, 6, 9, 20):
        for ties in ((1, classes - 2), (1,) * (classes - 1)):
            found = RankSum((CellRank(0, ties),) * count)
            assert found.p_value <= float(f"{(classes - 1.0) ** -count:.15e}")
            assert found.log10_p <= math.log10((classes - 1.0) ** -count) + 1e-13


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 2**32 - 1), st.integers(1, 120), st.integers(3, 20))
def test_labels_of_images_are_binomial_among_the_wrong(seed: int, cells: int, classes: int) -> None:
    scores, labels, truth = case(seed, cells=cells, classes=classes, kind="labels")
    answers = scores.argmax(1)
    wrong, matches = int((answers != truth).sum()), int((answers == labels).sum())
    found = rank_labels(scores, labels, truth)
    assert found.p_value == pytest.approx(binomial.p_value(matches, wrong, classes) if wrong else 1.0, rel=1e-11)


def dice(total: int, count: int, faces: int) -> Fraction:
    """The chance that so many dice, numbered from 0, show `total` at most, by inclusion and exclusion (de Moivre)."""
    terms = (
        (-1) ** j * math.comb(count, j) * math.comb(total - j * faces + count, count)
        for j in range(min(count, total // faces) + 1)
    )
    return Fraction(sum(terms), faces**count)


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 2**32 - 1), st.integers(1, 120), st.integers(3, 20))
def test_scores_without_ties_are_the_classic_rank_sum(seed: int, cells: int, classes: int) -> None:
    found = rank_labels(*case(seed, cells=cells, classes=classes, kind="apart"))
    assert found.total % 2 == 0
    assert found.p_value == pytest.approx(float(dice(found.total // 2, cells, classes - 1)), rel=1e-11)


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 2**32 - 1), st.sampled_from(KINDS))
def test_only_the_order_of_the_scores_counts(seed: int, kind: str) -> None:
    scores, labels, truth = case(seed, cells=20, classes=7, kind=kind)
    scale, shift = np.random.default_rng(seed).uniform(0.5, 3, (2, 20, 1))
    found = rank_labels(scores, labels, truth)
    for changed in (scores * scale + shift, np.arctan(scores), np.exp(scores)):
        assert rank_labels(changed, labels, truth) == found
    scores[np.arange(20), truth] = np.random.default_rng(seed).normal(size=20)
    assert rank_labels(scores, labels, truth) == found, "the true class does not count"


def test_cells_without_an_answer_tell_nothing() -> None:
    scores, labels, truth = case(3, cells=30, classes=10, kind="apart")
    scores[20:] = 0.25
    assert rank_labels(scores, labels, truth).p_value == rank_labels(scores[:20], labels[:20], truth[:20]).p_value
    nothing = rank_labels(np.full((30, 10), -np.inf), labels, truth)
    assert (nothing.p_value, nothing.log10_p, nothing.mean) == (1.0, 0.0, 0.5)
    assert RankSum(()).p_value == 1


def test_a_higher_rank_is_less_likely() -> None:
    patterns = drawn_patterns(np.random.default_rng(5), 30, 9)
    found = [log_chance(total, patterns) for total in range(0, 400, 3)]
    assert found == sorted(found)
    assert log_chance(-1, patterns) == -math.inf


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("seed", range(4))
def test_no_fixed_suspect_is_a_false_positive_too_often(kind: str, seed: int) -> None:
    """Against every draw of the labels: at most the level, and at each attainable p exactly that share."""
    scores, _, truth = case(seed, cells=4, classes=4, kind=kind)
    found = [rank_labels(scores, np.array(one), truth).p_value for one in draws(truth.tolist(), 4)]
    for level in LEVELS:
        assert share(found, level) <= level
    for p in set(found):
        assert float(share(found, p)) == pytest.approx(p, rel=1e-12)


def test_mean_is_a_share_of_the_largest_rank() -> None:
    truth, labels = np.zeros(5, int), np.array([1, 2, 3, 1, 2])
    scores = np.eye(4)[labels]
    assert rank_labels(scores, labels, truth).mean == 0
    assert rank_labels(np.zeros((5, 4)), labels, truth).mean == 0.5
    assert rank_labels(-np.arange(4.0) * np.ones((5, 1)), np.full(5, 3), truth).mean == 1


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 2**32 - 1), st.sampled_from(KINDS), st.integers(3, 20))
def test_what_is_packed_comes_back(seed: int, kind: str, classes: int) -> None:
    found = rank_labels(*case(seed, cells=12, classes=classes, kind=kind))
    assert RankSum.unpack(found.pack(), classes) == found
    assert RankSum.unpack("", classes) == RankSum(())


def test_parts_are_rank_sums_too() -> None:
    scores, labels, truth = case(1, cells=12, classes=10, kind="rounded")
    found = rank_labels(scores, labels, truth)
    assert len(found) == 12
    assert found[3] == found.cells[3]
    assert found[:5] == rank_labels(scores[:5], labels[:5], truth[:5])


def test_two_tests_of_one_suspect_cost_a_factor() -> None:
    assert bonferroni([0.25]) == 0.25
    assert bonferroni([0.25, 0.01]) == 0.02
    assert bonferroni(iter([0.8, 0.7])) == 1.0


@pytest.mark.parametrize(
    ("scores", "labels", "truth", "fault"),
    [
        ([[0, 1]], [1], [0], r"scores of shape \(1, 2\) are not allowed"),
        ([], [], [], "scores of shape"),
        ([[0.0, 1.0, math.nan], [0.0, 1.0, 2.0]], [1, 1], [0, 0], "NaN among the scores of 1 of 2 cells"),
        ([[0, 1, 2]], [3], [0], "labels hold 3; allowed: 0 to 2"),
        ([[0, 1, 2]], [1], [-1], "truth hold -1; allowed: 0 to 2"),
        ([[0, 1, 2]], [1, 2], [0], r"labels are int64 \(2,\); allowed: integers \(1,\)"),
        ([[0, 1, 2]], [1.0], [0], r"labels are float64 \(1,\)"),
        ([[0, 1, 2]], [1], [1], "label 1 is the true one"),
    ],
)
def test_what_does_not_fit_is_refused(scores: Any, labels: Sequence[int], truth: Sequence[int], fault: str) -> None:
    with pytest.raises(ValueError, match=fault):
        rank_labels(scores, labels, truth)
