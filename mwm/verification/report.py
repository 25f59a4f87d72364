"""A verdict in words, and its folder: what a person reads, what a stranger can check, what its owner can sign."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from mwm.storage.filesystem import write_atomic
from mwm.storage.local import sha256
from mwm.verification.options import RANK_SUM, VerifyOptions
from mwm.verification.querying.answer_log import ANSWERS
from mwm.verification.verdict import NOT_PROVEN, PROVEN, KeySummary, SuspectResult, TestResult, Verdict, VerdictPlan
from mwm.watermarks.key import Key

VERDICT, REPORT, CHECKSUMS = "verdict.json", "report.md", "SHA256SUMS"
SIGN = f"ssh-keygen -Y sign -n mwm-verdict -f ~/.ssh/id_ed25519 {CHECKSUMS}"
SIGN_TOO = f"gpg --armor --detach-sign {CHECKSUMS}"
HASH = "find . -type f -printf '%P\\n' | LC_ALL=C sort | xargs -d '\\n' sha256sum"
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

ONE_REPORT = (
    "one report counts: asking till one says proven, or by a command for each suspect, is not covered by the level"
)


def planned_notes(options: VerifyOptions, key: Key, plan: VerdictPlan) -> Iterator[str]:
    """What a reader has to know to judge the verdict, as it follows from key and plan."""
    if options.commitment is None:
        yield "nothing here shows the key to be older than the suspect: no commitment was given"
    else:
        yield "the key opens the commitment; its time stamp or publication must show it to be the older"
    if key.guessable:
        yield "the key's secret comes from an integer and can be guessed: others may know it, and many can be tried"
    if plan.control:
        yield "the control's answers were subtracted, and that decides; p without it decides nothing"
        yield "the control must have been made without the key: one that knows the secret labels can prove anything"
    if plan.cells < key.queries.num_cells or plan.order_seed or plan.views > 1:
        yield "queries, views and the seed of the order must have been chosen before any answer was seen"
    if options.sequential:
        yield "only the sequential p allows for stopping early; the other tests and the interval take n as fixed"


def null_model_notes(count: int, level: float) -> Iterator[str]:
    """That so many null models are too few to be compared with at a level."""
    if count and (least := 1 / (count + 1)) > level:
        yield f"{count} null models are too few for this level: their p is never below {least:.2g}"


def class_order_notes(results: Sequence[SuspectResult], classes: int) -> Iterator[str]:
    """What hints at a suspect that numbers its classes in another way, which no test can see."""
    for one in results:
        if one.no_class:
            named = f"{one.no_class} of {one.images} answers of {one.name} name no class of the key"
            yield f"{named} (0 to {classes - 1}): does it count from 1, or in another order?"


def summary_lines(verdict: Verdict) -> Iterator[str]:
    """What was asked, what came out, and what it means, in a few lines."""
    key, plan, suspects = verdict.key, verdict.plan, verdict.suspects
    yield f"key       {key.commitment[:16]}..., {_size(key)}, {key.classes} classes; secret labels {DRAWN[key.null]}"
    if plan.control:
        yield f"control   {plan.control.name} ({plan.control.access}): its answers are subtracted"
    for suspect, fresh in zip(suspects, verdict.asked_now, strict=True):
        others = [_test(name, test) for name, test in suspect.tests.items() if test and name != plan.test]
        yield f"suspect   {suspect.name} ({suspect.access}), answers with {suspect.form}"
        yield f"asked     {_asked(suspect, plan)}{'' if fresh else _cached_note(suspect)}"
        yield f"wrong     {_wrong(suspect)}"
        yield f"matches   {_matches(suspect, key)}"
        yield f"p         {_deciding(suspect, plan)}{_adjusted(suspect) if len(suspects) > 1 else ''}"
        yield from [f"beside    {'; '.join(others)}"] * bool(others)
        yield f"decision  {suspect.decision.upper()} at level {plan.level:g}"
    yield from (f"note      {note}" for note in _notes(verdict))


def _notes(verdict: Verdict) -> Iterator[str]:
    """What the decisions say, and what they do not; then what else there is to know."""
    decisions = {suspect.decision for suspect in verdict.suspects}
    if PROVEN in decisions:
        chance = f"a chance of {verdict.plan.level:g} at most, if the key was fixed before it"
        yield f"proven: made independently of the key, a model is called so with {chance}; who copied, and how, is open"
    if NOT_PROVEN in decisions:
        yield "not proven does not mean independent: an attack can remove the watermark, and few queries can miss it"
    yield from verdict.notes


def _size(key: KeySummary) -> str:
    return f"{key.queries} queries" if key.cells == key.queries else f"{key.cells} cells of {key.queries} images"


def _asked(suspect: SuspectResult, plan: VerdictPlan) -> str:
    many = "s" * (suspect.requests != 1)
    silent = f", {suspect.unanswered} unanswered and left out" if suspect.unanswered else ""
    if plan.images == plan.cells:
        return f"{suspect.asked} queries in {suspect.requests} request{many}, of {plan.cells}{silent}"
    views = f" in {plan.views} views" if plan.views > 1 else ""
    shown = f"{suspect.images} images{views} in {suspect.requests} request{many}"
    return f"{suspect.asked} cells by {shown}, of {plan.cells} cells{silent}"


def _cached_note(suspect: SuspectResult) -> str:
    anew = "to ask anew, add --rerun, or name another output in Python"
    return f": nothing now, the answers are from {suspect.began} to {suspect.ended}; {anew}"


def _wrong(suspect: SuspectResult) -> str:
    rank = f"mean rank of the secret labels {_share(suspect.mean_rank)}, 0 if first, .50 by chance"
    several = suspect.images > suspect.asked
    wrong = (
        f"{suspect.wrong_answers} of {suspect.asked} {'cells with a wrong answer' if several else 'answered wrongly'}"
    )
    return f"{wrong}; {rank}"


def _matches(suspect: SuspectResult, key: KeySummary) -> str:
    low, high = map(_share, suspect.interval)
    chance = f"; an independent model: {_share(1 / (key.classes - 1))} on average at most"
    rate = f"{_share(suspect.match_rate)}, 95 % interval {low} to {high}"
    return f"{suspect.matches} of {suspect.asked} ({rate}{chance if suspect.tests['unconditional'] else ''})"


def _deciding(suspect: SuspectResult, plan: VerdictPlan) -> str:
    parts = [f"by labels {_p(suspect.p_labels, suspect.log10_p_labels)}"] if suspect.p_labels is not None else []
    if suspect.p_scores is not None:
        parts += [f"by scores {_p(suspect.p_scores, suspect.log10_p_scores)}, the smaller one twice"]
    told = _test(plan.test, suspect.tests[plan.test])
    return f"{told}: {', '.join(parts)}" if plan.test == RANK_SUM else told


def _adjusted(suspect: SuspectResult) -> str:
    return f"; {_p(suspect.adjusted_p_value)} after Holm"


def _test(name: str, test: TestResult | None) -> str:
    assert test is not None, f"{name} was not possible"
    models = f", {test.as_many} of {test.null_models} had as many" if test.null_models is not None else ""
    return f"{_p(test.p_value, test.log10_p)} ({TESTS[name]}{models})"


def _p(value: float, log10: float | None = None) -> str:
    """A p value; where it is too small for a number, its power of ten if that is known."""
    if value > 0:
        return f"{value:.2g}"
    return "< 1e-300" if log10 is None else f"1e{log10:.0f}"


def _share(value: float) -> str:
    return f"{value:.2f}".removeprefix("0")


def markdown_report(verdict: Verdict) -> str:
    """The whole verdict as a page of Markdown, for a stranger."""
    parts = [
        f"# Verdict: {verdict.decision}",
        "## Fixed before anything was asked",
        _list(_fixed(verdict.key, verdict.plan)),
        *(_section(suspect, verdict) for suspect in verdict.suspects),
        "## What it means",
        "\n".join(f"* {note}" for note in _notes(verdict)),
        "## How to check it",
        "\n".join(f"* {check}" for check in _checks(verdict.key.commitment)),
    ]
    return "\n\n".join(parts) + "\n"


def _fixed(key: KeySummary, plan: VerdictPlan) -> dict[str, str]:
    told = {
        "Commitment to the key": f"`{key.commitment}`",
        "The key opens a commitment that was given": "yes" if key.committed else "none was given",
        "Key": f"{_size(key)}, {key.classes} classes, scheme {key.scheme}, rule {key.rule}",
        "Its secret labels": DRAWN[key.null],
        "Made, by its own word": key.created,
        "Test that decides": TESTS[plan.test],
        "Level": f"{plan.level:g} for all suspects together (Holm, 1979)",
        "Cells asked": f"{plan.cells}, the first in the order by seed {plan.order_seed}",
        "Images asked": f"{plan.images}, with {plan.views} view{'s' * (plan.views > 1)} of each image of the key",
        "Control": "none",
    }
    if control := plan.control:
        known = f"SHA-256 `{control.sha256}`" if control.sha256 else "not a file on the asker's machine"
        told["Control"] = f"{control.name} ({control.access}), {known}; its answers are subtracted, and that decides"
    return told


def _section(suspect: SuspectResult, verdict: Verdict) -> str:
    told = {
        "Decision": suspect.decision,
        "Access": f"{suspect.access}, answers with {suspect.form}",
        "SHA-256": f"`{suspect.sha256}`" if suspect.sha256 else "unknown: not a file on the asker's machine",
        "Asked": f"{_asked(suspect, verdict.plan)}, {suspect.began} to {suspect.ended}",
        "Wrong answers": _wrong(suspect),
        "p": f"{_deciding(suspect, verdict.plan)}; adjusted {_p(suspect.adjusted_p_value)}",
        "Matches": _matches(suspect, verdict.key),
        "Every test": "; ".join(_test(name, test) for name, test in suspect.tests.items() if test),
        "Cells": ", ".join(map(str, suspect.cells)),
    }
    return f"## Suspect {suspect.name}\n\n{_list(told)}"


def _list(told: Mapping[str, str]) -> str:
    return "\n".join(f"* {name}: {value}" for name, value in told.items())


def _checks(commitment: str) -> Iterator[str]:
    yield f"Nothing was changed: `sha256sum -c {CHECKSUMS}`."
    yield f"Who says so: a signature of {CHECKSUMS}, made by `{SIGN}` or `{SIGN_TOO}`."
    yield f"The key is the one committed to: `launch.py open KEY --commitment {commitment}`."
    yield "The commitment is older than the suspect: by its time stamp, or where it was published."
    yield f"A suspect's SHA-256 is that of its file, or of what `{HASH}` says in its folder."
    yield f"The suspect answers so: ask it again by `launch.py verify`, or compare with {ANSWERS}."
    yield f"Take care: what a copy says in {ANSWERS} is mostly the key's labels."


def write_report(folder: Path, verdict: Verdict) -> None:
    """Write the verdict, the report and the sums of all files; the same verdict gives the same bytes."""
    write_atomic(folder / VERDICT, json.dumps(verdict.to_dict(), indent=1) + "\n")
    write_atomic(folder / REPORT, markdown_report(verdict))
    sums = {name: sha256(folder / name) for name in (ANSWERS, REPORT, VERDICT)}
    write_atomic(folder / CHECKSUMS, "".join(f"{value}  {name}\n" for name, value in sums.items()))
