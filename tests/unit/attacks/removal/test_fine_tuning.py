"""Fine-tuning: what it changes and what it leaves, and that it is the plain loop."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from mwm.attacks import AttackSequence, FineTuning, Pruning
from mwm.attacks.layers import last_layer
from mwm.attacks.removal.tuning import ADI
from mwm.config.randomness import derive_seed, make_generator
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


@pytest.mark.parametrize("fresh", [True, False])
@pytest.mark.parametrize("frozen", [True, False])
@pytest.mark.parametrize("layers", ["last", "all"])
def test_just_the_tuned_layers_change(layers: Any, frozen: bool, fresh: bool) -> None:
    """FTLL and FTAL, and with a fresh last layer RTLL and RTAL."""
    last, statistics, hidden = split_names()
    batchnorm: Any = "frozen" if frozen else "updated"
    attack = FineTuning(layers=layers, reinitialize=fresh, batchnorm=batchnorm, recipe=RECIPE)
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


@pytest.mark.parametrize("seed", [0, 5])
def test_the_last_layer_is_drawn_anew_as_pytorch_draws_it(seed: int) -> None:
    attack, model = FineTuning(layers="last", reinitialize=True, seed=seed), victim()
    before, elsewhere = victim().state_dict(), torch.get_rng_state()
    attack.prepare(model, replace(access_for(attack), model=model), some())
    assert torch.equal(torch.get_rng_state(), elsewhere), "PyTorch's own generator moved"
    with torch.random.fork_rng():
        torch.manual_seed(derive_seed(seed, "reinitialize"))
        fresh = nn.Linear(8, CLASSES).state_dict()
    for name, value in model.state_dict().items():
        expected = fresh[name.rpartition(".")[2]] if ".fc." in name else before[name]
        assert torch.equal(value, expected), name
    assert {name for name, weight in model.named_parameters() if weight.requires_grad} == split_names()[0]


OPTIMIZERS: list[dict[str, Any]] = [
    {"momentum": 0.9, "weight_decay": 0.1},
    {"optimizer": "adamw", "lr": 0.01, "ema": 0.5},
    {"mixup": 1.0, "clip_grad_norm": 0.1, "nesterov": True, "momentum": 0.5},
]


@pytest.mark.parametrize("settings", OPTIMIZERS, ids=str)
def test_zeros_are_kept(settings: dict[str, Any]) -> None:
    recipe = Recipe(**{"epochs": 3, "batch_size": 10, "lr": 0.1} | settings)
    cut, tuned = Pruning(share=0.5), FineTuning(keep_zeros=True, recipe=recipe)
    zero = {name: value == 0 for name, value in steal(cut).items()}
    kept = steal(AttackSequence(steps=(cut, tuned)))
    weights = [name for name, value in victim().named_parameters() if value.ndim > 1]
    assert all(torch.equal(kept[name] == 0, zero[name]) for name in weights)
    grown = steal(AttackSequence(steps=(cut, replace(tuned, keep_zeros=False))))
    assert not any(bool((grown[name] == 0).any()) for name in weights), "nothing had to be kept"


def plain_loop(
    labels: torch.Tensor, model: nn.Module | None = None, *, seed: int = 0, smoothing: float = 0.0, decay: float = 5e-4
) -> nn.Module:
    """The victim's network, trained further by SGD with momentum and weight decay, spelled out."""
    model, part = (model or victim()).train(), some()
    weights, momenta = list(model.parameters()), [torch.zeros_like(weight) for weight in model.parameters()]
    targets = (1 - smoothing) * F.one_hot(labels, CLASSES) + smoothing / CLASSES
    for epoch in range(RECIPE.epochs):
        order = torch.randperm(len(part), generator=make_generator(seed, "order", epoch))
        for rows in torch.split(order[: len(part) // 10 * 10], 10):
            chances = model(part.images[rows].float() / 255).log_softmax(1)
            grads = torch.autograd.grad(-(targets[rows] * chances).sum(1).mean(), weights)
            for weight, grad, momentum in zip(weights, grads, momenta, strict=True):
                momentum.mul_(0.9).add_(grad + decay * weight.data)
                weight.data -= 0.05 * momentum
    return model


def answers(model: nn.Module) -> torch.Tensor:
    return predict_logits(model, some().images).argmax(1)


def test_smoothed_labels_are_learnt_by_the_plain_loop() -> None:
    attack = FineTuning(labels="predicted", recipe=replace(RECIPE, label_smoothing=0.3))
    ours = steal(attack, access_for(attack, views=False))
    for name, value in plain_loop(answers(victim()), smoothing=0.3).state_dict().items():
        torch.testing.assert_close(ours[name], value, rtol=1e-4, atol=5e-6)


def test_regularisation_then_fine_tuning_is_two_plain_loops() -> None:
    """Much weight decay at first, and then training with what the network predicted when that began."""
    steps = [FineTuning(labels="predicted", recipe=replace(RECIPE, weight_decay=decay)) for decay in (0.1, 5e-4)]
    attack = AttackSequence(steps=tuple(steps))
    model = victim()
    for place, step in enumerate(steps):
        seed = derive_seed(0, "step", place, 0)
        model = plain_loop(answers(model), model, seed=seed, decay=step.recipe.weight_decay)
    ours = steal(attack, access_for(attack, views=False))
    for name, value in model.state_dict().items():
        torch.testing.assert_close(ours[name], value, rtol=1e-4, atol=1e-5)


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
    assert not attack.reinitialize
    assert not attack.keep_zeros
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
