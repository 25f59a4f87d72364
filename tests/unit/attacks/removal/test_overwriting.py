"""Overwriting: the attacker's own key is learnt, from images set aside, and it is not the victim's."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

from mwm.attacks import Overwriting
from mwm.attacks.access import TargetFacts
from mwm.config.randomness import make_generator, secret_from_seed
from mwm.config.spec import decode
from mwm.data.datasets import Digits
from mwm.data.images import Augmentation
from mwm.data.readers import load_dataset
from mwm.data.splits import LabeledImages, SplitSizes
from mwm.models.networks import Cnn, Torchvision
from mwm.training.evaluation import accuracy, predict_logits
from mwm.training.recipe import MultiStep, Recipe
from mwm.training.step import Batch
from mwm.trials.trial import Victim
from mwm.watermarks.queries import draw_queries
from mwm.watermarks.schemes import Confusion, Margin, TriggerSet
from tests.helpers.stealing import CLASSES, access_for, some, steal, victim

LONG = Recipe(epochs=40, batch_size=10, lr=0.05, momentum=0.9, schedule=MultiStep())
KEY = TriggerSet(num_queries=10, queries_per_step="all", weight=2.0)
ATTACK = Overwriting(scheme=KEY, queries=14, recipe=LONG)
OWNER = Victim(data=Digits(), split=SplitSizes(), model=Cnn(width=4), scheme=Margin(), recipe=Recipe())


def rows_of(images: Any) -> set[bytes]:
    return {bytes(one.flatten().tolist()) for one in images}


def test_the_attackers_own_key_is_learnt() -> None:
    access = access_for(ATTACK, views=False)
    key = ATTACK.key(access)
    before = accuracy(predict_logits(victim(), key.images), key.labels)
    *_, last = ATTACK.run(access)
    assert before < 0.5
    assert accuracy(predict_logits(last.training.model, key.images), key.labels) == 1.0


@pytest.mark.parametrize("seed", [0, 7])
def test_the_key_is_the_attackers_own(seed: int) -> None:
    """Neither that which the owner draws of the same seed, nor that of another attacker."""
    attack = replace(ATTACK, seed=seed)
    access = access_for(attack, views=False)
    key = attack.key(access)
    owners = draw_queries(some(), num=10, classes=CLASSES, augmentation=Augmentation(), secret=secret_from_seed(seed))
    another = attack.key(replace(access, seed=seed + 1))
    assert len({key.digest(), owners.digest(), another.digest()}) == 3
    assert key.digest() == attack.key(access).digest()


def test_images_for_the_key_are_not_trained_on() -> None:
    access = access_for(ATTACK, views=False)
    key, learnt = ATTACK.key(access), ATTACK.taught(access)
    assert len(learnt) == 34 - 14
    assert rows_of(key.images) <= rows_of(some().images)
    assert not rows_of(key.images) & rows_of(learnt.images)


def test_labels_of_the_key_are_those_that_the_attacker_has() -> None:
    """Predicted ones are truth to it, and its secret labels are any others."""
    access = access_for(ATTACK, views=False)
    predicted, true = ATTACK.key(access), replace(ATTACK, labels="true").key(access)
    assert torch.equal(predicted.truth, predict_logits(victim(), predicted.images).argmax(1))
    assert torch.equal(predicted.images, true.images)
    assert not torch.equal(predicted.truth, true.truth)
    assert (predicted.labels != predicted.truth).all()


@pytest.mark.parametrize("scheme", [KEY, Margin(num_queries=6, queries_per_step=3, steps=2), Confusion()])
def test_the_loss_is_that_of_the_scheme(scheme: Any) -> None:
    attack = Overwriting(scheme=scheme, queries=20, labels="true", recipe=LONG)
    access, part = access_for(attack, views=False), some(10, 5)
    batch = Batch(part.images / 255, part.labels, torch.arange(10))
    losses = [
        objective(victim().train(), batch, make_generator(1, "draw")).item()
        for objective in (attack.objective(access, access.images), scheme.objective(attack.key(access)))
    ]
    assert losses[0] == losses[1]


def test_frozen_statistics_stay() -> None:
    attack = replace(ATTACK, batchnorm="frozen", recipe=replace(LONG, epochs=1))
    before, after = victim().state_dict(), steal(attack)
    assert all(torch.equal(after[name], value) for name, value in before.items() if "running" in name)


def test_a_class_without_an_image_for_its_cell_is_told() -> None:
    attack = Overwriting(scheme=Confusion(), queries=20, labels="true", recipe=LONG)
    access = access_for(attack)
    poor = replace(access, images=LabeledImages(access.images.images, access.images.labels % 3))
    told = "queries: 20 is not allowed: class 3 has 0 images among them, and scheme confusion needs 1"
    with pytest.raises(ValueError, match=f"^{told}$"):
        attack.run(poor)


def test_it_knows_nothing_of_the_victim() -> None:
    assert Overwriting(scheme=TriggerSet()).threat_model().adaptive == "", "its scheme need not be the victim's"
    assert not Overwriting().knows_labels()


@pytest.mark.parametrize(
    ("tree", "fault"),
    [
        (
            {"scheme": {"kind": "margin", "num_queries": 101}},
            "scheme.num_queries: 101 is not allowed: must be at most queries, 100",
        ),
        (
            {"scheme": "combined"},
            "scheme: kind 'combined' is unknown; allowed: 'margin', 'trigger_set', 'confusion'",
        ),
        (
            {"scheme": {"kind": "margin", "batchnorm": "joint"}, "recipe": {"batchnorm_groups": 2}},
            "recipe.batchnorm_groups: 2 is not allowed: batchnorm joint of the scheme normalises queries and images",
        ),
    ],
)
def test_a_mistake_is_one_line(tree: dict[str, Any], fault: str) -> None:
    with pytest.raises(ValueError) as told:  # noqa: PT011 - the whole line is compared
        decode(Overwriting, tree)
    assert str(told.value).startswith(fault)


@pytest.mark.parametrize(
    ("attack", "fault"),
    [
        (Overwriting(queries=5000), "attack.queries: 5000 is not allowed: the attacker of attack has 1151 images"),
        (
            Overwriting(queries=1100),
            "attack.recipe.batch_size: 128 is not allowed: the attacker of attack learns 51 images",
        ),
    ],
)
def test_too_few_images_are_told(attack: Overwriting, fault: str) -> None:
    data = load_dataset(Digits())
    facts = TargetFacts(path="attack", victim=OWNER, datasets={Digits(): data})
    with pytest.raises(ValueError, match=fault):
        attack.validate(facts)
    replace(attack, queries=100).validate(facts)


def test_statistics_that_the_network_does_not_keep_are_one_line() -> None:
    bare = replace(OWNER, model=Torchvision(name="vit_b_16", stem="small"))
    facts = TargetFacts(path="attack", victim=bare, datasets={Digits(): load_dataset(Digits())})
    told = r"^attack\.scheme\.batchnorm: reference is not allowed: vit_b_16 has no batch norm: must be clean or joint$"
    with pytest.raises(ValueError, match=told):
        Overwriting(scheme=TriggerSet(batchnorm="reference")).validate(facts)
    Overwriting(scheme=TriggerSet(batchnorm="reference")).validate(replace(facts, victim=OWNER))
