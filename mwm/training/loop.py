"""The one training loop, for victims and students alike; what differs between them is an objective."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from dataclasses import dataclass

import torch

from mwm.config.randomness import make_generator
from mwm.data.images import Augmentation, augment
from mwm.data.splits import LabeledImages
from mwm.training.device import deterministic
from mwm.training.evaluation import accuracy, predict_logits
from mwm.training.state import Trained, TrainState
from mwm.training.step import Objective, TrainStep


class DivergedError(ArithmeticError):
    """The loss of a training is no longer a finite number."""


@dataclass(frozen=True)
class Epoch:
    """One epoch done: mean loss, learning rate at its end, validation accuracy, seconds; and the training so far."""

    training: Trained
    epoch: int
    loss: float
    lr: float
    val_acc: float
    seconds: float


def fit(
    training: TrainState,
    part: LabeledImages,
    objective: Objective,
    *,
    augmentation: Augmentation,
    seed: int,
    validation: LabeledImages,
) -> Iterator[Epoch]:
    """Train on `part` until the recipe's last epoch and yield each epoch; after that the network is the one to keep.

    Batches are shuffled and augmented on the device of `part`; the last partial batch is dropped. Raises ValueError
    when not one batch can be filled and DivergedError when an epoch's loss or the answers after it are not finite.
    """
    recipe = training.recipe
    if len(part) < recipe.batch_size:
        raise ValueError(f"recipe.batch_size: {recipe.batch_size} is not allowed: there are {len(part)} images")
    engine = TrainStep(training, part, objective, augmentation=augmentation)
    while training.epoch < recipe.epochs:
        began = time.perf_counter()
        with deterministic(recipe.deterministic):
            loss, lr = _epoch(engine, seed)
            shown = validation.images
            if recipe.augment_validation:
                views = make_generator(seed, "validation", training.epoch, device=shown.device)
                shown = augment(shown, augmentation, views)
            answers = predict_logits(training.model, shown)
        training.epoch += 1
        fault = None
        if not math.isfinite(loss):
            fault = f"the loss is {loss} in"
        elif not answers.isfinite().all():
            fault = "answers are not finite after"
        if fault:
            raise DivergedError(f"{fault} epoch {training.epoch} (recipe.lr {recipe.lr}): lower the rate")
        score = accuracy(answers, validation.labels)
        training.update_best(score)
        yield Epoch(training, training.epoch, loss, lr, score, time.perf_counter() - began)
    training.restore_best()


def _epoch(engine: TrainStep, seed: int) -> tuple[float, float]:
    """Mean loss and last learning rate of the epoch that is next. Its last line waits for the device."""
    training, n, device = engine.training, len(engine.part), engine.part.images.device
    recipe, epoch = training.recipe, training.epoch
    order = torch.randperm(n, generator=make_generator(seed, "order", epoch, device=device), device=device)
    steps, rate, schedule = n // recipe.batch_size, recipe.lr, recipe.schedule
    engine.start_epoch(seed, epoch)
    for step, pick in enumerate(torch.split(order[: steps * recipe.batch_size], recipe.batch_size)):
        rate = recipe.lr * schedule.lr_factor(epoch + (step + schedule.at_batch_end) / steps, recipe.epochs)
        engine.step(pick, rate)
    return engine.total.item() / steps, rate
