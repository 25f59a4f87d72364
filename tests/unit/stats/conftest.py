"""Every draw of the labels, for tests that leave no chance to chance."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from fractions import Fraction

Labels = tuple[int, ...]


def draws(truth: Sequence[int], classes: int) -> list[Labels]:
    """Every equally likely draw of wrong labels."""
    return list(itertools.product(*([c for c in range(classes) if c != true] for true in truth)))


def share(p_values: Sequence[float], level: float) -> Fraction:
    """The share of all p-values that are at a level or below it."""
    return Fraction(sum(p <= level for p in p_values), len(p_values))
