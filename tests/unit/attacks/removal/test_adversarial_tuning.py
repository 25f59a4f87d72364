"""Adversarial tuning: a plain loop with projected gradient ascent inside, and images that stay in their balls."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mwm.attacks import AdversarialTuning
from mwm.attacks.removal import adversarial_tuning
from mwm.config.randomness import make_generator
from mwm.config.spec import decode
from mwm.training.evaluation import predict_logits
from mwm.training.recipe import MultiStep, Recipe
from tests.helpers.stealing import access_for, some, steal, victim

RECIPE = Recipe(epochs=2, batch_size=10, lr=0.05, momentum=0.9, weight_decay=5e-4, schedule=MultiStep())
EPSILONS = (0.02, 0.1)


def climbed(model: nn.Module, images: Tensor, labels: Tensor, *, steps: int, size: float) -> Tensor:
    """Image by image, in evaluation mode: each goes back to its ball after a step, and to what an image can be."""
    model.eval()
    moved = []
    for number, (image, label) in enumerate(zip(images, labels, strict=True)):
        most, x = EPSILONS[number % len(EPSILONS)], image[None].clone()
        for _ in range(steps):
            x.requires_grad_()
            (slope,) = torch.autograd.grad(F.cross_entropy(model(x), label[None]), x)
            x = image[None] + (x.detach() + size * slope.sign() - image[None]).clamp(-most, most)
            x = x.clamp(0, 1)
        moved.append(x)
    model.train()
    return torch.cat(moved)


@pytest.mark.parametrize("labels", ["true", "predicted"])
@pytest.mark.parametrize("share", [0.25, 1.0])
def test_it_is_the_plain_loop(share: float, labels: Any) -> None:
    attack = AdversarialTuning(labels=labels, share=share, epsilons=EPSILONS, step_size=0.03, steps=3, recipe=RECIPE)
    model, part, count = victim().train(), some(), math.ceil(share * 10)
    taught = part.labels if labels == "true" else predict_logits(model, part.images).argmax(1)
    weights, momenta = list(model.parameters()), [torch.zeros_like(weight) for weight in model.parameters()]
    for epoch in range(RECIPE.epochs):
        order = torch.randperm(len(part), generator=make_generator(0, "order", epoch))
        for rows in torch.split(order[: len(part) // 10 * 10], 10):
            images, answers = part.images[rows].float() / 255, taught[rows]
            more = climbed(model, images[:count], answers[:count], steps=3, size=0.03)
            logits = model(torch.cat([images, more]))
            loss = F.cross_entropy(logits, torch.cat([answers, answers[:count]]))
            for weight, grad, momentum in zip(weights, torch.autograd.grad(loss, weights), momenta, strict=True):
                momentum.mul_(0.9).add_(grad + 5e-4 * weight.data)
                weight.data -= 0.05 * momentum
    ours = steal(attack, access_for(attack, views=False))
    for name, value in model.state_dict().items():
        torch.testing.assert_close(ours[name], value, rtol=1e-3, atol=1e-5)


def test_images_move_as_far_as_their_epsilon_and_no_further() -> None:
    attack = AdversarialTuning(share=0.6, epsilons=EPSILONS, step_size=0.03, steps=5, recipe=RECIPE)
    shown: list[Tensor] = []
    access = access_for(attack, views=False)
    access.model.register_forward_pre_hook(lambda layer, x: shown.append(x[0].detach()) if layer.training else None)
    steal(attack, access)
    assert len(shown) == 2 * 3
    for batch in shown:
        assert len(batch) == 16
        assert 0 <= batch.min() <= batch.max() <= 1
        drift = (batch[10:] - batch[:6]).abs().flatten(1).amax(1)
        assert drift.tolist() == pytest.approx([EPSILONS[k % 2] for k in range(6)], abs=1e-6)


def test_the_defaults_are_those_of_lukas() -> None:
    attack = decode(AdversarialTuning, {})
    assert (attack.epsilons, attack.step_size, attack.steps) == ((0.01, 0.1, 0.25), 0.01, 40)
    assert (attack.labels, adversarial_tuning.RECIPE.epochs) == ("predicted", 5)


@pytest.mark.parametrize(
    ("tree", "fault"),
    [
        ({"share": 0.0}, "share: 0.0 is not allowed: "),
        ({"epsilons": []}, "epsilons: [] is not allowed: "),
        ({"epsilons": [0.0]}, "epsilons.0: 0.0 is not allowed: "),
        ({"recipe": {"mixup": 0.2}}, "recipe.mixup: 0.2 is not allowed: must be 0, as an image is moved against its"),
        ({"recipe": {"keep": "best_validation"}}, "recipe.keep: 'best_validation' is not allowed: must be 'last'"),
        ({"labels": "true", "source": "svhn"}, "source: 'svhn' is not allowed: its labels mean nothing to the victim"),
    ],
)
def test_a_mistake_is_one_line(tree: dict[str, Any], fault: str) -> None:
    with pytest.raises(ValueError) as told:  # noqa: PT011 - the whole line is compared
        decode(AdversarialTuning, tree)
    assert str(told.value).startswith(fault)
