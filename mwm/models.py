"""Networks with the normalisation inside: images in [0, 1] go in, one logit per class comes out."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from itertools import pairwise
from typing import Annotated, Literal

import torch
import torch.nn.functional as F
from pydantic import Field, Strict
from torch import Tensor, nn

from mwm.spec import OF_A_KIND, Count, spec


@spec
class ResNet:
    """A torchvision residual network (He et al., 2015) with a stem for small images: 3x3, stride 1, no max-pool."""

    kind: Literal["resnet18", "resnet34", "resnet50", "resnet101", "resnet152"]


@spec
class ResNet20:
    """The thin 20-layer residual network for CIFAR (He et al., 2015, section 4.2): 0.27 million parameters."""

    kind: Literal["resnet20"] = "resnet20"


@spec
class Cnn:
    """A small plain network for CPU trials: `depth` convolutions of `width`, 2 `width`, 4 `width`, ... channels."""

    kind: Literal["cnn"] = "cnn"
    width: Count = 16
    depth: Annotated[int, Strict(), Field(ge=1, le=16)] = 3


Model = Annotated[ResNet | ResNet20 | Cnn, *OF_A_KIND]


@spec
class Blueprint:
    """What rebuilds a network from its weights: images of `shape` (c, h, w) go in, `classes` logits come out."""

    model: Model
    shape: tuple[Count, Count, Count]
    classes: Count


class Normalise(nn.Module):
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


def build(
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
    `normalise`, with `mean` and `std` per channel, and `network`, whose last layer is the linear `fc`.
    Raises ValueError for images so small that a training batch of one image would leave batch norm one value a channel.
    """
    channels, *sides = shape
    assert len(mean) == channels, f"{len(mean)} means for {channels} channels"
    least = smallest_side(model)
    if min(sides) < least:
        raise ValueError(f"images of {sides[0]}x{sides[1]} are too small for {model.kind}; at least {least}x{least}")
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(generator.initial_seed())  # torch.manual_seed would reseed the GPUs as well
        network = _network(model, channels, classes)
    return nn.Sequential(OrderedDict(normalise=Normalise(mean, std), network=network))


def smallest_side(model: Model) -> int:
    """The smallest image side in pixels which leaves at least 2x2 values per channel in front of the global pool."""
    match model:
        case Cnn(depth=depth):
            return int(2**depth)
        case ResNet20():
            return 5
        case ResNet():
            return 9


def parameters(model: nn.Module) -> int:
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


def _network(model: Model, channels: int, classes: int) -> nn.Module:
    match model:
        case Cnn(width=width, depth=depth):
            return _cnn(channels, classes, [width * 2**level for level in range(depth)])
        case ResNet20():
            return _resnet20(channels, classes)
        case ResNet(kind=kind):
            return _torchvision(kind, channels, classes)


def _torchvision(kind: str, channels: int, classes: int) -> nn.Module:
    import torchvision

    network: nn.Module = torchvision.models.get_model(kind, weights=None, num_classes=classes)
    network.conv1 = _conv(channels, 64)
    network.maxpool = nn.Identity()
    return network


def _cnn(channels: int, classes: int, widths: Sequence[int]) -> nn.Module:
    layers: list[tuple[str, nn.Module]] = []
    for level, (before, width) in enumerate(pairwise([channels, *widths])):
        layers += [(f"conv{level}", _conv(before, width))]
        if level < len(widths) - 1:
            layers += [(f"pool{level}", nn.MaxPool2d(2))]  # before the norm: that quarters its cost
        layers += [(f"norm{level}", nn.BatchNorm2d(width)), (f"relu{level}", nn.ReLU())]
    return nn.Sequential(OrderedDict([*layers, *_head(widths[-1], classes)]))


def _resnet20(channels: int, classes: int) -> nn.Module:
    widths = [16] * 4 + [32] * 3 + [64] * 3
    stem = [("conv", _conv(channels, 16)), ("norm", nn.BatchNorm2d(16)), ("relu", nn.ReLU())]
    blocks = [(f"block{i}", _Block(before, after)) for i, (before, after) in enumerate(pairwise(widths))]
    return nn.Sequential(OrderedDict([*stem, *blocks, *_head(64, classes)]))


class _Block(nn.Module):
    """Two convolutions round a shortcut without parameters (option A): every second pixel, zeros for new channels."""

    def __init__(self, before: int, after: int) -> None:
        super().__init__()
        self.stride = 2 if after > before else 1
        self.grown = after - before
        self.conv1, self.norm1 = _conv(before, after, self.stride), nn.BatchNorm2d(after)
        self.conv2, self.norm2 = _conv(after, after), nn.BatchNorm2d(after)

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.norm1(self.conv1(x)))
        y = self.norm2(self.conv2(y))
        shortcut = x[:, :, :: self.stride, :: self.stride]
        return F.relu(y + F.pad(shortcut, (0, 0, 0, 0, self.grown // 2, self.grown - self.grown // 2)))


def _conv(before: int, after: int, stride: int = 1) -> nn.Conv2d:
    """A 3x3 convolution with the initial weights of He et al. (2015), as in torchvision's residual networks."""
    conv = nn.Conv2d(before, after, 3, stride, padding=1, bias=False)
    nn.init.kaiming_normal_(conv.weight, mode="fan_out", nonlinearity="relu")
    return conv


def _head(width: int, classes: int) -> list[tuple[str, nn.Module]]:
    return [("average", nn.AdaptiveAvgPool2d(1)), ("flatten", nn.Flatten()), ("fc", nn.Linear(width, classes))]
