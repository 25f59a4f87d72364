"""How much a student could learn from images that were not asked yet."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from mwm.attacks.extraction.answers import POINTS_AT_A_TIME
from mwm.data.host import Images, in_batches
from mwm.data.images import to_float
from mwm.training.evaluation import eval_batch_size, eval_mode

MOST_STEPS, OVERSHOOT = 50, 0.02
"""How often a boundary is taken for a plane, and by which share it is overstepped (Moosavi-Dezfooli et al., 2016)."""


def entropy(logits: Tensor) -> Tensor:
    """How undecided each answer is (n, in nats), from logits (n C)."""
    chances = logits.log_softmax(1)
    return -(chances.exp() * chances).sum(1)


def k_center(points: Tensor, centers: Tensor, count: int) -> Tensor:
    """The rows (`count`) of points (n d) that greedily cover them: each is farthest from all centres (m d) so far.

    Distances are Euclidean; of equals it is the first (Gonzalez, 1985; Sener and Savarese, 2018).
    """
    distance = torch.full((len(points),), torch.inf, dtype=points.dtype, device=points.device)
    for some in torch.split(centers, POINTS_AT_A_TIME) if len(centers) else ():
        distance = torch.minimum(distance, torch.cdist(points, some).amin(1))
    chosen = []
    for _ in range(count):
        farthest = distance.argmax()
        chosen.append(farthest)
        distance = torch.minimum(distance, (points - points[farthest]).norm(dim=1))
        distance[farthest] = -1.0  # or it would be taken again where all others are as near
    return torch.stack(chosen)


def boundary_distances(model: nn.Module, images: Images) -> Tensor:
    """How far each image (uint8 n c h w) is from where a network changes its mind (n): see `deepfool`."""

    def predict(x: Tensor) -> Tensor:
        logits: Tensor = model(x).float()
        return logits

    with eval_mode(model), torch.enable_grad():
        batches = in_batches(images, eval_batch_size(images))
        return torch.cat([deepfool(predict, to_float(batch)) for batch in batches])


def deepfool(predict: Callable[[Tensor], Tensor], images: Tensor) -> Tensor:
    """The length (n) of the moves that change the label of images (n c h w), as DeepFool finds them.

    Each move goes to the nearest boundary as if all classes were linear (Moosavi-Dezfooli et al., 2016); `predict`
    gives logits (n C). Pixels may leave [0, 1]. Infinite where no move changed the label.
    """
    moved, reached = torch.zeros_like(images), torch.zeros(len(images), dtype=torch.bool, device=images.device)
    with torch.no_grad():
        labels = predict(images).argmax(1)
    for _ in range(MOST_STEPS + 1):
        rows = (~reached).nonzero().squeeze(1)
        if not len(rows):
            break
        step, held = _to_nearest_plane(predict, images[rows] + (1 + OVERSHOOT) * moved[rows], labels[rows])
        reached[rows] = ~held
        moved[rows] += step * held[:, None, None, None]
    length: Tensor = moved.flatten(1).norm(dim=1)
    return length.where(reached, torch.inf)


def _to_nearest_plane(predict: Callable[[Tensor], Tensor], images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """The move of each image to the nearest boundary of its label, were it a plane; and whether it holds the label."""
    x = images.detach().requires_grad_()
    logits = predict(x)
    own, held = logits.gather(1, labels[:, None]).squeeze(1), logits.argmax(1) == labels
    nearest, step = torch.full_like(own, torch.inf), torch.zeros_like(images)
    for other in range(logits.shape[1]):
        ahead = logits[:, other] - own
        (slope,) = torch.autograd.grad(ahead.sum(), x, retain_graph=True)
        squared = slope.flatten(1).square().sum(1)
        distance = (ahead.abs() / squared.sqrt()).detach()
        nearer = (other != labels) & (squared > 0) & (distance < nearest)
        size = (ahead.abs() / squared).detach().nan_to_num()
        step = torch.where(nearer[:, None, None, None], size[:, None, None, None] * slope, step)
        nearest = torch.where(nearer, distance, nearest)
    return step, held
