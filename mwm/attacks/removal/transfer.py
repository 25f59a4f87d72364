"""Transfer: the victim's network, trained on another data set, and brought back."""

from __future__ import annotations

from collections.abc import Iterator
from copy import deepcopy
from dataclasses import replace
from typing import Annotated, Any, Literal

from torch import nn

from mwm.attacks.access import Access, TargetFacts, WhiteBoxAccess
from mwm.attacks.layers import Head, fresh_head, head_of, place_of, require_head
from mwm.attacks.removal.few_images import ShownTraining
from mwm.attacks.removal.tuning import TaughtImages, TuningAttack
from mwm.attacks.threat import ThreatModel
from mwm.config.randomness import derive_seed, make_generator
from mwm.config.spec import DISCRIMINATED, Shown, spec
from mwm.data.datasets import ArrayData, Cifar10, Cifar100, Digits, ImageFolder, Npz, PythonData, Svhn
from mwm.data.images import Augmentation
from mwm.training.loop import Epoch, fit
from mwm.training.recipe import MultiStep, Recipe
from mwm.training.state import Trained, TrainState

LUKAS = Recipe(epochs=5, batch_size=64, lr=1e-3, momentum=0.9, nesterov=True, schedule=MultiStep(milestones=(3, 4)))
"""How Lukas et al. (2022) learn by transfer: 5 epochs at 0.001, a tenth of that from epoch 3, and again from 4."""

OtherData = Annotated[Digits | Cifar10 | Cifar100 | Svhn | Npz | ImageFolder | PythonData | ArrayData, *DISCRIMINATED]


@spec
class Transfer(TuningAttack):
    """Train the victim's network on an `other` data set, by the recipe `away`, then on the attacker's own images.

    On the other data the network has a fresh last layer, with an output for each of their classes; all layers are
    trained (Adi et al., 2018). Back on its own images the attacker gives it a `fresh` last layer again, or that of the
    victim, which it has `kept`, and trains all layers by `recipe`. The other images are shown in the shape of the
    victim's. Epochs away are told of the network with the victim's last layer.
    """

    kind: Literal["transfer"] = "transfer"
    other: Annotated[OtherData, Shown("by {}", always=True)]
    away: Annotated[Recipe, Shown("")] = LUKAS
    recipe: Annotated[Recipe, Shown("")] = LUKAS
    head: Annotated[Literal["fresh", "kept"], Shown("{} head")] = "fresh"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.away.keep != "last":
            raise ValueError(f"away.keep: {self.away.keep!r} is not allowed: must be 'last' for an attacker")

    def datasets(self) -> tuple[Any, ...]:
        """The other data set, too."""
        return (*super().datasets(), self.other)

    def threat_model(self) -> ThreatModel:
        """Images of another data set, beside the attacker's own."""
        return replace(super().threat_model(), images=f"{self.source.kind}, {self.other.kind}")

    def images_held(self, access: Access) -> int:
        """Its own, and those of the other data set."""
        return super().images_held(access) + len(access.foreign[self.other])

    def validate(self, facts: TargetFacts) -> None:
        """Raise ValueError for too few images of the other data, and for a last layer that cannot be another."""
        super().validate(facts)
        other = facts.datasets.get(self.other)
        if other is not None and self.away.batch_size > len(other.y_train):
            reason = f"{facts.path}.other has {len(other.y_train)} images"
            raise ValueError(f"{facts.path}.away.batch_size: {self.away.batch_size} is not allowed: {reason}")
        require_head(facts.path, self.kind, facts)

    def epochs(self) -> int:
        """Those away and those back."""
        return self.away.epochs + self.recipe.epochs

    def run(self, access: WhiteBoxAccess) -> Iterator[Epoch]:
        """Train away and back, and yield each epoch."""
        model, images = access.model.requires_grad_(True), self.taught(access)
        head = head_of(model, images.images)
        return self._legs(access, images, place=place_of(model, head), home=head)

    def _legs(self, access: WhiteBoxAccess, images: TaughtImages, *, place: str, home: Head) -> Iterator[Epoch]:
        start: dict[str, Any] = access.start or {"leg": 0, "inner": None}
        if start["leg"] == 0:
            rows = self._away(access, start["inner"], place=place, home=home)
            yield from (_told(row, Leg(row.training, leg=0, before=0, epochs=self.epochs())) for row in rows)
        rows = self._back(access, images, start["inner"] if start["leg"] else None, place=place, home=home)
        before = self.away.epochs
        yield from (_told(row, Leg(row.training, leg=1, before=before, epochs=self.epochs())) for row in rows)

    def _away(self, access: WhiteBoxAccess, start: Any, *, place: str, home: Head) -> Iterator[Epoch]:
        others = access.foreign[self.other]
        outputs, draw = int(others.labels.max()) + 1, make_generator(access.seed, "head", "away")
        access.model.set_submodule(place, fresh_head(home, outputs, draw))

        def with_victims_head(model: nn.Module) -> nn.Module:
            shown = deepcopy(model)
            shown.set_submodule(place, deepcopy(home))
            return shown

        training = ShownTraining(access.model, self.away, with_victims_head)
        if start is not None:
            training.restore(start)
        seed, shown = derive_seed(access.seed, "away"), Augmentation(self.other.flip, self.other.pad)
        return fit(training, others, self.label_loss, augmentation=shown, seed=seed, validation=access.validation)

    def _back(
        self, access: WhiteBoxAccess, images: TaughtImages, start: Any, *, place: str, home: Any
    ) -> Iterator[Epoch]:
        draw = make_generator(access.seed, "head", "back")
        head = home if self.head == "kept" else fresh_head(home, access.classes, draw)
        access.model.set_submodule(place, head)
        training = TrainState(access.model, self.recipe)
        if start is not None:
            training.restore(start)
        augmentation, seed = access.augmentation, access.seed
        return fit(
            training, images, self.label_loss, augmentation=augmentation, seed=seed, validation=access.validation
        )


def _told(row: Epoch, training: Trained) -> Epoch:
    return replace(row, training=training, epoch=training.epoch)


class Leg:
    """The training of one way, numbered as an epoch of both; it satisfies `Trained`."""

    def __init__(self, training: Trained, *, leg: int, before: int, epochs: int) -> None:
        self._training, self._leg, self.epochs = training, leg, epochs
        self.model, self.deterministic = training.model, training.deterministic
        self.epoch, self.best_epoch = before + training.epoch, before + training.best_epoch

    def state(self) -> dict[str, Any]:
        """The way, and where its training stands."""
        return {"leg": self._leg, "inner": self._training.state()}
