"""What the answers of a suspect are worth: every test on them, and the decision by the one that was fixed before."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from copy import copy
from dataclasses import asdict, dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from mwm.stats.binomial import log10_p, p_value
from mwm.stats.multiple_testing import holm_adjust
from mwm.stats.nonparametric import empirical_p_value, permutation_test, rank_test
from mwm.stats.sequential import SequentialTest
from mwm.verification.options import BINOMIAL, SEQUENTIAL
from mwm.verification.questions import OrderedQueries

PERMUTATION, RANK, EMPIRICAL = "permutation", "rank", "empirical"
PROVEN, NOT_PROVEN = "proven", "not proven"

Labels = NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class TestResult:
    """What one test says of the answers of a suspect.

    `log10_p` tells a p-value that is too small for a number. The comparison with null models says how many of them
    (`null_models`) matched on as many queries as the suspect (`as_many`).
    """

    __test__: ClassVar[bool] = False  # pytest takes every class of this name for a test

    p_value: float
    log10_p: float | None = None
    as_many: int | None = None
    null_models: int | None = None

    def to_dict(self) -> dict[str, Any]:
        """What it says, as a tree."""
        return {name: value for name, value in asdict(self).items() if value is not None}


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
) -> dict[str, TestResult | None]:
    """Every test of the `answers` (n) to the first queries that were asked; None for one that is not possible.

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
    return found


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
