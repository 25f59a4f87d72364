"""Which way of asking a suspect fits, by true classes alone: no function here is given a secret label."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from mwm.stats.assignment import best_assignment
from mwm.stats.binomial import p_value
from mwm.verification.querying.answer_log import Answers, Labels
from mwm.verification.querying.numbering import FROM_ONE, NUMBER, TEXT, Numbering, Way, sorted_order
from mwm.verification.suspects.presentation import InputFormat

CHANCE = 0.01
"""How likely anything may seem to fit a suspect that guesses."""

MARGIN = 0.1
"""By how much of all answers an order that was fitted to them must be better than one that was not."""


@dataclass(frozen=True)
class Fit:
    """A way to ask, and how many of the images that were `asked` get their true class so."""

    way: Way
    right: int
    asked: int


def best_fit(told: Mapping[InputFormat, Answers], truth: Labels, usual: Numbering) -> Fit:
    """The way with the most true classes among those in which images were shown, and among orders of classes.

    `told` are the answers (n) in the suspect's own numbers, `truth` (n) the true classes, and `usual` is the order that
    is taken if no other is better. Of equal ways the first one is best.
    """
    fits = [_best_order(presentation, answers, truth=truth, usual=usual) for presentation, answers in told.items()]
    return max(fits, key=lambda fit: fit.right)


def count_right(first: Labels, truth: Labels, numbering: Numbering) -> int:
    """How many first choices (n), in the suspect's own numbers, are the true class."""
    return int((numbering.read(first, "") == truth).sum())


def is_no_chance(fit: Fit, tried: int, bound: float) -> bool:
    """Whether the best of so many ways that were `tried` is better than guesses would be, and not below a bound."""
    guessed = p_value(fit.right, fit.asked, fit.way.numbering.classes + 1)
    return fit.right >= bound * fit.asked and guessed * tried <= CHANCE


def _best_order(presentation: InputFormat, answers: Answers, *, truth: Labels, usual: Numbering) -> Fit:
    first = answers.labels
    known = [one for one in orders(usual) if answers.scores is None or not one.first]
    fits = [Fit(Way(presentation, one), count_right(first, truth, one), len(truth)) for one in known]
    best = max(fits, key=lambda fit: fit.right)
    fitted = Fit(Way(presentation, _fitted(first, truth, usual)), _held_out(first, truth, usual), len(truth))
    return fitted if fitted.right > best.right + MARGIN * len(truth) else best


def orders(usual: Numbering) -> Iterator[Numbering]:
    """The orders of classes that are often met."""
    classes, names = usual.classes, usual.names
    yield usual
    yield Numbering(classes, tuple(range(classes)), names)
    yield Numbering(classes, tuple(range(classes)), names, first=1)
    yield Numbering(classes, sorted_order(TEXT, classes, names), names)
    if not names or all(name.isdecimal() for name in names):
        yield Numbering(classes, sorted_order(NUMBER, classes, names), names)


def _fitted(first: Labels, truth: Labels, usual: Numbering) -> Numbering:
    """The order by which the most first choices are the true class."""
    inside = (first >= 0) & (first < usual.classes)
    counts = np.zeros((usual.classes, usual.classes), np.int64)
    np.add.at(counts, (first[inside], truth[inside]), 1)
    return Numbering(usual.classes, tuple(best_assignment(counts)), usual.names)


def _held_out(first: Labels, truth: Labels, usual: Numbering) -> int:
    """How many first choices are the true class by an order that was fitted to the other half of them."""
    halves = np.arange(len(truth)) % 2 == 0
    return sum(
        count_right(first[half], truth[half], _fitted(first[~half], truth[~half], usual)) for half in (halves, ~halves)
    )


def as_options(way: Way, own: tuple[str, ...]) -> str:
    """The options of the command that ask so, for a key with its `own` names of classes."""
    shown, numbering = way.presentation, way.numbering
    said = [f"--input-range={shown.range}"] * (shown.range != "0,1")
    said += [f"--layout {shown.layout}"] * (shown.layout != "nchw")
    said += [f"--classes {_order(numbering, own)}"] * (not numbering.usual or numbering.names != own)
    return " ".join(said)


def _order(numbering: Numbering, own: tuple[str, ...]) -> str:
    for how in (TEXT, NUMBER):
        counted = how == TEXT or all(name.isdecimal() for name in own)
        if counted and numbering.first == 0 and numbering.order == sorted_order(how, numbering.classes, own):
            return how
    return FROM_ONE if numbering.first else numbering.described(own)
