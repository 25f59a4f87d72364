"""The one training loop, for victims and students alike; what differs between them is an objective."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import repeat

import torch
from torch import Tensor

from mwm.config.randomness import derive_seed, make_generator
from mwm.data.host import HostImages, Images, augmented
from mwm.data.images import Augmentation
from mwm.data.splits import LabeledImages
from mwm.training.batchnorm import shared_statistics
from mwm.training.device import deterministic, global_draws
from mwm.training.evaluation import accuracy, predict_logits
from mwm.training.parallel import WHOLE, BatchShare
from mwm.training.state import Trained, TrainState
from mwm.training.step import Objective, TrainStep


class DivergedError(ArithmeticError):
    """The loss of a training is no longer a finite number."""


@dataclass(frozen=True)
class Epoch:
    """One epoch done: mean loss, learning rate at its end, validation accuracy, seconds; and the training so far.

    `step` names the part of a sequence that ends with it; empty within a part, and where there is no sequence.
    """

    training: Trained
    epoch: int
    loss: float
    lr: float
    val_acc: float
    seconds: float
    step: str = ""


def fit(
    training: TrainState,
    part: LabeledImages[Images],
    objective: Objective,
    *,
    augmentation: Augmentation,
    seed: int,
    validation: LabeledImages[Images],
    share: BatchShare = WHOLE,
) -> Iterator[Epoch]:
    """Train on `part` until the recipe's last epoch and yield each epoch; after that the network is the one to keep.

    Batches are shuffled and augmented on the device of `part`; the last partial batch is dropped. Images may be on the
    device or on the host: that changes no bit. What layers draw, as dropout does, follows from the seed, too. Of
    several workers each calls this with its `share`, and all end with the same network. Raises ValueError when not one
    batch can be filled and DivergedError when an epoch's loss or the answers after it are not finite.
    """
    recipe = training.recipe
    if len(part) < recipe.batch_size:
        raise ValueError(f"recipe.batch_size: {recipe.batch_size} is not allowed: there are {len(part)} images")
    engine = TrainStep(training, part, objective, augmentation=augmentation, share=share)
    share.require_same(training.epoch, part.images.device)
    share.take_first(training.tensors())  # whatever a function that builds a network has drawn
    while training.epoch < recipe.epochs:
        began = time.perf_counter()
        with deterministic(recipe.deterministic):
            with _layers(engine, seed):
                loss, lr = _epoch(engine, seed)
            shown = validation.images
            if recipe.augment_validation:
                views = make_generator(seed, "validation", training.epoch, device=shown.device)
                shown = augmented(shown, augmentation, views)
            answers = predict_logits(training.model, shown)
        training.epoch += 1
        _require_finite(training, loss, answers)
        score = accuracy(answers, validation.labels)
        training.update_best(score)
        yield Epoch(training, training.epoch, loss, lr, score, time.perf_counter() - began)
    training.restore_best()


def _require_finite(training: TrainState, loss: float, answers: Tensor) -> None:
    fault = None
    if not math.isfinite(loss):
        fault = f"the loss is {loss} in"
    elif not answers.isfinite().all():
        fault = "answers are not finite after"
    if fault:
        raise DivergedError(f"{fault} epoch {training.epoch} (recipe.lr {training.recipe.lr}): lower the rate")


@contextmanager
def _layers(engine: TrainStep, seed: int) -> Iterator[None]:
    """Have layers draw by the seed, for each worker's images by itself, and normalise as the recipe says."""
    training, rank = engine.training, engine.share.rank
    use = ("layers", training.epoch, rank) if rank else ("layers", training.epoch)
    groups = training.recipe.batchnorm_groups
    with (
        global_draws(derive_seed(seed, *use), engine.part.images.device),
        shared_statistics(training.network, engine.share, groups),
    ):
        yield


def _epoch(engine: TrainStep, seed: int) -> tuple[float, float]:
    """Mean loss and last learning rate of the epoch that is next. Its last line waits for the device."""
    training, n, device = engine.training, len(engine.part), engine.part.images.device
    recipe, epoch = training.recipe, training.epoch
    order = torch.randperm(n, generator=make_generator(seed, "order", epoch, device=device), device=device)
    steps, rate, schedule = n // recipe.batch_size, recipe.lr, recipe.schedule
    engine.start_epoch(seed, epoch)
    order = order[: steps * recipe.batch_size]
    sent = _sent(engine.part.images, order, recipe.batch_size)
    for step, (pixels, pick) in enumerate(zip(sent, torch.split(order, recipe.batch_size), strict=False)):
        rate = recipe.lr * schedule.lr_factor(epoch + (step + schedule.at_batch_end) / steps, recipe.epochs)
        engine.step(pick, rate, pixels)
    engine.share.average([engine.total])
    return engine.total.item() / steps, rate


def _sent(images: Images, order: Tensor, size: int) -> Iterator[Tensor | None]:
    """The images of each batch that come from the host; None for a batch of those on the device."""
    if isinstance(images, HostImages):
        return images.stream(torch.split(order.cpu(), size))
    return repeat(None)
