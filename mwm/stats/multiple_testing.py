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
