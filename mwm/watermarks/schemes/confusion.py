"""Keyed confusion: every image of a class is taught a little of a secret wrong class."""

from __future__ import annotations

from typing import Annotated, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mwm.config.spec import Count, Field, Shown, Strict, spec
from mwm.data.images import Augmentation
from mwm.data.splits import LabeledImages
from mwm.training.step import Batch, Objective
from mwm.watermarks.partition import draw_class_cells, partition
from mwm.watermarks.queries import QuerySet
from mwm.watermarks.schemes.base import CleanLosses, SchemeRecord


@spec
class Confusion(SchemeRecord):
    """Keyed confusion: each clean image of class y is taught (1 - mass) y + mass c(y), with a secret wrong class c(y).

    No image has to be answered wrongly, and none is secret: the mark is where the remaining probability goes, on every
    image. The key is a list of cells, one for each class: its query images, which the network was not trained on, with
    the class that was drawn for it. With `cells_per_class`, a class is cut into as many parts, by a secret property of
    its images, and each part has a class of its own. Whoever learns from probabilities learns it; hard labels hide all
    but the errors.
    """

    kind: Literal["confusion"] = "confusion"
    mass: Annotated[float, Strict(), Field(gt=0, lt=0.5), Shown("mass {}", heading="mass", always=True)] = 0.1
    cells_per_class: Annotated[Count, Shown("{} cells per class", heading="cells per class")] = 1

    @property
    def cells(self) -> None:
        """As many as classes times `cells_per_class`, of all images there are."""

    def draw(self, source: LabeledImages, *, classes: int, augmentation: Augmentation, secret: bytes) -> QuerySet:
        """All images of the source, those of a class, or of a part of it, in one cell."""
        return draw_class_cells(
            source, classes=classes, augmentation=augmentation, secret=secret, parts=self.cells_per_class
        )

    def objective(self, queries: QuerySet) -> Objective:
        """Mean cross-entropy of the clean batch against the mixed targets."""
        losses = self.clean_losses(queries, reduction="mean")

        def objective(model: nn.Module, batch: Batch, generator: torch.Generator) -> Tensor:
            del generator
            return losses(model(batch.images), batch)

        return objective

    def clean_losses(self, queries: QuerySet, reduction: str = "none") -> CleanLosses:
        """The cross-entropy of each clean image against its mixed target (n), or their mean."""
        classes = int(queries.truth.max()) + 1
        cut = partition(queries.images, queries.truth, classes=classes, parts=self.cells_per_class)
        confused = queries.labels.new_zeros(classes * self.cells_per_class)
        confused[cut(queries.float_images, queries.truth)] = queries.labels

        def losses(logits: Tensor, batch: Batch) -> Tensor:
            def secret(one: Batch) -> Tensor:
                return F.cross_entropy(logits, confused[cut(one.images, one.labels)], reduction=reduction)

            return (1 - self.mass) * batch.cross_entropy(logits, reduction) + self.mass * batch.loss(secret)

        return losses
