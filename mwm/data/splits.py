"""The roles of a data set's images: owner, queries, validation, disjoint, test."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import numpy as np
import torch
from torch import Tensor

from mwm.config import randomness
from mwm.config.spec import Count, Field, Seed, Strict, spec
from mwm.data.datasets import Dataset, require


@spec
class SplitSizes:
    """Who gets the training images: `validation` and `queries` are set aside, a share of the rest is the attacker's."""

    validation: Count = 500
    queries: Count = 500
    disjoint: Annotated[float, Strict(), Field(ge=0, lt=1)] = 0.0
    seed: Seed = 0


@dataclass(frozen=True, eq=False, slots=True)
class LabeledImages:
    """The images of one role on a device: images uint8 n c h w, labels int64 n."""

    images: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True, eq=False, slots=True)
class RoleSplits:
    """A data set by role; no training image has two roles, and `disjoint`, the attacker's own, may be empty."""

    owner: LabeledImages
    validation: LabeledImages
    queries: LabeledImages
    disjoint: LabeledImages
    test: LabeledImages


def split(dataset: Dataset, how: SplitSizes, device: torch.device | str) -> RoleSplits:
    """Deal the training images out as copies on `device`; ValueError if nothing is left for the owner.

    In the keyed order for the use "split" of the split's seed: queries, validation, disjoint, the owner's.
    """
    count, aside = len(dataset.y_train), how.queries + how.validation
    taken = f"{how.queries} queries and {how.validation} for validation leave the owner none of {count} training images"
    require(aside < count, f"{taken}; allowed: at most {count - 1} together")
    # Queries first: the query source stays the same when any other size changes.
    order = randomness.keyed_permutation(randomness.secret_from_seed(how.seed), "split", count)
    picks = np.split(np.array(order), (how.queries, aside, aside + int(how.disjoint * (count - aside))))
    pairs = [(dataset.x_train[rows], dataset.y_train[rows]) for rows in picks] + [(dataset.x_test, dataset.y_test)]
    queries, validation, disjoint, owner, test = (
        LabeledImages(*(torch.tensor(a, device=device) for a in p)) for p in pairs
    )
    return RoleSplits(owner=owner, validation=validation, queries=queries, disjoint=disjoint, test=test)
