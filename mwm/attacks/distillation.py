"""Distillation: a student learns from the victim's answers and from true labels."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mwm.attacks.student import Loot, StudentAttack, divergence
from mwm.fit import Epoch
from mwm.spec import Flag, Positive, Share, spec


@spec
class Distillation(StudentAttack):
    """(1 - alpha) CE(student, true label) + alpha KL(victim || student) at `temperature` (Hinton et al., 2015).

    The published defaults (Kim et al., 2023) leave out Hinton's factor T²; `t_squared` puts it in.
    """

    kind: Literal["distillation"] = "distillation"
    labels: Literal["soft"] = "soft"
    temperature: Positive = 1.0
    alpha: Share = 0.7
    t_squared: Flag = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.source.kind not in ("same", "disjoint"):
            raise ValueError(f"source {self.source.kind!r} is not allowed: true labels need same or disjoint")

    def run(self, loot: Loot) -> Iterator[Epoch]:
        """Steal, and yield each epoch of the student."""
        scale = self.temperature**2 if self.t_squared else 1.0

        def objective(model: nn.Module, images: Tensor, labels: Tensor, generator: torch.Generator) -> Tensor:
            del generator
            answers, logits = loot.oracle(images), model(images)
            taught = F.cross_entropy(logits, labels)
            return (1 - self.alpha) * taught + self.alpha * scale * divergence(answers, logits, self.temperature)

        return self.train(loot, objective)
