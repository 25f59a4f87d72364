"""Weight shifting: convolutions moved against the mean of their filters, and by noise."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

import torch
from torch import nn

from mwm.attacks.access import TargetFacts, WhiteBoxAccess
from mwm.attacks.layers import CONVOLUTIONS, check_convolutions
from mwm.attacks.removal.one_shot import OneShotAttack
from mwm.config.randomness import make_generator
from mwm.config.spec import NonNegativeFloat, Shown, spec


@spec
class WeightNoise(OneShotAttack):
    """Move the weights of all convolutions, without training: w - (shift m + noise_scale N(0, s)).

    m is the mean filter of a convolution, over its output channels, and s the standard deviation of all its weights.
    Lukas et al. (2022) call it weight shifting, with shift 1.5 or 2.5 and noise 1, and fine-tune after.
    """

    strength: ClassVar[str] = "noise_scale"
    kind: Literal["weight_noise"] = "weight_noise"
    noise_scale: Annotated[NonNegativeFloat, Shown("noise {}", heading="noise", always=True)] = 1.0
    shift: Annotated[NonNegativeFloat, Shown("shift {}", heading="shift", always=True)] = 1.5

    def __post_init__(self) -> None:
        if self.noise_scale == self.shift == 0:
            raise ValueError(f"noise_scale: {self.noise_scale:g} is not allowed with shift 0: no weight moves")

    def validate(self, facts: TargetFacts) -> None:
        """Raise ValueError for a network without convolutions."""
        super().validate(facts)
        check_convolutions(facts.path, self.kind, facts)

    def uses_images(self) -> bool:
        """None are."""
        return False

    def change(self, model: nn.Module, access: WhiteBoxAccess) -> None:
        """Move the convolutions, one after another; what is drawn is the same on every device."""
        drawn = make_generator(access.seed, "noise")
        for layer in model.modules():
            if isinstance(layer, CONVOLUTIONS):
                weight = layer.weight
                noise = torch.randn(weight.shape, generator=drawn).to(weight)
                weight -= self.shift * weight.mean(0) + self.noise_scale * weight.std(correction=0) * noise
