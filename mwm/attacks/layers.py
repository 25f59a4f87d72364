"""Layers of a network that attackers look for."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from mwm.data.host import Images, select
from mwm.training.evaluation import predict_logits


def last_layer(model: nn.Module, images: Images) -> nn.Module:
    """The layer that gives the logits of uint8 images (n c h w): of all with weights the last one that is called."""
    called: list[nn.Module] = []

    def listen(layer: nn.Module, *_: Any) -> None:
        called.append(layer)

    own = [layer for layer in model.modules() if any(True for _ in layer.parameters(recurse=False))]
    listening = [layer.register_forward_hook(listen) for layer in own]
    try:
        predict_logits(model, select(images, torch.arange(1)))
    finally:
        for one in listening:
            one.remove()
    return called[-1]


def penultimate_features(model: nn.Module, images: Images) -> Tensor:
    """What the last layer is given (n d, float32) for uint8 images (n c h w), in evaluation mode."""
    seen: list[Tensor] = []

    def listen(_: nn.Module, given: tuple[Any, ...]) -> None:
        seen.append(given[0].flatten(1).float())

    listening = last_layer(model, images).register_forward_pre_hook(listen)
    try:
        predict_logits(model, images)
    finally:
        listening.remove()
    return torch.cat(seen)
