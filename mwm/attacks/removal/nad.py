"""Neural attention distillation: a fine-tuned copy teaches the network where to look."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mwm.attacks.access import TargetFacts, WhiteBoxAccess
from mwm.attacks.feature_maps import listening_at, stages
from mwm.attacks.layers import blank_victim
from mwm.attacks.removal.few_images import FewImagesAttack, refuse_compiled
from mwm.attacks.removal.tuning import TaughtImages
from mwm.config.spec import Count, PositiveFloat, PositiveShare, Shown, spec
from mwm.training.recipe import CONSTANT, Recipe
from mwm.training.step import Batch, Objective

PUBLISHED = Recipe(epochs=10, batch_size=64, lr=0.02, momentum=0.9, schedule=CONSTANT)
TINY = 1e-6
"""Added to the length of an attention map, as in the published code."""


@spec
class AttentionDistillation(FewImagesAttack):
    """Neural attention distillation (NAD; Li et al., 2021): fine-tune a copy, then teach the network its attention.

    A copy of the victim's network is fine-tuned by the recipe `teacher`. Then the network itself is: its loss is the
    cross-entropy plus `beta` times the mean squared distance of its attention maps to the teacher's, summed over the
    last `stages` of different resolution. An attention map is the sum over the channels of a feature map of its values
    to the power of 2, divided by its length over all pixels.
    """

    kind: Literal["nad"] = "nad"
    strength: ClassVar[str] = "beta"
    share: Annotated[PositiveShare, Shown("share {}")] = 0.05
    beta: Annotated[PositiveFloat, Shown("beta {}")] = 2000.0
    stages: Annotated[Count, Shown("{} stages")] = 4
    teacher: Annotated[Recipe, Shown("")] = PUBLISHED
    recipe: Annotated[Recipe, Shown("")] = PUBLISHED

    def __post_init__(self) -> None:
        super().__post_init__()
        refuse_compiled(self.recipe, "feature maps are taken out of the network")
        if self.teacher.keep != "last":
            raise ValueError(f"teacher.keep: {self.teacher.keep!r} is not allowed: must be 'last' for an attacker")

    def validate(self, facts: TargetFacts) -> None:
        """Raise ValueError for a network without feature maps."""
        super().validate(facts)
        probe = blank_victim(facts)
        if probe is not None and not stages(*probe):
            label = facts.victim.model.label
            raise ValueError(f"{facts.path}: {self.kind} is not allowed: {label} has no feature maps (n c h w)")

    def objective(self, access: WhiteBoxAccess, images: TaughtImages) -> Objective:
        """The cross-entropy, and how far the network looks elsewhere than the teacher."""
        wanted = stages(access.model, images.images)[-self.stages :]
        teacher = self.tuned_copy(access, images, self.teacher)

        def objective(model: nn.Module, batch: Batch, generator: torch.Generator) -> Tensor:
            with listening_at(model, wanted) as own:
                loss = self.label_loss(model, batch, generator)
            with torch.no_grad(), listening_at(teacher, wanted) as taught:
                teacher(batch.images)
            distances = [F.mse_loss(attention(own[one]), attention(taught[one])) for one in wanted]
            return loss + self.beta * torch.stack(distances).sum()

        return objective


def attention(maps: Tensor) -> Tensor:
    """The attention maps (n h w) of feature maps (n c h w): squares summed over channels, of about unit length."""
    summed = maps.to(torch.promote_types(maps.dtype, torch.float32)).square().sum(1)
    length: Tensor = torch.linalg.vector_norm(summed, dim=(1, 2), keepdim=True)
    return summed / (length + TINY)
