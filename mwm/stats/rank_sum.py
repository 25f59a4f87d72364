"""The exact test of ownership: how high the secret labels rank among the wrong classes, given all that was answered."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from itertools import pairwise
from typing import overload

import numpy as np
from numpy.typing import ArrayLike, NDArray

EXACT_SPAN = 40_000
"""So many different sums are counted out; of more, the chance is bounded from above."""

LARGEST_TILT = 64.0
"""A tilt under which any rank but the first is as good as impossible."""

Ties = tuple[int, ...]
"""How many wrong classes share each score, the best score first: they add up to C - 1."""


@dataclass(frozen=True)
class CellRank:
    """Where a secret label stands among the wrong classes of its cell.

    `doubled` is twice its mid-rank, counted from 0: twice the number of classes ahead plus the number that share its
    score. All numbers of it are whole.
    """

    doubled: int
    ties: Ties


@dataclass(frozen=True)
class RankSum(Sequence[CellRank]):
    """The mid-ranks of the secret labels of a key, a cell each, and the exact test on their sum (Wilcoxon, 1945).

    Each label was drawn uniformly from the wrong classes, whatever was answered. Given the answers, each mid-rank is
    that of a uniformly drawn wrong class. `p_value` is the chance that the sum of such draws is as small as the one
    seen. It is exact; where the sums are too many to be counted out it is an upper bound (Chernoff, 1952).
    """

    cells: tuple[CellRank, ...]

    def __len__(self) -> int:
        return len(self.cells)

    @overload
    def __getitem__(self, key: int) -> CellRank: ...
    @overload
    def __getitem__(self, key: slice) -> RankSum: ...
    def __getitem__(self, key: int | slice) -> CellRank | RankSum:
        return RankSum(self.cells[key]) if isinstance(key, slice) else self.cells[key]

    @property
    def total(self) -> int:
        """The sum of the doubled mid-ranks."""
        return sum(cell.doubled for cell in self.cells)

    @property
    def mean(self) -> float:
        """The mean mid-rank as a share of the largest: 0 if every secret label ranks first, .5 by chance."""
        most = sum(2 * (sum(cell.ties) - 1) for cell in self.cells)
        return self.total / most if most else 0.5

    @cached_property
    def log_p(self) -> float:
        """The natural logarithm of `p_value`, which tells also what no float can hold."""
        return log_chance(self.total, Counter(cell.ties for cell in self.cells))

    @property
    def log10_p(self) -> float:
        """The decimal logarithm of `p_value`."""
        return _rounded(self.log_p / math.log(10)) + 0.0

    @property
    def p_value(self) -> float:
        """The chance of so small a sum if the labels were drawn after the answers."""
        return _rounded(math.exp(self.log_p))

    def pack(self) -> str:
        """All of it as a word for each cell, such as "4:1.2.6"; "4" where no classes share a score."""
        return " ".join(map(_word, self.cells))

    @staticmethod
    def unpack(text: str, classes: int) -> RankSum:
        """What `pack` has written for a key of so many classes."""
        return RankSum(tuple(_cell(word, classes) for word in text.split()))


def _rounded(value: float) -> float:
    """To the digits that are sure, so that 3 first ranks among 10 wrong classes are 1e-3 and not a little more."""
    return float(f"{value:.12e}")


def _word(cell: CellRank) -> str:
    shared = any(size > 1 for size in cell.ties)
    return f"{cell.doubled}:{'.'.join(map(str, cell.ties))}" if shared else str(cell.doubled)


def _cell(word: str, classes: int) -> CellRank:
    doubled, _, ties = word.partition(":")
    return CellRank(int(doubled), tuple(map(int, ties.split("."))) if ties else (1,) * (classes - 1))


def rank_labels(scores: ArrayLike, labels: ArrayLike, truth: ArrayLike) -> RankSum:
    """The mid-ranks of the labels (n) among the classes other than the true ones (n), by scores (n C), largest first.

    A cell that was not answered is a row of equal scores: its label shares one rank with all, which tells nothing.
    Raises ValueError for NaN, for fewer than 3 classes, for true labels and for arrays that do not fit.
    """
    held, assigned, true = _validated(scores, labels, truth)
    count, classes = held.shape
    wrong = held[np.arange(classes) != true[:, None]].reshape(count, classes - 1)
    own = held[np.arange(count), assigned][:, None]
    doubled = 2 * (wrong > own).sum(1) + (wrong == own).sum(1) - 1
    ordered = np.sort(wrong, axis=1)[:, ::-1]
    ties = [_ties(lower.tobytes()) for lower in ordered[:, 1:] != ordered[:, :-1]]
    return RankSum(tuple(map(CellRank, doubled.tolist(), ties)))


@lru_cache(maxsize=4096)
def _ties(lower: bytes) -> Ties:
    """How many classes share each score, from a 1 for each class that scores less than the one before it."""
    starts = [0, *(place for place, begins in enumerate(lower, 1) if begins), len(lower) + 1]
    return tuple(after - start for start, after in pairwise(starts))


def bonferroni(p_values: Iterable[float]) -> float:
    """One p-value from several tests of the same suspect, however they depend on each other (Bonferroni)."""
    found = [*p_values]
    return min(1.0, len(found) * min(found))


def doubled_ranks(ties: Ties) -> Iterator[int]:
    """Twice the mid-rank that the classes of each score share."""
    ahead = 0
    for size in ties:
        yield 2 * ahead + size - 1
        ahead += size


def log_chance(total: int, patterns: Counter[Ties]) -> float:
    """ln P(sum <= total) for the sum of doubled mid-ranks of uniform draws, one for each counted pattern of ties.

    The draws are weighted by exp(-t rank), with the t that makes `total` their mean, and the weights are taken back:
    so nothing underflows, and as all terms are positive each keeps its digits. t alone gives Chernoff's bound.
    """
    total -= sum((ties[0] - 1) * count for ties, count in patterns.items())  # ranks above the best ones from here on
    varied = {ties: count for ties, count in patterns.items() if len(ties) > 1}
    if total < 0 or not varied:
        return 0.0 if total >= 0 else -math.inf
    (values, chances), counts = _faces([*varied]), np.array([*varied.values()])
    step = int(np.gcd.reduce(values, axis=None))
    values, total = values // step, total // step
    span = int(counts @ values.max(1))
    if total >= span:
        return 0.0
    tilt = _tilt(total, values=values, chances=chances, counts=counts)
    weights = chances * np.exp(-tilt * values)
    scale = math.fsum([tilt * total, *(counts * np.log(weights.sum(1))).tolist()])
    if span > EXACT_SPAN:  # what rounding may have taken is given back
        return min(0.0, scale + 1e-12 * int(counts.sum()))
    sums = np.ones(1)
    for face, weighted, count in zip(values, weights, counts.tolist(), strict=True):
        base = np.zeros(int(face.max()) + 1)
        np.add.at(base, face, weighted / weighted.sum())
        sums = _multiplied(sums, base, count=count, total=total)
    kept = sums * np.exp(tilt * (np.arange(len(sums)) - total))
    return min(0.0, math.log(float(kept.sum())) + scale)


def _faces(patterns: Sequence[Ties]) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """A row for each pattern: the doubled mid-ranks above the best one, and their chances; zeros up to equal length."""
    shape = len(patterns), max(map(len, patterns))
    values, chances = np.zeros(shape, np.int64), np.zeros(shape)
    for row, ties in enumerate(patterns):
        values[row, : len(ties)] = [rank - ties[0] + 1 for rank in doubled_ranks(ties)]
        chances[row, : len(ties)] = np.array(ties) / sum(ties)
    return values, chances


def _tilt(total: int, *, values: NDArray[np.int64], chances: NDArray[np.float64], counts: NDArray[np.int64]) -> float:
    """The t at which weighted draws have the mean `total`, to a hundredth; 0 if they have less without weights."""

    def mean(tilt: float) -> float:
        weights = chances * np.exp(-tilt * values)
        return float(counts @ ((weights * values).sum(1) / weights.sum(1)))

    if mean(0.0) <= total:
        return 0.0
    low, high = 1e-9, LARGEST_TILT
    while high > 1.01 * low:
        middle = math.sqrt(low * high)
        low, high = (middle, high) if mean(middle) > total else (low, middle)
    return high


def _multiplied(done: NDArray[np.float64], base: NDArray[np.float64], *, count: int, total: int) -> NDArray[np.float64]:
    """The chances of sums up to `total` after `count` more draws with the chances `base`, by squaring."""
    while count:
        if count % 2:
            done = np.convolve(done, base)[: total + 1]
        base, count = (np.convolve(base, base)[: total + 1] if count > 1 else base), count // 2
    return done


def _validated(
    scores: ArrayLike, labels: ArrayLike, truth: ArrayLike
) -> tuple[NDArray[np.float64], NDArray[np.int64], NDArray[np.int64]]:
    """The three as arrays that fit; ValueError, in one line, for anything else."""
    held = np.asarray(scores, np.float64)
    if held.ndim != 2 or held.shape[1] < 3 or not len(held):
        raise ValueError(f"scores of shape {held.shape} are not allowed: must be (cells, classes), 3 classes or more")
    if unclear := int(np.isnan(held).any(1).sum()):
        raise ValueError(f"NaN among the scores of {unclear} of {len(held)} cells is not allowed: it has no rank")
    assigned, true = np.asarray(labels), np.asarray(truth)
    for name, array in (("labels", assigned), ("truth", true)):
        if array.shape != held.shape[:1] or array.dtype.kind not in "iu":
            raise ValueError(f"{name} are {array.dtype} {array.shape}; allowed: integers ({len(held)},)")
        odd = array[(array < 0) | (array >= held.shape[1])]
        if odd.size:
            raise ValueError(f"{name} hold {odd[0]}; allowed: 0 to {held.shape[1] - 1}")
    if (assigned == true).any():
        raise ValueError(f"label {assigned[assigned == true][0]} is the true one; allowed: wrong labels only")
    return held, assigned, true
