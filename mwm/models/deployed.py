"""Networks as they are deployed: what stands before and behind one is part of every answer."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from typing import Annotated, Literal

import torch
from torch import Tensor, nn

from mwm.config.spec import Field, NonNegativeFloat, NonNegativeInt, Strict, spec
from mwm.models.answers import AnswerForm, form_words, shaped
from mwm.models.detection import LEAST_LOG, Detection, Detector, Seen, first_choices, last_layer_heard, log_shares
from mwm.models.image_draws import ImageDraws
from mwm.models.inputs import InputNoise, InputTransform, Shift, TransformRecord, transformed

BEHIND = 1_000_000
"""The number of the draws of what stands behind a network: no copy of an image has it."""


@spec
class Votes:
    """The network is asked about so many `copies` of each image, each with `noise` and a shift by up to `shift` pixels.

    The answer is the share of the copies that name each class (`labels`), or the mean of their probabilities.
    """

    copies: Annotated[int, Strict(), Field(ge=2)] = 9
    noise: NonNegativeFloat = 0.03
    shift: NonNegativeInt = 1
    by: Literal["labels", "probabilities"] = "labels"

    def __post_init__(self) -> None:
        if not self.jitter:
            raise ValueError("noise: 0 is not allowed with shift: 0: all copies would be the same")

    @property
    def jitter(self) -> tuple[TransformRecord, ...]:
        """What makes copies different."""
        shift = (Shift(pixels=self.shift),) if self.shift else ()
        return (*shift, InputNoise(deviation=self.noise)) if self.noise else shift

    def count(self, told: Iterable[Tensor]) -> Tensor:
        """One answer, as log-probabilities (n C), from the answers to all copies (n C each)."""
        answers = torch.stack([*told])
        if self.by == "probabilities":
            return answers.log_softmax(2).logsumexp(0) - math.log(self.copies)
        return log_shares(torch.stack([*map(first_choices, answers)], 1), answers.shape[2])


@spec
class Deployment:
    """What stands between a network and whoever asks it, in this order; what is left out does nothing.

    Each image goes through `inputs`. `votes` show the network several copies of it. A `detection` of queries judges it
    by the network's last layer, and turns it away or not. The answer is put into the forms `answers`; equal scores,
    which name no class, stay equal.
    """

    inputs: tuple[InputTransform, ...] = ()
    votes: Votes | None = None
    detection: Detection | None = None
    answers: tuple[AnswerForm, ...] = ()

    @property
    def draws(self) -> bool:
        """Whether an answer depends on random numbers."""
        return self.votes is not None or any(one.draws for one in (*self.inputs, *self.answers))

    @property
    def words(self) -> str:
        """What people are told of it."""
        votes = "" if self.votes is None else f"a vote of {self.votes.copies} copies"
        detector = "" if self.detection is None else "a detector of queries"
        told = (*(one.kind for one in self.inputs), votes, detector, form_words(self.answers))
        return ", ".join(filter(None, told))


class Deployed(nn.Module):
    """A network with what a deployment puts around it: images (n c h w) in [0, 1] to answers (n C).

    Answers are logits or logarithms of probabilities. Random numbers follow from the `seed` and the image (see
    `ImageDraws`), so an image is answered alike at all times. All that was learnt, and the seed, are buffers.
    """

    seed: Tensor

    def __init__(self, network: nn.Module, deployment: Deployment, seed: int = 0) -> None:
        super().__init__()
        self.network, self.deployment, detection = network, deployment, deployment.detection
        device = next(network.parameters()).device
        if deployment.draws:
            self.register_buffer("seed", torch.tensor(seed, device=device))
        self.detector = None if detection is None else Detector(detection).to(device)

    def forward(self, images: Tensor) -> Tensor:
        """The answers to images, as they are given to whoever asks."""
        draws = self._draws(images)
        if self.detector is None:
            return self._formed(self._asked(images, draws), draws)
        with last_layer_heard(self.network) as heard:
            answers = self._asked(images, draws)
        return self._formed(self.detector(answers, heard.seen(images, self.detector.detection)), draws)

    def observe(self, images: Tensor) -> Seen:
        """What the detector judges images by."""
        assert self.detector is not None, "nothing is detected here"
        with last_layer_heard(self.network) as heard:
            self._asked(images, self._draws(images))
        return heard.seen(images, self.detector.detection)

    @property
    def detects(self) -> bool:
        """Whether any image may be turned away, here or inside."""
        inside = isinstance(self.network, Deployed) and self.network.detects
        return inside or self.detector is not None

    def rejects(self, images: Tensor) -> Tensor:
        """Which images are turned away (bool n): here, or inside, where of several copies most must be."""
        turned = torch.zeros(len(images), dtype=torch.bool, device=images.device)
        if self.detector is not None:
            turned |= self.detector.rejects(self.observe(images))
        if isinstance(self.network, Deployed) and self.network.detects:
            inside = [self.network.rejects(shown) for shown in self._shown(images, self._draws(images))]
            turned |= torch.stack(inside).double().mean(0) > 0.5
        return turned

    def extra_repr(self) -> str:
        """The deployment: it is a part of what the network is."""
        return repr(self.deployment)

    def _draws(self, images: Tensor) -> ImageDraws | None:
        return ImageDraws.of(images, self.seed) if self.deployment.draws else None

    def _shown(self, images: Tensor, draws: ImageDraws | None) -> Iterator[Tensor]:
        """What the network itself is shown: the images, or copy after copy of them."""
        inputs, votes = self.deployment.inputs, self.deployment.votes
        if votes is None:
            yield transformed(images, inputs, draws)
            return
        assert draws is not None, "copies need draws"
        for copy in range(votes.copies):
            yield transformed(images, (*inputs, *votes.jitter), draws.further(copy))

    def _asked(self, images: Tensor, draws: ImageDraws | None) -> Tensor:
        told = map(self.network, self._shown(images, draws))
        return next(told) if self.deployment.votes is None else self.deployment.votes.count(told)

    def _formed(self, answers: Tensor, draws: ImageDraws | None) -> Tensor:
        """Answers in their forms, each image's on its own where a form draws."""
        forms = self.deployment.answers
        if not forms:
            return answers
        known, silent = answers.log_softmax(1), (answers == answers[:, :1]).all(1)
        if any(one.draws for one in forms) and draws is not None and len(answers):
            seeds = (draws.further(BEHIND).words & (2**63 - 1)).tolist()
            drawn = (torch.Generator(answers.device).manual_seed(seed) for seed in seeds)
            rows = zip(torch.split(known, 1), drawn, strict=True)
            formed = torch.cat([shaped(row, forms, generator) for row, generator in rows])
        else:
            formed = shaped(known, forms)
        return torch.where(silent[:, None], torch.zeros_like(answers), formed.clamp(min=LEAST_LOG))


def deployed(network: nn.Module, deployments: Iterable[Deployment]) -> nn.Module:
    """A network with all deployments around it, the innermost first; the very network without any."""
    for one in deployments:
        network = Deployed(network, one)
    return network
