"""What a trial is, what it is called, and what it yields."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from mwm.attacks import Attack
from mwm.config import randomness
from mwm.config.spec import NonEmptyStr, Seed, StrictBool, digest, encode, spec
from mwm.data.datasets import Dataset, DatasetSpec
from mwm.data.splits import SplitSizes
from mwm.models.build import Model
from mwm.training.recipe import Recipe
from mwm.watermarks import secret
from mwm.watermarks.schemes import Scheme, Unwatermarked

METHOD_VERSION = 4
"""Raised with every change of what a training or a measure means: results of the old meaning are then not reused."""


@dataclass(frozen=True, eq=False, slots=True)
class TrialInputs(Mapping[str, Dataset]):
    """Loaded data sets under `data_key`, and the owners' secrets (32 bytes) under the paths that victims name.

    The driver reads both once and hands them to trials beside their trees: no secret is in a tree, and no other machine
    needs its file. Ray's object store holds it with the data: whoever may enter the cluster may read it there.
    """

    data: Mapping[str, Dataset]
    secrets: Mapping[str, bytes] = field(default_factory=dict, repr=False)

    def __getitem__(self, key: str) -> Dataset:
        return self.data[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self.data)

    def __len__(self) -> int:
        return len(self.data)


@spec
class Victim:
    """A network to be attacked: data, architecture, watermark, recipe, seed.

    `secret` is the path of a file of 64 hexadecimal digits from which the key is drawn, in place of the seed. With
    `control`, the answers of the same network without a watermark are subtracted from those of every suspect before
    its secret labels are ranked: that takes out which classes any network of these data confuses.
    """

    data: DatasetSpec
    split: SplitSizes = SplitSizes()
    model: Model
    scheme: Scheme
    recipe: Recipe = Recipe()
    seed: Seed = 0
    secret: NonEmptyStr | None = None
    control: StrictBool = False

    def unwatermarked(self) -> Victim:
        """The control: the same network without a watermark."""
        return replace(self, scheme=Unwatermarked())

    def __post_init__(self) -> None:
        num, source = self.scheme.cells, self.split.queries
        if num is not None and num > source:
            field = "num_queries" if len(self.scheme.parts()) == 1 else "queries.num_queries"
            raise ValueError(f"scheme.{field}: {num} is not allowed: must be at most split.queries, {source}")


@spec
class Trial:
    """The training of a victim, or one attack on it."""

    victim: Victim
    attack: Attack | None = None


def data_key(data: Any) -> str:
    """The name under which the data set of a record is handed to trials."""
    return digest(encode(data))


def victim_digest(victim: Victim, sets: TrialInputs) -> str:
    """The name of a trained victim: its content, with names of data set and secret in place of where they lie."""
    content = encode(victim) | {"data": _content(victim.data, sets)}
    if content.pop("secret") is not None:
        content["secret"] = secret.secret_digest(secret_of(victim, sets))
    return digest(METHOD_VERSION, content)


def secret_of(victim: Victim, sets: TrialInputs) -> bytes:
    """What a victim's key is drawn from: the owner's secret, or else the seed."""
    return randomness.secret_from_seed(victim.seed) if victim.secret is None else sets.secrets[victim.secret]


def trial_digest(trial: Trial, sets: TrialInputs) -> str:
    """The name of a trial's result."""
    name = victim_digest(trial.victim, sets)
    if trial.attack is None:
        return name
    attack, foreign = encode(trial.attack), trial.attack.datasets()
    attack |= {field: _content(value, sets) for field, value in vars(trial.attack).items() if value in foreign}
    return digest(METHOD_VERSION, name, attack)


def _content(data: Any, sets: TrialInputs) -> dict[str, Any]:
    return {"digest": sets[data_key(data)].digest, "flip": data.flip, "pad": data.pad}
