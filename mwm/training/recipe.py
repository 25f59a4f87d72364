"""How a network is trained: what a user may say of it."""

from __future__ import annotations

import math
from typing import Annotated, ClassVar, Literal

from mwm.config.spec import DISCRIMINATED, Count, NonNegativeFloat, PositiveFloat, Share, StrictBool, spec


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

    `keep: best_validation` keeps the epoch of best validation accuracy, of equals the last. With `augment_validation`
    validation images are shown augmented, anew in each epoch, as training images are.

    The last block is about speed. `compile` compiles the network, which takes a minute and a C++ compiler; `cuda_graph`
    replays each step as one launch, on a GPU only; `deterministic` has a GPU compute the same bits each time.
    """

    epochs: Count = 200
    batch_size: Count = 128
    lr: PositiveFloat = 0.1
    momentum: Share = 0.0
    nesterov: StrictBool = False
    weight_decay: NonNegativeFloat = 1e-4
    schedule: Schedule = PaperSchedule()
    keep: Literal["last", "best_validation"] = "last"
    augment_validation: StrictBool = False
    bf16: StrictBool = False
    channels_last: StrictBool = True
    compile: StrictBool = False
    cuda_graph: StrictBool = False
    deterministic: StrictBool = False

    def __post_init__(self) -> None:
        if self.nesterov and self.momentum == 0:
            raise ValueError("nesterov: true needs a momentum above 0")
