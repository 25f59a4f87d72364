"""Why a suspect may be inconclusive: it is asked again in other ways, and what fits is told, with how to ask so."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from mwm.verification.diagnosis.fit import Fit, as_options, best_fit, count_right, is_no_chance, orders
from mwm.verification.diagnosis.probe import KEYS, OWN, Probe
from mwm.verification.querying.answer_log import Answers, SuspectAnswers
from mwm.verification.querying.asking import AskPolicy, ask
from mwm.verification.querying.numbering import NumberedSuspect, Numbering, Way
from mwm.verification.suspects.outputs import NoAnswerError
from mwm.verification.suspects.presentation import LAYOUTS, InputFormat, usual_ranges

UNDIAGNOSED = "other ways of asking it were not tried (--no-diagnosis): see --input-range, --layout and --classes"

OUTAGES = 3
"""Ways one after another that fail for what may pass, before no more are tried."""

SAME = 0.9
"""Share of equal answers from which a suspect seems to give always the same."""


@dataclass
class Diagnosis:
    """How one suspect was asked about a probe: in which ways it answered, and what it answered first, and how not."""

    suspect: NumberedSuspect
    probe: Probe
    policy: AskPolicy
    batch: int

    def __post_init__(self) -> None:
        """Nothing is asked yet."""
        self.told: dict[InputFormat, Answers] = {}
        self.images, self.refused, self.fault, self._outages = 0, 0, "", 0

    def reasons(self, bound: float, own: tuple[str, ...]) -> tuple[str, ...]:
        """Ask in one group of ways after another until one fits; what may be the matter, in words.

        `own` are the names of the key's classes. A way fits if it gives a share of true classes of `bound` or more.
        """
        base, usual = self.suspect.presentation, self.suspect.numbering
        best = None
        for group in groups(base, self.probe.images.shape[1]):
            self._try(group)
            best = best_fit(self.told, self.probe.truth, usual) if self.told else None
            if best and is_no_chance(best, self._tried, bound):
                return tuple(self._what_fits(best, Way(base, usual), own))
        return tuple(self._nothing_fits(best, base))

    @property
    def _tried(self) -> int:
        return len(self.told) * len(list(orders(self.suspect.numbering)))

    def _try(self, group: list[InputFormat]) -> None:
        """Show the images in each of some ways."""
        questions, numbering = self.probe.questions(), self.suspect.numbering
        plain = Numbering(len(numbering.order), tuple(range(len(numbering.order))), numbering.names)
        for shown in group:
            if self._outages >= OUTAGES:
                return
            log = SuspectAnswers(None, 0)
            suspect = NumberedSuspect(self.suspect.suspect.shown(shown), plain)
            try:
                ask(suspect, questions, log, policy=self.policy, more=lambda _: self.batch)
            except (NoAnswerError, ValueError) as error:
                self.refused, self.fault = self.refused + 1, str(error)
                passing = isinstance(error, NoAnswerError) and not error.permanent
                self._outages = self._outages + 1 if passing else 0
            else:
                self.told[shown], self._outages = log.answers(questions.numbers, self.probe.classes), 0
            self.images += len(log.labels)

    def _what_fits(self, best: Fit, asked: Way, own: tuple[str, ...]) -> Iterator[str]:
        share = f"{best.right} of {best.asked} of {self.probe.source}"
        if best.way == asked:
            yield f"it is asked rightly: so it names the true class of {share}"
            if self.probe.source == OWN:
                yield "it errs on the key's images alone, as what was taught other labels for them does"
            return
        now = self.told.get(asked.presentation)
        before = "" if now is None else f"; as asked: {count_right(now.labels, self.probe.truth, asked.numbering)}"
        way = as_options(best.way, own)
        how = f"with {way}" if way else "without --input-range, --layout and --classes"
        yield f"right {how}: {share}{before}"

    def _nothing_fits(self, best: Fit | None, base: InputFormat) -> Iterator[str]:
        now = self.told.get(base)
        if now is not None and (values := np.unique(now.labels, return_counts=True))[1].max() >= SAME * len(now):
            top = values[1].argmax()
            yield f"it answers class {values[0][top]} to {values[1][top]} of {len(now)} images, whatever they show"
        if best is not None:
            most = f"the true class of more than {best.right} of {best.asked} of {self.probe.source}"
            yield f"none of {len(self.told)} ways to show images, in any usual order of classes, gives {most}"
            yield "it may be a network for another task or other classes, or one that has hardly learnt"
            if self.probe.source == KEYS:
                yield "or a copy, which errs on the key's images: where the key's data lie, their test images are asked"
        if self.refused:
            yield f"it gave no answer in {self.refused} other ways, the last time: {self.fault}"


def groups(base: InputFormat, channels: int) -> Iterator[list[InputFormat]]:
    """Ways to show images with so many channels: first those with the axes of `base`, then the others."""
    ranges = dict.fromkeys([base.range, "0,1", *usual_ranges(channels)])
    axes = base.layout[:4]
    for same in (True, False):
        layouts = [one for one in LAYOUTS if one.startswith(axes) == same and (channels > 1 or "bgr" not in one)]
        layouts.sort(key=lambda one: one != base.layout)
        yield [InputFormat(one, layout) for layout in layouts for one in ranges if _is_for(one, channels)]


def _is_for(range_: str, channels: int) -> bool:
    try:
        InputFormat(range_).check(channels)
    except ValueError:
        return False
    return True
