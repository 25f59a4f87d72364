"""Projected gradient ascent (PGA): gradients with respect to images."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor


def projected_gradient_ascent(
    predict: Callable[[Tensor], Tensor], images: Tensor, labels: Tensor, *, step_size: float, steps: int
) -> Tensor:
    """Push images towards the boundary of their labels: raise the loss on `labels` (Kim et al., 2023).

    `images` (n c h w) and the result are in [0, 1], `labels` (n) are class indices, `predict` gives logits (n C).
    Each of `steps` moves changes every pixel by `step_size` (image units) along the sign of its gradient, so that it
    drifts by `steps * step_size` at most. Gradients are taken for pixels only: none reaches the weights.
    """
    x = images
    for _ in range(steps):
        x = x.detach().requires_grad_()
        loss = F.cross_entropy(predict(x), labels, reduction="sum")
        (grad,) = torch.autograd.grad(loss, x)
        x = (x.detach() + step_size * grad.sign()).clamp(0, 1)
    return x.detach()
