"""The shipped sweeps of the paper: every setting is that of the published code (Kim et al., 2023)."""

from __future__ import annotations

from typing import Any

import pytest

from mwm.config.loader import load_yaml
from mwm.config.spec import decode
from mwm.data.splits import SplitSizes
from mwm.models.networks import Normalization, ResNet
from mwm.runner.sweeps.sweep import Sweep
from mwm.training.recipe import PaperSchedule, Recipe
from tests.helpers.launching import ROOT

HALF = Normalization(mean=(0.5,) * 3, std=(0.5,) * 3)
CONSTANTS = {
    "cifar10": Normalization(mean=(0.4914, 0.4822, 0.4465), std=(0.2023, 0.1994, 0.2010)),
    "cifar100": Normalization(mean=(0.5071, 0.4867, 0.4408), std=(0.2675, 0.2565, 0.2761)),
    "svhn": HALF,
}
IMAGES = {"cifar10": 50_000, "cifar100": 50_000, "svhn": 73_257}
BATCHES = {"cifar10": 382, "cifar100": 382, "svhn": 563}
"""Of an epoch. The published code has 564 on SVHN: there no query is taken out of the training images."""

RECIPE = Recipe(
    epochs=200,
    batch_size=128,
    lr=0.1,
    momentum=0.0,
    nesterov=False,
    weight_decay=1e-4,
    schedule=PaperSchedule(),
    keep="best_validation",
    augment_validation=True,
)
TRIGGER_SET = {
    "kind": "trigger_set",
    "num_queries": 100,
    "queries_per_step": 1,
    "weight": 1.0,
    "batchnorm": "reference",
}
MARGIN = {
    **{"kind": "margin", "num_queries": 100, "queries_per_step": 25, "weight": 0.1, "batchnorm": "reference"},
    **{"step_size": 1 / 255, "steps": 5},
}
SCHEMES: list[dict[str, Any]] = [{"kind": "none"}, TRIGGER_SET, MARGIN]


def sweep(data: str) -> Sweep:
    read: Sweep = decode(Sweep, load_yaml(ROOT / f"tune_configs/paper_{data}.yaml"))
    return read


def network(kind: Any, constants: Normalization) -> ResNet:
    return ResNet(kind=kind, init="pytorch", normalize=constants)


@pytest.mark.parametrize("data", CONSTANTS)
def test_victims_are_trained_as_published(data: str) -> None:
    victims = sweep(data).victim_specs
    assert len(victims) == 9
    for victim in victims:
        assert victim.data.kind == data
        assert victim.split == SplitSizes(validation=1000, queries=100)
        assert victim.model == network("resnet34", CONSTANTS[data])
        assert victim.recipe == RECIPE
        assert (IMAGES[data] - 1100) // victim.recipe.batch_size == BATCHES[data]


@pytest.mark.parametrize("data", CONSTANTS)
def test_schemes_are_the_published_ones_and_say_so(data: str) -> None:
    told = load_yaml(ROOT / f"tune_configs/paper_{data}.yaml")["victim"]["scheme"]["grid"]
    assert told == SCHEMES, "a default may change"


@pytest.mark.parametrize("data", CONSTANTS)
def test_students_are_trained_as_published(data: str) -> None:
    read = sweep(data)
    victim, students = read.victim_specs[0], []
    for _, attack in read.attack_specs:
        filled: Any = attack.resolve(victim)
        assert (filled.query_budget, filled.temperature, filled.cache_answers) == (None, 1.0, False)
        assert filled.recipe == RECIPE
        assert filled.same_start
        students.append((filled.kind, filled.labels, filled.source.kind, filled.student))
    foreign = [one for one in CONSTANTS if one != data]
    assert students == [
        ("extraction", "soft", "victim_data", network("resnet34", HALF)),
        ("extraction", "hard", "victim_data", network("resnet34", HALF)),
        *(("extraction", "soft", source, network("resnet34", HALF)) for source in foreign),
        ("extraction", "soft", "victim_data", network("resnet18", HALF)),
        ("distillation", "soft", "victim_data", network("resnet18", CONSTANTS[data])),
    ]
    distillation: Any = read.attack_specs[-1][1]
    assert (distillation.alpha, distillation.t_squared) == (0.7, False)
