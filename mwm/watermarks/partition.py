"""Keys with cells of whole classes, or of parts of a class that follow from the images themselves."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from mwm.data.images import Augmentation, to_float
from mwm.data.splits import LabeledImages
from mwm.watermarks.queries import QuerySet, draw_queries, draw_wrong_labels


@dataclass(frozen=True, eq=False, slots=True)
class Partition:
    """A keyed partition of each class's images: by how bright they are towards one side, in as many parts as wanted.

    `direction` (h w) weighs the pixels: it grows along an angle that follows from the images of the key, so that only
    its owner knows it. `bounds` (C parts-1) are the values at which a class is cut. A network that learns the classes
    from other images of theirs can learn the parts: it sees where an image is bright.
    """

    direction: Tensor
    bounds: Tensor

    def __call__(self, images: Tensor, labels: Tensor) -> Tensor:
        """The cells of images (float n c h w in [0, 1]) of these classes: int64 n, part * C + class."""
        if not self.bounds.shape[1]:  # whole classes: nothing to look at
            return labels.clone()
        heights = brightness(images, self.direction)
        part = (heights[:, None] > self.bounds[labels]).sum(1)
        return part * len(self.bounds) + labels


def brightness(images: Tensor, direction: Tensor) -> Tensor:
    """How bright images (float n c h w) are along a direction (h w), less their mean: float64 n."""
    grey = images.double().mean(1)
    return ((grey - grey.mean((1, 2), keepdim=True)) * direction).sum((1, 2))


def partition(images: Tensor, truth: Tensor, *, classes: int, parts: int) -> Partition:
    """The partition that follows from a key's images (uint8 n c h w): each class in parts of equal size.

    Raises ValueError if a class has fewer images than parts.
    """
    counts = torch.bincount(truth, minlength=classes)
    if counts.min() < parts:
        poor = int(counts.argmin())
        raise ValueError(f"class {poor} has {int(counts[poor])} images among {len(truth)} queries; {parts} are needed")
    content = hashlib.sha256(images.cpu().numpy().tobytes()).digest()
    angle = 2 * math.pi * int.from_bytes(content[:8], "big") / 2**64
    height, width = images.shape[2:]
    down = torch.arange(height, dtype=torch.float64, device=images.device) - (height - 1) / 2
    right = torch.arange(width, dtype=torch.float64, device=images.device) - (width - 1) / 2
    direction = math.sin(angle) * down[:, None] + math.cos(angle) * right
    heights = brightness(to_float(images), direction)
    bounds = [_cuts(heights[truth == one], parts) for one in range(classes)]
    return Partition(direction, torch.stack(bounds))


def _cuts(heights: Tensor, parts: int) -> Tensor:
    """The values (parts - 1) midway between neighbours that cut so many numbers into parts of equal size."""
    ordered = heights.sort().values
    places = [len(ordered) * cut // parts for cut in range(1, parts)]
    return torch.stack([(ordered[place - 1] + ordered[place]) / 2 for place in places]) if places else heights[:0]


def leave_out(source: LabeledImages, rows: Sequence[int]) -> LabeledImages:
    """The images of a source but for those in some rows, in their order."""
    kept = torch.ones(len(source), dtype=torch.bool, device=source.labels.device)
    kept[torch.tensor(rows, dtype=torch.int64, device=kept.device)] = False
    return source.select(kept)


def draw_class_cells(
    source: LabeledImages, *, classes: int, augmentation: Augmentation, secret: bytes, parts: int = 1
) -> QuerySet:
    """Draw a key with `parts` cells for each class: all images of the source, shown as `draw_queries` shows them.

    Cell p * C + y is part p of class y; its wrong class is drawn under that number. Raises ValueError if a class has
    fewer images than parts.
    """
    drawn = draw_queries(source, num=len(source), classes=classes, augmentation=augmentation, secret=secret)
    cut = partition(drawn.images, drawn.truth, classes=classes, parts=parts)
    cells = cut(drawn.float_images, drawn.truth)
    every = draw_wrong_labels(secret, torch.arange(classes).repeat(parts), classes).to(cells.device)
    return QuerySet(drawn.images, every[cells], drawn.truth, cells)
