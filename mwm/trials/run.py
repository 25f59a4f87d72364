"""A trial from beginning to end, training a victim or attacking one: a plain function that yields rows."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict, replace
from typing import Any

import torch
from torch import nn

from mwm.config.functions import functions_in, require_unchanged
from mwm.models.build import count_parameters, load_weights
from mwm.storage.store import Store
from mwm.training.device import deterministic
from mwm.training.evaluation import accuracy, predict_logits
from mwm.training.loop import DivergedError, Epoch
from mwm.training.parallel import WHOLE, BatchShare
from mwm.trials.measures import measure
from mwm.trials.outcome import EpochMetrics, Outcome
from mwm.trials.stages import AttackStage, TrialStage, VictimStage
from mwm.trials.trial import Trial, TrialInputs, Victim, data_key, filled_in, trial_digest, victim_digest


def run(
    trial: Trial, sets: TrialInputs, store: Store, device: torch.device, *, share: BatchShare = WHOLE
) -> Iterator[EpochMetrics | Outcome]:
    """Run a trial to its end, from its checkpoint if there is one: a row per epoch, then the outcome.

    A finished trial only yields its outcome. A training whose loss is not finite ends as `failed`. Where several
    workers train a victim, the one of rank 0 calls this, and the others call `assist`.
    """
    trial = replace(trial, victim=filled_in(trial.victim, sets))
    name, victim = trial_digest(trial, sets), victim_digest(trial.victim, sets)
    known = store.outcome(name)
    if known is not None:
        yield Outcome(**known)
        return
    require_unchanged(functions_in(trial, "trial"), sets.sources)
    data = sets[data_key(trial.victim.data)].digest
    template = Outcome(
        status="done", digest=name, victim_digest=victim, data_digest=data, device=_describe(device, share)
    )
    try:
        if trial.attack is None:
            yield from _train(VictimStage(trial, sets, store, device, share=share), template, store)
            return
        _finished(trial.victim, sets=sets, store=store, device=device)
        stage = AttackStage(trial, sets, store, device)
        stage.others = {seed: _other(stage, seed) for seed in trial.attack.other_seeds()}
        yield from _train(stage, template, store)
    except DivergedError as error:
        store.discard(name)
        yield replace(template, status="failed", error=str(error))


def assist(trial: Trial, sets: TrialInputs, *, store: Store, device: torch.device, share: BatchShare) -> None:
    """Be one of the other workers of a victim's training: learn a share of every batch to the end, and keep nothing."""
    trial = replace(trial, victim=filled_in(trial.victim, sets))
    start = store.checkpoint(victim_digest(trial.victim, sets))
    with suppress(DivergedError):  # the first worker tells it
        deque(VictimStage(trial, sets, store, device, share=share).epochs(start), maxlen=0)


def _finished(victim: Victim, *, sets: TrialInputs, store: Store, device: torch.device) -> str:
    """The digest of a victim that is in the store: if it was damaged there, or never trained, it is trained first."""
    name = victim_digest(victim, sets)
    if store.outcome(name) is None:
        deque(run(Trial(victim=victim), sets, store, device), maxlen=0)
    return name


def _control(stage: TrialStage) -> nn.Module | None:
    """The network whose answers are subtracted, where the victim asks for that: the same without a watermark."""
    twin = stage.victim.unwatermarked()
    if not stage.victim.control or (stage.trial.attack is None and twin == stage.victim):
        return None
    return _network_of(twin, stage)


def _other(stage: TrialStage, seed: int) -> nn.Module:
    """The network of a victim of another seed, without a watermark."""
    return _network_of(replace(stage.victim.unwatermarked(), seed=seed), stage)


def _network_of(victim: Victim, stage: TrialStage) -> nn.Module:
    """The trained network of a victim that is like that of a stage; it is trained first if it is not in the store."""
    network = stage.network()
    name = _finished(victim, sets=stage.sets, store=stage.store, device=stage.device)
    load_weights(network, stage.store.weights(name))
    return network


def _train(stage: TrialStage, blank: Outcome, store: Store) -> Iterator[EpochMetrics | Outcome]:
    start = store.checkpoint(blank.digest) or {"seconds": 0.0, "rows": []}
    seconds, rows, last = start["seconds"], start["rows"], None
    steps, stage.peak.earlier = start.get("steps", []), start.get("peak_mib", 0.0)  # not in those of older versions
    # Again: whoever listened before may not have heard of the last ones.
    yield from [EpochMetrics(**row) for row in rows]
    began = time.perf_counter()
    epochs = stage.epochs(start if rows else None)
    seconds += time.perf_counter() - began  # an attacker may ask before the first epoch
    for last in epochs:
        began = time.perf_counter()
        answers = stage.queries.by_cell(predict_logits(last.training.model, stage.queries.images))
        query_acc = accuracy(answers, stage.queries.cell_labels)
        seconds += last.seconds + time.perf_counter() - began
        rows.append(asdict(row := _row(last, query_acc)))
        steps += _steps(stage, last, query_acc)
        if last.epoch < last.training.epochs:
            spent = {"seconds": seconds, "oracle_calls": stage.calls(), "peak_mib": stage.peak.mib()}
            store.save_checkpoint(blank.digest, last.training.state() | spent | {"rows": rows, "steps": steps})
        yield row
    assert last is not None, "a training has at least one epoch"
    duplicate = store.outcome(blank.digest)
    if duplicate is not None:  # another sweep on this store was quicker, and what is finished never changes
        yield Outcome(**duplicate)
        return
    model = last.training.model
    with deterministic(last.training.deterministic):
        measured = measure(stage, model, _control(stage)) | stage.save_and_measure(model, blank.digest)
    outcome = replace(
        blank,
        **measured,
        query_digest=stage.queries.digest(),
        steps=steps,
        seconds=seconds,
        peak_mib=stage.peak.mib(),
        best_epoch=last.training.best_epoch,
        parameters=count_parameters(model),
    )
    store.commit(blank.digest, asdict(outcome), rows)
    yield outcome


def _row(epoch: Epoch, query_acc: float) -> EpochMetrics:
    """What is told of an epoch."""
    return EpochMetrics(
        epoch=epoch.epoch,
        loss=epoch.loss,
        lr=epoch.lr,
        val_acc=epoch.val_acc,
        query_acc=query_acc,
        epoch_seconds=epoch.seconds,
    )


def _steps(stage: TrialStage, last: Epoch, query_acc: float) -> list[dict[str, Any]]:
    """What is told of the part of a sequence that has ended with an epoch, if one has."""
    if not last.step:
        return []
    test = stage.views.test
    clean_acc = accuracy(predict_logits(last.training.model, test.images), test.labels)
    told = {"kind": last.step, "epoch": last.epoch, "clean_acc": clean_acc, "query_acc": query_acc}
    return [told | {"oracle_calls": stage.calls()}]


def _describe(device: torch.device, share: BatchShare) -> str:
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"
    return name if share.workers == 1 else f"{share.workers} x {name}"
