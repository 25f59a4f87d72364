"""What a training gives a watermark: steps, how often each query is shown, and when that is too little."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from mwm.data.splits import RoleCounts
from mwm.training.recipe import Recipe
from mwm.watermarks.schemes import Scheme

FEWEST_STEPS, ENOUGH_STEPS = 40, 200
"""With fewer steps hardly a fresh network took a watermark, whatever else it was; and enough of them: docs/log.md."""

LEAST_PULL, ENOUGH_PULL = 0.02, 0.04
"""With less pull on each query hardly a network that SGD trained took a watermark; and enough of it: docs/log.md."""

FEWEST_VISITS_ALONE = 100
"""A query that is shown alone is normalized by itself. With fewer visits no such network took one: docs/log.md."""

LARGEST_SHARE = 0.5
"""The share of the training images from which on what nobody trains on is warned of: not a measured bound."""


@dataclass(frozen=True, kw_only=True)
class TrainingPlan:
    """A training before it begins: who gets how many images, how many steps, how often each query is shown.

    `drawn` of `queries` are shown in a step; both are 0 where the network is taught on clean images alone. `cost` is
    what a step costs, in steps without a watermark, by passes through the network, forward or backward. `pull` is how
    far all steps together move the weights for a query, in units of its gradient: visits times weight times learning
    rate, over the size of a step's batch, before the schedule. None where that says nothing: without queries, and for
    Adam, whose steps do not grow with gradients.
    """

    counts: RoleCounts
    steps_per_epoch: int
    steps: int
    drawn: int
    queries: int
    cost: float
    pull: float | None

    @property
    def visits(self) -> float:
        """How often each query is shown in the whole training, on average."""
        return self.steps * self.drawn / self.queries if self.queries else 0.0


def plan_training(scheme: Scheme, recipe: Recipe, counts: RoleCounts) -> TrainingPlan:
    """The plan of a training by a recipe, of whose data each role gets `counts`."""
    shown: Any = scheme.parts()[0]
    queries, batch = shown.cells or 0, recipe.batch_size
    drawn = queries and (queries if shown.queries_per_step == "all" else shown.queries_per_step)
    # A pass forward, one back to the input, and one back to the weights; an ascent needs no gradients of weights.
    passes = 3 + 2 * getattr(shown, "steps", 0)
    steps = counts.owner // batch * recipe.epochs
    pull = None
    if queries and recipe.optimizer == "sgd" and recipe.momentum < 1:
        rate = recipe.lr / (1 - recipe.momentum)
        pull = steps * drawn / queries * shown.weight * rate / (batch + drawn)
    return TrainingPlan(
        counts=counts,
        steps_per_epoch=counts.owner // batch,
        steps=steps,
        drawn=drawn,
        queries=queries,
        cost=1 + drawn * passes / (3 * batch),
        pull=pull,
    )


def doubts(scheme: Scheme, plan: TrainingPlan, *, batch_norm: bool = True, trained: bool = False) -> Iterator[str]:
    """What hardly embeds a watermark in a network, in lines: the figures, the bound that was measured, a remedy.

    `batch_norm`: whether the network normalizes batches, as all of ours do. `trained`: it starts from weights; such
    networks took a watermark by less, so that only the lower bounds hold.
    """
    if scheme.kind == "none":
        return
    enough_steps, enough_pull = (FEWEST_STEPS, LEAST_PULL) if trained else (ENOUGH_STEPS, ENOUGH_PULL)
    total = sum(plan.counts)
    if (aside := total - plan.counts.owner) > LARGEST_SHARE * total:
        mend = "lower victim.split.queries, validation or disjoint"
        yield f"victim.split: {aside} of {total} training images are kept from the victim; {mend}"
    if plan.steps < enough_steps:
        how = "hardly embed a watermark" if plan.steps < FEWEST_STEPS else "may embed no watermark"
        took = f"it took {FEWEST_STEPS} to 160 on digits, and more on photographs"
        mend = "raise victim.recipe.epochs, lower its batch_size, or set fewer images aside"
        yield f"victim.recipe: {plan.steps} steps in all {how}: {took}; {mend}"
    elif batch_norm and _alone(scheme, plan):
        alone = f"each query is shown {plan.visits:g} times, and batch norm sees it alone each time"
        mend = "raise queries_per_step, or write batchnorm: joint"
        yield f"victim.scheme: {alone}, which hardly embeds a watermark; {mend}"
    elif plan.pull is not None and plan.pull < enough_pull:
        how = "hardly embeds a watermark" if plan.pull < LEAST_PULL else "may embed no watermark"
        factor = f"{ENOUGH_PULL / plan.pull:.2g} times as much"
        mend = f"raise epochs, queries_per_step or weight, or lower num_queries: {factor} all together"
        yield f"victim.scheme: each query is shown {plan.visits:g} times, which {how}; {mend}"


def _alone(scheme: Scheme, plan: TrainingPlan) -> bool:
    """Whether queries are shown seldom, and one at a time, in a pass of its own."""
    return plan.drawn == 1 and plan.visits < FEWEST_VISITS_ALONE and scheme.parts()[0].batchnorm != "joint"
