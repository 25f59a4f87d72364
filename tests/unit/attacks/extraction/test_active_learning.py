"""Active learning: what each strategy asks for, against brute force, and what it needs to know."""

from __future__ import annotations

import math
from copy import deepcopy
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from mwm.attacks import ActiveLearning, Attack
from mwm.attacks.extraction.choosing import boundary_distances
from mwm.attacks.layers import penultimate_features
from mwm.attacks.sources import transfer_set
from mwm.config.randomness import make_generator
from mwm.config.spec import decode
from mwm.training.evaluation import predict_logits
from tests.helpers.stealing import COUNT, FILLED, RECIPE, access_for, some, victim

SEEDS, LOT = 10, 6
SIZES: dict[str, Any] = {"query_budget": 22, "seed_images": SEEDS, "rounds": 2, "round_epochs": 1, **FILLED}


def chosen(attack: Any, model: nn.Module | None = None) -> tuple[Tensor, Tensor, nn.Module]:
    """What is asked first, what is chosen next, and the student by which it is."""
    rows = attack.run(access_for(attack, model))
    student = deepcopy(next(rows).training.model)
    asked = next(rows).training.state()["asked"]["rows"]
    return asked[:SEEDS], asked[SEEDS:], student


def left(asked: Tensor) -> list[int]:
    return [row for row in range(COUNT) if row not in asked.tolist()]


def test_it_begins_with_images_at_random() -> None:
    asked, _, _ = chosen(attack := ActiveLearning(**SIZES))
    drawn = transfer_set(some(), SEEDS, make_generator(attack.seed, "budget"))
    assert torch.equal(some().images[asked], drawn.images)


def test_entropy_asks_where_the_student_is_most_undecided() -> None:
    asked, found, student = chosen(ActiveLearning(**SIZES))
    chances = predict_logits(student, some().images).double().softmax(1).tolist()
    undecided = {row: -sum(p * math.log(p) for p in chances[row]) for row in left(asked)}
    assert found.tolist() == sorted(undecided, key=lambda row: -undecided[row])[:LOT]


@pytest.mark.parametrize("space", ["probabilities", "features", "pixels"])
def test_k_center_asks_for_what_is_farthest_from_all_that_was_asked(space: Any) -> None:
    asked, found, student = chosen(ActiveLearning(strategy="k_center", space=space, **SIZES))
    images = some().images
    points = {
        "probabilities": predict_logits(student, images).softmax(1),
        "features": penultimate_features(student, images),
        "pixels": images.flatten(1) / 255,
    }[space].double()
    taken = asked.tolist()
    for row in found.tolist():
        far = {one: min(float((points[one] - points[other]).norm()) for other in taken) for one in left(asked)}
        assert far[row] == pytest.approx(max(far.values()), rel=1e-4)
        assert row not in taken
        taken.append(row)


def test_dfal_asks_for_what_is_nearest_to_a_boundary() -> None:
    asked, found, student = chosen(ActiveLearning(strategy="dfal", **SIZES))
    distances = boundary_distances(student, some().images[left(asked)])
    nearest = sorted(zip(distances.tolist(), left(asked), strict=True))[:LOT]
    assert found.tolist() == [row for _, row in nearest]


def test_both_take_the_farthest_of_the_nearest() -> None:
    sizes: Any = SIZES | {"query_budget": 16, "rounds": 1}
    asked, found, student = chosen(ActiveLearning(strategy="dfal_k_center", **sizes))
    distances = boundary_distances(student, some().images[left(asked)])
    nearest = {row for _, row in sorted(zip(distances.tolist(), left(asked), strict=True))[:16]}
    assert {*found.tolist()} <= nearest
    points = predict_logits(student, some().images).softmax(1)
    far = {row: float((points[row] - points[asked]).norm(dim=1).min()) for row in nearest}
    assert far[int(found[0])] == pytest.approx(max(far.values()), rel=1e-4)


def test_at_random_it_asks_for_what_a_random_transfer_set_holds() -> None:
    attack = ActiveLearning(strategy="random", **SIZES)
    *_, last = attack.run(access_for(attack))
    drawn = transfer_set(some(), 22, make_generator(attack.seed, "budget"))
    assert torch.equal(some().images[last.training.state()["asked"]["rows"]], drawn.images)


@pytest.mark.parametrize(("space", "alike"), [("pixels", True), ("probabilities", False)])
def test_pixels_are_chosen_before_any_answer(space: Any, alike: bool) -> None:
    sizes: Any = SIZES | {"query_budget": 30, "rounds": 1, "recipe": replace(RECIPE, lr=3.0)}
    attack = ActiveLearning(strategy="k_center", space=space, **sizes)
    (_, one, _), (_, other, _) = chosen(attack), chosen(attack, victim(seed=11))
    assert torch.equal(one, other) == alike


def test_it_may_choose_among_some() -> None:
    few, all_of_them = ActiveLearning(candidates=LOT, **SIZES), ActiveLearning(candidates=COUNT, **SIZES)
    (asked, one, _), (_, other, _) = chosen(few), chosen(all_of_them)
    assert not torch.equal(one, other)
    assert {*one.tolist()} <= {*left(asked)}
    assert torch.equal(other, chosen(ActiveLearning(**SIZES))[1])


@pytest.mark.parametrize(
    ("budget", "seeds", "rounds", "lots"),
    [
        (100, None, 10, [10, *[9] * 10]),
        (1000, 50, 19, [50, *[50] * 19]),
        (23, 9, 3, [9, 5, 5, 4]),
        (12, 10, 10, [10, 1, 1]),
        (2, None, 10, [1, 1]),
    ],
)
def test_rounds_share_what_is_left_of_the_budget(budget: int, seeds: int | None, rounds: int, lots: list[int]) -> None:
    assert ActiveLearning(query_budget=budget, seed_images=seeds, rounds=rounds).lots() == lots


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ({"space": "pixels"}, r"^attack\.space: 'pixels' is not allowed: entropy measures no distances in a space$"),
        ({"candidates": 8}, r"^attack\.candidates: 8 is not allowed: a round asks 9 images$"),
        (
            {"candidates": 50, "strategy": "random"},
            r"^attack\.candidates: 50 is not allowed: a random choice is among all$",
        ),
        ({"strategy": "margin"}, r"^attack\.strategy: 'margin' is not allowed"),
        (
            {"query_budget": 1},
            r"^attack\.query_budget: 1 is not allowed: must be above seed_images, 1: nothing is left",
        ),
    ],
)
def test_what_makes_no_sense_is_refused(how: Any, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        decode(Attack, {"kind": "active_learning", "query_budget": 100, **how}, "attack")
