"""A small victim and thieves of it, for tests of more than one room."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from mwm.attacks.student import Loot
from mwm.data import Part
from mwm.models import Cnn, build
from mwm.oracle import Oracle
from mwm.recipe import Recipe

SHAPE = (1, 6, 6)
CLASSES = 4
COUNT = 34
RECIPE = Recipe(epochs=3, batch_size=10, lr=0.1, momentum=0.9)
STUDENT = Cnn(width=2, depth=1)
FILLED: dict[str, Any] = {"student": STUDENT, "recipe": RECIPE}
Weights = dict[str, Tensor]


def victim() -> nn.Module:
    drawn = torch.Generator().manual_seed(7)
    model = build(Cnn(width=4, depth=2), shape=SHAPE, classes=CLASSES, mean=[0.4], std=[0.3], generator=drawn)
    model.train()(torch.rand(64, *SHAPE, generator=drawn))
    for weight in model.parameters():
        weight.data *= 2
    return model


def some(n: int = COUNT, seed: int = 0) -> Part:
    drawn = torch.Generator().manual_seed(seed)
    images = torch.randint(256, (n, *SHAPE), generator=drawn, dtype=torch.uint8)
    return Part(images, torch.randint(CLASSES, (n,), generator=drawn))


def loot_for(attack: Any, model: nn.Module | None = None, *, views: bool | None = None) -> Loot:
    """What a thief gets; its views are augmented where its attack allows that, unless `views` says otherwise."""
    oracle = Oracle(model or victim(), attack.labels, attack.budget)
    varied = attack.repeats == "counted" if views is None else views
    return Loot(
        oracle=oracle,
        images=some(),
        validation=some(20, 1),
        classes=CLASSES,
        flip=varied,
        pad=int(varied),
        seed=attack.seed,
    )


def steal(attack: Any, loot: Loot | None = None) -> Weights:
    *_, last = attack.run(loot or loot_for(attack))
    weights: Weights = last.training.model.state_dict()
    return weights


def same(one: Weights, other: Weights) -> bool:
    return one.keys() == other.keys() and all(torch.equal(value, other[k]) for k, value in one.items())
