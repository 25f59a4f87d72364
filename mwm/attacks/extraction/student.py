"""Extraction by a student: images, an oracle, a network and a recipe."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Annotated, Any, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mwm.attacks.access import BlackBoxAccess, Target, TargetFacts
from mwm.attacks.base import AttackRecord, check_batch_size, check_network, image_count, recipe_path
from mwm.attacks.sources import is_foreign, transfer_set
from mwm.config.randomness import make_generator
from mwm.config.spec import Count, Shown, StrictBool, spec
from mwm.models.build import Model, build_model, channel_statistics
from mwm.oracle.oracle import LabelKind, Oracle, log_probabilities
from mwm.training.device import deterministic
from mwm.training.loop import Epoch, fit
from mwm.training.recipe import Recipe
from mwm.training.state import TrainState
from mwm.training.step import Batch


@spec
class StudentAttack(AttackRecord):
    """Extraction by a student with fresh random weights; `student` and `recipe` left out are the victim's.

    With a `query_budget` the attacker draws that many of its images at random, has each answered once, as it is, and
    trains on augmented views with the answers that it kept (Orekondy et al., 2019, with a random transfer set). Without
    one it asks anew for every augmented image of every epoch (Kim et al., 2023). A kind of attack says what it learns:
    `loss`.

    Where views are not augmented (flip false, pad 0), an attacker without a budget asks the same in every epoch. Each
    image is then answered once, before the first, and costs a call in each epoch, as the published attacker spends;
    with `cache_answers` it costs one call, as of an attacker who keeps the answers. Where views are augmented nothing
    repeats, and with a budget nothing is asked twice: `cache_answers` is then refused.
    """

    labels: Annotated[LabelKind, Shown(always=True)] = "soft"
    student: Annotated[Model | None, Shown("")] = None
    recipe: Annotated[Recipe | None, Shown("")] = None
    query_budget: Annotated[Count | None, Shown("{} calls")] = None
    cache_answers: StrictBool = False

    def __post_init__(self) -> None:
        if self.recipe is not None and self.recipe.keep != "last":
            raise ValueError(f"recipe.keep: {self.recipe.keep!r} is not allowed: must be 'last' for an attacker")
        if self.query_budget is not None and self.cache_answers:
            reason = "with a query budget each image is asked once, and nothing repeats: must be false"
            raise ValueError(f"cache_answers: true is not allowed: {reason}")

    @property
    def asks_once(self) -> bool:
        """Whether all calls are spent before the first epoch, on answers that the attacker keeps."""
        return self.query_budget is not None or self.cache_answers

    @abstractmethod
    def loss(self, answers: Tensor, logits: Tensor, truth: Tensor) -> Tensor:
        """The loss of a batch: the victim's answers, the student's logits (n C), the true labels (n)."""

    def resolve(self, victim: Target) -> Self:
        """Fill in the student's network, and the recipe up to its last epoch."""
        recipe = self.recipe or replace(victim.recipe, keep="last")
        return replace(self, student=self.student or victim.model, recipe=recipe)

    def training_recipe(self) -> Recipe | None:
        """The student's recipe; None if it is the victim's."""
        return self.recipe

    def validate(self, facts: TargetFacts) -> None:
        """Raise ValueError for too few images, a budget beyond them, or a network too deep for them."""
        super().validate(facts)
        self._validate_caching(facts)
        check_batch_size(self, facts)
        filled, held = self.resolve(facts.victim), image_count(self.source, facts)
        size = filled._known_recipe.batch_size
        if self.query_budget is not None and held is not None and self.query_budget > held:
            reason = f"the attacker has {held} images, each to be asked once"
            raise ValueError(f"{facts.path}.query_budget: {self.query_budget} is not allowed: {reason}")
        if self.query_budget is not None and self.query_budget < size:
            reason = f"must be at least {size}, {recipe_path(self, facts)}.batch_size"
            raise ValueError(f"{facts.path}.query_budget: {self.query_budget} is not allowed: {reason}")
        if facts.dataset is not None:
            check_network(f"{facts.path}.student", filled.architecture(facts.victim), facts.dataset)

    def _validate_caching(self, facts: TargetFacts) -> None:
        foreign = is_foreign(self.source)
        shown: Any = self.source if foreign else facts.victim.data
        if self.cache_answers and (shown.flip or shown.pad):
            named = f"{facts.path}.source" if foreign else "victim.data"
            reason = f"augmented views never repeat: must be false, or {named}.flip false and {named}.pad 0"
            raise ValueError(f"{facts.path}.cache_answers: true is not allowed: {reason}")

    def grant(self, model: nn.Module, *, calls: int, **common: Any) -> BlackBoxAccess:
        """An oracle. Answers that are kept are not stored but computed anew, so they are counted from the first."""
        spent = 0 if self.asks_once else calls
        return BlackBoxAccess(oracle=Oracle(model, self.labels, self.query_budget, calls=spent), **common)

    def architecture(self, victim: Target) -> Model:
        """The student's."""
        return self.student or victim.model

    def epochs(self) -> int:
        """Those of the recipe."""
        return self._known_recipe.epochs

    @property
    def _known_recipe(self) -> Recipe:
        assert self.recipe is not None, "the student's recipe was never filled in"
        return self.recipe

    def run(self, access: BlackBoxAccess) -> Iterator[Epoch]:
        """Train the student, and yield each epoch."""
        recipe = self._known_recipe
        assert not (self.cache_answers and access.augmentation), "augmented views never repeat"
        held = access.images
        if self.query_budget is not None:
            held = transfer_set(held, self.query_budget, make_generator(access.seed, "budget"))
        with deterministic(recipe.deterministic):
            known = self._cached_answers(held.images, access)

        def objective(model: nn.Module, batch: Batch, generator: torch.Generator) -> Tensor:
            del generator
            answers = access.oracle(batch.images) if known is None else known(batch.index)
            return self.loss(answers, model(batch.images), batch.labels)

        training = TrainState(self._build_student(held.images, access), recipe)
        if access.start is not None:
            training.restore(access.start)
        augmentation, seed = access.augmentation, access.seed
        return fit(training, held, objective, augmentation=augmentation, seed=seed, validation=access.validation)

    def _cached_answers(self, images: Tensor, access: BlackBoxAccess) -> Callable[[Tensor], Tensor] | None:
        """Where the same is asked in every epoch: the answers to images (uint8 n c h w), by their numbers.

        A resumed attack works these answers out anew instead of storing them. Calls for answers that the attacker keeps
        are counted here, and so from the first again; the others as the epochs ask.
        """
        if not self.asks_once and access.augmentation:
            return None
        return access.oracle.memoized(images, kept=self.asks_once)

    def _build_student(self, images: Tensor, access: BlackBoxAccess) -> nn.Module:
        """The student before its first epoch, normalised as the attacker's images are."""
        assert self.student is not None, "the student's network was never filled in"
        mean, std = channel_statistics(images)
        network = build_model(
            self.student,
            shape=(images.shape[1], images.shape[2], images.shape[3]),
            classes=access.classes,
            mean=mean,
            std=std,
            generator=make_generator(access.seed, "student"),
        )
        return network.to(images.device)


def distillation_kl(answers: Tensor, logits: Tensor, temperature: float) -> Tensor:
    """KL(teacher || student) at a temperature, summed over classes, averaged over the batch (Hinton et al., 2015).

    `answers` are the teacher's log-probabilities (n C): softmax(log p / T) equals softmax(logits / T).
    """
    teacher, student = log_probabilities(answers, temperature), log_probabilities(logits, temperature)
    return F.kl_div(student, teacher, reduction="batchmean", log_target=True)
