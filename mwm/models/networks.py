"""Networks: their records, and what each builds."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from itertools import pairwise
from typing import Annotated, Literal

import torch.nn.functional as F
from torch import Tensor, nn

from mwm.config.functions import FromFunction
from mwm.config.spec import Count, Field, NonEmptyStr, PositiveFloat, Strict, spec
from mwm.models.torchvision_networks import Stem

Init = Literal["he", "pytorch"]
"""How the weights of convolutions are drawn at first.

he        normal, variance 2 / fan-out (He et al., 2015), as in torchvision's residual networks
pytorch   uniform, variance 1 / (3 fan-in), as PyTorch does by default
"""

FiniteFloat = Annotated[float, Strict(), Field(allow_inf_nan=False)]


@spec
class Normalization:
    """Fixed constants by which images are normalized: `mean` and `std` of each channel, for images in [0, 1]."""

    mean: Annotated[tuple[FiniteFloat, ...], Field(min_length=1)]
    std: Annotated[tuple[PositiveFloat, ...], Field(min_length=1)]

    def __post_init__(self) -> None:
        given, wanted = len(self.std), len(self.mean)
        if given != wanted:
            raise ValueError(f"std: a list of {given} is not allowed: must have {wanted}, as mean has")


@spec
class NetworkRecord:
    """What may be said of every network: how images are normalized.

    Without `normalize` the statistics of the images that the network is trained on are used.
    """

    normalize: Normalization | None = None

    @property
    def label(self) -> str:
        """What people are told that it is."""
        return str(self.kind)  # type: ignore[attr-defined]


@spec
class DrawnNetwork(NetworkRecord):
    """A network of which may also be said how its convolutions are drawn."""

    init: Init = "he"


@spec
class ResNet(DrawnNetwork):
    """A torchvision residual network (He et al., 2015) with a stem for small images: 3x3, stride 1, no max-pool."""

    kind: Literal["resnet18", "resnet34", "resnet50", "resnet101", "resnet152"]


@spec
class ResNet20(DrawnNetwork):
    """The thin 20-layer residual network for CIFAR (He et al., 2015, section 4.2): 0.27 million parameters."""

    kind: Literal["resnet20"] = "resnet20"


@spec
class Cnn(DrawnNetwork):
    """A small plain network for CPU trials: `depth` convolutions of `width`, 2 `width`, 4 `width`, ... channels."""

    kind: Literal["cnn"] = "cnn"
    width: Count = 16
    depth: Annotated[int, Strict(), Field(ge=1, le=16)] = 3


@spec
class Torchvision(NetworkRecord):
    """A classification network of torchvision by its name, such as `vit_b_16`, `convnext_tiny` or `efficientnet_b0`.

    With `stem: small` it is for images of a quarter of the side: a first convolution that halves the side becomes 3x3
    of stride 1, and a max-pool behind it is left out; one that cuts the image into patches cuts a quarter of the side.
    """

    kind: Literal["torchvision"] = "torchvision"
    name: NonEmptyStr
    stem: Stem = "published"

    @property
    def label(self) -> str:
        """Its name there."""
        return self.name


@spec
class PythonNetwork(FromFunction, NetworkRecord):
    """A network that a function of yours builds, with fresh weights: any `nn.Module`, from images (n c h w) to logits.

    The function gets `arguments`, and the `shape` (c, h, w) of an image and the number of `classes` where it has
    parameters of these names. What it draws, it draws from PyTorch's global generator, which is seeded for it.
    """

    kind: Literal["python"] = "python"

    @property
    def label(self) -> str:
        """The function's name."""
        return self.function


def build_cnn(channels: int, classes: int, widths: Sequence[int]) -> nn.Module:
    """A `Cnn` with fresh weights, one convolution for each of `widths`."""
    layers: list[tuple[str, nn.Module]] = []
    for level, (before, width) in enumerate(pairwise([channels, *widths])):
        layers += [(f"conv{level}", _conv(before, width))]
        if level < len(widths) - 1:
            layers += [(f"pool{level}", nn.MaxPool2d(2))]  # before the norm: that quarters its cost
        layers += [(f"norm{level}", nn.BatchNorm2d(width)), (f"relu{level}", nn.ReLU())]
    return nn.Sequential(OrderedDict([*layers, *_head(widths[-1], classes)]))


def build_resnet20(channels: int, classes: int) -> nn.Module:
    """A `ResNet20` with fresh weights."""
    widths = [16] * 4 + [32] * 3 + [64] * 3
    stem = [("conv", _conv(channels, 16)), ("norm", nn.BatchNorm2d(16)), ("relu", nn.ReLU())]
    blocks = [(f"block{i}", _Block(before, after)) for i, (before, after) in enumerate(pairwise(widths))]
    return nn.Sequential(OrderedDict([*stem, *blocks, *_head(64, classes)]))


def reset_convolutions(network: nn.Module) -> None:
    """Draw the weights of all convolutions anew as PyTorch does by default: uniform within 1 / sqrt(fan-in) of zero."""
    for layer in network.modules():
        if isinstance(layer, nn.Conv2d):
            layer.reset_parameters()


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
