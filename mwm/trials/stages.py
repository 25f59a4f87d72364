"""The two kinds of trial: training a victim, and attacking one."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Any

import torch
from torch import nn

from mwm.attacks.base import AttackRecord
from mwm.attacks.sources import Disjoint, is_foreign
from mwm.config.randomness import derive_seed, make_generator
from mwm.config.spec import encode
from mwm.data.host import Images, fitted, in_batches
from mwm.data.images import Augmentation, to_float
from mwm.data.splits import LabeledImages, RoleSplits, copied, on_host, split, split_on_host
from mwm.models.build import ArchitectureSpec, Model, build_model, channel_statistics, load_weights
from mwm.models.deployed import Deployed, Deployment
from mwm.models.start import start_from
from mwm.storage.store import Store
from mwm.training.device import PeakMemory, images_fit
from mwm.training.evaluation import accuracy, eval_batch_size, eval_mode, predict_logits
from mwm.training.loop import Epoch, fit
from mwm.training.parallel import WHOLE, BatchShare
from mwm.training.state import TrainState
from mwm.trials.artifacts import query_set, save_key
from mwm.trials.trial import METHOD_VERSION, Trial, TrialInputs, data_key, secret_of, victim_digest
from mwm.watermarks.key import Key, utc_now
from mwm.watermarks.queries import QuerySet, chosen_rows
from mwm.watermarks.secret import second_secret


class TrialStage(ABC):
    """What training a victim and attacking one have in common: the victim's data, and the query set."""

    queries: QuerySet

    def __init__(
        self, trial: Trial, sets: TrialInputs, store: Store, device: torch.device, *, share: BatchShare = WHOLE
    ) -> None:
        self.share = share
        self.peak = PeakMemory(device)  # before anything of the trial is made
        self.trial, self.sets, self.store, self.device = trial, sets, store, device
        self.victim = trial.victim
        self.dataset = sets[data_key(self.victim.data)]
        self.on_host = self._stay_on_host()
        deal = split_on_host if self.on_host else split
        self.views: RoleSplits[Images] = deal(self.dataset, self.victim.split, device)
        self.augmentation = Augmentation(self.victim.data.flip, self.victim.data.pad)

    def _stay_on_host(self) -> bool:
        """Whether images stay on the host: as was asked, or where they would leave the device too little."""
        if self.sets.images_on != "auto":
            return self.sets.images_on == "host"
        attack, size = self.trial.attack, self.dataset.x_train.nbytes + self.dataset.x_test.nbytes
        foreign = [] if attack is None else [self.sets[data_key(data)] for data in attack.datasets()]
        size += sum(len(one.x_train) * math.prod(self.dataset.shape) for one in foreign)
        return not images_fit(size, self.device)

    def network(self) -> nn.Module:
        """The victim's network with fresh weights."""
        images = self.views.owner.images
        mean, std = channel_statistics(in_batches(images, eval_batch_size(images)))
        fresh = build_model(
            self.victim.model,
            shape=self.dataset.shape,
            classes=self.dataset.classes,
            mean=mean,
            std=std,
            generator=make_generator(self.victim.seed, "victim"),
        )
        return fresh.to(self.device)

    def save_model(self, model: nn.Module, name: str, *, kind: Model, deployments: tuple[Deployment, ...] = ()) -> None:
        """Keep a trained network, with all that is needed to rebuild it as it is deployed."""
        shape, classes = self.dataset.shape, self.dataset.classes
        about = ArchitectureSpec(model=kind, shape=shape, classes=classes, deployments=deployments)
        self.store.save_weights(name, model.state_dict(), about.tree())

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
    """The training of a victim; `start_acc` is the clean accuracy of the weights that it starts from."""

    start_acc: float | None = None

    def epochs(self, start: dict[str, Any] | None) -> Iterator[Epoch]:
        victim, views = self.victim, self.views
        augmentation, secret = self.augmentation, secret_of(victim, self.sets)
        self.queries = victim.scheme.draw(
            views.queries, classes=self.dataset.classes, augmentation=augmentation, secret=secret
        )
        training = TrainState(self._started(), victim.recipe)
        if start is not None:
            training.restore(start)
        return fit(
            training,
            views.owner,
            victim.scheme.objective(self.queries),
            augmentation=augmentation,
            seed=victim.seed,
            validation=views.validation,
            share=self.share,
        )

    def _started(self) -> nn.Module:
        """The network before its first step, and what it is worth if it starts from weights."""
        network, test = self.network(), self.views.test
        if self.victim.start is not None:
            start_from(network, self.victim.model, self.sets.starts[self.victim.start].weights)
            self.start_acc = accuracy(predict_logits(network, test.images), test.labels)
        return network

    def save_and_measure(self, model: nn.Module, name: str) -> dict[str, float | None]:
        self.save_model(model, name, kind=self.victim.model)
        perturbed = self.victim.scheme.perturbed_queries(model, self.queries)
        save_key(self.store, name, self._key(), perturbed=perturbed, second=self._second_key())
        return {"start_acc": self.start_acc}

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
    """An attack on a victim that is in the store; `others` are the networks of further victims that it asks."""

    others: Mapping[int, nn.Module] = MappingProxyType({})

    def epochs(self, start: dict[str, Any] | None) -> Iterator[Epoch]:
        name = victim_digest(self.victim, self.sets)
        self.queries = query_set(self.store, name).to(self.device)
        self.victim_model = self.network()
        load_weights(self.victim_model, self.store.weights(name))
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
            starts={name: held.weights for name, held in self.sets.starts.items()},
            others=self.others,
            foreign={
                data: images if data == self.attack.source else self._foreign(data) for data in self.attack.datasets()
            },
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

    def _images(self) -> tuple[LabeledImages[Images], Any]:
        source = self.attack.source
        if not is_foreign(source):
            return (self.views.disjoint if isinstance(source, Disjoint) else self.views.owner), self.victim.data
        return self._foreign(source), source

    def _foreign(self, data: Any) -> LabeledImages[Images]:
        """The training images of another data set, in the shape of the victim's."""
        foreign, shape = self.sets[data_key(data)], self.dataset.shape
        images = on_host(fitted(foreign.x_train, shape), foreign.y_train, device=self.device)
        return images if self.on_host else copied(images)

    def save_and_measure(self, model: nn.Module, name: str) -> dict[str, float | None]:
        kind, deployments = self.attack.architecture(self.victim), self.attack.deployments()
        self.save_model(model, name, kind=kind, deployments=deployments)
        test = self.views.test.images
        agreement = accuracy(predict_logits(model, test), predict_logits(self.victim_model, test).argmax(1))
        held = self.attack.images_held(self.access)
        told = {"agreement": agreement, "attacker_images": held, "oracle_calls": self.calls()}
        return told | {"false_rejects": self._false_rejects(model)}

    def _false_rejects(self, model: nn.Module) -> float | None:
        """The share of honest test images that a network which detects queries turns away; None of all others."""
        if not (isinstance(model, Deployed) and model.detects):
            return None
        test = self.views.test.images
        with eval_mode(model):
            turned = [model.rejects(to_float(batch)) for batch in in_batches(test, eval_batch_size(test))]
        return torch.cat(turned).double().mean().item()
