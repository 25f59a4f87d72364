"""Tests of independence beside the exact binomial one; each says what must hold for its p-value to be one."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray

EXACT_LIMIT = 1000
"""Up to so many queries the rank test counts draws of labels; beyond, it bounds their number from above."""

CHUNK = 1000
"""Permutations made at a time: enough for vectors, few enough for memory."""


def permutation_test(
    answers: ArrayLike, labels: ArrayLike, truth: ArrayLike, *, rounds: int = 9999, seed: int = 0
) -> float:
    """How seldom the suspect's answers match as often if labels change places among queries of one true class.

    Holds if, within each true class, the labels were drawn alike and independently of the suspect (exchangeable): they
    may favour some classes. One-sided, (1 + #) / (1 + rounds) over random permutations, so never below 1 / (1 + rounds)
    and never too small (Phipson and Smyth, 2010), provided that nobody chose `seed` after seeing the answers.
    `answers`, `labels`, `truth` are class indices (n); -1 where no answer came. Raises ValueError for other shapes.
    """
    if rounds < 1:
        raise ValueError(f"rounds {rounds} is not allowed: must be at least 1")
    given, assigned, true = _validated_labels(answers, labels, truth)
    seen, drawn = int((given == assigned).sum()), np.random.default_rng(seed)
    groups = [np.flatnonzero(true == one) for one in np.unique(true)]
    as_many = 0
    for start in range(0, rounds, CHUNK):
        matches = np.zeros(min(CHUNK, rounds - start), np.int64)
        for group in groups:
            dealt = np.tile(assigned[group], (len(matches), 1))
            matches += (drawn.permuted(dealt, axis=1) == given[group]).sum(1)
        as_many += int((matches >= seen).sum())
    return (1 + as_many) / (1 + rounds)


def rank_test(scores: ArrayLike, labels: ArrayLike, truth: ArrayLike) -> float:
    """How seldom the assigned labels rank as high among the wrong classes, by the suspect's scores (n C).

    Holds if each label was drawn uniformly over the C - 1 wrong classes, independently of the suspect: its rank is then
    uniform on 1 to C - 1, and the sum of ranks is compared with that of n such draws. A tie ranks last, which only
    raises p; a query without an answer is a row of equal scores. Exact up to 1000 queries, beyond that an upper bound
    (Chernoff, 1952). Raises ValueError for NaN and for arrays that do not fit.
    """
    held = np.asarray(scores, np.float64)
    if held.ndim != 2 or held.shape[1] < 3:
        raise ValueError(f"scores of shape {held.shape} are not allowed: must be (queries, classes), 3 classes or more")
    if unclear := int(np.isnan(held).any(1).sum()):
        raise ValueError(f"NaN among the scores of {unclear} of {len(held)} queries is not allowed: it has no rank")
    _, assigned, true = _validated_labels(held.argmax(1), labels, truth, classes=held.shape[1])
    rows = np.arange(len(held))
    ahead = held >= held[rows, assigned][:, None]
    ahead[rows, true] = ahead[rows, assigned] = False
    return _at_most(int(ahead.sum()), len(held), held.shape[1] - 1)


def _at_most(total: int, draws: int, faces: int) -> float:
    """The chance that `draws` uniform draws from 0 to `faces` - 1 sum to `total` at most, or an upper bound of it."""
    if draws <= EXACT_LIMIT:
        return _count_sums(total, draws, faces) / int(faces**draws)
    if 2 * total >= draws * (faces - 1):
        return 1.0
    # The mean of exp(t (total - sum)) bounds the chance for every t > 0, so the best of many is a bound as well.
    t = np.geomspace(1e-4 / faces, 40, 4000)
    bounds = t * total + draws * (np.log(-np.expm1(-t * faces)) - np.log(-np.expm1(-t)) - math.log(faces))
    return min(1.0, math.exp(bounds.min() + 1e-12 * draws))  # what rounding may have taken is given back


def _count_sums(total: int, draws: int, faces: int) -> int:
    """In how many ways: a convolution of uniform draws, in closed form by inclusion and exclusion (de Moivre, 1711)."""
    most, throws = draws * (faces - 1), int(faces**draws)
    if 2 * total > most:  # the sums lie symmetrically: count the fewer terms
        return throws - _count_sums(most - total - 1, draws, faces)
    ways = [math.comb(draws, j) * math.comb(total - j * faces + draws, draws) for j in range(total // faces + 1)]
    return sum(ways[::2]) - sum(ways[1::2])


def empirical_p_value(statistic: float, null: ArrayLike) -> float:
    """How seldom models trained independently of the key show a statistic as large as the suspect's.

    (1 + #) / (1 + len(null)); holds if an independent suspect is one more of the same kind, exchangeable with those of
    the null (Besag and Clifford, 1989). One of another kind may match more, however independent, so that this shows
    what is usual and proves nothing by itself. Raises ValueError for NaN.
    """
    values = np.asarray(null, np.float64)
    if math.isnan(statistic) or np.isnan(values).any():
        raise ValueError("a statistic of NaN is not allowed: it cannot be compared")
    return (1 + int((values >= statistic).sum())) / (1 + values.size)


def _validated_labels(
    answers: ArrayLike, labels: ArrayLike, truth: ArrayLike, *, classes: int | None = None
) -> tuple[NDArray[np.int64], ...]:
    """The three as class indices of one length; ValueError, in one line, for anything else."""
    given, assigned, true = (np.asarray(array) for array in (answers, labels, truth))
    for name, array in (("answers", given), ("labels", assigned), ("truth", true)):
        if array.shape != (given.size,) or not array.size or array.dtype.kind not in "iu":
            raise ValueError(f"{name} are {array.dtype} {array.shape}; allowed: integers ({max(given.size, 1)},)")
    end, allowed = (np.inf, "0 and above") if classes is None else (classes, f"0 to {classes - 1}")
    for name, array in (("labels", assigned), ("truth", true)):
        odd = array[(array < 0) | (array >= end)]
        if odd.size:
            raise ValueError(f"{name} hold {odd[0]}; allowed: {allowed}")
    if (assigned == true).any():
        raise ValueError(f"label {assigned[assigned == true][0]} is the true one; allowed: wrong labels only")
    return given, assigned, true
