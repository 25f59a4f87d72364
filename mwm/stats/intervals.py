"""Means and rates with their intervals."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from statistics import fmean, stdev
from typing import Any

from mwm.stats.binomial import require_counts, require_fraction


@dataclass(frozen=True)
class MeanInterval:
    """A mean over seeds with its 95 % interval (Student, 1908); one seed has none."""

    value: float
    low: float | None = None
    high: float | None = None


def mean_interval(numbers: Sequence[float], most: float = math.inf) -> MeanInterval:
    """The mean of numbers between 0 and `most`, and its interval as far as it lies there."""
    if len(numbers) < 2:
        return MeanInterval(fmean(numbers))
    from scipy.special import stdtrit

    mean, n = fmean(numbers), len(numbers)
    # statistics.stdev counts in fractions, and would take most of the time of a large sweep's tables.
    sd = math.sqrt(sum((number - mean) ** 2 for number in numbers) / (n - 1))
    half = float(stdtrit(n - 1, 0.975)) * sd / math.sqrt(n)
    return MeanInterval(mean, max(mean - half, 0.0), min(mean + half, most))


def mean_and_sd(numbers: Sequence[float]) -> dict[str, Any]:
    """Count, mean and standard deviation; None where there are too few numbers."""
    mean = fmean(numbers) if numbers else None
    return {"n": len(numbers), "mean": mean, "sd": stdev(numbers) if len(numbers) > 1 else None}


@lru_cache(maxsize=4096)
def clopper_pearson(matches: int, queries: int, confidence: float = 0.95) -> tuple[float, float]:
    """The match rates (low, high) that agree with the matches seen (Clopper and Pearson, 1934).

    Covers the true rate with at least the chance `confidence`, for every rate and every number of queries.
    Raises ValueError for counts that cannot be and for a confidence outside (0, 1).
    """
    # scipy.stats has them too, and takes five times as long to import.
    from scipy.special import betainccinv, betaincinv

    require_counts(matches, queries)
    require_fraction("confidence", confidence)
    tail = (1 - confidence) / 2
    low = float(betaincinv(matches, queries - matches + 1, tail)) if matches else 0.0
    high = float(betainccinv(matches + 1, queries - matches, tail)) if matches < queries else 1.0
    return low, high
