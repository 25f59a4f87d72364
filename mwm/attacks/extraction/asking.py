"""What an attacker asks who chooses nothing, and what it does with answers: a random transfer set, or all images."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import fields
from typing import Annotated, Any, Literal

import torch
from torch import Tensor, nn

from mwm.attacks.access import BlackBoxAccess, TargetFacts
from mwm.attacks.extraction.answers import (
    KeptAnswers,
    agrees_with_neighbors,
    corrected,
    mean_answer,
    named_labels,
)
from mwm.attacks.extraction.black_box import BlackBoxAttack
from mwm.attacks.sources import is_foreign, transfer_set
from mwm.config.randomness import make_generator
from mwm.config.spec import Count, PositiveFloat, Shown, StrictBool, spec
from mwm.data.host import Images, augmented, in_batches, joined
from mwm.data.images import Augmentation, augment, to_float
from mwm.data.splits import LabeledImages
from mwm.training.evaluation import eval_batch_size

NEED_KEPT_ANSWERS = ("views", "augment", "smoothing", "own_labels", "filter")
"""Fields that say something of kept answers."""

NEEDS = {"noise": "smoothing", "neighbors": "filter"}
"""Fields that say something of another one, as long as that is said."""


@spec
class AskingAttack(BlackBoxAttack):
    """An attack that asks an oracle for images that it does not choose.

    With a `query_budget` the attacker draws that many of its images at random, has each answered once, as it is, and
    keeps the answers (Orekondy et al., 2019, with a random transfer set). With `views` it asks that many augmented
    views of each in place of the image, once each; with `smoothing` each answer is the mean of the answers to so many
    views that are augmented and have Gaussian noise of deviation `noise` (in [0, 1]). Calls are the product of the
    three. Without a budget it asks anew for every augmented image of every epoch (Kim et al., 2023).

    What becomes of kept answers, in this order: `own_labels` drops, or replaces by the true label, an answer that names
    another; `filter` drops an answer that names another label than most of its nearest `neighbors`, in pixels or in the
    features of a student that learnt the answers for some epochs. `augment: false` needs kept answers, too.

    Where views are not augmented (flip false, pad 0), an attacker without a budget asks the same in every epoch. Each
    image is then answered once, before the first, and costs a call in each epoch, as the published attacker spends;
    with `cache_answers` it costs one call, as of an attacker who keeps the answers. Where views are augmented nothing
    repeats, and with a budget nothing is asked twice: `cache_answers` is then refused.
    """

    cache_answers: StrictBool = False
    views: Annotated[Count | None, Shown("x{} views")] = None
    smoothing: Annotated[Count | None, Shown("x{} averaged")] = None
    noise: Annotated[PositiveFloat, Shown("noise {}", fraction=255)] = 8 / 255
    own_labels: Annotated[Literal["ignored", "drop", "relabel"], Shown("own labels {}")] = "ignored"
    filter: Annotated[Literal["none", "pixels", "features"], Shown("filter {}")] = "none"
    neighbors: Annotated[Count, Shown("k={}")] = 10

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.query_budget is not None and self.cache_answers:
            reason = "with a query budget each image is asked once, and nothing repeats: must be false"
            raise ValueError(f"cache_answers: true is not allowed: {reason}")
        usual = {field.name: field.default for field in fields(self)}
        for name in NEED_KEPT_ANSWERS:
            value = getattr(self, name)
            if self.query_budget is None and value != usual[name]:
                shown = "false" if value is False else repr(value)
                raise ValueError(f"{name}: {shown} is not allowed: needs a query_budget, whose answers are kept")
        for name, other in NEEDS.items():
            if (value := getattr(self, name)) != usual[name] and getattr(self, other) == usual[other]:
                raise ValueError(f"{name}: {value} is not allowed without {other}: leave it out")
        if self.own_labels != "ignored" and is_foreign(self.source):
            reason = f"the true labels of source {self.source.kind!r} mean nothing to the victim"
            raise ValueError(f"own_labels: {self.own_labels!r} is not allowed: {reason}")
        if self.query_budget is not None and self.filter != "none" and self.neighbors >= self.query_budget:
            raise ValueError(f"neighbors: {self.neighbors} is not allowed: must be below query_budget")

    @property
    def asks_once(self) -> bool:
        """Whether all calls are spent before the first epoch, on answers that the attacker keeps."""
        return self.query_budget is not None or self.cache_answers

    @property
    def allowance(self) -> int | None:
        """The calls of an attacker with a budget: every view of every image, as often as answers are averaged."""
        return None if self.query_budget is None else self.query_budget * (self.views or 1) * (self.smoothing or 1)

    @property
    def asks_in_steps(self) -> bool:
        """Unless all calls are spent before."""
        return not self.asks_once

    def knows_labels(self) -> bool:
        """Those of its own images, if it corrects answers by them."""
        return self.own_labels != "ignored"

    def adapted_to(self) -> str:
        """`smoothing` answers marks that live close to single images."""
        return super().adapted_to() or ("margin" if self.smoothing is not None else "")

    def validate(self, facts: TargetFacts) -> None:
        """Raise ValueError for a budget beyond the images, and for views that would all be the same."""
        super().validate(facts)
        named, varied = self._augmented(facts)
        if self.cache_answers and varied:
            reason = f"augmented views never repeat: must be false, or {named}.flip false and {named}.pad 0"
            raise ValueError(f"{facts.path}.cache_answers: true is not allowed: {reason}")
        if self.views is not None:
            self.check_views("views", facts)
        self.check_held("query_budget", facts)

    def check_views(self, field: str, facts: TargetFacts) -> None:
        """Refuse as many views of an image as a field says where all of them would be the same."""
        named, varied = self._augmented(facts)
        if not varied:
            reason = f"{named}.flip is false and {named}.pad 0, so that all views of an image are the same"
            raise ValueError(f"{facts.path}.{field}: {getattr(self, field)} is not allowed: {reason}")

    def _augmented(self, facts: TargetFacts) -> tuple[str, bool]:
        """Where the record of the attacker's images stands, and whether it has them augmented."""
        foreign = is_foreign(self.source)
        shown: Any = self.source if foreign else facts.victim.data
        return f"{facts.path}.source" if foreign else "victim.data", bool(shown.flip or shown.pad)

    def grant(self, model: nn.Module, *, calls: int, **common: Any) -> BlackBoxAccess:
        """An oracle. Answers that are kept are not stored but computed anew, so they are counted from the first."""
        return super().grant(model, calls=0 if self.asks_once else calls, **common)

    def transfer_images(self, access: BlackBoxAccess) -> LabeledImages[Images]:
        """The images that the attacker asks for: all that it has, or as many as its budget allows."""
        if self.query_budget is None:
            return access.images
        return transfer_set(access.images, self.query_budget, make_generator(access.seed, "budget"))

    def kept_answers(self, access: BlackBoxAccess) -> KeptAnswers:
        """Spend the whole budget at once, and keep the answers that are to be learnt from.

        A resumed attack works them out anew instead of storing them.
        """
        images = self.transfer_images(access)
        origin = torch.arange(len(images), device=images.labels.device)
        if self.views is not None:
            images, origin = _views(images, self.views, access), origin.repeat(self.views)
        kept = KeptAnswers(images, self._answers(images.images, access), origin)
        truth = kept.asked.labels
        if self.own_labels == "drop":
            kept = kept.select(named_labels(kept.answers) == truth)
        elif self.own_labels == "relabel":
            kept = KeptAnswers(kept.asked, corrected(kept.answers, truth), kept.origin)
        kept = self._filtered(kept, access)
        if not len(kept.asked):
            raise ValueError(f"own_labels {self.own_labels!r}, filter {self.filter!r}: no answer is left to learn")
        return kept

    def _answers(self, images: Images, access: BlackBoxAccess) -> Tensor:
        """The answers to images (uint8 n c h w), or their means over noisy views."""
        if self.smoothing is None:
            return access.oracle.ask_all(images)
        answers = []
        for number, batch in enumerate(in_batches(images, eval_batch_size(images))):
            draw = make_generator(access.seed, "smoothing", number, device=images.device)
            views = (self._noisy_view(batch, access.augmentation, draw) for _ in range(self.smoothing))
            answers.append(mean_answer([access.oracle(view) for view in views], access.classes))
        return torch.cat(answers)

    def _noisy_view(self, images: Tensor, augmentation: Augmentation, draw: torch.Generator) -> Tensor:
        """An augmented view of each image (uint8 n c h w) with noise, as floats in [0, 1]."""
        shown = to_float(augment(images, augmentation, draw))
        drawn = torch.randn(shown.shape, generator=draw, device=shown.device)
        return (shown + self.noise * drawn).clamp(0, 1)

    def _filtered(self, kept: KeptAnswers, access: BlackBoxAccess) -> KeptAnswers:
        if self.filter == "none" or not len(kept.asked):
            return kept
        points = _as_floats(kept.asked.images) if self.filter == "pixels" else self.features(kept, access)
        labels, origin = named_labels(kept.answers), kept.origin
        return kept.select(agrees_with_neighbors(points.flatten(1), labels, origin=origin, neighbors=self.neighbors))

    @abstractmethod
    def features(self, kept: KeptAnswers, access: BlackBoxAccess) -> Tensor:
        """Features (n d) of the images that were asked, by a network that learnt their answers."""


def _as_floats(images: Images) -> Tensor:
    return torch.cat([to_float(batch) for batch in in_batches(images, eval_batch_size(images))])


def _views(images: LabeledImages[Images], count: int, access: BlackBoxAccess) -> LabeledImages[Images]:
    """The first view of every image, then the second of every image, and so on; fewer views begin more of them."""
    draws = [make_generator(access.seed, "view", number, device=images.labels.device) for number in range(count)]
    shown = joined([augmented(images.images, access.augmentation, draw) for draw in draws])
    return LabeledImages(shown, images.labels.repeat(count))
