"""Model extraction: a student learns nothing but the victim's answers."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mwm.attacks.student import Loot, StudentAttack, divergence
from mwm.fit import Epoch
from mwm.oracle import Answers
from mwm.spec import Positive, spec


@spec
class Extraction(StudentAttack):
    """Train a student on the answers to every augmented image of every epoch (Tramer et al., 2016; Kim et al., 2023).

    `soft` answers are probabilities, compared at `temperature` by the Kullback-Leibler divergence; `hard` answers are
    labels, learnt by cross-entropy. The true labels are never used.
    """

    kind: Literal["extraction"] = "extraction"
    labels: Answers = "soft"
    temperature: Positive = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.labels == "hard" and self.temperature != 1:
            raise ValueError(f"temperature: {self.temperature} is not allowed: must be 1 where labels are hard")

    def run(self, loot: Loot) -> Iterator[Epoch]:
        """Steal, and yield each epoch of the student."""

        def objective(model: nn.Module, images: Tensor, labels: Tensor, generator: torch.Generator) -> Tensor:
            del labels, generator
            answers = loot.oracle(images)
            if self.labels == "hard":
                return F.cross_entropy(model(images), answers)
            return divergence(answers, model(images), self.temperature)

        return self.train(loot, objective)
