"""Any classification network of torchvision, for images of any size and number of channels."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from math import sqrt
from typing import Any, Literal

from torch import nn

from mwm.config.errors import did_you_mean

Stem = Literal["published", "small"]


@cache
def classification_networks() -> tuple[str, ...]:
    """The names of torchvision's classification networks."""
    import torchvision

    return tuple(torchvision.models.list_models(module=torchvision.models))


def check_name(path: str, name: str) -> None:
    """Refuse what is no classification network of torchvision; `path`: the place of the name."""
    if name not in (known := classification_networks()):
        hint = did_you_mean(name, known)
        raise ValueError(f"{path}: {name!r} is not allowed: must be a classification network of torchvision{hint}")


def build_torchvision(name: str, *, stem: Stem, shape: tuple[int, int, int], classes: int) -> nn.Module:
    """A network by its name, with fresh weights; `shape` (c, h, w) is that of the images.

    Raises ValueError for a `small` stem where there is nothing to change, or a patch has no quarter.
    """
    import torchvision

    channels = shape[0]
    options = _options(name, stem, shape)
    network: nn.Module = torchvision.models.get_model(name, weights=None, num_classes=classes, **options)
    if isinstance(network, torchvision.models.VisionTransformer):
        network.image_size = shape[1]
    path, first = next((path, layer) for path, layer in network.named_modules() if isinstance(layer, nn.Conv2d))
    if stem == "small":
        _replace(network, path, _smaller(name, first, channels))
        for pool in _pools_before_the_second_convolution(network):
            _replace(network, pool, nn.Identity())
        if isinstance(network, torchvision.models.VisionTransformer):
            network.patch_size //= 4
    elif channels != first.in_channels:
        _replace(network, path, _like(first, channels))
    return network


def _options(name: str, stem: Stem, shape: tuple[int, int, int]) -> dict[str, Any]:
    """What a network must be told besides its number of classes."""
    _, height, width = shape
    if name in ("googlenet", "inception_v3"):
        return {"aux_logits": False, "init_weights": True}
    if name.startswith("maxvit"):
        return {"input_size": (2 * height, 2 * width) if stem == "small" else (height, width)}
    if name.startswith("vit"):  # a small stem has as many patches, of a quarter of the side
        return {"image_size": height * (4 if stem == "small" else 1)}
    return {}


def _smaller(name: str, conv: nn.Conv2d, channels: int) -> nn.Conv2d:
    side, stride = conv.kernel_size[0], conv.stride[0]
    if stride == 1:
        raise ValueError(f"stem: small is not allowed for {name}: its first layer keeps the side of images already")
    if side != stride:
        return _like(conv, channels, kernel_size=3, stride=1, padding=1)
    if side % 4:
        raise ValueError(f"stem: small is not allowed for {name}: its patches of {side} pixels have no quarter")
    return _like(conv, channels, kernel_size=side // 4, stride=stride // 4)


def _like(conv: nn.Conv2d, channels: int, **changes: Any) -> nn.Conv2d:
    """A convolution with fresh weights: patches as in torchvision's transformers, else as in its residual networks."""
    said = {name: getattr(conv, name) for name in ("kernel_size", "stride", "padding")} | changes
    fresh = nn.Conv2d(channels, conv.out_channels, **said, bias=conv.bias is not None)
    if conv.kernel_size == conv.stride:
        nn.init.trunc_normal_(fresh.weight, std=sqrt(1 / (channels * fresh.kernel_size[0] * fresh.kernel_size[1])))
    else:
        nn.init.kaiming_normal_(fresh.weight, mode="fan_out", nonlinearity="relu")
    if fresh.bias is not None:
        nn.init.zeros_(fresh.bias)
    return fresh


def _pools_before_the_second_convolution(network: nn.Module) -> list[str]:
    def up_to_second() -> Iterator[tuple[str, nn.Module]]:
        seen = 0
        for path, layer in network.named_modules():
            seen += isinstance(layer, nn.Conv2d)
            if seen == 2:
                return
            yield path, layer

    return [path for path, layer in up_to_second() if isinstance(layer, nn.MaxPool2d)]


def _replace(network: nn.Module, path: str, layer: nn.Module) -> None:
    above, _, name = path.rpartition(".")
    setattr(network.get_submodule(above), name, layer)
