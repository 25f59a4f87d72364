"""WRK: images pushed to other classes and labelled wrongly, and a last layer kept from its old direction."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

import torch
from torch import Tensor, nn

from mwm.attacks.access import TargetFacts, WhiteBoxAccess
from mwm.attacks.layers import head_of, redraw, require_head
from mwm.attacks.removal.few_images import FewImagesAttack
from mwm.attacks.removal.tuning import TaughtImages
from mwm.config.randomness import make_generator
from mwm.config.spec import Count, NonNegativeFloat, PositiveFloat, PositiveShare, Shown, spec
from mwm.data.host import in_batches
from mwm.data.images import to_float, to_uint8
from mwm.data.splits import LabeledImages
from mwm.training.batchnorm import eval_statistics
from mwm.training.recipe import Cosine, Recipe
from mwm.training.step import Batch, Objective

PUBLISHED = Recipe(epochs=10, batch_size=32, lr=1e-3, momentum=0.9, weight_decay=0.0, schedule=Cosine())


@spec
class Wrk(FewImagesAttack):
    """Watermark removal with few clean images, by the authors of the class-feature watermark (WRK, 2025).

    `pushed` of its images are moved by `step_size` (image units) along the sign of the gradient of a logit, for each
    batch that of a class drawn at random, and labelled with a wrong class at random. Then the last layer is drawn anew,
    and all layers learn both, clean and pushed images, while `alpha` times the inner product of the last layer's
    weights with those that it had is added to the loss.
    """

    kind: Literal["wrk"] = "wrk"
    strength: ClassVar[str] = "alpha"
    share: Annotated[PositiveShare, Shown("share {}")] = 0.05
    step_size: Annotated[PositiveFloat, Shown("step {}")] = 0.4
    pushed: Annotated[Count, Shown("{} pushed")] = 128
    alpha: Annotated[NonNegativeFloat, Shown("alpha {}")] = 0.01
    recipe: Annotated[Recipe, Shown("")] = PUBLISHED

    def validate(self, facts: TargetFacts) -> None:
        """Raise ValueError for a last layer that is not linear."""
        super().validate(facts)
        require_head(facts.path, self.kind, facts)

    def taught(self, access: WhiteBoxAccess) -> TaughtImages:
        """The share, and pushed copies of some of it with wrong labels."""
        clean = super().taught(access)
        pixels = torch.cat([*in_batches(clean.images, len(clean))])
        some = LabeledImages(pixels[: self.pushed], clean.labels[: self.pushed])
        moved = self.pushed_images(access, some)
        return LabeledImages(torch.cat([pixels, moved.images]), torch.cat([clean.labels, moved.labels]))

    def pushed_images(self, access: WhiteBoxAccess, some: LabeledImages) -> LabeledImages:
        """Images each moved towards a class, in 8 bits as a picture has them, with labels of any class but theirs."""
        draw, size, moved = make_generator(access.seed, "pushed"), self.recipe.batch_size, []
        with eval_statistics(access.model):
            for batch in torch.split(some.images, size):
                target = int(torch.randint(access.classes, (), generator=draw))
                x = to_float(batch).requires_grad_()
                (slope,) = torch.autograd.grad(access.model(x)[:, target].sum(), x)
                made = (x.detach() + self.step_size * slope.sign()).clamp(0, 1)
                moved.append(to_uint8(made))
        away = torch.randint(1, access.classes, (len(some),), generator=draw).to(some.labels.device)
        return LabeledImages(torch.cat(moved), (some.labels + away) % access.classes)

    def prepare(self, model: nn.Module, access: WhiteBoxAccess, images: TaughtImages) -> None:
        """Draw the last layer anew."""
        redraw(head_of(model, images.images), make_generator(access.seed, "head"))

    def objective(self, access: WhiteBoxAccess, images: TaughtImages) -> Objective:
        """The cross-entropy of both, and what keeps the last layer from where it was."""
        head = head_of(access.model, images.images)
        before = head.weight.detach().clone()

        def objective(model: nn.Module, batch: Batch, generator: torch.Generator) -> Tensor:
            return self.label_loss(model, batch, generator) + self.alpha * (head.weight * before).sum()

        return objective
