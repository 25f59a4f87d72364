"""What a sweep's victims will be given, in lines."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from mwm.config.spec import decode
from mwm.data.datasets import Dataset, Digits
from mwm.runner.sweeps.plan import plan_lines, plan_warnings
from mwm.runner.sweeps.sweep import TrialResources
from mwm.trials.trial import TrialInputs, Victim, data_key

MINE = {"data": "digits", "model": {"kind": "cnn", "width": 2, "depth": 1}, "scheme": "margin"}
ON_GPU = TrialResources(gpus=1.0)


def inputs(images: int = 2000, classes: int = 4) -> TrialInputs:
    """Data under the name of the digits: each class as often as any other."""
    drawn = np.random.default_rng(0).integers(0, 256, (images, 1, 8, 8), dtype=np.uint8)
    labels = np.arange(images) % classes
    dataset = Dataset(drawn, labels, drawn[:40], labels[:40], classes=classes, digest="d")
    return TrialInputs({data_key(Digits()): dataset})


def victim(**changes: Any) -> Victim:
    made: Victim = decode(Victim, MINE | changes)
    return made


def test_who_gets_what_is_told_by_role_and_class() -> None:
    first, *lines = plan_lines([victim(split={"validation": 40, "disjoint": 0.25})], inputs(), ON_GPU)
    assert first == "victim.split: of 2000 training images"
    roles = {line.split(":")[0].strip(): line for line in lines if line.startswith("  ") and "by class" in line}
    assert [*roles] == ["queries", "validation", "disjoint", "owner", "test"]
    assert roles["queries"].startswith("  queries: 200, by default a tenth and 500 at most; by class ")
    assert roles["validation"].startswith("  validation: 40; by class ")
    assert roles["owner"].startswith("  owner: 1320; by class ")
    assert roles["test"] == "  test: 40; by class 10, 10, 10, 10"
    for line in roles.values():
        total, held = re.findall(r": (\d+)", line)[0], line.rpartition("by class ")[2].split(", ")
        assert sum(map(int, held)) == int(total)


def test_many_classes_are_told_by_their_range() -> None:
    lines = plan_lines([victim()], inputs(classes=20), ON_GPU)
    assert "  test: 40; 2 to 2 of each class" in lines
    assert not [line for line in lines if "disjoint" in line], "nobody has such images"


def test_steps_visits_and_defaults_are_told() -> None:
    lines = plan_lines([victim(recipe={"epochs": 40})], inputs(), ON_GPU)
    assert "victim.recipe: 12 steps an epoch, of 128 (default) images each; 480 steps in 40 epochs" in lines
    shown = "a step shows 25 (default) of 100 (default) queries, each is shown 120 times"
    cost = "a step costs 1.85 plain ones; the time on a GPU is not estimated"
    assert lines[-1] == f"  margin n=100 1/255: {shown}; {cost}"
    lines = plan_lines([victim(scheme="confusion")], inputs(), ON_GPU)
    assert "victim.recipe: 12 steps an epoch, of 128 (default) images each; 2400 steps in 200 (default) epochs" in lines
    assert lines[-1] == "  confusion mass 0.1: plain steps; the time on a GPU is not estimated"


def test_victims_that_are_alike_are_told_once() -> None:
    alike = [victim(seed=seed) for seed in range(3)]
    once = plan_lines(alike[:1], inputs(), ON_GPU)
    assert plan_lines(alike, inputs(), ON_GPU) == once
    other = victim(split={"seed": 1})
    both = plan_lines([*alike, other], inputs(), ON_GPU)
    assert both == [*once, *plan_lines([other], inputs(), ON_GPU)], "a line that two splits share is told of both"
    assert plan_lines(alike, TrialInputs({}), ON_GPU) == []


def test_time_is_estimated_of_trainings_on_processors() -> None:
    plain, margin = plan_lines([victim(scheme="none"), victim()], inputs(), TrialResources())[-2:]
    seconds = [float(re.findall(r"cnn takes about ([\d.e+-]+) s an epoch", line)[0]) for line in (plain, margin)]
    assert seconds[1] == pytest.approx(seconds[0] * (1 + 25 * 13 / 384), rel=0.1), "both by one measurement"
    assert "on this machine, 0:" in plain


def test_a_warning_is_told_once_with_those_that_it_is_of() -> None:
    short = {"recipe": {"epochs": 2}}
    of = [victim(**short, scheme=scheme, seed=seed) for scheme in ("none", "margin", "confusion") for seed in (0, 1)]
    (line,) = plan_warnings(of, inputs())
    assert line.startswith("warning: victim.recipe: 24 steps in all hardly embed a watermark: ")
    assert line.endswith(" (margin n=100 1/255, confusion mass 0.1)")
    assert plan_warnings(of, TrialInputs({})) == []
    assert plan_warnings([replace(one, start="weights.pt") for one in of], inputs()) == [line]
    longer = victim(recipe={"epochs": 150})
    assert plan_warnings([replace(longer, start="weights.pt")], inputs()) == [], "less does for a trained network"
    assert len(plan_warnings([longer], inputs())) == 1
    assert plan_warnings([victim()], inputs(4000)) == []
    (line,) = plan_warnings([victim()], inputs())
    assert line.startswith("warning: victim.scheme: each query is shown 600 times, which may embed no watermark; ra")
