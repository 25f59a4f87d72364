"""Small trials on generated images, for tests of more than one room."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mwm.attacks import Attack
from mwm.config.spec import decode
from mwm.data.datasets import Npz
from mwm.data.readers import load_dataset
from mwm.data.splits import SplitSizes
from mwm.models.networks import Cnn
from mwm.runner.sweeps.search import FixedSource
from mwm.runner.sweeps.sweep import Sweep
from mwm.storage.store import Store
from mwm.training.recipe import Cosine, Recipe
from mwm.trials.outcome import EpochMetrics, Outcome
from mwm.trials.run import run
from mwm.trials.trial import Trial, TrialInputs, Victim, data_key
from mwm.watermarks.schemes import Margin, Scheme, TriggerSet, Unwatermarked

Loaded = TrialInputs
CPU = torch.device("cpu")
DATA = Npz(path="own.npz", flip=False, pad=0)
FOREIGN = Npz(path="foreign.npz", flip=True, pad=1)
RECIPE = Recipe(epochs=3, batch_size=16, lr=0.1, momentum=0.9, schedule=Cosine())
MARGIN = Margin(num_queries=9, queries_per_step=4, steps=2, step_size=8 / 255)
VICTIM = Victim(
    data=DATA,
    split=SplitSizes(validation=24, queries=30, disjoint=0.4),
    model=Cnn(width=2, depth=1),
    scheme=MARGIN,
    recipe=RECIPE,
)


MARKED = replace(
    VICTIM,
    model=Cnn(width=16, depth=1),
    scheme=TriggerSet(num_queries=20, weight=3.0, queries_per_step=20, batchnorm="joint"),
    recipe=replace(RECIPE, epochs=30),
)
"""A victim that carries its watermark: the one before, after three epochs, does not."""

CONTROL = replace(VICTIM, scheme=Unwatermarked())
SCHEMES: list[Scheme] = [MARGIN, TriggerSet(num_queries=9), Unwatermarked()]


def arrays(n: int, shape: tuple[int, int, int], classes: int, seed: int) -> dict[str, Any]:
    """Images n h w c that can be learnt, and their labels."""
    drawn = np.random.default_rng(seed)
    patterns = drawn.random((classes, *shape))
    found: dict[str, Any] = {}
    for part, count in (("train", n), ("test", 40)):
        labels = drawn.permutation(np.arange(count) % classes)
        noisy = 0.7 * patterns[labels] + 0.3 * drawn.random((count, *shape))
        found |= {f"x_{part}": (noisy * 255).astype(np.uint8), f"y_{part}": labels}
    return found


def loaded(folder: Path) -> Loaded:
    """The victim's data and a foreign set of another size, channel count and number of classes, from a folder."""
    held = {}
    for data, content in ((DATA, arrays(140, (6, 6, 1), 4, 0)), (FOREIGN, arrays(40, (9, 7, 3), 6, 1))):
        np.savez(folder / data.path, **content)
        held[data_key(data)] = load_dataset(replace(data, path=str(folder / data.path)))
    return TrialInputs(held)


def owned(sets: Loaded, secret: bytes = bytes(range(32)), path: str = "owner.secret") -> tuple[Victim, Loaded]:
    """The victim with a secret of its owner's, and the data sets with the secret beside them; there is no such file."""
    return replace(VICTIM, secret=path), replace(sets, secrets={**sets.secrets, path: secret})


def done(trial: Trial, sets: Loaded, store: Store) -> Outcome:
    """Run a trial to its end."""
    *_, outcome = run(trial, sets, store, CPU)
    assert isinstance(outcome, Outcome)
    return outcome


def theft(attack: Attack, victim: Victim = VICTIM) -> Trial:
    return Trial(victim=victim, attack=attack.resolve(victim))


def timeless(outcome: Any) -> dict[str, Any]:
    return asdict(outcome) | {"seconds": None, "peak_mib": None}


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(value, other[k]) for k, value in one.items())


def restarted(trial: Trial, sets: Loaded, store: Store, after: int) -> list[EpochMetrics | Outcome]:
    """Stop a trial while it is about to hand over row `after`, and run it again to its end."""
    steps: Iterator[EpochMetrics | Outcome] = run(trial, sets, store, CPU)
    for _ in range(after):
        next(steps)
    del steps
    return list(run(trial, sets, store, CPU))


PLAIN = {"data": "digits", "model": "cnn", "scheme": "none"}
SPACE = {
    "scheme": {"choice": ["none", {"kind": "margin", "step_size": {"loguniform": [1e-3, 0.1]}}]},
    "recipe": {"epochs": {"integers": [2, 4]}, "lr": {"uniform": [0.1, 0.3]}},
}


def swept(victim: dict[str, Any], attacks: Sequence[Any] = (), **search: Any) -> Sweep:
    """A sweep over changes of a plain victim."""
    tree = {"name": "s", "victim": PLAIN | victim, "attacks": list(attacks), "search": search or "grid"}
    sweep: Sweep = decode(Sweep, tree)
    return sweep


def searching(change: dict[str, Any] | None = None, attacks: Sequence[Any] = ("extraction",), **search: Any) -> Sweep:
    """A search by Optuna for three victims, with changes of its space."""
    told = {"objectives": ["clean_acc", "query_acc"], "num_samples": 3}
    return swept(SPACE | (change or {}), attacks, kind="optuna", **told | search)


def drawn(sweep: Sweep) -> list[Victim]:
    """The victims of a sweep in the order in which they are asked for."""
    source = FixedSource(sweep)
    found: list[Victim] = []
    while (proposal := source.ask()) is not None:
        assert proposal[0] == len(found)
        found.append(proposal[1])
    assert len(found) == source.total
    return found
