"""The forms in which the answers to a key may come: the ranks that each gives, and what size its exact test has."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mwm.stats.rank_sum import RankSum, Ties, doubled_ranks
from mwm.watermarks.evidence import Evidence, weigh

FORMS = (
    "labels",
    "scores",
    "rounded scores",
    "three best",
    "votes of views",
    "scores of views",
    "votes less control",
    "scores less control",
    "class cells, votes",
    "class cells, scores",
)
"""What one exact test each is made on."""

DOCTORED = ("scores reversed", "scores constant", "next best last")
"""Scores that a suspect makes up beside its honest labels, to hide what they would tell."""

Labels = NDArray[np.int64]
Scores = NDArray[np.float64]


@dataclass(frozen=True)
class Asked:
    """A key and what was answered to it: labels and truth (n), scores (n C), of views (n V C), of a control (n C)."""

    labels: Labels
    truth: Labels
    scores: Scores
    views: Scores
    control: Scores

    @property
    def first(self) -> Labels:
        """The first choices (n)."""
        found: Labels = self.scores.argmax(1)
        return found

    def always_wrong(self) -> Asked:
        """The same suspect, if it never gave the true class."""
        scores, views, rows = self.scores.copy(), self.views.copy(), np.arange(len(self.truth))
        scores[rows, self.truth] = views[rows, :, self.truth] = -np.inf
        return replace(self, scores=scores, views=views)

    def weigh(self, answers: Labels | Scores, **how: Any) -> Evidence:
        """The evidence in these answers instead."""
        return weigh(answers, self.labels, self.truth, classes=self.scores.shape[1], **how)


def ranked(asked: Asked) -> dict[str, RankSum]:
    """The ranks of the secret labels by each form of the answers."""
    scores, (count, views, classes) = asked.scores, asked.views.shape
    plain, less = asked.weigh(scores), asked.weigh(scores, control=asked.control)
    third = np.sort(scores, axis=1)[:, -3:][:, :1]
    viewed = asked.weigh(asked.views.reshape(-1, classes), cells=np.repeat(np.arange(count), views))
    own, first, cells = np.unique(asked.truth, return_index=True, return_inverse=True)
    of_classes = weigh(scores, asked.labels[first], own, classes=classes, cells=cells)
    pairs = (viewed, less, of_classes)
    found = (
        plain.labels,
        plain.scores,
        asked.weigh(scores.round()).scores,
        asked.weigh(np.where(scores >= third, scores, -np.inf)).scores,
        *(form for pair in pairs for form in (pair.labels, pair.scores)),
    )
    return {name: ranks for name, ranks in zip(FORMS, found, strict=True) if ranks is not None}


def doctored(how: str, scores: Scores) -> Scores:
    """Made-up scores with the same first choices: in reverse order, all alike, or with the next best class last."""
    first, rows = scores.argmax(1), np.arange(len(scores))
    if how == "scores reversed":
        made = -scores
    elif how == "scores constant":
        made = np.zeros_like(scores)
    else:
        made = scores.copy()
        made[rows, scores.argsort(1)[:, -2]] = -np.inf
    made = np.clip(made, -1e9, 1e9)
    made[rows, first] = 1e10
    return made


def attainable(ranks: RankSum, levels: Sequence[float]) -> list[float]:
    """The exact size of the test at each level, given the answers: the largest p-value that is not above it."""
    below = cumulative(ranks)
    return [float(below[below <= level * (1 + 1e-9)].max(initial=0.0)) for level in levels]


def cumulative(ranks: RankSum) -> NDArray[np.float64]:
    """The chance of at most each sum of doubled ranks, in another way than the product's: by Fourier transforms."""
    patterns = Counter(cell.ties for cell in ranks)
    largest = sum((2 * sum(ties) - 2) * count for ties, count in patterns.items())
    logs = sum(count * _spectrum(ties, largest + 1) for ties, count in patterns.items())
    found: NDArray[np.float64] = np.fft.irfft(np.exp(logs), largest + 1).cumsum()
    return found


@lru_cache(maxsize=2048)
def _spectrum(ties: Ties, length: int) -> NDArray[np.complex128]:
    """The logarithm of the transform of the chances of doubled ranks."""
    face = np.zeros(length)
    face[[*doubled_ranks(ties)]] = np.array(ties) / sum(ties)
    found = np.fft.rfft(face)
    return np.log(np.where(np.abs(found) < 1e-300, 1e-300, found))
