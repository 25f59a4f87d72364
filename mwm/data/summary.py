"""What a data set holds, counted: images by class, and images that are equal to others."""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import blake2b

import numpy as np

from mwm.data.datasets import Dataset


@dataclass(frozen=True, kw_only=True)
class DatasetSummary:
    """Training and test images of each class, and what is suspicious about the pixels.

    So many training images are equal to an earlier one (`equal`), so many test images to a training image (`shared`),
    and so many images are equal to one of another class (`contradictory`). `brightest` is the greatest pixel of all.
    """

    train: tuple[int, ...]
    test: tuple[int, ...]
    equal: int
    shared: int
    contradictory: int
    brightest: int


def summarize(dataset: Dataset) -> DatasetSummary:
    """Count what a data set holds."""
    first: dict[bytes, int] = {}
    equal = shared = contradictory = 0
    for image, label in zip(dataset.x_train, dataset.y_train.tolist(), strict=True):
        earlier = first.setdefault(blake2b(image, digest_size=16).digest(), label)
        contradictory += earlier != label
    equal = len(dataset.y_train) - len(first)
    for image, label in zip(dataset.x_test, dataset.y_test.tolist(), strict=True):
        known = first.get(blake2b(image, digest_size=16).digest())
        shared += known is not None
        contradictory += known not in (None, label)
    counts = [tuple(np.bincount(y, minlength=dataset.classes).tolist()) for y in (dataset.y_train, dataset.y_test)]
    return DatasetSummary(
        train=counts[0],
        test=counts[1],
        equal=equal,
        shared=shared,
        contradictory=contradictory,
        brightest=int(dataset.x_train.max()),
    )
