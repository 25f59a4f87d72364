"""The players of data-free extraction: a generator of images, and the students that learn what it shows."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mwm.data.images import to_float, to_uint8

SLOPE = 0.2
"""That of the rectifiers below zero."""


class ImageGenerator(nn.Module):
    """Noise (n d) to images before their last activation (n c h w), as of Truong et al. (2021).

    A linear layer gives `2 width` channels of a quarter of the side, rounded up. Twice they are enlarged and convolved;
    the last convolution is normalised, so that every channel has zero mean and unit variance in a batch.
    """

    def __init__(self, noise_size: int, width: int, shape: tuple[int, int, int]) -> None:
        super().__init__()
        channels, *self.side = shape
        self.half_side = [-(-side // 2) for side in self.side]
        self.quarter_side = [-(-side // 2) for side in self.half_side]
        self.project = nn.Linear(noise_size, 2 * width * self.quarter_side[0] * self.quarter_side[1])
        self.start = nn.BatchNorm2d(2 * width)
        self.middle = nn.Sequential(*_block(2 * width, 2 * width))
        self.end = nn.Sequential(
            *_block(2 * width, width),
            nn.Conv2d(width, channels, 3, padding=1),
            nn.BatchNorm2d(channels, affine=False),
        )

    def forward(self, noise: Tensor) -> Tensor:
        """What `as_images` shows."""
        made = self.start(self.project(noise).unflatten(1, (-1, *self.quarter_side)))
        made = self.middle(F.interpolate(made, size=self.half_side))
        images: Tensor = self.end(F.interpolate(made, size=self.side))
        return images


def _block(inner: int, outer: int) -> tuple[nn.Module, ...]:
    return nn.Conv2d(inner, outer, 3, padding=1), nn.BatchNorm2d(outer), nn.LeakyReLU(SLOPE)


def as_images(made: Tensor) -> Tensor:
    """What a generator made, as images in [0, 1]: (tanh + 1) / 2."""
    return (made.tanh() + 1) / 2


def as_pictures(made: Tensor) -> Tensor:
    """The same, rounded to 8 bits."""
    return to_float(to_bytes(made))


def to_bytes(made: Tensor) -> Tensor:
    """The same as uint8."""
    return to_uint8(as_images(made))


class Memory:
    """The last `size` images that were asked, with the answers, as far as there are so many."""

    def __init__(self, size: int) -> None:
        self._size, self._written = size, 0
        self._images: Tensor | None = None
        self._answers: Tensor | None = None

    def add(self, images: Tensor, answers: Tensor) -> None:
        """Keep images (uint8 n c h w), and forget the oldest where there is no room."""
        if self._images is None or self._answers is None:
            self._images = images.new_zeros(self._size, *images.shape[1:])
            self._answers = answers.new_zeros(self._size, *answers.shape[1:])
        rows = (torch.arange(len(images), device=images.device) + self._written) % self._size
        self._images[rows], self._answers[rows] = images, answers
        self._written += len(images)

    def sample(self, count: int, draw: torch.Generator) -> tuple[Tensor, Tensor]:
        """So many of them, each at random: images (float n c h w in [0, 1]) and answers."""
        assert self._images is not None, "nothing was asked so far"
        assert self._answers is not None, "nothing was answered so far"
        held = min(self._written, self._size)
        rows = torch.randint(held, (count,), generator=draw, device=draw.device)
        return to_float(self._images[rows]), self._answers[rows]

    def state(self) -> dict[str, Any]:
        """All that is kept, in copies."""
        held = min(self._written, self._size)
        kept = {} if self._images is None else {"images": self._images[:held].clone()}
        kept |= {} if self._answers is None else {"answers": self._answers[:held].clone()}
        return kept | {"written": self._written}

    def restore(self, state: dict[str, Any], device: torch.device) -> None:
        """Go on from a state that `state` gave."""
        if state["written"]:
            self.add(state["images"].to(device), state["answers"].to(device))
        self._written = state["written"]


class Game:
    """Students and their generator on the way: `Trained`. The first student is what is kept."""

    def __init__(
        self,
        students: list[nn.Module],
        generator: nn.Module,
        *,
        optimizers: tuple[torch.optim.Optimizer, torch.optim.Optimizer],
        epochs: int,
    ) -> None:
        self.students, self.generator, self.epochs, self.epoch = students, generator, epochs, 0
        self._students, self._generator = optimizers
        self.memory: Memory | None = None
        self.deterministic = False

    @property
    def model(self) -> nn.Module:
        """The first student."""
        return self.students[0]

    @property
    def best_epoch(self) -> int:
        """The last one."""
        return self.epoch

    @property
    def rate(self) -> float:
        """The learning rate of the students."""
        rate: float = self._students.param_groups[0]["lr"]
        return rate

    def set_rates(self, students: float, generator: float) -> None:
        """Learn at these rates from now on."""
        for optimizer, rate in ((self._students, students), (self._generator, generator)):
            for group in optimizer.param_groups:
                group["lr"] = rate

    def step_students(self, loss: Tensor) -> None:
        """Have all students lower a loss."""
        self._students.zero_grad(set_to_none=True)
        torch.autograd.backward(loss)
        self._students.step()

    def step_generator(self, made: Tensor, slope: Tensor | None = None) -> None:
        """Have the generator lower a loss, or what it made (n c h w) move against its `slope` (n c h w)."""
        self._generator.zero_grad(set_to_none=True)
        torch.autograd.backward(made, slope, inputs=list(self.generator.parameters()))
        self._generator.step()

    def state(self) -> dict[str, Any]:
        """Everything that a checkpoint holds."""
        return {
            "model": self.model.state_dict(),
            "students": [student.state_dict() for student in self.students[1:]],
            "generator": self.generator.state_dict(),
            "optimizers": [self._students.state_dict(), self._generator.state_dict()],
            "memory": self.memory and self.memory.state(),
            "epoch": self.epoch,
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from a state that `state` gave."""
        for student, weights in zip(self.students, [state["model"], *state["students"]], strict=True):
            student.load_state_dict(weights)
        self.generator.load_state_dict(state["generator"])
        for optimizer, held in zip((self._students, self._generator), state["optimizers"], strict=True):
            optimizer.load_state_dict(held)
        if self.memory is not None:
            self.memory.restore(state["memory"], next(self.model.parameters()).device)
        self.epoch = state["epoch"]
