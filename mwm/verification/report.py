"""A verdict in words, and its folder: what a person reads, what a stranger can check, what its owner can sign."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path

from mwm.storage.filesystem import write_atomic
from mwm.storage.local import sha256
from mwm.verification.answer_log import ANSWERS
from mwm.verification.options import BINOMIAL
from mwm.verification.verdict import NOT_PROVEN, PROVEN, SuspectResult, TestResult, Verdict

VERDICT, REPORT, CHECKSUMS = "verdict.json", "report.md", "SHA256SUMS"
SIGN = f"ssh-keygen -Y sign -n mwm-verdict -f ~/.ssh/id_ed25519 {CHECKSUMS}"
SIGN_TOO = f"gpg --armor --detach-sign {CHECKSUMS}"
HASH = "find . -type f -printf '%P\\n' | LC_ALL=C sort | xargs -d '\\n' sha256sum"
TESTS = {
    "binomial": "exact binomial",
    "sequential": "sequential e-value",
    "permutation": "permutation of labels",
    "rank": "ranks of scores",
    "empirical": "null models",
}


def summary_lines(verdict: Verdict) -> Iterator[str]:
    """What was asked, what came out, and what it means, in a few lines."""
    key, plan, suspects = verdict.key, verdict.plan, verdict.suspects
    yield f"key       {key.commitment[:16]}..., {key.queries} queries, {key.classes} classes"
    for suspect, fresh in zip(suspects, verdict.asked_now, strict=True):
        low, high = map(_share, suspect.interval)
        rate = f"{_share(suspect.match_rate)}, 95 % interval {low} to {high}"
        chance = f"; an independent model: {_share(1 / (key.classes - 1))} on average at most"
        adjusted = f"; {_p(suspect.adjusted_p_value)} as one of {len(suspects)} suspects (Holm)"
        others = [_test(name, test) for name, test in suspect.tests.items() if test and name != plan.test]
        yield f"suspect   {suspect.name} ({suspect.access})"
        yield f"asked     {_asked(suspect)}, of {plan.queries}{'' if fresh else _cached_note(suspect)}"
        yield f"matches   {suspect.matches} of {suspect.asked} ({rate}{chance if suspect.tests[BINOMIAL] else ''})"
        yield f"p         {_test(plan.test, suspect.tests[plan.test])}{adjusted if len(suspects) > 1 else ''}"
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


def _asked(suspect: SuspectResult) -> str:
    many = "s" * (suspect.requests != 1)
    silent = f", {suspect.unanswered} unanswered and counted as no match" if suspect.unanswered else ""
    return f"{suspect.asked} queries in {suspect.requests} request{many}{silent}"


def _cached_note(suspect: SuspectResult) -> str:
    return f": nothing now, the answers are from {suspect.began} to {suspect.ended}; --rerun asks anew"


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
    key, plan = verdict.key, verdict.plan
    fixed = {
        "Commitment to the key": f"`{key.commitment}`",
        "The key opens a commitment that was given": "yes" if key.committed else "none was given",
        "Key": f"{key.queries} queries, {key.classes} classes, scheme {key.scheme}, rule {key.rule}",
        "Made, by its own word": key.created,
        "Test that decides": TESTS[plan.test],
        "Level": f"{plan.level:g} for all suspects together (Holm, 1979)",
        "Queries": f"{plan.queries}, the first in the order by seed {plan.order_seed}",
    }
    parts = [
        f"# Verdict: {verdict.decision}",
        "## Fixed before anything was asked",
        _list(fixed),
        *(_section(suspect) for suspect in verdict.suspects),
        "## What it means",
        "\n".join(f"* {note}" for note in _notes(verdict)),
        "## How to check it",
        "\n".join(f"* {check}" for check in _checks(key.commitment)),
    ]
    return "\n\n".join(parts) + "\n"


def _section(suspect: SuspectResult) -> str:
    told = {
        "Decision": suspect.decision,
        "Access": suspect.access,
        "SHA-256": f"`{suspect.sha256}`" if suspect.sha256 else "unknown: not a file on the asker's machine",
        "Asked": f"{_asked(suspect)}, {suspect.began} to {suspect.ended}",
        "Matches": f"{suspect.matches}, 95 % interval of their rate {' to '.join(map(_share, suspect.interval))}",
        "p": f"{_p(suspect.p_value, suspect.log10_p)}, adjusted {_p(suspect.adjusted_p_value)}",
        "Every test": "; ".join(_test(name, test) for name, test in suspect.tests.items() if test),
        "Queries": ", ".join(map(str, suspect.queries)),
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
