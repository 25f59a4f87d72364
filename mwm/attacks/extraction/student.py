"""Extraction by a student: images, an oracle, a network and a recipe."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import replace

from torch import Tensor

from mwm.attacks.access import BlackBoxAccess, TargetFacts
from mwm.attacks.base import check_batch_size
from mwm.attacks.extraction.answers import KeptAnswers
from mwm.attacks.extraction.asking import AskingAttack
from mwm.attacks.extraction.black_box import Lesson
from mwm.attacks.layers import penultimate_features
from mwm.config.randomness import derive_seed
from mwm.config.spec import spec
from mwm.training.device import deterministic
from mwm.training.loop import Epoch
from mwm.training.recipe import MultiStep, Recipe
from mwm.training.state import TrainState

FEATURE_EPOCHS = 5
"""Epochs of the student in whose features answers are compared."""


@spec
class StudentAttack(AskingAttack):
    """Extraction by a student of all that was asked.

    An epoch of the recipe is a pass over the images. Where k `views` of each were asked, a pass over all of them is k
    of these: the training takes epochs / k of such passes, rounded, and one at least, and reaches the milestones of a
    `multistep` schedule as much earlier. Where fewer answers are left than a batch holds, all are one batch.
    """

    def validate(self, facts: TargetFacts) -> None:
        """Raise ValueError for too few images, or a budget below a batch."""
        super().validate(facts)
        check_batch_size(self, facts)
        self.check_budget(facts, views=self.views or 1)

    def epochs(self) -> int:
        """Passes over all that was asked."""
        return _recipe_of_passes(self._known_recipe, self.views).epochs

    def run(self, access: BlackBoxAccess) -> Iterator[Epoch]:
        """Train the student, and yield each epoch."""
        recipe = self._known_recipe
        with deterministic(recipe.deterministic):
            lesson = self._lesson(access)
        return self._train(lesson, access, recipe=recipe, seed=access.seed)

    def _train(self, lesson: Lesson, access: BlackBoxAccess, *, recipe: Recipe, seed: int) -> Iterator[Epoch]:
        passes = _recipe_of_passes(recipe, self.views)
        if self.query_budget is not None:  # answers may have been dropped
            passes = passes.filled_by(len(lesson[0]))
        training = TrainState(self.network(access), passes)
        if access.start is not None:
            training.restore(access.start)
        return self.teach(training, lesson, access, seed=seed)

    def _lesson(self, access: BlackBoxAccess) -> Lesson:
        """What is taught. Calls for kept answers are spent here, and so from the first again where it is resumed."""
        images, oracle = self.transfer_images(access), access.oracle
        if self.query_budget is not None:
            kept = self.kept_answers(access)
            return kept.asked, lambda batch: kept.answers[batch.index]
        if self.cache_answers:
            assert not access.augmentation, "augmented views never repeat"
            answers = oracle.ask_all(images.images)
            return images, lambda batch: answers[batch.index]
        if access.augmentation:
            return images, lambda batch: oracle(batch.images)
        known = oracle.memoized(images.images)
        return images, lambda batch: known(batch.index)

    def features(self, kept: KeptAnswers, access: BlackBoxAccess) -> Tensor:
        """What reaches the last layer of a student that learnt the answers for some epochs."""
        lesson = kept.asked, lambda batch: kept.answers[batch.index]
        recipe, seed = replace(self._known_recipe, epochs=FEATURE_EPOCHS), derive_seed(access.seed, "filter")
        epochs = self._train(lesson, replace(access, start=None), recipe=recipe, seed=seed)
        (last,) = deque(epochs, maxlen=1)
        return penultimate_features(last.training.model, kept.asked.images)


def _recipe_of_passes(recipe: Recipe, views: int | None) -> Recipe:
    """The recipe in epochs that pass over `views` of each image, and so have as many times the steps."""
    if views is None:
        return recipe
    schedule = recipe.schedule
    if isinstance(schedule, MultiStep):
        earlier = tuple(max(1, round(milestone / views)) for milestone in schedule.milestones)
        schedule = replace(schedule, milestones=earlier)
    return replace(recipe, epochs=max(1, round(recipe.epochs / views)), schedule=schedule)
