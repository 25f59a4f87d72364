"""A trial from beginning to end, training a victim or attacking one: a plain function that yields rows."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator
from dataclasses import asdict, replace
from typing import Any

import torch
from torch import nn

from mwm.models.build import count_parameters
from mwm.storage.store import Store
from mwm.training.device import deterministic
from mwm.training.evaluation import accuracy, logit_margins, predict_logits
from mwm.training.loop import DivergedError, Epoch
from mwm.trials.outcome import LEVELS, EpochMetrics, Outcome, scored
from mwm.trials.stages import AttackStage, TrialStage, VictimStage
from mwm.trials.trial import Trial, TrialInputs, data_key, trial_digest, victim_digest


def run(trial: Trial, sets: TrialInputs, store: Store, device: torch.device) -> Iterator[EpochMetrics | Outcome]:
    """Run a trial to its end, from its checkpoint if there is one: a row per epoch, then the outcome.

    A finished trial only yields its outcome. A training whose loss is not finite ends as `failed`.
    """
    name, victim = trial_digest(trial, sets), victim_digest(trial.victim, sets)
    known = store.outcome(name)
    if known is not None:
        yield Outcome(**known)
        return
    data = sets[data_key(trial.victim.data)].digest
    template = Outcome(status="done", digest=name, victim_digest=victim, data_digest=data, device=_describe(device))
    try:
        if trial.attack is None:
            yield from _train(VictimStage(trial, sets, store, device), template, store)
            return
        if store.outcome(victim) is None:  # damaged after it was finished: train it again, it comes out the same
            deque(run(Trial(victim=trial.victim), sets, store, device), maxlen=0)
        yield from _train(AttackStage(trial, sets, store, device), template, store)
    except DivergedError as error:
        store.discard(name)
        yield replace(template, status="failed", error=str(error))


def _train(stage: TrialStage, blank: Outcome, store: Store) -> Iterator[EpochMetrics | Outcome]:
    start = store.checkpoint(blank.digest) or {"seconds": 0.0, "rows": []}
    seconds, rows, last = start["seconds"], start["rows"], None
    stage.peak.earlier = start.get("peak_mib", 0.0)  # checkpoints of older versions have none
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
        row = _row(last, query_acc)
        rows.append(asdict(row))
        if last.epoch < last.training.epochs:
            more = {"seconds": seconds, "oracle_calls": stage.calls(), "rows": rows, "peak_mib": stage.peak.mib()}
            store.save_checkpoint(blank.digest, last.training.state() | more)
        yield row
    assert last is not None, "a training has at least one epoch"
    duplicate = store.outcome(blank.digest)
    if duplicate is not None:  # another sweep on this store was quicker, and what is finished never changes
        yield Outcome(**duplicate)
        return
    model = last.training.model
    with deterministic(last.training.deterministic):
        measured = _measure(stage, model)
        measured |= stage.save_and_measure(model, blank.digest)
    outcome = replace(
        blank,
        **measured,
        query_digest=stage.queries.digest(),
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


def _measure(stage: TrialStage, model: nn.Module) -> dict[str, Any]:
    """Clean accuracy, and everything that is said of the queries, always against their recorded labels."""
    queries, test, classes = stage.queries, stage.views.test, stage.dataset.classes
    answers = queries.by_cell(predict_logits(model, queries.images))
    hits = answers.argmax(1) == queries.cell_labels
    margins = logit_margins(answers, queries.cell_labels)
    told = scored("".join("01"[hit] for hit in hits.tolist()), classes)
    if stage.victim.scheme.null != "uniform_wrong_labels":  # the exact test does not hold for such labels
        told |= dict.fromkeys(("p_value", "log10_p", *LEVELS))
    return told | {
        "clean_acc": accuracy(predict_logits(model, test.images), test.labels),
        "margin_mean": margins.mean().item(),
        "margin_min": margins.min().item(),
        "classes": classes,
    }


def _describe(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"
