"""Batch normalisation: whose statistics are used, and which are kept."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from mwm.data.host import Images, picked
from mwm.data.images import Augmentation, augment, to_float
from mwm.training.parallel import BatchShare


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
        images: Images,
        augmentation: Augmentation,
        *,
        order: torch.Generator,
        views: torch.Generator,
        batch_size: int,
    ) -> None:
        """Take in all images (uint8 n c h w), augmented as in training, in batches of a random order."""
        every = torch.randperm(len(images), generator=order, device=images.device)
        for batch in picked(images, every, batch_size):
            self.add(to_float(augment(batch, augmentation, views)))


@contextmanager
def shared_statistics(model: nn.Module, share: BatchShare, groups: int) -> Iterator[None]:
    """Normalise in training by the statistics of a batch that several workers share, or by those of its `groups`."""
    layers = [layer for layer in model.modules() if isinstance(layer, _BatchNorm)]
    wanted = layers if share.workers > 1 or groups > 1 else []
    for layer in wanted:
        vars(layer)["forward"] = partial(_by_groups if groups > 1 else _over_workers, layer, share=share)
    try:
        yield
    finally:
        for layer in wanted:
            del vars(layer)["forward"]


def _by_groups(layer: _BatchNorm, x: Tensor, *, share: BatchShare) -> Tensor:
    """Each piece of a batch normalised by itself; what each would make of the running statistics is averaged.

    A piece without images leaves them as they are.
    """
    if not layer.training:
        return type(layer).forward(layer, x)
    kept, momentum = _counted(layer)
    made: list[list[Tensor]] = []
    normed: list[Tensor] = []
    for part in x.tensor_split(share.pieces // share.workers):
        made.append([value.clone() for value in kept])
        mean, var = made[-1] or (None, None)
        one = F.batch_norm(part, mean, var, layer.weight, layer.bias, True, momentum, layer.eps) if len(part) else part
        normed.append(one)
    for index, value in enumerate(kept):
        value.copy_(torch.stack([own[index] for own in made]).mean(0))
    share.average(kept)  # at once: what is not trained by batch statistics reads them in the same step
    return torch.cat(normed)


def _over_workers(layer: _BatchNorm, x: Tensor, *, share: BatchShare) -> Tensor:
    """A worker's part of a batch normalised by the statistics of all of it."""
    if not layer.training:
        return type(layer).forward(layer, x)
    kept, momentum = _counted(layer)
    like = {"dtype": layer.running_mean.dtype if layer.running_mean is not None else x.dtype, "device": x.device}
    weight = torch.ones(x.shape[1], **like) if layer.weight is None else layer.weight
    bias = torch.zeros(x.shape[1], **like) if layer.bias is None else layer.bias
    mean, var, count = _statistics(x.detach(), torch.zeros_like(weight), share)
    for value, new in zip(kept, (mean, var * (count / (count - 1))), strict=False):
        value.lerp_(new, momentum)
    normed: Tensor = _Normalised.apply(x, weight, bias, mean, var, count, (layer.eps, share))
    return normed


def _counted(layer: _BatchNorm) -> tuple[list[Tensor], float]:
    """The running statistics that a pass updates, if any, and by how much; the pass is counted."""
    if not layer.track_running_stats or layer.running_mean is None or layer.running_var is None:
        return [], 0.0
    assert layer.num_batches_tracked is not None, "PyTorch counts where it keeps statistics"
    layer.num_batches_tracked.add_(1)
    momentum = 1 / float(layer.num_batches_tracked) if layer.momentum is None else layer.momentum
    return [layer.running_mean, layer.running_var], momentum


def _statistics(x: Tensor, zeros: Tensor, share: BatchShare) -> tuple[Tensor, Tensor, Tensor]:
    """Mean and variance (c) of each channel of a batch (n c ...), and how many numbers it has (1), over all workers.

    `zeros` (c) are of the kind of number that they are to be.
    """
    channels, mean, var = x.shape[1], zeros, zeros
    if len(x):  # a small part of the time of var_mean on a CPU; running statistics say in which numbers
        mean, var = torch.batch_norm_update_stats(x, zeros, zeros.clone(), 0.0)
    rows = share.gather(torch.cat([mean, var, mean.new_full((1,), x.numel() // channels)]))
    means, variances, counts = torch.split(rows, [channels, channels, 1], 1)
    total = counts.sum(0)
    mean = (counts * means).sum(0) / total
    return mean, (counts * (variances + (means - mean) ** 2)).sum(0) / total, total


class _Normalised(torch.autograd.Function):
    """(x - mean) / sqrt(var + eps) * weight + bias, where mean and var depend on the images of all workers."""

    @staticmethod
    def forward(ctx: Any, *given: Any) -> Tensor:
        x, weight, bias, mean, var, count, how = given
        eps, ctx.share = how
        ctx.eps = eps
        ctx.save_for_backward(x, weight, mean, var, count)
        return F.batch_norm(x, mean, var, weight, bias, False, 0.0, eps) if len(x) else x.clone()

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        (grad,) = grads
        x, weight, mean, var, count = ctx.saved_tensors
        by_weight, by_bias = torch.zeros_like(weight), torch.zeros_like(weight)
        if len(x):  # as if the statistics were constants, which gives the two sums that are needed of all workers
            _, by_weight, by_bias = torch.ops.aten.native_batch_norm_backward(
                grad, x, weight, mean, var, None, None, False, ctx.eps, [False, True, True]
            )
        by_weights, by_biases = ctx.share.gather(torch.cat([by_weight, by_bias])).sum(0).chunk(2)
        if not len(x):
            return grad, by_weight, by_bias, None, None, None, None
        scale = (var + ctx.eps).rsqrt()
        slope = -weight * scale * scale * by_weights / count
        shift = -weight * scale * by_biases / count - slope * mean
        shape = (1, -1, *[1] * (x.ndim - 2))
        direct, slope, shift = (one.view(shape).to(x.dtype) for one in (weight * scale, slope, shift))
        to_x = torch.addcmul(shift, x, slope).addcmul_(grad, direct)
        return to_x, by_weight, by_bias, None, None, None, None
