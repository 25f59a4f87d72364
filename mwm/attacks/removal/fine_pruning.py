"""Fine-pruning: channels that clean images leave at rest are cut, and the rest is trained further."""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from typing import Annotated, Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from mwm.attacks.access import TargetFacts, WhiteBoxAccess
from mwm.attacks.layers import batch_norm_behind, blank_victim, called_layers, check_convolutions
from mwm.attacks.removal.tuning import ADI, TaughtImages, TuningAttack
from mwm.attacks.removal.zeros import exact_part, hold_at_zero
from mwm.config.spec import Count, Field, Shown, Strict, spec
from mwm.data.host import Images
from mwm.training.evaluation import predict_logits
from mwm.training.recipe import Recipe

RECIPE = replace(ADI, epochs=10)
"""As long as Lukas et al. (2022) train, at their rate of 0.001."""


@spec
class FinePruning(TuningAttack):
    """Cut the channels of the last convolutions that clean images activate least, then fine-tune (Liu et al., 2018).

    A channel is ranked by its mean activation: the positive part of what it gives behind its batch norm, over all of
    the attacker's images and places. Of each of the last `convolutions` the lowest share is cut, rounded down, so that
    a channel is left. What is cut gives zero throughout the training.
    """

    strength: ClassVar[str] = "share"
    kind: Literal["fine_pruning"] = "fine_pruning"
    share: Annotated[float, Strict(), Field(gt=0, lt=1), Shown("share {}", heading="share", always=True)] = 0.95
    convolutions: Annotated[Count, Shown("last {} convolutions", heading="last convolutions")] = 1
    recipe: Annotated[Recipe, Shown("")] = RECIPE

    def validate(self, facts: TargetFacts) -> None:
        """Raise ValueError for a network with fewer convolutions, and for a share that cuts no channel of any."""
        super().validate(facts)
        check_convolutions(f"{facts.path}.convolutions", f"{self.convolutions}", facts, least=self.convolutions)
        if probe := blank_victim(facts):
            most = max(layer.out_channels for layer in self._late(called_layers(*probe)))
            if not self._count(most):
                reason = f"it cuts no channel of {most}; allowed: 1/{most} or more"
                raise ValueError(f"{facts.path}.share: {self.share:g} is not allowed: {reason}")

    def _late(self, called: list[nn.Module]) -> list[nn.Conv2d]:
        """The last convolutions of all layers that are called."""
        return [layer for layer in dict.fromkeys(called) if isinstance(layer, nn.Conv2d)][-self.convolutions :]

    def _count(self, channels: int) -> int:
        """How many of so many channels are cut."""
        return math.floor(exact_part(self.share, channels))

    def prepare(self, model: nn.Module, access: WhiteBoxAccess, images: TaughtImages) -> None:
        """Cut the channels."""
        del access
        called = called_layers(model, images.images)
        late = {layer: batch_norm_behind(layer, called) for layer in self._late(called)}
        means = mean_activations(model, images.images, [norm or layer for layer, norm in late.items()])
        for (layer, norm), mean in zip(late.items(), means, strict=True):
            cut = torch.zeros_like(mean, dtype=torch.bool)
            cut[mean.argsort(stable=True)[: self._count(len(mean))]] = True
            for one in filter(None, (layer, norm)):
                for weight in one.parameters(recurse=False):
                    hold_at_zero(weight, cut.view(-1, *[1] * (weight.ndim - 1)))


def mean_activations(model: nn.Module, images: Images, layers: list[nn.Module]) -> list[Tensor]:
    """The mean positive part of each channel (c, float64) that some layers give for uint8 images (n c h w)."""
    sums: dict[nn.Module, Any] = dict.fromkeys(layers, 0.0)

    def adder(layer: nn.Module) -> Callable[..., None]:
        def add(_: nn.Module, __: Any, given: Tensor) -> None:
            sums[layer] = sums[layer] + given.double().clamp_min(0).mean((2, 3)).sum(0)

        return add

    with ExitStack() as listening:
        for layer in layers:
            listening.enter_context(layer.register_forward_hook(adder(layer)))
        predict_logits(model, images)
    return [total / len(images) for total in sums.values()]
