"""What queries may do to batch normalisation in a step of training."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm


@contextmanager
def frozen_running_stats(model: nn.Module) -> Iterator[None]:
    """Normalise by batch statistics, as in training, but leave the running statistics alone."""
    norms = [layer for layer in model.modules() if isinstance(layer, _BatchNorm)]
    for layer in norms:
        layer.track_running_stats = False
    try:
        yield
    finally:
        for layer in norms:
            layer.track_running_stats = True


@contextmanager
def eval_statistics(model: nn.Module) -> Iterator[None]:
    """Normalise by running statistics, as in evaluation, and return to the mode before."""
    training = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(training)
