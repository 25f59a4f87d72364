"""Names of trials: equal content, equal name, wherever it lies."""

from __future__ import annotations

import pickle
from dataclasses import replace
from typing import Any

from mwm.attacks import Attack, Distillation, Extraction
from mwm.attacks.sources import Disjoint
from mwm.config import randomness
from mwm.config.spec import digest, encode
from mwm.data.datasets import Npz, array_digest
from mwm.data.splits import SplitSizes
from mwm.models.networks import Cnn
from mwm.training.recipe import Recipe
from mwm.trials.trial import Trial, TrialInputs, data_key, filled_in, secret_of, trial_digest, victim_digest
from mwm.watermarks.schemes import Confusion
from tests.helpers.records import CONTROL, DATA, FOREIGN, MARGIN, RECIPE, SCHEMES, VICTIM, Loaded, owned, theft


def spotted(sets: Loaded, data: Npz) -> Loaded:
    """The same data sets, but for one grey level of one pixel."""
    old = sets[data_key(data)]
    pixels = old.x_train.copy()
    pixels[3, 0, 2, 2] ^= 1
    digest = array_digest(pixels, old.y_train, old.x_test, old.y_test)
    return TrialInputs({**sets, data_key(data): replace(old, x_train=pixels, digest=digest)})


def test_the_place_of_the_data_is_not_in_a_name_but_every_pixel_is(sets: Loaded) -> None:
    own, foreign = (replace(data, path=f"/elsewhere/{data.path}") for data in (DATA, FOREIGN))
    there = TrialInputs({data_key(own): sets[data_key(DATA)], data_key(foreign): sets[data_key(FOREIGN)]})
    moved = replace(VICTIM, data=own)
    assert victim_digest(moved, there) == victim_digest(VICTIM, sets)
    here, away = theft(Extraction(source=FOREIGN)), theft(Extraction(source=foreign), moved)
    assert trial_digest(away, there) == trial_digest(here, sets)
    assert victim_digest(VICTIM, spotted(sets, DATA)) != victim_digest(VICTIM, sets)
    assert victim_digest(VICTIM, spotted(sets, FOREIGN)) == victim_digest(VICTIM, sets)
    for data in (DATA, FOREIGN):
        assert trial_digest(here, spotted(sets, data)) != trial_digest(here, sets)


SCHEME_CHANGES: list[dict[str, Any]] = [
    *({"num_queries": 10}, {"weight": 0.2}, {"step_size": 9 / 255}, {"steps": 3}),
    *({"queries_per_step": 5}, {"queries_per_step": "all"}, {"batchnorm": "joint"}, {"mass": 0.5}),
]
VICTIM_CHANGES: list[dict[str, Any]] = [
    *({"scheme": scheme} for scheme in SCHEMES[1:]),
    *({"scheme": replace(MARGIN, **change)} for change in SCHEME_CHANGES),
    *({"recipe": replace(RECIPE, **change)} for change in ({"epochs": 4}, {"lr": 0.2}, {"keep": "best_validation"})),
    *({"split": replace(VICTIM.split, **change)} for change in ({"queries": 31}, {"seed": 1}, {"disjoint": 0.3})),
    *({"recipe": replace(RECIPE, augment_validation=True)}, {"scheme": Confusion()}, {"control": True}),
    *({"model": model} for model in (Cnn(width=3, depth=1), Cnn(width=2, depth=1, init="pytorch"))),
    {"seed": 1},
]


def test_sizes_that_follow_from_the_data_are_in_a_name_as_numbers(sets: Loaded) -> None:
    usual = replace(VICTIM, split=SplitSizes(), scheme=CONTROL.scheme)  # 140 training images: 14 each
    said = replace(usual, split=SplitSizes(validation=14, queries=14))
    assert filled_in(usual, sets) == said == filled_in(said, TrialInputs({}))
    assert victim_digest(usual, sets) == victim_digest(said, sets)
    assert trial_digest(theft(Extraction(), usual), sets) == trial_digest(theft(Extraction(), said), sets)
    for size in ("validation", "queries"):
        half = replace(usual, split=SplitSizes(**{size: 14}))
        assert victim_digest(half, sets) == victim_digest(said, sets)
        assert victim_digest(replace(usual, split=SplitSizes(**{size: 15})), sets) != victim_digest(said, sets)
    assert digest(encode(usual)) != digest(encode(said)), "what is asked is not yet what is trained"


def test_everything_that_makes_a_victim_is_in_its_name(sets: Loaded) -> None:
    names = [victim_digest(replace(VICTIM, **change), sets) for change in ({}, *VICTIM_CHANGES)]
    assert len({*names}) == len(VICTIM_CHANGES) + 1
    assert trial_digest(Trial(victim=VICTIM), sets) == names[0]
    shown = replace(VICTIM, data=replace(DATA, flip=True))
    assert victim_digest(shown, TrialInputs({data_key(shown.data): sets[data_key(DATA)]})) not in names


def test_a_secret_is_in_a_name_and_its_place_is_not(sets: Loaded) -> None:
    for path in ("here", "moved", "/a/b"):
        _, sets = owned(sets, b"\xab" * 32, path)
    other, sets = owned(sets, b"\xcd" * 32, "other")
    guessed, sets = owned(sets, randomness.secret_from_seed(0), "guessed")
    here = replace(VICTIM, secret="here")
    assert len({victim_digest(replace(here, secret=path), sets) for path in ("here", "moved", "/a/b")}) == 1
    names = [victim_digest(victim, sets) for victim in (VICTIM, here, other, guessed, replace(here, seed=1))]
    assert len({*names}) == 5
    assert [secret_of(victim, sets) for victim in (VICTIM, here)] == [randomness.secret_from_seed(0), b"\xab" * 32]
    assert trial_digest(theft(Extraction(), here), sets) != trial_digest(theft(Extraction()), sets)


def test_a_secret_is_in_no_tree_and_in_nothing_that_is_shown(sets: Loaded) -> None:
    victim, known = owned(sets, b"\xab" * 32)
    assert "\\xab" not in repr(known)
    assert set(known) == set(sets)
    assert len(known) == len(sets)
    assert encode(victim)["secret"] == "owner.secret"
    assert pickle.loads(pickle.dumps(known)).secrets == {"owner.secret": b"\xab" * 32}


def test_everything_that_makes_a_theft_is_in_its_name(sets: Loaded) -> None:
    attacks: list[Attack] = [
        Extraction(),
        Extraction(labels="hard"),
        Extraction(temperature=2.0),
        Extraction(seed=1),
        Extraction(query_budget=20),
        Extraction(query_budget=30),
        Extraction(source=Disjoint()),
        Extraction(source=FOREIGN),
        Extraction(student=Cnn(width=3, depth=1)),
        Extraction(recipe=replace(RECIPE, epochs=4)),
        Distillation(),
        Distillation(alpha=0.5),
        Distillation(t_squared=True),
    ]
    names = {trial_digest(theft(attack, victim), sets) for attack in attacks for victim in (VICTIM, CONTROL)}
    assert len(names) == 2 * len(attacks)
    explicit = Extraction(student=VICTIM.model, recipe=VICTIM.recipe)
    assert trial_digest(theft(explicit), sets) == trial_digest(theft(Extraction()), sets)


def test_what_an_attack_leaves_open_is_the_victims() -> None:
    filled = Extraction().resolve(VICTIM)
    assert (filled.student, filled.recipe) == (VICTIM.model, VICTIM.recipe)
    own = Extraction(student=Cnn(width=7), recipe=Recipe(epochs=1))
    assert own.resolve(VICTIM) == own
