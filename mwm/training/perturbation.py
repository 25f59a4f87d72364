"""Projected gradient ascent (PGA): gradients with respect to images."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

Losses = Callable[[Tensor], Tensor]
"""The loss of each image (n) of a batch (n c h w in [0, 1])."""


def projected_gradient_ascent(
    predict: Callable[[Tensor], Tensor], images: Tensor, labels: Tensor, *, step_size: float, steps: int
) -> Tensor:
    """Push images towards the boundary of their labels: raise the loss on `labels` (Kim et al., 2023).

    `images` (n c h w) and the result are in [0, 1], `labels` (n) are class indices, `predict` gives logits (n C).
    Each of `steps` moves changes every pixel by `step_size` (image units) along the sign of its gradient, so that it
    drifts by `steps * step_size` at most. Gradients are taken for pixels only: none reaches the weights.
    """

    def losses(x: Tensor) -> Tensor:
        return F.cross_entropy(predict(x), labels, reduction="none")

    return ascend(losses, images, step_size=step_size, steps=steps)


def ascend(losses: Losses, images: Tensor, *, step_size: float, steps: int) -> Tensor:
    """Projected gradient ascent on any loss of each image."""
    x = images
    for _ in range(steps):
        x = x.detach().requires_grad_()
        (grad,) = torch.autograd.grad(losses(x).sum(), x)
        x = (x.detach() + step_size * grad.sign()).clamp(0, 1)
    return x.detach()
