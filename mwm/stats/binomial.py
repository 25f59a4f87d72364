"""The test of matches alone, whatever else was answered: it is shown, and `rank_sum` decides.

Of wrong answers alone it is exact: `rank_sum` of labels is this test with the number of wrong answers for `queries`.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from functools import lru_cache
from operator import index

DEFAULT_LEVEL = 1e-3
"""The level at which ownership is decided where nothing else is said."""


def p_value(matches: int, queries: int, classes: int) -> float:
    """The chance that an independent model matches at least `matches` of the `queries` secret labels.

    Each label was drawn uniformly over the `classes` - 1 wrong classes and fixed beforehand, so the chance is
    P(Binomial(queries, 1 / (classes - 1)) >= matches) at most, whatever the model's accuracy. Exact, then rounded once;
    0.0 only below the smallest float, where `log10_p` still tells. Raises ValueError for counts that cannot be.
    """
    hits, total = _tail_counts(matches, queries, classes)
    return hits / total


def log10_p(matches: int, queries: int, classes: int) -> float:
    """The decimal logarithm of `p_value`, precise also where that underflows: -954.24 for 1000 of 1000, 10 classes.

    Raises ValueError for counts that cannot be.
    """
    return log10_ratio(*_tail_counts(matches, queries, classes))


def log10_ratio(above: int, below: int) -> float:
    """The decimal logarithm of above / below, positive whole numbers of any size, to its last digits also near 1."""
    if below < 2 * above < 4 * below:  # only the distance from 1 still has digits
        return math.log1p((above - below) / below) / math.log(10)
    shift = below.bit_length() - above.bit_length()
    near = (above << max(shift, 0)) / (below << max(-shift, 0))
    return math.log10(near) - shift * math.log10(2)


def critical_matches(queries: int, classes: int, level: float) -> int | None:
    """The fewest matches that reach a level: the smallest m with `p_value(m, queries, classes)` <= `level`.

    None if even all matches do not. Raises ValueError for a level outside (0, 1) and for fewer
    than 1 query or 3 classes.
    """
    require_fraction("level", level)
    require_counts(0, queries)
    fewest = bisect_left(range(queries + 1), True, key=lambda matches: p_value(matches, queries, classes) <= level)
    return fewest if fewest <= queries else None


@lru_cache(maxsize=4096)
def _tail_counts(matches: int, queries: int, classes: int) -> tuple[int, int]:
    """In how many of all the equally likely draws of labels a fixed model has at least `matches` matches."""
    matches, queries, classes = index(matches), index(queries), index(classes)  # NumPy's whole numbers would overflow
    require_counts(matches, queries)
    require_classes(classes)
    draws = hits = 1  # exactly k matches: C(n, k) (classes - 2)^(n - k) draws, here for k = n
    for k in range(queries, matches, -1):
        draws = draws * k * (classes - 2) // (queries - k + 1)
        hits += draws
    return hits, (classes - 1) ** queries


def require_counts(matches: int, queries: int) -> None:
    """Refuse, by a ValueError, matches that so many queries cannot have."""
    if queries < 1:
        raise ValueError(f"{queries} queries prove nothing; at least 1 is needed")
    if not 0 <= matches <= queries:
        raise ValueError(f"{matches} matches are impossible; allowed: 0 to {queries}, the number of queries")


def require_classes(classes: int) -> None:
    """Refuse, by a ValueError, so few classes that no label can be drawn at random among the wrong ones."""
    if classes < 3:
        raise ValueError(f"{classes} classes leave no wrong label to draw at random; at least 3 are needed")


def require_fraction(name: str, value: float) -> None:
    """Refuse, by a ValueError, what does not lie between 0 and 1."""
    if not 0 < value < 1:
        raise ValueError(f"{name} {value} is not allowed; it must lie strictly between 0 and 1")
