"""No watermark: the control."""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mwm.config.spec import Count, spec
from mwm.training.step import Objective
from mwm.watermarks.queries import QuerySet


@spec
class Unwatermarked:
    """Plain training. Its query set is never trained on: the control is scored on the same queries as the others."""

    kind: Literal["none"] = "none"
    num_queries: Count = 100

    def objective(self, queries: QuerySet) -> Objective:
        """Mean cross-entropy of the clean batch."""
        del queries
        return clean_loss

    def perturbed_queries(self, model: nn.Module, queries: QuerySet) -> Tensor:
        """The queries as a step of training would show them (n c h w in [0, 1]): as they are."""
        del model
        return queries.float_images


def clean_loss(model: nn.Module, images: Tensor, labels: Tensor, generator: torch.Generator) -> Tensor:
    """Mean cross-entropy; draws nothing from the generator."""
    del generator
    return F.cross_entropy(model(images), labels)
