"""Clean images and queries in one loss: what all watermarks by wrongly labelled queries share."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Annotated, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mwm.config.spec import Count, PositiveFloat, PositiveShare, Shown, spec
from mwm.training.batchnorm import eval_statistics, frozen_running_stats
from mwm.training.perturbation import Losses
from mwm.training.step import Batch, Objective
from mwm.watermarks.queries import QuerySet
from mwm.watermarks.schemes.base import CleanLosses, SchemeRecord, plain_losses

NumQueries = Annotated[Count, Shown("n={}", heading="n", always=True)]
Mass = Annotated[PositiveShare, Shown("mass {}")]
QueriesPerStep = Annotated[Count | Literal["all"], Shown("{} per step", heading="per step")]


@spec
class TriggerSetScheme(SchemeRecord):
    """A watermark by wrongly labelled queries (Adi et al., 2018; Kim et al., 2023).

    Each step draws `queries_per_step` stored queries with replacement (or takes all), lets a scheme move them, and
    averages over the concatenation of the clean losses and `weight` times the query losses. The order of passes is the
    published one: clean batch, ascent, queries. Stored queries are never overwritten.

    A query is taught its secret label with the chance `mass` and its true one with the rest: 1 is the published way, by
    hard labels. Below about a half the network answers it rightly, and only its scores tell.
    """

    num_queries: NumQueries = 100
    weight: PositiveFloat = 1.0
    mass: Mass = 1.0
    queries_per_step: QueriesPerStep = 1
    batchnorm: BatchNormMode = "clean"

    @property
    def cells(self) -> int:
        """One for each query."""
        return self.num_queries

    def perturb_batch(self, losses: Losses, images: Tensor) -> Tensor:
        """The queries (n c h w in [0, 1]) that a step teaches: unless a scheme moves them by `losses`, as they are."""
        del losses
        return images

    def perturbed_queries(self, model: nn.Module, queries: QuerySet) -> Tensor:
        """The whole query set as a step would teach it to a finished network (n c h w in [0, 1])."""
        with eval_statistics(model):
            return self.perturb_batch(
                lambda x: self._losses(model(x), queries.labels, queries.truth), queries.float_images
            )

    def objective(self, queries: QuerySet, clean_losses: CleanLosses = plain_losses) -> Objective:
        """Mean over the clean losses and the weighted losses of the drawn queries."""
        pixels, assigned, true = queries.float_images, queries.labels, queries.truth

        def objective(model: nn.Module, batch: Batch, generator: torch.Generator) -> Tensor:
            x, t, y = pixels, assigned, true
            if self.queries_per_step != "all":
                pick = torch.randint(len(queries), (self.queries_per_step,), generator=generator, device=x.device)
                x, t, y = x[pick], t[pick], y[pick]
            total = len(batch.images) * batch.share.workers + len(x)
            x, t, y = batch.share.of(x), batch.share.of(t), batch.share.of(y)

            def losses(logits: Tensor) -> Tensor:
                return self._losses(logits, t, y)

            if self.batchnorm == "joint":
                together = self._joint_losses(model, batch, x, losses=losses, clean_losses=clean_losses)
                return batch.share.mean(together, total)
            clean = clean_losses(model(batch.images), batch)
            with ASCENT[self.batchnorm](model):
                x = self.perturb_batch(lambda moved: losses(model(moved)), x)
            with LOSS[self.batchnorm](model):
                query_loss = losses(model(x))
            return batch.share.mean(torch.cat([clean, self.weight * query_loss]), total)

        return objective

    def _losses(self, logits: Tensor, labels: Tensor, truth: Tensor) -> Tensor:
        """The cross-entropy of each query (n) against what it is taught."""
        secret = F.cross_entropy(logits, labels, reduction="none")
        if self.mass == 1:
            return secret
        return self.mass * secret + (1 - self.mass) * F.cross_entropy(logits, truth, reduction="none")

    def _joint_losses(
        self, model: nn.Module, batch: Batch, x: Tensor, *, losses: Losses, clean_losses: CleanLosses
    ) -> Tensor:
        n, images = len(batch.images), batch.images
        with frozen_running_stats(model):
            x = self.perturb_batch(lambda moved: losses(model(torch.cat([images, moved]))[n:]), x)
        logits = model(torch.cat([images, x]))
        clean = clean_losses(logits[:n], batch)
        return torch.cat([clean, self.weight * losses(logits[n:])])


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
