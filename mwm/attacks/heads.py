"""The last layer of a network, as far as attackers put another one in its place."""

from __future__ import annotations

from copy import deepcopy

import torch
from torch import nn

from mwm.attacks.access import TargetFacts
from mwm.attacks.layers import blank_victim, last_layer
from mwm.data.host import Images

Head = nn.Linear | nn.Conv2d
"""Layers whose outputs may be other ones without a change of anything else."""
HEADS = (nn.Linear, nn.Conv2d)


def head_of(model: nn.Module, images: Images) -> Head:
    """The last layer of a network that was checked by `require_head`; `images` (uint8 n c h w) go into it."""
    layer = last_layer(model, images)
    assert isinstance(layer, Head), f"a last layer of kind {type(layer).__name__}"
    return layer


def require_head(path: str, kind: str, facts: TargetFacts) -> None:
    """Refuse an attack of a `kind` on the last layer, at `path`, where that is neither linear nor a convolution."""
    if (probe := blank_victim(facts)) is None:
        return
    layer = last_layer(*probe)
    if not isinstance(layer, HEADS):
        reason = f"the last layer of {facts.victim.model.label} is a {type(layer).__name__}"
        raise ValueError(f"{path}: {kind} is not allowed: {reason}; allowed: linear layers and convolutions")


def redraw(layer: Head, generator: torch.Generator) -> None:
    """Draw the weights of a layer anew, as PyTorch does by default: uniform within 1 / sqrt(fan-in) of zero.

    `generator` is on the CPU, so that every device gets the same.
    """
    bound = 1 / layer.weight[0].numel() ** 0.5
    with torch.no_grad():
        for weight in layer.parameters():
            weight.copy_(torch.empty(weight.shape).uniform_(-bound, bound, generator=generator))


def fresh_head(layer: Head, outputs: int, generator: torch.Generator) -> Head:
    """A layer like another one with so many outputs, and fresh weights."""
    fresh = deepcopy(layer)
    for name, weight in layer.named_parameters():
        setattr(fresh, name, nn.Parameter(weight.new_empty(outputs, *weight.shape[1:])))
    setattr(fresh, "out_features" if isinstance(fresh, nn.Linear) else "out_channels", outputs)
    redraw(fresh, generator)
    return fresh
