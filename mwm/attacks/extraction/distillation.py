"""Distillation: a student learns from the victim's answers and from true labels."""

from __future__ import annotations

from typing import Annotated, Literal

import torch.nn.functional as F
from torch import Tensor

from mwm.attacks.extraction.student import StudentAttack
from mwm.attacks.sources import is_foreign
from mwm.config.spec import PositiveFloat, Share, Shown, StrictBool, spec


@spec
class Distillation(StudentAttack):
    """(1 - alpha) CE(student, true label) + alpha KL(victim || student) at `temperature` (Hinton et al., 2015).

    The published defaults (Kim et al., 2023) leave out Hinton's factor T²; `t_squared` puts it in.
    """

    kind: Literal["distillation"] = "distillation"
    labels: Annotated[Literal["soft"], Shown(always=True)] = "soft"
    temperature: Annotated[PositiveFloat, Shown("T={}")] = 1.0
    alpha: Share = 0.7
    t_squared: StrictBool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if is_foreign(self.source):
            raise ValueError(f"source {self.source.kind!r} is not allowed: true labels need victim_data or disjoint")

    def knows_labels(self) -> bool:
        """It learns them."""
        return True

    def loss(self, answers: Tensor, logits: Tensor, truth: Tensor) -> Tensor:
        """How far the student is from the true labels and from the answers."""
        scale = self.temperature**2 if self.t_squared else 1.0
        taught = F.cross_entropy(logits, truth, label_smoothing=self.label_smoothing)
        learnt = self.answer_loss(answers, logits, temperature=self.temperature)
        return (1 - self.alpha) * taught + self.alpha * scale * learnt
