"""How a network is trained: what a user may say of it."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Annotated, ClassVar, Literal, Self

from mwm.config.spec import (
    DISCRIMINATED,
    Count,
    NonNegativeFloat,
    PositiveFloat,
    Share,
    ShareBelowOne,
    StrictBool,
    spec,
)

BETAS = (0.9, 0.999)
"""Those of Adam's paper (Kingma and Ba, 2015)."""


@spec
class MultiStep:
    """Learning rate times `factor` at each milestone (epochs)."""

    at_batch_end: ClassVar[bool] = False
    kind: Literal["multistep"] = "multistep"
    milestones: tuple[Count, ...] = (100, 150)
    factor: PositiveFloat = 0.1

    def lr_factor(self, epoch: float, epochs: int) -> float:
        """Share of the full learning rate after `epoch` (fractional) of `epochs`."""
        del epochs
        return float(self.factor ** sum(epoch >= milestone for milestone in self.milestones))


CONSTANT = MultiStep(milestones=(20,), factor=1.0)
"""The full learning rate throughout."""


@spec
class PaperSchedule:
    """The published schedule for any length: times 0.1 at half and at three quarters (epochs 100 and 150 of 200).

    A batch is trained at the rate of its end, so that the last batch before each of the two has the lower rate already.
    """

    at_batch_end: ClassVar[bool] = True
    kind: Literal["paper"] = "paper"

    def lr_factor(self, epoch: float, epochs: int) -> float:
        """Share of the full learning rate after `epoch` (fractional) of `epochs`."""
        return 0.1 ** ((2 * epoch >= epochs) + (4 * epoch >= 3 * epochs))


@spec
class Cosine:
    """Half a cosine down to zero (Loshchilov and Hutter, 2017), after a linear rise over the share `warmup`."""

    at_batch_end: ClassVar[bool] = False
    kind: Literal["cosine"] = "cosine"
    warmup: Share = 0.0

    def lr_factor(self, epoch: float, epochs: int) -> float:
        """Share of the full learning rate after `epoch` (fractional) of `epochs`."""
        done = epoch / epochs
        if done < self.warmup:
            return done / self.warmup
        return 0.5 * (1 + math.cos(math.pi * (done - self.warmup) / max(1 - self.warmup, 1e-9)))


Schedule = Annotated[MultiStep | PaperSchedule | Cosine, *DISCRIMINATED]


@spec
class Recipe:
    """How a network is trained; the defaults are the published recipe (Kim et al., 2023).

    `momentum` and `nesterov` are those of `sgd`, `betas` those of `adam` (Kingma and Ba, 2015) and `adamw` (Loshchilov
    and Hutter, 2019). Gradients longer than `clip_grad_norm`, all weights together, are cut to that length.

    `label_smoothing` is the share of the uniform distribution in what clean images are taught (Szegedy et al., 2016).
    With `mixup` above 0 each clean image is mixed with another of its batch, by a share drawn from Beta(mixup, mixup)
    for each batch (Zhang et al., 2018). Queries are taught as they are. With `ema` above 0 the network that is judged
    and kept is the moving average of the weights with this decay, or with (1 + step) / (10 + step) while that is less.

    `keep: best_validation` keeps the epoch of best validation accuracy, of equals the last. With `augment_validation`
    validation images are shown augmented, anew in each epoch, as training images are.

    Batch normalisation takes its statistics of each of `batchnorm_groups` parts of a batch by itself, and keeps their
    average (Hoffer et al., 2017). With 1 they are those of the whole batch, also where several workers share it.

    The last block is about speed. `compile` compiles the network, which takes a minute and a C++ compiler; `cuda_graph`
    replays each step as one launch, on a GPU only; `deterministic` has a GPU compute the same bits each time.
    """

    epochs: Count = 200
    batch_size: Count = 128
    lr: PositiveFloat = 0.1
    optimizer: Literal["sgd", "adam", "adamw"] = "sgd"
    momentum: Share = 0.0
    nesterov: StrictBool = False
    betas: tuple[ShareBelowOne, ShareBelowOne] = BETAS
    weight_decay: NonNegativeFloat = 1e-4
    clip_grad_norm: PositiveFloat | None = None
    label_smoothing: ShareBelowOne = 0.0
    mixup: NonNegativeFloat = 0.0
    ema: ShareBelowOne = 0.0
    schedule: Schedule = PaperSchedule()
    keep: Literal["last", "best_validation"] = "last"
    augment_validation: StrictBool = False
    batchnorm_groups: Count = 1
    bf16: StrictBool = False
    channels_last: StrictBool = True
    compile: StrictBool = False
    cuda_graph: StrictBool = False
    deterministic: StrictBool = False

    def __post_init__(self) -> None:
        if self.optimizer != "sgd" and self.momentum:
            raise ValueError(f"momentum: {self.momentum} is not allowed with optimizer {self.optimizer}: must be 0")
        if self.optimizer == "sgd" and self.betas != BETAS:
            raise ValueError(f"betas: {list(self.betas)} is not allowed with optimizer sgd: it has none")
        if self.nesterov and self.momentum == 0:
            raise ValueError("nesterov: true needs a momentum above 0")
        self._check_groups()

    def filled_by(self, images: int) -> Self:
        """The recipe for so many images, 1 at least: where they are fewer than a batch holds, all are one batch.

        A batch is made of whole groups of batch normalisation, and of one group where images are fewer than groups.
        """
        groups = self.batchnorm_groups if images >= self.batchnorm_groups else 1
        size = min(self.batch_size, images)
        return replace(self, batch_size=size - size % groups, batchnorm_groups=groups)

    def _check_groups(self) -> None:
        groups = self.batchnorm_groups
        if groups > 1 and self.batch_size % groups:
            raise ValueError(
                f"batchnorm_groups: {groups} is not allowed: batch_size {self.batch_size} must be a multiple"
            )
        if groups > 1 and (self.compile or self.cuda_graph):
            field = "compile" if self.compile else "cuda_graph"
            raise ValueError(f"batchnorm_groups: {groups} is not allowed with {field}: true: must be 1")


EMBEDDING = Recipe(epochs=6, momentum=0.9, weight_decay=5e-4, schedule=Cosine(warmup=0.1))
"""How a watermark is embedded into a trained network, unless a recipe is written."""
