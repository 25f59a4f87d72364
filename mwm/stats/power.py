"""How many queries a verdict needs, before any suspect is asked."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator
from itertools import islice
from operator import index
from typing import Any

import numpy as np

from mwm.stats.binomial import critical_matches, require_classes, require_fraction
from mwm.stats.sequential import SequentialTest

MAX_QUERIES = 10_000
"""Queries beyond which nobody is told to go."""


def power(queries: int, *, classes: int, level: float, survival: float) -> float:
    """The chance that `queries` prove a copy at `level` if it keeps each of them with the chance `survival`.

    The exact tail of Binomial(queries, survival) from `critical_matches` on. Raises ValueError for shares outside
    (0, 1].
    """
    _require_survival(survival)
    fewest = critical_matches(queries, classes, level)
    return 0.0 if fewest is None else float(_tail(fewest, queries, survival))


def required_queries(survival: float, *, classes: int, level: float, power: float = 0.9) -> int | None:
    """The number of queries from which on a copy is proved with the chance `power`, by that number and every larger.

    Not the first that reaches it: power is saw-toothed, it falls a little wherever one more match becomes needed. All
    numbers are looked at up to where Chernoff's bound (1952) proves the rest, or up to 10,000. None if those do not
    suffice, as for the `survival` of an independent model, 1 / (classes - 1) and below. Raises ValueError for shares
    outside their ranges.
    """
    end = _sufficient_bound(survival, classes=classes, level=level, power=power)
    counts = np.arange(1, min(end, MAX_QUERIES) + 1)
    fewest = np.fromiter(islice(_thresholds(classes, level), len(counts)), np.int64)
    short = counts[_tail(fewest, counts, survival) < power]
    last = int(short.max(initial=0))
    return None if last == MAX_QUERIES else last + 1


def average_sample_number(survival: float, classes: int, level: float) -> float | None:
    """The mean number of queries after which the sequential test has proved a copy that keeps `survival` of them.

    Exact up to 1e-9 of the copies, by following all ways through the test; none is lost, as there is no end to the key.
    None if 10,000 queries do not suffice. Raises ValueError as `required_queries`.
    """
    if _sufficient_bound(survival, classes=classes, level=level, power=0.5) > MAX_QUERIES:
        return None
    alive, mean = np.ones(1), 0.0  # chances of so many matches without an end so far
    for fewest in islice(_boundary(classes, level), MAX_QUERIES):
        mean += alive.sum()
        alive = np.convolve(alive, (1 - survival, survival))[:fewest]
        if alive.sum() < 1e-9:
            return float(mean)
    return None


def _tail(fewest: Any, queries: Any, survival: float) -> Any:
    """P(Binomial(queries, survival) >= fewest) for whole numbers or arrays of them; 0 where fewest > queries."""
    from scipy.special import betainc

    return np.where(fewest <= queries, betainc(fewest, np.maximum(queries - fewest, 0) + 1, survival), 0.0)


def _thresholds(classes: int, level: float) -> Iterator[int]:
    """`critical_matches` for 1, 2, 3, ... queries, each from the one before; one too many where all prove nothing."""
    wrong, total, fewest = index(classes) - 1, 1, 1
    hits, edge = 0, 1  # draws of the labels with at least `fewest` matches, and with one match less
    for n in range(1, MAX_QUERIES + 1):
        hits, total = wrong * hits + edge, wrong * total
        edge = edge * n * (wrong - 1) // (n + 1 - fewest)
        if hits / total > level:
            edge = edge * (n + 1 - fewest) // (fewest * (wrong - 1))
            hits, fewest = hits - edge, fewest + 1
        yield fewest


def _boundary(classes: int, level: float) -> Iterator[int]:
    """The matches that end the sequential test after 1, 2, 3, ... queries: each time the same or one more."""
    at = SequentialTest(classes)
    while at.current_p_value > level:
        at.add(True)
        yield at.queries + (at.current_p_value > level)
    while True:
        missed = copy.copy(at)
        missed.add(False)
        if missed.current_p_value > level:
            at.add(True)
        else:
            at = missed
        yield at.matches


def _sufficient_bound(survival: float, *, classes: int, level: float, power: float) -> float:
    """So many queries, or more, surely have the power: two bounds of Chernoff (1952) on the best share of matches.

    At a share x between the rates of an independent model and of the copy, exp(-n KL(x, rate)) bounds the chance of
    each to be on the wrong side. Infinite where the copy matches no more than that.
    """
    from scipy.special import rel_entr

    _require_survival(survival)
    require_fraction("level", level)
    require_fraction("power", power)
    require_classes(classes)
    independent = 1 / (classes - 1)
    if survival <= independent:
        return math.inf
    x = independent + (survival - independent) * np.linspace(0, 1, 1002)[1:-1]
    wrong, missed = (rel_entr(x, rate) + rel_entr(1 - x, 1 - rate) for rate in (independent, survival))
    return math.ceil(float(np.maximum(-math.log(level) / wrong, -math.log(1 - power) / missed).min()))


def _require_survival(survival: float) -> None:
    if not 0 < survival <= 1:
        raise ValueError(f"survival {survival} is not allowed; it must be above 0 and at most 1")
