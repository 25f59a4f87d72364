"""Numbers and terms of a verdict in words: what the terminal, the page and its technical part share."""

from __future__ import annotations

import math
import re

from mwm.verification.verdict import KeySummary, SuspectResult, TestResult, VerdictPlan

TESTS = {
    "rank_sum": "ranks of secret labels",
    "sequential": "sequential e-value",
    "uncontrolled": "ranks without the control",
    "unconditional": "matches, unconditional binomial",
    "permutation": "permutation of labels",
    "empirical": "null models",
}
DRAWN = {
    "uniform_wrong_labels": "drawn uniformly from the wrong classes",
    "exchangeable": "exchangeable within a true class",
    "null_models": "of another kind",
}
"""How secret labels were drawn."""

LEAST_LOG10 = -300
"""What is smaller than ten to this, and known as 0 only, is called smaller than that."""

LARGE = ((1e12, "trillion"), (1e9, "billion"), (1e6, "million"))
"""Large numbers by name, up to a thousand of the largest."""

RAISED = str.maketrans("0123456789", "⁰¹²³⁴⁵⁶⁷⁸⁹")


def plural(count: int, word: str) -> str:
    """A number with its noun, such as 1 query or 20 queries."""
    ending = f"{word[:-1]}ies" if word.endswith("y") else f"{word}s"
    return f"{count:,} {word if count == 1 else ending}"


def share(value: float) -> str:
    """A share as a fraction of 1, in two places."""
    return f"{value:.2f}".removeprefix("0")


def p_text(value: float, log10: float | None = None, *, beside: float | None = None) -> str:
    """A p-value; where it is too small for a number, its power of ten if that is known.

    It has two digits, or as many more as tell it from the level `beside` which it stands.
    """
    if value <= 0:
        return f"< 1e{LEAST_LOG10}" if log10 is None else f"1e{log10:.0f}"
    return f"{value:.{_digits(value, beside)}g}"


def odds(value: float, log10: float | None = None, *, beside: float | None = None) -> str:
    """A chance as people say it: 1 in 1,000, 1 in 4.2 million, 1 in 10^42, or 60 in 100 where it is not small.

    It has two digits, or as many more as tell it from the chance `beside` which it stands.
    """
    if value <= 0:
        return f"less than 1 in 10^{-LEAST_LOG10}" if log10 is None else f"1 in 10^{-log10:.0f}"
    if value > 0.095:
        return f"{float(p_text(value, beside=beside)) * 100:.15g} in 100"
    digits = _digits(1 / value, None if beside is None else 1 / beside)
    number = float(f"{1 / value:.{digits}g}")
    if number >= 1e15:
        return f"1 in 10^{math.log10(number):.0f}"
    size, name = next((one for one in LARGE if number >= one[0]), (1.0, ""))
    return f"1 in {number / size:,.15g}" + f" {name}" * bool(name)


def _digits(value: float, beside: float | None) -> int:
    """How many digits tell two numbers apart, 2 at least."""
    if beside in (None, value):
        return 2
    return next((n for n in range(2, 17) if f"{value:.{n}g}" != f"{beside:.{n}g}"), 17)


def raised(text: str) -> str:
    """A text with its powers of ten as they are printed: 10^42 becomes 10⁴²."""
    return re.sub(r"\b10\^(\d+)", lambda found: "10" + found[1].translate(RAISED), text)


def size_text(key: KeySummary) -> str:
    """How large a key is."""
    return f"{key.queries} queries" if key.cells == key.queries else f"{key.cells} cells of {key.queries} images"


def asked_text(suspect: SuspectResult, plan: VerdictPlan) -> str:
    """How much of what was planned a suspect was asked."""
    silent = f", {suspect.unanswered} unanswered and left out" if suspect.unanswered else ""
    requests = plural(suspect.requests, "request")
    if plan.images == plan.cells:
        return f"{suspect.asked} queries in {requests}, of {plan.cells}{silent}"
    views = f" in {plan.views} views" if plan.views > 1 else ""
    return f"{suspect.asked} cells by {suspect.images} images{views} in {requests}, of {plan.cells} cells{silent}"


def test_text(name: str, test: TestResult | None) -> str:
    """What a test says, and its name."""
    assert test is not None, f"{name} was not possible"
    models = f", {test.as_many} of {test.null_models} had as many" if test.null_models is not None else ""
    return f"{p_text(test.p_value, test.log10_p)} ({TESTS[name]}{models})"


def other_tests(suspect: SuspectResult, plan: VerdictPlan) -> dict[str, TestResult]:
    """The tests that were made beside the one that decides."""
    return {name: test for name, test in suspect.tests.items() if test and name != plan.test}
