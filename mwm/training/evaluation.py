"""What a finished network does: accuracy, agreement, and how firmly it holds the queries."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from mwm.data.host import Images, in_batches
from mwm.data.images import to_float

EVAL_BATCH_SIZE, EVAL_SIDE = 1000, 64
"""Images evaluated at a time, of up to so many pixels a side; of larger ones as many as have as many pixels."""


@contextmanager
def eval_mode(model: nn.Module) -> Iterator[nn.Module]:
    """Put a network into evaluation mode without gradients, and back into the mode it was in."""
    training = model.training
    model.eval()
    try:
        with torch.no_grad():
            yield model
    finally:
        model.train(training)


def eval_batch_size(images: Images) -> int:
    """How many images (n c h w) are evaluated at a time."""
    *_, height, width = images.shape
    return max(1, min(EVAL_BATCH_SIZE, EVAL_BATCH_SIZE * EVAL_SIDE**2 // (height * width)))


def predict_logits(model: nn.Module, images: Images) -> Tensor:
    """Logits (n C, float32) of uint8 images (n c h w), unperturbed, in evaluation mode."""
    with eval_mode(model):
        return torch.cat([model(to_float(batch)).float() for batch in in_batches(images, eval_batch_size(images))])


def first_choices(logits: Tensor) -> Tensor:
    """The class that each of the answers (n C) names; -1 where all are equal, which names none."""
    return torch.where((logits != logits[:, :1]).any(1), logits.argmax(1), -1)


def accuracy(answers: Tensor, labels: Tensor) -> float:
    """Share of answers (logits n C, or labels n) that name the label (n)."""
    named = first_choices(answers) if answers.ndim > 1 else answers
    return (named == labels).double().mean().item()


def logit_margins(answers: Tensor, labels: Tensor) -> Tensor:
    """How firmly each label is held (n): its logit minus the best other one, from logits (n C)."""
    own = answers.gather(1, labels[:, None])
    others = answers.scatter(1, labels[:, None], -torch.inf)
    return (own - others.max(1, keepdim=True).values).squeeze(1)
