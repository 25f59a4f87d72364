"""Quantization: weights on a coarse grid, or a network that computes in 8 bits."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from typing import Annotated, Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from mwm.attacks.access import WhiteBoxAccess
from mwm.attacks.layers import weight_tensors
from mwm.attacks.removal.one_shot import OneShotAttack
from mwm.config.spec import Field, Shown, Strict, spec
from mwm.data.host import Images
from mwm.models.int8 import SCALE, ZERO_POINT, input_range, int8_layers, round_inputs, round_weight
from mwm.training.evaluation import predict_logits


@spec
class Quantization(OneShotAttack):
    """Round the victim's numbers to so many `bits`, without training.

    grid   each weight of a tensor becomes the mid-point of its bin, of the 2^bits - 1 bins between 2^bits equally
           spaced points from the least weight to the greatest (Lukas et al., 2022, with 5 or 6 bits)
    int8   convolutions and linear layers compute as PyTorch's int8 kernels do: weights in 8 bits, symmetric, with a
           scale for each output channel; inputs in 8 bits, by the range that the attacker's images gave them

    A weight on a point belongs to the bin above it, the greatest one to the last bin. Weights of the grid are those of
    two dimensions or more, none of layers that normalise. What int8 makes of the input of a layer stays so in a
    training after.
    """

    strength: ClassVar[str] = "bits"
    kind: Literal["quantization"] = "quantization"
    bits: Annotated[int, Strict(), Field(ge=2, le=8), Shown("{} bits", heading="bits", always=True)] = 5
    method: Annotated[Literal["grid", "int8"], Shown()] = "grid"

    def __post_init__(self) -> None:
        if self.method == "int8" and self.bits != 8:
            raise ValueError(f"method: 'int8' is not allowed with bits {self.bits}: allowed with bits: 8")

    def network(self, access: WhiteBoxAccess) -> nn.Module:
        """The copy, with layers that round what they are given if it is to compute in int8."""
        if self.method == "int8":
            for layer in int8_layers(access.model):
                round_inputs(layer)
        return access.model

    def uses_images(self) -> bool:
        """For the ranges of `int8` alone."""
        return self.method == "int8"

    def change(self, model: nn.Module, access: WhiteBoxAccess) -> None:
        """Round the weights, and with int8 have inputs rounded, too."""
        if self.method == "grid":
            rounded = {weight: bin_middles(weight, self.bits) for weight in weight_tensors(model)}
        else:
            calibrate(model, access.images.images)
            weights: list[Any] = [layer.weight for layer in int8_layers(model)]
            rounded = {weight: round_weight(weight) for weight in weights}
        for weight, value in rounded.items():
            weight.copy_(value)


def bin_middles(weight: Tensor, bits: int) -> Tensor:
    """Each weight moved to the middle of its bin (float64); what is constant stays as it is."""
    values, bins = weight.detach().double(), 2**bits - 1
    low, high = values.min(), values.max()
    if low == high:
        return values
    width = (high - low) / bins
    number = ((values - low) / width).floor().clamp(0, bins - 1)
    middles: Tensor = low + (number + 0.5) * width
    return middles


def calibrate(model: nn.Module, images: Images) -> None:
    """Have the layers round their inputs by the least and the greatest number that uint8 images (n c h w) gave them."""
    ends: dict[nn.Module, list[Tensor]] = {}

    def watcher(layer: nn.Module) -> Callable[..., None]:
        def watch(_: nn.Module, given: tuple[Any, ...]) -> None:
            ends.setdefault(layer, []).extend(given[0].float().aminmax())

        return watch

    layers = int8_layers(model)
    with ExitStack() as listening:
        for layer in layers:
            listening.enter_context(layer.register_forward_pre_hook(watcher(layer)))
        predict_logits(model, images)
    for layer in layers:
        round_inputs(layer)
        if layer in ends:  # the weights of some are read by others, and they are never called
            seen = torch.stack(ends[layer])
            for name, value in zip((SCALE, ZERO_POINT), input_range(seen.min(), seen.max()), strict=True):
                getattr(layer, name).copy_(value)
