"""Every trial of a sweep held against its data, before anything is started."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from typing import Any

from mwm.attacks import Attack
from mwm.attacks.sources import Disjoint, VictimData
from mwm.data.datasets import Dataset
from mwm.data.readers import download_note, load_dataset
from mwm.models.build import Model, min_image_side
from mwm.trials.trial import TrialInputs, Victim, data_key, fill_attack_defaults
from mwm.watermarks import secret

PlacedAttacks = Sequence[tuple[str, Attack]]
"""Attacks with their places in the file."""


def _secret(path: str) -> bytes:
    try:
        return secret.read_secret(path)
    except ValueError as error:
        raise ValueError(f"victim.secret: {error}") from None


def _check_repeats(victims: Sequence[Victim], attacks: PlacedAttacks) -> None:
    for (path, attack), victim in product(attacks, victims):
        foreign = not isinstance(attack.source, (VictimData, Disjoint))
        shown: Any = attack.source if foreign else victim.data
        if attack.repeats == "saved" and (shown.flip or shown.pad):
            named = f"{path}.source" if foreign else "victim.data"
            reason = f"augmented views never repeat: must be 'counted', or {named}.flip false and {named}.pad 0"
            raise ValueError(f"{path}.repeats: 'saved' is not allowed: {reason}")


def _required_datasets(victims: Sequence[Victim], attacks: PlacedAttacks) -> dict[str, tuple[str, Any]]:
    """Every data set by its key, with the place where it is first named."""
    wanted: dict[str, tuple[str, Any]] = {}
    for victim in victims:
        wanted.setdefault(data_key(victim.data), ("victim.data", victim.data))
    for path, attack in attacks:
        if not isinstance(attack.source, (VictimData, Disjoint)):
            wanted.setdefault(data_key(attack.source), (f"{path}.source", attack.source))
    return wanted


def _load(wanted: dict[str, tuple[str, Any]], download: bool) -> tuple[dict[str, Dataset], list[str]]:
    sets, notes = {}, []
    for key, (path, data) in wanted.items():
        missing = download_note(data)
        if missing and not download:
            notes.append(f"{path}: {missing}")
            continue
        try:
            sets[key] = load_dataset(data)
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from None
        if sets[key].classes < 3 and path == "victim.data":
            raise ValueError(f"{path}: 2 classes are not allowed: the only wrong label proves nothing; 3 or more")
    return sets, notes


def _check_victim(victim: Victim, sets: TrialInputs) -> None:
    dataset, shares = sets[data_key(victim.data)], victim.split
    total = len(dataset.y_train)
    left = total - shares.queries - shares.validation
    if left < 1:
        raise ValueError(
            f"victim.split: {shares.queries} queries and {shares.validation} validation images are not allowed: "
            f"there are {total} training images"
        )
    owned = left - int(shares.disjoint * left)
    if victim.recipe.batch_size > owned:
        size = victim.recipe.batch_size
        raise ValueError(f"victim.recipe.batch_size: {size} is not allowed: the owner has {owned} images")
    _check_network("victim.model", victim.model, dataset)


def _check_attack(path: str, attack: Attack, *, victim: Victim, sets: TrialInputs) -> None:
    if isinstance(attack.source, Disjoint) and victim.split.disjoint == 0:
        raise ValueError(f"{path}.source: disjoint is not allowed: victim.split.disjoint is 0, give it a share above 0")
    filled = fill_attack_defaults(attack, victim)
    assert filled.recipe is not None, "the student's recipe was never filled in"
    held, size = _attacker_images(attack, victim, sets), filled.recipe.batch_size
    named = f"{path if attack.recipe else 'victim'}.recipe.batch_size"
    if held is not None and size > held:
        raise ValueError(f"{named}: {size} is not allowed: the thief of {path} has {held} images")
    budget = attack.budget or size
    if held is not None and budget > held:
        raise ValueError(f"{path}.budget: {budget} is not allowed: the thief has {held} images, each to be asked once")
    if budget < size:
        raise ValueError(f"{path}.budget: {budget} is not allowed: must be at least {size}, {named}")
    if (dataset := sets.get(data_key(victim.data))) is not None:
        _check_network(f"{path}.student", filled.student, dataset)


def _attacker_images(attack: Attack, victim: Victim, sets: TrialInputs) -> int | None:
    """How many images the thief has; None if they are not here yet."""
    foreign = not isinstance(attack.source, (VictimData, Disjoint))
    dataset = sets.get(data_key(attack.source if foreign else victim.data))
    if dataset is None:
        return None
    if foreign:
        return len(dataset.y_train)
    left = len(dataset.y_train) - victim.split.queries - victim.split.validation
    disjoint = int(victim.split.disjoint * left)
    return disjoint if isinstance(attack.source, Disjoint) else left - disjoint


def _check_network(path: str, model: Model | None, dataset: Dataset) -> None:
    assert model is not None, "a network is missing"
    side, least = min(dataset.shape[1:]), min_image_side(model)
    if side < least:
        raise ValueError(f"{path}: {model.kind} is not allowed for images {side} pixels wide: it needs {least}")
