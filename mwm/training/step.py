"""From a batch to an update: step by step, as compiled code, or replayed from a recording."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mwm.config.randomness import derive_seed
from mwm.data.host import Images
from mwm.data.images import Augmentation, augment, to_float
from mwm.data.splits import LabeledImages
from mwm.training.parallel import WHOLE, BatchShare
from mwm.training.state import TrainState


@dataclass(frozen=True, eq=False, slots=True)
class Batch:
    """What a step learns from: images float n c h w in [0, 1], labels int64 n, and their rows in the training set.

    `smoothing` is the share of the uniform distribution in what they are taught. Where images are mixed of two batches,
    `mixed` are those, each with its share. `share` is the part that these images are of all that a step learns from.
    """

    images: Tensor
    labels: Tensor
    index: Tensor
    smoothing: float = 0.0
    mixed: tuple[tuple[Tensor, Batch], ...] = ()
    share: BatchShare = WHOLE

    def part(self, share: BatchShare) -> Batch:
        """What one of several workers learns of it."""
        if share.workers == 1:
            return self
        images, labels, index = share.of(self.images), share.of(self.labels), share.of(self.index)
        mixed = tuple((much, one.part(share)) for much, one in self.mixed)
        return replace(self, images=images, labels=labels, index=index, mixed=mixed, share=share)

    def cross_entropy(self, logits: Tensor, reduction: str = "mean") -> Tensor:
        """The cross-entropy of logits (n C), or with reduction "none" that of each image (n)."""
        return self.loss(
            lambda one: F.cross_entropy(logits, one.labels, reduction=reduction, label_smoothing=self.smoothing)
        )

    def loss(self, of: Callable[[Batch], Tensor]) -> Tensor:
        """A loss of the batch, or of the batches that it is mixed of by their shares."""
        if not self.mixed:
            return of(self)
        (much, first), (rest, second) = self.mixed
        return much * of(first) + rest * of(second)


Objective = Callable[[nn.Module, Batch, torch.Generator], Tensor]
"""(model, batch, generator of this epoch) -> scalar loss."""

WARMUP_STEPS = 3
"""Steps before one is recorded: libraries choose their kernels and take their memory in the first ones."""


class TrainStep:
    """Every step of a training on `part`: pick, augment, loss, gradients, update. None waits for the device.

    Images that are on the device are picked there. Of those on the host each step is given its own.

    Chances of a step are drawn from two generators, for the views of the images and for the objective. Every worker
    draws all of them, and learns its `share` of the batch: so each image is shown as it is without workers.
    """

    def __init__(
        self,
        training: TrainState,
        part: LabeledImages[Images],
        objective: Objective,
        *,
        augmentation: Augmentation,
        share: BatchShare = WHOLE,
    ) -> None:
        self.training, self.part, self.objective, self.augmentation = training, part, objective, augmentation
        recipe, device = training.recipe, part.images.device
        self.share = replace(share, pieces=max(share.workers, recipe.batchnorm_groups))
        self.views, self.draw = torch.Generator(device), torch.Generator(device)
        self.total = torch.zeros((), device=device)
        self.model = _CompiledModel(training.network) if recipe.compile else training.network
        self.mix, self._mixes = torch.ones((), device=device), iter(())
        self._replayed: _CudaGraphStep | None = None
        if recipe.cuda_graph:
            for group in training.optimizer.param_groups:
                group["lr"] = torch.tensor(recipe.lr, device=device)  # read anew by every replay
            self._replayed = _CudaGraphStep((self.views, self.draw))

    def start_epoch(self, seed: int, epoch: int) -> None:
        """Forget the losses so far, and draw from now on what belongs to `epoch`."""
        self.views.manual_seed(derive_seed(seed, "augment", epoch))
        self.draw.manual_seed(derive_seed(seed, "draw", epoch))
        self.total.zero_()
        self.training.network.train()
        if alpha := self.training.recipe.mixup:
            steps = len(self.part) // self.training.recipe.batch_size
            chances = np.random.default_rng(derive_seed(seed, "mixup", epoch))
            self._mixes = iter(chances.beta(alpha, alpha, steps).tolist())

    def step(self, pick: Tensor, rate: float, pixels: Tensor | None = None) -> None:
        """Learn from the images numbered `pick` (one batch) with learning rate `rate`; `total` grows by their loss.

        `pixels` are these images (uint8 n c h w, on the device) where `part` leaves its own on the host.
        """
        for group in self.training.optimizer.param_groups:
            if isinstance(group["lr"], Tensor):
                group["lr"].fill_(rate)
            else:
                group["lr"] = rate
        if self.training.recipe.mixup:
            self.mix.fill_(next(self._mixes))
        given = () if pixels is None else (pixels,)
        if self._replayed is None:
            self._step(pick, *given)
        else:
            self._replayed.run(self._step, pick, *given)
        if self.training.average is not None:
            self.training.average.update()

    def _step(self, pick: Tensor, pixels: Tensor | None = None) -> None:
        recipe, optimizer = self.training.recipe, self.training.optimizer
        batch = self._batch(pick, self._picked(pick) if pixels is None else pixels).part(self.share)
        with torch.autocast(batch.images.device.type, torch.bfloat16, enabled=recipe.bf16):
            loss = self.objective(self.model, batch, self.draw)
        optimizer.zero_grad(set_to_none=True)
        torch.autograd.backward(loss)
        if self.share.workers > 1:
            weights = self.training.network.parameters()
            self.share.average(weight.grad for weight in weights if weight.grad is not None)
        if recipe.clip_grad_norm is not None:
            nn.utils.clip_grad_norm_(self.training.network.parameters(), recipe.clip_grad_norm)
        optimizer.step()
        self.total += loss.detach()

    def _picked(self, pick: Tensor) -> Tensor:
        assert isinstance(self.part.images, Tensor), "a step is given its images where these are on the host"
        return self.part.images.index_select(0, pick)  # by [] it takes up to 35 times as long on a CPU

    def _batch(self, pick: Tensor, pixels: Tensor) -> Batch:
        """The images numbered `pick` as a step shows them, each mixed with another one where the recipe says so."""
        recipe = self.training.recipe
        images = to_float(augment(pixels, self.augmentation, self.views))
        batch = Batch(images, self.part.labels[pick], pick, recipe.label_smoothing)
        if not recipe.mixup:
            return batch
        other = torch.randperm(len(pick), generator=self.views, device=pick.device)
        partner = Batch(images[other], batch.labels[other], pick[other])
        both = (self.mix, batch), (1 - self.mix, partner)
        return replace(batch, images=torch.lerp(partner.images, images, self.mix), mixed=both)


class _CompiledModel(nn.Module):
    """A network compiled for each shape of its input. The weights are the network's own.

    An input that asks for its gradient is being perturbed, and nobody needs the gradients of the weights: such an input
    takes a second programme in which the weights are constants. In one for both, each ascent would pay for them.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.network = model
        torch.compiler.reset()  # programmes of trainings before would count against the number that may be kept
        self._training_program = torch.compile(model.forward, dynamic=False)
        self._ascent_program = torch.compile(lambda images: _with_constant_weights(model, images), dynamic=False)

    def forward(self, images: Tensor) -> Tensor:
        """Logits (n C) of images (n c h w in [0, 1])."""
        answers: Tensor = (self._ascent_program if images.requires_grad else self._training_program)(images)
        return answers


def _with_constant_weights(model: nn.Module, images: Tensor) -> Any:
    constants = {name: weight.detach() for name, weight in model.named_parameters()}
    return torch.func.functional_call(model, constants, (images,))


class _CudaGraphStep:
    """A step recorded as a CUDA graph: one launch in place of thousands. Its first calls run as they are.

    Only what the device does is replayed, on the same addresses: no Python, and no number that Python held. To record
    one, PyTorch waits for the device, once in a training.
    """

    def __init__(self, generators: tuple[torch.Generator, ...]) -> None:
        self._calls = 0
        self._given: tuple[Tensor, ...] = ()
        self._graph, self._stream = torch.cuda.CUDAGraph(), torch.cuda.Stream()  # type: ignore[no-untyped-call]
        for generator in generators:
            self._graph.register_generator_state(generator)

    def run(self, step: Callable[..., None], *given: Tensor) -> None:
        """Do `step`, always the same one, with what it is given of a batch, always of the same shapes."""
        if not self._calls:
            self._given = tuple(map(torch.empty_like, given))
        for kept, new in zip(self._given, given, strict=True):
            kept.copy_(new)
        if self._calls < WARMUP_STEPS:
            self._stream.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(self._stream):
                step(*self._given)
            torch.cuda.current_stream().wait_stream(self._stream)
        else:
            if self._calls == WARMUP_STEPS:
                # Of this thread alone: another one may be sending images, which is no part of the step.
                with torch.cuda.graph(self._graph, stream=self._stream, capture_error_mode="thread_local"):
                    step(*self._given)
            self._graph.replay()
        self._calls += 1
