"""Adversarial neuron pruning: channels that the network needs only while they are disturbed are taken out."""

from __future__ import annotations

from copy import deepcopy
from typing import Annotated, ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from mwm.attacks.access import TargetFacts, WhiteBoxAccess
from mwm.attacks.base import check_batch_norm
from mwm.attacks.removal.few_images import FewImagesAttack, ShownTraining, refuse_compiled
from mwm.attacks.removal.tuning import TaughtImages
from mwm.config.spec import Count, PositiveFloat, PositiveShare, Share, Shown, spec
from mwm.training.recipe import CONSTANT, Recipe
from mwm.training.state import TrainState
from mwm.training.step import Batch, Objective

PUBLISHED = Recipe(epochs=30, batch_size=128, lr=0.2, momentum=0.9, weight_decay=0.0, schedule=CONSTANT)


@spec
class AdversarialNeuronPruning(FewImagesAttack):
    """Adversarial neuron pruning (ANP; Wu and Wang, 2021), on the channels of batch normalisation.

    Each channel's scale is multiplied by a mask in [0, 1], which begins at 1. A step draws a noise for each scale and
    shift, relative and uniform within `perturbation`, and moves it by as much along the sign of the gradient of the
    loss, in `perturbation_steps` parts. It then lowers `alpha` times the loss without noise plus 1 - alpha times the
    loss with it, by the masks alone. At the end the scales whose masks are at most `threshold` become 0; nothing else
    changes.
    """

    kind: Literal["anp"] = "anp"
    strength: ClassVar[str] = "threshold"
    share: Annotated[PositiveShare, Shown("share {}")] = 0.01
    threshold: Annotated[Share, Shown("below {}", heading="threshold", always=True)] = 0.2
    perturbation: Annotated[PositiveFloat, Shown("noise {}")] = 0.4
    perturbation_steps: Annotated[Count, Shown("{} noise steps")] = 1
    alpha: Annotated[Share, Shown("alpha {}")] = 0.2
    recipe: Annotated[Recipe, Shown("")] = PUBLISHED

    def __post_init__(self) -> None:
        super().__post_init__()
        refuse_compiled(self.recipe, "masks stand between the layers of the network")

    def validate(self, facts: TargetFacts) -> None:
        """Raise ValueError for a network without batch normalisation."""
        super().validate(facts)
        check_batch_norm(facts.path, self.kind, facts)

    def training(self, model: nn.Module, images: TaughtImages) -> TrainState:
        """The training of the masks; judged, and kept, is the victim's network without the pruned channels."""
        victim = deepcopy(model)

        def pruned(masked: nn.Module) -> nn.Module:
            assert isinstance(masked, MaskedNetwork), "masks are trained"
            return masked.pruned(victim, self.threshold)

        return ShownTraining(MaskedNetwork(model), self.recipe.filled_by(len(images)), pruned)

    def objective(self, access: WhiteBoxAccess, images: TaughtImages) -> Objective:
        """The loss by the masks without and with a noise that is the worst for them."""
        del access, images

        def objective(model: nn.Module, batch: Batch, generator: torch.Generator) -> Tensor:
            assert isinstance(model, MaskedNetwork), "masks are trained"
            model.clip()  # what the step before has made of the masks
            noise = [
                torch.empty_like(one).uniform_(-self.perturbation, self.perturbation, generator=generator)
                for one in model.scales * 2
            ]
            for _ in range(self.perturbation_steps):
                model.noise = [one.requires_grad_() for one in noise]
                slopes = torch.autograd.grad(self.label_loss(model, batch, generator), noise)
                pairs = zip(noise, slopes, strict=True)
                noise = [
                    one.detach() + self.perturbation / self.perturbation_steps * slope.sign() for one, slope in pairs
                ]
            model.noise = noise
            disturbed = self.label_loss(model, batch, generator)
            model.noise = []
            return self.alpha * self.label_loss(model, batch, generator) + (1 - self.alpha) * disturbed

        return objective


class MaskedNetwork(nn.Module):
    """A network whose weights rest, with a mask for the scale of each channel of batch normalisation.

    `noise` is what is added to the masks, for each layer (channels), then to the shifts' factors, 1; empty for none.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model.requires_grad_(False)
        self.places = [
            name for name, layer in model.named_modules() if isinstance(layer, _BatchNorm) and layer.weight is not None
        ]
        self.masks = nn.ParameterList(torch.ones_like(scale) for scale in self.scales)
        self.noise: list[Tensor] = []

    @property
    def scales(self) -> list[Tensor]:
        """The scales of all layers, as the victim has them."""
        return [self.model.get_parameter(f"{place}.weight") for place in self.places]

    def clip(self) -> None:
        """Bring the masks back into [0, 1]."""
        with torch.no_grad():
            for mask in self.masks:
                mask.clamp_(0, 1)

    def forward(self, images: Tensor) -> Tensor:
        """Logits (n C) of images (n c h w in [0, 1]), through masks and noise."""
        disturbed, changed = self.noise or [torch.zeros_like(one) for one in self.scales * 2], {}
        for at, (place, scale, mask) in enumerate(zip(self.places, self.scales, self.masks, strict=True)):
            shift = self.model.get_parameter(f"{place}.bias")
            changed[f"{place}.weight"] = scale * (mask + disturbed[at])
            changed[f"{place}.bias"] = shift * (1 + disturbed[len(self.places) + at])
        answers: Tensor = torch.func.functional_call(self.model, changed, (images,))
        return answers

    def pruned(self, victim: nn.Module, threshold: float) -> nn.Module:
        """A copy of the victim's network in which the scales with masks of at most `threshold` are 0."""
        network = deepcopy(victim)
        with torch.no_grad():
            for place, mask in zip(self.places, self.masks, strict=True):
                network.get_parameter(f"{place}.weight")[mask.clamp(0, 1) <= threshold] = 0
        return network
