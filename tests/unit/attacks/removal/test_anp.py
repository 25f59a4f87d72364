"""Neuron pruning: the game of masks and noise by a plain loop, and what is pruned."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mwm.attacks import AdversarialNeuronPruning
from mwm.attacks.access import TargetFacts
from mwm.config.randomness import derive_seed, make_generator
from mwm.config.spec import decode
from mwm.training.evaluation import predict_logits
from mwm.training.recipe import MultiStep, Recipe
from mwm.training.step import Batch
from mwm.trials.trial import Victim, data_key
from tests.helpers.records import DATA, Loaded
from tests.helpers.stealing import access_for, same, some, steal, victim

RECIPE = Recipe(epochs=3, batch_size=10, lr=2.0, momentum=0.9, weight_decay=0.0, schedule=MultiStep())
ATTACK = AdversarialNeuronPruning(share=1.0, threshold=0.3, recipe=RECIPE)
SCALES = ("network.norm0.weight", "network.norm1.weight")


def masks_of(attack: AdversarialNeuronPruning) -> list[Tensor]:
    *_, last = attack.run(access_for(attack, views=False))
    network: Any = last.training
    return [mask.detach().clone() for mask in network.network.masks]


def plain_masks(attack: AdversarialNeuronPruning) -> list[Tensor]:
    """Written into the layers of a copy: gradients of scales and shifts are those of masks and noise by the chain."""
    own: Any = victim().train()
    norms, part = [own.network.norm0, own.network.norm1], some()
    scales, shifts = ([getattr(one, name).data.clone() for one in norms] for name in ("weight", "bias"))
    masks, momenta = [torch.ones_like(one) for one in scales], [torch.zeros_like(one) for one in scales]

    def slopes(rows: Tensor, by: list[Tensor], to: list[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        for i, norm in enumerate(norms):
            norm.weight.data = scales[i] * (masks[i] + by[i])
            norm.bias.data = shifts[i] * (1 + to[i])
        loss = F.cross_entropy(own(part.images[rows].float() / 255), part.labels[rows])
        found = torch.autograd.grad(loss, [*(norm.weight for norm in norms), *(norm.bias for norm in norms)])
        return [a * b for a, b in zip(found[:2], scales, strict=True)], [
            a * b for a, b in zip(found[2:], shifts, strict=True)
        ]

    still = [torch.zeros_like(one) for one in scales]
    for epoch in range(attack.recipe.epochs):
        draw = torch.Generator().manual_seed(derive_seed(0, "draw", epoch))
        order = torch.randperm(len(part), generator=make_generator(0, "order", epoch))
        for rows in torch.split(order[: len(part) // 10 * 10], 10):
            noise = [
                (2 * attack.perturbation * torch.rand(one.shape, generator=draw) - attack.perturbation)
                for one in scales * 2
            ]
            by, to = noise[:2], noise[2:]
            for _ in range(attack.perturbation_steps):
                up, side = slopes(rows, by, to)
                move = attack.perturbation / attack.perturbation_steps
                by = [a + move * b.sign() for a, b in zip(by, up, strict=True)]
                to = [a + move * b.sign() for a, b in zip(to, side, strict=True)]
            disturbed, clean = slopes(rows, by, to)[0], slopes(rows, still, still)[0]
            for i, momentum in enumerate(momenta):
                momentum.mul_(0.9).add_(attack.alpha * clean[i] + (1 - attack.alpha) * disturbed[i])
                masks[i] = (masks[i] - attack.recipe.lr * momentum).clamp(0, 1)
    return masks


@pytest.mark.parametrize(("steps", "alpha"), [(1, 0.2), (3, 0.6)])
def test_masks_are_learnt_by_the_plain_loop(steps: int, alpha: float) -> None:
    attack = replace(ATTACK, share=1.0, perturbation_steps=steps, alpha=alpha, recipe=replace(RECIPE, epochs=2, lr=0.5))
    learnt = _unshuffled(attack)
    expected = plain_masks(attack)
    for own, other in zip(learnt, expected, strict=True):
        torch.testing.assert_close(own.clamp(0, 1), other, rtol=1e-3, atol=1e-4)
    assert any((one < 0.98).any() for one in expected), "nothing was learnt"


def _unshuffled(attack: AdversarialNeuronPruning) -> list[Tensor]:
    """The masks where the share, which is all images, keeps their order."""
    access = access_for(attack, views=False)
    draw = torch.randperm(34, generator=make_generator(0, "share"))
    *_, last = attack.run(replace(access, images=access.images.select(draw.argsort())))
    network: Any = last.training
    return list(network.network.masks)


def test_pruned_channels_are_zero_and_nothing_else_changes() -> None:
    masks, before, after = masks_of(ATTACK), victim().state_dict(), steal(ATTACK, access_for(ATTACK, views=False))
    pruned = 0
    for name, value in after.items():
        if name in SCALES:
            gone = masks[SCALES.index(name)].clamp(0, 1) <= 0.3
            pruned += int(gone.sum())
            assert (value[gone] == 0).all()
            assert torch.equal(value[~gone], before[name][~gone])
            assert (before[name] != 0).all()
        else:
            assert torch.equal(value, before[name]), f"{name} has moved"
    assert 0 < pruned < sum(map(len, masks))


def test_a_higher_threshold_prunes_more_and_one_prunes_all() -> None:
    counts = []
    for threshold in (0.0, 0.3, 0.9, 1.0):
        attack = replace(ATTACK, threshold=threshold)
        after = steal(attack, access_for(attack, views=False))
        counts.append(sum(int((after[name] == 0).sum()) for name in SCALES))
    assert counts == sorted(counts)
    assert counts[0] < counts[-1] == 12


def test_a_step_and_the_network_that_is_kept_have_masks_within_their_range() -> None:
    access, part = access_for(ATTACK, views=False), some(8)
    objective, training = ATTACK.objective(access, some()), ATTACK.training(access.model, some())
    network: Any = training.network
    with torch.no_grad():
        network.masks[0].fill_(3.0)
        network.masks[1].fill_(-2.0)
    scales = {name: training.model.state_dict()[name] for name in SCALES}
    assert torch.equal(scales[SCALES[0]], victim().state_dict()[SCALES[0]])
    assert (scales[SCALES[1]] == 0).all()
    objective(network, Batch(part.images / 255, part.labels, torch.arange(8)), torch.Generator())
    assert (network.masks[0] == 1).all()
    assert (network.masks[1] == 0).all()
    assert not network.noise, "the noise of a step has stayed"


def test_each_epoch_is_told_of_the_pruned_network() -> None:
    for row in ATTACK.run(access_for(ATTACK, views=False)):
        answers = predict_logits(row.training.model, access_for(ATTACK).validation.images).argmax(1)
        assert row.val_acc == (answers == access_for(ATTACK).validation.labels).double().mean()
        assert set(row.training.model.state_dict()) == set(victim().state_dict())


def test_a_network_that_asks_through_whole_masks_is_the_victims() -> None:
    attack = replace(ATTACK, threshold=0.0, recipe=replace(RECIPE, lr=1e-9))
    assert same(steal(attack), victim().state_dict())


def test_published_defaults() -> None:
    attack = AdversarialNeuronPruning()
    recipe = attack.recipe
    assert (attack.perturbation, attack.perturbation_steps, attack.alpha, attack.threshold, attack.share) == (
        0.4,
        1,
        0.2,
        0.2,
        0.01,
    )
    assert (recipe.epochs, recipe.batch_size, recipe.lr, recipe.momentum, recipe.weight_decay) == (30, 128, 0.2, 0.9, 0)
    assert AdversarialNeuronPruning.strength == "threshold"


def plain_network(shape: tuple[int, int, int], classes: int) -> nn.Module:
    """What a record builds by its function."""
    return nn.Sequential(nn.Flatten(), nn.Linear(shape[1] * shape[2], classes))


def test_a_network_without_batch_norm_is_told(sets: Loaded) -> None:
    tree = {"data": "digits", "scheme": "none", "model": {"kind": "python", "function": f"{__name__}:plain_network"}}
    owner = decode(Victim, tree)
    facts = TargetFacts(path="a", victim=owner, datasets={owner.data: sets[data_key(DATA)]})
    with pytest.raises(ValueError, match=r"^a: anp is not allowed: .*plain_network has no batch norm$"):
        ATTACK.validate(facts)


@pytest.mark.parametrize(
    ("tree", "fault"),
    [
        ({"threshold": 1.5}, "threshold: 1.5 is not allowed"),
        ({"perturbation": 0.0}, "perturbation: 0.0 is not allowed"),
        (
            {"recipe": {"compile": True}},
            "recipe.compile: true is not allowed: masks stand between the layers of the network: must be false",
        ),
    ],
)
def test_a_mistake_is_one_line(tree: dict[str, Any], fault: str) -> None:
    with pytest.raises(ValueError) as told:  # noqa: PT011 - the whole line is compared
        decode(AdversarialNeuronPruning, tree)
    assert str(told.value).startswith(fault)
