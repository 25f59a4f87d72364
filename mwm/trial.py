"""What a trial is, what it is called, and what it yields."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from mwm import rule
from mwm.attacks import Attack
from mwm.data import Data, DataSet, Split
from mwm.models import Model
from mwm.recipe import Recipe
from mwm.schemes import Scheme
from mwm.spec import Seed, Text, digest, encode, spec
from mwm.verdict import LEVEL, interval

METHOD = 2
"""Raised with every change of what a training or a measure means: results of the old meaning are then not reused."""

PROVEN = "owned_1e3"
LEVELS = {PROVEN: LEVEL, "owned_1e6": 1e-6}
"""The levels at which ownership is decided, by the names of the decisions; that at `LEVEL` is `PROVEN`."""


@dataclass(frozen=True, eq=False, slots=True)
class Sets(Mapping[str, DataSet]):
    """Loaded data sets under `data_key`, and the owners' secrets (32 bytes) under the paths that victims name.

    The driver reads both once and hands them to trials beside their trees: no secret is in a tree, and no other machine
    needs its file. Ray's object store holds it with the data: whoever may enter the cluster may read it there.
    """

    data: Mapping[str, DataSet]
    secrets: Mapping[str, bytes] = field(default_factory=dict, repr=False)

    def __getitem__(self, key: str) -> DataSet:
        return self.data[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self.data)

    def __len__(self) -> int:
        return len(self.data)


@spec
class Victim:
    """A network to be stolen: data, architecture, watermark, recipe, seed.

    `secret` is the path of a file of 64 hexadecimal digits from which the key is drawn, in place of the seed.
    """

    data: Data
    split: Split = Split()
    model: Model
    scheme: Scheme
    recipe: Recipe = Recipe()
    seed: Seed = 0
    secret: Text | None = None

    def __post_init__(self) -> None:
        num, source = self.scheme.num_queries, self.split.queries
        if num > source:
            raise ValueError(f"scheme.num_queries: {num} is not allowed: must be at most split.queries, {source}")


@spec
class Trial:
    """The training of a victim, or one attack on it."""

    victim: Victim
    attack: Attack | None = None


@dataclass(frozen=True, kw_only=True)
class Row:
    """One epoch of a trial."""

    epoch: int
    loss: float
    lr: float
    val_acc: float
    query_acc: float
    epoch_seconds: float


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What a trial measured. Accuracies are shares; margins are in logits; `p_value` is one-sided and exact.

    `owned_1e3` and `owned_1e6` say whether it proves ownership at these levels. `agreement` is the share of test images
    on which student and victim answer alike. `oracle_calls` counts images. `seconds` and `peak_mib` are those of the
    training over all its attempts, without time and memory of a lost epoch. The peak is the most that PyTorch reserved
    on the GPU, or on a CPU the most that was resident of the process, libraries included; None in older results.
    """

    status: Literal["done", "failed", "skipped", "stopped"]
    error: str = ""
    digest: str
    victim_digest: str
    data_digest: str
    query_digest: str = ""
    clean_acc: float | None = None
    query_acc: float | None = None
    query_low: float | None = None
    query_high: float | None = None
    query_matches: int | None = None
    agreement: float | None = None
    margin_mean: float | None = None
    margin_min: float | None = None
    p_value: float | None = None
    log10_p: float | None = None
    owned_1e3: bool | None = None
    owned_1e6: bool | None = None
    oracle_calls: int | None = None
    seconds: float | None = None
    peak_mib: float | None = None
    kept_epoch: int | None = None
    parameters: int | None = None
    device: str = ""


def decided(p_value: float, matches: int, queries: int) -> dict[str, Any]:
    """What follows from a p-value and its matches: the decision at each level, the 95 % interval of the match rate."""
    low, high = interval(matches, queries)
    return {name: p_value <= level for name, level in LEVELS.items()} | {"query_low": low, "query_high": high}


def data_key(data: Any) -> str:
    """The name under which the data set of a record is handed to trials."""
    return digest(encode(data))


def victim_digest(victim: Victim, sets: Sets) -> str:
    """The name of a trained victim: its content, with names of data set and secret in place of where they lie."""
    content = encode(victim) | {"data": _content(victim.data, sets)}
    if content.pop("secret") is not None:
        content["secret"] = rule.name(secret_of(victim, sets))
    return digest(METHOD, content)


def secret_of(victim: Victim, sets: Sets) -> bytes:
    """What a victim's key is drawn from: the owner's secret, or else the seed."""
    return rule.of_seed(victim.seed) if victim.secret is None else sets.secrets[victim.secret]


def trial_digest(trial: Trial, sets: Sets) -> str:
    """The name of a trial's result."""
    name = victim_digest(trial.victim, sets)
    if trial.attack is None:
        return name
    attack = encode(trial.attack)
    if data_key(trial.attack.source) in sets:
        attack["source"] = _content(trial.attack.source, sets)
    return digest(METHOD, name, attack)


def _content(data: Any, sets: Sets) -> dict[str, Any]:
    return {"digest": sets[data_key(data)].digest, "flip": data.flip, "pad": data.pad}


def complete_attack(attack: Attack, victim: Victim) -> Attack:
    """Fill in what an attack leaves to its victim: the student's network, and the recipe up to its last epoch."""
    recipe = attack.recipe or replace(victim.recipe, keep="last")
    return replace(attack, student=attack.student or victim.model, recipe=recipe)
