"""Adversarial tuning: fine-tuning on images that are perturbed against the network meanwhile."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Annotated, ClassVar, Literal

import torch
from torch import Tensor, nn

from mwm.attacks.access import WhiteBoxAccess
from mwm.attacks.removal.tuning import ADI, TaughtImages, TuningAttack
from mwm.attacks.removal.zeros import exact_part
from mwm.config.spec import Count, Field, PositiveFloat, PositiveShare, Shown, spec
from mwm.training.batchnorm import eval_statistics
from mwm.training.perturbation import projected_gradient_ascent
from mwm.training.recipe import Recipe
from mwm.training.step import Batch, Objective

RECIPE = replace(ADI, epochs=5)
"""As long as Lukas et al. (2022) train."""


@spec
class AdversarialTuning(TuningAttack):
    """Fine-tune all layers with adversarial images in every batch (Lukas et al., 2022, after Madry et al., 2018).

    To each batch a `share` of its images is appended again, each moved by `steps` of `step_size` up the loss on its
    label, and no further than one of `epsilons` in any pixel; these take turns. Images are in [0, 1]. The network that
    is climbed is the one in training, in evaluation mode. A climb starts at the image itself, and draws nothing.
    """

    strength: ClassVar[str] = "share"
    kind: Literal["adversarial_tuning"] = "adversarial_tuning"
    labels: Annotated[Literal["true", "predicted"], Shown("{} labels")] = "predicted"
    share: Annotated[PositiveShare, Shown("share {}", heading="share", always=True)] = 0.2
    epsilons: Annotated[tuple[PositiveFloat, ...], Field(min_length=1), Shown("epsilons {}")] = (0.01, 0.1, 0.25)
    step_size: Annotated[PositiveFloat, Shown("step size {}", heading="step size", fraction=255)] = 0.01
    steps: Annotated[Count, Shown("{} steps", heading="steps")] = 40
    recipe: Annotated[Recipe, Shown("")] = RECIPE

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.recipe.mixup:
            reason = "must be 0, as an image is moved against its own label"
            raise ValueError(f"recipe.mixup: {self.recipe.mixup:g} is not allowed: {reason}")

    def objective(self, access: WhiteBoxAccess, images: TaughtImages) -> Objective:
        """The labels, of images and of adversarial ones."""
        device = images.labels.device
        del access
        count = math.ceil(exact_part(self.share, self.recipe.batch_size))
        turns = torch.tensor(self.epsilons, device=device)[torch.arange(count, device=device) % len(self.epsilons)]
        radii = turns.view(-1, 1, 1, 1)

        def loss(model: nn.Module, batch: Batch, generator: torch.Generator) -> Tensor:
            chosen, labels, rows = batch.images[:count], batch.labels[:count], batch.index[:count]
            with eval_statistics(model):
                moved = projected_gradient_ascent(
                    model, chosen, labels, step_size=self.step_size, steps=self.steps, radius=radii
                )
            joined = torch.cat((batch.images, moved))
            both = replace(
                batch, images=joined, labels=torch.cat((batch.labels, labels)), index=torch.cat((batch.index, rows))
            )
            return self.label_loss(model, both, generator)

        return loss
