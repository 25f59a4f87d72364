"""From a batch to an update: step by step, as compiled code, or replayed from a recording."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from mwm.config.randomness import derive_seed
from mwm.data.images import Augmentation, augment, to_float
from mwm.data.splits import LabeledImages
from mwm.training.state import TrainState


@dataclass(frozen=True, eq=False, slots=True)
class Batch:
    """What a step learns from: images float n c h w in [0, 1], labels int64 n, and their rows in the training set."""

    images: Tensor
    labels: Tensor
    index: Tensor


Objective = Callable[[nn.Module, Batch, torch.Generator], Tensor]
"""(model, batch, generator of this epoch) -> scalar loss."""

WARMUP_STEPS = 3
"""Steps before one is recorded: libraries choose their kernels and take their memory in the first ones."""


class TrainStep:
    """Every step of a training on `part`: pick, augment, loss, gradients, update. None waits for the device.

    Chances of a step are drawn from two generators, for the views of the images and for the objective.
    """

    def __init__(
        self, training: TrainState, part: LabeledImages, objective: Objective, *, augmentation: Augmentation
    ) -> None:
        self.training, self.part, self.objective, self.augmentation = training, part, objective, augmentation
        recipe, device = training.recipe, part.images.device
        self.views, self.draw = torch.Generator(device), torch.Generator(device)
        self.total = torch.zeros((), device=device)
        self.model = _CompiledModel(training.model) if recipe.compile else training.model
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
        self.training.model.train()

    def step(self, pick: Tensor, rate: float) -> None:
        """Learn from the images numbered `pick` (one batch) with learning rate `rate`; `total` grows by their loss."""
        for group in self.training.optimizer.param_groups:
            if isinstance(group["lr"], Tensor):
                group["lr"].fill_(rate)
            else:
                group["lr"] = rate
        if self._replayed is None:
            self._step(pick)
        else:
            self._replayed.run(self._step, pick)

    def _step(self, pick: Tensor) -> None:
        part, optimizer, bf16 = self.part, self.training.optimizer, self.training.recipe.bf16
        images = to_float(augment(part.images[pick], self.augmentation, self.views))
        with torch.autocast(images.device.type, torch.bfloat16, enabled=bf16):
            loss = self.objective(self.model, Batch(images, part.labels[pick], pick), self.draw)
        optimizer.zero_grad(set_to_none=True)
        torch.autograd.backward(loss)
        optimizer.step()
        self.total += loss.detach()


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
        self._calls, self._pick = 0, torch.empty(0)
        self._graph, self._stream = torch.cuda.CUDAGraph(), torch.cuda.Stream()  # type: ignore[no-untyped-call]
        for generator in generators:
            self._graph.register_generator_state(generator)

    def run(self, step: Callable[[Tensor], None], pick: Tensor) -> None:
        """Do `step`, always the same one, with the images numbered `pick`."""
        if not self._calls:
            self._pick = torch.empty_like(pick)
        self._pick.copy_(pick)
        if self._calls < WARMUP_STEPS:
            self._stream.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(self._stream):
                step(self._pick)
            torch.cuda.current_stream().wait_stream(self._stream)
        else:
            if self._calls == WARMUP_STEPS:
                with torch.cuda.graph(self._graph, stream=self._stream):
                    step(self._pick)
            self._graph.replay()
        self._calls += 1
