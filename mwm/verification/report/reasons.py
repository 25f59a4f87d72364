"""How a decision came about, in plain sentences: the limit, the test that decides, and why nothing else does."""

from __future__ import annotations

from collections.abc import Iterator

from mwm.verification.options import PERMUTATION, RANK_SUM, SEQUENTIAL
from mwm.verification.report.words import TESTS, odds, other_tests, p_text, plural
from mwm.verification.verdict import (
    ALL_ASKED,
    INCONCLUSIVE,
    OUT_OF_REACH,
    PROVEN,
    SuspectResult,
    Verdict,
    VerdictPlan,
)

SEES_LESS = {
    "rank_sum": "does not profit from stopping early",
    "sequential": "pays for the right to stop at any question",
    "uncontrolled": "does not take off what the control favours, too",
    "unconditional": "only counts first choices, those that are true among them",
    "permutation": "only counts first choices",
    "empirical": "only compares it with few other networks",
}
"""Why a test may say less than the one that decides."""

TRAPS = {
    "rank_sum": ", which holds only if nobody could stop early",
    "uncontrolled": ", which takes natural confusions for signs of the key",
}
"""Why a test that says more is not valid here."""


def reasoning(suspect: SuspectResult, verdict: Verdict) -> Iterator[str]:
    """How the decision on a suspect came about."""
    yield from _limit(suspect, verdict)
    yield from _deciding(suspect, verdict.plan)
    yield _compared(suspect)
    yield from _alone(suspect, verdict)
    yield from _others(suspect, verdict.plan)
    yield from (f"{one[0].upper()}{one[1:]}." for one in stopped(suspect, verdict))


def _limit(suspect: SuspectResult, verdict: Verdict) -> Iterator[str]:
    level, many = odds(verdict.plan.level), len(verdict.suspects)
    yield (
        f"Before anything was asked it was fixed which test decides, and that a network made without the key may be "
        f"called proven by mistake with a chance of {level} at most."
    )
    if many > 1:
        first, then = odds(verdict.plan.level / many), odds(verdict.plan.level / (many - 1))
        yield (
            f"{many} networks share this chance. The one with the strongest sign has the limit {first}; if it is "
            f"proven, the next one has {then}{', and so on' * (many > 2)} (Holm, 1979). Here the limit is "
            f"{odds(suspect.limit)}."
        )


def _deciding(suspect: SuspectResult, plan: VerdictPlan) -> Iterator[str]:
    p, chance = p_text(suspect.p_value, suspect.log10_p, beside=suspect.limit), _chance(suspect)
    if plan.test == PERMUTATION:
        yield (
            "The test counts how often the network gave the secret class. If secret classes change places among "
            f"pictures of one true class, there are as many hits with a chance of {chance} (p = {p})."
        )
    elif plan.test == SEQUENTIAL:
        yield (
            "The test keeps an account, which grows with every secret class that stands high among the wrong ones. A "
            f"network made without the key ever reaches this account with a chance of {chance} (p = {p})."
        )
    else:
        yield (
            "The test looks at how high the secret class stands among the wrong ones, in all answers together. If the "
            f"secret classes were drawn by lot once more, they would stand as high with a chance of {chance} (p = {p})."
        )
    if plan.test == RANK_SUM and suspect.p_labels is not None and suspect.p_scores is not None:
        yield (
            f"It was made by first choices alone (p = {p_text(suspect.p_labels, suspect.log10_p_labels)}) and by all "
            f"scores (p = {p_text(suspect.p_scores, suspect.log10_p_scores)}). The smaller one counts, and twice, "
            "since there were two chances. The larger one does not weaken it."
        )


def _chance(suspect: SuspectResult) -> str:
    return odds(suspect.p_value, suspect.log10_p, beside=suspect.limit)


def _compared(suspect: SuspectResult) -> str:
    """The chance beside its limit, and so the decision."""
    chance, limit = _chance(suspect), odds(suspect.limit)
    if suspect.decision == PROVEN:
        return f"A chance of {chance} is within the limit of {limit}. So it is proven."
    told = f"A chance of {chance} is more than the limit of {limit}. So it is not proven."
    if suspect.decision == INCONCLUSIVE:
        return f"{told} But so few answers are true that it may not have been asked rightly. So there is no decision."
    return f"{told} A small p above the limit is a hint at most." if suspect.p_value <= 0.05 else told


def _alone(suspect: SuspectResult, verdict: Verdict) -> Iterator[str]:
    """That a suspect which is not proven would be, were it alone."""
    if suspect.p_value <= verdict.plan.level and suspect.decision != PROVEN:
        yield (
            f"Named alone it would have been proven, for then the limit is {odds(verdict.plan.level)}. Among "
            f"{len(verdict.suspects)} networks a hit by luck is more likely, so each has to show more. To name them "
            "one by one afterwards does not help: one report counts."
        )


def _others(suspect: SuspectResult, plan: VerdictPlan) -> Iterator[str]:
    """Why other tests of the same answers that seem to say otherwise decide nothing."""
    proven = suspect.decision == PROVEN
    against = {
        name: f"{p_text(test.p_value, test.log10_p)} ({TESTS[name]}"
        for name, test in other_tests(suspect, plan).items()
        if (test.p_value <= suspect.limit) != proven
    }
    if against and proven:
        told = "; ".join(f"{value}, which {SEES_LESS[name]})" for name, value in against.items())
        yield (
            f"Other tests of the same answers give a larger p: {told}. That is no contradiction: they use less of what "
            "was answered, and decide nothing."
        )
    elif against:
        told = "; ".join(f"{value}{TRAPS.get(name, '')})" for name, value in against.items())
        yield (
            f"Other tests of the same answers give a p within the limit: {told}. They decide nothing: who may pick a "
            "test afterwards finds a small p too often."
        )


def stopped(suspect: SuspectResult, verdict: Verdict) -> Iterator[str]:
    """Why the sequential test stopped where it did, and how many queries more might decide."""
    cells, planned = suspect.asked, verdict.plan.cells
    unit = "query" if verdict.key.cells == verdict.key.queries else "cell"
    if suspect.stopped is None:
        return
    if suspect.decision == PROVEN:
        yield f"asking ended after {cells} of {plural(planned, unit)}: they were enough"
    elif suspect.stopped == ALL_ASKED:
        yield f"asking ended undecided: all {plural(planned, unit)} were asked; {_more(suspect, verdict)}"
    elif suspect.stopped == OUT_OF_REACH:
        best = f"secret labels in all answers to the {planned - cells} left would not decide"
        yield f"asking ended undecided after {cells} of {plural(planned, unit)}: {best}; {_more(suspect, verdict)}"


def _more(suspect: SuspectResult, verdict: Verdict) -> str:
    if suspect.more is None:
        return "these answers give no reason to expect that more would"
    return f"as a rough guess, about {suspect.more} more like these would; the key has {verdict.key.cells} in all"
