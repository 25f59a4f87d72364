"""Answers as tensors: what an attacker that keeps them makes of them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import torch
import torch.nn.functional as F
from torch import Tensor

from mwm.data.host import Images
from mwm.data.splits import LabeledImages
from mwm.models.answers import LOG_ZERO

LEAST_TOLD = 1e-7
"""What a probability of 0 counts as where its logit is wanted: about what float32 tells apart from 0 beside 1."""

POINTS_AT_A_TIME = 512
"""Images whose distances to all others are in memory at once."""


@dataclass(frozen=True, eq=False, slots=True)
class KeptAnswers:
    """Images with their true labels, the answers to them, and the number (n) of the image that each is a view of."""

    asked: LabeledImages[Images]
    answers: Tensor
    origin: Tensor

    def select(self, rows: Tensor) -> Self:
        """Those of the rows (bool n)."""
        return type(self)(self.asked.select(rows), self.answers[rows], self.origin[rows])


def named_labels(answers: Tensor) -> Tensor:
    """The class (n) that each answer names: the likeliest of log-probabilities (n C), or the label itself (n)."""
    return answers.argmax(1) if answers.ndim > 1 else answers


def mean_answer(answers: Sequence[Tensor], classes: int) -> Tensor:
    """Several answers to the same images as one: the mean probabilities (n C), or the label named most often (n).

    Of labels that are named equally often it is the first.
    """
    heard = torch.stack(list(answers))
    if heard.ndim > 2:
        return heard.logsumexp(0) - math.log(len(heard))
    return F.one_hot(heard, classes).sum(0).argmax(1)


def flattened(answers: Tensor) -> Tensor:
    """Log-probabilities (n C) in which all classes but the likeliest have the same: the mean of theirs."""
    first = answers.argmax(1, keepdim=True)
    others = answers.scatter(1, first, -torch.inf).logsumexp(1, keepdim=True) - math.log(answers.shape[1] - 1)
    return others.expand_as(answers).scatter(1, first, answers.gather(1, first))


def corrected(answers: Tensor, labels: Tensor) -> Tensor:
    """The answers, but certainty of the true label (n) in place of each that names another."""
    if answers.ndim == 1:
        return labels
    certain = torch.full_like(answers, LOG_ZERO).scatter(1, labels[:, None], 0.0)
    return torch.where((named_labels(answers) == labels)[:, None], answers, certain)


def agrees_with_neighbors(points: Tensor, labels: Tensor, *, origin: Tensor, neighbors: int) -> Tensor:
    """Whether no label is more frequent than its own (bool n) among the nearest `neighbors` of each point (n d).

    Distances are Euclidean. Views of the same image, those of one `origin` (n), are no neighbours of each other.
    """
    agrees, classes = [], int(labels.max()) + 1
    for rows in torch.split(torch.arange(len(points), device=points.device), POINTS_AT_A_TIME):
        distances = torch.cdist(points[rows], points)
        distances[origin[rows, None] == origin] = torch.inf
        distance, nearest = distances.topk(min(neighbors, len(points)), largest=False)
        votes = (F.one_hot(labels[nearest], classes) * distance.isfinite()[..., None]).sum(1)
        agrees.append(votes.gather(1, labels[rows, None]).squeeze(1) == votes.amax(1))
    return torch.cat(agrees)


def recovered_logits(answers: Tensor) -> Tensor:
    """Logits (n C) of mean 0 from log-probabilities (n C): those of the network but for a constant of each image.

    So Truong et al. (2021) recover them. A chance of nothing, as some forms of answers tell, counts as LEAST_TOLD.
    """
    told = torch.where(answers > LOG_ZERO / 2, answers, math.log(LEAST_TOLD))
    return told - told.mean(1, keepdim=True)
