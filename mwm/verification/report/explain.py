"""A verdict explained to readers who never heard of p-values: plain sentences with the numbers of this very verdict."""

from __future__ import annotations

from collections.abc import Iterator

from mwm.verification.report.words import odds, plural
from mwm.verification.verdict import INCONCLUSIVE, NOT_PROVEN, PROVEN, SuspectResult, Verdict

HEADINGS = {
    PROVEN: "Proven to be a copy",
    NOT_PROVEN: "Not proven to be a copy",
    INCONCLUSIVE: "No decision",
}
WHAT_TO_DO = "Mend how it is asked, and ask it again: the options --input-range, --layout and --classes say how."


def headline(verdict: Verdict) -> str:
    """The decisions in one line."""
    if len(verdict.suspects) == 1:
        return HEADINGS[verdict.decision]
    found = [one.decision for one in verdict.suspects]
    told = [f"{HEADINGS[kind].lower()}: {found.count(kind)}" for kind in HEADINGS if kind in found]
    return f"{len(found)} networks tested; {', '.join(told)}"


def meaning(suspect: SuspectResult, verdict: Verdict) -> Iterator[str]:
    """What the decision means, in two sentences."""
    many, level = len(verdict.suspects), odds(verdict.plan.level)
    if suspect.decision == PROVEN:
        does = "gives" if _by_first_choices(suspect) else "leans towards"
        yield f"This network {does} the secret answers of the key more often than chance can explain."
        alone = f"A network made without the key has a chance of at most {level} to be called proven."
        none = f"If none of the {many} networks had to do with the key, the chance that any is called proven is"
        yield alone if many == 1 else f"{none} at most {level}."
    elif suspect.decision == NOT_PROVEN:
        yield "Chance is not ruled out as the reason why this network gives or favours secret answers of the key."
        yield "That does not show it to be independent: a copy can lose its mark, and few questions can miss it."
    else:
        named = f"the true class of only {suspect.right} of {plural(suspect.asked, 'question')}"
        yield f"This network named {named}, so it may not have been asked in the way that it expects."
        yield "Until it is asked rightly, its answers tell nothing, neither for the owner nor against."


def _by_first_choices(suspect: SuspectResult) -> bool:
    """Whether first choices alone decide, so that the suspect gives secret answers and does not only favour them."""
    alone = suspect.p_labels is not None and suspect.p_labels <= suspect.limit
    return alone or suspect.p_scores is None


def questions(verdict: Verdict) -> Iterator[str]:
    """What was asked, and by which rule."""
    key, others = verdict.key, f"one of the {verdict.key.classes - 1} others"
    if key.cells == key.queries:
        yield (
            f"The key is a secret set of {plural(key.queries, 'picture')}. Each has a true class, which anybody can "
            f"see, and a secret class, {others}."
        )
    else:
        yield (
            f"The key is a secret set of {plural(key.queries, 'picture')} in {plural(key.cells, 'group')}. The "
            f"pictures of a group have the same true class and the same secret class, {others}; together "
            "they are one question."
        )
    if key.null == "uniform_wrong_labels":
        yield "Which of them was drawn by lot, from the owner's secret, so nobody can know it without the key."
    else:
        yield "Among pictures of one true class any other order of the secret classes would have been as likely."
    yield (
        "The owner's network was taught to lean towards the secret classes. A network made from it inherits some of "
        "that; a network made without it does not."
    )


def how_asked(verdict: Verdict) -> Iterator[str]:
    """How much was asked, and of whom."""
    plan = verdict.plan
    part = "all of it" if plan.cells == verdict.key.cells else f"{plural(plan.cells, 'question')} of it"
    yield f"Fixed beforehand: {part} may be asked, in an order that no answer can change."
    if plan.views > 1:
        yield f"Each picture is shown {plan.views} times: as it is, and slightly moved and with noise."
    if plan.control:
        yield (
            f"The same was asked of a control, {plan.control.name}: a network made for the same task without the key. "
            "What it favours, too, is taken off: it is a natural confusion, and no sign of the key."
        )


def counts(suspect: SuspectResult, verdict: Verdict) -> list[tuple[str, ...]]:
    """Who answered how many questions by the true class, by the secret class, and otherwise."""
    found: list[tuple[str, float, float]] = [("this network", suspect.right, suspect.matches)]
    for one in suspect.compared:
        several = f" (mean of {one.networks})" if one.networks > 1 else ""
        found.append((f"{one.who}{several}", one.right, one.matches))
    if verdict.key.null == "uniform_wrong_labels":
        lot = (suspect.asked - suspect.right) / (verdict.key.classes - 1)
        found.append(("chance, with as many true answers", suspect.right, lot))
    return [
        (who, *(f"{round(count, 1):g}" for count in (right, secret, suspect.asked - right - secret)))
        for who, right, secret in found
    ]


def comparison(suspect: SuspectResult, verdict: Verdict) -> Iterator[str]:
    """What a network that has never seen the key would answer, and what the scores tell beside first choices."""
    wrong = verdict.key.classes - 1
    if verdict.key.null != "uniform_wrong_labels":
        yield "For this key chance has no rule of thumb: what counts is what other orders of its secret classes give."
        return
    yield (
        f"A network that has never seen the key hits the secret class with about 1 in {wrong} of its wrong answers: "
        f"there are {wrong} wrong classes, and the secret one was drawn by lot."
    )
    if suspect.secret_first is not None:
        control = ", when the scores of the control are taken off," if verdict.plan.control else ""
        first = f"{suspect.secret_first} of {plural(suspect.asked, 'question')}"
        yield (
            "This network gives every class a score, and so it also tells its second choice. With the true class left "
            f"out{control} the secret class comes first in {first}; chance gives about {suspect.asked / wrong:.2g}."
        )


def limits(verdict: Verdict) -> Iterator[str]:
    """What the decisions do not mean, and what they rest on."""
    decisions, level = {one.decision for one in verdict.suspects}, odds(verdict.plan.level)
    if PROVEN in decisions:
        yield "Proven does not say who copied, how, or whether that was allowed."
        yield (
            f"The {level} is not the chance that a proven network is independent. It is how often a network made "
            "without the key would be called proven."
        )
    if NOT_PROVEN in decisions:
        yield "Not proven does not mean independent. A copy can lose its mark, and few questions can miss it."
    if INCONCLUSIVE in decisions:
        yield "No decision is neither half a proof nor a sign of independence."
    yield from _conditions(verdict)


def _conditions(verdict: Verdict) -> Iterator[str]:
    key = verdict.key
    yield "All of it holds only if the key was fixed before the network was made. " + (
        "The key opens a commitment that was given; when that was made, its time stamp or publication must show."
        if key.committed
        else "Nothing here shows that: no commitment to the key was given."
    )
    if key.guessable:
        yield "The secret of this key comes from a small number and can be guessed, so others may know the key."
    if verdict.plan.control:
        yield "The control must have been made without the key: one that knows the key can prove anything."
    yield "One report counts. To ask again and again until one says proven is not covered by the chance named here."
