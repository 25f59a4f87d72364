"""The order in which queries are asked."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mwm.config.randomness import keyed_permutation, secret_from_seed
from mwm.watermarks.key import Key
from mwm.watermarks.queries import TENSORS


@dataclass(frozen=True, eq=False, slots=True)
class OrderedQueries:
    """Queries of a key in the order in which a suspect is asked: images uint8 n c h w, labels and truth int64 n.

    `numbers` are their places in the key, `classes` those of its labels.
    """

    numbers: list[int]
    images: NDArray[np.uint8]
    labels: NDArray[np.int64]
    truth: NDArray[np.int64]
    classes: int

    def __len__(self) -> int:
        return len(self.numbers)


def order_queries(key: Key, count: int | None, seed: int) -> OrderedQueries:
    """The first `count` queries of a key, or all, in an order that whoever knows `seed` finds, whatever the answers."""
    total = len(key.queries)
    if not 1 <= (count or total) <= total:
        raise ValueError(f"queries: {count} is not allowed: the key has {total}")
    numbers = keyed_permutation(secret_from_seed(seed), "inquiry", total)[:count]
    images, labels, truth = (getattr(key.queries, name).numpy()[numbers] for name in TENSORS)
    return OrderedQueries(numbers, images, labels, truth, key.classes)
