"""Searches for a secret whose labels an independent model happens to answer: what the best of many secrets gains."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from functools import cache, partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mwm.stats.binomial import p_value
from mwm.stats.intervals import clopper_pearson
from mwm.stats.rank_sum import log_chance
from tests.benchmarks import bystanders

LEVELS = (1e-3, 1e-6, 1e-9)
QUERIES, CLASSES = 30, 10
WHOM = ("itself", "others")
CASES = ("as it is", "always wrong")
FORMS = ("labels", "scores")
"""What the suspect answers with: labels alone, or scores, of which the decision takes both."""

CONFIDENCE = 0.99

PIECE = 10_000
"""Secrets tried at a time."""

Array = NDArray[Any]


@cache
def p_tables() -> tuple[Array, Array]:
    """p-values by wrong answers and matches among them, and by the sum of ranks without ties."""
    by_labels = np.ones((QUERIES + 1, QUERIES + 1))
    for wrong in range(1, QUERIES + 1):
        by_labels[wrong, : wrong + 1] = [p_value(matches, wrong, CLASSES) for matches in range(wrong + 1)]
    patterns, largest = Counter({(1,) * (CLASSES - 1): QUERIES}), QUERIES * (CLASSES - 2)
    return by_labels, np.exp([log_chance(2 * total, patterns) for total in range(largest + 1)])


def rank_table(scores: Array, truth: Array) -> NDArray[np.int64]:
    """How many wrong classes score more than each class, for each image (images C)."""
    wrong = scores.astype(np.float64)
    wrong[np.arange(len(truth)), truth] = -np.inf
    found: NDArray[np.int64] = (wrong[:, None, :] > scores[:, :, None]).sum(2)
    return found


def p_values(images: Array, labels: Array, *, ranks: Array, answers: Array, truth: Array) -> Array:
    """The decision on a model for keys (keys n) by labels and by scores (2 keys)."""
    by_labels, by_ranks = p_tables()
    wrong, matches = (answers[images] != truth[images]).sum(1), (answers[images] == labels).sum(1)
    plain = by_labels[wrong, matches]
    return np.stack([plain, np.minimum(1, 2 * np.minimum(plain, by_ranks[ranks[images, labels].sum(1)]))])


def searched(repeat: int, *, ranks: Array, answers: Array, truth: Array, secrets: Sequence[int]) -> Array:
    """p-values of a search on one model, of itself and of another (forms secrets 2).

    `ranks` (models images C), `answers` (models images) and `truth` (images) are those of the hunting ground. Secrets
    are drawn by a generator in place of HMAC, and images with replacement, which changes nothing for the labels.
    """
    rng = np.random.default_rng(repeat)
    itself, other = (
        partial(p_values, ranks=ranks[one], answers=answers[one], truth=truth)
        for one in rng.choice(len(answers), 2, replace=False)
    )
    best, elsewhere, found, tried = np.full(len(FORMS), np.inf), np.ones(len(FORMS)), [], 0
    for count in secrets:
        while tried < count:
            size = min(PIECE, count - tried)
            images = rng.integers(0, len(truth), (size, QUERIES))
            labels = (truth[images] + rng.integers(1, CLASSES, (size, QUERIES))) % CLASSES
            p = itself(images, labels)
            for form, top in enumerate(p.argmin(1)):
                if p[form, top] < best[form]:
                    best[form] = p[form, top]
                    elsewhere[form] = other(images[[top]], labels[[top]])[form, 0]
            tried += size
        found.append(np.stack([best, elsewhere], 1))
    return np.stack(found, 1)


def searches(
    scores: Array, truth: Array, *, secrets: Sequence[int], repeats: int, processes: int
) -> list[dict[str, Any]]:
    """How often the best of so many secrets proves, by scores of models (models images C) on a hunting ground."""
    ranks = np.stack([rank_table(one, truth) for one in scores]).astype(np.int8)
    lines = []
    for case in CASES:
        if case == "always wrong":
            scores = scores.copy()
            scores[:, np.arange(len(truth)), truth] = -np.inf
        search = partial(searched, ranks=ranks, answers=scores.argmax(2), truth=truth, secrets=secrets)
        p = np.array(bystanders.spread(search, range(repeats), processes))
        for form, name in enumerate(FORMS):
            for place, count in enumerate(secrets):
                lines.append({"case": case, "form": name, "secrets": count} | _gain(p[:, form, place]))
    return lines


def _gain(p: Array) -> dict[str, Any]:
    """How often a search proves against the model it was made on, and against another (repeats 2)."""
    line: dict[str, Any] = {"repeats": len(p)}
    for column, whom in enumerate(WHOM):
        for level in LEVELS:
            count = int((p[:, column] <= level).sum())
            line[f"{whom} {level:g}"] = {"rate": count / len(p), "interval": clopper_pearson(count, len(p), CONFIDENCE)}
    return line
