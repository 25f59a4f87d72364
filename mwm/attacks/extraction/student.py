"""Extraction by a student: images, an oracle, a network and a recipe."""

from __future__ import annotations

from abc import abstractmethod
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Annotated, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mwm.attacks.access import BlackBoxAccess, Target, TargetFacts
from mwm.attacks.base import check_batch_size, recipe_path
from mwm.attacks.extraction.answers import KeptAnswers, flattened
from mwm.attacks.extraction.asking import AskingAttack
from mwm.attacks.layers import penultimate_features
from mwm.attacks.threat import ThreatModel
from mwm.config.randomness import derive_seed, make_generator
from mwm.config.spec import NonEmptyStr, Share, Shown, StrictBool, spec
from mwm.data.host import Images, in_batches
from mwm.data.images import Augmentation
from mwm.data.splits import LabeledImages
from mwm.models.build import Model, build_model, channel_statistics, check_network
from mwm.models.start import start_from
from mwm.oracle.oracle import log_probabilities
from mwm.training.device import deterministic
from mwm.training.evaluation import eval_batch_size
from mwm.training.loop import Epoch, fit
from mwm.training.recipe import MultiStep, Recipe
from mwm.training.state import TrainState
from mwm.training.step import Batch, Objective

FEATURE_EPOCHS = 5
"""Epochs of the student in whose features answers are compared."""

Lesson = tuple[LabeledImages[Images], Callable[[Batch], Tensor]]
"""What a student is taught: images with their true labels, and the answers to a batch of them."""


@spec
class StudentAttack(AskingAttack):
    """Extraction by a student with fresh random weights.

    `student` and `recipe` left out are the victim's; of the recipe, what it does to labels of images is left out.

    Two fields follow the published code, which gives the attacker more than an attacker has. With `same_start` the
    student begins with the initial weights that the victim's seed gives its network: those of the victim, if both are
    one network. A recipe that keeps the epoch of `best_validation` judges by the owner's validation images.

    With `start` the student starts from the weights of a trained network in place of random ones, such as public ones:
    a file, an entry of the store or a model of MLflow, as for a victim.

    A kind of attack says what the student learns: `loss`. `label_smoothing` is the share of the uniform distribution in
    what it learns. An epoch of the recipe is a pass over the images. Where k `views` of each were asked, a pass over
    all of them is k of these: the training takes epochs / k of such passes, rounded, and one at least, and reaches the
    milestones of a `multistep` schedule as much earlier. Where fewer answers are left than a batch holds, all are one
    batch.
    """

    student: Annotated[Model | None, Shown("")] = None
    recipe: Annotated[Recipe | None, Shown("")] = None
    label_smoothing: Annotated[Share, Shown("label smoothing {}")] = 0.0
    same_start: StrictBool = False
    start: Annotated[NonEmptyStr | None, Shown("from {}")] = None

    def __post_init__(self) -> None:
        super().__post_init__()
        for name, instead in (("label_smoothing", "; write it at the attack"), ("mixup", "")):
            if self.recipe and (value := getattr(self.recipe, name)):
                reason = f"a student learns the answers to its images{instead}: must be 0"
                raise ValueError(f"recipe.{name}: {value} is not allowed: {reason}")
        if self.same_start and self.start is not None:
            raise ValueError("same_start: true is not allowed: the student starts from the weights of start")

    @abstractmethod
    def loss(self, answers: Tensor, logits: Tensor, truth: Tensor) -> Tensor:
        """The loss of a batch: the victim's answers, the student's logits (n C), the true labels (n)."""

    def resolve(self, victim: Target) -> Self:
        """Fill in the student's network, and the recipe up to its last epoch."""
        return replace(self, student=self.student or victim.model, recipe=self.recipe or self._recipe_like(victim))

    def _recipe_like(self, victim: Target) -> Recipe:
        """The victim's recipe, up to its last epoch, but for what it does to labels."""
        return replace(victim.recipe, keep="last", label_smoothing=0.0, mixup=0.0)

    def threat_model(self) -> ThreatModel:
        """Answers, and images of the attacker's own."""
        return ThreatModel(
            access="black box",
            images=self.source.kind,
            true_labels=self.knows_labels(),
            answers=self.labels,
            start="victim's initial weights" if self.same_start else "public weights" if self.start else "fresh",
            adaptive=self.adapted_to(),
        )

    def training_recipe(self) -> Recipe | None:
        """The student's recipe; None if it is the victim's."""
        return self.recipe

    def validate(self, facts: TargetFacts) -> None:
        """Raise ValueError for too few images, a budget below a batch, or a network too deep for the images."""
        super().validate(facts)
        check_batch_size(self, facts)
        if self.same_start and facts.victim.start is not None:
            reason = "the victim starts from weights, and not from random ones"
            raise ValueError(f"{facts.path}.same_start: true is not allowed: {reason}")
        filled, views = self.resolve(facts.victim), self.views or 1
        least = -(-filled._known_recipe.batch_size // views)
        if self.query_budget is not None and self.query_budget < least:
            shared = f" over {views} views" if views > 1 else ""
            reason = f"must be at least {least}, {recipe_path(self, facts)}.batch_size{shared}"
            raise ValueError(f"{facts.path}.query_budget: {self.query_budget} is not allowed: {reason}")
        if facts.dataset is not None:
            shape, classes = facts.dataset.shape, facts.dataset.classes
            check_network(f"{facts.path}.student", filled.architecture(facts.victim), shape=shape, classes=classes)

    def architecture(self, victim: Target) -> Model:
        """The student's."""
        return self.student or victim.model

    def epochs(self) -> int:
        """Passes over all that was asked."""
        return _recipe_of_passes(self._known_recipe, self.views).epochs

    @property
    def _known_recipe(self) -> Recipe:
        assert self.recipe is not None, "the student's recipe was never filled in"
        return self.recipe

    def network(self, access: BlackBoxAccess) -> nn.Module:
        """The student before its first epoch, normalised as the attacker's images are."""
        assert self.student is not None, "the student's network was never filled in"
        images = self.transfer_images(access).images
        mean, std = channel_statistics(in_batches(images, eval_batch_size(images)))
        network = build_model(
            self.student,
            shape=(images.shape[1], images.shape[2], images.shape[3]),
            classes=access.classes,
            mean=mean,
            std=std,
            generator=make_generator(
                *((access.victim_seed, "victim") if self.same_start else (access.seed, "student"))
            ),
        )
        if self.start is not None:
            start_from(network, self.student, access.starts[self.start])
        return network.to(images.device)

    def run(self, access: BlackBoxAccess) -> Iterator[Epoch]:
        """Train the student, and yield each epoch."""
        recipe = self._known_recipe
        with deterministic(recipe.deterministic):
            lesson = self._lesson(access)
        return self._train(lesson, access, recipe=recipe, seed=access.seed)

    def _train(self, lesson: Lesson, access: BlackBoxAccess, *, recipe: Recipe, seed: int) -> Iterator[Epoch]:
        part, _ = lesson
        passes = _recipe_of_passes(recipe, self.views)
        if self.query_budget is not None:  # answers may have been dropped
            passes = replace(passes, batch_size=min(passes.batch_size, len(part)))
        training = TrainState(self.network(access), passes)
        if access.start is not None:
            training.restore(access.start)
        augmentation = access.augmentation if self.augment else Augmentation()
        objective, validation = self.objective(lesson, access, training), access.validation
        return fit(training, part, objective, augmentation=augmentation, seed=seed, validation=validation)

    def _lesson(self, access: BlackBoxAccess) -> Lesson:
        """What is taught. Calls for kept answers are spent here, and so from the first again where it is resumed."""
        if self.query_budget is not None:
            kept = self.kept_answers(access)
            return kept.asked, lambda batch: kept.answers[batch.index]
        images, oracle = self.transfer_images(access), access.oracle
        if self.cache_answers:
            assert not access.augmentation, "augmented views never repeat"
            answers = oracle.ask_all(images.images)
            return images, lambda batch: answers[batch.index]
        if access.augmentation:
            return images, lambda batch: oracle(batch.images)
        known = oracle.memoized(images.images)
        return images, lambda batch: known(batch.index)

    def objective(self, lesson: Lesson, access: BlackBoxAccess, training: TrainState) -> Objective:
        """What the student learns in a step: unless said, by `loss`. `training` is where it stands at its first one."""
        del access, training
        _, ask = lesson

        def objective(model: nn.Module, batch: Batch, generator: torch.Generator) -> Tensor:
            del generator
            answers = ask(batch)
            return self.loss(flattened(answers) if self.flatten else answers, model(batch.images), batch.labels)

        return objective

    def features(self, kept: KeptAnswers, access: BlackBoxAccess) -> Tensor:
        """What reaches the last layer of a student that learnt the answers for some epochs."""
        lesson = kept.asked, lambda batch: kept.answers[batch.index]
        recipe, seed = replace(self._known_recipe, epochs=FEATURE_EPOCHS), derive_seed(access.seed, "filter")
        epochs = self._train(lesson, replace(access, start=None), recipe=recipe, seed=seed)
        (last,) = deque(epochs, maxlen=1)
        return penultimate_features(last.training.model, kept.asked.images)


def distillation_kl(answers: Tensor, logits: Tensor, temperature: float, *, smoothing: float = 0.0) -> Tensor:
    """KL(teacher || student) at a temperature, summed over classes, averaged over the batch (Hinton et al., 2015).

    `answers` are the teacher's log-probabilities (n C): softmax(log p / T) equals softmax(logits / T). `smoothing` is
    the share of the uniform distribution in the teacher's (Szegedy et al., 2016).
    """
    teacher, student = log_probabilities(answers, temperature), log_probabilities(logits, temperature)
    if smoothing:
        teacher = ((1 - smoothing) * teacher.exp() + smoothing / teacher.shape[1]).log()
    return F.kl_div(student, teacher, reduction="batchmean", log_target=True)


def _recipe_of_passes(recipe: Recipe, views: int | None) -> Recipe:
    """The recipe in epochs that pass over `views` of each image, and so have as many times the steps."""
    if views is None:
        return recipe
    schedule = recipe.schedule
    if isinstance(schedule, MultiStep):
        earlier = tuple(max(1, round(milestone / views)) for milestone in schedule.milestones)
        schedule = replace(schedule, milestones=earlier)
    return replace(recipe, epochs=max(1, round(recipe.epochs / views)), schedule=schedule)
