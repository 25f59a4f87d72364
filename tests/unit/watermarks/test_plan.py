"""Plans of trainings: their numbers are those of a training that is run, and what may embed no watermark is doubted."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mwm.config.spec import decode
from mwm.data.images import Augmentation
from mwm.data.splits import LabeledImages, RoleCounts, SplitSizes
from mwm.training.loop import fit
from mwm.training.recipe import Recipe
from mwm.training.state import TrainState
from mwm.watermarks.plan import ENOUGH_PULL, ENOUGH_STEPS, FEWEST_STEPS, LEAST_PULL, doubts, plan_training
from mwm.watermarks.queries import QuerySet
from mwm.watermarks.schemes import Combined, Confusion, Margin, Scheme, TriggerSet, Unwatermarked
from tests.unit.watermarks.schemes.cases import CASES


def counts(owner: int, aside: int = 0) -> RoleCounts:
    return RoleCounts(queries=aside, validation=0, disjoint=0, owner=owner)


class Watched(torch.nn.Module):
    """A network that counts the images that it is shown in training, and which of the queries they are."""

    def __init__(self, queries: QuerySet) -> None:
        super().__init__()
        self.weight, self.images, self.queries = torch.nn.Parameter(torch.zeros(3, 4)), 0, queries
        self.visits: Counter[int] = Counter()

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        if self.training:
            self.images += len(images)
            for number, query in enumerate(self.queries.float_images):
                self.visits[number] += int((images == query).flatten(1).all(1).sum())
        return images.flatten(1) @ self.weight.T


@pytest.mark.parametrize(("drawn", "shown"), [(2, 2), ("all", 5)])
def test_a_plan_is_what_a_training_does(drawn: Any, shown: int) -> None:
    chance = torch.Generator().manual_seed(0)
    images = torch.randint(256, (50, 1, 2, 2), generator=chance, dtype=torch.uint8)
    part, held = LabeledImages(images[:45], torch.arange(45) % 3), images[45:]
    queries = QuerySet(held, torch.arange(5) % 3, (torch.arange(5) + 1) % 3)
    recipe, scheme = Recipe(epochs=7, batch_size=8), TriggerSet(num_queries=5, queries_per_step=drawn)
    network = Watched(queries)
    how: dict[str, Any] = {"augmentation": Augmentation(), "seed": 0, "validation": part}
    rows = [*fit(TrainState(network, recipe), part, scheme.objective(queries), **how)]
    plan = plan_training(scheme, recipe, counts(45))
    assert (plan.steps_per_epoch, plan.steps, len(rows)) == (5, 35, 7)
    assert network.images == plan.steps * (8 + shown)
    assert sum(network.visits.values()) == plan.visits * 5
    assert plan.drawn == shown


def test_an_ascent_costs_its_passes() -> None:
    recipe = Recipe(batch_size=128)
    assert plan_training(Unwatermarked(), recipe, counts(1280)).cost == 1
    assert plan_training(Confusion(), recipe, counts(1280)).cost == 1
    assert plan_training(TriggerSet(queries_per_step=128, num_queries=200), recipe, counts(1280)).cost == 2
    margin = plan_training(Margin(queries_per_step=96, steps=5), recipe, counts(1280))
    assert margin.cost == pytest.approx(1 + 96 * (3 + 2 * 5) / (3 * 128))


@given(
    epochs=st.integers(1, 500),
    batch=st.integers(1, 300),
    lr=st.floats(1e-4, 1),
    momentum=st.floats(0, 0.99),
    weight=st.floats(0.01, 4),
    drawn=st.integers(1, 50),
)
@settings(max_examples=60)
def test_the_pull_is_what_steps_add_up_to(
    epochs: int, batch: int, lr: float, momentum: float, weight: float, drawn: int
) -> None:
    recipe = Recipe(epochs=epochs, batch_size=batch, lr=lr, momentum=momentum)
    plan = plan_training(Margin(num_queries=50, weight=weight, queries_per_step=drawn), recipe, counts(900))
    steps = 900 // batch * epochs
    velocity = moved = 0.0
    for _ in range(2000):  # a constant gradient of one query, drawn with its chance, through momentum
        velocity = momentum * velocity + drawn / 50 * weight / (batch + drawn)
        moved = lr * velocity
    assert plan.pull == pytest.approx(steps * moved, rel=1e-6)


@pytest.mark.parametrize("scheme", CASES, ids=lambda scheme: scheme.kind)
def test_every_scheme_has_a_plan(scheme: Scheme) -> None:
    plan = plan_training(scheme, Recipe(epochs=100), counts(1280, aside=100))
    assert (plan.steps, plan.queries) == (1000, scheme.cells or 0)
    assert (plan.pull is None) == (scheme.cells is None)
    assert (plan.visits > 0) == bool(scheme.cells)
    few = plan_training(scheme, Recipe(epochs=1), counts(1280))
    assert bool([*doubts(scheme, few)]) == (scheme.kind != "none")


def test_adam_has_no_pull() -> None:
    assert plan_training(Margin(), Recipe(optimizer="adam", lr=1e-3), counts(1280)).pull is None
    assert plan_training(Margin(), Recipe(momentum=1.0), counts(1280)).pull is None


def told(scheme: Any, recipe: dict[str, Any], sizes: RoleCounts) -> list[str]:
    made: Scheme = decode(Scheme, scheme)
    return [*doubts(made, plan_training(made, Recipe(**recipe), sizes))]


def test_the_published_recipe_is_not_doubted_on_the_data_of_the_paper() -> None:
    for scheme in ("margin", "confusion"):
        assert told(scheme, {}, SplitSizes().counts(50_000)) == []


def test_too_few_steps_are_doubted() -> None:
    took = "it took 40 to 160 on digits, and more on photographs; raise victim.recipe.epochs, lower its batch_size, or"
    for steps, how in ((FEWEST_STEPS - 1, "hardly embed a watermark"), (FEWEST_STEPS, "may embed no watermark")):
        (line,) = told("confusion", {"epochs": 1}, counts(128 * steps))
        assert line == f"victim.recipe: {steps} steps in all {how}: {took} set fewer images aside"
    assert told("confusion", {"epochs": 1}, counts(128 * ENOUGH_STEPS)) == []
    assert told("confusion", {"epochs": 1}, counts(128 * ENOUGH_STEPS - 1)) != []


def test_a_query_that_batch_norm_sees_alone_is_doubted() -> None:
    recipe: dict[str, Any] = {"epochs": 64, "momentum": 0.9}
    sizes, few = counts(1280), {"kind": "trigger_set", "num_queries": 10}
    (line,) = told(few, recipe, sizes)
    assert line == (
        "victim.scheme: each query is shown 64 times, and batch norm sees it alone each time, which hardly embeds a "
        "watermark; raise queries_per_step, or write batchnorm: joint"
    )
    for change in ({"batchnorm": "joint"}, {"queries_per_step": 2}):
        assert told(few | change, recipe, sizes) == []
    assert told(few, recipe | {"epochs": 100}, sizes) == []
    scheme: Scheme = decode(Scheme, few)
    plan = plan_training(scheme, Recipe(**recipe), sizes)
    assert [*doubts(scheme, plan, batch_norm=False)] == [], "a network without it"


def test_too_little_pull_is_doubted_and_the_remedy_mends_it() -> None:
    recipe: dict[str, Any] = {"epochs": 20}
    sizes = counts(1280)
    (line,) = told("margin", recipe, sizes)
    plan = plan_training(Margin(), Recipe(**recipe), sizes)
    assert plan.pull is not None
    factor = ENOUGH_PULL / plan.pull
    assert line.startswith("victim.scheme: each query is shown 50 times, which hardly embeds a watermark; raise epochs")
    assert line.endswith(f" {factor:.2g} times as much all together")
    assert told({"kind": "margin", "weight": 0.1 * factor * 1.001}, recipe, sizes) == []
    (line,) = told({"kind": "margin", "weight": 0.1 * factor * 0.999}, recipe, sizes)
    assert "shown 50 times, which may embed no watermark; " in line
    (line,) = told({"kind": "margin", "weight": 0.1 * LEAST_PULL / plan.pull * 0.999}, recipe, sizes)
    assert "shown 50 times, which hardly embeds a watermark; " in line


def test_a_victim_with_less_than_half_of_the_images_is_told() -> None:
    recipe = {"epochs": 500, "momentum": 0.9}
    (line,) = told("margin", recipe, counts(600, aside=601))
    assert line.startswith("victim.split: 601 of 1201 training images are kept from the victim; lower victim.split.q")
    assert told("margin", recipe, counts(600, aside=600)) == []
    assert told("none", {"epochs": 1}, counts(130, aside=900)) == []


def test_the_first_key_of_two_counts() -> None:
    both = plan_training(Combined(queries=Margin(num_queries=20)), Recipe(), counts(1280))
    assert both == plan_training(Margin(num_queries=20), Recipe(), counts(1280))
