"""Layers of a network that attackers look for."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from copy import deepcopy
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm, _NormBase

from mwm.attacks.access import TargetFacts
from mwm.data.host import Images, select
from mwm.models.build import ArchitectureSpec, Model, blank_model
from mwm.models.networks import PythonNetwork
from mwm.training.evaluation import predict_logits

CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
NORMS = (_NormBase, nn.GroupNorm, nn.LayerNorm)
"""Layers that scale what they are given, and weigh nothing against each other."""

Head = nn.Linear | nn.Conv2d
"""Layers whose outputs may be other ones without a change of anything else."""
HEADS = (nn.Linear, nn.Conv2d)


def called_layers(model: nn.Module, images: Images) -> list[nn.Module]:
    """The layers with weights of their own, in the order in which they are called for uint8 images (n c h w)."""
    called: list[nn.Module] = []

    def listen(layer: nn.Module, *_: Any) -> None:
        called.append(layer)

    own = [layer for layer in model.modules() if any(True for _ in layer.parameters(recurse=False))]
    with ExitStack() as listening:
        for layer in own:
            listening.enter_context(layer.register_forward_hook(listen))
        predict_logits(model, select(images, torch.arange(1)))
    return called


def last_layer(model: nn.Module, images: Images) -> nn.Module:
    """The layer that gives the logits of uint8 images (n c h w): of all with weights the last one that is called."""
    return called_layers(model, images)[-1]


def weight_tensors(model: nn.Module) -> Iterator[nn.Parameter]:
    """The weights of two dimensions or more, each once: no biases, and nothing of layers that normalise."""
    normalising = {id(w) for layer in model.modules() if isinstance(layer, NORMS) for w in layer.parameters()}
    return (weight for weight in model.parameters() if weight.ndim > 1 and id(weight) not in normalising)


def batch_norm_behind(layer: nn.Conv2d, called: list[nn.Module]) -> _BatchNorm | None:
    """The batch norm of a convolution's channels: of `called` layers the next one, if it normalises as many."""
    behind = called[called.index(layer) + 1 :]
    if behind and isinstance(behind[0], _BatchNorm) and behind[0].num_features == layer.out_channels:
        return behind[0]
    return None


def check_convolutions(path: str, said: str, facts: TargetFacts, *, least: int = 1) -> None:
    """Refuse what is `said` at `path` where the victim's network has fewer than `least` convolutions."""
    model, dataset = facts.victim.model, facts.dataset
    if dataset is None or (held := _convolutions(model, dataset.shape, dataset.classes)) >= least:
        return
    has = f"{model.label} has {held} convolution{'' if held == 1 else 's'}" if held else f"{model.label} has none"
    raise ValueError(f"{path}: {said} is not allowed: {has}")


@lru_cache(maxsize=64)
def _convolutions(model: Model, shape: tuple[int, int, int], classes: int) -> int:
    """How many convolutions of images the network of a record has."""
    network = blank_model(ArchitectureSpec(model=model, shape=shape, classes=classes))
    return sum(isinstance(layer, nn.Conv2d) for layer in network.modules())


def penultimate_features(model: nn.Module, images: Images) -> Tensor:
    """What the last layer is given (n d, float32) for uint8 images (n c h w), in evaluation mode."""
    seen: list[Tensor] = []

    def listen(_: nn.Module, given: tuple[Any, ...]) -> None:
        seen.append(given[0].flatten(1).float())

    with last_layer(model, images).register_forward_pre_hook(listen):
        predict_logits(model, images)
    return torch.cat(seen)


def place_of(model: nn.Module, layer: nn.Module) -> str:
    """The dotted name of a layer."""
    names: dict[nn.Module, str] = {one: name for name, one in model.named_modules()}
    return names[layer]


def blank_victim(facts: TargetFacts) -> tuple[nn.Module, Tensor] | None:
    """A network like the victim's, whose weights have no values, and an image for it; None without its data."""
    dataset, model = facts.dataset, facts.victim.model
    if dataset is None:
        return None
    device = "cpu" if isinstance(model, PythonNetwork) else "meta"
    blank = blank_model(ArchitectureSpec(model=model, shape=dataset.shape, classes=dataset.classes)).to(device)
    return blank, torch.zeros(1, *dataset.shape, dtype=torch.uint8, device=device)


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
