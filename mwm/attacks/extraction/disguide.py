"""DisGUIDE: the generator makes images on which two students disagree, which takes labels alone."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

import torch
from torch import Tensor

from mwm.attacks.access import BlackBoxAccess
from mwm.attacks.extraction.data_free import DataFreeAttack
from mwm.attacks.extraction.generator import Game, Memory, as_images, to_bytes
from mwm.config.spec import Count, NonNegativeFloat, NonNegativeInt, PositiveFloat, Share, Shown, spec
from mwm.data.images import to_float

REPLAY_SIZE = 1_000_000
SMALLEST = 1e-6
"""What is added to probabilities before their logarithm is taken."""


@spec
class Disguide(DataFreeAttack):
    """Two students learn the answers; a generator makes what they disagree on (Rosenthal et al., 2023).

    The generator raises the mean, over images and classes, of the deviation between the students' probabilities, plus
    `diversity` times the entropy of the mean probabilities of a batch. It needs no answers, so that all calls teach the
    students: mean |S(x) - l(x)| of recovered logits l where labels are `soft`, the cross-entropy where they are `hard`.
    After each iteration both students learn `replay_steps` batches of what was asked before, of which the last
    `replay_size` images are kept. The attacker ends with the first student. The defaults are those of the public code
    for CIFAR-10; for CIFAR-100 it has `diversity` 0.04.
    """

    kind: Literal["disguide"] = "disguide"
    student_steps: Annotated[Count, Shown("{} student steps")] = 1
    epoch_iterations: Annotated[Count, Shown("")] = 150
    student_lr: Annotated[PositiveFloat, Shown("student lr {}")] = 0.03
    milestones: Annotated[tuple[Share, ...], Shown("")] = (0.4, 0.8)
    diversity: Annotated[NonNegativeFloat, Shown("diversity {}")] = 0.2
    replay_steps: Annotated[NonNegativeInt, Shown("{} replay steps")] = 3
    replay_size: Annotated[Count, Shown("replay {}")] = REPLAY_SIZE

    students: ClassVar[int] = 2

    @property
    def calls_per_iteration(self) -> int:
        """One for each image of the students' steps."""
        return self.batch_size * self.student_steps

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.replay_steps and self.replay_size != REPLAY_SIZE:
            raise ValueError(f"replay_size: {self.replay_size} is not allowed: replay_steps is 0, nothing is replayed")
        if self.replay_size < self.batch_size:
            raise ValueError(
                f"replay_size: {self.replay_size} is not allowed: must be at least batch_size, {self.batch_size}"
            )

    def begin(self, access: BlackBoxAccess) -> Game:
        """With an empty memory, if any is replayed."""
        game = super().begin(access)
        if self.replay_steps:
            game.memory = Memory(min(self.replay_size, self.iterations * self.calls_per_iteration))
        return game

    def teach_generator(self, game: Game, access: BlackBoxAccess, draw: torch.Generator) -> None:
        """Towards disagreement of the students, and all classes alike."""
        del access
        images = as_images(game.generator.train()(self.noise(draw)))
        said = torch.stack([student.eval()(images).softmax(1) for student in game.students])
        game.step_generator(-(disagreement(said) + self.diversity * class_entropy(said)))

    def teach_students(self, game: Game, access: BlackBoxAccess, draw: torch.Generator) -> Tensor:
        """New images and the victim's answers to them, then some of those before."""
        losses = []
        game.generator.eval()
        for _ in range(self.student_steps):
            with torch.no_grad():
                pictures = to_bytes(game.generator(self.noise(draw)))
            images = to_float(pictures)
            answers = access.oracle(images)
            losses.append(self.learn(game, images, answers))
            if game.memory is not None:
                game.memory.add(pictures, answers)
        if game.memory is not None:
            for _ in range(self.replay_steps):
                self.learn(game, *game.memory.sample(self.batch_size, draw))
        return torch.stack(losses).mean()


def disagreement(probabilities: Tensor) -> Tensor:
    """The deviation between students (s n C), with s - 1 below the sum, on average over images and classes."""
    return probabilities.std(0).mean()


def class_entropy(probabilities: Tensor) -> Tensor:
    """The entropy of what students say (s n C) on average over themselves and the images."""
    mean = (probabilities + SMALLEST).mean((0, 1))
    return -(mean * mean.log()).sum()
