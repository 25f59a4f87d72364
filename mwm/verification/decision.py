"""What the answers of a suspect are worth: every test on them, and the decision by the one that was fixed before."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from copy import copy
from itertools import cycle, islice
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mwm.stats import binomial
from mwm.stats.multiple_testing import holm_adjust
from mwm.stats.nonparametric import empirical_p_value, permutation_test
from mwm.stats.rank_sum import CellRank, RankSum
from mwm.stats.sequential import SequentialTest
from mwm.verification.options import PERMUTATION, RANK_SUM, SEQUENTIAL
from mwm.verification.querying.order import OrderedQueries
from mwm.verification.verdict import ALL_ASKED, DECIDED, INCONCLUSIVE, NOT_PROVEN, OUT_OF_REACH, PROVEN, TestResult
from mwm.watermarks.evidence import Evidence
from mwm.watermarks.queries import Null

UNCONTROLLED, UNCONDITIONAL, EMPIRICAL = "uncontrolled", "unconditional", "empirical"
VALID: dict[Null, tuple[str, ...]] = {
    "uniform_wrong_labels": (RANK_SUM, SEQUENTIAL, UNCONTROLLED, UNCONDITIONAL, PERMUTATION, EMPIRICAL),
    "exchangeable": (PERMUTATION, EMPIRICAL),
    "null_models": (EMPIRICAL,),
}
"""The tests that hold for labels of a kind; that of a comparison with null models decides nothing."""

MOST_REPEATS, HINT = 10, 0.05
"""How often answers are repeated at most to guess how many more would decide, and their largest p-value for that."""

Labels = NDArray[np.int64]


def deciding_test(null: Null, *, sequential: bool) -> str:
    """The test that decides for labels of a kind; ValueError if none does, or not one after another."""
    if EMPIRICAL in VALID[null][:1]:
        reason = "its labels were not drawn uniformly from the wrong classes, so there is no exact p-value"
        raise ValueError(f"key: {reason}; a comparison with null models decides nothing")
    if sequential and SEQUENTIAL not in VALID[null]:
        raise ValueError("sequential: is not allowed for this key: its labels are not uniform over the wrong classes")
    return SEQUENTIAL if sequential else VALID[null][0]


def best_p_value(test: str, asked: OrderedQueries) -> float:
    """The p-value of answers by which every secret label comes first, whichever form they have.

    They are scores without ties here. Labels are the stronger form: they take the level for themselves, and where no
    class stands out but the first, the sequential test gains most.
    """
    if test == PERMUTATION:
        return permutation_test(asked.labels, asked.labels, asked.truth)
    labels, scores = CellRank(0, (1, asked.classes - 2)), CellRank(0, (1,) * (asked.classes - 1))
    best = Evidence(*(RankSum((one,) * len(asked.cells)) for one in (labels, scores)))
    return best.p_value if test == RANK_SUM else best.sequential(asked.classes).p_value


def cells_to_decide(test: SequentialTest, left: int, level: float) -> int:
    """How many cells, answered as a perfect copy does, would decide a sequential test at `level` from where it stands.

    No answers decide it sooner. 0 if it is decided, or if even `left` cells, all that can still come, would not.
    """
    hopeful = copy(test)
    for count in range(left + 1):
        if hopeful.p_value <= level:
            return count
        hopeful.add_best()
    return 0


def cells_like_these(evidence: Evidence, classes: int, level: float) -> int | None:
    """About how many more cells would decide the sequential test at `level`, if they were answered like those so far.

    They come again in their order, up to `MOST_REPEATS` times; None if they would not decide even then, or if chance
    explains them well: then it would be chance that comes again. A guess from few answers for those who plan; it
    decides nothing.
    """
    if evidence.p_value > HINT:
        return None
    test, asked = evidence.sequential(classes), len(evidence.labels)
    for count, ranks in enumerate(islice(cycle(zip(*evidence.forms, strict=True)), MOST_REPEATS * asked), start=1):
        test.add(ranks)
        if test.p_value <= level:
            return count
    return None


def why_stopped(evidence: Evidence, asked: OrderedQueries, *, planned: int, level: float) -> dict[str, Any]:
    """Why the sequential test stopped after all that was `asked`, of so many cells `planned`, and what it would need.

    These are the fields `stopped` and `more` of a result.
    """
    if evidence.sequential(asked.classes).p_value <= level:
        return {"stopped": DECIDED}
    stopped = ALL_ASKED if len(asked.cells) == planned else OUT_OF_REACH
    return {"stopped": stopped, "more": cells_like_these(evidence, asked.classes, level)}


def run_tests(
    evidence: Evidence,
    choices: Labels,
    asked: OrderedQueries,
    *,
    uncontrolled: Evidence | None = None,
    null: Sequence[int] | None = None,
    labels_are: Null = "uniform_wrong_labels",
) -> dict[str, TestResult | None]:
    """Every test of the answers to all that was `asked`; None for one that is not possible, or does not hold.

    `choices` (n) are the classes for which the cells were taken. If answers of a control were subtracted, the evidence
    is `uncontrolled` without that. `null` are the matches of null models.
    """
    matches, count, classes = int((choices == asked.labels).sum()), len(choices), asked.classes
    in_order = evidence.sequential(classes)
    found: dict[str, TestResult | None] = {
        RANK_SUM: _ranked(evidence),
        SEQUENTIAL: TestResult(p_value=in_order.p_value, log10_p=in_order.log10_p),
        UNCONTROLLED: None if uncontrolled is None else _ranked(uncontrolled),
        UNCONDITIONAL: TestResult(
            p_value=binomial.p_value(matches, count, classes), log10_p=binomial.log10_p(matches, count, classes)
        ),
        PERMUTATION: TestResult(p_value=permutation_test(choices, asked.labels, asked.truth)),
        EMPIRICAL: None,
    }
    if null is not None:
        found[EMPIRICAL] = TestResult(
            p_value=empirical_p_value(matches, null),
            as_many=sum(independent >= matches for independent in null),
            null_models=len(null),
        )
    return {name: test if name in VALID[labels_are] else None for name, test in found.items()}


def _ranked(evidence: Evidence) -> TestResult:
    return TestResult(p_value=evidence.p_value, log10_p=evidence.log10_p)


def decide(p_values: Sequence[float], level: float) -> list[tuple[float, str]]:
    """For each suspect its p-value adjusted for their number (Holm, 1979), and the decision on it."""
    return [(p, PROVEN if p <= level else NOT_PROVEN) for p in holm_adjust(p_values)]


def default_accuracy_bound(classes: int) -> float:
    """The share of true classes that a network reaches which has learnt something: a quarter of the way to 1 by chance.

    One that is asked rightly lies far above it, and one that is asked wrongly near 1 / C.
    """
    return 1 / classes + (1 - 1 / classes) / 4


def judge(decision: str, *, right: int, asked: int, bound: float) -> str:
    """The decision on a suspect that took `right` of the cells `asked` for their true class.

    What is proven stays so: a copy may give the secret labels in place of the true ones. Else it is inconclusive below
    the `bound`: a suspect that gives neither may not have been asked rightly. No secret label is looked at.
    """
    return INCONCLUSIVE if decision == NOT_PROVEN and right < bound * asked else decision


def overall(decisions: Collection[str]) -> str:
    """The decision on several suspects together."""
    return next(one for one in (PROVEN, INCONCLUSIVE, NOT_PROVEN) if one in decisions)
