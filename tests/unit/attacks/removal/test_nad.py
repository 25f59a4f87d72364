"""Attention distillation: maps by a plain loop, the stages of any network, and the loss of a step."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mwm.attacks import AttentionDistillation, FineTuning
from mwm.attacks.access import TargetFacts
from mwm.attacks.feature_maps import listening_at, stages
from mwm.attacks.removal.nad import attention
from mwm.config.randomness import derive_seed
from mwm.config.spec import decode
from mwm.models.build import ArchitectureSpec, Model, blank_model
from mwm.training.recipe import MultiStep, Recipe
from mwm.training.step import Batch
from mwm.trials.trial import Victim, data_key
from tests.helpers.records import DATA, VICTIM, Loaded
from tests.helpers.stealing import access_for, same, some, steal, victim

RECIPE = Recipe(epochs=2, batch_size=10, lr=0.05, momentum=0.9, weight_decay=5e-4, schedule=MultiStep())
ATTACK = AttentionDistillation(share=1.0, teacher=RECIPE, recipe=RECIPE)


def plain_attention(maps: Tensor) -> Tensor:
    """Pixel by pixel: the sum of the squares over channels, over the length of all of these."""
    n, channels, height, width = maps.shape
    found = torch.zeros(n, height, width, dtype=torch.float64)
    for i in range(n):
        for y in range(height):
            for x in range(width):
                found[i, y, x] = sum(float(maps[i, c, y, x]) ** 2 for c in range(channels))
        length = sum(float(value) ** 2 for value in found[i].flatten()) ** 0.5
        found[i] /= length + 1e-6
    return found


def test_attention_maps_are_those_of_a_plain_loop() -> None:
    maps = torch.randn(3, 5, 4, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    torch.testing.assert_close(attention(maps), plain_attention(maps), rtol=1e-12, atol=1e-14)
    assert attention(maps.bfloat16()).dtype == torch.float32
    assert attention(torch.zeros(1, 2, 2, 2)).isfinite().all()


@pytest.mark.parametrize(
    ("tree", "side", "expected"),
    [
        ({"kind": "cnn", "depth": 3}, 8, {"conv0": 8, "conv1": 4, "relu2": 2}),
        ("resnet20", 16, {"block2": 16, "block5": 8, "block8": 4}),
        ("resnet18", 16, {"layer1": 16, "layer2": 8, "layer3": 4, "layer4": 2}),
        (
            {"kind": "torchvision", "name": "resnet18"},
            64,
            {"relu": 32, "layer1": 16, "layer2": 8, "layer3": 4, "layer4": 2},
        ),
        ({"kind": "torchvision", "name": "vit_b_16"}, 32, {"conv_proj": 2}),
    ],
)
def test_stages_end_where_the_resolution_changes(tree: Any, side: int, expected: dict[str, int]) -> None:
    record = decode(Model, tree)
    model = blank_model(ArchitectureSpec(model=record, shape=(3, side, side), classes=5)).to("meta")
    found = stages(model, torch.zeros(1, 3, side, side, dtype=torch.uint8, device="meta"))
    assert {one.place.removeprefix("network."): one.size[0] for one in found} == expected


def test_a_layer_at_two_resolutions_is_heard_at_its_own() -> None:
    class Shared(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.pool, self.relu = nn.Conv2d(1, 2, 1), nn.MaxPool2d(2), nn.ReLU()

        def forward(self, x: Tensor) -> Tensor:
            found: Tensor = self.relu(self.pool(self.relu(self.conv(x)))).mean((2, 3))
            return found

    model, images = Shared(), some().images[:, :1]
    wanted = stages(model, images)
    assert [(one.place, one.size) for one in wanted] == [("relu", (6, 6)), ("relu", (3, 3))]
    with listening_at(model, wanted) as maps:
        model(images / 255)
    plain = model.conv(images / 255).relu()
    assert torch.equal(maps[wanted[0]], plain)
    assert torch.equal(maps[wanted[1]], model.pool(plain))
    assert not model.relu._forward_hooks, "somebody still listens"


def test_the_teacher_is_a_fine_tuned_copy() -> None:
    access = access_for(ATTACK, views=False)
    teacher = ATTACK.tuned_copy(access, some(), RECIPE)
    tuned = FineTuning(recipe=RECIPE)
    assert same(
        teacher.state_dict(), steal(tuned, replace(access_for(tuned, views=False), seed=derive_seed(0, "copy")))
    )
    assert not teacher.training
    assert same(access.model.state_dict(), victim().state_dict()), "the network itself was tuned"


@pytest.mark.parametrize("count", [1, 2])
def test_the_loss_is_that_of_a_plain_loop(count: int) -> None:
    attack = replace(ATTACK, stages=count, beta=300.0)
    access, part = access_for(attack, views=False), some(6, 3)
    objective, teacher = attack.objective(access, some()), attack.tuned_copy(access, some(), RECIPE)
    batch = Batch(part.images / 255, part.labels, torch.arange(6))
    found = objective(victim().train(), batch, torch.Generator()).item()
    maps: list[dict[str, Tensor]] = []
    losses: list[float] = []
    for model in (victim().train(), teacher):
        heard: dict[str, Tensor] = {}
        for name in ("conv0", "relu1"):
            layer = model.get_submodule(f"network.{name}")
            layer.register_forward_hook(lambda _, __, given, name=name, heard=heard: heard.update({name: given}))
        logits = model(batch.images).double().detach()
        losses.append(F.cross_entropy(logits, part.labels).item())
        maps.append(heard)
    expected = losses[0]
    for name in ("conv0", "relu1")[-count:]:
        own, taught = (plain_attention(heard[name].detach().double()) for heard in maps)
        expected += 300.0 * float(((own - taught) ** 2).sum()) / own.numel()
    assert found == pytest.approx(expected, rel=1e-4)


def test_attention_comes_closer_to_the_teachers() -> None:
    part = some()
    access = access_for(ATTACK, views=False)
    teacher = ATTACK.tuned_copy(access, part, RECIPE)
    wanted, distances = stages(victim(), part.images), []
    for beta in (1e-3, 2000.0):
        attack = replace(ATTACK, beta=beta, recipe=replace(RECIPE, epochs=6, lr=1e-3))
        *_, last = attack.run(access_for(attack, views=False))
        found = []
        for model in (last.training.model.eval(), teacher):
            with torch.no_grad(), listening_at(model, wanted) as maps:
                model(part.images / 255)
            found.append({one: attention(maps[one]) for one in wanted})
        distances.append(sum(F.mse_loss(found[0][one], found[1][one]).item() for one in wanted))
    assert distances[1] < distances[0]


def test_published_defaults() -> None:
    attack = AttentionDistillation()
    assert (attack.beta, attack.stages, attack.share, attack.strength) == (2000.0, 4, 0.05, "beta")
    for recipe in (attack.teacher, attack.recipe):
        assert (recipe.epochs, recipe.batch_size, recipe.lr, recipe.momentum) == (10, 64, 0.02, 0.9)


def flat_network(shape: tuple[int, int, int], classes: int) -> nn.Module:
    """What a record builds by its function."""
    return nn.Sequential(nn.Flatten(), nn.Linear(shape[1] * shape[2], classes))


def test_a_network_without_feature_maps_is_told(sets: Loaded) -> None:
    tree = {"data": "digits", "scheme": "none", "model": {"kind": "python", "function": f"{__name__}:flat_network"}}
    facts = TargetFacts(
        path="a", victim=decode(Victim, tree), datasets={decode(Victim, tree).data: sets[data_key(DATA)]}
    )
    with pytest.raises(ValueError, match=r"^a: nad is not allowed: .*flat_network has no feature maps \(n c h w\)$"):
        ATTACK.validate(facts)
    ATTACK.validate(replace(facts, victim=VICTIM, datasets={DATA: sets[data_key(DATA)]}))


@pytest.mark.parametrize(
    ("tree", "fault"),
    [
        (
            {"recipe": {"compile": True}},
            "recipe.compile: true is not allowed: feature maps are taken out of the network: must be false",
        ),
        ({"teacher": {"keep": "best_validation"}}, "teacher.keep: 'best_validation' is not allowed: must be 'last'"),
        ({"stages": 0}, "stages: 0 is not allowed"),
        ({"beta": 0.0}, "beta: 0.0 is not allowed"),
    ],
)
def test_a_mistake_is_one_line(tree: dict[str, Any], fault: str) -> None:
    with pytest.raises(ValueError) as told:  # noqa: PT011 - the whole line is compared
        decode(AttentionDistillation, tree)
    assert str(told.value).startswith(fault)


def test_fewer_images_than_a_batch_are_whole_groups_of_batch_normalisation() -> None:
    grouped = replace(RECIPE, batch_size=24, batchnorm_groups=4)
    attack = replace(ATTACK, share=0.5, teacher=grouped, recipe=grouped)
    *_, last = attack.run(access_for(attack))
    training: Any = last.training
    assert (training.recipe.batch_size, training.recipe.batchnorm_groups) == (16, 4), "of 17 images"
