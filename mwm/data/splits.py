"""The roles of a data set's images: owner, queries, validation, disjoint, test."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Generic, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from typing_extensions import TypeVar

from mwm.config import randomness
from mwm.config.spec import Count, Seed, ShareBelowOne, spec
from mwm.data.datasets import Dataset, require
from mwm.data.host import HostImages, Images, select

SHARE, MOST = 10, 500
"""What is set aside for a role where nothing is said: one image in so many, and so many at most."""


class RoleCounts(NamedTuple):
    """How many training images each role gets; what is left for the owner may be none, or fewer."""

    queries: int
    validation: int
    disjoint: int
    owner: int


@spec
class SplitSizes:
    """Who gets the training images: `validation` and `queries` are set aside, a share of the rest is the attacker's.

    Each of the two that is left out is a tenth of the training images, and 500 at most.
    """

    validation: Count | None = None
    queries: Count | None = None
    disjoint: ShareBelowOne = 0.0
    seed: Seed = 0

    @property
    def is_filled(self) -> bool:
        """Whether nothing is left to the size of the data."""
        return self.validation is not None and self.queries is not None

    def filled(self, images: int) -> SplitSizes:
        """The same with what it leaves to the size of the data: so many training images."""
        counts = self.counts(images)
        return replace(self, validation=counts.validation, queries=counts.queries)

    def counts(self, images: int) -> RoleCounts:
        """How many of so many training images each role gets."""
        usual = min(MOST, max(1, images // SHARE))
        queries = usual if self.queries is None else self.queries
        validation = usual if self.validation is None else self.validation
        left = images - queries - validation
        disjoint = int(self.disjoint * max(left, 0))
        return RoleCounts(queries, validation, disjoint, left - disjoint)


Held_co = TypeVar("Held_co", bound=Images, covariant=True, default=Tensor)


@dataclass(frozen=True, eq=False, slots=True)
class LabeledImages(Generic[Held_co]):
    """The images of one role: images uint8 n c h w, on a device or on the host, and labels int64 n on the device."""

    images: Held_co
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)

    def select(self, rows: Tensor) -> LabeledImages[Held_co]:
        """Those with some numbers (int64 k), or those that are marked (bool n); `rows` is on the device."""
        return LabeledImages(select(self.images, rows), self.labels[rows])


@dataclass(frozen=True, eq=False, slots=True)
class RoleSplits(Generic[Held_co]):
    """A data set by role; no training image has two roles, and `disjoint`, the attacker's own, may be empty.

    `queries` are on the device in any case: the images of a key are needed in every step.
    """

    owner: LabeledImages[Held_co]
    validation: LabeledImages[Held_co]
    queries: LabeledImages
    disjoint: LabeledImages[Held_co]
    test: LabeledImages[Held_co]


def split(dataset: Dataset, how: SplitSizes, device: torch.device | str) -> RoleSplits:
    """Deal the training images out as copies on `device`; ValueError if nothing is left for the owner.

    In the keyed order for the use "split" of the split's seed: queries, validation, disjoint, the owner's.
    """
    parts = split_on_host(dataset, how, device)
    return RoleSplits(
        owner=copied(parts.owner),
        validation=copied(parts.validation),
        queries=parts.queries,
        disjoint=copied(parts.disjoint),
        test=copied(parts.test),
    )


def split_on_host(dataset: Dataset, how: SplitSizes, device: torch.device | str) -> RoleSplits[HostImages]:
    """The same roles for work on `device`, of which the queries alone are copied: all others stay in the data set."""
    queries, validation, disjoint, owner = (
        on_host(dataset.x_train, dataset.y_train, rows=rows, device=device) for rows in dealt(how, len(dataset.y_train))
    )
    test = on_host(dataset.x_test, dataset.y_test, device=device)
    return RoleSplits(owner=owner, validation=validation, queries=copied(queries), disjoint=disjoint, test=test)


def on_host(
    images: NDArray[np.uint8],
    labels: NDArray[np.int64],
    *,
    rows: NDArray[np.int64] | None = None,
    device: torch.device | str,
) -> LabeledImages[HostImages]:
    """Some rows of arrays, or all: the images stay where they are, and the labels are copied to `device`."""
    chosen = np.arange(len(labels)) if rows is None else rows
    kept = HostImages(images, chosen, torch.device(device))
    return LabeledImages(kept, torch.tensor(labels[chosen], device=device))


def copied(part: LabeledImages[HostImages]) -> LabeledImages:
    """The same images, all of them on their device."""
    return LabeledImages(part.images.copied(), part.labels)


def class_counts(dataset: Dataset, how: SplitSizes) -> dict[str, list[int]]:
    """How many images of each class each role gets; ValueError as `split` raises it."""
    roles = zip(RoleCounts._fields, dealt(how, len(dataset.y_train)), strict=True)
    labels = {name: dataset.y_train[rows] for name, rows in roles} | {"test": dataset.y_test}
    return {name: np.bincount(held, minlength=dataset.classes).tolist() for name, held in labels.items()}


def dealt(how: SplitSizes, count: int) -> list[NDArray[np.int64]]:
    """The rows of queries, validation, disjoint and owner among so many training images; ValueError as of `split`."""
    sizes = how.counts(count)
    aside = sizes.queries + sizes.validation
    taken = f"{sizes.queries} queries and {sizes.validation} for validation leave the owner none"
    require(aside < count, f"{taken} of {count} training images; allowed: at most {count - 1} together")
    # Queries first: the query source stays the same when any other size changes.
    order = randomness.keyed_permutation(randomness.secret_from_seed(how.seed), "split", count)
    return np.split(np.array(order, np.int64), (sizes.queries, aside, aside + sizes.disjoint))
