"""What may be said of a training: schedules against tables, the published defaults, wrong values."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mwm.config.spec import decode
from mwm.training.recipe import CONSTANT, Cosine, MultiStep, PaperSchedule, Recipe, Schedule

TABLES: list[tuple[Schedule, int, list[tuple[float, float]]]] = [
    (PaperSchedule(), 200, [(0, 1), (99.99, 1), (100, 0.1), (149.99, 0.1), (150, 0.01), (199.99, 0.01)]),
    (PaperSchedule(), 3, [(0, 1), (1.4, 1), (1.5, 0.1), (2.2, 0.1), (2.25, 0.01), (2.9, 0.01)]),
    (PaperSchedule(), 1, [(0, 1), (0.49, 1), (0.5, 0.1), (0.75, 0.01)]),
    (MultiStep(), 200, [(0, 1), (99.99, 1), (100, 0.1), (149.99, 0.1), (150, 0.01), (199, 0.01)]),
    (MultiStep(milestones=(2, 3, 5), factor=0.5), 4, [(0, 1), (1.9, 1), (2, 0.5), (3, 0.25), (3.9, 0.25)]),
    (CONSTANT, 90, [(0, 1), (19.9, 1), (20, 1), (89, 1)]),
    (Cosine(), 8, [(0, 1), (2, 0.853553391), (4, 0.5), (6, 0.146446609), (8, 0)]),
    (Cosine(warmup=0.2), 10, [(0, 0), (0.5, 0.25), (1, 0.5), (2, 1), (4, 0.853553391), (6, 0.5), (10, 0)]),
    (Cosine(warmup=1.0), 4, [(0, 0), (1, 0.25), (3.9, 0.975)]),
]


@pytest.mark.parametrize(("schedule", "epochs", "table"), TABLES, ids=str)
def test_schedules_follow_their_tables(schedule: Any, epochs: int, table: list[tuple[float, float]]) -> None:
    found = [schedule.lr_factor(epoch, epochs) for epoch, _ in table]
    assert found == pytest.approx([rate for _, rate in table], abs=1e-9)


@pytest.mark.parametrize("batches", [382, 563])
def test_the_paper_schedule_is_the_published_one_batch_by_batch(batches: int) -> None:
    """The published code interpolates between its milestones, at the end of each batch, for 200 epochs."""
    schedule = PaperSchedule()
    ends = [epoch + (batch + 1) / batches for epoch in range(200) for batch in range(batches)]
    published = np.interp(ends, [0, 100, 100, 150, 150, 200], [0.1, 0.1, 0.01, 0.01, 0.001, 0.001])
    ours = np.array([0.1 * schedule.lr_factor(end, 200) for end in ends])
    assert schedule.at_batch_end
    assert np.array_equal(ours.astype(np.float32), published.astype(np.float32))
    assert np.flatnonzero(np.diff(ours)).tolist() == [100 * batches - 2, 150 * batches - 2]


@given(st.floats(0, 0.9), st.integers(1, 300))
def test_a_cosine_rises_then_falls_between_zero_and_one(warmup: float, epochs: int) -> None:
    rates = [Cosine(warmup=warmup).lr_factor(epochs * i / 60, epochs) for i in range(61)]
    top = max(range(61), key=rates.__getitem__)
    assert all(0 <= rate <= 1 for rate in rates)
    assert all(a <= b + 1e-12 for a, b in pairwise(rates[: top + 1]))
    assert all(a >= b - 1e-12 for a, b in pairwise(rates[top:]))
    assert rates[-1] == pytest.approx(0, abs=1e-12)


def test_the_defaults_are_the_published_recipe() -> None:
    recipe = Recipe()
    assert (recipe.epochs, recipe.batch_size, recipe.lr, recipe.momentum) == (200, 128, 0.1, 0.0)
    assert (recipe.weight_decay, recipe.schedule, recipe.keep) == (1e-4, PaperSchedule(), "last")
    assert (recipe.nesterov, recipe.bf16, recipe.compile, recipe.cuda_graph) == (False,) * 4
    assert not recipe.augment_validation


@pytest.mark.parametrize(
    ("tree", "words"),
    [
        ({"nesterov": True}, r"recipe.nesterov: true needs a momentum above 0"),
        ({"lr": 0}, r"recipe\.lr: 0 is not allowed"),
        ({"epochs": 0}, r"recipe\.epochs: 0 is not allowed"),
        ({"keep": "best"}, r"recipe\.keep: 'best' is not allowed"),
        ({"schedule": {"kind": "cosine", "warmup": 1.5}}, r"recipe\.schedule\.warmup: 1.5 is not allowed"),
        ({"schedule": "linear"}, r"kind 'linear' is unknown; allowed: 'multistep', 'paper', 'cosine'"),
        ({"epoch": 3}, r"recipe\.epoch: unknown key \(did you mean 'epochs'\?\)"),
    ],
)
def test_wrong_values_are_refused(tree: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        decode(Recipe, tree, "recipe")


@given(st.integers(1, 40), st.integers(1, 12), st.integers(1, 60))
def test_batches_are_filled_by_few_images_in_whole_groups(times: int, groups: int, images: int) -> None:
    recipe = Recipe(batch_size=times * groups, batchnorm_groups=groups)
    found = recipe.filled_by(images)
    assert 1 <= found.batch_size <= min(images, recipe.batch_size)
    assert found.batch_size % found.batchnorm_groups == 0
    assert found.batchnorm_groups == (groups if images >= groups else 1)
    assert found.batch_size > min(images, recipe.batch_size) - found.batchnorm_groups, "no group more fits"
    assert (found == recipe) == (images >= recipe.batch_size)
