"""What the answers of a suspect are worth: every test on them, and the decision by the one that was fixed before."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from copy import copy
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mwm.stats.binomial import log10_p, p_value
from mwm.stats.multiple_testing import holm_adjust
from mwm.stats.nonparametric import empirical_p_value, permutation_test, rank_test
from mwm.stats.sequential import SequentialTest
from mwm.verification.questions import OrderedQueries

BINOMIAL, SEQUENTIAL = "binomial", "sequential"
PROVEN, NOT_PROVEN = "owned", "not shown"

Labels = NDArray[np.int64]
Tree = dict[str, Any]


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
) -> Tree:
    """Every test of the `answers` (n) to the first queries that were asked; None for one that is not possible.

    `scores` (n C) are what the answers came from, equal ones where none came; `null` the matches of innocents.
    """
    labels, truth, classes = asked.labels[: len(answers)], asked.truth[: len(answers)], asked.classes
    matched = answers == labels
    matches, count = int(matched.sum()), len(matched)
    sequential, highest = _sequence(matched, classes)
    found: Tree = {
        BINOMIAL: {"p_value": p_value(matches, count, classes), "log10_p": log10_p(matches, count, classes)},
        SEQUENTIAL: {"p_value": sequential.p_value, "log10_p": 0.0 - highest},
        "permutation": {"p_value": permutation_test(answers, labels, truth)},
        "rank": None,
        "empirical": None,
    }
    if scores is not None:
        found["rank"] = {"p_value": rank_test(scores, labels, truth)}
    if null is not None:
        as_many = sum(innocent >= matches for innocent in null)
        found["empirical"] = {"p_value": empirical_p_value(matches, null), "as_many": as_many, "innocents": len(null)}
    return found


def _sequence(matched: Iterable[bool], classes: int) -> tuple[SequentialTest, float]:
    """The sequential test after these answers, and the highest log10 e-value on the way, at least 0."""
    test, highest = SequentialTest(classes), 0.0
    for match in matched:
        test.add(bool(match))
        highest = max(highest, test.log10_e)
    return test, highest


def decide(findings: Sequence[Tree], test: str, level: float) -> None:
    """Give each finding its p value by `test`, the one adjusted for their number (Holm, 1979), and its decision."""
    adjusted = holm_adjust([finding["tests"][test]["p_value"] for finding in findings])
    for finding, p in zip(findings, adjusted, strict=True):
        finding.update(finding["tests"][test])
        finding.update(adjusted_p_value=p, decision=PROVEN if p <= level else NOT_PROVEN)
