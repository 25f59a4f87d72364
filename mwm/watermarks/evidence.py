"""What a network's answers to a key are worth: from labels or scores to ranks, and from ranks to one p-value."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mwm.stats.rank_sum import RankSum, bonferroni, rank_labels
from mwm.stats.sequential import SequentialTest

Scores = NDArray[np.float64]
Labels = NDArray[np.int64]

LEAST_CHANCE = 1e-7
"""What a smaller chance counts as where several are averaged: one that was rounded to 0 would outweigh all others."""

LARGEST_SCORE = 1e300
"""What a larger score counts as there, infinity among them."""


@dataclass(frozen=True)
class Evidence:
    """The ranks of a key's secret labels by what was answered: by first choices, and by scores where there are any.

    `second` is the evidence of the second key of a network that carries two: both keys decide together.
    """

    labels: RankSum
    scores: RankSum | None
    second: Evidence | None = field(default=None, kw_only=True)

    @property
    def forms(self) -> tuple[RankSum, ...]:
        """Labels, and scores if they were offered. Which there are follows from the form of the answers alone."""
        return (self.labels,) if self.scores is None else (self.labels, self.scores)

    @property
    def tests(self) -> tuple[RankSum, ...]:
        """What is tested: each form of answers, of each key."""
        return self.forms if self.second is None else self.forms + self.second.tests

    @property
    def p_value(self) -> float:
        """The p-value that decides: of labels, or twice the smaller one of labels and scores.

        So nobody weakens the case by offering doctored scores beside honest labels. With a second key it is the least
        of all tests of both, times their number.
        """
        return bonferroni(form.p_value for form in self.tests)

    @property
    def log10_p(self) -> float:
        """The decimal logarithm of `p_value`, which tells also what no float can hold."""
        return min(0.0, math.log10(len(self.tests)) + min(form.log10_p for form in self.tests))

    @property
    def mean_rank(self) -> float:
        """The mean mid-rank by the finest form, as a share of the largest: 0 for a perfect copy, .5 by chance."""
        return self.forms[-1].mean

    @property
    def wrong_answers(self) -> int:
        """The cells with a wrong answer among their first choices: by labels alone no other can tell anything."""
        return sum(len(cell.ties) > 1 for cell in self.labels)

    def first(self, cells: int) -> Evidence:
        """The evidence of the first cells of the key alone, and of a second key as it is."""
        return Evidence(self.labels[:cells], None if self.scores is None else self.scores[:cells], second=self.second)

    def sequential(self, classes: int) -> SequentialTest:
        """The sequential test after all cells, in their order."""
        test = SequentialTest(classes, len(self.forms))
        for ranks in zip(*self.forms, strict=True):
            test.add(ranks)
        return test


def weigh(
    answers: Labels | Scores,
    labels: Labels,
    truth: Labels,
    *,
    classes: int,
    cells: Labels | None = None,
    control: Labels | Scores | None = None,
) -> Evidence:
    """The evidence in answers to the images of a key: class indices (m), or scores (m C).

    `labels` and `truth` (n) are those of the cells, `cells` (m) says to which each image belongs (None: it is one). The
    scores of a cell are mean log-probabilities; of labels, the votes for each class. A label that is no class is no
    vote, nor is a row of equal scores. The answers of a `control` that never saw the key are subtracted first, as votes
    and as mean probabilities: a mark adds probability, and of hardly probable classes the logarithm is mostly noise. No
    rule looks at `labels`. Raises ValueError where the control gives labels and the suspect scores.
    """
    how: Any = {"cells": cells, "count": len(labels), "classes": classes}
    votes = _votes(answers, **how)
    scores: Any = None if answers.ndim == 1 else answers.astype(np.float64)
    if scores is not None and cells is not None and control is None:
        scores = _means(log_probabilities(answers), **how)
    if control is not None:
        if control.ndim < answers.ndim:
            raise ValueError("control: it answers with labels, and the suspect with scores: both must answer alike")
        votes = votes - _votes(control, **how)
        if scores is not None:
            known, told = (_means(np.exp(log_probabilities(one)), **how) for one in (control, answers))
            scores = told - known
    ranked = None if scores is None else rank_labels(scores, labels, truth)
    return Evidence(rank_labels(votes, labels, truth), ranked)


def _votes(answers: Labels | Scores, *, cells: Labels | None, count: int, classes: int) -> Scores:
    """How often each class was the first choice among the answers to each cell (n C)."""
    place = np.arange(count) if cells is None else cells
    first = first_choices(answers)
    votes, named = np.zeros((count, classes)), (first >= 0) & (first < classes)
    np.add.at(votes, (place[named], first[named].astype(np.int64)), 1.0)
    return votes


def first_choices(answers: NDArray[Any]) -> Labels:
    """The class that each answer names (m), from labels (m) or scores (m C); -1 for equal scores, which name none."""
    if answers.ndim == 1:
        return answers.astype(np.int64)
    found: Labels = np.where((answers != answers[:, :1]).any(1), answers.argmax(1), -1)
    return found


def _means(values: Scores, *, cells: Labels | None, count: int, classes: int) -> Scores:
    """The means over the images of each cell (n C)."""
    if cells is None:
        return values
    sums = np.zeros((count, classes))
    np.add.at(sums, cells, values)
    found: Scores = sums / np.bincount(cells, minlength=count)[:, None]
    return found


def log_probabilities(scores: Labels | Scores) -> Scores:
    """Logarithms of chances (m C), 1e-7 at least: a row that adds up to 1 at most holds chances, any other logits.

    Each row is read by itself, so that what is worth so much now is worth the same when more answers have come.
    """
    held = np.clip(np.asarray(scores, np.float64), -LARGEST_SCORE, LARGEST_SCORE)
    chances = np.exp(held - held.max(1, keepdims=True))
    chances /= chances.sum(1, keepdims=True)
    found: Scores = np.log(np.maximum(np.where(holds_chances(held)[:, None], held, chances), LEAST_CHANCE))
    return found


def holds_chances(scores: Scores) -> NDArray[np.bool_]:
    """Whether each row (m) of scores (m C) holds chances, and not logits."""
    found: NDArray[np.bool_] = (scores.min(1) >= 0) & (scores.sum(1) <= 1.01)  # rounded; those not listed are 0
    return found
