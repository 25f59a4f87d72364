"""Transfer: away by a fresh last layer, back to the victim's classes, and the data set that it takes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from mwm.attacks import AttackSequence, BatchNormReestimation, Transfer
from mwm.attacks.access import TargetFacts
from mwm.attacks.layers import fresh_head, last_layer
from mwm.config.randomness import derive_seed, make_generator
from mwm.config.spec import decode
from mwm.data.datasets import Npz
from mwm.storage.store import Store
from mwm.training.recipe import MultiStep, Recipe
from mwm.trials.trial import Trial, data_key, trial_digest
from mwm.trials.validation import required_datasets, validate_attack
from tests.helpers.records import DATA, FOREIGN, VICTIM, Loaded, done
from tests.helpers.stealing import CLASSES, access_for, foreign_images, some, steal, victim

FLAT = replace(FOREIGN, flip=False, pad=0)
LEG = Recipe(epochs=2, batch_size=10, lr=0.05, momentum=0.9, weight_decay=5e-4, schedule=MultiStep())
ATTACK = Transfer(other=FLAT, away=LEG, recipe=LEG)
BATCH: dict[str, Any] = {"away": replace(LEG, batch_size=16), "recipe": replace(LEG, batch_size=16)}


def plain_leg(model: nn.Module, part: Any, seed: int) -> None:
    """SGD with momentum and weight decay, spelled out."""
    model.train()
    weights = list(model.parameters())
    momenta = [torch.zeros_like(weight) for weight in weights]
    for epoch in range(LEG.epochs):
        order = torch.randperm(len(part), generator=make_generator(seed, "order", epoch))
        for rows in torch.split(order[: len(part) // 10 * 10], 10):
            loss = F.cross_entropy(model(part.images[rows].float() / 255), part.labels[rows])
            for weight, grad, momentum in zip(weights, torch.autograd.grad(loss, weights), momenta, strict=True):
                momentum.mul_(0.9).add_(grad + 5e-4 * weight.data)
                weight.data -= 0.05 * momentum


@pytest.mark.parametrize("head", ["fresh", "kept"])
def test_it_is_the_plain_loop_away_and_back(head: Any) -> None:
    model: Any = victim()
    own = model.network.fc
    model.network.fc = fresh_head(own, CLASSES + 2, make_generator(0, "head", "away"))
    plain_leg(model, foreign_images(), derive_seed(0, "away"))
    model.network.fc = own if head == "kept" else fresh_head(own, CLASSES, make_generator(0, "head", "back"))
    plain_leg(model, some(), 0)
    attack = replace(ATTACK, head=head)
    ours = steal(attack, access_for(attack, views=False))
    for name, value in model.state_dict().items():
        torch.testing.assert_close(ours[name], value, rtol=1e-4, atol=1e-5)


def test_epochs_away_are_told_of_the_network_with_the_victims_head() -> None:
    own: Any = victim()
    rows = list(ATTACK.run(access_for(ATTACK, views=False)))
    for row in rows:
        model: Any = row.training.model
        assert model(some().images / 255).shape == (34, CLASSES)
        assert torch.equal(model.network.fc.weight, own.network.fc.weight) == (row.epoch <= 2)
        assert not torch.equal(model.network.conv0.weight, own.network.conv0.weight)
    assert [row.epoch for row in rows] == [1, 2, 3, 4]
    assert rows[-1].training.model.state_dict().keys() == own.state_dict().keys()


@pytest.mark.parametrize("layer", [nn.Linear(12, 3), nn.Linear(12, 3, bias=False), nn.Conv2d(3, 5, 2)])
def test_a_fresh_head_is_drawn_as_pytorch_does(layer: Any) -> None:
    layer.requires_grad_(True)
    state = torch.get_rng_state()
    fresh = fresh_head(layer, 400, make_generator(0, "x"))
    assert torch.equal(state, torch.get_rng_state()), "the global generator has moved"
    x = torch.rand(2, 12) if isinstance(layer, nn.Linear) else torch.rand(2, 3, 2, 2)
    assert fresh(x).shape[1] == 400
    assert (fresh.bias is None) == (layer.bias is None)
    bound = 12**-0.5
    for weight in fresh.parameters():
        assert 0.95 * bound < weight.abs().max() <= bound
        assert abs(weight.mean().item()) < 0.05
    assert not torch.equal(fresh.weight, fresh_head(layer, 400, make_generator(1, "x")).weight)


def test_the_last_layer_is_put_where_it_was() -> None:
    head = last_layer(victim(), some().images)
    assert isinstance(head, nn.Linear)
    assert set(steal(ATTACK)) == set(victim().state_dict())


def test_a_trial_gets_the_other_data_in_the_shape_of_its_own(sets: Loaded, tmp_path: Path) -> None:
    outcome = done(Trial(victim=VICTIM, attack=Transfer(other=FOREIGN, **BATCH)), sets, Store(tmp_path))
    assert (outcome.status, outcome.best_epoch, outcome.oracle_calls) == ("done", 4, None)


def test_a_step_of_a_sequence_brings_its_data_set(sets: Loaded, tmp_path: Path) -> None:
    steps = (BatchNormReestimation(passes=1, batch_size=16), Transfer(other=FOREIGN, **BATCH))
    attack = AttackSequence(steps=steps)
    wanted = required_datasets([VICTIM], [("attacks.0", attack)])
    assert wanted[data_key(FOREIGN)] == ("attacks.0.steps.1.other", FOREIGN)
    assert data_key(DATA) in wanted
    validate_attack("attacks.0", attack, victim=VICTIM, sets=sets)
    assert done(Trial(victim=VICTIM, attack=attack), sets, Store(tmp_path)).status == "done"


@pytest.mark.parametrize("nested", [False, True])
def test_a_trial_is_named_by_the_content_of_the_other_data(nested: bool, sets: Loaded) -> None:
    def name(path: str, content: Any) -> str:
        other = Npz(path=path, flip=True, pad=1)
        attack: Any = Transfer(other=other, **BATCH)
        if nested:
            attack = AttackSequence(steps=(BatchNormReestimation(), attack))
        held = {**sets.data, data_key(other): content}
        return trial_digest(Trial(victim=VICTIM, attack=attack), replace(sets, data=held))

    one, other = sets[data_key(FOREIGN)], sets[data_key(DATA)]
    assert name("a.npz", one) == name("elsewhere/b.npz", one)
    assert name("a.npz", one) != name("a.npz", other)


def test_the_other_data_are_a_part_of_the_threat_model() -> None:
    assert ATTACK.threat_model().images == "victim_data, npz"
    assert ATTACK.datasets() == (FLAT,)


def test_too_few_other_images_are_told(sets: Loaded) -> None:
    attack = Transfer(other=FOREIGN, recipe=replace(LEG, batch_size=16))
    facts = TargetFacts(path="attack", victim=VICTIM, datasets={d: sets[data_key(d)] for d in (DATA, FOREIGN)})
    with pytest.raises(ValueError, match=r"^attack\.away\.batch_size: 64 is not allowed: attack\.other has 40 images$"):
        attack.validate(facts)


@pytest.mark.parametrize(
    ("tree", "fault"),
    [
        ({}, "other: is missing"),
        ({"other": "disjoint"}, "other: kind 'disjoint' is unknown"),
        ({"other": "svhn", "away": {"keep": "best_validation"}}, "away.keep: 'best_validation' is not allowed"),
        ({"other": "svhn", "head": "none"}, "head: 'none' is not allowed: must be 'fresh' or 'kept'"),
    ],
)
def test_a_mistake_is_one_line(tree: dict[str, Any], fault: str) -> None:
    with pytest.raises(ValueError) as told:  # noqa: PT011 - the whole line is compared
        decode(Transfer, tree)
    assert str(told.value).startswith(fault)
