"""Images as networks see them: shown a little differently each time, converted, as floats."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

import torch
from torch import Tensor
from torch.nn import functional as F

PIECE = 4096 * 3 * 32 * 32
"""How many pixels of all channels are converted as floats at a time."""


@dataclass(frozen=True)
class Augmentation:
    """How images may be shown in training: mirrored with probability ½ if `flip`, shifted by up to `pad` pixels."""

    flip: bool = False
    pad: int = 0

    def __bool__(self) -> bool:
        """Whether an image is ever shown differently."""
        return self.flip or self.pad > 0


@dataclass(frozen=True, eq=False, slots=True)
class Views:
    """How each of n images is shown: with `pad` black pixels on every side, cropped from `top` and `left` (int64 n).

    Those that are `mirrored` (bool n) are then mirrored; None is none.
    """

    top: Tensor
    left: Tensor
    mirrored: Tensor | None
    pad: int

    def __call__(self, images: Tensor) -> Tensor:
        """The images (uint8 n c h w), each in its view."""
        return crop_and_flip(images, top=self.top, left=self.left, mirrored=self.mirrored, pad=self.pad)

    def select(self, rows: Tensor) -> Views:
        """Those of some images, by their numbers (int64 k), or by marks (bool n)."""
        rows = rows.to(self.top.device)
        mirrored = None if self.mirrored is None else self.mirrored[rows]
        return Views(self.top[rows], self.left[rows], mirrored, self.pad)

    @staticmethod
    def joined(lots: Sequence[Views]) -> Views:
        """Those of several lots of images, one after another, that were drawn for one augmentation."""
        mirrored = [one.mirrored for one in lots if one.mirrored is not None]
        top, left = (torch.cat([getattr(one, name) for one in lots]) for name in ("top", "left"))
        return Views(top, left, torch.cat(mirrored) if mirrored else None, lots[0].pad)


def draw_views(count: int, augmentation: Augmentation, generator: torch.Generator) -> Views:
    """Views of so many images, on the generator's device."""
    flip, pad, device = augmentation.flip, augmentation.pad, generator.device
    top, left = torch.randint(2 * pad + 1, (2, count), generator=generator, device=device)
    mirrored = torch.randint(2, (count,), generator=generator, device=device).bool() if flip else None
    return Views(top, left, mirrored, pad)


def augment(images: Tensor, augmentation: Augmentation, generator: torch.Generator) -> Tensor:
    """Show each image (uint8 n c h w) a little differently; `generator` is on the images' device."""
    return draw_views(len(images), augmentation, generator)(images) if augmentation else images


def crop_and_flip(images: Tensor, *, top: Tensor, left: Tensor, mirrored: Tensor | None, pad: int) -> Tensor:
    """Crop each image (n c h w), with `pad` black pixels on every side, from `top` and `left` (n); then mirror some."""
    (n, channels, height, width), device = images.shape, images.device
    rows, columns = torch.arange(height, device=device) + top[:, None], torch.arange(width, device=device).expand(n, -1)
    if mirrored is not None:
        columns = torch.where(mirrored[:, None], columns.flip(1), columns)
    pixels = rows[:, :, None] * (width + 2 * pad) + (columns + left[:, None])[:, None, :]
    # One gather with one index for all channels takes a sixth of the time of indexing by rows and columns.
    planes = F.pad(images, (pad, pad, pad, pad)).flatten(2)
    return planes.gather(2, pixels.view(n, 1, -1).expand(-1, channels, -1)).view(n, channels, height, width)


def convert_images(images: Tensor, shape: tuple[int, int, int]) -> Tensor:
    """Foreign images (uint8 n c h w) in `shape` (c, h, w): antialiased, grey repeated, colour to luma (ITU-R 601)."""
    assert {images.shape[1], shape[0]} <= {1, 3}, f"{images.shape[1]} or {shape[0]} channels"
    fitted, luma = images.new_empty(len(images), *shape), torch.tensor([[[0.299]], [[0.587]], [[0.114]]])
    # In pieces: as floats at once, a large set takes many times its memory.
    piece = max(1, min(4096, PIECE // max(prod(images.shape[1:]), prod(shape))))
    for start in range(0, len(images), piece):
        x = images[start : start + piece].float()
        if shape[0] < x.shape[1]:
            x = (x * luma.to(x.device)).sum(dim=1, keepdim=True)
        x = F.interpolate(x, size=shape[1:], mode="bilinear", antialias=True, align_corners=False)
        fitted[start : start + piece] = x.round().clamp(0, 255)
    return fitted


def to_float(images: Tensor) -> Tensor:
    """Images as the networks see them: uint8 to float32 in [0, 1], same shape."""
    return images.float() / 255


def to_uint8(images: Tensor) -> Tensor:
    """Images in [0, 1] as pictures have them: rounded to 8 bits, same shape."""
    return (images * 255).round().to(torch.uint8)
