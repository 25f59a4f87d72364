"""The victim as a black box: images in, answers out, every call counted."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mwm.data.host import Images, in_batches
from mwm.data.images import to_float
from mwm.training.evaluation import eval_batch_size

LabelKind = Literal["soft", "hard"]


def log_probabilities(logits: Tensor, temperature: float = 1.0) -> Tensor:
    """Logarithms of the chances of the classes (n C), from logits (n C): in float32 at least."""
    precise = logits.to(torch.promote_types(logits.dtype, torch.float32))
    return F.log_softmax(precise / temperature, 1)


class Oracle:
    """A deployed model: whoever holds it can ask, and can neither look inside nor change it.

    It counts images, not batches: an image asked for twice costs two calls. `calls` are those that were spent before.
    Beyond the `allowance` it answers nobody; None allows any number.
    """

    def __init__(self, model: nn.Module, answers: LabelKind, budget: int | None = None, *, calls: int = 0) -> None:
        self._model = model.eval().requires_grad_(False)
        self._answers, self._allowance = answers, budget
        # On the device: a step that is replayed from a recording asks and counts there, and runs no Python.
        self._spent = torch.tensor(calls, dtype=torch.int64, device=next(model.parameters()).device)

    @property
    def calls(self) -> int:
        """How many images were asked for; waits for the device."""
        return int(self._spent.item())

    def __call__(self, images: Tensor) -> Tensor:
        """Answers to images (n c h w in [0, 1]): log-probabilities (n C) if soft, class indices (n) if hard."""
        self._count(len(images))
        return self._respond(images)

    def ask_all(self, images: Images) -> Tensor:
        """Answers to any number of images (uint8 n c h w), each asked once, a portion at a time."""
        self._count(len(images))
        return self._respond_in_portions(images)

    def memoized(self, images: Images) -> Callable[[Tensor], Tensor]:
        """The oracle of whoever asks for the same images again and again: it works out each answer once, at once.

        `images` are uint8 (n c h w). The result takes numbers of images (k) and gives their answers, at as many calls.
        """
        answers = self._respond_in_portions(images)

        def ask(rows: Tensor) -> Tensor:
            self._count(len(rows))
            return answers[rows]

        return ask

    def _count(self, images: int) -> None:
        self._spent += images
        if self._allowance is not None:  # only then is the count waited for
            assert self.calls <= self._allowance, f"{self.calls} calls of {self._allowance}"

    def _respond_in_portions(self, images: Images) -> Tensor:
        return torch.cat([self._respond(to_float(batch)) for batch in in_batches(images, eval_batch_size(images))])

    @torch.no_grad()
    def _respond(self, images: Tensor) -> Tensor:
        with torch.autocast(images.device.type, enabled=False):  # the victim answers alike, whoever asks
            logits = self._model(images)
        return log_probabilities(logits) if self._answers == "soft" else logits.argmax(1)
