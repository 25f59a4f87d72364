"""Data-free model extraction (DFME): the generator learns by finite differences of what the victim answers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Literal

import torch
from torch import Tensor

from mwm.attacks.access import BlackBoxAccess
from mwm.attacks.extraction.data_free import DataFreeAttack
from mwm.attacks.extraction.generator import Game, as_images, as_pictures
from mwm.config.spec import Count, PositiveFloat, Shown, StrictBool, spec
from mwm.training.evaluation import eval_mode


@spec
class Dfme(DataFreeAttack):
    """Train a generator to make images on which the student is most wrong, and the student to be right (DFME).

    Truong et al. (2021), with their defaults. The student's loss is L(x) = mean |S(x) - l(x)| over the classes, with
    l(x) = log F(x) - mean log F(x) the recovered logits. The generator raises it. The victim gives no gradient: it is
    estimated by forward differences along `directions` random unit vectors u,
    g = d / m sum (L(x + epsilon u) - L(x)) / epsilon u, d the number of values of an image, x the image before the
    generator's tanh. A call is one image: (directions + 1) for each image that teaches the generator.

    As published, images are asked as floats. With `rounded`, they are rounded to 8 bits, as of an interface that takes
    pictures: a small `epsilon` then changes hardly any pixel, and the generator learns next to nothing.
    """

    kind: Literal["dfme"] = "dfme"
    labels: Annotated[Literal["soft"], Shown(always=True)] = "soft"
    directions: Annotated[Count, Shown("m={}")] = 1
    epsilon: Annotated[PositiveFloat, Shown("epsilon={}")] = 1e-3
    rounded: Annotated[StrictBool, Shown("rounded")] = False

    @property
    def calls_per_iteration(self) -> int:
        """For each image of the generator's steps those of the differences, and one for each of the student's."""
        return self.batch_size * (self.generator_steps * (self.directions + 1) + self.student_steps)

    def teach_generator(self, game: Game, access: BlackBoxAccess, draw: torch.Generator) -> None:
        """Up the estimated slope of the student's loss."""
        game.generator.train()
        made = game.generator(self.noise(draw))

        def losses(points: Tensor) -> Tensor:
            images = self.shown(points)
            with eval_mode(game.model):
                return self.student_loss(access.oracle(images), game.model(images))

        at = made.detach()
        directions = unit_vectors(at, self.directions, draw)
        slope = forward_differences(losses, at, directions=directions, epsilon=self.epsilon)
        game.step_generator(made, -slope / len(made))

    def teach_students(self, game: Game, access: BlackBoxAccess, draw: torch.Generator) -> Tensor:
        """New images, and what the victim says to them."""
        losses = []
        for _ in range(self.student_steps):
            with torch.no_grad():
                images = self.shown(game.generator(self.noise(draw)))
            losses.append(self.learn(game, images, access.oracle(images)))
        return torch.stack(losses).mean()

    def shown(self, made: Tensor) -> Tensor:
        """What the generator made, as it is asked."""
        return as_pictures(made) if self.rounded else as_images(made)


def unit_vectors(like: Tensor, count: int, draw: torch.Generator) -> Tensor:
    """Random directions (count n c h w) for each of some points (n c h w), all equally likely."""
    drawn = torch.randn((count, *like.shape), generator=draw, device=like.device, dtype=like.dtype)
    lengths: Tensor = torch.linalg.vector_norm(drawn, dim=(2, 3, 4), keepdim=True)
    return drawn / lengths


def forward_differences(
    losses: Callable[[Tensor], Tensor], points: Tensor, *, directions: Tensor, epsilon: float
) -> Tensor:
    """The slope (n c h w) of the loss of each point (n c h w), estimated along unit vectors (m n c h w).

    d / m sum (L(x + epsilon u) - L(x)) / epsilon u, d the number of values of a point: right on average over u.
    """
    here, total = losses(points), torch.zeros_like(points)
    for direction in directions:
        steepness = (losses(points + epsilon * direction) - here) / epsilon
        total += steepness[:, None, None, None] * direction
    return total * points[0].numel() / len(directions)
