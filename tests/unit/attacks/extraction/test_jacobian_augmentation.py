"""Jacobian augmentation: made images against plain loops of autograd, their bounds, their targets, their number."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mwm.attacks import Attack, JacobianAugmentation
from mwm.attacks.extraction.answers import named_labels
from mwm.attacks.extraction.jacobian_augmentation import moved_towards, one_move
from mwm.attacks.sources import transfer_set
from mwm.config.randomness import make_generator
from mwm.config.spec import decode
from mwm.training.evaluation import predict_logits
from tests.helpers.stealing import CLASSES, FILLED, access_for, some, victim

EPS = 0.1
SEEDS = 9


def plain_slope(model: nn.Module, image: Tensor, label: int) -> Tensor:
    """The slope of the cross-entropy of one image."""
    x = image.clone().requires_grad_()
    (slope,) = torch.autograd.grad(-model(x[None]).log_softmax(1)[0, label], x)
    return slope


def plain_towards(model: nn.Module, image: Tensor, targets: list[int]) -> Tensor:
    """One image, a move for each target, with what is added to it kept apart."""
    added = torch.zeros_like(image)
    for target in targets:
        added = added - 1.85 * EPS / len(targets) * plain_slope(model, image + added, target).sign()
        added = added.clamp(-EPS, EPS)
        added = torch.maximum(torch.minimum(added, 1 - image), -image)
    return image + added


def exact(count: int = 10) -> tuple[nn.Module, Tensor]:
    return victim().double().eval(), some(count).images.double() / 255


@pytest.mark.parametrize("size", [EPS, -EPS])
def test_one_move_goes_along_the_sign_of_the_slope(size: float) -> None:
    model, images = exact()
    labels = torch.arange(10) % CLASSES
    found = one_move(model, images, labels, size=size)
    for image, label, moved in zip(images, labels.tolist(), found, strict=True):
        expected = (image + size * plain_slope(model, image, label).sign()).clamp(0, 1)
        torch.testing.assert_close(moved, expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("steps", [1, 8])
def test_moves_towards_targets_are_those_of_a_plain_loop(steps: int) -> None:
    model, images = exact()
    drawn = torch.randint(CLASSES, (steps, 10), generator=torch.Generator().manual_seed(0))
    targets = iter(drawn)
    found = moved_towards(model, images, lambda: next(targets), eps=EPS, steps=steps)
    for row, (image, moved) in enumerate(zip(images, found, strict=True)):
        torch.testing.assert_close(moved, plain_towards(model, image, drawn[:, row].tolist()), rtol=0, atol=1e-9)
    assert (found - images).abs().max() <= EPS + 1e-12
    far = F.cross_entropy(model(images), drawn[-1], reduction="none") - F.cross_entropy(model(found), drawn[-1])
    assert far.mean() > 0


def first_round(attack: Any) -> tuple[Tensor, dict[str, Tensor], nn.Module]:
    """What was asked first, what is made of it, and the student by which it is."""
    student = nn.Module()
    for row in attack.run(access_for(attack)):
        state = row.training.state()
        if len(state["asked"]["made"]):
            return some().images[state["asked"]["rows"]], state["asked"], student
        student = deepcopy(row.training.model).double().eval()
    raise AssertionError("nothing was made")


def thief(**how: Any) -> Any:
    return JacobianAugmentation(**{"query_budget": 60, "seed_images": SEEDS, "rounds": 1, **FILLED, **how})


@pytest.mark.parametrize("labels", ["soft", "hard"])
@pytest.mark.parametrize("variant", ["plain", "self", "top_k"])
def test_images_are_made_by_the_student_and_the_victims_labels(variant: Any, labels: Any) -> None:
    images, asked, student = first_round(thief(variant=variant, labels=labels))
    named = named_labels(asked["answers"])[:SEEDS].tolist()
    made = []
    for image, label in zip(images.double() / 255, named, strict=True):
        if variant == "top_k":
            likely = student(image[None])[0].argsort(descending=True).tolist()
            likely.remove(label)
            made.append(torch.stack([plain_towards(student, image, [target] * 8) for target in likely[:3]]))
        else:
            sign = plain_slope(student, image, label).sign()
            made.append((image + (EPS if variant == "plain" else -EPS) * sign).clamp(0, 1)[None])
    expected = torch.stack(made, 1).flatten(0, 1)
    away = (asked["made"].double() - 255 * expected).abs()
    assert (away > 0.51).double().mean() < 0.005, "a sign may differ where a slope is nearly nothing"


@pytest.mark.parametrize("variant", ["plain", "self", "top_k", "random_target"])
def test_what_is_made_is_a_picture_within_eps(variant: Any) -> None:
    images, asked, _ = first_round(thief(variant=variant))
    copies = len(asked["made"]) // SEEDS
    assert copies == (1 if variant in ("plain", "self") else 3)
    assert asked["made"].dtype == torch.uint8
    away = (asked["made"].double() - images.double().repeat(copies, 1, 1, 1)).abs() / 255
    assert 0.5 * EPS < away.max() <= EPS + 0.5 / 255


def test_plain_moves_away_from_the_label_and_self_moves_into_it() -> None:
    for variant, sign in (("plain", 1), ("self", -1)):
        images, asked, student = first_round(thief(variant=variant))
        named = named_labels(asked["answers"])[:SEEDS]
        before, after = (
            F.cross_entropy(predict_logits(student.float(), one), named) for one in (images, asked["made"])
        )
        assert sign * (after - before) > 0


def test_random_targets_are_drawn_anew() -> None:
    _, asked, _ = first_round(thief(variant="random_target"))
    one, other, third = torch.split(asked["made"], SEEDS)
    assert not torch.equal(one, other)
    assert not torch.equal(other, third)


def test_only_the_seeds_are_known() -> None:
    attack = thief(query_budget=40, rounds=None, round_epochs=1)
    seeds = transfer_set(some(), SEEDS, make_generator(attack.seed, "budget"))
    access = access_for(attack)
    assert torch.equal(attack.transfer_images(access).images, seeds.images)
    *_, last = attack.run(access)
    asked = last.training.state()["asked"]
    assert torch.equal(some().images[asked["rows"]], seeds.images)
    assert len(asked["made"]) == 40 - SEEDS


@pytest.mark.parametrize(
    ("how", "lots"),
    [
        ({}, [100, 100, 200, 400, 200]),
        ({"rounds": 2}, [100, 100, 200]),
        ({"most_per_round": 150}, [100, 100, 150, 150, 150, 150, 150, 50]),
        ({"variant": "random_target", "targets": 3}, [100, 300, 600]),
        ({"variant": "top_k", "targets": 2, "most_per_round": 150, "rounds": 3}, [100, 200, 300, 300]),
        ({"seed_images": 999}, [999, 1]),
    ],
)
def test_rounds_grow_until_the_budget_is_spent(how: Any, lots: list[int]) -> None:
    assert JacobianAugmentation(query_budget=1000, **how).lots() == lots


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ({"steps": 4}, r"^attack\.steps: 4 is not allowed: plain makes one move without a target$"),
        ({"variant": "self", "targets": 2}, r"^attack\.targets: 2 is not allowed: self makes one move"),
        ({"eps": 0.0}, r"^attack\.eps: 0.0 is not allowed"),
        ({"variant": "jbda"}, r"^attack\.variant: 'jbda' is not allowed"),
    ],
)
def test_what_makes_no_sense_is_refused(how: Any, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        decode(Attack, {"kind": "jacobian_augmentation", "query_budget": 500, **how}, "attack")
