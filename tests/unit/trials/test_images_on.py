"""Where images lie changes no result: every attack of the catalogue, and its victim, from the host or on the device."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import pytest
import torch

import mwm
from mwm.attacks import Attack, Extraction, FineTuning
from mwm.data.host import HostImages, ImagesOn
from mwm.storage.store import Store
from mwm.training.device import IMAGES_SHARE, images_fit
from mwm.trials.outcome import Outcome
from mwm.trials.stages import AttackStage, VictimStage
from mwm.trials.trial import Trial, data_key
from mwm.watermarks.schemes import Confusion, Unwatermarked
from tests.helpers.records import (
    CPU,
    DATA,
    FOREIGN,
    RECIPE,
    VICTIM,
    Loaded,
    done,
    restarted,
    same,
    timeless,
)
from tests.unit.attacks.cases import CASES

SHOWN = replace(DATA, flip=True, pad=1)
SOURCES: list[Attack] = [
    Extraction(source=FOREIGN, recipe=RECIPE, label_smoothing=0.1),
    FineTuning(source=FOREIGN, labels="predicted", recipe=RECIPE),
    Extraction(source=replace(FOREIGN, path="own.npz"), recipe=RECIPE),
]


@pytest.fixture(scope="module")
def held(sets: Loaded) -> Loaded:
    """The data sets, which nobody may write to, as those in Ray's object store."""
    for one in sets.data.values():
        for array in (one.x_train, one.y_train, one.x_test, one.y_test):
            array.flags.writeable = False
    own = sets[data_key(DATA)]
    more = {data_key(SHOWN): own, data_key(replace(FOREIGN, path="own.npz")): own}
    return replace(sets, data={**sets.data, **more})


def on(sets: Loaded, place: ImagesOn) -> Loaded:
    return replace(sets, images_on=place)


@pytest.fixture(scope="module")
def stores(tmp_path_factory: pytest.TempPathFactory) -> dict[ImagesOn, Store]:
    """A store for each place, in which every victim is trained once."""
    return {place: Store(tmp_path_factory.mktemp(place)) for place in ("device", "host")}


def trial_of(attack: Attack | None, scheme: Any = VICTIM.scheme) -> Trial:
    """A trial with augmented views, where its attack allows them."""
    victim = replace(VICTIM, data=DATA if getattr(attack, "cache_answers", False) else SHOWN, scheme=scheme)
    return Trial(victim=victim, attack=None if attack is None else attack.resolve(victim))


def require_alike(trial: Trial, sets: Loaded, stores: dict[ImagesOn, Store]) -> None:
    """The same outcome, epochs and weights from both places."""
    ends = {place: done(trial, on(sets, place), store) for place, store in stores.items()}
    assert timeless(ends["host"]) == timeless(ends["device"])
    digest = ends["host"].digest
    ours, theirs = (stores[place].rows(digest) for place in ("host", "device"))
    assert [row | {"epoch_seconds": 0} for row in ours] == [row | {"epoch_seconds": 0} for row in theirs]
    assert same(*(store.weights(digest) for store in stores.values()))


@pytest.mark.parametrize("attack", [*CASES, *SOURCES], ids=lambda attack: f"{attack.kind}-{attack.source.kind}")
def test_attacks_end_alike(attack: Attack, held: Loaded, stores: dict[ImagesOn, Store]) -> None:
    require_alike(trial_of(attack), held, stores)


@pytest.mark.parametrize("scheme", [Unwatermarked(), Confusion()], ids=lambda scheme: scheme.kind)
def test_victims_end_alike(scheme: Any, held: Loaded, stores: dict[ImagesOn, Store]) -> None:
    require_alike(trial_of(None, scheme), held, stores)


def test_an_interrupted_trial_goes_on_where_its_images_lie_now(held: Loaded, tmp_path: Path) -> None:
    trial, whole, broken = trial_of(None), Store(tmp_path / "whole"), Store(tmp_path / "broken")
    straight = done(trial, on(held, "device"), whole)
    *_, outcome = restarted(trial, on(held, "host"), broken, after=2)
    assert isinstance(outcome, Outcome)
    assert timeless(outcome) == timeless(straight)
    assert same(broken.weights(outcome.digest), whole.weights(outcome.digest))


@pytest.mark.parametrize("place", get_args(ImagesOn))
def test_images_lie_where_was_asked(place: ImagesOn, held: Loaded, tmp_path: Path) -> None:
    sets, store = on(held, place), Store(tmp_path)
    stages = [
        VictimStage(trial_of(None), sets, store, CPU),
        AttackStage(trial_of(SOURCES[2]), sets, store, CPU),
    ]
    own = sets[data_key(DATA)]
    for stage in stages:
        for role in ("owner", "validation", "disjoint", "test"):
            images = getattr(stage.views, role).images
            assert isinstance(images, torch.Tensor) is (place == "device"), role
            if isinstance(images, HostImages):
                assert images.pixels is (own.x_test if role == "test" else own.x_train), "pixels were copied"
    foreign = stages[1]._images()[0].images  # type: ignore[attr-defined]
    assert isinstance(foreign, torch.Tensor) is (place == "device")
    assert isinstance(foreign, torch.Tensor) or foreign.pixels is own.x_train, "pixels were copied"


@pytest.mark.parametrize("free", [100, 1000])
def test_images_take_a_share_of_the_free_memory_of_a_gpu(free: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of what is free on it, or of what this process may still take of it, whichever is less."""
    gpu = torch.device("cuda", 0)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _: (free, 2000))
    monkeypatch.setattr(torch.cuda, "get_per_process_memory_fraction", lambda _: 0.25)
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda _: 100)
    most = int(IMAGES_SHARE * min(free, 400))
    assert images_fit(most, gpu)
    assert not images_fit(most + 1, gpu)
    assert not images_fit(1, CPU), "a CPU reads images where they are"


def test_a_place_that_there_is_not_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"images_on: 'disk' is not allowed: must be 'auto', 'device', 'host'$"):
        mwm.train_victim(VICTIM, store=tmp_path, images_on="disk")  # type: ignore[arg-type]
    victim = mwm.train_victim(
        data="digits",
        split={"validation": 20, "queries": 20},
        model=VICTIM.model,
        scheme=VICTIM.scheme,
        recipe=replace(RECIPE, epochs=1),
        images_on="device",
    )
    with pytest.raises(ValueError, match="images_on: 'gpu' is not allowed"):
        mwm.run_attack(victim, Extraction(), images_on="gpu")  # type: ignore[arg-type]
