"""Jacobian augmentation: few images, and those that a student's gradients make of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Annotated, ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mwm.attacks.access import Access, BlackBoxAccess, TargetFacts
from mwm.attacks.extraction.answers import named_labels
from mwm.attacks.extraction.rounds import Known, Lot, RoundsAttack, random_order
from mwm.attacks.sources import transfer_set
from mwm.config.randomness import make_generator
from mwm.config.spec import Count, PositiveFloat, Shown, spec
from mwm.data.host import Images, in_batches, select
from mwm.data.images import to_float, to_uint8
from mwm.data.splits import LabeledImages
from mwm.training.evaluation import eval_batch_size, eval_mode

REACH = 1.85
"""How far all moves together may reach, in `eps`: each is so much of it divided by their number."""

Predict = Callable[[Tensor], Tensor]
"""Logits (n C) of images (n c h w in [0, 1])."""


@spec
class JacobianAugmentation(RoundsAttack):
    """Ask few images, then those that a student of the answers makes of them (Papernot et al., 2017).

    `seed_images` at random are all that the attacker has. In each round a fresh student learns, and every image x that
    was asked gives new ones, with y the label that the victim named, until the budget or the `rounds` are spent:

    `plain` x + eps sign(grad CE(student(x), y)), and `self` the same with a minus; `top_k` and `random_target` one for
    each of `targets`, by `steps` moves down the cross-entropy of a target, each of 1.85 eps / steps, which stay within
    eps of x: of the student's likeliest other classes, or of classes that are drawn anew for each move (T-RND; Juuti et
    al., 2019). Of more images than `most_per_round`, so many are drawn. What is made is rounded to 8 bits.
    """

    held_field: ClassVar[str] = "seed_images"

    kind: Literal["jacobian_augmentation"] = "jacobian_augmentation"
    variant: Annotated[Literal["plain", "self", "top_k", "random_target"], Shown(always=True)] = "plain"
    seed_images: Annotated[Count, Shown("{} seeds")] = 100
    rounds: Annotated[Count | None, Shown("{} rounds")] = None
    most_per_round: Annotated[Count | None, Shown("of {} each")] = None
    eps: Annotated[PositiveFloat, Shown("eps {}", fraction=255)] = 0.1
    steps: Annotated[Count, Shown("{} steps")] = 8
    targets: Annotated[Count, Shown("{} targets")] = 3

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check_below_budget("seed_images", self.seed_images)
        for name, usual in (("steps", 8), ("targets", 3)):
            if not self._targeted and (value := getattr(self, name)) != usual:
                raise ValueError(f"{name}: {value} is not allowed: {self.variant} makes one move without a target")

    @property
    def _targeted(self) -> bool:
        return self.variant in ("top_k", "random_target")

    def validate(self, facts: TargetFacts) -> None:
        """Raise ValueError for more targets than there are other classes."""
        super().validate(facts)
        if self.variant == "top_k" and facts.dataset is not None and self.targets >= facts.dataset.classes:
            reason = f"there are {facts.dataset.classes - 1} other classes"
            raise ValueError(f"{facts.path}.targets: {self.targets} is not allowed: {reason}")

    def images_held(self, access: Access) -> int:
        """The seeds."""
        del access
        return self.seed_images

    def transfer_images(self, access: BlackBoxAccess) -> LabeledImages[Images]:
        """The seeds."""
        return transfer_set(access.images, self.seed_images, make_generator(access.seed, "budget"))

    def lots(self) -> list[int]:
        """The seeds, and what each round makes of all images before, as far as the budget goes."""
        lots, asked = [self.seed_images], self.seed_images
        while asked < self.query_budget and (self.rounds is None or len(lots) <= self.rounds):
            most = min(asked, self.most_per_round or asked) * (self.targets if self._targeted else 1)
            lots.append(min(most, self.query_budget - asked))
            asked += lots[-1]
        return lots

    def choose(self, size: int, known: Known) -> Lot:
        """The seeds, or what is made of images that were asked."""
        if known.student is None:
            return Lot(random_order(known.access)[:size])
        each = self.targets if self._targeted else 1
        drawn = torch.randperm(len(known.asked), generator=known.generator("origins"))[: -(-size // each)]
        rows = drawn.sort().values.to(known.pool.device)
        images, labels = select(known.asked.images(known.pool), rows), named_labels(known.asked.answers[rows])
        made, draw, count = [], known.generator("targets", device=known.pool.device), eval_batch_size(images)
        with eval_mode(known.student) as student, torch.enable_grad():
            for batch, named in zip(in_batches(images, count), torch.split(labels, count), strict=True):
                made.append(torch.stack([to_uint8(x) for x in self._made(student, to_float(batch), named, draw=draw)]))
        return Lot(torch.cat(made, 1).flatten(0, 1)[:size])

    def _made(self, student: nn.Module, images: Tensor, labels: Tensor, *, draw: torch.Generator) -> Iterator[Tensor]:
        """What is made of images (n c h w in [0, 1]): one after another of each."""

        def predict(x: Tensor) -> Tensor:
            logits: Tensor = student(x).float()
            return logits

        def drawn() -> Tensor:
            return torch.randint(classes, (len(images),), generator=draw, device=images.device)

        if not self._targeted:
            yield one_move(predict, images, labels, size=self.eps if self.variant == "plain" else -self.eps)
            return
        logits = predict(images).detach()
        classes = logits.shape[1]
        others = logits.scatter(1, labels[:, None], -torch.inf).argsort(dim=1, descending=True, stable=True)
        for place in range(self.targets):
            target = drawn if self.variant == "random_target" else partial(others.select, 1, place)
            yield moved_towards(predict, images, target, eps=self.eps, steps=self.steps)


def one_move(predict: Predict, images: Tensor, labels: Tensor, *, size: float) -> Tensor:
    """Images (n c h w in [0, 1]) a move up the cross-entropy of labels (n), or down if its size is negative."""
    return (images + size * _slope(predict, images, labels).sign()).clamp(0, 1)


def moved_towards(predict: Predict, images: Tensor, target: Callable[[], Tensor], *, eps: float, steps: int) -> Tensor:
    """Images (n c h w in [0, 1]) after moves down the cross-entropy of targets (n), which each move asks for anew.

    They stay within `eps` of where they began, pixel by pixel.
    """
    x = images
    for _ in range(steps):
        x = x - REACH * eps / steps * _slope(predict, x, target()).sign()
        x = torch.clamp(x, images - eps, images + eps).clamp(0, 1)
    return x


def _slope(predict: Predict, images: Tensor, labels: Tensor) -> Tensor:
    x = images.detach().requires_grad_()
    (slope,) = torch.autograd.grad(F.cross_entropy(predict(x), labels, reduction="sum"), x)
    return slope
