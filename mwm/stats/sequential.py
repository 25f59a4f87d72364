"""A test that may stop at any query and keeps its level."""

from __future__ import annotations

from operator import index

from mwm.stats.binomial import log10_ratio, require_classes


class SequentialTest:
    """A test that may be looked at after every query and stopped at will: it keeps its level all the same.

    The e-value is the likelihood ratio of match rates above 1 / (C - 1), all equally likely beforehand, to that of an
    independent model (mixture method; Robbins, 1970). It holds if each label was drawn uniformly over the wrong classes
    and the next query is not chosen by its label: a bet that is fair or worse, whatever the model's accuracy. So the
    chance that it ever reaches 1 / level is at most `level` (Ville, 1939; Ramdas et al., 2023). Exact: a ratio of whole
    numbers. A query without an answer is one that did not match. Raises ValueError for fewer than 3 classes.
    """

    def __init__(self, classes: int) -> None:
        require_classes(classes)
        self.queries = self.matches = 0
        self.p_value = 1.0
        self._wrong = index(classes) - 1
        # Counts of the equally likely draws of labels: with so many matches in so many queries, and with so many at
        # most in one query more. Both follow from those before, by Pascal's rule.
        self._equal, self._at_most = 1, self._wrong - 1

    def add(self, matched: bool) -> None:
        """Take in the answer to one more query."""
        n, k, others = self.queries, self.matches, self._wrong - 1
        if matched:
            self._equal = self._equal * (n + 1) // (k + 1)
            self._at_most = self._wrong * self._at_most + others * self._equal
        else:
            self._equal = self._equal * (n + 1) * others // (n + 1 - k)
            self._at_most = self._wrong * self._at_most - self._equal
        self.queries, self.matches = n + 1, k + bool(matched)
        self.p_value = min(self.p_value, self.current_p_value)

    @property
    def _odds(self) -> tuple[int, int]:
        return self._at_most, (self.queries + 1) * (self._wrong - 1) * self._equal

    @property
    def log10_e(self) -> float:
        """The decimal logarithm of the e-value now; its mean under independence is 1 at most, whenever one stops."""
        return log10_ratio(*self._odds)

    @property
    def current_p_value(self) -> float:
        """One over the e-value now, 1 at most; `p_value` is the smallest of these so far."""
        above, below = self._odds
        return below / above if below < above else 1.0
