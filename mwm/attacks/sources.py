"""An attacker's images: the victim's own, a disjoint part, or those of another data set."""

from __future__ import annotations

from typing import Annotated, Literal

import torch

from mwm.config.spec import DISCRIMINATED, spec
from mwm.data.datasets import ArrayData, Cifar10, Cifar100, Digits, ImageFolder, Npz, PythonData, Svhn
from mwm.data.splits import Held_co, LabeledImages


@spec
class VictimData:
    """The attacker has the victim's own training images."""

    kind: Literal["victim_data"] = "victim_data"


@spec
class Disjoint:
    """The attacker has the images that `victim.split.disjoint` set aside: the same kind, none of the victim's."""

    kind: Literal["disjoint"] = "disjoint"


Source = Annotated[
    VictimData | Disjoint | Digits | Cifar10 | Cifar100 | Svhn | Npz | ImageFolder | PythonData | ArrayData,
    *DISCRIMINATED,
]
"""The attacker's images: the victim's own, a disjoint part, or the training images of another data set."""


def is_foreign(source: Source) -> bool:
    """Whether the images are those of another data set, whose labels mean nothing to the victim."""
    return not isinstance(source, (VictimData, Disjoint))


def transfer_set(images: LabeledImages[Held_co], size: int, generator: torch.Generator) -> LabeledImages[Held_co]:
    """`size` of the attacker's images, at random; a smaller set begins a larger one of the same generator."""
    assert size <= len(images), f"{size} of {len(images)} images"
    return images.select(_order(images, generator)[:size])


def left_by_transfer(images: LabeledImages[Held_co], size: int, generator: torch.Generator) -> LabeledImages[Held_co]:
    """Those of the attacker's images that `transfer_set` leaves, of a generator in the same state."""
    return images.select(_order(images, generator)[size:])


def _order(images: LabeledImages[Held_co], generator: torch.Generator) -> torch.Tensor:
    return torch.randperm(len(images), generator=generator).to(images.labels.device)
