"""The two kinds of trial: training a victim, and attacking one."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import torch
from torch import nn

from mwm.attacks.base import AttackRecord
from mwm.attacks.sources import Disjoint, is_foreign
from mwm.config.randomness import derive_seed, make_generator
from mwm.config.spec import encode
from mwm.data.images import Augmentation, convert_images
from mwm.data.splits import LabeledImages, RoleSplits, split
from mwm.models.build import ArchitectureSpec, Model, build_model, channel_statistics
from mwm.storage.store import Store
from mwm.training.device import PeakMemory
from mwm.training.evaluation import accuracy, predict_logits
from mwm.training.loop import Epoch, fit
from mwm.training.state import TrainState
from mwm.trials.artifacts import query_set, save_key
from mwm.trials.trial import METHOD_VERSION, Trial, TrialInputs, data_key, secret_of, victim_digest
from mwm.watermarks.key import Key, utc_now
from mwm.watermarks.queries import QuerySet, chosen_rows
from mwm.watermarks.secret import second_secret


class TrialStage(ABC):
    """What training a victim and attacking one have in common: the victim's data, and the query set."""

    queries: QuerySet

    def __init__(self, trial: Trial, sets: TrialInputs, store: Store, device: torch.device) -> None:
        self.peak = PeakMemory(device)  # before anything of the trial is made
        self.trial, self.sets, self.store, self.device = trial, sets, store, device
        self.victim = trial.victim
        self.dataset = sets[data_key(self.victim.data)]
        self.views: RoleSplits = split(self.dataset, self.victim.split, device)
        self.augmentation = Augmentation(self.victim.data.flip, self.victim.data.pad)

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

    def calls(self) -> int | None:
        """How many images an oracle was asked for so far; None without an oracle."""
        return None

    @abstractmethod
    def epochs(self, start: dict[str, Any] | None) -> Iterator[Epoch]:
        """Train, from a saved state if there is one."""

    @abstractmethod
    def save_and_measure(self, model: nn.Module, name: str) -> dict[str, float | None]:
        """Keep what later trials need and measure what only this stage can."""


class VictimStage(TrialStage):
    """The training of a victim."""

    def epochs(self, start: dict[str, Any] | None) -> Iterator[Epoch]:
        victim, views = self.victim, self.views
        augmentation, secret = self.augmentation, secret_of(victim, self.sets)
        self.queries = victim.scheme.draw(
            views.queries, classes=self.dataset.classes, augmentation=augmentation, secret=secret
        )
        training = TrainState(self.network(), victim.recipe)
        if start is not None:
            training.restore(start)
        objective, seed = victim.scheme.objective(self.queries), victim.seed
        return fit(training, views.owner, objective, augmentation=augmentation, seed=seed, validation=views.validation)

    def save_and_measure(self, model: nn.Module, name: str) -> dict[str, float | None]:
        self.save_model(model, name, self.victim.model)
        perturbed = self.victim.scheme.perturbed_queries(model, self.queries)
        save_key(self.store, name, self._key(), perturbed=perturbed, second=self._second_key())
        return {}

    def _second_key(self) -> Key | None:
        first = self._key()
        if self.queries.second is None:
            return None
        taken = chosen_rows(first.secret, len(self.views.queries), len(self.queries))
        return replace(
            first,
            queries=self.queries.second,
            secret=second_secret(first.secret),
            scheme=self.victim.scheme.parts()[1].kind,
            left_out=tuple(sorted(taken)),
        )

    def _key(self) -> Key:
        victim = self.victim
        return Key(
            queries=replace(self.queries, second=None),
            secret=secret_of(victim, self.sets),
            classes=self.dataset.classes,
            scheme=victim.scheme.parts()[0].kind,
            data=encode(victim.data),
            split=encode(victim.split),
            data_digest=self.dataset.digest,
            guessable=victim.secret is None,
            created=utc_now(),
            method=METHOD_VERSION,
            null=victim.scheme.null,
            class_names=self.dataset.class_names,
        )


class AttackStage(TrialStage):
    """An attack on a victim that is in the store."""

    def epochs(self, start: dict[str, Any] | None) -> Iterator[Epoch]:
        name = victim_digest(self.victim, self.sets)
        self.queries = query_set(self.store, name).to(self.device)
        self.victim_model = self.network()
        self.victim_model.load_state_dict(self.store.weights(name))
        images, shown = self._images()
        self.access = self.attack.grant(
            self.victim_model,
            calls=start["oracle_calls"] or 0 if start else 0,
            images=images,
            validation=self.views.validation,
            classes=self.dataset.classes,
            augmentation=Augmentation(shown.flip, shown.pad),
            seed=derive_seed(self.attack.seed, "attack", self.victim.seed),
            victim_seed=self.victim.seed,
            start=start,
        )
        return self.attack.run(self.access)

    @property
    def attack(self) -> AttackRecord:
        """What is done to the victim."""
        assert self.trial.attack is not None, "a victim's trial has no attack"
        return self.trial.attack

    def calls(self) -> int | None:
        return self.access.calls

    def _images(self) -> tuple[LabeledImages, Any]:
        source = self.attack.source
        if not is_foreign(source):
            return (self.views.disjoint if isinstance(source, Disjoint) else self.views.owner), self.victim.data
        foreign = self.sets[data_key(source)]
        images = convert_images(torch.tensor(foreign.x_train), self.dataset.shape)
        return LabeledImages(images.to(self.device), torch.tensor(foreign.y_train).to(self.device)), source

    def save_and_measure(self, model: nn.Module, name: str) -> dict[str, float | None]:
        self.save_model(model, name, self.attack.architecture(self.victim))
        test = self.views.test.images
        agreement = accuracy(predict_logits(model, test), predict_logits(self.victim_model, test).argmax(1))
        return {"agreement": agreement, "oracle_calls": self.calls()}
