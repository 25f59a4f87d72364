"""Training on by few clean images: what removal attacks with a share of the data have in common."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from copy import deepcopy
from dataclasses import replace
from typing import Annotated

from torch import nn

from mwm.attacks.access import Access, TargetFacts, WhiteBoxAccess
from mwm.attacks.removal.tuning import TaughtImages, TuningAttack
from mwm.attacks.sources import transfer_set
from mwm.config.randomness import derive_seed, make_generator
from mwm.config.spec import PositiveShare, Shown, spec
from mwm.training.loop import fit
from mwm.training.recipe import Recipe
from mwm.training.state import TrainState


@spec
class FewImagesAttack(TuningAttack):
    """Train the victim's network further, on a `share` of the attacker's images, drawn at random.

    Where they are fewer than a batch of the recipe holds, all are one batch.
    """

    share: Annotated[PositiveShare, Shown("share {}")] = 1.0

    def check_images(self, facts: TargetFacts) -> None:
        """Any number of them will do."""

    def images_held(self, access: Access) -> int:
        """The share."""
        return max(1, round(self.share * len(access.images)))

    def taught(self, access: WhiteBoxAccess) -> TaughtImages:
        """The share, with its labels."""
        few = transfer_set(access.images, self.images_held(access), make_generator(access.seed, "share"))
        return super().taught(replace(access, images=few))

    def training(self, model: nn.Module, images: TaughtImages) -> TrainState:
        """By the recipe, in batches that the images fill."""
        return TrainState(model, self.recipe.filled_by(len(images)))

    def tuned_copy(self, access: WhiteBoxAccess, images: TaughtImages, recipe: Recipe) -> nn.Module:
        """A copy of the victim's network that was fine-tuned on the images by another recipe, for evaluation."""
        copy = TrainState(deepcopy(access.model), recipe.filled_by(len(images)))
        seed, shown = derive_seed(access.seed, "copy"), access.validation
        epochs = fit(copy, images, self.label_loss, augmentation=access.augmentation, seed=seed, validation=shown)
        deque(epochs, maxlen=0)
        return copy.model.eval().requires_grad_(False)


class ShownTraining(TrainState):
    """A training that is judged, and kept, by another network than the one that is trained: one made of that."""

    def __init__(self, model: nn.Module, recipe: Recipe, made: Callable[[nn.Module], nn.Module]) -> None:
        super().__init__(model, recipe)
        self._made = made

    @property
    def model(self) -> nn.Module:
        """What is made of the trained network, or of the average of its weights, as it is now."""
        return self._made(super().model)


def refuse_compiled(recipe: Recipe, reason: str) -> None:
    """Refuse to compile a network into which an attack reaches."""
    if recipe.compile:
        raise ValueError(f"recipe.compile: true is not allowed: {reason}: must be false")
