"""The victim as a black box: images in, answers out, every call counted."""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Answers = Literal["soft", "hard"]


def log_probabilities(logits: Tensor, temperature: float = 1.0) -> Tensor:
    """Logarithms of the chances of the classes (n C), from logits (n C): in float32 at least."""
    precise = logits.to(torch.promote_types(logits.dtype, torch.float32))
    return F.log_softmax(precise / temperature, 1)


class Oracle:
    """A deployed model: whoever holds it can ask, and can neither look inside nor change it.

    `calls` counts images, not batches: an image asked for twice costs two calls. Beyond the `allowance` it answers
    nobody; None allows any number.
    """

    def __init__(self, model: nn.Module, answers: Answers, allowance: int | None = None) -> None:
        self._model = model.eval().requires_grad_(False)
        self._answers, self._allowance = answers, allowance
        self.calls = 0

    @torch.no_grad()
    def __call__(self, images: Tensor) -> Tensor:
        """Answers to images (n c h w in [0, 1]): log-probabilities (n C) if soft, class indices (n) if hard."""
        self.calls += len(images)
        assert self._allowance is None or self.calls <= self._allowance, f"{self.calls} calls of {self._allowance}"
        with torch.autocast(images.device.type, enabled=False):  # the victim answers alike, whoever asks
            logits = self._model(images)
        return log_probabilities(logits) if self._answers == "soft" else logits.argmax(1)
