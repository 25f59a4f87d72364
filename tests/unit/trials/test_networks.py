"""A network of each family: every scheme, mode and attack that has a meaning for it, resumed exactly, and rebuilt."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from mwm.attacks import Attack, BatchNormReestimation, Extraction, FineTuning
from mwm.config.functions import source_digest
from mwm.data.datasets import Npz
from mwm.data.readers import load_dataset
from mwm.data.splits import SplitSizes
from mwm.models.build import ArchitectureSpec, Model, rebuild_model
from mwm.models.networks import Cnn, PythonNetwork, Torchvision
from mwm.storage.store import Store
from mwm.training.evaluation import predict_logits
from mwm.training.recipe import Recipe
from mwm.trials.trial import Trial, TrialInputs, Victim, data_key
from mwm.trials.validation import validate_attack, validate_victim
from mwm.watermarks.schemes import Combined, Confusion, Margin, Scheme, TriggerSet, Unwatermarked
from tests.helpers.records import arrays, done, restarted, same

DATA = Npz(path="pictures.npz", flip=True, pad=1)
RECIPE = Recipe(epochs=2, batch_size=8, lr=0.01, momentum=0.9)
MARGIN = Margin(num_queries=6, queries_per_step=3, steps=2, step_size=2 / 255)

WITH: dict[str, Model] = {
    "cnn": Cnn(width=2, depth=2),
    **{
        name: Torchvision(name=name, stem="small")
        for name in ("shufflenet_v2_x0_5", "mobilenet_v3_small", "mnasnet0_5", "regnet_y_400mf", "efficientnet_b0")
    },
}
"""Networks with batch norm."""

WITHOUT: dict[str, Model] = {
    "squeezenet": Torchvision(name="squeezenet1_1", stem="small"),
    "vit": PythonNetwork(function="tests.helpers.networks:small_vit", arguments={"width": 8}),
    "convnext": PythonNetwork(function="tests.helpers.networks:small_convnext"),
    "swin": PythonNetwork(function="tests.helpers.networks:small_swin"),
}
"""Networks without; all of them draw while they are trained, but Swin."""

FAMILIES = WITH | WITHOUT

LARGE = {"regnet_y_400mf", "efficientnet_b0", "squeezenet"}
"""Those that take many seconds."""

SCHEMES: dict[str, Scheme] = {
    "none": Unwatermarked(),
    "trigger_set": TriggerSet(num_queries=6),
    "joint": replace(MARGIN, batchnorm="joint"),
    "frozen": replace(MARGIN, batchnorm="frozen"),
    "reference": replace(MARGIN, batchnorm="reference"),
    "confusion": Confusion(),
    "combined": Combined(queries=MARGIN, confusion=Confusion()),
}


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> TrialInputs:
    """Sixty pictures of 32 x 32 pixels and three channels, four classes."""
    path = tmp_path_factory.mktemp("pictures") / DATA.path
    np.savez(path, **arrays(60, (32, 32, 3), 4, 0))
    own = [one.function for one in FAMILIES.values() if isinstance(one, PythonNetwork)]
    data = {data_key(DATA): load_dataset(replace(DATA, path=str(path)))}
    return TrialInputs(data, sources={name: source_digest(name) for name in own})


def of(model: Model, scheme: Scheme = MARGIN) -> Victim:
    return Victim(
        data=DATA,
        split=SplitSizes(validation=8, queries=16, disjoint=0.4),
        model=model,
        scheme=scheme,
        recipe=RECIPE,
    )


def weights(store: Store, name: str) -> dict[str, torch.Tensor]:
    return store.weights(name)


@pytest.mark.parametrize(
    "family", [pytest.param(one, marks=pytest.mark.long) if one in LARGE else one for one in FAMILIES]
)
def test_a_family_is_watermarked_resumed_stolen_and_rebuilt(family: str, pictures: TrialInputs, tmp_path: Path) -> None:
    victim = of(FAMILIES[family])
    validate_victim(victim, pictures)
    best = replace(RECIPE, keep="best_validation")
    theft = Trial(victim=victim, attack=Extraction(recipe=best).resolve(victim))
    assert theft.attack is not None
    validate_attack("attacks.0", theft.attack, victim=victim, sets=pictures)
    whole, broken = Store(tmp_path / "whole"), Store(tmp_path / "broken")
    for trial in (Trial(victim=victim), theft):
        outcome = done(trial, pictures, whole)
        assert outcome.status == "done", outcome.error
        restarted(trial, pictures, broken, after=1)
        assert same(weights(whole, outcome.digest), weights(broken, outcome.digest)), "resumed, it is another network"
    about = ArchitectureSpec(model=victim.model, shape=(3, 32, 32), classes=4)
    images = torch.tensor(pictures[data_key(DATA)].x_test)
    copy = rebuild_model(about, weights(whole, outcome.digest), trust=True)
    found = predict_logits(copy, images)
    assert found.shape == (40, 4)
    assert found.isfinite().all()


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("family", ["shufflenet_v2_x0_5", "vit", "convnext"])
def test_every_scheme_goes_with_a_family_or_is_refused(
    family: str, scheme: str, pictures: TrialInputs, tmp_path: Path
) -> None:
    victim = of(FAMILIES[family], SCHEMES[scheme])
    if family in WITHOUT and scheme in ("frozen", "reference"):
        line = f"^victim.scheme.batchnorm: {scheme} is not allowed: .* has no batch norm: must be clean or joint$"
        with pytest.raises(ValueError, match=line):
            validate_victim(victim, pictures)
        return
    validate_victim(victim, pictures)
    outcome = done(Trial(victim=victim), pictures, Store(tmp_path))
    assert outcome.status == "done", outcome.error
    assert outcome.query_acc is not None


@pytest.mark.parametrize("family", sorted(WITHOUT))
def test_groups_of_a_batch_mean_nothing_without_batch_norm(family: str, pictures: TrialInputs) -> None:
    victim = of(FAMILIES[family])
    victim = replace(victim, recipe=replace(victim.recipe, batchnorm_groups=2))
    line = r"^victim\.recipe\.batchnorm_groups: 2 is not allowed: .* has no batch norm: must be 1$"
    with pytest.raises(ValueError, match=line):
        validate_victim(victim, pictures)


WHITE_BOX: list[Any] = [
    FineTuning(recipe=replace(RECIPE, epochs=1)),
    FineTuning(layers="last", recipe=replace(RECIPE, epochs=1)),
    FineTuning(batchnorm="frozen", recipe=replace(RECIPE, epochs=1)),
    BatchNormReestimation(passes=1, batch_size=8),
]


@pytest.mark.parametrize("number", range(len(WHITE_BOX)))
@pytest.mark.parametrize("family", ["mobilenet_v3_small", "convnext", "squeezenet"])
def test_every_removal_goes_with_a_family_or_is_refused(
    family: str, number: int, pictures: TrialInputs, tmp_path: Path
) -> None:
    victim = of(FAMILIES[family])
    attack: Attack = WHITE_BOX[number].resolve(victim)
    if family in WITHOUT and number >= 2:
        with pytest.raises(ValueError, match=r"^attacks\.0.*has no batch norm"):
            validate_attack("attacks.0", attack, victim=victim, sets=pictures)
        return
    validate_attack("attacks.0", attack, victim=victim, sets=pictures)
    store = Store(tmp_path)
    assert done(Trial(victim=victim, attack=attack), pictures, store).status == "done"


def test_what_a_network_draws_while_it_is_trained_hangs_on_its_seed_alone(
    pictures: TrialInputs, tmp_path: Path
) -> None:
    victim = of(FAMILIES["vit"])
    found = []
    for number, seed in enumerate((0, 0, 1)):
        torch.manual_seed(number)
        torch.rand(number + 1)
        store = Store(tmp_path / str(number))
        outcome = done(Trial(victim=replace(victim, seed=seed)), pictures, store)
        found.append(weights(store, outcome.digest))
    assert same(found[0], found[1])
    assert not same(found[0], found[2])
