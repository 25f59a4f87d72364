"""What thieves ask and what it costs: budgets that are kept to, answers that repeat."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest
import torch

from mwm.attacks import Distillation, Extraction
from mwm.attacks.sources import transfer_set
from mwm.config.randomness import make_generator
from mwm.config.spec import decode, encode
from mwm.data.datasets import Digits
from mwm.data.images import Augmentation
from mwm.data.splits import LabeledImages
from mwm.models.build import build_model, channel_statistics
from mwm.training.recipe import MultiStep, Recipe
from mwm.trials.trial import Victim
from mwm.watermarks.schemes import Unwatermarked
from tests.helpers.stealing import (
    BUDGETED,
    CLASSES,
    COUNT,
    FILLED,
    STUDENT,
    Listening,
    access_for,
    formula,
    name,
    plain_student,
    same,
    some,
    steal,
)


def test_a_larger_budget_goes_on_where_a_smaller_one_ends() -> None:
    everything = some()
    sets = [transfer_set(everything, size, make_generator(3, "budget")) for size in (5, 20, COUNT)]
    for less, more in pairwise(sets):
        assert torch.equal(more.images[: len(less)], less.images)
        assert torch.equal(more.labels[: len(less)], less.labels)
    whole, again = (sorted(part.images.flatten(1).tolist()) for part in (everything, sets[-1]))
    assert whole == again, "an image was lost, or drawn twice"
    assert not torch.equal(transfer_set(everything, 20, make_generator(4, "budget")).images, sets[1].images)


@pytest.mark.parametrize("attack", BUDGETED, ids=name)
def test_a_thief_on_a_budget_asks_for_each_image_once_and_as_it_is(attack: Any) -> None:
    listening = Listening()
    steal(attack, access_for(attack, listening))
    held = {image.numpy().tobytes() for image in some().images}
    assert len(listening.asked) == len({*listening.asked}) == attack.query_budget
    assert held >= {*listening.asked}


@pytest.mark.parametrize("cached", [False, True])
@pytest.mark.parametrize(
    ("attack", "taught", "asked"),
    [(Extraction(seed=4), 0, 1), (Extraction(labels="hard"), 1, 0), (Distillation(temperature=2.0), 0.3, 0.7)],
    ids=lambda value: name(value) if hasattr(value, "kind") else f"{value:g}",
)
def test_answers_that_repeat_are_worked_out_once(attack: Any, taught: float, asked: float, cached: bool) -> None:
    recipe, listening = Recipe(epochs=3, batch_size=10, schedule=MultiStep()), Listening()
    attack = replace(attack, student=STUDENT, recipe=recipe, cache_answers=cached)
    access = access_for(attack, listening, views=False)
    stolen = steal(attack, access)
    plain = plain_student(attack, formula(attack, taught, asked), epochs=3, views=False).state_dict()
    for key, value in plain.items():
        torch.testing.assert_close(stolen[key], value, rtol=1e-4, atol=5e-6)
    assert sorted(listening.asked) == sorted(image.numpy().tobytes() for image in some().images)
    assert access.oracle.calls == (COUNT if cached else 3 * 30)


def test_what_is_paid_for_answers_changes_no_student() -> None:
    attack = Extraction(**FILLED)
    one = steal(attack, access_for(attack, views=False))
    assert same(one, steal(replace(attack, cache_answers=True)))
    assert not same(one, steal(attack)), "augmented views make no difference"


def test_an_augmented_view_is_asked_anew() -> None:
    attack, listening = Extraction(**FILLED), Listening()
    for flip, pad in ((True, 0), (False, 1)):
        listening.asked.clear()
        access = replace(access_for(attack, listening), augmentation=Augmentation(flip, pad))
        steal(attack, access)
        assert len(listening.asked) == access.oracle.calls == 3 * 30
        assert len({*listening.asked}) > COUNT


def test_a_thief_on_a_budget_knows_no_other_true_label() -> None:
    attack, part = Distillation(query_budget=20, **FILLED), some()
    pick = torch.randperm(COUNT, generator=make_generator(attack.seed, "budget"))
    for changed, alike in ((pick[20:], True), (pick[:1], False)):
        labels = part.labels.clone()
        labels[changed] = (labels[changed] + 1) % CLASSES
        found = steal(attack, replace(access_for(attack), images=LabeledImages(part.images, labels)))
        assert same(found, steal(attack)) == alike


def test_a_student_of_the_same_start_has_the_initial_weights_of_its_victim() -> None:
    fresh, shared = (Extraction(same_start=same_start, **FILLED) for same_start in (False, True))
    access = replace(access_for(shared), victim_seed=7)
    images = access.images.images
    mean, std = channel_statistics(images)
    plain = build_model(
        STUDENT,
        shape=tuple(images.shape[1:]),
        classes=CLASSES,
        mean=mean,
        std=std,
        generator=make_generator(7, "victim"),
    )
    assert same(shared.network(access).state_dict(), plain.state_dict())
    assert not same(fresh.network(access).state_dict(), plain.state_dict())


def test_a_student_has_its_victims_recipe_but_for_what_that_does_to_labels() -> None:
    recipe = Recipe(optimizer="adamw", ema=0.9, keep="best_validation", label_smoothing=0.1, mixup=0.2)
    filled = Extraction().resolve(Victim(data=Digits(), model=STUDENT, scheme=Unwatermarked(), recipe=recipe))
    assert filled.recipe == replace(recipe, keep="last", label_smoothing=0.0, mixup=0.0)


@pytest.mark.parametrize(
    ("recipe", "line"),
    [
        (
            Recipe(label_smoothing=0.1),
            "recipe.label_smoothing: 0.1 is not allowed: a student learns the answers to its images; "
            "write it at the attack: must be 0",
        ),
        (
            Recipe(mixup=0.1),
            "recipe.mixup: 0.1 is not allowed: a student learns the answers to its images: must be 0",
        ),
    ],
)
def test_a_students_own_recipe_does_nothing_to_labels(recipe: Recipe, line: str) -> None:
    with pytest.raises(ValueError, match="recipe") as refused:
        decode(Extraction, {"recipe": encode(recipe)})
    assert str(refused.value) == line
