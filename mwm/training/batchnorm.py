"""Batch normalisation: whose statistics are used, and which are kept."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from mwm.data.images import Augmentation, augment, to_float


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


def has_statistics(model: nn.Module) -> bool:
    """Whether a network normalises batches and keeps running statistics."""
    return any(isinstance(layer, _BatchNorm) and layer.running_mean is not None for layer in model.modules())


class CumulativeStatistics:
    """Running statistics that start afresh and become the plain average over all batches that are added."""

    def __init__(self, model: nn.Module) -> None:
        self._model = model
        self._layers = [layer for layer in model.modules() if isinstance(layer, _BatchNorm)]
        for layer in self._layers:
            layer.reset_running_stats()

    @torch.no_grad()
    def add(self, images: Tensor) -> None:
        """Take in the statistics of a batch (float n c h w in [0, 1]); the network is in evaluation mode afterwards."""
        before = [layer.momentum for layer in self._layers]
        for layer in self._layers:
            layer.momentum = None
        self._model.train()
        self._model(images)
        self._model.eval()
        for layer, momentum in zip(self._layers, before, strict=True):
            layer.momentum = momentum

    def add_pass(
        self,
        images: Tensor,
        augmentation: Augmentation,
        *,
        order: torch.Generator,
        views: torch.Generator,
        batch_size: int,
    ) -> None:
        """Take in all images (uint8 n c h w), augmented as in training, in batches of a random order."""
        every = torch.randperm(len(images), generator=order, device=images.device)
        for pick in torch.split(every, batch_size):
            self.add(to_float(augment(images[pick], augmentation, views)))
