"""Training on from the victim's weights: what all removal attacks that train have in common."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import Annotated, ClassVar, Literal

import torch
from torch import Tensor, nn

from mwm.attacks.access import TargetFacts, WhiteBoxAccess
from mwm.attacks.base import WhiteBoxAttack, check_batch_norm, check_batch_size
from mwm.attacks.sources import is_foreign
from mwm.config.spec import Shown, spec
from mwm.data.host import Images
from mwm.data.splits import LabeledImages
from mwm.training.batchnorm import eval_statistics
from mwm.training.device import deterministic
from mwm.training.evaluation import predict_logits
from mwm.training.loop import Epoch, fit
from mwm.training.recipe import CONSTANT, Recipe
from mwm.training.state import TrainState
from mwm.training.step import Batch, Objective

ADI = Recipe(epochs=20, batch_size=100, lr=1e-3, momentum=0.9, weight_decay=5e-4, schedule=CONSTANT)
"""How Adi et al. (2018) fine-tune: 20 epochs at a constant rate of 0.001."""

TaughtImages = LabeledImages[Images]


@spec
class TuningAttack(WhiteBoxAttack):
    """Train the victim's network further, on the attacker's images.

    `labels` are the true ones of the attacker's images, or what the victim itself `predicted` of them before (the
    default of Lukas et al., 2022, for most of their attacks). `batchnorm` says what the running statistics do
    meanwhile: `updated`, as in the published code; or `frozen`, so that nothing but the tuned weights changes.

    A kind of attack says with which network it begins (`prepare`), and what it learns (`objective`). Both are worked
    out anew where an attack is resumed.
    """

    strength: ClassVar[str] = "recipe.epochs"
    labels: Annotated[Literal["true", "predicted"], Shown("{} labels")] = "true"
    batchnorm: Annotated[Literal["updated", "frozen"], Shown("batchnorm {}")] = "updated"
    recipe: Annotated[Recipe, Shown("")] = ADI

    def __post_init__(self) -> None:
        if self.recipe.keep != "last":
            raise ValueError(f"recipe.keep: {self.recipe.keep!r} is not allowed: must be 'last' for an attacker")
        if self.labels == "true" and is_foreign(self.source):
            reason = "its labels mean nothing to the victim; allowed with labels: predicted"
            raise ValueError(f"source {self.source.kind!r} is not allowed: {reason}")

    def knows_labels(self) -> bool:
        """If it learns them."""
        return self.labels == "true"

    def training_recipe(self) -> Recipe:
        """The attack's own."""
        return self.recipe

    def validate(self, facts: TargetFacts) -> None:
        """Raise ValueError for fewer images than a batch, and for frozen statistics where a network keeps none."""
        super().validate(facts)
        self.check_images(facts)
        if self.batchnorm == "frozen":
            check_batch_norm(f"{facts.path}.batchnorm", "frozen", facts)

    def epochs(self) -> int:
        """Those of the recipe."""
        return self.recipe.epochs

    def run(self, access: WhiteBoxAccess) -> Iterator[Epoch]:
        """Tune the victim's network, and yield each epoch."""
        model, images = access.model, self.taught(access)
        model.requires_grad_(True)
        with deterministic(self.recipe.deterministic):
            objective = self.objective(access, images)
            self.prepare(model, access, images)
        training = self.training(model, images)
        if access.start is not None:
            training.restore(access.start)
        augmentation, seed = access.augmentation, access.seed
        return fit(training, images, objective, augmentation=augmentation, seed=seed, validation=access.validation)

    def check_images(self, facts: TargetFacts) -> None:
        """Refuse a batch that the attacker's images do not fill."""
        check_batch_size(self, facts)

    def training(self, model: nn.Module, images: TaughtImages) -> TrainState:
        """The training before its first step: of the network itself, unless a kind trains something round it."""
        del images
        return TrainState(model, self.recipe)

    def taught(self, access: WhiteBoxAccess) -> TaughtImages:
        """The images that are trained on, with the labels that are taught; by a network that is still the victim's."""
        images = access.images
        if self.labels == "true":
            return images
        return LabeledImages(images.images, predict_logits(access.model, images.images).argmax(1))

    def prepare(self, model: nn.Module, access: WhiteBoxAccess, images: TaughtImages) -> None:
        """Change the victim's network before its first step; say which weights are trained by `requires_grad`."""

    def objective(self, access: WhiteBoxAccess, images: TaughtImages) -> Objective:
        """What is learnt, worked out while the network in `access` is still the victim's: unless said, the labels."""
        del access, images
        return self.label_loss

    def label_loss(self, model: nn.Module, batch: Batch, generator: torch.Generator) -> Tensor:
        """Mean cross-entropy of a batch."""
        del generator
        with self.statistics_of(model):
            return batch.cross_entropy(model(batch.images))

    def statistics_of(self, model: nn.Module) -> AbstractContextManager[None]:
        """What batch normalisation does in a pass of training, as `batchnorm` says."""
        return eval_statistics(model) if self.batchnorm == "frozen" else nullcontext()
