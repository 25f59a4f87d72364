"""Trials from a notebook: the very function that a sweep's workers call, with its data, its store and its progress."""

from __future__ import annotations

import builtins
import shutil
import sys
import tempfile
import weakref
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from mwm.attacks import Attack
from mwm.config.spec import decode
from mwm.models.build import ArchitectureSpec, rebuild_model
from mwm.storage.filesystem import require_writable
from mwm.storage.store import Store
from mwm.training.loop import DivergedError
from mwm.trials.artifacts import key_folders, load_stored_key
from mwm.trials.names import trial_name
from mwm.trials.outcome import EpochMetrics, Outcome
from mwm.trials.run import run
from mwm.trials.trial import Trial, TrialInputs, Victim, data_key
from mwm.trials.validation import load_datasets, read_secrets, required_datasets, validate_attack, validate_victim
from mwm.watermarks.key import Key

SHOW_AFTER_SECONDS = 2.0
"""A training that is over sooner shows no progress."""

OnEpoch = Callable[[EpochMetrics], object]


@dataclass(frozen=True, kw_only=True)
class TrainedVictim:
    """A victim that was trained: its record, its network, its key or two, what was measured, and each epoch.

    `device` and `store` are where its network lies, and where attacks on it are kept.
    """

    spec: Victim
    model: nn.Module = field(repr=False)
    key: Key = field(repr=False)
    second_key: Key | None = field(default=None, repr=False)
    outcome: Outcome
    epochs: tuple[EpochMetrics, ...] = field(repr=False)
    device: torch.device
    store: Store = field(repr=False)


@dataclass(frozen=True, kw_only=True)
class AttackResult:
    """An attack that was run: its record, the network that the attacker has now, what was measured, and each epoch."""

    spec: Attack
    model: nn.Module = field(repr=False)
    outcome: Outcome
    epochs: tuple[EpochMetrics, ...] = field(repr=False)


def train_victim(
    victim: Victim | None = None,
    *,
    store: str | Path | None = None,
    device: str | torch.device | None = None,
    on_epoch: OnEpoch | None = None,
    **fields: Any,
) -> TrainedVictim:
    """Train a victim, or take it from the store if it is finished there.

    `fields` are those of `Victim`, or changes to a `victim` that is given, as records, as mappings, or as the bare word
    of a kind: `data="digits"`. `store` is a folder or a URI that sweeps may share; None is a folder that goes with the
    result. `device` None is a GPU if there is one. `on_epoch` is called with each epoch. Raises ValueError, a line for
    each fault, for what cannot be trained, and DivergedError if the loss is no longer finite.
    """
    made = _decoded(Victim, fields) if victim is None else replace(victim, **fields)
    inputs, _ = _inputs(made, None)
    validate_victim(made, inputs)
    place, chosen = _store(store), _device(device)
    trial = Trial(victim=made)
    outcome, epochs = _run(trial, inputs, place, device=chosen, on_epoch=on_epoch)
    model = _network(made.model, outcome, shape=inputs[data_key(made.data)].shape, store=place, device=chosen)
    key, *second = (load_stored_key(place, outcome.digest, one) for one in key_folders(place, outcome.digest))
    return TrainedVictim(
        spec=made,
        model=model,
        key=key,
        second_key=second[0] if second else None,
        outcome=outcome,
        epochs=epochs,
        device=chosen,
        store=place,
    )


def run_attack(
    victim: TrainedVictim,
    attack: Attack | str | dict[str, Any],
    *,
    store: str | Path | None = None,
    device: str | torch.device | None = None,
    on_epoch: OnEpoch | None = None,
) -> AttackResult:
    """Attack a victim, or take the attack from the store if it is finished there.

    What the attack leaves to its victim is filled in. Where `store` or `device` is None it is the victim's; in another
    store the victim is trained again first. Raises as `train_victim` does.
    """
    asked = _decoded(Attack, attack) if isinstance(attack, str | dict) else attack
    inputs, notes = _inputs(victim.spec, asked)
    assert not notes, "a data set that cannot be had is an error here"
    validate_attack("attack", asked, victim=victim.spec, sets=inputs)
    made = asked.resolve(victim.spec)
    place = victim.store if store is None else _store(store)
    chosen = victim.device if device is None else _device(device)
    outcome, epochs = _run(Trial(victim=victim.spec, attack=made), inputs, place, device=chosen, on_epoch=on_epoch)
    shape = inputs[data_key(victim.spec.data)].shape
    model = _network(made.architecture(victim.spec), outcome, shape=shape, store=place, device=chosen)
    return AttackResult(spec=made, model=model, outcome=outcome, epochs=epochs)


def _decoded(kind: Any, tree: Any) -> Any:
    return decode(kind, tree, "attack" if kind is Attack else "")


def _inputs(victim: Victim, attack: Attack | None) -> tuple[TrialInputs, list[str]]:
    placed = [] if attack is None else [("attack", attack)]
    loaded, notes = load_datasets(required_datasets([victim], placed), download=True)
    return TrialInputs(loaded, read_secrets([victim])), notes


class _TemporaryStore(Store):
    """A store in a folder that goes with it."""

    def __init__(self) -> None:
        folder = tempfile.mkdtemp(prefix="mwm-")
        weakref.finalize(self, shutil.rmtree, folder, ignore_errors=True)
        super().__init__(folder)


def _store(place: str | Path | None) -> Store:
    if place is None:
        return _TemporaryStore()
    require_writable(place)
    return Store(place)


def _device(device: str | torch.device | None) -> torch.device:
    if device is not None:
        return torch.device(device)
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def _run(
    trial: Trial, inputs: TrialInputs, store: Store, *, device: torch.device, on_epoch: OnEpoch | None
) -> tuple[Outcome, tuple[EpochMetrics, ...]]:
    from tqdm.auto import tqdm

    seen = sys.stderr.isatty() or hasattr(builtins, "get_ipython")  # a cell of a notebook is run with it
    total = trial.victim.recipe.epochs if trial.attack is None else trial.attack.epochs()
    with tqdm(desc=trial_name(trial), total=total, delay=SHOW_AFTER_SECONDS, disable=not seen, unit="epoch") as bar:
        for row in run(trial, inputs, store, device):
            if isinstance(row, Outcome):
                if row.status != "done":
                    raise DivergedError(row.error)
                rows = tuple(EpochMetrics(**one) for one in store.rows(row.digest))
                return row, rows
            bar.update()
            bar.set_postfix(clean=f"{row.val_acc:.3f}", query=f"{row.query_acc:.2f}")
            if on_epoch is not None:
                on_epoch(row)
    raise AssertionError("a trial ends with its outcome")


def _network(
    model: Any, outcome: Outcome, *, shape: tuple[int, int, int], store: Store, device: torch.device
) -> nn.Module:
    assert outcome.classes is not None, "a finished trial knows its classes"
    architecture = ArchitectureSpec(model=model, shape=shape, classes=outcome.classes)
    return rebuild_model(architecture, store.weights(outcome.digest)).to(device)
