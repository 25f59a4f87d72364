"""Sequences: each step attacks the network before, calls and epochs add up, mistakes are told at their step."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from mwm.attacks import Attack, AttackSequence, BatchNormReestimation, Distillation, Extraction, FineTuning
from mwm.attacks.access import TargetFacts
from mwm.config.randomness import derive_seed
from mwm.config.spec import decode, encode, flatten
from mwm.data.datasets import Digits
from mwm.data.splits import SplitSizes
from mwm.models.networks import Cnn
from mwm.runner.reporting.groups.configurations import group_by_configuration
from mwm.runner.reporting.groups.names import attacks_of
from mwm.runner.reporting.results import result_rows
from mwm.training.recipe import Recipe
from mwm.trials.names import attack_name
from mwm.trials.trial import Trial, Victim
from mwm.watermarks.schemes import TriggerSet
from tests.helpers.ended import MARGIN, result, trial
from tests.helpers.stealing import COUNT, FILLED, RECIPE, STUDENT, access_for, same, steal, victim

REPAIR = BatchNormReestimation(passes=2, batch_size=10)
THEFT = Extraction(**FILLED)
THREE = AttackSequence(steps=(Extraction(query_budget=20, **FILLED), FineTuning(recipe=RECIPE), THEFT))
OWNER = Victim(data=Digits(), model=Cnn(width=8), scheme=TriggerSet(num_queries=5), recipe=Recipe(epochs=4))


def step_access(step: Any, place: int, model: Any) -> Any:
    """What a step is granted in a sequence of seed 0."""
    return replace(access_for(step, model), seed=derive_seed(0, "step", place, step.seed))


@pytest.mark.parametrize("theft", [THEFT, Extraction(query_budget=20, seed=4, **FILLED)])
def test_a_theft_asks_the_repaired_network(theft: Extraction) -> None:
    *_, repaired = REPAIR.run(step_access(REPAIR, 0, victim()))
    expected = steal(theft, step_access(theft, 1, repaired.training.model))
    found = steal(AttackSequence(steps=(REPAIR, theft)))
    assert same(found, expected)
    assert not same(found, steal(theft, step_access(theft, 1, victim()))), "the victim itself was asked"


def test_calls_epochs_and_networks_add_up() -> None:
    access = access_for(THREE)
    told = [(row.epoch, row.training.epoch, row.training.epochs, access.calls) for row in THREE.run(access)]
    spent = [*6 * [20], 50, 80, 110]
    assert told == [(n, n, 9, calls) for n, calls in enumerate(spent, 1)]
    assert THREE.epochs() == 9


def test_a_sequence_without_an_oracle_counts_no_calls() -> None:
    attack = AttackSequence(steps=(REPAIR, FineTuning(recipe=RECIPE)))
    access = access_for(attack)
    steal(attack, access)
    assert access.calls is None


class Slow(nn.Module):
    """A victim that takes its time."""

    def __init__(self) -> None:
        super().__init__()
        self.model = victim()

    def forward(self, images: Tensor) -> Tensor:
        time.sleep(2)
        answers: Tensor = self.model(images)
        return answers


def test_what_a_step_does_before_its_first_epoch_takes_time_too() -> None:
    attack = AttackSequence(steps=(Extraction(query_budget=COUNT, **FILLED), THEFT))
    rows = list(attack.run(access_for(attack, Slow())))
    assert rows[0].seconds > 2 > max(row.seconds for row in rows[1:])


def test_the_same_step_draws_anew_in_another_place() -> None:
    once, twice = AttackSequence(steps=(REPAIR, THEFT)), AttackSequence(steps=(REPAIR, replace(THEFT, seed=1)))
    assert not same(steal(once), steal(twice))


def test_a_step_follows_the_network_that_it_attacks() -> None:
    attack = AttackSequence(steps=(Extraction(student=STUDENT), FineTuning(), Distillation(recipe=RECIPE)))
    filled = attack.resolve(OWNER)
    one, _, three = filled.steps
    assert isinstance(one, Extraction)
    assert isinstance(three, Distillation)
    assert (one.student, three.student) == (STUDENT, STUDENT)
    assert (one.recipe, three.recipe) == (OWNER.recipe, RECIPE)
    assert attack.architecture(OWNER) == filled.architecture(OWNER) == STUDENT
    assert filled.epochs() == 4 + 20 + 3
    assert AttackSequence(steps=(REPAIR, REPAIR)).architecture(OWNER) == OWNER.model


def test_the_images_of_the_sequence_are_those_of_its_steps() -> None:
    attack = decode(Attack, {"kind": "sequence", "source": "svhn", "steps": ["batchnorm_reestimation", "extraction"]})
    assert [one.kind for one in attack.datasets()] == ["svhn"]
    assert decode(Attack, encode(attack)) == attack


STEPS: list[Any] = ["batchnorm_reestimation", "extraction"]


@pytest.mark.parametrize(
    ("tree", "words"),
    [
        ({}, r"^attack\.steps: is missing$"),
        ({"steps": STEPS[:1]}, r"^attack\.steps: .*at least 2 items"),
        (
            {"steps": [{"kind": "extraction", "source": "disjoint"}, "fine_tuning"]},
            r"^attack\.steps\.0\.source: 'disjoint' is not allowed: the steps share the source of the sequence$",
        ),
        (
            {"steps": ["extraction", "distillation"], "source": "svhn"},
            r"^attack\.steps\.1\.source: 'svhn' is not allowed: true labels need victim_data or disjoint$",
        ),
        (
            {"steps": ["extraction", {"kind": "sequence", "steps": STEPS}]},
            r"^attack\.steps\.1: kind 'sequence' is unkn",
        ),
        ({"steps": [{"kind": "extraction", "epoch": 3}, "extraction"]}, r"^attack\.steps\.0\.epoch: unknown key"),
    ],
)
def test_wrong_sequences_are_refused(tree: Any, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        decode(Attack, {"kind": "sequence", **tree}, "attack")


@pytest.mark.parametrize(
    ("steps", "source", "words"),
    [
        ([*STEPS], "disjoint", r"^attacks\.2\.source: disjoint is not allowed: victim\.split\.disjoint is 0"),
        (
            ["extraction", {"kind": "extraction", "query_budget": 100}],
            "victim_data",
            r"^attacks\.2\.steps\.1\.query_budget: 100 is not allowed: must be at least 128, victim\.recipe",
        ),
        (
            ["fine_tuning", {"kind": "extraction", "cache_answers": True}],
            "victim_data",
            r"^attacks\.2\.steps\.1\.cache_answers: true is not allowed: augmented views never repeat",
        ),
    ],
)
def test_a_step_that_cannot_be_run_is_told_by_its_place(steps: Any, source: str, words: str) -> None:
    attack = decode(Attack, {"kind": "sequence", "source": source, "steps": steps})
    with pytest.raises(ValueError, match=words):
        attack.validate(TargetFacts(path="attacks.2", victim=OWNER, datasets={}))


def test_a_sequence_that_can_be_run_is_not_refused() -> None:
    attack = decode(Attack, {"kind": "sequence", "source": "disjoint", "steps": STEPS})
    attack.validate(TargetFacts(path="a", victim=replace(OWNER, split=SplitSizes(disjoint=0.5)), datasets={}))
    assert attack.parts() == {"steps.0": attack.steps[0], "steps.1": attack.steps[1]}


@pytest.mark.parametrize(
    ("steps", "said"),
    [
        (STEPS, "sequence batchnorm_reestimation + extraction soft seed 0"),
        (
            [
                {"kind": "batchnorm_reestimation", "passes": 5},
                {"kind": "extraction", "labels": "hard", "query_budget": 300, "augment": False},
            ],
            "sequence batchnorm_reestimation passes=5 + extraction hard 300 calls unaugmented seed 0",
        ),
    ],
)
def test_a_sequence_is_named_by_its_steps(steps: Any, said: str) -> None:
    attack = decode(Attack, {"kind": "sequence", "steps": steps}).resolve(OWNER)
    assert attack_name(Trial(victim=OWNER, attack=attack)) == said


def test_every_field_of_a_step_has_a_column_of_its_own() -> None:
    leaves = flatten(encode(AttackSequence(steps=(REPAIR, THEFT))))
    assert leaves["steps.0.passes"] == 2
    assert leaves["steps.1.recipe.epochs"] == 3
    assert "steps" not in leaves


def test_a_table_has_one_place_for_a_sequence_whatever_its_seeds_and_its_victim() -> None:
    steps: list[Any] = [STEPS, ["batchnorm_reestimation", {"kind": "extraction", "seed": 3}]]
    attacks: list[dict[str, Any]] = [{"kind": "sequence", "steps": one} for one in steps]
    ended = [result(trial(MARGIN, seed, attack)) for seed, attack in enumerate(attacks)]
    (group,) = group_by_configuration(result_rows(ended)).values()
    assert len(group) == 2
    other = trial(MARGIN, 0, attacks[0])
    longer = replace(other.victim, recipe=Recipe(epochs=77))
    filled = decode(Attack, attacks[0]).resolve(longer)
    moved = result(replace(other, victim=longer, attack=filled))
    assert len(attacks_of(group_by_configuration(result_rows([*ended, moved])))) == 1


def test_a_state_holds_tensors_and_plain_values_only() -> None:
    attack = AttackSequence(steps=(REPAIR, THEFT))
    for row in attack.run(access_for(attack)):
        state = row.training.state()
        assert {*state} == {"step", "attacked", "inner", "ended", "running"}
        weights = state["attacked"] or {}
        assert all(isinstance(value, torch.Tensor) for value in weights.values())
