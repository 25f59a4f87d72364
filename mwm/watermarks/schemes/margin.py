"""The margin watermark: queries are taught after they were pushed towards their boundary."""

from __future__ import annotations

from typing import Literal

from torch import Tensor

from mwm.config.spec import Count, Positive, spec
from mwm.training.perturbation import climb
from mwm.watermarks.schemes.trigger_set import Marked, Predict


@spec
class Margin(Marked):
    """Margin-based watermark (Kim et al., 2023); the defaults are the published ones.

    Every step moves the drawn queries by `steps` of `step_size` (image units, so 1/255 is one grey level) up the loss
    of their labels and then lowers that loss, with `weight`, so that the boundary retreats from them.
    """

    kind: Literal["margin"] = "margin"
    step_size: Positive = 1 / 255
    steps: Count = 5
    weight: Positive = 0.1
    queries_per_step: Count | Literal["all"] = 25

    def __post_init__(self) -> None:
        if self.step_size > 1:
            raise ValueError(f"step_size {self.step_size} is not allowed: images are in [0, 1]; write k/255")

    def ascend(self, predict: Predict, images: Tensor, labels: Tensor) -> Tensor:
        """The queries after `steps` moves up the loss of their labels."""
        return climb(predict, images, labels, step_size=self.step_size, steps=self.steps)
