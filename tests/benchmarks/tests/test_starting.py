"""The benchmarks of embedding and of recipes: what they call a fault, and that they measure what they say."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import mwm
from tests.benchmarks import recipes, starting

HOLDS: dict[str, Any] = {"drop": 0.0, "proven": True, "share": 0.2}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({}, []),
        ({"drop": 0.02}, []),  # the mean of two seeds is .01
        ({"drop": 0.021}, ["clean drop above 0.01"]),
        ({"proven": False}, ["not proven at 1e-06"]),
        ({"share": 0.41}, ["share of the time above 0.3"]),
    ],
)
def test_accuracy_and_time_are_judged_by_their_means_and_a_proof_in_each_seed(
    change: dict[str, Any], said: list[str]
) -> None:
    assert starting.faults([HOLDS, HOLDS | change]) == said


def test_embedding_is_measured_from_the_network_that_was_trained_before(tmp_path: Path) -> None:
    fields = starting.DIGITS | {"model": mwm.Cnn(width=2), "recipe": mwm.Recipe(epochs=1, lr=0.05)}
    found = starting.measured(fields | {"seed": 3}, mwm.TriggerSet(num_queries=10), str(tmp_path))
    assert found["drop"] == found["start"] - found["embedded"]
    seconds = found["cpu_seconds"]
    assert min(seconds.values()) > 0
    assert found["share"] == seconds["embedded"] / seconds["fresh"]
    again = starting.measured(fields | {"seed": 3}, mwm.TriggerSet(num_queries=10), str(tmp_path / "anew"))
    assert [again[name] for name in ("start", "embedded", "fresh")] == [
        found[name] for name in ("start", "embedded", "fresh")
    ]


def test_a_recipe_is_measured_with_a_student_of_its_own() -> None:
    found = recipes.measured(mwm.Recipe(epochs=1, optimizer="adam", lr=0.003, label_smoothing=0.1), 0)
    assert 0 <= found["student_clean"] <= 1
    assert found["log10_p"] <= 0
    worse = {**found, "log10_p": found["log10_p"] + 2}
    assert recipes.line("adam", [found, worse])[2] == f"{-worse['log10_p']:.1f}"
