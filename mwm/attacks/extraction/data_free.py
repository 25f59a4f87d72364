"""Extraction without images: a generator makes what is asked, in a game with the students that learn the answers."""

from __future__ import annotations

import time
from abc import abstractmethod
from collections.abc import Iterator
from typing import Annotated, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mwm.attacks.access import BlackBoxAccess
from mwm.attacks.extraction.answers import recovered_logits
from mwm.attacks.extraction.generator import Game, ImageGenerator, as_pictures
from mwm.attacks.extraction.oracle_attack import OracleAttack
from mwm.attacks.sources import VictimData
from mwm.attacks.threat import ThreatModel
from mwm.config.randomness import derive_seed, make_generator
from mwm.config.spec import Count, Field, NonNegativeFloat, PositiveFloat, Share, ShareBelowOne, Shown, Strict, spec
from mwm.models.build import build_model
from mwm.training.device import global_draws
from mwm.training.evaluation import accuracy, predict_logits
from mwm.training.loop import DivergedError, Epoch

MIDDLE = 0.5
"""Mean and deviation by which a network is normalised whose images nobody knows: [0, 1] becomes [-1, 1]."""

BatchSize = Annotated[int, Strict(), Field(ge=2)]


@spec
class DataFreeAttack(OracleAttack):
    """Extraction by an attacker who has no images: `source` is left out.

    A generator turns noise into images, and is trained to make what teaches the students most. An iteration is
    `generator_steps` of the generator, then `student_steps` in which the victim is asked about new images and the
    students learn its answers. The attacker makes as many whole iterations as its `query_budget` pays for. An epoch is
    `epoch_iterations` of them. After each share of `milestones` of all iterations both rates are multiplied by
    `factor`. Students are normalised by mean 0.5 and deviation 0.5, because no image is
    known. Of several the first is what the attacker ends with.

    Images are rounded to 8 bits, unless a kind says otherwise. A kind of attack says how the generator learns.
    """

    query_budget: Annotated[Count, Shown("{} calls", always=True)] = 20_000_000
    batch_size: Annotated[BatchSize, Shown("batch {}")] = 256
    generator_steps: Annotated[Count, Shown("{} generator steps")] = 1
    student_steps: Annotated[Count, Shown("{} student steps")] = 5
    epoch_iterations: Annotated[Count, Shown("")] = 50
    noise_size: Annotated[Count, Shown("noise {}")] = 256
    generator_width: Annotated[Count, Shown("generator width {}")] = 64
    student_lr: Annotated[PositiveFloat, Shown("student lr {}")] = 0.1
    generator_lr: Annotated[PositiveFloat, Shown("generator lr {}")] = 1e-4
    momentum: Annotated[ShareBelowOne, Shown("")] = 0.9
    weight_decay: Annotated[NonNegativeFloat, Shown("")] = 5e-4
    milestones: Annotated[tuple[Share, ...], Shown("")] = (0.1, 0.3, 0.5)
    factor: Annotated[PositiveFloat, Shown("")] = 0.3

    students: ClassVar[int] = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.source != VictimData():
            reason = "the attacker has no images: leave it out"
            raise ValueError(f"source: {self.source.kind!r} is not allowed: {reason}")
        if self.query_budget < self.calls_per_iteration:
            reason = f"must be at least {self.calls_per_iteration}, the calls of an iteration"
            raise ValueError(f"query_budget: {self.query_budget} is not allowed: {reason}")

    @property
    @abstractmethod
    def calls_per_iteration(self) -> int:
        """How many images are asked for in an iteration."""

    @property
    def allowance(self) -> int:
        """The budget."""
        return self.query_budget

    @property
    def iterations(self) -> int:
        """As many as the budget pays for."""
        return self.query_budget // self.calls_per_iteration

    def epochs(self) -> int:
        """The last one may have fewer iterations."""
        return -(-self.iterations // self.epoch_iterations)

    def threat_model(self) -> ThreatModel:
        """Answers alone."""
        return ThreatModel(
            access="black box",
            images="none",
            true_labels=False,
            answers=self.answer_words,
            start="fresh",
            adaptive=self.adapted_to(),
        )

    def network(self, access: BlackBoxAccess) -> nn.Module:
        """The first student, before it has learnt anything."""
        return self._student(access, 0)

    def _student(self, access: BlackBoxAccess, number: int) -> nn.Module:
        assert self.student is not None, "the student's network was never filled in"
        shape = image_shape(access)
        network = build_model(
            self.student,
            shape=shape,
            classes=access.classes,
            mean=[MIDDLE] * shape[0],
            std=[MIDDLE] * shape[0],
            generator=make_generator(access.seed, "student", *([number] if number else [])),
        )
        return network.to(access.validation.labels.device)

    def begin(self, access: BlackBoxAccess) -> Game:
        """The game before its first iteration."""
        device = access.validation.labels.device
        students = [self._student(access, number) for number in range(self.students)]
        with global_draws(derive_seed(access.seed, "generator"), torch.device("cpu")):
            generator = ImageGenerator(self.noise_size, self.generator_width, image_shape(access))
        generator.to(device)
        weights = [weight for student in students for weight in student.parameters()]
        student_steps = torch.optim.SGD(
            weights, lr=self.student_lr, momentum=self.momentum, weight_decay=self.weight_decay
        )
        generator_steps = torch.optim.Adam(generator.parameters(), lr=self.generator_lr)
        return Game(students, generator, optimizers=(student_steps, generator_steps), epochs=self.epochs())

    def run(self, access: BlackBoxAccess) -> Iterator[Epoch]:
        """Play, and yield each epoch."""
        game = self.begin(access)
        if access.start is not None:
            game.restore(access.start)
        device = access.validation.labels.device
        while game.epoch < game.epochs:
            began = time.perf_counter()
            with global_draws(derive_seed(access.seed, "layers", game.epoch), device):
                loss = self._epoch(game, access, make_generator(access.seed, "draw", game.epoch, device=device))
            game.epoch += 1
            answers = predict_logits(game.model, access.validation.images)
            if not (torch.tensor(loss).isfinite() and answers.isfinite().all()):
                raise DivergedError(f"the students are not finite in epoch {game.epoch}: lower student_lr")
            score = accuracy(answers, access.validation.labels)
            yield Epoch(game, game.epoch, loss, game.rate, score, time.perf_counter() - began)

    def _epoch(self, game: Game, access: BlackBoxAccess, draw: torch.Generator) -> float:
        """The mean loss of the students in the iterations of the epoch that is next."""
        first = game.epoch * self.epoch_iterations
        places = range(first, min(first + self.epoch_iterations, self.iterations))
        total = torch.zeros((), device=draw.device)
        for place in places:
            passed = sum(place / self.iterations >= milestone for milestone in self.milestones)
            game.set_rates(self.student_lr * self.factor**passed, self.generator_lr * self.factor**passed)
            for _ in range(self.generator_steps):
                self.teach_generator(game, access, draw)
            total += self.teach_students(game, access, draw)
        return (total / len(places)).item()

    @abstractmethod
    def teach_generator(self, game: Game, access: BlackBoxAccess, draw: torch.Generator) -> None:
        """One step of the generator."""

    @abstractmethod
    def teach_students(self, game: Game, access: BlackBoxAccess, draw: torch.Generator) -> Tensor:
        """The steps of the students in an iteration; gives their mean loss on new images."""

    def noise(self, draw: torch.Generator) -> Tensor:
        """What a batch of images is made of (n d)."""
        return torch.randn((self.batch_size, self.noise_size), generator=draw, device=draw.device)

    def new_images(self, game: Game, draw: torch.Generator) -> Tensor:
        """A batch of images (n c h w in [0, 1]) as the generator makes them now; no gradient reaches it."""
        with torch.no_grad():
            return as_pictures(game.generator(self.noise(draw)))

    def learn(self, game: Game, images: Tensor, answers: Tensor) -> Tensor:
        """One step of all students on answers to images; gives the mean of their losses."""
        losses = [self.student_loss(answers, student.train()(images)).mean() for student in game.students]
        loss = torch.stack(losses).sum()
        game.step_students(loss)
        return loss.detach() / len(losses)

    def student_loss(self, answers: Tensor, logits: Tensor) -> Tensor:
        """How far a student is from each answer (n): mean |logit - recovered logit|, or the cross-entropy of labels."""
        if self.labels == "hard":
            return F.cross_entropy(logits, answers, reduction="none")
        return (logits - recovered_logits(answers)).abs().mean(1)


def image_shape(access: BlackBoxAccess) -> tuple[int, int, int]:
    """Channels, height and width of what the victim takes."""
    _, channels, height, width = access.validation.images.shape
    return channels, height, width
