"""What every thief has who trains a student: images, an oracle, a network and a recipe."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mwm.attacks.access import Access
from mwm.attacks.sources import Source, VictimData, transfer_set
from mwm.config.randomness import make_generator
from mwm.config.spec import Count, Seed, spec
from mwm.data.splits import LabeledImages
from mwm.models.build import Model, build_model, channel_statistics
from mwm.oracle.oracle import log_probabilities
from mwm.training.device import deterministic
from mwm.training.loop import Epoch, fit
from mwm.training.recipe import Recipe
from mwm.training.state import TrainState


@spec
class StudentAttack(ABC):
    """Steal by training a student with fresh random weights; `student` and `recipe` left out are the victim's.

    With a `budget` the thief draws that many of its images at random, has each answered once, as it is, and trains on
    augmented views with the answers that it kept (Orekondy et al., 2019, with a random transfer set). Without one it
    asks anew for every augmented image of every epoch (Kim et al., 2023). A kind of attack says what it learns: `loss`.

    Where views are not augmented (flip false, pad 0), a thief without a budget asks the same in every epoch. Each image
    is then answered once, before the first, and `repeats` says what he pays: `counted` is a call for each image of each
    epoch, as the published thief spends; `saved` is a call for each image, as of one who keeps the answers. Where views
    are augmented nothing repeats, and with a budget nothing is asked twice: `saved` is then refused.
    """

    source: Source = VictimData()
    student: Model | None = None
    recipe: Recipe | None = None
    budget: Count | None = None
    repeats: Literal["counted", "saved"] = "counted"
    seed: Seed = 0

    def __post_init__(self) -> None:
        if self.recipe is not None and self.recipe.keep != "last":
            raise ValueError(f"recipe.keep: {self.recipe.keep!r} is not allowed: must be 'last' for a thief")
        if self.budget is not None and self.repeats == "saved":
            reason = "with a budget each image is asked once, and nothing repeats: must be 'counted'"
            raise ValueError(f"repeats: 'saved' is not allowed: {reason}")

    @property
    def caches_answers(self) -> bool:
        """Whether all calls are spent before the first epoch, on answers that the thief keeps."""
        return self.budget is not None or self.repeats == "saved"

    @abstractmethod
    def loss(self, answers: Tensor, logits: Tensor, truth: Tensor) -> Tensor:
        """The loss of a batch: the victim's answers, the student's logits (n C), the true labels (n)."""

    def run(self, loot: Access) -> Iterator[Epoch]:
        """Steal, and yield each epoch of the student."""
        assert self.recipe is not None, "the student's recipe was never filled in"
        assert self.repeats == "counted" or not (loot.flip or loot.pad), "augmented views never repeat"
        held = loot.images
        if self.budget is not None:
            held = transfer_set(held, self.budget, make_generator(loot.seed, "budget"))
        with deterministic(self.recipe.deterministic):
            known = self._cached_answers(held.images, loot)

        def objective(model: nn.Module, images: Tensor, rows: Tensor, generator: torch.Generator) -> Tensor:
            del generator
            answers = loot.oracle(images) if known is None else known(rows)
            return self.loss(answers, model(images), held.labels[rows])

        rows = LabeledImages(held.images, torch.arange(len(held), device=held.labels.device))
        training = TrainState(self._build_student(held.images, loot), self.recipe)
        if loot.start is not None:
            training.restore(loot.start)
        flip, pad, seed, validation = loot.flip, loot.pad, loot.seed, loot.validation
        return fit(training, rows, objective, flip=flip, pad=pad, seed=seed, validation=validation)

    def _cached_answers(self, images: Tensor, loot: Access) -> Callable[[Tensor], Tensor] | None:
        """Where the same is asked in every epoch: the answers to images (uint8 n c h w), by their numbers.

        A resumed theft works these answers out anew instead of storing them. Calls for answers that the thief keeps are
        counted here, and so from the first again; the others as the epochs ask.
        """
        if not self.caches_answers and (loot.flip or loot.pad):
            return None
        return loot.oracle.memoized(images, kept=self.caches_answers)

    def _build_student(self, images: Tensor, loot: Access) -> nn.Module:
        """The student before its first epoch, normalised as the thief's images are."""
        assert self.student is not None, "the student's network was never filled in"
        mean, std = channel_statistics(images)
        network = build_model(
            self.student,
            shape=(images.shape[1], images.shape[2], images.shape[3]),
            classes=loot.classes,
            mean=mean,
            std=std,
            generator=make_generator(loot.seed, "student"),
        )
        return network.to(images.device)


def distillation_kl(answers: Tensor, logits: Tensor, temperature: float) -> Tensor:
    """KL(teacher || student) at a temperature, summed over classes, averaged over the batch (Hinton et al., 2015).

    `answers` are the teacher's log-probabilities (n C): softmax(log p / T) equals softmax(logits / T).
    """
    teacher, student = log_probabilities(answers, temperature), log_probabilities(logits, temperature)
    return F.kl_div(student, teacher, reduction="batchmean", log_target=True)
