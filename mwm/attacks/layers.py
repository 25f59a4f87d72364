"""Layers of a network that attackers look for."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from copy import deepcopy
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from mwm.attacks.access import TargetFacts
from mwm.data.host import Images, select
from mwm.models.build import ArchitectureSpec, Normalize, blank_model
from mwm.models.networks import PythonNetwork
from mwm.training.evaluation import predict_logits

Head = nn.Linear | nn.Conv2d
"""Layers whose outputs may be other ones without a change of anything else."""
HEADS = (nn.Linear, nn.Conv2d)


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


def place_of(model: nn.Module, layer: nn.Module) -> str:
    """The dotted name of a layer."""
    names: dict[nn.Module, str] = {one: name for name, one in model.named_modules()}
    return names[layer]


def require_head(path: str, kind: str, facts: TargetFacts) -> None:
    """Refuse an attack of a `kind` on the last layer, at `path`, where that is neither linear nor a convolution."""
    if (probe := blank_victim(facts)) is None:
        return
    layer = last_layer(*probe)
    if not isinstance(layer, HEADS):
        reason = f"the last layer of {facts.victim.model.label} is a {type(layer).__name__}"
        raise ValueError(f"{path}: {kind} is not allowed: {reason}; allowed: linear layers and convolutions")


def blank_victim(facts: TargetFacts) -> tuple[nn.Module, Tensor] | None:
    """A network like the victim's, whose weights have no values, and an image for it; None without its data."""
    dataset, model = facts.dataset, facts.victim.model
    if dataset is None:
        return None
    device = "cpu" if isinstance(model, PythonNetwork) else "meta"
    blank = blank_model(ArchitectureSpec(model=model, shape=dataset.shape, classes=dataset.classes)).to(device)
    return blank, torch.zeros(1, *dataset.shape, dtype=torch.uint8, device=device)


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


class Stage(NamedTuple):
    """Where a network gives its last feature map of a resolution: the layer's name, and height and width."""

    place: str
    size: tuple[int, int]


def stages(model: nn.Module, images: Images) -> list[Stage]:
    """The last feature map of each resolution of more than one pixel, in their order, for uint8 images (n c h w).

    A feature map is what any layer, or block of layers, from the first with weights on gives as n c h w, of the images'
    proportions. So it is the end of each stage of a residual network, whatever its blocks are called.
    """
    found: dict[tuple[int, int], str] = {}
    _, _, height, width = images.shape

    def listen(layer: nn.Module, _: Any, given: Any) -> None:
        if not isinstance(given, Tensor) or given.ndim != 4 or isinstance(layer, Normalize):
            return
        h, w = given.shape[2:]
        if 1 < h * w <= height * width and abs(h / height - w / width) <= 1 / min(height, width):
            found.pop((h, w), None)
            found[h, w] = names[layer]

    names = {layer: name for name, layer in model.named_modules()}
    listening = [layer.register_forward_hook(listen) for layer in names]
    try:
        predict_logits(model, select(images, torch.arange(1)))
    finally:
        for one in listening:
            one.remove()
    return [Stage(place, size) for size, place in found.items()]


@contextmanager
def listening_at(model: nn.Module, wanted: Sequence[Stage]) -> Iterator[dict[Stage, Tensor]]:
    """The feature maps (n c h w) of some stages, of each pass through a network meanwhile the last."""
    maps: dict[Stage, Tensor] = {}

    def listener(stage: Stage) -> Callable[[nn.Module, Any, Any], None]:
        def listen(_: nn.Module, __: Any, given: Tensor) -> None:
            if tuple(given.shape[2:]) == stage.size:  # a layer may be called at several resolutions
                maps[stage] = given

        return listen

    listening = [model.get_submodule(stage.place).register_forward_hook(listener(stage)) for stage in wanted]
    try:
        yield maps
    finally:
        for one in listening:
            one.remove()
