"""The benchmark of false positives in small: every test keeps its level, and one that would not is found out."""

from __future__ import annotations

import math
from collections import Counter
from itertools import accumulate

import numpy as np
import pytest

from mwm.stats.rank_sum import RankSum, rank_labels
from mwm.stats.sequential import SequentialTest
from tests.benchmarks import bystanders, false_positives
from tests.benchmarks.false_positives import CASES, LEVELS, TESTS, Keys, judged, measured, rate
from tests.benchmarks.forms import DOCTORED, FORMS, Asked, attainable, cumulative, doctored, ranked

N, CLASSES = 60, 10


def asked(seed: int, *, marked: float = 0.0) -> Asked:
    """A random suspect and key; its scores of secret labels are raised by `marked`."""
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, CLASSES, N)
    labels = (truth + rng.integers(1, CLASSES, N)) % CLASSES
    views = rng.normal(size=(N, 1, CLASSES)) + 0.3 * rng.normal(size=(N, 5, CLASSES))
    views[np.arange(N), :, truth] += 1
    views[np.arange(N), :, labels] += marked
    return Asked(labels, truth, views[:, 0], views, rng.normal(size=(N, CLASSES)))


def test_every_test_keeps_its_level() -> None:
    found = measured(models=8, keys_each=25, queries=40, rounds=99, epochs=4, processes=0)
    rates = found["rates"]
    assert rates.keys() == set(TESTS)
    for test, cases in rates.items():
        assert cases.keys() == set(CASES)
        for case, levels in cases.items():
            assert [one["of"] for one in levels.values()] == [8 * 25] * len(LEVELS)
            if (test, case) != ("empirical", "always wrong"):
                assert all(one["kept"] for one in levels.values()), (test, case, levels)
            if test in FORMS:
                for one in levels.values():
                    expected = one["of"] * one["size"]
                    assert abs(one["count"] - expected) <= 4 * math.sqrt(expected) + 2, (test, case, one)
    assert rates["labels"]["always wrong"]["0.05"]["count"], "a benchmark in which nothing happens shows nothing"
    assert found["made-up scores"]["largest factor"] <= 2


def test_a_level_that_is_broken_is_told() -> None:
    proven = np.zeros((4, 100), bool)
    proven[2, :30] = True
    found = rate(proven, 0.01)
    assert (found["count"], found["of"], found["worst"]) == (30, 400, 0.3)
    assert not found["kept"]
    assert rate(proven, 0.05)["kept"], "7.5 % of 400 may be chance at a level of 5 %"
    assert rate(proven[:2], 1e-3)["kept"]


def test_keys_of_a_model_are_its_own_and_the_same_again() -> None:
    one, again, other = (false_positives.keys(number, count=3, queries=20) for number in (0, 0, 1))
    assert one.labels.tolist() == again.labels.tolist()
    assert one.images.tolist() == again.images.tolist()
    assert not np.array_equal(one.labels, other.labels)
    assert not np.array_equal(one.labels[0], one.labels[1])
    assert (one.labels != one.truth).all(), "a label is the true one"


def test_each_image_of_a_key_is_in_its_place() -> None:
    """The views of a query are all places of its image: the middle one is the image of the source as it is."""
    sources = false_positives.shown()
    middle = sources[:, sources.shape[1] // 2]
    assert np.array_equal(middle, bystanders.grounds()[1].queries.images.numpy())
    assert len({image.tobytes() for image in sources[0]}) == sources.shape[1]


def test_ranks_are_those_of_each_form() -> None:
    one = asked(0)
    found = ranked(one)
    assert tuple(found) == FORMS
    assert found["scores"] == rank_labels(one.scores, one.labels, one.truth)
    assert found["labels"] == rank_labels(np.eye(CLASSES)[one.first], one.labels, one.truth)
    assert found["votes of views"] == rank_labels(np.eye(CLASSES)[one.views.argmax(2)].sum(1), one.labels, one.truth)
    assert {len(found[name]) for name in FORMS[:8]} == {N}
    assert {len(found[name]) for name in FORMS[8:]} == {len(np.unique(one.truth))}
    assert max(max(cell.ties) for cell in found["three best"]) >= 7, "what is not listed shares a score"
    assert any(len(set(cell.ties)) > 1 for cell in found["rounded scores"]), "rounding ties some and not all"


def test_always_wrong_is_never_the_true_class() -> None:
    one = asked(1).always_wrong()
    assert (one.first != one.truth).all()
    assert (one.views.argmax(2) != one.truth[:, None]).all()
    assert ranked(one)["scores"] == ranked(asked(1))["scores"], "ranks among the wrong classes stay"


@pytest.mark.parametrize("seed", range(5))
def test_size_and_p_value_in_another_way(seed: int) -> None:
    """The chances of sums by Fourier transforms and the p-values of the product agree; the size is the next one."""
    for ranks in ranked(asked(seed, marked=0.3)).values():
        below = cumulative(ranks)
        assert below[ranks.total] == pytest.approx(ranks.p_value, rel=1e-9, abs=1e-13)
        (size,) = attainable(ranks, [ranks.p_value * (1 + 1e-6)])
        assert size == pytest.approx(ranks.p_value, rel=1e-6, abs=1e-13)
        assert all(found <= level for found, level in zip(attainable(ranks, LEVELS), LEVELS, strict=True))


def test_size_by_hand() -> None:
    ranks = RankSum(tuple(rank_labels(np.eye(4)[[1, 1]], [1, 2], [0, 0])))
    ways = Counter(a + b for a in (0, 3, 3) for b in (0, 3, 3))
    chances = [count / 9 for count in accumulate(ways[total] for total in (0, 3, 6))]
    assert attainable(ranks, [0.1, 0.2, 0.56, 1]) == pytest.approx([0, *chances])


@pytest.mark.parametrize("how", DOCTORED)
@pytest.mark.parametrize("marked", [0.0, 2.5])
def test_made_up_scores_at_most_double_p(how: str, marked: float) -> None:
    """Beside honest labels: of an independent model, and of a copy, which is proved all the same."""
    for seed in range(20):
        one = asked(seed, marked=marked)
        made = doctored(how, one.scores)
        assert np.array_equal(made.argmax(1), one.first), "the labels stay honest"
        honest, offered = one.weigh(one.first).p_value, one.weigh(made).p_value
        assert offered <= min(1, 2 * honest)
        assert offered < 1e-6 or not marked


def test_what_is_measured_is_what_a_verdict_says() -> None:
    """On one key: the p-values of the decision and of both sequential tests, cell by cell."""
    chance, n = np.random.default_rng(0), 30
    truth = chance.integers(0, CLASSES, n)
    labels = (truth + chance.integers(1, CLASSES, n)) % CLASSES
    scores = chance.normal(size=(8, n, 1, CLASSES)).astype(np.float32)
    scores[2, np.arange(n), 0, labels] += 1
    own = Keys(np.arange(n)[None], labels[None], truth[None])
    for number in (1, 2):
        found = judged((number, own), scores=scores, rounds=9).p[0, :, 0]
        told = dict(zip(TESTS, found.tolist(), strict=True))
        by_labels, by_scores = (
            rank_labels(given, labels, truth)
            for given in (np.eye(CLASSES)[scores[number, :, 0].argmax(1)], scores[number, :, 0])
        )
        one_by_one = SequentialTest(CLASSES, 2)
        for ranks in zip(by_labels, by_scores, strict=True):
            one_by_one.add(ranks)
        assert told["decision"] == min(1, 2 * min(by_labels.p_value, by_scores.p_value))
        assert told["sequential, scores"] == one_by_one.p_value
        assert told["labels"] == by_labels.p_value
        assert told["Holm"] <= min(1, 5 * told["decision"])
