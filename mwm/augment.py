"""How an image is shown a little differently each time: what is drawn, and what is then shown."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def augment(images: Tensor, *, flip: bool, pad: int, generator: torch.Generator) -> Tensor:
    """Show each image (uint8 n c h w) a little differently: mirrored with probability ½ and shifted by up to `pad`.

    `generator` is on the images' device.
    """
    if not flip and not pad:
        return images
    n, device = len(images), images.device
    top, left = torch.randint(2 * pad + 1, (2, n), generator=generator, device=device)
    mirrored = torch.randint(2, (n,), generator=generator, device=device).bool() if flip else None
    return show(images, top=top, left=left, mirrored=mirrored, pad=pad)


def show(images: Tensor, *, top: Tensor, left: Tensor, mirrored: Tensor | None, pad: int) -> Tensor:
    """Crop each image (n c h w), with `pad` black pixels on every side, from `top` and `left` (n); then mirror some."""
    (n, channels, height, width), device = images.shape, images.device
    rows, columns = torch.arange(height, device=device) + top[:, None], torch.arange(width, device=device).expand(n, -1)
    if mirrored is not None:
        columns = torch.where(mirrored[:, None], columns.flip(1), columns)
    pixels = rows[:, :, None] * (width + 2 * pad) + (columns + left[:, None])[:, None, :]
    # One gather with one index for all channels takes a sixth of the time of indexing by rows and columns.
    planes = F.pad(images, (pad, pad, pad, pad)).flatten(2)
    return planes.gather(2, pixels.view(n, 1, -1).expand(-1, channels, -1)).view(n, channels, height, width)
