"""Fine-tuning: what it changes and what it leaves, and that it is the plain loop."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from mwm.attacks import FineTuning
from mwm.attacks.layers import last_layer
from mwm.attacks.removal.tuning import ADI
from mwm.config.randomness import make_generator
from mwm.config.spec import decode
from mwm.data.splits import LabeledImages
from mwm.training.evaluation import predict_logits
from mwm.training.recipe import MultiStep, Recipe
from tests.helpers.stealing import CLASSES, access_for, some, steal, victim

RECIPE = Recipe(epochs=2, batch_size=10, lr=0.05, momentum=0.9, weight_decay=5e-4, schedule=MultiStep())


def changed(attack: FineTuning) -> set[str]:
    """The names of all that is another after the attack than before: weights and statistics, without counters."""
    before = victim().state_dict()
    after = steal(attack, access_for(attack, views=True))
    return {name for name, value in after.items() if not torch.equal(value, before[name]) and "tracked" not in name}


def split_names() -> tuple[set[str], set[str], set[str]]:
    names = {name for name in victim().state_dict() if "tracked" not in name and "normalise" not in name}
    last = {name for name in names if ".fc." in name}
    statistics = {name for name in names if "running" in name}
    return last, statistics, names - last - statistics


@pytest.mark.parametrize("frozen", [True, False])
@pytest.mark.parametrize("layers", ["last", "all"])
def test_just_the_tuned_layers_change(layers: Any, frozen: bool) -> None:
    last, statistics, hidden = split_names()
    attack = FineTuning(layers=layers, batchnorm="frozen" if frozen else "updated", recipe=RECIPE)
    expected = last | (hidden if layers == "all" else set()) | (set() if frozen else statistics)
    assert changed(attack) == expected


def test_the_last_layer_gives_the_logits() -> None:
    layer = last_layer(victim(), some().images)
    assert isinstance(layer, nn.Linear)
    assert layer.out_features == CLASSES
    upside_down = nn.ModuleDict({"head": nn.Linear(4, 3), "body": nn.Conv2d(1, 4, 1)})

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.parts = upside_down

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            found: torch.Tensor = self.parts["head"](self.parts["body"](images).mean((2, 3)))
            return found

    assert last_layer(Net(), some().images[:, :1]) is upside_down["head"]


def plain_loop(labels: torch.Tensor) -> nn.Module:
    """The victim's network, trained further by SGD with momentum and weight decay, spelled out."""
    model, part = victim().train(), some()
    weights, momenta = list(model.parameters()), [torch.zeros_like(weight) for weight in model.parameters()]
    for epoch in range(RECIPE.epochs):
        order = torch.randperm(len(part), generator=make_generator(0, "order", epoch))
        for rows in torch.split(order[: len(part) // 10 * 10], 10):
            loss = F.cross_entropy(model(part.images[rows].float() / 255), labels[rows])
            grads = torch.autograd.grad(loss, weights)
            for weight, grad, momentum in zip(weights, grads, momenta, strict=True):
                momentum.mul_(0.9).add_(grad + 5e-4 * weight.data)
                weight.data -= 0.05 * momentum
    return model


@pytest.mark.parametrize("labels", ["true", "predicted"])
def test_all_layers_are_tuned_by_the_plain_loop(labels: Any) -> None:
    attack = FineTuning(labels=labels, recipe=RECIPE)
    taught = some().labels if labels == "true" else predict_logits(victim(), some().images).argmax(1)
    assert not torch.equal(taught, some().labels) or labels == "true", "this victim knows all labels"
    ours = steal(attack, access_for(attack, views=False))
    for name, value in plain_loop(taught).state_dict().items():
        torch.testing.assert_close(ours[name], value, rtol=1e-4, atol=5e-6)


def test_predicted_labels_ask_for_no_true_one() -> None:
    attack = FineTuning(labels="predicted", recipe=RECIPE)
    access = access_for(attack)
    wrong = LabeledImages(access.images.images, (access.images.labels + 1) % CLASSES)
    one, other = steal(attack, access_for(attack)), steal(attack, replace(access, images=wrong))
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_the_defaults_are_those_of_adi() -> None:
    attack = decode(FineTuning, {})
    assert (attack.layers, attack.labels, attack.source.kind) == ("all", "true", "victim_data")
    assert (ADI.epochs, ADI.lr, ADI.momentum, ADI.weight_decay, ADI.batch_size) == (20, 1e-3, 0.9, 5e-4, 100)
    assert {ADI.schedule.lr_factor(epoch, 20) for epoch in range(20)} == {1.0}


@pytest.mark.parametrize(
    ("tree", "fault"),
    [
        ({"layers": "first"}, "layers: 'first' is not allowed: must be 'last' or 'all'"),
        (
            {"source": "svhn"},
            "source: 'svhn' is not allowed: its labels mean nothing to the victim; allowed with labels: predicted",
        ),
        ({"recipe": {"keep": "best_validation"}}, "recipe.keep: 'best_validation' is not allowed: must be 'last'"),
        ({"student": "resnet18"}, "student: unknown key"),
    ],
)
def test_a_mistake_is_one_line(tree: dict[str, Any], fault: str) -> None:
    with pytest.raises(ValueError) as told:  # noqa: PT011 - the whole line is compared
        decode(FineTuning, tree)
    assert str(told.value).startswith(fault)
