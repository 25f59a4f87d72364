"""What a reader has to know to judge a verdict, beside the numbers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from mwm.verification.options import VerifyOptions
from mwm.verification.verdict import INCONCLUSIVE, KEYS_OWN, NOT_PROVEN, PROVEN, SuspectResult, Verdict, VerdictPlan
from mwm.watermarks.key import Key

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
    if (plan.input_range, plan.layout, plan.class_order) != ("0,1", "nchw", KEYS_OWN):
        yield "range, layout and order of classes must have been chosen without the secret labels"
        yield "an inconclusive verdict before was a look, too: both together err with twice the level at most"
    if plan.answers:
        yield f"suspects are judged as if they answered with {plan.answers}; answers.jsonl holds what they did answer"
        yield "the form of answers must have been chosen before any answer was seen"
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
            yield f"{named} (0 to {classes - 1}): does it count from 1, in another order, by other names? See --classes"


def all_notes(verdict: Verdict) -> Iterator[str]:
    """What the decisions say, and what they do not; then what else there is to know."""
    decisions = {suspect.decision for suspect in verdict.suspects}
    if PROVEN in decisions:
        chance = f"a chance of {verdict.plan.level:g} at most, if the key was fixed before it"
        yield f"proven: made independently of the key, a model is called so with {chance}; who copied, and how, is open"
    if NOT_PROVEN in decisions:
        yield "not proven does not mean independent: an attack can remove the watermark, and few queries can miss it"
    if INCONCLUSIVE in decisions:
        yield "inconclusive: till a suspect is asked in the way that it expects, its answers tell nothing"
    yield from verdict.notes
