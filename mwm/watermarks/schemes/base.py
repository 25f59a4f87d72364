"""What every scheme says of itself: which queries it draws, how it embeds them, which test its labels allow."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, ClassVar

from torch import Tensor, nn

from mwm.config.spec import spec
from mwm.data.images import Augmentation
from mwm.data.splits import LabeledImages
from mwm.training.step import Batch, Objective
from mwm.watermarks.queries import Null, QuerySet, draw_queries

CleanLosses = Callable[[Tensor, Batch], Tensor]
"""(logits n C of the clean images, their batch) -> the loss of each (n)."""


def plain_losses(logits: Tensor, batch: Batch) -> Tensor:
    """The cross-entropy of each clean image (n)."""
    return batch.cross_entropy(logits, reduction="none")


@spec
class SchemeRecord(ABC):
    """A scheme: a record that a line of YAML fills. A new kind is a subclass in a file of its own."""

    null: ClassVar[Null] = "uniform_wrong_labels"

    def parts(self) -> tuple[Any, ...]:
        """The schemes that it consists of, one for each of its keys: a scheme with one key is its own part."""
        return (self,)

    @property
    @abstractmethod
    def cells(self) -> int | None:
        """How many cells its key has; None for as many as there are images to draw from."""

    def draw(self, source: LabeledImages, *, classes: int, augmentation: Augmentation, secret: bytes) -> QuerySet:
        """The query set of a secret: one wrongly labelled image a cell, unless a scheme says otherwise."""
        num = len(source) if self.cells is None else self.cells
        return draw_queries(source, num=num, classes=classes, augmentation=augmentation, secret=secret)

    @abstractmethod
    def objective(self, queries: QuerySet) -> Objective:
        """The loss of a step of training that embeds the queries."""

    def perturbed_queries(self, model: nn.Module, queries: QuerySet) -> Tensor:
        """The queries as a step of training shows them (n c h w in [0, 1]): as they are, unless a scheme moves them."""
        del model
        return queries.float_images
