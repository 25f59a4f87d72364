"""Model extraction: a student learns nothing but the victim's answers."""

from __future__ import annotations

from typing import Annotated, Literal

from torch import Tensor

from mwm.attacks.extraction.student import StudentAttack
from mwm.config.spec import PositiveFloat, Shown, spec


@spec
class AnswersAttack(StudentAttack):
    """Train a student on nothing but answers.

    `soft` answers are probabilities, compared at `temperature` by the Kullback-Leibler divergence; `hard` answers are
    labels, learnt by cross-entropy. The true labels are used by `own_labels` alone.
    """

    temperature: Annotated[PositiveFloat, Shown("T={}")] = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.labels == "hard" and self.temperature != 1:
            raise ValueError(f"temperature: {self.temperature} is not allowed: must be 1 where labels are hard")

    def loss(self, answers: Tensor, logits: Tensor, truth: Tensor) -> Tensor:
        """How far the student is from the answers."""
        del truth
        return self.answer_loss(answers, logits, temperature=self.temperature)


@spec
class Extraction(AnswersAttack):
    """Train a student on nothing but the victim's answers (Tramer et al., 2016; Kim et al., 2023).

    `soft` answers are probabilities, compared at `temperature` by the Kullback-Leibler divergence; `hard` answers are
    labels, learnt by cross-entropy. The true labels are used by `own_labels` alone.
    """

    kind: Literal["extraction"] = "extraction"
