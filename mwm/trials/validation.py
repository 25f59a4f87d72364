"""Every trial of a sweep held against its data, before anything is started."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from typing import Any

from mwm.attacks import Attack
from mwm.attacks.sources import Disjoint, Same
from mwm.data.datasets import DataSet
from mwm.data.readers import load, location
from mwm.models.build import Model, smallest_side
from mwm.trials.trial import Sets, Victim, complete_attack, data_key
from mwm.watermarks import secret

Thefts = Sequence[tuple[str, Attack]]
"""Attacks with their places in the file."""


def _secret(path: str) -> bytes:
    try:
        return secret.read(path)
    except ValueError as error:
        raise ValueError(f"victim.secret: {error}") from None


def _check_repeats(victims: Sequence[Victim], attacks: Thefts) -> None:
    for (path, attack), victim in product(attacks, victims):
        foreign = not isinstance(attack.source, (Same, Disjoint))
        shown: Any = attack.source if foreign else victim.data
        if attack.repeats == "saved" and (shown.flip or shown.pad):
            named = f"{path}.source" if foreign else "victim.data"
            reason = f"augmented views never repeat: must be 'counted', or {named}.flip false and {named}.pad 0"
            raise ValueError(f"{path}.repeats: 'saved' is not allowed: {reason}")


def _wanted(victims: Sequence[Victim], attacks: Thefts) -> dict[str, tuple[str, Any]]:
    """Every data set by its key, with the place where it is first named."""
    wanted: dict[str, tuple[str, Any]] = {}
    for victim in victims:
        wanted.setdefault(data_key(victim.data), ("victim.data", victim.data))
    for path, attack in attacks:
        if not isinstance(attack.source, (Same, Disjoint)):
            wanted.setdefault(data_key(attack.source), (f"{path}.source", attack.source))
    return wanted


def _load(wanted: dict[str, tuple[str, Any]], download: bool) -> tuple[dict[str, DataSet], list[str]]:
    sets, notes = {}, []
    for key, (path, data) in wanted.items():
        missing = location(data)
        if missing and not download:
            notes.append(f"{path}: {missing}")
            continue
        try:
            sets[key] = load(data)
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from None
        if sets[key].classes < 3 and path == "victim.data":
            raise ValueError(f"{path}: 2 classes are not allowed: the only wrong label proves nothing; 3 or more")
    return sets, notes


def _check_victim(victim: Victim, sets: Sets) -> None:
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


def _check_attack(path: str, attack: Attack, *, victim: Victim, sets: Sets) -> None:
    if isinstance(attack.source, Disjoint) and victim.split.disjoint == 0:
        raise ValueError(f"{path}.source: disjoint is not allowed: victim.split.disjoint is 0, give it a share above 0")
    filled = complete_attack(attack, victim)
    assert filled.recipe is not None, "the student's recipe was never filled in"
    held, size = _held(attack, victim, sets), filled.recipe.batch_size
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


def _held(attack: Attack, victim: Victim, sets: Sets) -> int | None:
    """How many images the thief has; None if they are not here yet."""
    foreign = not isinstance(attack.source, (Same, Disjoint))
    dataset = sets.get(data_key(attack.source if foreign else victim.data))
    if dataset is None:
        return None
    if foreign:
        return len(dataset.y_train)
    left = len(dataset.y_train) - victim.split.queries - victim.split.validation
    disjoint = int(victim.split.disjoint * left)
    return disjoint if isinstance(attack.source, Disjoint) else left - disjoint


def _check_network(path: str, model: Model | None, dataset: DataSet) -> None:
    assert model is not None, "a network is missing"
    side, least = min(dataset.shape[1:]), smallest_side(model)
    if side < least:
        raise ValueError(f"{path}: {model.kind} is not allowed for images {side} pixels wide: it needs {least}")
