"""What the answers of a suspect are worth: every test on them, and the decision by the one that was fixed before."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from copy import copy

import numpy as np
from numpy.typing import NDArray

from mwm.stats.binomial import log10_p, p_value
from mwm.stats.multiple_testing import holm_adjust
from mwm.stats.nonparametric import empirical_p_value, permutation_test, rank_test
from mwm.stats.sequential import SequentialTest
from mwm.verification.options import BINOMIAL, SEQUENTIAL
from mwm.verification.questions import OrderedQueries
from mwm.verification.verdict import NOT_PROVEN, PROVEN, TestResult
from mwm.watermarks.queries import Null

PERMUTATION, RANK, EMPIRICAL = "permutation", "rank", "empirical"
VALID: dict[Null, tuple[str, ...]] = {
    "uniform_wrong_labels": (BINOMIAL, SEQUENTIAL, PERMUTATION, RANK, EMPIRICAL),
    "exchangeable": (PERMUTATION, EMPIRICAL),
    "null_models": (EMPIRICAL,),
}
"""The tests that hold for labels of a kind; that of a comparison with null models decides nothing."""

Labels = NDArray[np.int64]


def deciding_test(null: Null, *, sequential: bool) -> str:
    """The test that decides for labels of a kind; ValueError if none does, or not one after another."""
    if EMPIRICAL in VALID[null][:1]:
        raise ValueError("key: its labels allow no exact test, and a comparison with null models decides nothing")
    if sequential and SEQUENTIAL not in VALID[null]:
        raise ValueError("sequential: is not allowed for this key: its labels are not uniform over the wrong classes")
    return SEQUENTIAL if sequential else VALID[null][0]


def matches_to_decide(test: SequentialTest, left: int, level: float) -> int:
    """How many matches in a row would decide a sequential test at `level`, from where it stands.

    0 if it is decided, or if even `left` matches, all that can still come, would not decide it.
    """
    hopeful = copy(test)
    for count in range(left + 1):
        if hopeful.p_value <= level:
            return count
        hopeful.add(True)
    return 0


def run_tests(
    answers: Labels,
    asked: OrderedQueries,
    *,
    scores: NDArray[np.float64] | None = None,
    null: Sequence[int] | None = None,
    labels_are: Null = "uniform_wrong_labels",
) -> dict[str, TestResult | None]:
    """Every test of the `answers` (n) to the first queries that were asked; None for one that is not possible.

    Nor is one that does not hold for labels of that kind.

    `scores` (n C) are what the answers came from, equal ones where none came; `null` the matches of null models.
    """
    labels, truth, classes = asked.labels[: len(answers)], asked.truth[: len(answers)], asked.classes
    matched = answers == labels
    matches, count = int(matched.sum()), len(matched)
    sequential, highest = _sequence(matched, classes)
    found: dict[str, TestResult | None] = {
        BINOMIAL: TestResult(p_value=p_value(matches, count, classes), log10_p=log10_p(matches, count, classes)),
        SEQUENTIAL: TestResult(p_value=sequential.p_value, log10_p=0.0 - highest),
        PERMUTATION: TestResult(p_value=permutation_test(answers, labels, truth)),
        RANK: None if scores is None else TestResult(p_value=rank_test(scores, labels, truth)),
        EMPIRICAL: None,
    }
    if null is not None:
        found[EMPIRICAL] = TestResult(
            p_value=empirical_p_value(matches, null),
            as_many=sum(independent >= matches for independent in null),
            null_models=len(null),
        )
    return {name: test if name in VALID[labels_are] else None for name, test in found.items()}


def _sequence(matched: Iterable[bool], classes: int) -> tuple[SequentialTest, float]:
    """The sequential test after these answers, and the highest log10 e-value on the way, at least 0."""
    test, highest = SequentialTest(classes), 0.0
    for match in matched:
        test.add(bool(match))
        highest = max(highest, test.log10_e)
    return test, highest


def decide(p_values: Sequence[float], level: float) -> list[tuple[float, str]]:
    """For each suspect its p-value adjusted for their number (Holm, 1979), and the decision on it."""
    return [(p, PROVEN if p <= level else NOT_PROVEN) for p in holm_adjust(p_values)]
