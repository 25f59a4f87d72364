"""How many queries a verdict on scores needs, before any suspect is asked.

A copy is told by the mean rank of the secret labels among the wrong classes, as a share of the largest: 0 if they are
always first, .5 by chance. One less it is the area under the ROC curve of the secret label against another wrong class.
Of all copies with that mean, the one meant here has ranks of maximum entropy (Jaynes, 1957): exponentially tilted.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mwm.stats.binomial import require_classes, require_counts, require_fraction
from mwm.stats.power import MAX_QUERIES, TINY, first_of_all
from mwm.stats.rank_sum import LARGEST_TILT
from mwm.stats.sample_number import last_totals, mean_length

FORMS = 2
"""Labels and scores: each is tested at the level over their number."""

STEEP = 8.0
"""The tilt of sums near 0: a rank of 1 keeps a chance of e^-8, well above what rounding takes."""


def score_power(queries: int, *, classes: int, level: float, rank: float) -> float:
    """The chance that the scores of `queries` answers prove a copy of this mean rank at `level`.

    Exact for the sum of the ranks, at half the level, as labels are tested as well: what those may add is left out.
    Raises ValueError for a rank outside 0 to 1.
    """
    require_counts(0, queries)
    return _Copy(_required_rank(rank), classes, level).power(queries)


def required_for_scores(rank: float, *, classes: int, level: float, power: float = 0.9) -> int | None:
    """The number of queries from which on scores prove a copy of this mean rank with the chance `power`.

    By that number and every larger, as `required_queries`. None if 10,000 do not suffice, as for a rank of .5 and more.
    Raises ValueError for shares outside their ranges.
    """
    require_fraction("power", power)
    copy = _Copy(_required_rank(rank), classes, level)
    return first_of_all(copy.power, min(copy.sufficient_bound(power), MAX_QUERIES), power)


def average_for_scores(rank: float, *, classes: int, level: float) -> float | None:
    """The mean number of queries after which the sequential test has proved a copy of this mean rank by its scores.

    The copy gives right labels: they tell nothing, and count half. Exact up to 1e-9 of the copies, by following all
    ways through the test. None if 10,000 do not suffice. Raises ValueError for a rank outside 0 to 1.
    """
    copy = _Copy(_required_rank(rank), classes, level)
    if copy.sufficient_bound(0.5) > MAX_QUERIES:
        return None
    ends = last_totals((1,) * (classes - 1), level=level, most=MAX_QUERIES, silent=1)
    return mean_length(_weights(copy.tilt, classes), ends)


@dataclass(frozen=True)
class _Copy:
    """Ranks from 0 to C - 2: tilted for a copy of this mean rank, uniform for independent models."""

    rank: float
    classes: int
    level: float

    def __post_init__(self) -> None:
        require_classes(self.classes)
        require_fraction("level", self.level)

    @cached_property
    def tilt(self) -> float:
        """The t at which ranks with chances like exp(-t rank) have the mean."""
        low, high = -LARGEST_TILT, LARGEST_TILT
        for _ in range(70):
            middle = (low + high) / 2
            far = _mean(middle, self.classes) > self.rank * (self.classes - 2)
            low, high = (middle, high) if far else (low, middle)
        return high

    def sufficient_bound(self, power: float) -> int:
        """So many queries, or more, surely have the power; more than 10,000 if none are known to.

        At a mean between those of an independent model and of the copy, two bounds of Chernoff (1952) tell how seldom
        each is on the wrong side. The best such mean counts.
        """
        if self.rank >= 0.5:
            return MAX_QUERIES + 1
        tilts = self.tilt * np.linspace(0, 1, 1002)[1:-1]
        means, logs = _mean(tilts, self.classes), _log_mean(tilts, self.classes)
        independent = np.maximum(-tilts * means - logs, TINY)
        copied = np.maximum((self.tilt - tilts) * means + _log_mean(self.tilt, self.classes) - logs, TINY)
        needed = np.maximum(-math.log(self.level / FORMS) / independent, -math.log(1 - power) / copied)
        return math.ceil(min(float(needed.min()), MAX_QUERIES + 1))

    def power(self, queries: int) -> float:
        """The chance of a sum of ranks that is small enough."""
        first, chances = _sums(self.tilt, self.classes, queries)
        most = largest_sum(queries, classes=self.classes, level=self.level / FORMS)
        return min(1.0, float(chances[: max(0, most + 1 - first)].sum()))


def largest_sum(queries: int, *, classes: int, level: float) -> int:
    """The largest sum of ranks that is as rare as `level` for an independent model; -1 if none is."""
    if queries * math.log(classes - 1) < -math.log(level) * (1 - 1e-11):
        return -1
    # Any tilt would do. With this one the sums in question are the likeliest, and so they keep their digits.
    tilts, rates = _rates(classes)
    tilt = float(np.interp(-math.log(level) / queries, rates, tilts))
    first, chances = _sums(tilt, classes, queries)
    logs = tilt * (first + np.arange(len(chances))) + queries * _log_mean(tilt, classes)
    independent = np.cumsum(chances * np.exp(np.minimum(logs, 30.0)))  # what is above counts for more than any level
    return first + int(np.searchsorted(independent, level * (1 + 1e-11), "right")) - 1


def _sums(tilt: float, classes: int, count: int) -> tuple[int, NDArray[np.float64]]:
    """The first sum of so many tilted ranks that matters, and the chances of it and the next ones.

    An exact convolution, but for sums of chances below 1e-17 in all (Hoeffding, 1963).
    """
    weights, most = _weights(tilt, classes), classes - 2
    length = 1 << math.ceil(min(count * most, 9 * most * math.sqrt(count))).bit_length()
    around = np.fft.irfft(np.fft.rfft(weights, length) ** count, length)
    first = max(0, round(count * _mean(tilt, classes)) - length // 2)
    return first, np.maximum(np.roll(around, -(first % length)), 0.0)


@lru_cache(maxsize=64)
def _rates(classes: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Tilts, and Cramér's rate (1938) of each: how soon a mean as small as the tilted one becomes rare by chance."""
    tilts = np.geomspace(1e-4 / classes, STEEP, 1000)
    return tilts, -tilts * _mean(tilts, classes) - _log_mean(tilts, classes)


def _mean(tilt: ArrayLike, classes: int) -> Any:
    return _weights(tilt, classes) @ np.arange(classes - 1)


def _log_mean(tilt: ArrayLike, classes: int) -> Any:
    """The logarithm of the mean of exp(-tilt rank) over all wrong classes."""
    logs = -np.multiply.outer(tilt, np.arange(classes - 1))
    top = logs.max(-1)
    return top + np.log(np.exp(logs - top[..., None]).mean(-1))


def _weights(tilt: ArrayLike, classes: int) -> NDArray[np.float64]:
    """The chances of the ranks."""
    logs = -np.multiply.outer(tilt, np.arange(classes - 1))
    weights = np.exp(logs - logs.max(-1, keepdims=True))
    found: NDArray[np.float64] = weights / weights.sum(-1, keepdims=True)
    return found


def _required_rank(rank: float) -> float:
    if not 0 <= rank <= 1:
        raise ValueError(f"rank {rank} is not allowed; it must be from 0, always first, to 1")
    return rank
