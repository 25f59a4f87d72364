"""Tests of independence beside the exact one of ranks; each says what must hold for its p-value to be one."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray

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


def _validated_labels(answers: ArrayLike, labels: ArrayLike, truth: ArrayLike) -> tuple[NDArray[np.int64], ...]:
    """The three as class indices of one length; ValueError, in one line, for anything else."""
    given, assigned, true = (np.asarray(array) for array in (answers, labels, truth))
    for name, array in (("answers", given), ("labels", assigned), ("truth", true)):
        if array.shape != (given.size,) or not array.size or array.dtype.kind not in "iu":
            raise ValueError(f"{name} are {array.dtype} {array.shape}; allowed: integers ({max(given.size, 1)},)")
    for name, array in (("labels", assigned), ("truth", true)):
        if array.min() < 0:
            raise ValueError(f"{name} hold {array.min()}; allowed: 0 and above")
    if (assigned == true).any():
        raise ValueError(f"label {assigned[assigned == true][0]} is the true one; allowed: wrong labels only")
    return given, assigned, true
