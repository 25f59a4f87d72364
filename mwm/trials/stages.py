"""The two kinds of trial: training a victim, and attacking one."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Any

import torch
from torch import nn

from mwm.attacks.access import Loot
from mwm.attacks.sources import Disjoint, Same
from mwm.config.randomness import derive, generator
from mwm.config.spec import encode
from mwm.data.images import fit_to
from mwm.data.splits import Part, Views, split
from mwm.models.build import Blueprint, Model, build, channel_statistics
from mwm.oracle.oracle import Oracle
from mwm.storage.store import Store
from mwm.training.device import Peak
from mwm.training.evaluation import accuracy, logits
from mwm.training.loop import Epoch, fit
from mwm.training.state import Training
from mwm.trials.trial import METHOD, Sets, Trial, data_key, secret_of, victim_digest
from mwm.watermarks.key import Key, now
from mwm.watermarks.queries import QuerySet, choose


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
