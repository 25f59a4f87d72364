"""The two stages of a trial, training a victim and stealing one: a plain function that yields rows."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator
from dataclasses import asdict, replace
from typing import Any

import torch
from torch import Tensor, nn

from mwm.data.splits import LabeledImages
from mwm.models.build import count_parameters
from mwm.stats import binomial
from mwm.storage.store import Store
from mwm.training.device import deterministic
from mwm.training.evaluation import accuracy, logit_margins, predict_logits
from mwm.training.loop import DivergedError, Epoch
from mwm.trials.outcome import EpochMetrics, Outcome, decisions
from mwm.trials.stages import AttackStage, TrialStage, VictimStage
from mwm.trials.trial import Trial, TrialInputs, data_key, trial_digest, victim_digest
from mwm.watermarks.queries import QuerySet


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
    yield from [
        EpochMetrics(**row) for row in rows
    ]  # again: whoever listened before may not have heard of the last ones
    began = time.perf_counter()
    epochs = stage.epochs(start if rows else None)
    seconds += time.perf_counter() - began  # a thief may ask before the first epoch
    for last in epochs:
        began = time.perf_counter()
        query_acc = accuracy(predict_logits(last.training.model, stage.queries.images), stage.queries.labels)
        seconds += last.seconds + time.perf_counter() - began
        row = _row(last, query_acc)
        rows.append(asdict(row))
        if last.epoch < last.training.recipe.epochs:
            calls = stage.oracle.calls if stage.oracle else 0
            more = {"seconds": seconds, "oracle_calls": calls, "rows": rows, "peak_mib": stage.peak.mib()}
            store.save_checkpoint(blank.digest, last.training.state() | more)
        yield row
    assert last is not None, "a training has at least one epoch"
    duplicate = store.outcome(blank.digest)
    if duplicate is not None:  # another sweep on this store was quicker, and what is finished never changes
        yield Outcome(**duplicate)
        return
    model = last.training.model
    with deterministic(last.training.recipe.deterministic):
        measured = _measure(model, stage.queries, stage.views.test, stage.dataset.classes)
        measured |= stage.save_and_measure(model, blank.digest)
    outcome = replace(
        blank,
        **measured,
        query_digest=stage.queries.digest(),
        seconds=seconds,
        peak_mib=stage.peak.mib(),
        kept_epoch=last.training.best_epoch,
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


def _measure(model: nn.Module, asked: QuerySet, test: LabeledImages, classes: int) -> dict[str, Any]:
    """Clean accuracy, and everything that is said of the queries, always against their recorded labels."""
    answers: Tensor = predict_logits(model, asked.images)
    matches = int((answers.argmax(1) == asked.labels).sum())
    held, chance = logit_margins(answers, asked.labels), binomial.p_value(matches, len(asked), classes)
    return {
        "clean_acc": accuracy(predict_logits(model, test.images), test.labels),
        "query_acc": matches / len(asked),
        "query_matches": matches,
        "margin_mean": held.mean().item(),
        "margin_min": held.min().item(),
        "p_value": chance,
        "log10_p": binomial.log10_p(matches, len(asked), classes),
        **decisions(chance, matches, len(asked)),
    }


def _describe(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"
