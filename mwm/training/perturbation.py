"""Projected gradient ascent (PGA): gradients with respect to images."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

Losses = Callable[[Tensor], Tensor]
"""The loss of each image (n) of a batch (n c h w in [0, 1])."""


def projected_gradient_ascent(
    predict: Callable[[Tensor], Tensor],
    images: Tensor,
    labels: Tensor,
    *,
    step_size: float,
    steps: int,
    radius: Tensor | None = None,
) -> Tensor:
    """Push images towards the boundary of their labels: raise the loss on `labels` (Kim et al., 2023).

    `images` (n c h w) and the result are in [0, 1], `labels` (n) are class indices, `predict` gives logits (n C).
    Each of `steps` moves changes every pixel by `step_size` (image units) along the sign of its gradient, so that it
    drifts by `steps * step_size` at most, and with a `radius` (of a shape that broadcasts to that of the images) by
    that at most. Gradients are taken for pixels only: none reaches the weights.
    """

    def losses(x: Tensor) -> Tensor:
        return F.cross_entropy(predict(x), labels, reduction="none")

    return ascend(losses, images, step_size=step_size, steps=steps, radius=radius)


def ascend(losses: Losses, images: Tensor, *, step_size: float, steps: int, radius: Tensor | None = None) -> Tensor:
    """Projected gradient ascent on any loss of each image."""
    x = images
    low, high = _bounds(images, radius)
    for _ in range(steps):
        x = x.detach().requires_grad_()
        (grad,) = torch.autograd.grad(losses(x).sum(), x)
        x = (x.detach() + step_size * grad.sign()).clamp(low, high)
    return x.detach()


def _bounds(images: Tensor, radius: Tensor | None) -> Any:
    """The least and the greatest value of each pixel: an image, and no further than a radius from where it was."""
    return (0, 1) if radius is None else ((images - radius).clamp(min=0), (images + radius).clamp(max=1))
