"""Active learning: the student says which images are worth a call."""

from __future__ import annotations

from typing import Annotated, Literal

import torch
from torch import Tensor, nn

from mwm.attacks.extraction.choosing import boundary_distances, entropy, k_center
from mwm.attacks.extraction.rounds import Known, Lot, RoundsAttack, random_order
from mwm.attacks.layers import penultimate_features
from mwm.config.spec import Count, Shown, spec
from mwm.data.host import Images, in_batches, select
from mwm.data.images import to_float
from mwm.training.evaluation import eval_batch_size, predict_logits

SEED_SHARE = 0.1
"""The share of the budget that is asked at random, unless a number is said."""


@spec
class ActiveLearning(RoundsAttack):
    """Ask for the images of which a student of the answers so far would learn most (ActiveThief; Pal et al., 2020).

    First `seed_images` at random, or a tenth of the budget; what is left in `rounds` lots, chosen by a `strategy`:
    `entropy`, where the student is most undecided; `k_center`, what is farthest from all that was asked; `dfal`, what
    is nearest to a boundary, by DeepFool (Ducoffe and Precioso, 2018); `dfal_k_center`, the farthest of as many of
    those as the budget has calls; `random`, the same images as without a choice.

    `k_center` measures distances in a `space`: the student's `probabilities`, as published, or `features`, what its
    last layer is given, or `pixels`, for which no answer is needed. With `candidates` it chooses among so many images,
    drawn anew each time, and not among all.
    """

    kind: Literal["active_learning"] = "active_learning"
    strategy: Annotated[Literal["entropy", "k_center", "dfal", "dfal_k_center", "random"], Shown(always=True)] = (
        "entropy"
    )
    space: Annotated[Literal["probabilities", "features", "pixels"], Shown("in {}")] = "probabilities"
    seed_images: Annotated[Count | None, Shown("{} at random")] = None
    rounds: Annotated[Count, Shown("{} rounds")] = 10
    candidates: Annotated[Count | None, Shown("among {}")] = None

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check_below_budget("seed_images", self._seeds)
        if self.space != "probabilities" and not self.strategy.endswith("k_center"):
            raise ValueError(f"space: {self.space!r} is not allowed: {self.strategy} measures no distances in a space")
        largest = self.lots()[1]
        if self.candidates is not None and (self.strategy == "random" or self.candidates < largest):
            reason = "a random choice is among all" if self.strategy == "random" else f"a round asks {largest} images"
            raise ValueError(f"candidates: {self.candidates} is not allowed: {reason}")

    def lots(self) -> list[int]:
        """The random images, then as many in each round; fewer in the last."""
        seeds, budget = self._seeds, self.query_budget
        step = -(-(budget - seeds) // self.rounds)
        return [seeds, *(min(step, budget - done) for done in range(seeds, budget, step))]

    @property
    def _seeds(self) -> int:
        return self.seed_images or max(1, round(SEED_SHARE * self.query_budget))

    def choose(self, size: int, known: Known) -> Lot:
        """Images that were not asked, by the strategy."""
        if known.student is None or self.strategy == "random":
            return Lot(random_order(known.access)[len(known.asked) :][:size])
        rows = self._candidates(known)
        if self.strategy == "entropy":
            undecided = entropy(predict_logits(known.student, select(known.pool, rows)))
            return Lot(rows[undecided.argsort(descending=True, stable=True)[:size]])
        if self.strategy.startswith("dfal"):
            near = boundary_distances(known.student, select(known.pool, rows)).argsort(stable=True)
            rows = rows[near[: size if self.strategy == "dfal" else self.query_budget]]
        if self.strategy.endswith("k_center"):
            points, centers = (
                self._points(select(known.pool, some), known.student) for some in (rows, known.asked.rows)
            )
            rows = rows[k_center(points, centers, size)]
        return Lot(rows)

    def _candidates(self, known: Known) -> Tensor:
        rows = known.unasked()
        if self.candidates is None:
            return rows
        some = torch.randperm(len(rows), generator=known.generator("candidates"))[: self.candidates]
        return rows[some.to(rows.device)]

    def _points(self, images: Images, student: nn.Module) -> Tensor:
        """Where images are (n d), for those who measure distances."""
        if self.space == "probabilities":
            return predict_logits(student, images).softmax(1)
        if self.space == "features":
            return penultimate_features(student, images)
        return torch.cat([to_float(batch).flatten(1) for batch in in_batches(images, eval_batch_size(images))])
