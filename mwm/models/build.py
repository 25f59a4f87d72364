"""Networks with the normalisation inside: images in [0, 1] go in, one logit per class comes out."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from mwm.config.spec import DISCRIMINATED, Count, spec
from mwm.models.networks import (
    Cnn,
    ResNet,
    ResNet20,
    build_cnn,
    build_resnet20,
    build_torchvision,
    reset_convolutions,
)

Model = Annotated[ResNet | ResNet20 | Cnn, *DISCRIMINATED]


@spec
class ArchitectureSpec:
    """What rebuilds a network from its weights: images of `shape` (c, h, w) go in, `classes` logits come out."""

    model: Model
    shape: tuple[Count, Count, Count]
    classes: Count


class Normalize(nn.Module):
    """Centre and scale each channel; the statistics are buffers, so that they travel with the weights."""

    mean: Tensor
    std: Tensor

    def __init__(self, mean: Sequence[float], std: Sequence[float]) -> None:
        """Take one mean and one positive standard deviation per channel, in image units ([0, 1])."""
        super().__init__()
        assert len(mean) == len(std), f"{len(mean)} means for {len(std)} deviations"
        assert min(std) > 0, f"deviations must be positive: {std}"
        self.register_buffer("mean", torch.tensor(mean, dtype=torch.float32).view(-1, 1, 1))
        self.register_buffer("std", torch.tensor(std, dtype=torch.float32).view(-1, 1, 1))

    def forward(self, images: Tensor) -> Tensor:
        """Map images (n c h w) in [0, 1] to about zero mean and unit variance."""
        return (images - self.mean) / self.std


def build_model(
    model: Model,
    *,
    shape: tuple[int, int, int],
    classes: int,
    mean: Sequence[float],
    std: Sequence[float],
    generator: torch.Generator,
) -> nn.Module:
    """A fresh network for images of `shape` (c, h, w): float images (n c h w) in [0, 1] to logits (n classes).

    The weights follow from the seed of `generator` alone; neither it nor the global random state moves. Two modules:
    `normalise`, with `mean` and `std` per channel unless the record has constants of its own, and `network`, whose last
    layer is the linear `fc`. Raises ValueError for images so small that a training batch of one image would leave batch
    norm one value a channel, and for constants of another number of channels.
    """
    channels, *sides = shape
    assert len(mean) == channels, f"{len(mean)} means for {channels} channels"
    if fault := normalization_fault(model, channels):
        raise ValueError(fault)
    if model.normalize is not None:
        mean, std = model.normalize.mean, model.normalize.std
    least = min_image_side(model)
    if min(sides) < least:
        raise ValueError(f"images of {sides[0]}x{sides[1]} are too small for {model.kind}; at least {least}x{least}")
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(generator.initial_seed())  # torch.manual_seed would reseed the GPUs as well
        network = _network(model, channels, classes)
        if model.init == "pytorch":
            reset_convolutions(network)
    return nn.Sequential(OrderedDict(normalise=Normalize(mean, std), network=network))


def rebuild_model(architecture: ArchitectureSpec, weights: Mapping[str, Tensor]) -> nn.Module:
    """A trained network from its weights, in evaluation mode; RuntimeError if they are another network's.

    It never has initial weights: a record that names a huge network takes no memory before it is refused.
    """
    shape, blank = architecture.shape, [1.0] * architecture.shape[0]
    with torch.device("meta"), _Undrawn():
        network = build_model(
            architecture.model,
            shape=shape,
            classes=architecture.classes,
            mean=blank,
            std=blank,
            generator=torch.Generator(),
        ).requires_grad_(False)
    kinds = {name: value.dtype for name, value in network.state_dict().items()}
    network.load_state_dict({name: value.to(kinds.get(name)) for name, value in weights.items()}, assign=True)
    return network.eval()


def min_image_side(model: Model) -> int:
    """The smallest image side in pixels which leaves at least 2x2 values per channel in front of the global pool."""
    match model:
        case Cnn(depth=depth):
            return int(2**depth)
        case ResNet20():
            return 5
        case ResNet():
            return 9


def normalization_fault(model: Model, channels: int) -> str:
    """What is wrong with a record's constants for images of so many channels, in one line; empty if nothing is."""
    given = channels if model.normalize is None else len(model.normalize.mean)
    if given == channels:
        return ""
    return f"normalize: constants for {given} channels are not allowed: images have {channels}"


def count_parameters(model: nn.Module) -> int:
    """The size of a network: how many numbers training may change, normalisation statistics not among them."""
    return sum(weight.numel() for weight in model.parameters())


def channel_statistics(images: Tensor) -> tuple[list[float], list[float]]:
    """Mean and standard deviation of each channel over all pixels of uint8 images (n c h w), in image units ([0, 1]).

    From a histogram of grey levels, so exact. A deviation is at least 1/255, for the sake of a constant channel.
    """
    assert images.dtype == torch.uint8, f"uint8 images expected, not {images.dtype}"
    means, deviations = [], []
    for channel in images.unbind(1):
        counts = torch.bincount(channel.flatten(), minlength=256).tolist()
        n, first, second = (sum(count * level**power for level, count in enumerate(counts)) for power in range(3))
        means.append(first / (255 * n))
        deviations.append(max((n * second - first**2) ** 0.5 / n, 1) / 255)
    return means, deviations


class _Undrawn(TorchFunctionMode):
    """Leaves out all random draws: on the meta device they give nothing, and load PyTorch's compiler, a second long."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return args[0] if func in (Tensor.normal_, Tensor.uniform_) else func(*args, **(kwargs or {}))


def _network(model: Model, channels: int, classes: int) -> nn.Module:
    match model:
        case Cnn(width=width, depth=depth):
            return build_cnn(channels, classes, [width * 2**level for level in range(depth)])
        case ResNet20():
            return build_resnet20(channels, classes)
        case ResNet(kind=kind):
            return build_torchvision(kind, channels, classes)
