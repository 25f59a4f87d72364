"""Clean images and queries in one loss: what all watermarks by wrongly labelled queries share."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Annotated, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mwm.config.spec import Count, PositiveFloat, Shown, spec
from mwm.training.batchnorm import eval_statistics, frozen_running_stats
from mwm.training.step import Batch, Objective
from mwm.watermarks.queries import QuerySet
from mwm.watermarks.schemes.base import SchemeRecord

PredictFn = Callable[[Tensor], Tensor]
NumQueries = Annotated[Count, Shown("n={}", heading="n", always=True)]
QueriesPerStep = Annotated[Count | Literal["all"], Shown("{} per step", heading="per step")]


@spec
class TriggerSetScheme(SchemeRecord):
    """A watermark by wrongly labelled queries (Adi et al., 2018; Kim et al., 2023).

    Each step draws `queries_per_step` stored queries with replacement (or takes all), lets them `ascend`, and averages
    over the concatenation of the clean losses and `weight` times the query losses. The order of passes is the published
    one: clean batch, ascent, queries. Stored queries are never overwritten.
    """

    num_queries: NumQueries = 100
    weight: PositiveFloat = 1.0
    queries_per_step: QueriesPerStep = 1
    batchnorm: BatchNormMode = "reference"

    @property
    def cells(self) -> int:
        """One for each query."""
        return self.num_queries

    def perturb_batch(self, predict: PredictFn, images: Tensor, labels: Tensor) -> Tensor:
        """The queries (n c h w in [0, 1]) that a step teaches: unless a scheme moves them, as they are."""
        del predict, labels
        return images

    def perturbed_queries(self, model: nn.Module, queries: QuerySet) -> Tensor:
        """The whole query set as a step would teach it to a finished network (n c h w in [0, 1])."""
        with eval_statistics(model):
            return self.perturb_batch(model, queries.float_images, queries.labels)

    def objective(self, queries: QuerySet) -> Objective:
        """Mean over the clean losses and the weighted losses of the drawn queries."""
        pixels, assigned = queries.float_images, queries.labels

        def objective(model: nn.Module, batch: Batch, generator: torch.Generator) -> Tensor:
            images, labels = batch.images, batch.labels
            x, t = pixels, assigned
            if self.queries_per_step != "all":
                pick = torch.randint(len(queries), (self.queries_per_step,), generator=generator, device=x.device)
                x, t = x[pick], t[pick]
            if self.batchnorm == "joint":
                return self._joint_loss(model, images, labels, x=x, t=t)
            clean = F.cross_entropy(model(images), labels, reduction="none")
            with ASCENT[self.batchnorm](model):
                x = self.perturb_batch(model, x, t)
            with LOSS[self.batchnorm](model):
                query_loss = F.cross_entropy(model(x), t, reduction="none")
            return torch.cat([clean, self.weight * query_loss]).mean()

        return objective

    def _joint_loss(self, model: nn.Module, images: Tensor, labels: Tensor, *, x: Tensor, t: Tensor) -> Tensor:
        n = len(images)
        with frozen_running_stats(model):
            x = self.perturb_batch(lambda moved: model(torch.cat([images, moved]))[n:], x, t)
        losses = F.cross_entropy(model(torch.cat([images, x])), torch.cat([labels, t]), reduction="none")
        return torch.cat([losses[:n], self.weight * losses[n:]]).mean()


@spec
class TriggerSet(TriggerSetScheme):
    """Backdoor watermark by wrongly labelled queries, the baseline of Kim et al. (2023).

    One query a step, with full weight, in a pass of its own; with `queries_per_step: all` it is the usual trigger-set
    watermark (Adi et al., 2018).
    """

    kind: Literal["trigger_set"] = "trigger_set"


BatchNormMode = Literal["reference", "clean", "frozen", "joint"]
"""What queries do to batch normalisation in a step of training.

mode        ascent                                        loss of the queries
reference   own batch statistics, running ones updated    the same (the published code)
clean       own batch statistics, running ones untouched  the same
frozen      running statistics (evaluation mode)          own batch statistics, running ones untouched
joint       in one batch with the clean images, untouched in one batch with the clean images, updated once
"""


def _published(model: nn.Module) -> AbstractContextManager[None]:
    del model
    return nullcontext()


ASCENT = {"reference": _published, "clean": frozen_running_stats, "frozen": eval_statistics}

LOSS = {"reference": _published, "clean": frozen_running_stats, "frozen": frozen_running_stats}
