"""A small victim and thieves of it, for tests of more than one room."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from mwm.attacks import Attack, Distillation, Extraction
from mwm.config.randomness import make_generator
from mwm.data.images import Augmentation, augment
from mwm.data.splits import LabeledImages
from mwm.models.build import build_model, channel_statistics
from mwm.models.networks import Cnn
from mwm.training.recipe import Recipe

SHAPE = (1, 6, 6)
CLASSES = 4
COUNT = 34
RECIPE = Recipe(epochs=3, batch_size=10, lr=0.1, momentum=0.9)
STUDENT = Cnn(width=2, depth=1)
FILLED: dict[str, Any] = {"student": STUDENT, "recipe": RECIPE}
BUDGETED: list[Attack] = [
    Extraction(query_budget=COUNT, **FILLED),
    Extraction(labels="hard", query_budget=10, **FILLED),
    Distillation(query_budget=25, **FILLED),
]
Weights = dict[str, Tensor]


def victim(seed: int = 7) -> nn.Module:
    drawn = torch.Generator().manual_seed(seed)
    model = build_model(Cnn(width=4, depth=2), shape=SHAPE, classes=CLASSES, mean=[0.4], std=[0.3], generator=drawn)
    model.train()(torch.rand(64, *SHAPE, generator=drawn))
    for weight in model.parameters():
        weight.data *= 2
    return model


class Listening(nn.Module):
    """A victim that remembers what it was asked."""

    def __init__(self) -> None:
        super().__init__()
        self.model, self.asked = victim(), list[bytes]()

    def forward(self, images: Tensor) -> Tensor:
        self.asked += [(255 * image).round().byte().numpy().tobytes() for image in images]
        answers: Tensor = self.model(images)
        return answers


def some(n: int = COUNT, seed: int = 0) -> LabeledImages:
    drawn = torch.Generator().manual_seed(seed)
    images = torch.randint(256, (n, *SHAPE), generator=drawn, dtype=torch.uint8)
    return LabeledImages(images, torch.randint(CLASSES, (n,), generator=drawn))


def foreign_images() -> LabeledImages:
    """Images of another data set, of more classes than the victim knows."""
    images = some(40, 2)
    return LabeledImages(images.images, torch.arange(40) % (CLASSES + 2))


def access_for(
    attack: Any,
    model: nn.Module | None = None,
    *,
    views: bool | None = None,
    calls: int | None = 0,
    start: Any = None,
) -> Any:
    """What an attacker gets; its views are augmented where its attack allows that, unless `views` says otherwise.

    Where it was interrupted, `start` is the state that it had, after so many `calls`.
    """
    varied = not getattr(attack, "cache_answers", False) if views is None else views
    common: dict[str, Any] = {"images": some(), "validation": some(20, 1), "classes": CLASSES, "seed": attack.seed}
    foreign = {data: foreign_images() for data in attack.datasets() if data != attack.source}
    common |= {"foreign": foreign, "others": {seed: victim(seed) for seed in attack.other_seeds()}, "start": start}
    return attack.grant(model or victim(), calls=calls or 0, augmentation=Augmentation(varied, int(varied)), **common)


def forwards(model: nn.Module) -> list[int]:
    """How many images the network itself is shown from now on, a number for each time: whoever it is that asks."""
    seen: list[int] = []
    model.register_forward_pre_hook(lambda _, given: seen.append(len(given[0])))
    return seen


def steal(attack: Any, access: Any = None) -> Weights:
    *_, last = attack.run(access or access_for(attack))
    weights: Weights = last.training.model.state_dict()
    return weights


def same(one: Weights, other: Weights) -> bool:
    return one.keys() == other.keys() and all(torch.equal(value, other[k]) for k, value in one.items())


def name(attack: Any) -> str:
    last = getattr(attack, "query_budget", None) or ("cached" if getattr(attack, "cache_answers", False) else "")
    if not hasattr(attack, "temperature"):
        return f"{attack.kind}-{getattr(attack, 'layers', '')}"
    return f"{attack.kind}-{attack.labels}-T{attack.temperature:g}" + (f"-{last}" if last else "")


def plain_student(
    attack: Any, loss: Callable[[Tensor, Tensor, Tensor], Tensor], *, epochs: int = 1, views: bool = True
) -> nn.Module:
    """The plain loop, which asks at each step: loss(student logits, victim logits, true labels), weight decay, SGD."""
    part, teacher = some(), victim().eval()
    if attack.query_budget:
        pick = torch.randperm(COUNT, generator=make_generator(attack.seed, "budget"))[: attack.query_budget]
        part = LabeledImages(part.images[pick], part.labels[pick])
    mean, std = channel_statistics(part.images)
    drawn = make_generator(attack.seed, "student")
    model = build_model(STUDENT, shape=SHAPE, classes=CLASSES, mean=mean, std=std, generator=drawn).train()
    weights = list(model.parameters())
    for epoch in range(epochs):
        order, shift = (make_generator(attack.seed, use, epoch) for use in ("order", "augment"))
        shuffled = torch.randperm(len(part), generator=order)
        for step in range(len(part) // 10):
            rows = shuffled[10 * step : 10 * step + 10]
            images = part.images[rows]
            images = (augment(images, Augmentation(flip=True, pad=1), shift) if views else images).float() / 255
            with torch.no_grad():
                known = teacher(part.images[rows].float() / 255 if attack.query_budget else images)
            slopes = torch.autograd.grad(loss(model(images), known, part.labels[rows]), weights)
            for weight, slope in zip(weights, slopes, strict=True):
                weight.data = weight.data - 0.1 * (slope + 1e-4 * weight.data)
    return model


def soft(student: Tensor, known: Tensor, t: float) -> Tensor:
    """KL at temperature t, sample by sample and class by class."""
    p, q = torch.softmax(known / t, 1), torch.softmax(student / t, 1)
    rows = [sum(p[i, c] * torch.log(p[i, c] / q[i, c]) for c in range(CLASSES)) for i in range(len(p))]
    return torch.stack([torch.as_tensor(row) for row in rows]).mean()


def formula(attack: Any, taught: float, asked: float) -> Callable[[Tensor, Tensor, Tensor], Tensor]:
    """`taught` times the cross-entropy of the labels plus `asked` times the divergence at the attack's temperature."""

    def loss(student: Tensor, known: Tensor, labels: Tensor) -> Tensor:
        named = known.argmax(1) if attack.labels == "hard" else labels
        chances = torch.log_softmax(student, 1)[torch.arange(len(named)), named]
        return -taught * chances.mean() + asked * soft(student, known, attack.temperature)

    return loss
