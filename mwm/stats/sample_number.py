"""How many queries the sequential test asks on average."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from functools import lru_cache

import numpy as np
from numpy.typing import ArrayLike

from mwm.stats.rank_sum import Ties, doubled_ranks
from mwm.stats.sequential import TILTS, log_means

NEGLIGIBLE = 1e-18
"""Chances of single sums that are left out at the far end."""

PIECE = 256
"""So many numbers of cells are looked at together."""


def last_totals(ties: Ties, *, level: float, most: int, silent: int = 0) -> Iterator[int]:
    """The largest sum of ranks at which the sequential test has ended after 1, 2, ..., `most` cells with these ties.

    Sums are counted in the steps of the ranks; -1 where none ends it. `silent` forms of the answers tell nothing and
    are averaged in, as labels that are all right are beside scores.
    """
    for start in range(1, most + 1, PIECE):
        yield from _last_totals(ties, level=level, start=start, silent=silent)[: most + 1 - start]


@lru_cache(maxsize=256)
def _last_totals(ties: Ties, *, level: float, start: int, silent: int) -> list[int]:
    """The next `PIECE` of them, by halving."""
    ranks = [*doubled_ranks(ties)]
    step = math.gcd(*ranks)
    unit, cells = step / (2 * sum(ties) - 2), np.arange(start, start + PIECE)
    low, high = np.full(PIECE, -1), cells * (ranks[-1] // step)
    while (low < high).any():
        middle = (low + high + 1) // 2
        logs = -np.outer(middle * unit, TILTS) - np.outer(cells, log_means(ties))
        log_e = np.logaddexp.reduce(logs, axis=1) - math.log(len(TILTS))
        if silent:
            log_e = np.logaddexp(log_e, math.log(silent)) - math.log(1 + silent)
        ended = log_e >= -math.log(level)
        low, high = np.where(ended, middle, low), np.where(ended, high, middle - 1)
    found: list[int] = low.tolist()
    return found


def mean_length(chances: ArrayLike, ends: Iterable[int]) -> float | None:
    """The mean number of cells until their sum is at most ends[n]; `chances` are those of 0, 1, ... in each cell.

    Exact up to 1e-9 of all ways; None if more of them have not ended when `ends` have.
    """
    alive, first, mean = np.ones(1), 0, 0.0  # the chances of sums `first`, `first` + 1, ... without an end so far
    for end in ends:
        mean += float(alive.sum())
        alive = np.convolve(alive, np.asarray(chances))
        over = max(0, end + 1 - first)
        alive, first = alive[over:], first + over
        alive = alive[: np.flatnonzero(alive > NEGLIGIBLE)[-1:].sum() + 1]
        if alive.sum() < 1e-9:
            return mean
    return None
