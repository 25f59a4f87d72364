"""What queries may do to batch normalisation in a step of training."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Literal

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

BatchNorm = Literal["reference", "clean", "frozen", "joint"]
"""What queries do to batch normalisation in a step of training.

mode        ascent                                        loss of the queries
reference   own batch statistics, running ones updated    the same (the published code)
clean       own batch statistics, running ones untouched  the same
frozen      running statistics (evaluation mode)          own batch statistics, running ones untouched
joint       in one batch with the clean images, untouched in one batch with the clean images, updated once
"""


@contextmanager
def running_untouched(model: nn.Module) -> Iterator[None]:
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
def running_used(model: nn.Module) -> Iterator[None]:
    """Normalise by running statistics, as in evaluation, and return to the mode before."""
    training = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(training)


def _published(model: nn.Module) -> AbstractContextManager[None]:
    del model
    return nullcontext()


ASCENT = {"reference": _published, "clean": running_untouched, "frozen": running_used}
LOSS = {"reference": _published, "clean": running_untouched, "frozen": running_untouched}
