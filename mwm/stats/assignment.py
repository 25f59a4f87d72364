"""Which class of one numbering is which of another, by how often they were given to the same thing."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def best_assignment(counts: NDArray[np.int64]) -> list[int]:
    """For each row of a square table of counts a column of its own, so that they add up to the most (Kuhn, 1955)."""
    from scipy.optimize import linear_sum_assignment

    _, columns = linear_sum_assignment(counts, maximize=True)
    found: list[int] = columns.tolist()
    return found
