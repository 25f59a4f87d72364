"""Overwriting: a second key, of the attacker's own, embedded over the victim's."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, Literal

import torch
from torch import Tensor, nn

from mwm.attacks.access import TargetFacts, WhiteBoxAccess
from mwm.attacks.base import check_batch_norm, check_batch_size, image_count
from mwm.attacks.removal.tuning import TaughtImages, TuningAttack
from mwm.config.randomness import derived_secret, make_generator, secret_from_seed
from mwm.config.spec import DISCRIMINATED, Count, Shown, spec
from mwm.data.host import HostImages
from mwm.data.splits import LabeledImages
from mwm.training.recipe import EMBEDDING, Recipe
from mwm.training.step import Batch, Objective
from mwm.watermarks.queries import QuerySet
from mwm.watermarks.schemes import Confusion, Margin, TriggerSet

KeyedScheme = Annotated[Margin | TriggerSet | Confusion, *DISCRIMINATED]


@spec
class Overwriting(TuningAttack):
    """Embed a watermark with a key of the attacker's own, of the victim's `scheme` or of another (Lukas et al., 2022).

    The attacker sets `queries` of its images aside, at random, draws its key from them, by a secret that follows from
    its own seed, and trains the network on the others by the scheme's loss. The true labels of its queries are the
    `labels` that it has of them.
    """

    kind: Literal["overwriting"] = "overwriting"
    scheme: Annotated[KeyedScheme, Shown(always=True)] = Margin()
    queries: Annotated[Count, Shown("key of {} images")] = 100
    labels: Annotated[Literal["true", "predicted"], Shown("{} labels")] = "predicted"
    recipe: Annotated[Recipe, Shown("")] = EMBEDDING

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.scheme.cells is not None and self.scheme.cells > self.queries:
            given, most = self.scheme.cells, f"must be at most queries, {self.queries}"
            raise ValueError(f"scheme.num_queries: {given} is not allowed: {most}")
        groups = self.recipe.batchnorm_groups
        if groups > 1 and getattr(self.scheme, "batchnorm", "") == "joint":
            reason = "batchnorm joint of the scheme normalises queries and images together: must be 1"
            raise ValueError(f"recipe.batchnorm_groups: {groups} is not allowed: {reason}")

    def check_images(self, facts: TargetFacts) -> None:
        """Refuse to set aside all images, or so many that the others do not fill a batch."""
        held = image_count(self.source, facts)
        if held is not None and self.queries >= held:
            reason = f"the attacker of {facts.path} has {held} images"
            raise ValueError(f"{facts.path}.queries: {self.queries} is not allowed: {reason}")
        check_batch_size(self, facts, learnt=lambda count: count - self.queries)

    def validate(self, facts: TargetFacts) -> None:
        """Raise ValueError for statistics of the scheme that the network does not keep, too."""
        super().validate(facts)
        if (mode := getattr(self.scheme, "batchnorm", "clean")) not in ("clean", "joint"):
            place, allowed = f"{facts.path}.scheme.batchnorm", ": must be clean or joint"
            check_batch_norm(place, mode, facts, allowed=allowed)

    def taught(self, access: WhiteBoxAccess) -> TaughtImages:
        """The images that are not set aside."""
        return super().taught(replace(access, images=self._dealt(access)[1]))

    def key(self, access: WhiteBoxAccess) -> QuerySet:
        """The attacker's own key; ValueError for one of classes of which no image was set aside."""
        aside = super().taught(replace(access, images=self._dealt(access)[0]))
        pixels = aside.images.copied() if isinstance(aside.images, HostImages) else aside.images
        if isinstance(self.scheme, Confusion):
            self._require_every_class(self.scheme, aside.labels, access.classes)
        secret = derived_secret(secret_from_seed(access.seed), "overwriting")
        source = LabeledImages(pixels, aside.labels)
        return self.scheme.draw(source, classes=access.classes, augmentation=access.augmentation, secret=secret)

    def objective(self, access: WhiteBoxAccess, images: TaughtImages) -> Objective:
        """The scheme's own, of the attacker's key."""
        del images
        embed = self.scheme.objective(self.key(access))

        def objective(model: nn.Module, batch: Batch, generator: torch.Generator) -> Tensor:
            with self.statistics_of(model):
                return embed(model, batch, generator)

        return objective

    def _dealt(self, access: WhiteBoxAccess) -> tuple[TaughtImages, TaughtImages]:
        """The images for the key, and the others."""
        images = access.images
        order = torch.randperm(len(images), generator=make_generator(access.seed, "queries"))
        aside, rest = order.to(images.labels.device).tensor_split([self.queries])
        return images.select(aside), images.select(rest)

    def _require_every_class(self, scheme: Confusion, labels: Tensor, classes: int) -> None:
        counts, parts = torch.bincount(labels, minlength=classes), scheme.cells_per_class
        if (fewest := int(counts.min())) < parts:
            reason = f"class {int(counts.argmin())} has {fewest} images among them, and scheme confusion needs {parts}"
            raise ValueError(f"queries: {self.queries} is not allowed: {reason}")
