"""The one training loop, for victims and students alike; what differs between them is an objective."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import torch
from torch import Tensor, nn

from mwm.augment import augment
from mwm.data import Part, scaled
from mwm.evaluate import accuracy, logits
from mwm.seeds import generator
from mwm.spec import OF_A_KIND, Count, Flag, NonNegative, Positive, Share, spec

Objective = Callable[[nn.Module, Tensor, Tensor, torch.Generator], Tensor]
"""(model, images n c h w in [0, 1], labels n, generator of this epoch) -> scalar loss."""


class DivergedError(ArithmeticError):
    """The loss of a training is no longer a finite number."""


@spec
class Step:
    """Learning rate times `factor` at each milestone (epochs)."""

    kind: Literal["step"] = "step"
    milestones: tuple[Count, ...] = (100, 150)
    factor: Positive = 0.1

    def rate(self, epoch: float, epochs: int) -> float:
        """Share of the full learning rate after `epoch` (fractional) of `epochs`."""
        del epochs
        return float(self.factor ** sum(epoch >= milestone for milestone in self.milestones))


@spec
class Published:
    """The published schedule for any length: times 0.1 at half and at three quarters (epochs 100 and 150 of 200)."""

    kind: Literal["published"] = "published"

    def rate(self, epoch: float, epochs: int) -> float:
        """Share of the full learning rate after `epoch` (fractional) of `epochs`."""
        return 0.1 ** ((2 * epoch >= epochs) + (4 * epoch >= 3 * epochs))


@spec
class Cosine:
    """Half a cosine down to zero (Loshchilov and Hutter, 2017), after a linear rise over the share `warmup`."""

    kind: Literal["cosine"] = "cosine"
    warmup: Share = 0.0

    def rate(self, epoch: float, epochs: int) -> float:
        """Share of the full learning rate after `epoch` (fractional) of `epochs`."""
        done = epoch / epochs
        if done < self.warmup:
            return done / self.warmup
        return 0.5 * (1 + math.cos(math.pi * (done - self.warmup) / max(1 - self.warmup, 1e-9)))


Schedule = Annotated[Step | Published | Cosine, *OF_A_KIND]


@spec
class Recipe:
    """How a network is trained; the defaults are the published recipe (Kim et al., 2023)."""

    epochs: Count = 200
    batch_size: Count = 128
    lr: Positive = 0.1
    momentum: Share = 0.0
    nesterov: Flag = False
    weight_decay: NonNegative = 1e-4
    schedule: Schedule = Published()
    bf16: Flag = False
    channels_last: Flag = False
    keep: Literal["last", "best_validation"] = "last"

    def __post_init__(self) -> None:
        if self.nesterov and self.momentum == 0:
            raise ValueError("nesterov: true needs a momentum above 0")


class Training:
    """A network on its way: its state is all from which the way goes on exactly, bit for bit on a CPU.

    Random numbers need no saving: every generator is derived anew from (seed, use, epoch).
    """

    def __init__(self, model: nn.Module, recipe: Recipe) -> None:
        layout = torch.channels_last if recipe.channels_last else torch.contiguous_format
        self.model = model.to(memory_format=layout)
        self.recipe = recipe
        self.optimiser = torch.optim.SGD(
            model.parameters(),
            lr=recipe.lr,
            momentum=recipe.momentum,
            nesterov=recipe.nesterov,
            weight_decay=recipe.weight_decay,
            fused=True,
        )
        self.epoch = 0
        self.best = (-1.0, 0)
        self.best_weights: dict[str, Tensor] | None = None

    def state(self) -> dict[str, Any]:
        """Everything a checkpoint holds: tensors and numbers only."""
        return {
            "model": self.model.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "epoch": self.epoch,
            "best": self.best,
            "best_weights": self.best_weights,
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from a state that `state` gave."""
        self.model.load_state_dict(state["model"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.epoch, self.best_weights = state["epoch"], state["best_weights"]
        self.best = (state["best"][0], state["best"][1])

    def judge(self, score: float) -> None:
        """Remember the weights if they are to be chosen by validation accuracy and theirs is the best so far."""
        if self.recipe.keep == "best_validation" and score > self.best[0]:
            self.best = (score, self.epoch)
            self.best_weights = {name: value.clone() for name, value in self.model.state_dict().items()}

    def settle(self) -> None:
        """At the end, go back to the best weights if those are to be kept."""
        if self.best_weights is not None:
            self.model.load_state_dict(self.best_weights)

    @property
    def chosen_epoch(self) -> int:
        """The epoch whose weights are kept."""
        return self.epoch if self.recipe.keep == "last" else self.best[1]


@dataclass(frozen=True)
class Epoch:
    """One epoch done: mean loss, learning rate at its end, validation accuracy, seconds; and the training so far."""

    training: Training
    epoch: int
    loss: float
    lr: float
    val_acc: float
    seconds: float


def fit(
    training: Training, part: Part, objective: Objective, *, flip: bool, pad: int, seed: int, validation: Part
) -> Iterator[Epoch]:
    """Train on `part` until the recipe's last epoch and yield each epoch; after that the network is the one to keep.

    Batches are shuffled and augmented on the device of `part`; the last partial batch is dropped. Raises ValueError
    when not one batch can be filled and DivergedError when an epoch's loss or the answers after it are not finite.
    """
    recipe = training.recipe
    if len(part) < recipe.batch_size:
        raise ValueError(f"recipe.batch_size: {recipe.batch_size} is not allowed: there are {len(part)} images")
    while training.epoch < recipe.epochs:
        began = time.perf_counter()
        loss, lr = _epoch(training, part, objective, flip=flip, pad=pad, seed=seed)
        training.epoch += 1
        if not math.isfinite(loss):
            raise DivergedError(f"the loss is {loss} in epoch {training.epoch} (recipe.lr {recipe.lr}): lower the rate")
        answers = logits(training.model, validation.images)
        if not answers.isfinite().all():
            raise DivergedError(
                f"answers are not finite after epoch {training.epoch} (recipe.lr {recipe.lr}): lower the rate"
            )
        score = accuracy(answers, validation.labels)
        training.judge(score)
        yield Epoch(training, training.epoch, loss, lr, score, time.perf_counter() - began)
    training.settle()


def _epoch(
    training: Training, part: Part, objective: Objective, *, flip: bool, pad: int, seed: int
) -> tuple[float, float]:
    model, recipe, optimiser, device = training.model, training.recipe, training.optimiser, part.images.device
    order, shift, draw = (generator(seed, use, training.epoch, device=device) for use in ("order", "augment", "draw"))
    steps = len(part) // recipe.batch_size
    shuffled = torch.randperm(len(part), generator=order, device=device)
    total = torch.zeros((), device=device)
    rate = recipe.lr
    model.train()
    for step in range(steps):
        rate = recipe.lr * recipe.schedule.rate(training.epoch + step / steps, recipe.epochs)
        for group in optimiser.param_groups:
            group["lr"] = rate
        pick = shuffled[step * recipe.batch_size : (step + 1) * recipe.batch_size]
        images = scaled(augment(part.images[pick], flip=flip, pad=pad, generator=shift))
        with torch.autocast(device.type, torch.bfloat16, enabled=recipe.bf16):
            loss = objective(model, images, part.labels[pick], draw)
        optimiser.zero_grad(set_to_none=True)
        torch.autograd.backward(loss)
        optimiser.step()
        total += loss.detach()
    return total.item() / steps, rate
