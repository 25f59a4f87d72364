"""Verdicts of every kind on one key, whose suspects say what a test wants."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mwm.verification.querying.order import OrderedQueries, order_queries
from tests.helpers.verifying import random_key, recalling

NAMES = ("airplane", "automobile", "bird", "cat", "deer", "dog")
KEY = replace(random_key(30, classes=6), class_names=NAMES)
ASKED = order_queries(KEY, None, 0)
CELLS = random_key(12, per_cell=5, classes=6)

Said = Callable[[NDArray[np.float32]], NDArray[Any]]


def scores(strength: float, seed: int = 0, *, asked: OrderedQueries = ASKED, truth: float = 4.0) -> NDArray[np.float64]:
    """Scores (m C) of a network that mostly gives the true class, and leans to the secret one by `strength`."""
    drawn, rows = np.random.default_rng(seed), np.arange(len(asked))
    found: NDArray[np.float64] = drawn.normal(size=(len(asked), asked.classes))
    found[rows, asked.truth[asked.places]] += truth
    found[rows, asked.labels[asked.places]] += strength
    return found


def saying(strength: float, seed: int = 0, **how: Any) -> Said:
    """A suspect with these scores."""
    return recalling(how.get("asked", ASKED), scores(strength, seed, **how))


NEAR, HINT, SLOW, UNCLEAR = (saying(0.7, seed) for seed in (10, 29, 12, 14))
"""Suspects with p-values of .0008 and .011, and two that the sequential test leaves undecided."""

COPY, GIVING, OTHER, CONTROL = saying(1.6), recalling(ASKED, scores(4.2).argmax(1)), saying(0.0, 3), saying(0.0, 8)
"""One that leans to the secret labels, one that gives them, one that does neither, and a control."""

NULL = [saying(0.0, seed, truth=1.5) for seed in (5, 6, 7)]
