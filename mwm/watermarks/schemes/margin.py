"""The margin watermark: queries are taught after they were pushed towards their boundary."""

from __future__ import annotations

from typing import Annotated, Literal

from torch import Tensor

from mwm.config.spec import Count, PositiveFloat, Shown, spec
from mwm.training.perturbation import Losses, ascend
from mwm.watermarks.schemes.trigger_set import QueriesPerStep, TriggerSetScheme


@spec
class Margin(TriggerSetScheme):
    """Margin-based watermark (Kim et al., 2023); the defaults are the published ones.

    Every step moves the drawn queries by `steps` of `step_size` (image units, so 1/255 is one grey level) up the loss
    of their labels and then lowers that loss, with `weight`, so that the boundary retreats from them.
    """

    kind: Literal["margin"] = "margin"
    step_size: Annotated[PositiveFloat, Shown(heading="step size", always=True, fraction=255)] = 1 / 255
    steps: Count = 5
    weight: PositiveFloat = 0.1
    queries_per_step: QueriesPerStep = 25

    def __post_init__(self) -> None:
        if self.step_size > 1:
            raise ValueError(f"step_size {self.step_size} is not allowed: images are in [0, 1]; write k/255")

    def perturb_batch(self, losses: Losses, images: Tensor) -> Tensor:
        """The queries after `steps` moves up their losses."""
        return ascend(losses, images, step_size=self.step_size, steps=self.steps)
