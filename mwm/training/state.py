"""The state of a training: all from which it goes on exactly."""

from __future__ import annotations

from copy import deepcopy
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from mwm.training.recipe import Recipe


class Trained(Protocol):
    """A network that is being made, as far as whoever keeps and measures it must know."""

    epoch: int

    @property
    def model(self) -> nn.Module:
        """The network as it would be kept now."""

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


class Finished:
    """A network that is there at once: `Trained` in a single epoch, from which nothing has to go on."""

    def __init__(self, model: nn.Module) -> None:
        self.model, self.epoch, self.epochs, self.best_epoch, self.deterministic = model, 1, 1, 1, False

    def state(self) -> dict[str, Any]:
        """The network."""
        return {"model": self.model.state_dict()}


class TrainState:
    """A network on its way: its state is all from which the way goes on exactly, bit for bit on a CPU.

    Random numbers need no saving: every generator is derived anew from (seed, use, epoch). `network` is what is
    trained; `model`, what is judged and kept, is the same one or the average of its weights.
    """

    def __init__(self, model: nn.Module, recipe: Recipe) -> None:
        layout = torch.channels_last if recipe.channels_last else torch.contiguous_format
        self.network = model.to(memory_format=layout)
        self.recipe = recipe
        self.optimizer = _optimizer(self.network, recipe)
        self.average = WeightAverage(self.network, recipe.ema) if recipe.ema else None
        self.epoch = 0
        self.best = (-1.0, 0)
        self.best_weights: dict[str, Tensor] | None = None

    @property
    def model(self) -> nn.Module:
        """The network that is judged and kept."""
        return self.network if self.average is None else self.average.model

    def state(self) -> dict[str, Any]:
        """Everything a checkpoint holds: tensors and numbers only."""
        return {
            "model": self.network.state_dict(),
            "average": self.average and self.average.state(),
            "optimizer": self.optimizer.state_dict(),
            "epoch": self.epoch,
            "best": self.best,
            "best_weights": self.best_weights,
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from a state that `state` gave."""
        self.network.load_state_dict(state["model"])
        if self.average is not None:
            self.average.restore(state["average"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.epoch, self.best_weights = state["epoch"], state["best_weights"]
        self.best = (state["best"][0], state["best"][1])

    def update_best(self, score: float) -> None:
        """Remember the weights if they are to be chosen by validation accuracy and none so far is better."""
        if self.recipe.keep == "best_validation" and score >= self.best[0]:
            self.best = (score, self.epoch)
            self.best_weights = deepcopy(self.model.state_dict())

    def restore_best(self) -> None:
        """At the end, go back to the best weights if those are to be kept."""
        if self.best_weights is not None:
            self.model.load_state_dict(self.best_weights)

    @property
    def best_epoch(self) -> int:
        """The epoch whose weights are kept."""
        return self.epoch if self.recipe.keep == "last" else self.best[1]

    def tensors(self) -> list[Tensor]:
        """What the network is made of, and its average if there is one."""
        averaged = [] if self.average is None else self.average.model.state_dict().values()
        return [*self.network.state_dict().values(), *averaged]

    @property
    def epochs(self) -> int:
        """After how many epochs the training is finished."""
        return self.recipe.epochs

    @property
    def deterministic(self) -> bool:
        """Whether a GPU is to compute the same bits each time."""
        return self.recipe.deterministic


class WeightAverage:
    """A copy of a network whose weights and statistics are the moving average of those that the network had."""

    def __init__(self, network: nn.Module, decay: float) -> None:
        self.model = deepcopy(network).requires_grad_(False)
        self._decay, self._steps = decay, 0
        kept, trained = self.model.state_dict().values(), network.state_dict().values()
        each = {one.data_ptr(): (one, other) for one, other in zip(kept, trained, strict=True)}  # layers may share
        pairs = list(each.values())
        self._averaged = [pair for pair in pairs if pair[0].is_floating_point()]
        self._copied = [pair for pair in pairs if not pair[0].is_floating_point()]

    def update(self) -> None:
        """Take in the weights after a step."""
        decay = min(self._decay, (1 + self._steps) / (10 + self._steps))
        self._steps += 1
        kept, trained = zip(*self._averaged, strict=True)
        torch._foreach_lerp_(kept, trained, 1 - decay)
        for count, new in self._copied:
            count.copy_(new)

    def state(self) -> dict[str, Any]:
        """All from which it goes on."""
        return {"model": self.model.state_dict(), "steps": self._steps}

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from a state that `state` gave."""
        self.model.load_state_dict(state["model"])
        self._steps = state["steps"]


def _optimizer(network: nn.Module, recipe: Recipe) -> torch.optim.Optimizer:
    common: dict[str, Any] = {"lr": recipe.lr, "weight_decay": recipe.weight_decay, "fused": True}
    if recipe.optimizer == "sgd":
        return torch.optim.SGD(network.parameters(), momentum=recipe.momentum, nesterov=recipe.nesterov, **common)
    kind = torch.optim.AdamW if recipe.optimizer == "adamw" else torch.optim.Adam
    return kind(network.parameters(), betas=recipe.betas, capturable=recipe.cuda_graph, **common)
