"""Every trial of a sweep held against its data, before anything is started."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any, TypeVar

import numpy as np
from torch import Tensor

from mwm.attacks import Attack
from mwm.attacks.access import TargetFacts
from mwm.attacks.base import AttackRecord, check_batch_norm
from mwm.config.functions import functions_in, source_digest
from mwm.config.trust import require_trust
from mwm.data.datasets import Dataset
from mwm.data.readers import download_note, load_dataset
from mwm.data.splits import SplitSizes, dealt
from mwm.models.build import ArchitectureSpec, Model, blank_model, check_network
from mwm.models.start import Start, match_start
from mwm.storage.store import Store
from mwm.trials.starts import read_start
from mwm.trials.trial import TrialInputs, Victim, data_key, require_queries, secret_of
from mwm.watermarks.queries import chosen_rows
from mwm.watermarks.schemes import Confusion
from mwm.watermarks.secret import read_secret

T = TypeVar("T")

PlacedAttacks = Sequence[tuple[str, Attack]]
"""Attacks with their places in the file."""


@dataclass(frozen=True, kw_only=True)
class Places:
    """Where the inputs of trials may come from.

    `download` data sets that are not on this machine; run code, with `trust`; take weights from a `store`, and from
    MLflow at `tracking_uri` (None: where it records otherwise).
    """

    download: bool = True
    trust: bool = False
    store: Store | None = None
    tracking_uri: str | None = None


HERE = Places(download=False)
"""On this machine alone, without code."""


def read_inputs(victims: Sequence[Victim], attacks: PlacedAttacks, places: Places) -> tuple[TrialInputs, list[str]]:
    """All that trials need that is not in their records, and a note on each data set that is not on this machine.

    Raises ValueError, in one line, for what cannot be read, and for code that is not trusted.
    """
    placed = [*(("victim", victim) for victim in victims), *attacks]
    functions = {name: path for path, record in placed for path, name in functions_in(record, path)}
    for name, path in functions.items():
        require_trust(f"{path}: {name}", "callable", trust=places.trust)
    loaded, notes = load_datasets(required_datasets(victims, attacks), places)
    sources = {name: _at(path, partial(source_digest, name)) for name, path in functions.items()}
    starts = {
        place: read_start(place, path, store=places.store, tracking_uri=places.tracking_uri, trust=places.trust)
        for place, path in _starts(placed).items()
    }
    return TrialInputs(loaded, read_secrets(victims), sources, starts), notes


def _starts(placed: Sequence[tuple[str, Any]]) -> dict[str, str]:
    """The weights that records start from, each with the place where it is first named."""
    found: dict[str, str] = {}
    for path, record in placed:
        for place, one in ({path: record} if path == "victim" else with_parts(path, record)).items():
            if (start := getattr(one, "start", None)) is not None:
                found.setdefault(start, f"{place}.start")
    return found


def _at(path: str, read: Callable[[], T]) -> T:
    """What is read; ValueError with the place that asks for it in front if it cannot be."""
    try:
        return read()
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


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
    every = [placed for path, attack in attacks for placed in with_parts(path, attack).items()]
    for path, attack in every:
        for name, value in vars(attack).items():
            if value in attack.datasets():
                wanted.setdefault(data_key(value), (f"{path}.{name}", value))
    return wanted


def load_datasets(wanted: dict[str, tuple[str, Any]], places: Places) -> tuple[dict[str, Dataset], list[str]]:
    """The data sets that are on this machine, or can be downloaded, by key; and a note on each that is not."""
    sets, notes = {}, []
    for key, (path, data) in wanted.items():
        missing = download_note(data)
        if missing and not places.download:
            notes.append(f"{path}: {missing}")
            continue
        sets[key] = _at(path, partial(load_dataset, data, trust=places.trust))
        if sets[key].classes < 3 and path == "victim.data":
            raise ValueError(f"{path}: 2 classes are not allowed: the only wrong label proves nothing; 3 or more")
    return sets, notes


def validate_victim(victim: Victim, sets: TrialInputs) -> None:
    """Raise ValueError for a victim whose data set, which is here, does not suffice for it."""
    dataset = sets[data_key(victim.data)]
    _check_sizes(victim, dataset)
    check_network("victim.model", victim.model, shape=dataset.shape, classes=dataset.classes)
    _check_batchnorm_mode(victim, dataset)
    fresh_of_victim(victim, sets)
    first, *second = victim.scheme.parts()
    if isinstance(first, Confusion):
        _check_every_class(victim.split, dataset, first.cells_per_class)
    for one in second:
        queries = victim.split.counts(len(dataset.y_train)).queries
        taken = chosen_rows(secret_of(victim, sets), queries, first.cells)
        _check_every_class(victim.split, dataset, one.cells_per_class, taken=taken)


def _check_sizes(victim: Victim, dataset: Dataset) -> None:
    """Refuse a split that leaves a victim too few images, or its key too few queries."""
    total = len(dataset.y_train)
    counts = victim.split.counts(total)
    left = counts.owner + counts.disjoint
    if left < 1:
        taken = f"{counts.queries} queries and {counts.validation} validation images"
        raise ValueError(f"victim.split: {taken} are not allowed: there are {total} training images")
    size = victim.recipe.batch_size
    if size > counts.owner:
        raise ValueError(f"victim.recipe.batch_size: {size} is not allowed: the owner has {counts.owner} images")
    usual = f"a tenth of {total} training images; or write split.queries: {victim.scheme.cells}"
    said = f"by default {counts.queries}, {usual}"
    require_queries("victim.scheme", victim.scheme, queries=counts.queries, said=said)


def check_start(path: str, network: str, model: Model, *, start: Start, dataset: Dataset) -> list[str]:
    """Refuse weights that are not those of a network, the record at `network`; the names of what of it stays fresh."""
    try:
        return match_start(_state(model, dataset.shape, dataset.classes), model, start.weights).fresh
    except ValueError as error:
        raise ValueError(f"{network if str(error).startswith('normalize') else path}.{error}") from None


@lru_cache(maxsize=1)
def _state(model: Model, shape: tuple[int, int, int], classes: int) -> Mapping[str, Tensor]:
    """The state of a network without its values: victims of other seeds have the same."""
    return blank_model(ArchitectureSpec(model=model, shape=shape, classes=classes)).state_dict()


def _check_batchnorm_mode(victim: Victim, dataset: Dataset) -> None:
    """Refuse to say of batch normalisation what means nothing to a network without it."""
    scheme: Any = victim.scheme.parts()[0]
    mode, groups = getattr(scheme, "batchnorm", "clean"), victim.recipe.batchnorm_groups
    facts = TargetFacts(path="victim", victim=victim, datasets={victim.data: dataset})
    if groups > 1:
        check_batch_norm("victim.recipe.batchnorm_groups", str(groups), facts, allowed=": must be 1")
    if mode not in ("clean", "joint"):
        place = "scheme" if scheme is victim.scheme else "scheme.queries"
        check_batch_norm(f"victim.{place}.batchnorm", mode, facts, allowed=": must be clean or joint")


def _check_every_class(shares: SplitSizes, dataset: Dataset, parts: int, *, taken: Sequence[int] = ()) -> None:
    """Refuse a query split in which a class has too few images but for those `taken`: each cell of a key needs one."""
    queries = dealt(shares, len(dataset.y_train))[0]
    free = np.delete(dataset.y_train[queries], np.asarray(taken, np.int64))
    counts = np.bincount(free, minlength=dataset.classes)
    if counts.min() < parts:
        among = f"the {len(free)} that scheme.queries leaves" if taken else "them"
        rarest = int(counts.argmin())
        named = f"{rarest} ({dataset.class_names[rarest]})" if dataset.class_names else str(rarest)
        reason = f"class {named} has {counts.min()} images among {among}, and scheme confusion needs {parts}"
        usual = "" if shares.queries else " (a tenth of the training images)"
        raise ValueError(f"victim.split.queries: {len(queries)}{usual} is not allowed: {reason}")


def validate_attack(path: str, attack: Attack, *, victim: Victim, sets: TrialInputs) -> None:
    """Raise ValueError for an attack that cannot be run on a victim, as far as the data are here; `path`: its place."""
    every = (victim.data, *attack.datasets())
    here = {data: sets[data_key(data)] for data in every if data_key(data) in sets}
    attack.validate(TargetFacts(path=path, victim=victim, datasets=here))
    fresh_of_attack(path, attack, victim=victim, sets=sets)


def fresh_of_victim(victim: Victim, sets: TrialInputs) -> dict[str, list[str]]:
    """The names of what stays fresh of a victim's network, by the place of its `start`; empty without one.

    Raises ValueError, in one line, for weights that are not those of the network.
    """
    if victim.start is None:
        return {}
    start, dataset = sets.starts[victim.start], sets[data_key(victim.data)]
    return {"victim.start": check_start("victim", "victim.model", victim.model, start=start, dataset=dataset)}


def fresh_of_attack(path: str, attack: Attack, *, victim: Victim, sets: TrialInputs) -> dict[str, list[str]]:
    """The same of the students that start from weights, as far as data and weights are here."""
    found, dataset = {}, sets.get(data_key(victim.data))
    for place, part in with_parts(path, attack.resolve(victim)).items():
        start = sets.starts.get(getattr(part, "start", None) or "")
        if start is not None and dataset is not None:
            model = part.architecture(victim)
            found[f"{place}.start"] = check_start(place, f"{place}.student", model, start=start, dataset=dataset)
    return found


def with_parts(path: str, attack: AttackRecord) -> dict[str, AttackRecord]:
    """An attack and its steps, by their places."""
    return {path: attack, **{f"{path}.{name}": one for name, one in attack.parts().items()}}
