"""What every thief has who trains a student: images, an oracle, a network and a recipe."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import torch.nn.functional as F
from torch import Tensor

from mwm.data import Cifar10, Cifar100, Digits, ImageFolder, Npz, Part, Svhn
from mwm.fit import Epoch, Objective, Recipe, Training, fit
from mwm.models import Model, build, channel_statistics
from mwm.oracle import Oracle, log_probabilities
from mwm.seeds import generator
from mwm.spec import OF_A_KIND, Seed, spec


@spec
class Same:
    """The thief has the victim's own training images."""

    kind: Literal["same"] = "same"


@spec
class Disjoint:
    """The thief has the images that `victim.split.disjoint` set aside: the same kind, none of the victim's."""

    kind: Literal["disjoint"] = "disjoint"


Source = Annotated[Same | Disjoint | Digits | Cifar10 | Cifar100 | Svhn | Npz | ImageFolder, *OF_A_KIND]
"""The thief's images: the victim's own, a disjoint part, or the training images of another data set."""


@dataclass(frozen=True)
class Loot:
    """All that a thief gets: answers from the oracle and labelled images of its own, and how those may be augmented.

    `validation` is the owner's: it is reported on and never used. `seed` drives all chances. `start` is the state of an
    interrupted training to go on from.
    """

    oracle: Oracle
    images: Part
    validation: Part
    classes: int
    flip: bool
    pad: int
    seed: int
    start: dict[str, Any] | None = None


@spec
class StudentAttack:
    """Steal by training a student with fresh random weights; `student` and `recipe` left out are the victim's."""

    source: Source = Same()
    student: Model | None = None
    recipe: Recipe | None = None
    seed: Seed = 0

    def __post_init__(self) -> None:
        if self.recipe is not None and self.recipe.keep != "last":
            raise ValueError(f"recipe.keep: {self.recipe.keep!r} is not allowed: must be 'last' for a thief")

    def train(self, loot: Loot, objective: Objective) -> Iterator[Epoch]:
        """Train the student on the thief's images and yield each epoch."""
        assert self.student is not None, "the student's network was never filled in"
        assert self.recipe is not None, "the student's recipe was never filled in"
        images = loot.images.images
        mean, std = channel_statistics(images)
        network = build(
            self.student,
            shape=(images.shape[1], images.shape[2], images.shape[3]),
            classes=loot.classes,
            mean=mean,
            std=std,
            generator=generator(loot.seed, "student"),
        )
        training = Training(network.to(images.device), self.recipe)
        if loot.start is not None:
            training.restore(loot.start)
        held, seed, validation = loot.images, loot.seed, loot.validation
        return fit(training, held, objective, flip=loot.flip, pad=loot.pad, seed=seed, validation=validation)


def divergence(answers: Tensor, logits: Tensor, temperature: float) -> Tensor:
    """KL(teacher || student) at a temperature, summed over classes, averaged over the batch (Hinton et al., 2015).

    `answers` are the teacher's log-probabilities (n C): softmax(log p / T) equals softmax(logits / T).
    """
    teacher, student = log_probabilities(answers, temperature), log_probabilities(logits, temperature)
    return F.kl_div(student, teacher, reduction="batchmean", log_target=True)
