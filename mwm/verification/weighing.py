"""From what a suspect answered to the ranks of the secret labels: all at once, or cell by cell as answers come."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mwm.stats.sequential import SequentialTest
from mwm.verification.querying.answer_log import Answers, Labels, Scores
from mwm.verification.querying.order import OrderedQueries
from mwm.verification.suspects.outputs import NO_ANSWER
from mwm.watermarks.evidence import Evidence, weigh


def weigh_answers(asked: OrderedQueries, answers: Answers, control: Answers | None = None) -> Evidence:
    """The evidence in the answers (m) to all that was asked, after those of a `control` (m) are subtracted, if any.

    An image that one of the two did not answer is left out for both. Raises ValueError for a control that gives labels
    where the suspect gives scores.
    """
    told, known = _values(answers), None
    if control is not None:
        silent = (answers.labels == NO_ANSWER) | (control.labels == NO_ANSWER)
        told, known = _without(told, silent), _without(_values(control), silent)
    single = len(asked) == len(asked.cells)
    how: Any = {"classes": asked.classes, "cells": None if single else asked.places, "control": known}
    return weigh(told, asked.labels, asked.truth, **how)


def _values(answers: Answers) -> Labels | Scores:
    return answers.labels if answers.scores is None else answers.scores


def _without(values: Labels | Scores, silent: NDArray[np.bool_]) -> Labels | Scores:
    """Answers of which some count as none: equal scores, which move the mean of no class before another."""
    if values.ndim == 1:
        return np.where(silent, NO_ANSWER, values)
    return np.where(silent[:, None], 1 / values.shape[1], values)


@dataclass
class Progress:
    """The sequential test of a suspect, kept up with its answers; `control` (m) has answered everything before."""

    asked: OrderedQueries
    control: Answers | None
    _forms: int = 0
    _test: SequentialTest = field(init=False)

    def follow(self, answers: Answers) -> SequentialTest:
        """The test after every cell that has been answered in full, by all answers so far (m at most)."""
        asked, forms = self.asked, 1 if answers.scores is None else 2
        if forms != self._forms:  # at first, and when after mere silence the first answer comes
            self._forms, self._test = forms, SequentialTest(asked.classes, forms)
        first, end = self._test.cells, asked.whole(len(answers))
        if end > first:
            shown = slice(asked.end(first), asked.end(end))
            control = None if self.control is None else self.control.part(shown)
            evidence = weigh_answers(asked.part(first, end), answers.part(shown), control)
            for ranks in zip(*evidence.forms, strict=True):
                self._test.add(ranks)
        return self._test
