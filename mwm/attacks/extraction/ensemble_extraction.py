"""Extraction from two sources: a student learns the mean of the victim's answers and of another network's."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Annotated, Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mwm.attacks.access import Answering, BlackBoxAccess, TargetFacts
from mwm.attacks.extraction.answers import mean_answer
from mwm.attacks.extraction.extraction import AnswersAttack
from mwm.config.randomness import derive_seed
from mwm.config.spec import Count, Seed, Shown, spec
from mwm.data.host import Images
from mwm.models.answers import LOG_ZERO


@spec
class EnsembleExtraction(AnswersAttack):
    """Train a student on the mean of the victim's answers and of an unmarked network's (Charette et al., 2022).

    The other network is a victim of somebody else: that of this one's record without its watermark, trained with
    `second_seed`. Each image is asked of both, and costs two calls. `soft`: the mean of the two probabilities. `hard`:
    the labels count half each, so that where both agree one is certain; of two different ones the first in the order
    of the classes stands where a single label is looked at (`own_labels`, `filter`).
    """

    kind: Literal["ensemble_extraction"] = "ensemble_extraction"
    query_budget: Annotated[Count | None, Shown("{} calls of each")] = None
    second_seed: Annotated[Seed, Shown("second seed {}")] = 1000

    def validate(self, facts: TargetFacts) -> None:
        """Raise ValueError for a second network of the victim's own seed."""
        super().validate(facts)
        if self.second_seed == facts.victim.seed:
            reason = "it is the victim's, and gives the second network the same initial weights"
            raise ValueError(f"{facts.path}.second_seed: {self.second_seed} is not allowed: {reason}")

    def other_seeds(self) -> tuple[int, ...]:
        """That of the second network."""
        return (self.second_seed,)

    @property
    def answer_words(self) -> str:
        """Those of two networks."""
        return f"{super().answer_words}, of two networks"

    def grant(self, model: nn.Module, *, calls: int, **common: Any) -> BlackBoxAccess:
        """An oracle for each of the two, as one."""
        first = super().grant(model, calls=calls // 2, **common)
        apart = common | {"seed": derive_seed(common["seed"], "second")}  # what its answers draw is its own
        second = super().grant(common["others"][self.second_seed], calls=calls // 2, **apart)
        return replace(first, oracle=MeanOracle(first.oracle, second.oracle, first.classes))

    def loss(self, answers: Tensor, logits: Tensor, truth: Tensor) -> Tensor:
        """How far the student is from the mean answers: log-probabilities (n C) in any case."""
        if self.labels == "soft":
            return super().loss(answers, logits, truth)
        return F.cross_entropy(logits, answers.exp(), label_smoothing=self.label_smoothing)


class MeanOracle:
    """Two oracles as one, which answers with the logarithm of their mean (n C); both count what they are asked."""

    def __init__(self, first: Answering, second: Answering, classes: int) -> None:
        self._both = (first, second)
        self._classes = classes

    @property
    def calls(self) -> int:
        """Those of both."""
        return sum(one.calls for one in self._both)

    def __call__(self, images: Tensor) -> Tensor:
        """The mean answers to images (n c h w in [0, 1])."""
        return self._mean([one(images) for one in self._both])

    def ask_all(self, images: Images) -> Tensor:
        """The mean answers to any number of images (uint8 n c h w)."""
        return self._mean([one.ask_all(images) for one in self._both])

    def memoized(self, images: Images) -> Callable[[Tensor], Tensor]:
        """What takes numbers of images (k) of these, and gives their mean answers, at two calls each."""
        both = [one.memoized(images) for one in self._both]
        return lambda rows: self._mean([one(rows) for one in both])

    def _mean(self, answers: list[Tensor]) -> Tensor:
        known = [one if one.ndim > 1 else certain(one, self._classes) for one in answers]
        return mean_answer(known, self._classes)


def certain(labels: Tensor, classes: int) -> Tensor:
    """Log-probabilities (n C) of whoever is certain of labels (n)."""
    return torch.full((len(labels), classes), LOG_ZERO, device=labels.device).scatter(1, labels[:, None], 0.0)
