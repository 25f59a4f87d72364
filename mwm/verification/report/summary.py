"""A verdict for the terminal: what was asked, what came out, and what it means, in a few lines."""

from __future__ import annotations

from collections.abc import Iterator

from mwm.verification.options import RANK_SUM, VerifyOptions
from mwm.verification.report.notes import all_notes
from mwm.verification.report.reasons import stopped
from mwm.verification.report.words import DRAWN, asked_text, odds, other_tests, p_text, share, size_text, test_text
from mwm.verification.verdict import INCONCLUSIVE, KEYS_OWN, PROVEN, SuspectResult, Verdict, VerdictPlan


def summary_lines(verdict: Verdict) -> Iterator[str]:
    """The verdict in a few lines."""
    key, plan = verdict.key, verdict.plan
    drawn = f"secret labels {DRAWN[key.null]}"
    yield f"key       {key.commitment[:16]}..., {size_text(key)}, {key.classes} classes; {drawn}"
    if plan.control:
        yield f"control   {plan.control.name} ({plan.control.access}): its answers are subtracted"
    for suspect, fresh in zip(verdict.suspects, verdict.asked_now, strict=True):
        yield f"suspect   {suspect.name} ({suspect.access}), answers with {suspect.form}"
        yield f"asked     {asked_text(suspect, plan)}{'' if fresh else _cached_note(suspect)}"
        yield from (f"shown     {line}" for line in _shown(plan))
        yield f"answers   {answers_text(suspect, verdict)}"
        yield f"p         {deciding_text(suspect, plan)}"
        yield f"decision  {_decision(suspect, verdict)}"
        yield from (f"reason    {reason}" for reason in suspect.reasons)
        yield from (f"because   {why}" for why in stopped(suspect, verdict))
        yield from (f"beside    {line}" for line in _beside(suspect, plan))
    yield from (f"note      {note}" for note in all_notes(verdict))


def _shown(plan: VerdictPlan) -> Iterator[str]:
    """How images were shown and classes read, where that is not the usual way."""
    usual = VerifyOptions()
    if (plan.input_range, plan.layout, plan.class_order) != (usual.input_range, usual.layout, KEYS_OWN):
        yield f"input range {plan.input_range}, layout {plan.layout}, classes in this order: {plan.class_order}"


def answers_text(suspect: SuspectResult, verdict: Verdict) -> str:
    """How the answers divide, how high the secret labels stand, and what chance gives."""
    other = suspect.asked - suspect.right - suspect.matches
    told = f"{suspect.right} true, {suspect.matches} secret, {other} other"
    if verdict.key.null == "uniform_wrong_labels":
        told += f"; by chance {share(1 / (verdict.key.classes - 1))} of the wrong ones are secret"
    return f"{told}; mean rank of the secret labels {share(suspect.mean_rank)}, 0 if first, .50 by chance"


def deciding_text(suspect: SuspectResult, plan: VerdictPlan) -> str:
    """What the test that decides says, and of what it is made."""
    told = test_text(plan.test, suspect.tests[plan.test])
    if plan.test != RANK_SUM or suspect.p_labels is None:
        return told
    labels = f"by labels {p_text(suspect.p_labels, suspect.log10_p_labels)}"
    if suspect.p_scores is None:
        return f"{told}: {labels}"
    scores = f"by scores {p_text(suspect.p_scores, suspect.log10_p_scores)}"
    return f"{told}: {labels}, {scores}; the smaller one counts, twice, and the other one decides nothing"


def _decision(suspect: SuspectResult, verdict: Verdict) -> str:
    """The decision, and in one sentence why."""
    level, many = verdict.plan.level, len(verdict.suspects)
    told = f"{suspect.decision.upper()} at level {level:g}"
    if suspect.decision == INCONCLUSIVE:
        return f"{told}: only {suspect.right} of {suspect.asked} answers are true; it may not be asked rightly"
    chance = odds(suspect.p_value, suspect.log10_p, beside=suspect.limit)
    within = "within" if suspect.decision == PROVEN else "more than"
    shared = f" ({many} suspects share {odds(level)})" if suspect.limit < level else ""
    limit = f"{within} the limit of {odds(suspect.limit)}{shared}"
    return f"{told}: without the key, such answers have a chance of {chance}, {limit}"


def _beside(suspect: SuspectResult, plan: VerdictPlan) -> Iterator[str]:
    """The other tests, which decide nothing; and where one of them seems to say otherwise, why it does not."""
    others, proven = other_tests(suspect, plan), suspect.decision == PROVEN
    why = ""
    if any((one.p_value <= suspect.limit) != proven for one in others.values()):
        why = ": above the limit they are no contradiction, since they use less of the answers"
        why = why if proven else ": the test that decides was fixed before the answers, and it is another one"
    if others:
        yield f"{'; '.join(test_text(*one) for one in others.items())}. These decide nothing{why}"


def _cached_note(suspect: SuspectResult) -> str:
    anew = "to ask anew, add --rerun, or name another output in Python"
    return f": nothing now, the answers are from {suspect.began} to {suspect.ended}; {anew}"
