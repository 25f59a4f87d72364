"""The technical part of a report: every figure of a verdict, for readers who check them."""

from __future__ import annotations

from mwm.verification.report.summary import deciding_text
from mwm.verification.report.words import DRAWN, TESTS, asked_text, odds, p_text, plural, share, size_text, test_text
from mwm.verification.verdict import KeySummary, SuspectResult, Verdict, VerdictPlan


def fixed(key: KeySummary, plan: VerdictPlan) -> dict[str, str]:
    """What was fixed before anything was asked."""
    told = {
        "Commitment to the key": f"`{key.commitment}`",
        "The key opens a commitment that was given": "yes" if key.committed else "none was given",
        "Key": f"{size_text(key)}, {key.classes} classes, scheme {key.scheme}, rule {key.rule}",
        "Its secret labels": DRAWN[key.null],
        "Made, by its own word": key.created,
        "Test that decides": TESTS[plan.test],
        "Level": f"{plan.level:g} ({odds(plan.level)}) for all suspects together (Holm, 1979)",
        "Cells asked": f"{plan.cells}, the first in the order by seed {plan.order_seed}",
        "Images asked": f"{plan.images}, with {plan.views} view{'s' * (plan.views > 1)} of each image of the key",
        "Images are shown": f"in the range {plan.input_range}, with axes {plan.layout}",
        "Classes are read": f"in this order: {plan.class_order}",
        "Answers are judged": f"as {plan.answers}, which is made of what came" if plan.answers else "as they come",
        "Bound of true answers": f"{plan.accuracy_bound:.3g}; with a smaller share, not proven is inconclusive",
        "Control": "none",
    }
    if control := plan.control:
        known = f"SHA-256 `{control.sha256}`" if control.sha256 else "not a file on the asker's machine"
        told["Control"] = f"{control.name} ({control.access}), {known}; its answers are subtracted, and that decides"
    return told


def figures(suspect: SuspectResult, verdict: Verdict) -> dict[str, str]:
    """All that was measured of a suspect."""
    return {
        "Decision": suspect.decision,
        "Access": f"{suspect.access}, answers with {suspect.form}",
        "SHA-256": f"`{suspect.sha256}`" if suspect.sha256 else "unknown: not a file on the asker's machine",
        "Asked": f"{asked_text(suspect, verdict.plan)}, {suspect.began} to {suspect.ended}",
        "Answers": f"{suspect.right} of {suspect.asked} true, {suspect.matches} secret; {_wrong(suspect)}",
        "p": f"{deciding_text(suspect, verdict.plan)}; adjusted {p_text(suspect.adjusted_p_value)}",
        "Limit of p": f"{suspect.limit:.4g}",
        "Shown beside": f"{plural(suspect.tried, 'image')} to find out how it is asked rightly, which are no evidence",
        "Matches": _matches(suspect, verdict.key),
        "Every test": "; ".join(test_text(name, test) for name, test in suspect.tests.items() if test),
        "Cells": ", ".join(map(str, suspect.cells)),
    }


def _wrong(suspect: SuspectResult) -> str:
    rank = f"mean rank of the secret labels {share(suspect.mean_rank)}, 0 if first, .50 by chance"
    unit = "cells with a wrong answer" if suspect.images > suspect.asked else "answered wrongly"
    return f"{suspect.wrong_answers} of {suspect.asked} {unit}; {rank}"


def _matches(suspect: SuspectResult, key: KeySummary) -> str:
    low, high = map(share, suspect.interval)
    chance = f"; an independent model: {share(1 / (key.classes - 1))} on average at most"
    rate = f"{share(suspect.match_rate)}, 95 % interval {low} to {high}"
    return f"{suspect.matches} of {suspect.asked} ({rate}{chance if suspect.tests['unconditional'] else ''})"
