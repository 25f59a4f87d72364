"""Every trial of a sweep held against its data, before anything is started."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from mwm.attacks import Attack
from mwm.attacks.access import TargetFacts
from mwm.attacks.base import check_network
from mwm.config.randomness import keyed_permutation, secret_from_seed
from mwm.data.datasets import Dataset
from mwm.data.readers import download_note, load_dataset
from mwm.data.splits import SplitSizes
from mwm.trials.trial import TrialInputs, Victim, data_key, secret_of
from mwm.watermarks.queries import chosen_rows
from mwm.watermarks.schemes import Confusion
from mwm.watermarks.secret import read_secret

PlacedAttacks = Sequence[tuple[str, Attack]]
"""Attacks with their places in the file."""


def read_secrets(victims: Sequence[Victim]) -> dict[str, bytes]:
    """The owners' secrets, by the paths that victims name; ValueError for one that cannot be read."""
    try:
        return {one.secret: read_secret(one.secret) for one in victims if one.secret is not None}
    except ValueError as error:
        raise ValueError(f"victim.secret: {error}") from None


def required_datasets(victims: Sequence[Victim], attacks: PlacedAttacks) -> dict[str, tuple[str, Any]]:
    """Every data set by its key, with the place where it is first named."""
    wanted: dict[str, tuple[str, Any]] = {}
    for victim in victims:
        wanted.setdefault(data_key(victim.data), ("victim.data", victim.data))
    for path, attack in attacks:
        for name, value in vars(attack).items():
            if value in attack.datasets():
                wanted.setdefault(data_key(value), (f"{path}.{name}", value))
    return wanted


def load_datasets(wanted: dict[str, tuple[str, Any]], download: bool) -> tuple[dict[str, Dataset], list[str]]:
    """The data sets that are on this machine, or can be downloaded, by key; and a note on each that is not."""
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


def validate_victim(victim: Victim, sets: TrialInputs) -> None:
    """Raise ValueError for a victim whose data set, which is here, does not suffice for it."""
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
    check_network("victim.model", victim.model, dataset)
    first, *second = victim.scheme.parts()
    if isinstance(first, Confusion):
        _check_every_class(shares, dataset, first.cells_per_class)
    for one in second:
        taken = chosen_rows(secret_of(victim, sets), shares.queries, first.cells)
        _check_every_class(shares, dataset, one.cells_per_class, taken=taken)


def _check_every_class(shares: SplitSizes, dataset: Dataset, parts: int, *, taken: Sequence[int] = ()) -> None:
    """Refuse a query split in which a class has too few images but for those `taken`: each cell of a key needs one."""
    order = keyed_permutation(secret_from_seed(shares.seed), "split", len(dataset.y_train))
    free = np.delete(dataset.y_train[order[: shares.queries]], np.asarray(taken, np.int64))
    counts = np.bincount(free, minlength=dataset.classes)
    if counts.min() < parts:
        among = f"the {len(free)} that scheme.queries leaves" if taken else "them"
        rarest = int(counts.argmin())
        named = f"{rarest} ({dataset.class_names[rarest]})" if dataset.class_names else str(rarest)
        reason = f"class {named} has {counts.min()} images among {among}, and scheme confusion needs {parts}"
        raise ValueError(f"victim.split.queries: {shares.queries} is not allowed: {reason}")


def validate_attack(path: str, attack: Attack, *, victim: Victim, sets: TrialInputs) -> None:
    """Raise ValueError for an attack that cannot be run on a victim, as far as the data are here; `path`: its place."""
    every = (victim.data, *attack.datasets())
    here = {data: sets[data_key(data)] for data in every if data_key(data) in sets}
    attack.validate(TargetFacts(path=path, victim=victim, datasets=here))
