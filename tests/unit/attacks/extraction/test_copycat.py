"""Copycat (Correia-Silva et al., 2018) as `extraction`: labels of foreign images, each asked once."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch

from mwm.attacks import Attack
from mwm.config.spec import decode
from mwm.training.recipe import MultiStep, Recipe
from tests.helpers.stealing import STUDENT, Listening, access_for, formula, plain_student, some, steal

COPYCAT = {"kind": "extraction", "labels": "hard", "source": "cifar100", "query_budget": 20}


def test_it_learns_the_labels_that_the_victim_names_of_random_foreign_images() -> None:
    attack: Any = decode(Attack, COPYCAT)
    model = attack.threat_model()
    assert (model.access, model.images, model.answers, model.true_labels) == ("black box", "cifar100", "hard", False)
    recipe = Recipe(epochs=2, batch_size=10, schedule=MultiStep())
    attack, listening = replace(attack, student=STUDENT, recipe=recipe), Listening()
    access = access_for(attack, listening)
    stolen = steal(attack, access)
    assert access.calls == len(listening.asked) == len({*listening.asked}) == 20
    assert {*listening.asked} <= {image.numpy().tobytes() for image in some().images}
    plain = plain_student(attack, formula(attack, 1, 0), epochs=2)
    for name, value in plain.state_dict().items():
        torch.testing.assert_close(stolen[name], value, rtol=1e-4, atol=5e-6)
