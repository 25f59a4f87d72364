"""Optimisers, clipping, smoothing, mixup and averages: each step against its formula, in double precision."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mwm.config.randomness import derive_seed, make_generator
from mwm.config.spec import decode
from mwm.data.images import Augmentation
from mwm.data.splits import LabeledImages
from mwm.models.build import build_model
from mwm.models.networks import Cnn
from mwm.training.loop import fit
from mwm.training.recipe import MultiStep, Recipe
from mwm.training.state import TrainState, WeightAverage
from mwm.training.step import Batch, Objective
from mwm.watermarks.queries import QuerySet
from mwm.watermarks.schemes import Confusion, Margin
from mwm.watermarks.schemes.none import clean_loss
from tests.helpers.engines import learnable

SHAPE, CLASSES, SEED = (1, 8, 8), 4, 3
CONSTANT = MultiStep(milestones=(9,), factor=1.0)


def network() -> nn.Module:
    drawn = torch.Generator().manual_seed(0)
    made = build_model(Cnn(width=3, depth=2), shape=SHAPE, classes=CLASSES, mean=[0.5], std=[0.3], generator=drawn)
    return made.double()


def some(n: int, seed: int = 0) -> LabeledImages:
    return learnable(n, shape=SHAPE, classes=CLASSES, seed=seed)


PART = some(50)


def trained(objective: Objective = clean_loss, **fields: Any) -> TrainState:
    """Two epochs of three steps at one rate."""
    recipe = Recipe(epochs=2, batch_size=16, schedule=CONSTANT, **fields)
    training = TrainState(network(), recipe)
    for _ in fit(training, PART, objective, augmentation=Augmentation(), seed=SEED, validation=some(40, 1)):
        pass
    return training


def steps() -> list[tuple[int, int, Tensor, torch.Generator]]:
    """The epoch and number of each step, the rows of its images, and the generator of its views."""
    found = []
    for epoch in range(2):
        order = torch.randperm(50, generator=make_generator(SEED, "order", epoch))
        views = make_generator(SEED, "augment", epoch)
        found += [(epoch, step, order[16 * step : 16 * step + 16], views) for step in range(3)]
    return found


def plain_loss(model: nn.Module, rows: Tensor) -> Tensor:
    return F.cross_entropy(model.train()(PART.images[rows] / 255), PART.labels[rows])


def assert_same(ours: nn.Module, theirs: nn.Module) -> None:
    for (name, one), other in zip(ours.state_dict().items(), theirs.state_dict().values(), strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-9, msg=name)


@pytest.mark.parametrize("decoupled", [False, True], ids=["adam", "adamw"])
def test_adam_is_its_formula(decoupled: bool) -> None:
    lr, decay, (first, second) = 0.01, 0.05, (0.8, 0.95)
    training = trained(optimizer="adamw" if decoupled else "adam", lr=lr, weight_decay=decay, betas=(first, second))
    plain = network()
    weights = list(plain.parameters())
    mean, square = [torch.zeros_like(one) for one in weights], [torch.zeros_like(one) for one in weights]
    for number, (_, _, rows, _) in enumerate(steps(), start=1):
        slopes = torch.autograd.grad(plain_loss(plain, rows), weights)
        for i, (weight, slope) in enumerate(zip(weights, slopes, strict=True)):
            pull = slope if decoupled else slope + decay * weight.data
            mean[i] = first * mean[i] + (1 - first) * pull
            square[i] = second * square[i] + (1 - second) * pull**2
            move = (mean[i] / (1 - first**number)) / ((square[i] / (1 - second**number)).sqrt() + 1e-8)
            weight.data -= lr * (move + (decay * weight.data if decoupled else 0))
    assert_same(training.model, plain)


def descend(model: nn.Module, loss: Tensor, lr: float, longest: float = float("inf")) -> float:
    """A step of plain gradient descent; how long the gradient was."""
    weights = list(model.parameters())
    slopes = torch.autograd.grad(loss, weights)
    length = float(torch.cat([slope.flatten() for slope in slopes]).norm())
    for weight, slope in zip(weights, slopes, strict=True):
        weight.data -= lr * min(1, longest / (length + 1e-6)) * slope
    return length


def test_gradients_are_cut_to_a_length() -> None:
    training, plain = trained(lr=0.1, weight_decay=0.0, clip_grad_norm=0.5), network()
    lengths = [descend(plain, plain_loss(plain, rows), 0.1, longest=0.5) for _, _, rows, _ in steps()]
    assert min(lengths) < 0.5 < max(lengths), "the bound is to bind in some steps, and not in others"
    assert_same(training.model, plain)


def targets(labels: Tensor, smoothing: float) -> Tensor:
    return (1 - smoothing) * F.one_hot(labels, CLASSES) + smoothing / CLASSES


def divergence(logits: Tensor, wanted: Tensor) -> Tensor:
    """The cross-entropy of each image against probabilities."""
    return -(wanted * logits.log_softmax(1)).sum(1)


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
@pytest.mark.parametrize("mixup", [0.0, 0.4])
@pytest.mark.parametrize("confused", [False, True], ids=["plain", "confusion"])
def test_targets_are_smoothed_and_mixed(smoothing: float, mixup: float, confused: bool) -> None:
    scheme, labels = Confusion(mass=0.2), torch.arange(CLASSES)
    key = QuerySet(some(CLASSES).images, (labels + 1) % CLASSES, labels, cells=labels)
    objective = scheme.objective(key) if confused else clean_loss
    training = trained(objective, lr=0.1, weight_decay=0.0, label_smoothing=smoothing, mixup=mixup)
    plain, shares = network(), dict[int, Any]()
    for epoch, step, rows, views in steps():
        if step == 0:
            shares[epoch] = np.random.default_rng(derive_seed(SEED, "mixup", epoch)).beta(0.4, 0.4, 3)
        images, wanted = PART.images[rows] / 255, targets(PART.labels[rows], smoothing)
        if confused:
            wanted = 0.8 * wanted + 0.2 * F.one_hot((PART.labels[rows] + 1) % CLASSES, CLASSES)
        if mixup:
            other, share = torch.randperm(16, generator=views), shares[epoch][step]
            images = (share * images + (1 - share) * images[other]).float()
            wanted = share * wanted + (1 - share) * wanted[other]
        descend(plain, divergence(plain.train()(images), wanted).mean(), 0.1)
    torch.testing.assert_close(
        torch.cat([one.flatten() for one in training.model.parameters()]),
        torch.cat([one.flatten() for one in plain.parameters()]),
        rtol=0,
        atol=1e-6 if mixup else 1e-8,  # images are mixed in single precision
    )


def test_queries_are_taught_as_they_are() -> None:
    """Neither smoothed nor mixed: their share of the loss is that of a plain batch."""
    part, scheme = some(6, 5), Margin(queries_per_step="all", steps=2)
    objective = scheme.objective(QuerySet(part.images, (part.labels + 1) % CLASSES, part.labels))
    model, rows, draw = network().train(), torch.arange(16), torch.Generator()
    plain = Batch(PART.images[:16] / 255, PART.labels[:16], rows)
    other = Batch(plain.images.flip(0), plain.labels.flip(0), rows.flip(0))
    share = torch.tensor(0.7)
    mixed = Batch(plain.images, plain.labels, rows, 0.3, ((share, plain), (1 - share, other)))
    logits = model(plain.images)
    taught = [batch.cross_entropy(logits, "none").sum() for batch in (plain, mixed)]
    losses = [objective(model, batch, draw) for batch in (plain, mixed)]
    assert abs(taught[0] - taught[1]) > 0.1
    torch.testing.assert_close(22 * losses[0] - taught[0], 22 * losses[1] - taught[1], rtol=0, atol=1e-5)


def test_the_average_of_the_weights_is_judged_and_kept() -> None:
    training, plain = trained(lr=0.1, weight_decay=0.0, ema=0.25), network()
    kept = {name: value.clone() for name, value in plain.state_dict().items()}
    for number, (_, _, rows, _) in enumerate(steps()):
        descend(plain, plain_loss(plain, rows), 0.1)
        decay = min(0.25, (1 + number) / (10 + number))
        for name, value in plain.state_dict().items():
            kept[name] = decay * kept[name] + (1 - decay) * value if value.is_floating_point() else value.clone()
    assert_same(training.network, plain)
    assert training.model is not training.network
    for name, value in training.model.state_dict().items():
        torch.testing.assert_close(value, kept[name], rtol=0, atol=1e-9, msg=name)


def test_an_average_counts_batches_as_the_network_does() -> None:
    model = network()
    average = WeightAverage(model, 0.9)
    layers = [layer for layer in model.modules() if isinstance(layer, nn.BatchNorm2d)]
    for layer in layers:
        assert layer.num_batches_tracked is not None
        layer.num_batches_tracked.fill_(7)
    average.update()
    counts = [value for name, value in average.model.state_dict().items() if name.endswith("num_batches_tracked")]
    assert counts == [7] * len(layers)


@pytest.mark.parametrize(
    ("fields", "line"),
    [
        ({"optimizer": "adam", "momentum": 0.9}, "recipe.momentum: 0.9 is not allowed with optimizer adam: must be 0"),
        ({"betas": [0.8, 0.9]}, "recipe.betas: [0.8, 0.9] is not allowed with optimizer sgd: it has none"),
        ({"optimizer": "adamw", "betas": [0.9, 1.0]}, "recipe.betas.1: 1.0 is not allowed: must be less than 1"),
        ({"optimizer": "lion"}, "recipe.optimizer: 'lion' is not allowed: must be 'sgd', 'adam' or 'adamw'"),
        ({"clip_grad_norm": 0.0}, "recipe.clip_grad_norm: 0.0 is not allowed: must be greater than 0"),
        ({"label_smoothing": 1.0}, "recipe.label_smoothing: 1.0 is not allowed: must be less than 1"),
        ({"mixup": -0.1}, "recipe.mixup: -0.1 is not allowed: must be greater than or equal to 0"),
        ({"ema": 1.0}, "recipe.ema: 1.0 is not allowed: must be less than 1"),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else "",
)
def test_what_no_recipe_can_be_is_one_line(fields: dict[str, Any], line: str) -> None:
    with pytest.raises(ValueError, match="recipe") as refused:
        decode(Recipe, fields, "recipe")
    assert str(refused.value) == line
