"""Dehydration: each term of an inversion by a plain loop, inversions that fit their class, and what is unlearnt."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mwm.attacks import NeuralDehydration
from mwm.attacks.access import TargetFacts
from mwm.attacks.removal.neural_dehydration import Inversion, inversion_loss, statistics_distances, uncertainty
from mwm.config.randomness import make_generator
from mwm.config.spec import decode
from mwm.training.evaluation import predict_logits
from mwm.training.recipe import MultiStep, Recipe
from mwm.training.step import Batch
from mwm.trials.trial import Victim, data_key
from tests.helpers.records import DATA, Loaded
from tests.helpers.stealing import CLASSES, access_for, same, some, steal, victim

RECIPE = Recipe(epochs=2, batch_size=10, lr=0.01, momentum=0.9, weight_decay=5e-4, schedule=MultiStep())
HOW = Inversion(images=6, steps=60)
ATTACK = NeuralDehydration(share=1.0, inversion=HOW, recipe=RECIPE)


def plain_terms(images: Tensor, label: int) -> dict[str, float]:
    """Every term in float64, number by number."""
    model: Any = victim().double().eval()
    n, channels, height, width = images.shape
    x = ((images - 0.4) / 0.3).tolist()
    rows = columns = length = 0.0
    for i in range(n):
        for c in range(channels):
            for a in range(height):
                for b in range(width):
                    length += x[i][c][a][b] ** 2
                    rows += (x[i][c][a][b] - x[i][c][a - 1][b]) ** 2 if a else 0
                    columns += (x[i][c][a][b] - x[i][c][a][b - 1]) ** 2 if b else 0
    smooth = 2 * (rows / (channels * (height - 1) * width) + columns / (channels * height * (width - 1))) / n
    norm, reached = model.network.norm0, model.network.pool0(model.network.conv0(model.normalise(images)))
    flat = reached.transpose(0, 1).reshape(norm.num_features, -1)
    away, spread = 0.0, 0.0
    for c, values in enumerate(flat.tolist()):
        mean = sum(values) / len(values)
        var = sum((value - mean) ** 2 for value in values) / len(values)
        away += (mean - float(norm.running_mean[c])) ** 2
        spread += (var - float(norm.running_var[c])) ** 2
    named = -model(images).log_softmax(1)[:, label].mean().item()
    return {
        "class": named,
        "smoothness": smooth,
        "energy": length**0.5 / n,
        "statistics": away**0.5 + spread**0.5,
    }


@pytest.mark.parametrize("weights", [(0.03, 0.01, 0.1), (1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0)])
def test_the_loss_of_an_inversion_is_that_of_a_plain_loop(weights: tuple[float, float, float]) -> None:
    images = torch.rand(3, 1, 6, 6, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    smoothness, energy, statistics = weights
    how = Inversion(smoothness=smoothness, energy=energy, statistics=statistics)
    terms = plain_terms(images, 2)
    expected = terms["class"] + sum(weight * terms[name] for name, weight in vars(how).items() if name in terms)
    found = inversion_loss(victim().double().eval(), images, label=2, how=how).item()
    assert found == pytest.approx(expected, rel=1e-6)


def test_an_inversion_is_adam_on_a_falling_rate() -> None:
    """Adam spelled out, from the same beginning: (tanh v + 1) / 2, betas .5 and .9, a cosine to a rate of 0.0001."""
    attack = replace(ATTACK, inversion=Inversion(images=3, steps=5))
    model = victim().eval()
    v = torch.randn(3, 1, 6, 6, generator=make_generator(0, "inversion", 1))
    first, second = torch.zeros_like(v), torch.zeros_like(v)
    for step in range(5):
        v.requires_grad_()
        loss = inversion_loss(model, (v.tanh() + 1) / 2, label=1, how=attack.inversion)
        (slope,) = torch.autograd.grad(loss, v)
        first, second = 0.5 * first + 0.5 * slope, 0.9 * second + 0.1 * slope**2
        rate = 1e-4 + (0.1 - 1e-4) * (1 + math.cos(math.pi * step / 5)) / 2
        mean, size = first / (1 - 0.5 ** (step + 1)), second / (1 - 0.9 ** (step + 1))
        v = v.detach() - rate * mean / (size.sqrt() + 1e-8)
    found = attack.made_images(access_for(attack, views=False))[3:6].float() / 255
    torch.testing.assert_close(found, (v.tanh() + 1) / 2, rtol=0, atol=0.51 / 255 + 1e-4)


def test_inversions_are_of_their_class_and_lower_their_loss() -> None:
    access = access_for(ATTACK, views=False)
    made = ATTACK.made_images(access)
    assert made.dtype == torch.uint8
    assert made.shape == (6 * CLASSES, 1, 6, 6)
    assert same(access.model.state_dict(), victim().state_dict()), "statistics have moved"
    wanted = torch.arange(CLASSES).repeat_interleave(6)
    assert (predict_logits(victim(), made).argmax(1) == wanted).double().mean() > 0.8
    for label in range(CLASSES):
        drawn = torch.randn(6, 1, 6, 6, generator=make_generator(0, "inversion", label))
        begun, own = ((drawn.tanh() + 1) / 2, made[6 * label : 6 * label + 6].float() / 255)
        before, after = (inversion_loss(victim().eval(), x, label=label, how=HOW).item() for x in (begun, own))
        assert after < before


def test_a_heavy_term_of_statistics_brings_them_closer() -> None:
    def distance(weight: float) -> float:
        attack = replace(ATTACK, inversion=replace(HOW, statistics=weight))
        made = attack.made_images(access_for(attack, views=False))[:6]
        with torch.no_grad(), statistics_distances(model := victim().eval()) as found:
            model(made / 255)
        return float(found[0])

    assert distance(50.0) < 0.7 * distance(0.0)


def test_of_many_layers_the_last_two_are_left_out_and_of_few_the_first_counts() -> None:
    model: Any = victim().eval()
    images = torch.rand(3, 1, 6, 6, generator=torch.Generator().manual_seed(1))
    how = Inversion(smoothness=0, energy=0, statistics=1.0)
    alone = inversion_loss(model, images, label=0, how=replace(how, statistics=0.0)).item()
    with torch.no_grad(), statistics_distances(model) as found:
        model(images)
    assert inversion_loss(model, images, label=0, how=how).item() - alone == pytest.approx(found[0].item(), rel=1e-4)
    body, head = model.network[:7], model.network[7:]
    deeper = nn.Sequential(model.normalise, *body, nn.BatchNorm2d(8), nn.BatchNorm2d(8), *head).eval()
    with torch.no_grad(), statistics_distances(deeper) as found:
        deeper(images)
    assert len(found) == 4
    difference = [
        inversion_loss(deeper, images, label=0, how=replace(how, statistics=one)).item() for one in (0.0, 1.0)
    ]
    assert difference[1] - difference[0] == pytest.approx(float(found[0] + found[1]), rel=1e-4)


def test_uncertainty_is_the_divergence_from_uniform_over_images_and_classes() -> None:
    logits = 3 * torch.randn(5, CLASSES, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    total = 0.0
    for row in logits.tolist():
        answers = [math.exp(z) / sum(math.exp(y) for y in row) for z in row]
        total += sum(0.25 * math.log(0.25 / q) for q in answers)
    assert uncertainty(logits).item() == pytest.approx(total / (5 * CLASSES), rel=1e-5)
    assert uncertainty(torch.zeros(3, 7)).item() == pytest.approx(0, abs=1e-6)


def test_clean_and_made_images_are_learnt_in_one_pass() -> None:
    access, part = access_for(ATTACK, views=False), some(8, 3)
    made = ATTACK.made_images(access)
    pick = torch.randint(len(made), (8,), generator=make_generator(5, "draw"))
    logits = victim().train()(torch.cat([part.images, made[pick]]) / 255).detach().double()
    own = logits[8:].softmax(1)
    divergence = sum(float(0.25 * (0.25 / q).log()) for q in own.flatten()) / own.numel()
    expected = F.cross_entropy(logits[:8], part.labels).item() + 15 * divergence
    batch = Batch(part.images / 255, part.labels, torch.arange(8))
    found = ATTACK.objective(access, some())(victim().train(), batch, make_generator(5, "draw"))
    assert found.item() == pytest.approx(expected, rel=1e-5)


def test_made_images_are_unlearnt() -> None:
    made = ATTACK.made_images(access_for(ATTACK, views=False))
    sure = {}
    for weight in (1e-6, 15.0):
        attack = replace(ATTACK, weight=weight, recipe=replace(RECIPE, epochs=6))
        *_, last = attack.run(access_for(attack, views=False))
        sure[weight] = predict_logits(last.training.model, made).softmax(1).max(1).values.mean().item()
    before = predict_logits(victim(), made).softmax(1).max(1).values.mean().item()
    assert sure[15.0] < sure[1e-6]
    assert sure[15.0] < before


def test_frozen_statistics_stay() -> None:
    attack = replace(ATTACK, batchnorm="frozen")
    after = steal(attack)
    assert all(torch.equal(after[name], value) for name, value in victim().state_dict().items() if "running" in name)


def test_published_defaults() -> None:
    attack = NeuralDehydration()
    how, recipe = attack.inversion, attack.recipe
    assert (how.images, how.steps, how.lr, how.smoothness, how.energy, how.statistics) == (
        250,
        1000,
        0.1,
        0.03,
        0.01,
        0.1,
    )
    assert (attack.weight, attack.share, NeuralDehydration.strength) == (15.0, 1 / 60, "weight")
    assert (recipe.epochs, recipe.batch_size, recipe.lr, recipe.momentum, recipe.weight_decay) == (
        40,
        128,
        0.01,
        0.9,
        5e-4,
    )


def plain_network(shape: tuple[int, int, int], classes: int) -> nn.Module:
    """What a record builds by its function."""
    return nn.Sequential(nn.Flatten(), nn.Linear(shape[1] * shape[2], classes))


def test_a_term_of_statistics_needs_batch_norm(sets: Loaded) -> None:
    tree = {"data": "digits", "scheme": "none", "model": {"kind": "python", "function": f"{__name__}:plain_network"}}
    owner = decode(Victim, tree)
    facts = TargetFacts(path="a", victim=owner, datasets={owner.data: sets[data_key(DATA)]})
    reason = r"^a\.inversion\.statistics: 0\.1 is not allowed: .*plain_network has no batch norm: must be 0$"
    with pytest.raises(ValueError, match=reason):
        ATTACK.validate(facts)
    replace(ATTACK, inversion=replace(HOW, statistics=0.0)).validate(facts)


@pytest.mark.parametrize(
    ("tree", "fault"),
    [
        ({"inversion": {"images": 0}}, "inversion.images: 0 is not allowed"),
        ({"inversion": {"tv": 1.0}}, "inversion.tv: unknown key"),
        ({"weight": 0.0}, "weight: 0.0 is not allowed"),
        ({"share": 1.1}, "share: 1.1 is not allowed"),
    ],
)
def test_a_mistake_is_one_line(tree: dict[str, Any], fault: str) -> None:
    with pytest.raises(ValueError) as told:  # noqa: PT011 - the whole line is compared
        decode(NeuralDehydration, tree)
    assert str(told.value).startswith(fault)
