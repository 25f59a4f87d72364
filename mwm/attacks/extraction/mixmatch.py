"""Extraction by MixMatch: the images that were not asked teach the student as well, by its own guesses."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mwm.attacks.access import BlackBoxAccess, TargetFacts
from mwm.attacks.base import image_count
from mwm.attacks.extraction.black_box import Lesson
from mwm.attacks.extraction.student import StudentAttack
from mwm.attacks.sources import left_by_transfer
from mwm.config.randomness import make_generator
from mwm.config.spec import Count, Field, NonNegativeFloat, PositiveFloat, Share, Shown, spec
from mwm.data.host import HostImages, picked
from mwm.data.images import Augmentation, augment, to_float
from mwm.training.batchnorm import frozen_running_stats
from mwm.training.state import TrainState
from mwm.training.step import Batch, Objective


@spec
class MixMatch(StudentAttack):
    """Train a student on answers to some images, and on guesses for all others (Jagielski et al., 2020).

    MixMatch (Berthelot et al., 2019). As many images that were not asked are drawn in each step as a batch has. What
    the student answers to `guess_views` augmented views of each, on average, is sharpened to q = p^(1/T) / sum p^(1/T),
    T the `temperature`. All views and their labels are then mixed with others of the step by shares
    max(u, 1 - u), with u drawn from Beta(`mixup_alpha`, `mixup_alpha`) for each. Learnt is
    CE(labels of what was asked) + w mean (q - p)^2, where w rises to `weight` in the first `rampup` of all steps. Soft
    answers are labels as they are.

    Batch normalisation sees what the published code shows it: batches that are interleaved, each a part of every kind,
    of which the first moves the running statistics. Guesses are made by statistics of their batch, and move none.
    """

    kind: Literal["mixmatch"] = "mixmatch"
    query_budget: Annotated[Count, Shown("{} calls", always=True)] = Field()
    temperature: Annotated[PositiveFloat, Shown("T={}")] = 0.5
    guess_views: Annotated[Count, Shown("K={}")] = 2
    mixup_alpha: Annotated[PositiveFloat, Shown("mixup {}")] = 0.75
    weight: Annotated[NonNegativeFloat, Shown("weight {}")] = 75.0
    rampup: Annotated[Share, Shown("ramp-up {}")] = 1 / 64

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.augment and self.guess_views > 1:
            reason = "all views of an image would be the same; allowed with guess_views: 1"
            raise ValueError(f"augment: false is not allowed with guess_views: {self.guess_views}: {reason}")

    def validate(self, facts: TargetFacts) -> None:
        """Raise ValueError for a budget that leaves no image, or where no view can differ."""
        super().validate(facts)
        if self.guess_views > 1:
            self.check_views("guess_views", facts)
        held = image_count(self.source, facts)
        if held is not None and self.query_budget >= held:
            reason = f"the attacker has {held} images, and learns those that are not asked, too"
            raise ValueError(f"{facts.path}.query_budget: {self.query_budget} is not allowed: {reason}")

    def loss(self, answers: Tensor, logits: Tensor, truth: Tensor) -> Tensor:
        """Cross-entropy of what was asked: labels as probabilities (n C), which may be mixed."""
        del truth
        return F.cross_entropy(logits, answers)

    def objective(self, lesson: Lesson, access: BlackBoxAccess, training: TrainState) -> Objective:
        """The two losses of MixMatch in each step. Steps are counted on the device, where a recorded one counts too."""
        part, ask = lesson
        pool = left_by_transfer(access.images, self.query_budget, make_generator(access.seed, "budget")).images
        if isinstance(pool, HostImages) and training.recipe.cuda_graph:
            raise ValueError("recipe.cuda_graph: true is not allowed: images that are not asked lie on the host")
        per_epoch = len(part) // training.recipe.batch_size
        rising = max(1.0, self.rampup * training.recipe.epochs * per_epoch)
        done = torch.tensor(float(training.epoch * per_epoch), device=part.images.device)
        augmentation = access.augmentation if self.augment else Augmentation()

        def objective(model: nn.Module, batch: Batch, generator: torch.Generator) -> Tensor:
            size, device = len(batch.images), batch.images.device
            rows = torch.randint(len(pool), (size,), generator=generator, device=device)
            (pixels,) = picked(pool, rows, size)
            views = [to_float(augment(pixels, augmentation, generator)) for _ in range(self.guess_views)]
            guesses = guessed(model, views, temperature=self.temperature)
            known = self.labels_of(ask(batch), access.classes)
            shown, labels = self.mixed([batch.images, *views], [known, *[guesses] * len(views)], generator)
            logits = interleaved_logits(model, shown)
            weight = self.weight * (done / rising).clamp(max=1)
            done.add_(1)
            asked, rest = self.loss(labels[0], logits[0], batch.labels), torch.cat(logits[1:]).softmax(1)
            return asked + weight * F.mse_loss(rest, torch.cat(labels[1:]))

        return objective

    def labels_of(self, answers: Tensor, classes: int) -> Tensor:
        """Probabilities (n C) of what the victim answered."""
        known = F.one_hot(answers, classes).float() if self.labels == "hard" else self.as_taught(answers).exp()
        return (1 - self.label_smoothing) * known + self.label_smoothing / classes

    def mixed(
        self, images: Sequence[Tensor], labels: Sequence[Tensor], generator: torch.Generator
    ) -> tuple[list[Tensor], list[Tensor]]:
        """Images (each n c h w) and labels (each n C), each with a share of another one among all of them."""
        every, taught = torch.cat(list(images)), torch.cat(list(labels))
        other = torch.randperm(len(every), generator=generator, device=every.device)
        alphas = torch.full((len(every), 2), self.mixup_alpha, device=every.device)
        share = torch._sample_dirichlet(alphas, generator).amax(1)  # of two: Beta, and the larger of u and 1 - u
        size = len(images[0])
        shown = torch.lerp(every[other], every, share[:, None, None, None])
        told = torch.lerp(taught[other], taught, share[:, None])
        return list(torch.split(shown, size)), list(torch.split(told, size))


def sharpened(probabilities: Tensor, temperature: float) -> Tensor:
    """p^(1/T) / sum p^(1/T) of probabilities (n C)."""
    return (probabilities.log() / temperature).softmax(1)


def guessed(model: nn.Module, views: Sequence[Tensor], *, temperature: float) -> Tensor:
    """What a network says to views (each n c h w) on average, sharpened (n C); it learns nothing from it."""
    with torch.no_grad(), frozen_running_stats(model):
        said = torch.stack([model(view).float().softmax(1) for view in views])
    return sharpened(said.mean(0), temperature)


def interleaved_logits(model: nn.Module, batches: Sequence[Tensor]) -> list[Tensor]:
    """Logits (each n C, float32) of batches (each n c h w), shown as as many batches of a part of each.

    The first of them moves the running statistics of batch normalisation.
    """
    first, *others = interleaved(batches)
    logits = [model(first)]
    with frozen_running_stats(model):
        logits += [model(other) for other in others]
    return [one.float() for one in interleaved(logits)]


def interleaved(batches: Sequence[Tensor]) -> list[Tensor]:
    """Batches of which the first has a part of each, and each other one a part of the first; twice, it is undone."""
    parts = [list(batch.tensor_split(len(batches))) for batch in batches]
    for place in range(1, len(batches)):
        parts[0][place], parts[place][place] = parts[place][place], parts[0][place]
    return [torch.cat(part) for part in parts]
