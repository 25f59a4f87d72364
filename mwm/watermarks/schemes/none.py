"""No watermark: the control."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from mwm.config.spec import spec
from mwm.training.step import Batch, Objective
from mwm.watermarks.queries import QuerySet
from mwm.watermarks.schemes.base import SchemeRecord


@spec
class Unwatermarked(SchemeRecord):
    """Plain training: the control with which watermarked victims of the same seed are compared.

    One network is compared with keys of every size: it is scored on all query images of its split, in the order in
    which a key draws them, so that a smaller key is the beginning.
    """

    kind: Literal["none"] = "none"

    @property
    def cells(self) -> None:
        """As many as there are images."""

    def objective(self, queries: QuerySet) -> Objective:
        """Mean cross-entropy of the clean batch."""
        del queries
        return clean_loss


def clean_loss(model: nn.Module, batch: Batch, generator: torch.Generator) -> Tensor:
    """Mean cross-entropy; draws nothing from the generator."""
    del generator
    return batch.cross_entropy(model(batch.images))
