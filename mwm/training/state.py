"""The state of a training: all from which it goes on exactly."""

from __future__ import annotations

from typing import Any, Protocol

import torch
from torch import Tensor, nn

from mwm.training.recipe import Recipe


class Trained(Protocol):
    """A network that is being made, as far as whoever keeps and measures it must know."""

    model: nn.Module
    epoch: int

    @property
    def epochs(self) -> int:
        """After how many epochs it is finished."""

    @property
    def best_epoch(self) -> int:
        """The epoch whose weights are kept."""

    @property
    def deterministic(self) -> bool:
        """Whether a GPU is to compute the same bits each time."""

    def state(self) -> dict[str, Any]:
        """Everything that a checkpoint holds: tensors and numbers only."""


class TrainState:
    """A network on its way: its state is all from which the way goes on exactly, bit for bit on a CPU.

    Random numbers need no saving: every generator is derived anew from (seed, use, epoch).
    """

    def __init__(self, model: nn.Module, recipe: Recipe) -> None:
        layout = torch.channels_last if recipe.channels_last else torch.contiguous_format
        self.model = model.to(memory_format=layout)
        self.recipe = recipe
        self.optimizer = torch.optim.SGD(
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
            "optimizer": self.optimizer.state_dict(),
            "epoch": self.epoch,
            "best": self.best,
            "best_weights": self.best_weights,
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from a state that `state` gave."""
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.epoch, self.best_weights = state["epoch"], state["best_weights"]
        self.best = (state["best"][0], state["best"][1])

    def update_best(self, score: float) -> None:
        """Remember the weights if they are to be chosen by validation accuracy and none so far is better."""
        if self.recipe.keep == "best_validation" and score >= self.best[0]:
            self.best = (score, self.epoch)
            self.best_weights = {name: value.clone() for name, value in self.model.state_dict().items()}

    def restore_best(self) -> None:
        """At the end, go back to the best weights if those are to be kept."""
        if self.best_weights is not None:
            self.model.load_state_dict(self.best_weights)

    @property
    def best_epoch(self) -> int:
        """The epoch whose weights are kept."""
        return self.epoch if self.recipe.keep == "last" else self.best[1]

    @property
    def epochs(self) -> int:
        """After how many epochs the training is finished."""
        return self.recipe.epochs

    @property
    def deterministic(self) -> bool:
        """Whether a GPU is to compute the same bits each time."""
        return self.recipe.deterministic
