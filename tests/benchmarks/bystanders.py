"""Independent models for benchmarks: small networks that never saw a key, trained in many ways, and their answers."""

from __future__ import annotations

import multiprocessing
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import cache
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from mwm.attacks.access import BlackBoxAccess
from mwm.attacks.extraction.extraction import Extraction
from mwm.config.randomness import derive_seed, make_generator
from mwm.data.datasets import Dataset, Digits
from mwm.data.images import Augmentation
from mwm.data.readers import load_dataset
from mwm.data.splits import LabeledImages, RoleSplits, SplitSizes, split
from mwm.models.build import build_model, channel_statistics
from mwm.models.networks import Cnn
from mwm.oracle.oracle import LabelKind, Oracle
from mwm.training.evaluation import predict_logits
from mwm.training.loop import Epoch, fit
from mwm.training.recipe import Cosine, Recipe
from mwm.training.state import TrainState
from mwm.watermarks.schemes.none import clean_loss

Item = TypeVar("Item")
Result = TypeVar("Result")

DATA = Digits()
SPLIT = SplitSizes(validation=40, queries=400, disjoint=0.5)
NETWORKS = [Cnn(width=width, depth=depth) for width, depth in ((8, 2), (16, 2), (8, 3), (16, 3), (24, 3))]
EPOCHS = 25


@cache
def grounds() -> tuple[Dataset, RoleSplits]:
    """The data, and who has which part of it; none of these models is trained on the query source."""
    dataset = load_dataset(DATA)
    return dataset, split(dataset, SPLIT, "cpu")


def independent(number: int, epochs: int = EPOCHS) -> nn.Module:
    """Independent model `number`: its network, its part of the data and its seed, different from those of all others.

    Every fourth is a student that extracted an unmarked victim, with the other half of the data.
    """
    _, views = grounds()
    both = LabeledImages(*(torch.cat(pair) for pair in zip(_pair(views.owner), _pair(views.disjoint), strict=True)))
    part = (views.owner, views.disjoint, both)[number % 3]
    seed, network = derive_seed(number, "independent"), NETWORKS[number % len(NETWORKS)]
    model = _last(_trained(network, part, seed, epochs))
    if number % 4:
        return model
    labels: LabelKind = "soft" if number % 8 else "hard"
    access = BlackBoxAccess(
        oracle=Oracle(model, labels),
        images=views.owner if number % 3 else views.disjoint,
        validation=views.validation,
        classes=grounds()[0].classes,
        augmentation=Augmentation(DATA.flip, DATA.pad),
        seed=seed,
    )
    return _last(Extraction(labels=labels, student=NETWORKS[(number + 2) % 5], recipe=_recipe(epochs)).run(access))


def _pair(part: LabeledImages) -> tuple[torch.Tensor, torch.Tensor]:
    return part.images, part.labels


def _recipe(epochs: int) -> Recipe:
    return Recipe(epochs=epochs, batch_size=32, lr=0.1, momentum=0.9, schedule=Cosine())


def _trained(network: Cnn, part: LabeledImages, seed: int, epochs: int) -> Iterable[Epoch]:
    dataset, views = grounds()
    mean, std = channel_statistics(part.images)
    chance = make_generator(seed, "weights")
    fresh = build_model(network, shape=dataset.shape, classes=dataset.classes, mean=mean, std=std, generator=chance)
    training, validation = TrainState(fresh, _recipe(epochs)), views.validation
    return fit(
        training,
        part,
        clean_loss,
        augmentation=Augmentation(flip=DATA.flip, pad=DATA.pad),
        seed=seed,
        validation=validation,
    )


def _last(epochs: Iterable[Epoch]) -> nn.Module:
    (end,) = deque(epochs, maxlen=1)
    return end.training.model.eval()


def answers(model: nn.Module, images: NDArray[np.uint8]) -> NDArray[np.float32]:
    """The model's scores (n C) for images (n c h w)."""
    scores: NDArray[np.float32] = predict_logits(model, torch.from_numpy(images)).numpy()
    return scores


def spread(work: Callable[[Item], Result], items: Sequence[Item], processes: int) -> list[Result]:
    """The results of `work` in the order of the items, from so many processes of one thread each; 0 for this one."""
    torch.set_num_threads(1)
    if not processes:
        return [work(item) for item in items]
    spawned = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(processes, spawned, torch.set_num_threads, (1,)) as pool:
        return list(pool.map(work, items, chunksize=-(-len(items) // processes)))  # `work` travels once to each
