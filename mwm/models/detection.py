"""Detection of queries: images far from the data of whoever deploys a network are refused, or labelled by them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Annotated, Any, Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mwm.config.spec import Count, Shown, spec

LEAST_LOG = -100.0
"""The logarithm of a chance that counts as none: finite, and less than any that a float32 tells from 0."""


class Seen(NamedTuple):
    """What a detector judges images by: where each lies (n d), and the logits of the network itself (n C)."""

    points: Tensor
    logits: Tensor


@spec
class Detection:
    """How images are judged, and what becomes of those that are found far from the data.

    `knn`: the distance to the k-th of the `neighbors` among reference images, in `features` of the last layer, scaled
    to length 1 (Sun et al., 2022), or in `pixels`. `energy`: -logsumexp of the logits (Liu et al., 2020). What exceeds
    the threshold is answered with equal scores (`refuse`), or by its neighbours' labels (`relabel`).
    """

    method: Annotated[Literal["knn", "energy"], Shown(always=True)] = "knn"
    space: Literal["features", "pixels"] = "features"
    neighbors: Annotated[Count, Shown("k={}")] = 50
    action: Annotated[Literal["refuse", "relabel"], Shown(always=True)] = "refuse"

    @property
    def remembers(self) -> bool:
        """Whether reference images are needed."""
        return self.method == "knn" or self.action == "relabel"


class Detector(nn.Module):
    """The detector of a deployed network. What it has learnt are buffers, of any number of reference images.

    `references` (m d) are points, `labels` (int64 m) what the network took them for, -1 for nothing. Images whose
    `oddness` exceeds the `threshold` are turned away; before it has learnt anything, none are.
    """

    references: Tensor
    labels: Tensor
    threshold: Tensor

    def __init__(self, detection: Detection) -> None:
        super().__init__()
        self.detection = detection
        self.register_buffer("references", torch.zeros(0, 0))
        self.register_buffer("labels", torch.zeros(0, dtype=torch.int64))
        self.register_buffer("threshold", torch.tensor(torch.inf))

    def remember(self, points: Tensor, labels: Tensor) -> None:
        """Keep reference images: their points (m d) and labels (m)."""
        self.references, self.labels = points, labels

    def calibrate(self, oddness: Tensor, rejected: float) -> None:
        """Set the threshold such that a share of the calibration images (n), rounded down, lies above it."""
        kept = len(oddness) - int(rejected * len(oddness) + 1e-9)
        self.threshold = oddness.sort().values[kept - 1]

    def oddness(self, seen: Seen) -> Tensor:
        """How far images are from the data (n): larger is further."""
        if self.detection.method == "energy":
            return -seen.logits.logsumexp(1)
        distances: Tensor = self._nearest(seen.points).values
        return distances[:, -1]

    def rejects(self, seen: Seen) -> Tensor:
        """Which images are turned away (bool n)."""
        return self.oddness(seen) > self.threshold

    def forward(self, answers: Tensor, seen: Seen) -> Tensor:
        """Answers (n C), those to images that are turned away replaced."""
        relabels = self.detection.action == "relabel"
        instead = self.neighbor_labels(seen, answers.shape[1]) if relabels else torch.zeros_like(answers)
        return torch.where(self.rejects(seen)[:, None], instead.to(answers.dtype), answers)

    def neighbor_labels(self, seen: Seen, classes: int) -> Tensor:
        """The shares of the classes among the neighbours' labels (n C), as logarithms."""
        return log_shares(self.labels[self._nearest(seen.points).indices], classes)

    def _nearest(self, points: Tensor) -> Any:
        return torch.cdist(points, self.references).topk(self.detection.neighbors, largest=False)

    def _load_from_state_dict(self, state: Any, prefix: str, *rest: Any) -> None:
        for name, value in self._buffers.items():
            assert value is not None
            if (kept := state.get(prefix + name)) is not None:
                setattr(self, name, value.new_empty(kept.shape))
        super()._load_from_state_dict(state, prefix, *rest)


@dataclass
class LastLayer:
    """The layer that gives the logits, of all with weights the last one that was called: what it was given and gave."""

    given: Tensor | None = None
    came: Tensor | None = None

    def seen(self, images: Tensor, detection: Detection) -> Seen:
        """What there is to judge the images (n c h w) by that were shown."""
        assert self.given is not None, "no layer with weights was called"
        assert self.came is not None, "no layer with weights was called"
        pixels = detection.space == "pixels"
        points = images.flatten(1) if pixels else F.normalize(self.given.flatten(1).float())
        return Seen(points, self.came.flatten(1).float())


@contextmanager
def last_layer_heard(network: nn.Module) -> Iterator[LastLayer]:
    """Listen to a network: after it was asked, its last layer is known."""
    heard = LastLayer()

    def listen(_: nn.Module, given: tuple[Any, ...], came: Any) -> None:
        heard.given, heard.came = given[0], came

    weighted = [layer for layer in network.modules() if any(True for _ in layer.parameters(recurse=False))]
    with ExitStack() as listening:
        for layer in weighted:
            listening.enter_context(layer.register_forward_hook(listen))
        yield heard


def first_choices(answers: Tensor) -> Tensor:
    """The class that each of the answers (n C) names; -1 where all scores are equal."""
    return torch.where((answers != answers[:, :1]).any(1), answers.argmax(1), -1)


def log_shares(choices: Tensor, classes: int) -> Tensor:
    """The share that each class has of so many choices (n k), as a logarithm (n C); -1 is no choice.

    Where nothing was chosen all are equal.
    """
    votes = torch.stack([(choices == one).sum(1) for one in range(classes)], 1)
    return (votes / votes.sum(1, keepdim=True).clamp(min=1)).log().clamp(min=LEAST_LOG)
