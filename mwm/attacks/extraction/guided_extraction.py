"""Guided extraction (GuidExt): distillation that few true labels correct where the victim contradicts them."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mwm.attacks.access import BlackBoxAccess, Target, TargetFacts
from mwm.attacks.base import image_count
from mwm.attacks.extraction.answers import named_labels, recovered_logits
from mwm.attacks.extraction.black_box import Lesson
from mwm.attacks.extraction.student import StudentAttack
from mwm.attacks.sources import is_foreign
from mwm.config.randomness import make_generator
from mwm.config.spec import PositiveFloat, PositiveShare, Share, Shown, spec
from mwm.data.host import Images
from mwm.data.splits import LabeledImages
from mwm.oracle.oracle import log_probabilities
from mwm.training.recipe import Recipe
from mwm.training.state import TrainState
from mwm.training.step import Batch, Objective

UNKNOWN = -1
"""What stands for a true label that the attacker does not know."""

LEAST = 1e-12
"""What a squared length is taken for where it is nothing."""


@spec
class GuidedExtraction(StudentAttack):
    """Distil the victim, and correct it where it contradicts the few true labels that are known (GuidExt).

    All images are learnt by KL(p_F || p_S) at `temperature`. Of a share of the images, `labeled_share`, the attacker
    knows the true label y. Where the victim's first choice is another one, it learns KL(t || p_S) besides, with
    t = beta m onehot(y) + (1 - beta) F(x), divided by its sum; m is the largest logit of class y that the victim's
    answers to the batch tell, and 1 at least. Both are sums over images, divided by the size of the batch. They are
    weighted by the multiple-gradient descent algorithm: c and 1 - c, by which the sum of the two gradients of the
    student's weights is shortest (Sener and Koltun, 2018), after each gradient was divided by what `normalization`
    says: nothing (`none`), its length (`l2`), its loss (`loss`) or both (`loss+`). Where nothing is corrected in a
    batch, it is distillation.
    """

    kind: Literal["guided_extraction"] = "guided_extraction"
    labels: Annotated[Literal["soft"], Shown(always=True)] = "soft"
    temperature: Annotated[PositiveFloat, Shown("T={}")] = 20.0
    beta: Annotated[Share, Shown("beta={}")] = 0.4
    labeled_share: Annotated[PositiveShare, Shown("{} labeled")] = 0.1
    normalization: Annotated[Literal["none", "l2", "loss", "loss+"], Shown("gradients by {}")] = "loss+"

    def __post_init__(self) -> None:
        super().__post_init__()
        if is_foreign(self.source):
            raise ValueError(f"source {self.source.kind!r} is not allowed: true labels need victim_data or disjoint")
        if self.own_labels != "ignored":
            reason = "few true labels are known, and correct what is learnt: must be 'ignored'"
            raise ValueError(f"own_labels: {self.own_labels!r} is not allowed: {reason}")
        if self.recipe is not None and self.recipe.compile:
            reason = "compiled code forgets what the gradients of two losses share: must be false"
            raise ValueError(f"recipe.compile: true is not allowed: {reason}")

    def knows_labels(self) -> bool:
        """Those of a share."""
        return True

    def _recipe_like(self, victim: Target) -> Recipe:
        """As of any student; a network is not compiled here because the victim's was."""
        return replace(super()._recipe_like(victim), compile=False)

    def validate(self, facts: TargetFacts) -> None:
        """Raise ValueError for a share of less than one image."""
        super().validate(facts)
        held = self.query_budget or image_count(self.source, facts)
        if held is not None and round(self.labeled_share * held) < 1:
            reason = f"of {held} images none is labeled"
            raise ValueError(f"{facts.path}.labeled_share: {self.labeled_share} is not allowed: {reason}")

    def transfer_images(self, access: BlackBoxAccess) -> LabeledImages[Images]:
        """The images that are asked for, with the labels of a share of them, and -1 in place of all others."""
        images = super().transfer_images(access)
        count = round(self.labeled_share * len(images))
        order = torch.randperm(len(images), generator=make_generator(access.seed, "labeled"))
        unknown = order[count:].to(images.labels.device)
        return LabeledImages(images.images, images.labels.index_fill(0, unknown, UNKNOWN))

    def loss(self, answers: Tensor, logits: Tensor, truth: Tensor) -> Tensor:
        """The two losses (2): how far the student is from the answers, and from what it is corrected to."""
        size, classes = logits.shape
        contradicted = self.contradicted(answers, truth)
        towards = corrected_target(answers, truth.clamp(min=0), beta=self.beta)
        if self.label_smoothing:
            towards = (1 - self.label_smoothing) * towards + self.label_smoothing / classes
        student = log_probabilities(logits, self.temperature)
        far = F.kl_div(student, towards, reduction="none").sum(1)
        learnt = self.answer_loss(answers, logits, temperature=self.temperature)
        return torch.stack([learnt, torch.where(contradicted, far, 0.0).sum() / size])

    def contradicted(self, answers: Tensor, truth: Tensor) -> Tensor:
        """Where the true label is known, and an answer names another (bool n)."""
        return (truth != UNKNOWN) & (named_labels(answers) != truth)

    def objective(self, lesson: Lesson, access: BlackBoxAccess, training: TrainState) -> Objective:
        """The two losses, weighted so that a step lowers both."""
        del access, training
        _, ask = lesson

        def objective(model: nn.Module, batch: Batch, generator: torch.Generator) -> Tensor:
            del generator
            answers = self.as_taught(ask(batch))
            losses = self.loss(answers, model(batch.images), batch.labels)
            share = self._first_share(losses, model)
            share = torch.where(self.contradicted(answers, batch.labels).any(), share, 1.0)
            return share * losses[0] + (1 - share) * losses[1]

        return objective

    def _first_share(self, losses: Tensor, model: nn.Module) -> Tensor:
        """The weight of the first of two losses, a constant to their gradients."""
        weights = [weight for weight in model.parameters() if weight.requires_grad]
        slopes = []
        for loss in losses:
            grads = torch.autograd.grad(loss, weights, retain_graph=True, materialize_grads=True)
            slope, known = torch.cat([grad.flatten() for grad in grads]), loss.detach()
            slopes.append(slope / self._divisor(slope, known).clamp(min=LEAST))
        return min_norm_weight(*slopes)

    def _divisor(self, slope: Tensor, loss: Tensor) -> Tensor:
        match self.normalization:
            case "none":
                return torch.ones_like(loss)
            case "loss":
                return loss
        length: Tensor = torch.linalg.vector_norm(slope)
        return length if self.normalization == "l2" else loss * length


def corrected_target(answers: Tensor, truth: Tensor, *, beta: float) -> Tensor:
    """What a contradicted label is taught as (n C), from log-probabilities (n C) and true labels (n); rows add up to 1.

    (beta m onehot(y) + (1 - beta) p) / (beta m + 1 - beta), with m the largest recovered logit of class y, at least 1.
    """
    largest = recovered_logits(answers).amax(0).clamp(min=1)
    certain = F.one_hot(truth, answers.shape[1]) * largest
    blended = beta * certain + (1 - beta) * answers.exp()
    return blended / blended.sum(1, keepdim=True)


def min_norm_weight(first: Tensor, second: Tensor) -> Tensor:
    """The c in [0, 1] by which |c first + (1 - c) second| is least, of two vectors; 1/2 where they are the same."""
    apart = second - first
    length = apart.dot(apart)
    least = second.dot(apart) / length.clamp(min=torch.finfo(length.dtype).tiny)
    return torch.where(length > 0, least.clamp(0, 1), 0.5)
