"""WRK: images pushed along a logit's gradient with wrong labels, a fresh last layer, and its term of the loss."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import nn

from mwm.attacks import FineTuning, Wrk
from mwm.attacks.access import TargetFacts
from mwm.attacks.layers import last_layer
from mwm.config.randomness import make_generator
from mwm.config.spec import decode
from mwm.data.images import to_float
from mwm.training.evaluation import predict_logits
from mwm.training.recipe import MultiStep, Recipe
from mwm.training.step import Batch
from mwm.trials.trial import data_key
from tests.helpers.records import DATA, VICTIM, Loaded
from tests.helpers.stealing import CLASSES, access_for, some, steal, victim

RECIPE = Recipe(epochs=2, batch_size=10, lr=0.05, momentum=0.9, weight_decay=0.0, schedule=MultiStep())
ATTACK = Wrk(share=1.0, pushed=34, step_size=0.31, recipe=RECIPE)


def linear() -> nn.Sequential:
    """A network whose logits have the rows of a matrix for gradients."""
    layer = nn.Linear(36, CLASSES)
    layer.weight.data = torch.randn(CLASSES, 36, generator=torch.Generator().manual_seed(3))
    layer.bias.data.zero_()
    return nn.Sequential(nn.Flatten(), layer)


def test_images_move_along_the_gradient_of_one_logit_a_batch() -> None:
    model: Any = linear()
    access = access_for(ATTACK, model, views=False)
    moved = ATTACK.pushed_images(access, some())
    draw, batches = make_generator(0, "pushed"), torch.split(some().images, 10)
    targets = [int(torch.randint(CLASSES, (), generator=draw)) for _ in batches]
    assert len(set(targets)) > 1
    expected = []
    for batch, target in zip(batches, targets, strict=True):
        x = batch.double() / 255 + 0.31 * model[1].weight[target].detach().sign().double().view(1, 1, 6, 6)
        expected.append((255 * x.clamp(0, 1)).round())
    assert torch.equal(moved.images, torch.cat(expected).to(torch.uint8))


def test_labels_are_any_but_the_own_one_even_the_first_class() -> None:
    many = some(600, 9)
    access = access_for(ATTACK, linear(), views=False)
    labels = ATTACK.pushed_images(access, many).labels
    assert (labels != many.labels).all()
    for own in range(CLASSES):
        counts = torch.bincount(labels[many.labels == own], minlength=CLASSES)
        assert counts.argsort()[0] == own
        assert (counts[counts > 0] > 30).all()
        assert (counts > 0).sum() == CLASSES - 1


def test_clean_and_pushed_images_are_learnt_together() -> None:
    attack = replace(ATTACK, share=0.5, pushed=6)
    access = access_for(attack, views=False)
    taught: Any = attack.taught(access)
    assert len(taught) == 17 + 6
    rows = [(some().images == one).flatten(1).all(1).nonzero() for one in taught.images[:17]]
    assert torch.equal(taught.labels[:17], some().labels[torch.cat(rows).flatten()])
    shifted = (to_float(taught.images[17:]) - to_float(taught.images[:6])).abs()
    assert shifted.max() <= 0.31 + 1 / 255
    assert shifted.mean() > 0.1


def test_labels_that_are_predicted_are_the_ones_avoided() -> None:
    attack = replace(ATTACK, labels="predicted")
    taught: Any = attack.taught(access_for(attack, views=False))
    assert torch.equal(taught.labels[:34], predict_logits(victim(), taught.images[:34]).argmax(1))
    assert (taught.labels[34:] != taught.labels[:34]).all()


def test_the_loss_is_the_cross_entropy_and_the_inner_product() -> None:
    attack, part = replace(ATTACK, alpha=0.7), some(8, 4)
    model: Any = linear()
    access = access_for(attack, model, views=False)
    old = model[1].weight.detach().clone().double()
    objective = attack.objective(access, some())
    attack.prepare(access.model, access, some())
    own: Any = access.model
    weights, shift = own[1].weight.detach().double(), own[1].bias.detach().double()
    assert weights.abs().max() <= 1 / 6 < old.abs().max()
    batch = Batch(to_float(part.images), part.labels, torch.arange(8))
    expected = 0.0
    for image, label in zip(part.images.double() / 255, part.labels, strict=True):
        logits = [float((weights[c] * image.flatten()).sum() + shift[c]) for c in range(CLASSES)]
        expected -= torch.tensor(logits, dtype=torch.float64).log_softmax(0)[label].item() / 8
    expected += 0.7 * sum(float(a * b) for a, b in zip(weights.flatten(), old.flatten(), strict=True))
    assert objective(own, batch, torch.Generator()).item() == pytest.approx(expected, rel=1e-5)


def test_a_heavy_term_turns_the_last_layer_away() -> None:
    old = victim().state_dict()["network.fc.weight"]
    light, heavy = (
        (steal(replace(ATTACK, alpha=alpha))["network.fc.weight"] * old).sum().item() for alpha in (0.0, 1.0)
    )
    assert heavy < light - 1
    assert heavy < 0


def test_published_defaults() -> None:
    attack = Wrk()
    recipe = attack.recipe
    assert (attack.share, attack.pushed, attack.alpha) == (0.05, 128, 0.01)
    assert (recipe.epochs, recipe.batch_size, recipe.lr, recipe.momentum) == (10, 32, 1e-3, 0.9)
    assert (recipe.weight_decay, recipe.schedule.kind, Wrk.strength) == (0.0, "cosine", "alpha")


class Odd(nn.Module):
    """A network whose last layer with weights is a normalisation."""

    def __init__(self) -> None:
        super().__init__()
        self.flat, self.last = nn.Flatten(), nn.LayerNorm(4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        found: torch.Tensor = self.last(self.flat(x)[:, :4])
        return found


def odd_network() -> nn.Module:
    """What a record builds by its function."""
    return Odd()


@pytest.mark.parametrize(
    ("attack", "said"),
    [(ATTACK, "attack: wrk"), (FineTuning(reinitialize=True, recipe=RECIPE), "attack.reinitialize: true")],
)
def test_a_last_layer_that_cannot_be_drawn_anew_is_told(attack: Any, said: str, sets: Loaded) -> None:
    assert isinstance(last_layer(Odd(), some().images), nn.LayerNorm)
    network = {"kind": "python", "function": f"{__name__}:odd_network"}
    owner: Any = replace(
        VICTIM, model=decode(type(VICTIM), {"data": "digits", "model": network, "scheme": "none"}).model
    )
    facts = TargetFacts(path="attack", victim=owner, datasets={DATA: sets[data_key(DATA)]})
    reason = f"{said} is not allowed: the last layer of .*odd_network is a LayerNorm; allowed: linear layers and conv"
    with pytest.raises(ValueError, match=reason):
        attack.validate(facts)
    attack.validate(replace(facts, victim=VICTIM))


@pytest.mark.parametrize(
    ("tree", "fault"),
    [
        ({"share": 0.0}, "share: 0.0 is not allowed"),
        ({"step_size": 0.0}, "step_size: 0.0 is not allowed"),
        ({"pushed": 0}, "pushed: 0 is not allowed"),
        ({"alpha": -0.1}, "alpha: -0.1 is not allowed"),
        ({"source": "svhn"}, "source: 'svhn' is not allowed: its labels mean nothing to the victim"),
    ],
)
def test_a_mistake_is_one_line(tree: dict[str, Any], fault: str) -> None:
    with pytest.raises(ValueError) as told:  # noqa: PT011 - the whole line is compared
        decode(Wrk, tree)
    assert str(told.value).startswith(fault)
