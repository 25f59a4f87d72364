"""The two stages of a trial, training a victim and stealing one: a plain function that yields rows."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Iterator
from dataclasses import asdict, replace
from typing import Any

import torch
from torch import Tensor, nn

from mwm import verdict
from mwm.attacks.student import Disjoint, Loot, Same
from mwm.data import Part, Views, fit_to, split
from mwm.engine import Training, deterministic
from mwm.evaluate import accuracy, logits, margins
from mwm.fit import DivergedError, Epoch, fit
from mwm.key import Key, now
from mwm.memory import Peak
from mwm.models import Blueprint, Model, build, channel_statistics, parameters
from mwm.oracle import Oracle
from mwm.queries import QuerySet, choose
from mwm.seeds import derive, generator
from mwm.spec import encode
from mwm.store import Store
from mwm.trial import METHOD, Outcome, Row, Sets, Trial, data_key, decided, secret_of, trial_digest, victim_digest


def run(trial: Trial, sets: Sets, store: Store, device: torch.device) -> Iterator[Row | Outcome]:
    """Run a trial to its end, from its checkpoint if there is one: a row per epoch, then the outcome.

    A finished trial only yields its outcome. A training whose loss is not finite ends as `failed`.
    """
    name, victim = trial_digest(trial, sets), victim_digest(trial.victim, sets)
    known = store.outcome(name)
    if known is not None:
        yield Outcome(**known)
        return
    data = sets[data_key(trial.victim.data)].digest
    blank = Outcome(status="done", digest=name, victim_digest=victim, data_digest=data, device=_describe(device))
    try:
        if trial.attack is None:
            yield from _train(_Victim(trial, sets, store, device), blank, store)
            return
        if store.outcome(victim) is None:  # damaged after it was finished: train it again, it comes out the same
            deque(run(Trial(victim=trial.victim), sets, store, device), maxlen=0)
        yield from _train(_Attack(trial, sets, store, device), blank, store)
    except DivergedError as error:
        store.discard(name)
        yield replace(blank, status="failed", error=str(error))


class _Stage(ABC):
    """What training a victim and stealing one have in common: the victim's data, and the query set."""

    queries: QuerySet
    oracle: Oracle | None = None

    def __init__(self, trial: Trial, sets: Sets, store: Store, device: torch.device) -> None:
        self.peak = Peak(device)  # before anything of the trial is made
        self.trial, self.sets, self.store, self.device = trial, sets, store, device
        self.victim = trial.victim
        self.dataset = sets[data_key(self.victim.data)]
        self.views: Views = split(self.dataset, self.victim.split, device)

    def network(self) -> nn.Module:
        """The victim's network with fresh weights."""
        mean, std = channel_statistics(self.views.owner.images)
        fresh = build(
            self.victim.model,
            shape=self.dataset.shape,
            classes=self.dataset.classes,
            mean=mean,
            std=std,
            generator=generator(self.victim.seed, "victim"),
        )
        return fresh.to(self.device)

    def keep(self, model: nn.Module, name: str, kind: Model) -> None:
        """Keep a trained network, with all that is needed to rebuild it."""
        about = Blueprint(model=kind, shape=self.dataset.shape, classes=self.dataset.classes)
        self.store.save_weights(name, model.state_dict(), encode(about))

    @abstractmethod
    def epochs(self, start: dict[str, Any] | None) -> Iterator[Epoch]:
        """Train, from a saved state if there is one."""

    @abstractmethod
    def finish(self, model: nn.Module, name: str) -> dict[str, float]:
        """Keep what later trials need and measure what only this stage can."""


class _Victim(_Stage):
    def epochs(self, start: dict[str, Any] | None) -> Iterator[Epoch]:
        victim, views = self.victim, self.views
        source, num = views.queries, victim.scheme.num_queries
        flip, pad = victim.data.flip, victim.data.pad
        secret, classes = secret_of(victim, self.sets), self.dataset.classes
        self.queries = choose(source, num=num, classes=classes, flip=flip, pad=pad, secret=secret)
        training = Training(self.network(), victim.recipe)
        if start is not None:
            training.restore(start)
        objective = victim.scheme.objective(self.queries)
        return fit(training, views.owner, objective, flip=flip, pad=pad, seed=victim.seed, validation=views.validation)

    def finish(self, model: nn.Module, name: str) -> dict[str, float]:
        self.keep(model, name, self.victim.model)
        self.store.save_key(name, self._key(), self.victim.scheme.perturb(model, self.queries))
        return {}

    def _key(self) -> Key:
        victim = self.victim
        return Key(
            queries=self.queries,
            secret=secret_of(victim, self.sets),
            classes=self.dataset.classes,
            scheme=victim.scheme.kind,
            data=encode(victim.data),
            split=encode(victim.split),
            data_digest=self.dataset.digest,
            guessable=victim.secret is None,
            created=now(),
            method=METHOD,
        )


class _Attack(_Stage):
    def epochs(self, start: dict[str, Any] | None) -> Iterator[Epoch]:
        attack, name = self.trial.attack, victim_digest(self.victim, self.sets)
        assert attack is not None, "a victim's trial has no attack"
        self.queries = self.store.queries(name).to(self.device)
        self.stolen = self.network()
        self.stolen.load_state_dict(self.store.weights(name))
        # Answers that a thief keeps are not stored but computed anew, so that they are counted from the first again.
        spent = start["oracle_calls"] if start and not attack.asks_once else 0
        self.oracle = Oracle(self.stolen, attack.labels, attack.budget, calls=spent)
        images, augmented = self._images()
        loot = Loot(
            oracle=self.oracle,
            images=images,
            validation=self.views.validation,
            classes=self.dataset.classes,
            flip=augmented.flip,
            pad=augmented.pad,
            seed=derive(attack.seed, "attack", self.victim.seed),
            start=start,
        )
        return attack.run(loot)

    def _images(self) -> tuple[Part, Any]:
        assert self.trial.attack is not None, "a victim's trial has no attack"
        source = self.trial.attack.source
        if isinstance(source, (Same, Disjoint)):
            return (self.views.owner if isinstance(source, Same) else self.views.disjoint), self.victim.data
        foreign = self.sets[data_key(source)]
        images = fit_to(torch.tensor(foreign.x_train), self.dataset.shape)
        return Part(images.to(self.device), torch.tensor(foreign.y_train).to(self.device)), source

    def finish(self, model: nn.Module, name: str) -> dict[str, float]:
        assert self.trial.attack is not None, "a victim's trial has no attack"
        assert self.trial.attack.student is not None, "the student's network was never filled in"
        self.keep(model, name, self.trial.attack.student)
        assert self.oracle is not None, "no student without an oracle"
        test = self.views.test.images
        return {
            "agreement": accuracy(logits(model, test), logits(self.stolen, test).argmax(1)),
            "oracle_calls": self.oracle.calls,
        }


def _train(stage: _Stage, blank: Outcome, store: Store) -> Iterator[Row | Outcome]:
    start = store.checkpoint(blank.digest) or {"seconds": 0.0, "rows": []}
    seconds, rows, last = start["seconds"], start["rows"], None
    stage.peak.earlier = start.get("peak_mib", 0.0)  # checkpoints of older versions have none
    yield from [Row(**row) for row in rows]  # again: whoever listened before may not have heard of the last ones
    began = time.perf_counter()
    epochs = stage.epochs(start if rows else None)
    seconds += time.perf_counter() - began  # a thief may ask before the first epoch
    for last in epochs:
        began = time.perf_counter()
        query_acc = accuracy(logits(last.training.model, stage.queries.images), stage.queries.labels)
        seconds += last.seconds + time.perf_counter() - began
        row = _row(last, query_acc)
        rows.append(asdict(row))
        if last.epoch < last.training.recipe.epochs:
            calls = stage.oracle.calls if stage.oracle else 0
            more = {"seconds": seconds, "oracle_calls": calls, "rows": rows, "peak_mib": stage.peak.mib()}
            store.save_checkpoint(blank.digest, last.training.state() | more)
        yield row
    assert last is not None, "a training has at least one epoch"
    twin = store.outcome(blank.digest)
    if twin is not None:  # another sweep on this store was quicker, and what is finished never changes
        yield Outcome(**twin)
        return
    model = last.training.model
    with deterministic(last.training.recipe.deterministic):
        measured = _measure(model, stage.queries, stage.views.test, stage.dataset.classes)
        measured |= stage.finish(model, blank.digest)
    outcome = replace(
        blank,
        **measured,
        query_digest=stage.queries.digest(),
        seconds=seconds,
        peak_mib=stage.peak.mib(),
        kept_epoch=last.training.chosen_epoch,
        parameters=parameters(model),
    )
    store.finish(blank.digest, asdict(outcome), rows)
    yield outcome


def _row(epoch: Epoch, query_acc: float) -> Row:
    """What is told of an epoch."""
    return Row(
        epoch=epoch.epoch,
        loss=epoch.loss,
        lr=epoch.lr,
        val_acc=epoch.val_acc,
        query_acc=query_acc,
        epoch_seconds=epoch.seconds,
    )


def _measure(model: nn.Module, asked: QuerySet, test: Part, classes: int) -> dict[str, Any]:
    """Clean accuracy, and everything that is said of the queries, always against their recorded labels."""
    answers: Tensor = logits(model, asked.images)
    matches = int((answers.argmax(1) == asked.labels).sum())
    held, chance = margins(answers, asked.labels), verdict.p_value(matches, len(asked), classes)
    return {
        "clean_acc": accuracy(logits(model, test.images), test.labels),
        "query_acc": matches / len(asked),
        "query_matches": matches,
        "margin_mean": held.mean().item(),
        "margin_min": held.min().item(),
        "p_value": chance,
        "log10_p": verdict.log10_p(matches, len(asked), classes),
        **decided(chance, matches, len(asked)),
    }


def _describe(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"
