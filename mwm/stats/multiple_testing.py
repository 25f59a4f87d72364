"""Corrections for several suspects tested at once."""

from __future__ import annotations

from collections.abc import Sequence


def holm_adjust(p_values: Sequence[float]) -> list[float]:
    """P-values for several suspects at once: at a level, any independent model is proven with that chance at most.

    Holds for p-values that each hold alone, however they depend on each other (Holm, 1979). Order is kept. Raises
    ValueError for what is no p-value.
    """
    for p in p_values:
        if not 0 <= p <= 1:
            raise ValueError(f"p-value {p} is not allowed: must be from 0 to 1")
    adjusted, least, count = [0.0] * len(p_values), 0.0, len(p_values)
    for place, one in enumerate(sorted(range(count), key=p_values.__getitem__)):
        least = max(least, min(1.0, (count - place) * p_values[one]))
        adjusted[one] = least
    return adjusted


def holm_limits(p_values: Sequence[float], level: float) -> list[float]:
    """The largest p-value by which each would be proven at a level that all share (Holm, 1979). Order is kept.

    The smallest of k is held against level / k, the next one against level / (k - 1), and so on; behind the first that
    fails, all are held against the limit of that one.
    """
    limits, limit, failed, count = [0.0] * len(p_values), 0.0, False, len(p_values)
    for place, one in enumerate(sorted(range(count), key=p_values.__getitem__)):
        limit = limit if failed else level / (count - place)
        limits[one], failed = limit, failed or p_values[one] > limit
    return limits
