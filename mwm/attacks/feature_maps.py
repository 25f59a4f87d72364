"""The feature maps of a network, stage by stage."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from mwm.data.host import Images, select
from mwm.models.build import Normalize
from mwm.training.evaluation import predict_logits


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
    with ExitStack() as listening:
        for layer in names:
            listening.enter_context(layer.register_forward_hook(listen))
        predict_logits(model, select(images, torch.arange(1)))
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

    with ExitStack() as listening:
        for stage in wanted:
            listening.enter_context(model.get_submodule(stage.place).register_forward_hook(listener(stage)))
        yield maps
