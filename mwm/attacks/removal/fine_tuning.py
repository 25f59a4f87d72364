"""Fine-tuning: the victim's own network, trained further on clean images."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import nullcontext
from typing import Annotated, Literal

import torch
from torch import Tensor, nn

from mwm.attacks.access import TargetFacts, WhiteBoxAccess
from mwm.attacks.base import WhiteBoxAttack, check_batch_norm, check_batch_size
from mwm.attacks.layers import last_layer
from mwm.attacks.sources import is_foreign
from mwm.config.spec import Shown, spec
from mwm.data.splits import LabeledImages
from mwm.training.batchnorm import eval_statistics
from mwm.training.evaluation import predict_logits
from mwm.training.loop import Epoch, fit
from mwm.training.recipe import MultiStep, Recipe
from mwm.training.state import TrainState
from mwm.training.step import Batch

CONSTANT = MultiStep(milestones=(20,), factor=1.0)
ADI = Recipe(epochs=20, batch_size=100, lr=1e-3, momentum=0.9, weight_decay=5e-4, schedule=CONSTANT)
"""How Adi et al. (2018) fine-tune: 20 epochs at a constant rate of 0.001."""


@spec
class FineTuning(WhiteBoxAttack):
    """Train the victim's network further: its last layer alone (FTLL), or all layers (FTAL; Adi et al., 2018).

    `labels` are the true ones of the attacker's images, or what the victim itself `predicted` of them before (the
    default of Lukas et al., 2022, for most of their attacks). `batchnorm` says what the running statistics do
    meanwhile: `updated`, as in the published code, even where only the last layer is tuned; or `frozen`, so that
    nothing but the tuned weights changes. The two differ where the victim's statistics are damaged: see
    `batchnorm_reestimation`.
    """

    kind: Literal["fine_tuning"] = "fine_tuning"
    layers: Annotated[Literal["last", "all"], Shown(always=True)] = "all"
    labels: Annotated[Literal["true", "predicted"], Shown("{} labels")] = "true"
    batchnorm: Annotated[Literal["updated", "frozen"], Shown("batchnorm {}")] = "updated"
    recipe: Annotated[Recipe, Shown("")] = ADI

    def __post_init__(self) -> None:
        if self.recipe.keep != "last":
            raise ValueError(f"recipe.keep: {self.recipe.keep!r} is not allowed: must be 'last' for an attacker")
        if self.labels == "true" and is_foreign(self.source):
            reason = "its labels mean nothing to the victim; allowed with labels: predicted"
            raise ValueError(f"source {self.source.kind!r} is not allowed: {reason}")

    def training_recipe(self) -> Recipe:
        """The attack's own."""
        return self.recipe

    def validate(self, facts: TargetFacts) -> None:
        """Raise ValueError for fewer images than a batch, and for frozen statistics where a network keeps none."""
        super().validate(facts)
        check_batch_size(self, facts)
        if self.batchnorm == "frozen":
            check_batch_norm(f"{facts.path}.batchnorm", "frozen", facts)

    def epochs(self) -> int:
        """Those of the recipe."""
        return self.recipe.epochs

    def run(self, access: WhiteBoxAccess) -> Iterator[Epoch]:
        """Tune the victim's network, and yield each epoch."""
        model, images = access.model, access.images
        if self.labels == "predicted":
            images = LabeledImages(images.images, predict_logits(model, images.images).argmax(1))
        if self.layers == "last":
            model.requires_grad_(False)
            last_layer(model, images.images).requires_grad_(True)
        else:
            model.requires_grad_(True)
        training = TrainState(model, self.recipe)
        if access.start is not None:
            training.restore(access.start)
        augmentation, seed = access.augmentation, access.seed
        return fit(
            training, images, self._objective, augmentation=augmentation, seed=seed, validation=access.validation
        )

    def _objective(self, model: nn.Module, batch: Batch, generator: torch.Generator) -> Tensor:
        del generator
        with eval_statistics(model) if self.batchnorm == "frozen" else nullcontext():
            return batch.cross_entropy(model(batch.images))
