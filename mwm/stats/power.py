"""How many queries a verdict on labels needs, before any suspect is asked."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from itertools import islice
from operator import index

import numpy as np
from numpy.typing import NDArray

from mwm.stats.binomial import require_classes, require_counts, require_fraction
from mwm.stats.sample_number import last_totals, mean_length

MAX_QUERIES = 10_000
"""Queries beyond which nobody is told to go."""

ROUNDING = 1e-9
"""What shares may add up to beyond 1."""

TINY = 1e-200
"""What stands for a rate of 0: so many queries nobody asks."""


def power(queries: int, *, classes: int, level: float, survival: float, others: float = 0.0) -> float:
    """The chance that the labels of `queries` answers prove a copy at `level`.

    The copy gives the secret label with the chance `survival`, another wrong one with the chance `others`, and the true
    one else. Exact: the wrong answers are binomial, and so are the matches among them. Raises ValueError for shares
    outside (0, 1] and [0, 1 - survival].
    """
    _require_shares(survival, others)
    require_counts(0, queries)
    return _mixed(_proofs(queries, classes=classes, level=level, share=_share(survival, others)), survival + others)


def required_queries(
    survival: float, *, classes: int, level: float, power: float = 0.9, others: float = 0.0
) -> int | None:
    """The number of queries from which on a copy is proved with the chance `power`, by that number and every larger.

    Not the first that reaches it: with other wrong answers power is saw-toothed, it falls a little wherever one more
    match becomes needed. All numbers are looked at up to where Chernoff's bound (1952) proves the rest, or up to
    10,000. None if those do not suffice, as for a copy whose wrong answers match no more than those of an independent
    model, a share of 1 / (classes - 1). Raises ValueError for shares outside their ranges.
    """
    require_fraction("power", power)
    _require_shares(survival, others)
    share, missed = _share(survival, others), (1 - power) / 2
    wrong = min(MAX_QUERIES, _sufficient_bound(share, classes=classes, level=level, power=1 - missed))
    end = _enough(wrong, survival + others, 1 - missed)
    chances = _proofs(end, classes=classes, level=level, share=share)
    return first_of_all(lambda queries: _mixed(chances[: queries + 1], survival + others), end, power)


def first_of_all(chance: Callable[[int], float], end: int, wanted: float) -> int | None:
    """The number of queries from which on all up to `end` have the chance `wanted`; None if 10,000 have not."""
    short = next((queries for queries in range(end, 0, -1) if chance(queries) < wanted), 0)
    return None if short == MAX_QUERIES else short + 1


def average_sample_number(survival: float, *, classes: int, level: float, others: float = 0.0) -> float | None:
    """The mean number of queries after which the sequential test of labels has proved a copy, as `power` has it.

    A right answer tells nothing, so this is the mean number of wrong ones over their share. Exact up to 1e-9 of the
    copies, by following all ways through the test; none is lost, as there is no end to the key. None if 10,000 wrong
    answers do not suffice. Raises ValueError as `required_queries`.
    """
    _require_shares(survival, others)
    share = _share(survival, others)
    if _sufficient_bound(share, classes=classes, level=level, power=0.5) > MAX_QUERIES:
        return None
    ends = last_totals((1, classes - 2), level=level, most=MAX_QUERIES)
    mean = mean_length((share, 1 - share), ends)
    return None if mean is None else mean / (survival + others)


def _share(survival: float, others: float) -> float:
    """The share of the wrong answers that match."""
    return survival / (survival + others)


def _proofs(most: int, *, classes: int, level: float, share: float) -> NDArray[np.float64]:
    """The chance of a proof given 0, 1, ..., `most` wrong answers, of which a share matches."""
    require_fraction("level", level)
    require_classes(classes)
    from scipy.special import betainc

    wrong = np.arange(1, most + 1)
    fewest = np.fromiter(islice(_thresholds(classes, level), most), np.int64)
    found = np.where(fewest <= wrong, betainc(fewest, np.maximum(wrong - fewest, 0) + 1, share), 0.0)
    return np.concatenate(([0.0], found))


def _mixed(chances: NDArray[np.float64], share: float) -> float:
    """The mean of the chances given 0, 1, ..., n wrong answers, where n answers are wrong with the chance `share`."""
    from scipy.special import gammaln, xlog1py, xlogy

    n = len(chances) - 1
    share, wrong = min(share, 1.0), np.arange(n + 1)
    ways = gammaln(n + 1) - gammaln(wrong + 1) - gammaln(n - wrong + 1)
    return float(np.exp(ways + xlogy(wrong, share) + xlog1py(n - wrong, -share)) @ chances)


def _enough(wrong: int, share: float, chance: float) -> int:
    """The fewest queries of which `wrong` are answered wrongly with this chance; 10,000 at most."""
    from scipy.special import betainc

    low, high, share = wrong, MAX_QUERIES, min(share, 1.0)
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if betainc(wrong, middle - wrong + 1, share) >= chance else (middle + 1, high)
    return low


def _thresholds(classes: int, level: float) -> Iterator[int]:
    """The matches needed of 1, 2, 3, ... wrong answers, each from the one before; one too many where all are too few.

    They are `critical_matches`, in whole numbers.
    """
    wrong, total, fewest = index(classes) - 1, 1, 1
    hits, edge = 0, 1  # draws of the labels with at least `fewest` matches, and with one match less
    for n in range(1, MAX_QUERIES + 1):
        hits, total = wrong * hits + edge, wrong * total
        edge = edge * n * (wrong - 1) // (n + 1 - fewest)
        if hits / total > level:
            edge = edge * (n + 1 - fewest) // (fewest * (wrong - 1))
            hits, fewest = hits - edge, fewest + 1
        yield fewest


def _sufficient_bound(share: float, *, classes: int, level: float, power: float) -> int:
    """So many wrong answers, or more, surely have the power; more than 10,000 where none are known to.

    Two bounds of Chernoff (1952): at a share x of matches between those of an independent model and of the copy,
    exp(-n KL(x, share)) bounds the chance of each to be on the wrong side. The best x counts.
    """
    from scipy.special import rel_entr

    require_fraction("level", level)
    require_classes(classes)
    independent = 1 / (classes - 1)
    if share <= independent:
        return MAX_QUERIES + 1
    x = independent + (share - independent) * np.linspace(0, 1, 1002)[1:-1]
    rates = [np.maximum(rel_entr(x, rate) + rel_entr(1 - x, 1 - rate), TINY) for rate in (independent, share)]
    needed = np.maximum(-math.log(level) / rates[0], -math.log(1 - power) / rates[1])
    return math.ceil(min(float(needed.min()), MAX_QUERIES + 1))


def _require_shares(survival: float, others: float) -> None:
    if not 0 < survival <= 1:
        raise ValueError(f"survival {survival} is not allowed; it must be above 0 and at most 1")
    if not 0 <= others <= 1 - survival + ROUNDING:
        raise ValueError(f"other wrong answers {others} are not allowed beside survival {survival}; together at most 1")
