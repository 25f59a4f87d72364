"""Two watermarks in one network: wrongly labelled queries, and keyed confusion."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, Any, Literal

from torch import Tensor, nn

from mwm.config.spec import DISCRIMINATED, Shown, spec
from mwm.data.images import Augmentation
from mwm.data.splits import LabeledImages
from mwm.training.step import Objective
from mwm.watermarks.partition import leave_out
from mwm.watermarks.queries import QuerySet, chosen_rows
from mwm.watermarks.schemes.base import SchemeRecord
from mwm.watermarks.schemes.confusion import Confusion
from mwm.watermarks.schemes.margin import Margin
from mwm.watermarks.schemes.trigger_set import TriggerSet
from mwm.watermarks.secret import second_secret


@spec
class Combined(SchemeRecord):
    """Queries and keyed confusion side by side, each with a key of its own.

    Each step teaches the clean batch as `confusion` says, and queries as `queries` says. The first key is the one that
    `queries` alone would have. The second has a secret that is derived from the owner's, so that its labels are
    independent, and the query images that the first one leaves. A copy is proven by the least p-value of all tests of
    both keys, times their number (Bonferroni).
    """

    kind: Literal["combined"] = "combined"
    queries: Annotated[TriggerSet | Margin, *DISCRIMINATED, Shown(always=True)] = Margin()
    confusion: Annotated[Confusion, Shown("+ {}", always=True)] = Confusion()

    @property
    def cells(self) -> int:
        """Those of its first key, one for each query."""
        return self.queries.cells

    def parts(self) -> tuple[TriggerSet | Margin, Confusion]:
        """The scheme of the first key, and that of the second."""
        return (self.queries, self.confusion)

    def draw(self, source: LabeledImages, *, classes: int, augmentation: Augmentation, secret: bytes) -> QuerySet:
        """The first key, with the second one beside; no image is in both."""
        shown: dict[str, Any] = {"classes": classes, "augmentation": augmentation}
        first = self.queries.draw(source, secret=secret, **shown)
        rest = leave_out(source, chosen_rows(secret, len(source), self.cells))
        return replace(first, second=self.confusion.draw(rest, secret=second_secret(secret), **shown))

    def objective(self, queries: QuerySet) -> Objective:
        """Mean over the losses of clean images against mixed targets, and the weighted losses of the drawn queries."""
        assert queries.second is not None, "the second key says what clean images are taught"
        return self.queries.objective(queries, self.confusion.clean_losses(queries.second))

    def perturbed_queries(self, model: nn.Module, queries: QuerySet) -> Tensor:
        """The images of the first key as a step of training shows them."""
        return self.queries.perturbed_queries(model, queries)
