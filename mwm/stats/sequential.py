"""A test that may stop at any query and keeps its level."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from mwm.stats.binomial import require_classes
from mwm.stats.rank_sum import CellRank, Ties, doubled_ranks

TILTS = 2.0 ** np.arange(-1, 8)
"""The bets of the sequential test: how much faster than chance ranks fall off, over the whole range of ranks."""


class SequentialTest:
    """A test that may be looked at after every cell of a key and stopped at will: it keeps its level all the same.

    It bets that secret labels rank high. The e-value of a cell under the bet t is exp(-t rank) over its mean over all
    wrong classes: 1 on average if the label was drawn uniformly from them. So the products are e-processes, and so is
    their mean over `TILTS` and over the `forms` of the answers (labels, scores). The chance that it ever reaches
    1 / level is at most `level` (Ville, 1939; Ramdas et al., 2023) if the next cell is not chosen by its label.
    Raises ValueError for fewer than 3 classes.
    """

    def __init__(self, classes: int, forms: int = 1) -> None:
        require_classes(classes)
        self.cells = 0
        self.highest = 0.0
        self._classes = classes
        self._log_e = np.zeros((forms, len(TILTS)))

    def add(self, ranks: Sequence[CellRank]) -> None:
        """Take in one more cell: its rank in each form of the answers."""
        most = 2 * (self._classes - 2)
        self._log_e = self._log_e - [TILTS * (rank.doubled / most) + log_means(rank.ties) for rank in ranks]
        self.cells += 1
        self.highest = max(self.highest, self.log_e)

    def add_best(self) -> None:
        """Take in a cell as a perfect copy answers it: the secret label is first, alone, in every form."""
        # Labels name one class and no order among the others: no cell can tell more.
        self.add([CellRank(0, (1, self._classes - 2))] * len(self._log_e))

    @property
    def log_e(self) -> float:
        """The natural logarithm of the e-value now; its mean under independence is 1 at most, whenever one stops."""
        most = float(self._log_e.max())
        return most + math.log(float(np.exp(self._log_e - most).mean()))

    @property
    def log10_p(self) -> float:
        """The decimal logarithm of `p_value`."""
        return 0.0 - self.highest / math.log(10)

    @property
    def p_value(self) -> float:
        """One over the highest e-value so far."""
        return math.exp(-self.highest)


@lru_cache(maxsize=4096)
def log_means(ties: Ties) -> NDArray[np.float64]:
    """The logarithm of the mean of exp(-t rank) over all wrong classes, for each bet t."""
    ranks, chances = np.array([*doubled_ranks(ties)]) / (2 * sum(ties) - 2), np.array(ties) / sum(ties)
    found: NDArray[np.float64] = np.log(np.exp(-np.outer(TILTS, ranks)) @ chances)
    return found
