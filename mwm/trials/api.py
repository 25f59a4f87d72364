"""Trials from a notebook: the very function that a sweep's workers call, with its data, its store and its progress."""

from __future__ import annotations

import builtins
import shutil
import sys
import tempfile
import warnings
import weakref
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, get_args

import torch
from torch import nn

from mwm.attacks import Attack
from mwm.config.spec import decode
from mwm.data.arrays import hold_arrays, is_arrays
from mwm.data.host import ImagesOn
from mwm.models.build import ArchitectureSpec, rebuild_model
from mwm.models.deployed import Deployment
from mwm.storage.filesystem import require_writable
from mwm.storage.store import Store
from mwm.training.loop import DivergedError
from mwm.trials.artifacts import key_folders, load_stored_key
from mwm.trials.key_export import export_files, proof_of, require_marked, write_keys
from mwm.trials.names import trial_name
from mwm.trials.outcome import UNPROVEN, EpochMetrics, Outcome
from mwm.trials.run import run
from mwm.trials.trial import Trial, TrialInputs, Victim, data_key, filled_in
from mwm.trials.validation import Places, read_inputs, validate_attack, validate_victim
from mwm.watermarks.key import Key, commitment, load_key
from mwm.watermarks.proof import require_proven

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
    images_on: ImagesOn = "auto",
    trust: bool = False,
    **fields: Any,
) -> TrainedVictim:
    """Train a victim, or take it from the store if it is finished there.

    `fields` are those of `Victim`, or changes to a `victim` that is given, as records, as mappings, or as the bare word
    of a kind: `data="digits"`. `data` may be a mapping of arrays, too, by the names that `mwm.Arrays` has for them.
    `store` is a folder or a URI that sweeps may share; None is a folder that goes with the result. `device` None is a
    GPU if there is one. `on_epoch` is called with each epoch. `images_on` says where images lie: on the "device", or on
    the "host", from where they go over by the batch; "auto" has them on a GPU where they leave it enough memory. With
    `trust` the code of functions that records name as module:function is run. Warns of a victim whose own key is not
    proven on it. Raises ValueError, a line for each fault, for what cannot be trained, and DivergedError if the loss is
    no longer finite.
    """
    named = _with_arrays(fields)
    made = _decoded(Victim, named) if victim is None else replace(victim, **named)
    place, chosen = _store(store), _device(device)
    inputs = _inputs(made, None, store=place, trust=trust, images_on=images_on)
    validate_victim(made, inputs)
    made = filled_in(made, inputs)
    outcome, epochs = _run(Trial(victim=made), inputs, place, device=chosen, on_epoch=on_epoch)
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
    images_on: ImagesOn = "auto",
    trust: bool = False,
) -> AttackResult:
    """Attack a victim, or take the attack from the store if it is finished there.

    What the attack leaves to its victim is filled in. Where `store` or `device` is None it is the victim's; in another
    store the victim is trained again first. Raises as `train_victim` does.
    """
    asked = _decoded(Attack, _with_arrays(attack, "attack")) if isinstance(attack, str | dict) else attack
    place = victim.store if store is None else _store(store)
    inputs = _inputs(victim.spec, asked, store=place, trust=trust, images_on=images_on)
    validate_attack("attack", asked, victim=victim.spec, sets=inputs)
    made = asked.resolve(victim.spec)
    chosen = victim.device if device is None else _device(device)
    outcome, epochs = _run(Trial(victim=victim.spec, attack=made), inputs, place, device=chosen, on_epoch=on_epoch)
    shape = inputs[data_key(victim.spec.data)].shape
    model = _network(
        made.architecture(victim.spec),
        outcome,
        shape=shape,
        store=place,
        device=chosen,
        deployments=made.deployments(),
    )
    return AttackResult(spec=made, model=model, outcome=outcome, epochs=epochs)


def export_key(victim: TrainedVictim, folder: str | Path, *, force: bool = False) -> tuple[Path, ...]:
    """Copy the key of a victim into a new folder, a second one into `confusion` in it, and give where each lies.

    Beside each lies `proof.json`, which says what the victim's network proves by it. Raises ValueError for a key that
    this network does not prove, and for that of a control, unless by `force`; and where the folder cannot be made.
    """
    if not force:
        named = f"victim: {victim.outcome.digest}"
        require_marked(victim.store, victim.outcome, name=named, override="force=True")
    files = export_files(victim.store, victim.outcome)
    return tuple(write_keys(files, Path(folder), name="folder"))


def commit_key(folder: str | Path, *, force: bool = False) -> str:
    """The commitment to the key in a folder: 64 hexadecimal digits to publish before the network is.

    Raises ValueError for a key that its own network does not prove, as far as the folder tells, and for that of a
    control, unless by `force`; and for one that is damaged.
    """
    key = load_key(folder)
    if not force:
        require_proven(key, proof_of(Path(folder), key), name=f"folder: {folder}", override="force=True")
    return commitment(key)


def _decoded(kind: Any, tree: Any) -> Any:
    return decode(kind, tree, "attack" if kind is Attack else "")


def _with_arrays(tree: Any, path: str = "") -> Any:
    """A tree with a record in place of each mapping of arrays; `path`: its place."""
    if is_arrays(tree):
        return hold_arrays(path, tree)
    if not isinstance(tree, dict):
        return tree
    return {key: _with_arrays(value, f"{path}.{key}" if path else str(key)) for key, value in tree.items()}


def _inputs(victim: Victim, attack: Attack | None, *, store: Store, trust: bool, images_on: ImagesOn) -> TrialInputs:
    if images_on not in get_args(ImagesOn):
        allowed = ", ".join(map(repr, get_args(ImagesOn)))
        raise ValueError(f"images_on: {images_on!r} is not allowed: must be {allowed}")
    placed = [] if attack is None else [("attack", attack)]
    inputs, notes = read_inputs([victim], placed, Places(trust=trust, store=store))
    assert not notes, "a data set that cannot be had is an error here"
    return replace(inputs, images_on=images_on)


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
                if row.marked is False:
                    warnings.warn(f"{trial_name(trial)}: {UNPROVEN}", stacklevel=3)
                rows = tuple(EpochMetrics(**one) for one in store.rows(row.digest))
                return row, rows
            bar.update()
            bar.set_postfix(clean=f"{row.val_acc:.3f}", query=f"{row.query_acc:.2f}")
            if on_epoch is not None:
                on_epoch(row)
    raise AssertionError("a trial ends with its outcome")


def _network(
    model: Any,
    outcome: Outcome,
    *,
    shape: tuple[int, int, int],
    store: Store,
    device: torch.device,
    deployments: tuple[Deployment, ...] = (),
) -> nn.Module:
    assert outcome.classes is not None, "a finished trial knows its classes"
    architecture = ArchitectureSpec(model=model, shape=shape, classes=outcome.classes, deployments=deployments)
    return rebuild_model(architecture, store.weights(outcome.digest), trust=True).to(device)  # it was asked before
