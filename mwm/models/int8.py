"""Networks that compute as PyTorch's int8 kernels do: whole numbers of 8 bits, kept as floats."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

LAYERS = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.Linear)
"""The layers for which PyTorch has int8 kernels, with a scale for each output channel."""

SCALE, ZERO_POINT = "input_scale", "input_zero_point"
"""The buffers that a layer has which rounds its input: they travel with the weights."""

LEAST_SCALE = torch.finfo(torch.float32).eps
"""Of a range of nothing, as PyTorch has it."""


def int8_layers(model: nn.Module) -> list[nn.Module]:
    """The layers of a network that can compute in int8."""
    return [layer for layer in model.modules() if isinstance(layer, LAYERS)]


def weight_scales(weight: Tensor) -> Tensor:
    """The scale of each output channel (c): symmetric about zero, so that the largest magnitude is 127.5 steps."""
    largest = weight.detach().flatten(1).abs().amax(1)
    return (largest / 127.5).clamp(min=LEAST_SCALE)


def round_weight(weight: Tensor) -> Tensor:
    """A weight on the grid of -128 to 127 steps of each output channel."""
    scale = weight_scales(weight).view(-1, *[1] * (weight.ndim - 1))
    return (weight * (1 / scale)).round().clamp(-128, 127) * scale


def input_range(low: Tensor, high: Tensor) -> tuple[Tensor, Tensor]:
    """Scale and zero point (int32) of 0 to 255 that reach from `low` to `high`, and have zero among them."""
    low, high = low.clamp(max=0), high.clamp(min=0)
    scale = ((high - low) / 255).clamp(min=LEAST_SCALE)
    return scale, (-(low / scale).round()).clamp(0, 255).to(torch.int32)


def round_inputs(layer: nn.Module) -> None:
    """Have a layer round its input to 8 bits from now on, by ranges that are its buffers; once is enough."""
    if hasattr(layer, SCALE):
        return
    device = next(layer.parameters()).device
    layer.register_buffer(SCALE, torch.ones((), device=device))
    layer.register_buffer(ZERO_POINT, torch.zeros((), dtype=torch.int32, device=device))
    layer.register_forward_pre_hook(_rounded_input)


def round_named_inputs(network: nn.Module, names: Iterable[str]) -> None:
    """Have those layers of a network round their inputs of which weights of such `names` say that they do."""
    layers = dict(network.named_modules())
    rounding = {name.rpartition(".")[0] for name in names if name.endswith(f".{SCALE}")}
    for layer in (layers.get(path) for path in rounding):
        if isinstance(layer, LAYERS):
            round_inputs(layer)


def _rounded_input(layer: Any, given: tuple[Any, ...]) -> tuple[Any, ...]:
    """What a layer is given on its grid; gradients pass what is within the range as if it were not rounded."""
    x, *others = given
    scale, zero = layer.input_scale, layer.input_zero_point
    steps = x.float() * (1 / scale)
    rounded = ((steps.round() + zero).clamp(0, 255) - zero) * scale
    if torch.is_grad_enabled():
        within = torch.minimum(torch.maximum(x.float(), -zero * scale), (255 - zero) * scale)
        rounded = within + (rounded - within).detach()
    return rounded, *others
