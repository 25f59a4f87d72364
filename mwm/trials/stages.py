"""The two kinds of trial: training a victim, and attacking one."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Any

import torch
from torch import nn

from mwm.attacks.access import Access
from mwm.attacks.sources import Disjoint, VictimData
from mwm.config.randomness import derive_seed, make_generator
from mwm.config.spec import encode
from mwm.data.images import convert_images
from mwm.data.splits import LabeledImages, RoleSplits, split
from mwm.models.build import ArchitectureSpec, Model, build_model, channel_statistics
from mwm.oracle.oracle import Oracle
from mwm.storage.store import Store
from mwm.training.device import PeakMemory
from mwm.training.evaluation import accuracy, predict_logits
from mwm.training.loop import Epoch, fit
from mwm.training.state import TrainState
from mwm.trials.trial import METHOD_VERSION, Trial, TrialInputs, data_key, secret_of, victim_digest
from mwm.watermarks.key import Key, utc_now
from mwm.watermarks.queries import QuerySet, draw_queries


class TrialStage(ABC):
    """What training a victim and stealing one have in common: the victim's data, and the query set."""

    queries: QuerySet
    oracle: Oracle | None = None

    def __init__(self, trial: Trial, sets: TrialInputs, store: Store, device: torch.device) -> None:
        self.peak = PeakMemory(device)  # before anything of the trial is made
        self.trial, self.sets, self.store, self.device = trial, sets, store, device
        self.victim = trial.victim
        self.dataset = sets[data_key(self.victim.data)]
        self.views: RoleSplits = split(self.dataset, self.victim.split, device)

    def network(self) -> nn.Module:
        """The victim's network with fresh weights."""
        mean, std = channel_statistics(self.views.owner.images)
        fresh = build_model(
            self.victim.model,
            shape=self.dataset.shape,
            classes=self.dataset.classes,
            mean=mean,
            std=std,
            generator=make_generator(self.victim.seed, "victim"),
        )
        return fresh.to(self.device)

    def save_model(self, model: nn.Module, name: str, kind: Model) -> None:
        """Keep a trained network, with all that is needed to rebuild it."""
        about = ArchitectureSpec(model=kind, shape=self.dataset.shape, classes=self.dataset.classes)
        self.store.save_weights(name, model.state_dict(), encode(about))

    @abstractmethod
    def epochs(self, start: dict[str, Any] | None) -> Iterator[Epoch]:
        """Train, from a saved state if there is one."""

    @abstractmethod
    def save_and_measure(self, model: nn.Module, name: str) -> dict[str, float]:
        """Keep what later trials need and measure what only this stage can."""


class VictimStage(TrialStage):
    def epochs(self, start: dict[str, Any] | None) -> Iterator[Epoch]:
        victim, views = self.victim, self.views
        source, num = views.queries, victim.scheme.num_queries
        flip, pad = victim.data.flip, victim.data.pad
        secret, classes = secret_of(victim, self.sets), self.dataset.classes
        self.queries = draw_queries(source, num=num, classes=classes, flip=flip, pad=pad, secret=secret)
        training = TrainState(self.network(), victim.recipe)
        if start is not None:
            training.restore(start)
        objective = victim.scheme.objective(self.queries)
        return fit(training, views.owner, objective, flip=flip, pad=pad, seed=victim.seed, validation=views.validation)

    def save_and_measure(self, model: nn.Module, name: str) -> dict[str, float]:
        self.save_model(model, name, self.victim.model)
        self.store.save_key(name, self._key(), self.victim.scheme.perturbed_queries(model, self.queries))
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
            created=utc_now(),
            method=METHOD_VERSION,
        )


class AttackStage(TrialStage):
    def epochs(self, start: dict[str, Any] | None) -> Iterator[Epoch]:
        attack, name = self.trial.attack, victim_digest(self.victim, self.sets)
        assert attack is not None, "a victim's trial has no attack"
        self.queries = self.store.queries(name).to(self.device)
        self.victim_model = self.network()
        self.victim_model.load_state_dict(self.store.weights(name))
        # Answers that a thief keeps are not stored but computed anew, so that they are counted from the first again.
        spent = start["oracle_calls"] if start and not attack.caches_answers else 0
        self.oracle = Oracle(self.victim_model, attack.labels, attack.budget, calls=spent)
        images, augmented = self._images()
        loot = Access(
            oracle=self.oracle,
            images=images,
            validation=self.views.validation,
            classes=self.dataset.classes,
            flip=augmented.flip,
            pad=augmented.pad,
            seed=derive_seed(attack.seed, "attack", self.victim.seed),
            start=start,
        )
        return attack.run(loot)

    def _images(self) -> tuple[LabeledImages, Any]:
        assert self.trial.attack is not None, "a victim's trial has no attack"
        source = self.trial.attack.source
        if isinstance(source, (VictimData, Disjoint)):
            return (self.views.owner if isinstance(source, VictimData) else self.views.disjoint), self.victim.data
        foreign = self.sets[data_key(source)]
        images = convert_images(torch.tensor(foreign.x_train), self.dataset.shape)
        return LabeledImages(images.to(self.device), torch.tensor(foreign.y_train).to(self.device)), source

    def save_and_measure(self, model: nn.Module, name: str) -> dict[str, float]:
        assert self.trial.attack is not None, "a victim's trial has no attack"
        assert self.trial.attack.student is not None, "the student's network was never filled in"
        self.save_model(model, name, self.trial.attack.student)
        assert self.oracle is not None, "no student without an oracle"
        test = self.views.test.images
        return {
            "agreement": accuracy(predict_logits(model, test), predict_logits(self.victim_model, test).argmax(1)),
            "oracle_calls": self.oracle.calls,
        }
