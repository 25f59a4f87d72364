"""Trainings on images that stay on the host: bit for bit those on images of the device, resumed ones too."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from mwm.config.randomness import make_generator
from mwm.data.host import HostImages, Images
from mwm.data.images import Augmentation
from mwm.data.splits import LabeledImages
from mwm.storage.store import Store
from mwm.training.batchnorm import CumulativeStatistics
from mwm.training.evaluation import predict_logits
from mwm.training.loop import fit
from mwm.training.recipe import Cosine, Recipe
from mwm.training.state import TrainState
from mwm.training.step import Objective, TrainStep
from mwm.watermarks.queries import QuerySet
from tests.helpers.engines import CLASSES, MARGIN, SMALL, network, some
from tests.unit.training.test_loop import clean, same

RECIPES = [
    Recipe(epochs=3, batch_size=16, lr=0.05, momentum=0.9, schedule=Cosine(warmup=0.3)),
    Recipe(epochs=3, batch_size=16, lr=0.1, keep="best_validation", augment_validation=True, bf16=True),
    Recipe(epochs=3, batch_size=16, lr=0.01, optimizer="adamw", mixup=0.4, ema=0.9, label_smoothing=0.1),
]
HOW = [Augmentation(flip=True, pad=1), Augmentation(pad=2), Augmentation()]


def hosted(part: LabeledImages) -> LabeledImages[Images]:
    """The same images among others, in an array that nobody may write to."""
    n = len(part)
    rows = np.random.default_rng(0).permutation(2 * n)[:n]
    pixels = np.zeros((2 * n, *part.images.shape[1:]), np.uint8)
    pixels[rows] = part.images.numpy()
    pixels.flags.writeable = False
    return LabeledImages(HostImages(pixels, rows, part.labels.device), part.labels)


def objective(scheme: Any) -> Objective:
    if scheme is None:
        return clean
    part = some(9, seed=5)
    made: Objective = scheme.objective(QuerySet(part.images, (part.labels + 1) % CLASSES, part.labels))
    return made


def trained(training: TrainState, scheme: Any, how: Augmentation, *, on_host: bool) -> Iterator[tuple[float, ...]]:
    parts: list[LabeledImages[Any]] = [some(50), some(40, seed=1)]
    part, validation = map(hosted, parts) if on_host else parts
    taught = objective(scheme)
    for row in fit(training, part, taught, augmentation=how, seed=2, validation=validation):
        yield row.epoch, row.loss, row.lr, row.val_acc


@pytest.mark.parametrize("how", HOW, ids=lambda one: f"{one.flip}-{one.pad}")
@pytest.mark.parametrize("recipe", RECIPES, ids=lambda one: one.optimizer + one.keep)
@pytest.mark.parametrize("scheme", [None, MARGIN], ids=["clean", "margin"])
def test_a_training_is_the_same_bit_for_bit(scheme: Any, recipe: Recipe, how: Augmentation) -> None:
    resident, from_host = (TrainState(network(SMALL), recipe) for _ in range(2))
    rows = list(trained(resident, scheme, how, on_host=False))
    assert list(trained(from_host, scheme, how, on_host=True)) == rows
    assert same(from_host.state(), resident.state())


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda one: one.optimizer + one.keep)
def test_a_training_is_resumed_on_the_host_where_one_on_the_device_ended(recipe: Recipe, tmp_path: Path) -> None:
    store, straight, rows = Store(tmp_path), TrainState(network(SMALL), recipe), []
    for row in trained(straight, MARGIN, HOW[0], on_host=False):
        rows.append(row)
        store.save_checkpoint(f"after-{row[0]}", straight.state())
    for epoch in (1, 2):
        resumed, saved = TrainState(network(SMALL), recipe), store.checkpoint(f"after-{epoch}")
        assert saved is not None
        resumed.restore(saved)
        assert list(trained(resumed, MARGIN, HOW[0], on_host=True)) == rows[epoch:]
        assert same(resumed.state(), straight.state())


def test_a_step_is_refused_images_that_it_was_not_given() -> None:
    made = TrainStep(TrainState(network(SMALL), RECIPES[0]), hosted(some(50)), clean, augmentation=HOW[0])
    made.start_epoch(0, 0)
    with pytest.raises(AssertionError, match="on the host"):
        made.step(torch.arange(16), 0.1)


def test_answers_are_the_same_in_several_batches() -> None:
    model, part = network(SMALL), some(2300)
    assert torch.equal(predict_logits(model, hosted(part).images), predict_logits(model, part.images))


def test_statistics_are_the_same() -> None:
    found: list[dict[str, Tensor]] = []
    for part in (some(50), hosted(some(50))):
        model: nn.Module = network(SMALL)
        drawn = [make_generator(1, use) for use in ("order", "views")]
        passed: dict[str, Any] = {"order": drawn[0], "views": drawn[1], "batch_size": 16}
        CumulativeStatistics(model).add_pass(part.images, HOW[0], **passed)
        found.append(model.state_dict())
    assert same(*found)
    assert not same(found[0], network(SMALL).state_dict()), "nothing was estimated"
