"""Fine-pruning: the channels at rest are cut, stay cut whatever trains, and the rest is the plain loop."""

from __future__ import annotations

import math
from dataclasses import replace
from fractions import Fraction
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mwm.attacks import FinePruning
from mwm.attacks.access import TargetFacts
from mwm.attacks.layers import blank_victim, called_layers
from mwm.config.randomness import make_generator
from mwm.config.spec import decode
from mwm.data.datasets import Digits
from mwm.data.readers import load_dataset
from mwm.models.networks import Cnn, Torchvision
from mwm.training.evaluation import predict_logits
from mwm.training.recipe import MultiStep, Recipe
from mwm.trials.trial import Victim
from mwm.watermarks.schemes import TriggerSet
from tests.helpers.stealing import access_for, some, steal, victim

RECIPE = Recipe(epochs=2, batch_size=10, lr=0.05, momentum=0.9, weight_decay=5e-4, schedule=MultiStep())
SETTINGS: list[dict[str, Any]] = [
    {},
    {"weight_decay": 0.1, "nesterov": True},
    {"optimizer": "adam", "momentum": 0.0},
    {"optimizer": "adamw", "momentum": 0.0, "lr": 0.01, "ema": 0.9},
    {"mixup": 1.0, "clip_grad_norm": 0.1, "label_smoothing": 0.2},
]


def ranks(level: int) -> list[int]:
    """The channels of a convolution, those at rest first: by its norm and ReLU, image by image."""
    model = victim().eval()
    network: Any = model.network
    x = model.normalise(some().images / 255)  # type: ignore[operator]
    with torch.no_grad():
        x = F.relu(network.norm0(network.pool0(network.conv0(x))))
        x = F.relu(network.norm1(network.conv1(x))) if level else x
    means = [sum(image[channel].double().mean().item() for image in x) for channel in range(x.shape[1])]
    return sorted(range(len(means)), key=lambda channel: means[channel])


def of_channels(state: dict[str, Tensor], level: int) -> dict[str, Tensor]:
    """All that a convolution and its norm have for each channel, without statistics."""
    kept = (f"conv{level}.weight", f"norm{level}.weight", f"norm{level}.bias")
    return {name: value for name, value in state.items() if name.endswith(kept)}


@pytest.mark.parametrize("share", [0.3, 0.5, 0.95])
@pytest.mark.parametrize("convolutions", [1, 2])
@pytest.mark.parametrize("settings", SETTINGS, ids=str)
def test_what_is_at_rest_gives_zero_all_along(settings: dict[str, Any], convolutions: int, share: float) -> None:
    attack = FinePruning(share=share, convolutions=convolutions, recipe=replace(RECIPE, **settings))
    for row in attack.run(access_for(attack)):
        trained: Any = row.training
        for model in (trained.network, trained.model):
            for level in (0, 1):
                count = math.floor(Fraction(str(share)) * (4, 8)[level]) if level >= 2 - convolutions else 0
                for value in of_channels(model.state_dict(), level).values():
                    zero = [channel for channel, own in enumerate(value) if not own.any()]
                    assert zero == sorted(ranks(level)[:count])


def test_a_cut_channel_gives_nothing() -> None:
    attack = FinePruning(share=0.5, recipe=RECIPE)
    access = access_for(attack)
    *_, last = attack.run(access)
    network: Any = last.training.model.network
    given: list[Tensor] = []
    network.norm1.register_forward_hook(lambda _, __, out: given.append(out))
    predict_logits(last.training.model, some().images)
    at_rest = [channel for channel in range(8) if not given[0][:, channel].any()]
    assert at_rest == sorted(ranks(1)[:4])


def test_the_rest_is_tuned_by_the_plain_loop() -> None:
    """Which puts the channels back to zero after each step."""
    attack, part = FinePruning(share=0.5, recipe=RECIPE), some()
    model, cut = victim().train(), ranks(1)[:4]
    network: Any = model.network
    weights, momenta = list(model.parameters()), [torch.zeros_like(weight) for weight in model.parameters()]

    def put_back() -> None:
        for weight in (network.conv1.weight, network.norm1.weight, network.norm1.bias):
            weight.data[cut] = 0

    put_back()
    for epoch in range(RECIPE.epochs):
        order = torch.randperm(len(part), generator=make_generator(0, "order", epoch))
        for rows in torch.split(order[: len(part) // 10 * 10], 10):
            loss = F.cross_entropy(model(part.images[rows].float() / 255), part.labels[rows])
            for weight, grad, momentum in zip(weights, torch.autograd.grad(loss, weights), momenta, strict=True):
                momentum.mul_(0.9).add_(grad + 5e-4 * weight.data)
                weight.data -= 0.05 * momentum
            put_back()
    ours = steal(attack, access_for(attack, views=False))
    for name, value in model.state_dict().items():
        torch.testing.assert_close(ours[name], value, rtol=1e-4, atol=5e-6)


class WithoutNorm(nn.Module):
    """A convolution with a bias, and none that normalises behind it."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.fc = nn.Conv2d(1, 6, 3), nn.Linear(6, 4)

    def forward(self, images: Tensor) -> Tensor:
        found: Tensor = self.fc(self.conv(images).relu().mean((2, 3)))
        return found


def test_a_bias_is_cut_where_there_is_no_norm() -> None:
    torch.manual_seed(0)
    attack, model = FinePruning(share=0.5, recipe=RECIPE), WithoutNorm()
    with torch.no_grad():
        means = model.conv(some().images / 255).relu().mean((0, 2, 3))
    after = steal(attack, access_for(attack, model))
    for name in ("conv.weight", "conv.bias"):
        zero = [channel for channel, own in enumerate(after[name]) if not own.any()]
        assert zero == sorted(means.argsort()[:3].tolist())


def test_more_convolutions_than_there_are_is_one_line() -> None:
    digits = load_dataset(Digits())
    for network, said in (
        (Cnn(depth=2), "attacks.0.convolutions: 3 is not allowed: cnn has 2 convolutions"),
        (Torchvision(name="vit_b_16", stem="small"), "3 is not allowed: vit_b_16 has 1 convolution"),
    ):
        owner = Victim(data=Digits(), model=network, scheme=TriggerSet(num_queries=5))
        facts = TargetFacts(path="attacks.0", victim=owner, datasets={Digits(): digits})
        FinePruning(convolutions=1).validate(facts)
        with pytest.raises(ValueError) as told:  # noqa: PT011 - the whole line is compared
            FinePruning(convolutions=3).validate(facts)
        assert str(told.value).endswith(said)


def test_a_share_that_cuts_no_channel_is_one_line() -> None:
    owner = Victim(data=Digits(), model=Cnn(width=4, depth=2), scheme=TriggerSet(num_queries=5))
    facts = TargetFacts(path="attacks.0", victim=owner, datasets={Digits(): load_dataset(Digits())})
    probe: Any = blank_victim(facts)
    channels = [layer for layer in called_layers(*probe) if isinstance(layer, nn.Conv2d)][-1].out_channels
    reason = f"it cuts no channel of {channels}; allowed: 1/{channels} or more"
    told = rf"^attacks\.0\.share: 0\.01 is not allowed: {reason}$"
    with pytest.raises(ValueError, match=told):
        FinePruning(share=0.01).validate(facts)
    FinePruning(share=1 / channels).validate(facts)


@pytest.mark.parametrize(
    ("tree", "fault"),
    [
        ({"share": 1.0}, "share: 1.0 is not allowed: "),
        ({"convolutions": 0}, "convolutions: 0 is not allowed: "),
        ({"source": "svhn"}, "source: 'svhn' is not allowed: its labels mean nothing to the victim"),
    ],
)
def test_a_mistake_is_one_line(tree: dict[str, Any], fault: str) -> None:
    with pytest.raises(ValueError) as told:  # noqa: PT011 - the whole line is compared
        decode(FinePruning, tree)
    assert str(told.value).startswith(fault)
