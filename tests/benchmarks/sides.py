"""The two sides of the benchmarks of speed: the published loop and the product's engine, as turns of rivals."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from functools import partial
from itertools import chain, count
from typing import Any

import torch
from torch import Tensor

from mwm.config.randomness import make_generator
from mwm.data.splits import LabeledImages
from mwm.training.device import deterministic, retain_freed_memory
from mwm.training.loop import fit
from mwm.training.recipe import Recipe
from mwm.training.state import TrainState
from mwm.training.step import TrainStep
from tests.benchmarks.ground import Ground
from tests.benchmarks.reference import RATE, Loop, training_batches, validation_batches
from tests.benchmarks.rivals import Rival, Turn

REFERENCE = "reference"


def stepping(ground: Ground, engines: list[str], block: int) -> list[Rival]:
    """The reference and engines, `block` steps a turn."""
    makes = {REFERENCE: partial(reference_steps, ground, block)}
    makes |= {name: partial(engine_steps, ground, name, block) for name in engines}
    return [Rival(name, make, ground.device, ground.threads, block) for name, make in makes.items()]


def racing(ground: Ground, engines: list[str], *, epochs: int, reference: bool) -> list[Rival]:
    """The reference, if wanted, and engines, an epoch with its validation a turn, `epochs` in all."""
    makes = {REFERENCE: partial(reference_epochs, ground, epochs)} if reference else {}
    makes |= {name: partial(engine_epochs, ground, name, epochs) for name in engines}
    return [Rival(name, make, ground.device, ground.threads) for name, make in makes.items()]


def loop_of(ground: Ground) -> Loop:
    """The published loop on this ground."""
    queries, margin = ground.parts[2].to(ground.device), ground.margin
    assert isinstance(margin.queries_per_step, int)
    return Loop(
        ground.network(),
        queries.float_images,
        queries.labels,
        drawn=margin.queries_per_step,
        steps=margin.steps,
        step_size=margin.step_size,
        weight=margin.weight,
        momentum=ground.momentum,
    )


def engine_of(ground: Ground, recipe: Recipe) -> TrainStep:
    """The product's engine on this ground, all images on the device; as in a trial, memory is kept."""
    retain_freed_memory()
    owner, _, queries = ground.parts
    objective = ground.margin.objective(queries.to(ground.device))
    return TrainStep(
        TrainState(ground.network(), recipe), _on(ground.device, owner), objective, augmentation=ground.augmentation
    )


def _on(device: str, part: LabeledImages) -> LabeledImages:
    return LabeledImages(part.images.to(device), part.labels.to(device))


def picks(ground: Ground) -> Iterator[Tensor]:
    """Batches of image numbers without end, in a new order each epoch."""
    images = len(ground.parts[0])
    for epoch in count():
        drawn = make_generator(ground.seed, "order", epoch, device=ground.device)
        order = torch.randperm(images, generator=drawn, device=ground.device)
        yield from torch.split(order[: images // ground.batch * ground.batch], ground.batch)


def engine_steps(ground: Ground, name: str, block: int) -> Turn:
    """Steps of the engine; as in its loop, the mean loss is fetched once a turn."""
    recipe = ground.recipe(name)
    engine, batches = engine_of(ground, recipe), picks(ground)

    def turn() -> dict[str, float]:
        with deterministic(recipe.deterministic):
            engine.total.zero_()
            for _ in range(block):
                engine.step(next(batches), RATE)
            return {"loss": engine.total.item() / block}

    engine.start_epoch(ground.seed, 0)
    return turn


def reference_steps(ground: Ground, block: int) -> Turn:
    """Steps of the published loop, which asks its two workers for each batch."""
    torch.manual_seed(ground.seed)
    loop, owner = loop_of(ground), ground.parts[0]
    loader = training_batches(owner.images, owner.labels, **asdict(ground.augmentation), batch=ground.batch)
    batches: Iterator[Any] = chain.from_iterable(iter(loader) for _ in count())

    def turn() -> dict[str, float]:
        losses = 0.0
        for _ in range(block):
            images, labels = next(batches)
            losses += loop.step(images, labels, RATE)[0]
        return {"loss": losses / block}

    return turn


def engine_epochs(ground: Ground, name: str, epochs: int) -> Turn:
    """Whole epochs of the product's training loop."""
    _, validation, _ = ground.parts
    engine = engine_of(ground, ground.recipe(name, epochs))
    training, seed = engine.training, ground.seed
    judges = _on(ground.device, validation)
    done = fit(training, engine.part, engine.objective, augmentation=ground.augmentation, seed=seed, validation=judges)

    def turn() -> dict[str, float]:
        epoch = next(done)
        return {"loss": epoch.loss, "accuracy": epoch.val_acc}

    return turn


def reference_epochs(ground: Ground, epochs: int) -> Turn:
    """Whole epochs of the published loop."""
    torch.manual_seed(ground.seed)
    loop, (owner, validation, _), numbers = loop_of(ground), ground.parts, count()
    batches = training_batches(owner.images, owner.labels, **asdict(ground.augmentation), batch=ground.batch)
    judges = validation_batches(validation.images, validation.labels, batch=ground.batch)

    def turn() -> dict[str, float]:
        return {"loss": loop.epoch(batches, next(numbers), epochs), "accuracy": loop.validate(judges)}

    return turn
