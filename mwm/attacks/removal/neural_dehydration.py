"""Neural dehydration: what the weights remember of each class is drawn out of them, and unlearnt."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Annotated, ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from mwm.attacks.access import TargetFacts, WhiteBoxAccess
from mwm.attacks.base import check_batch_norm
from mwm.attacks.removal.few_images import FewImagesAttack
from mwm.attacks.removal.tuning import TaughtImages
from mwm.config.randomness import make_generator
from mwm.config.spec import Count, NonNegativeFloat, PositiveFloat, PositiveShare, Shown, spec
from mwm.data.images import to_float, to_uint8
from mwm.models.build import Normalize
from mwm.training.batchnorm import eval_statistics
from mwm.training.recipe import CONSTANT, Recipe
from mwm.training.step import Batch, Objective

PUBLISHED = Recipe(
    epochs=40,
    batch_size=128,
    lr=0.01,
    momentum=0.9,
    weight_decay=5e-4,
    schedule=CONSTANT,
)
LAST_RATE = 1e-4
"""Where the rate of an inversion ends."""


@spec
class Inversion:
    """How images of a class are made out of the weights: `images` of each class, by `steps` of Adam at the rate `lr`.

    Lowered is the cross-entropy of the class, plus `smoothness` times the mean squared difference of neighbours, plus
    `energy` times the length of all images over their number, plus `statistics` times how far the mean and the variance
    of what reaches each batch normalisation are from the running ones; all by images as the network normalises them.
    """

    images: Count = 250
    steps: Count = 1000
    lr: PositiveFloat = 0.1
    smoothness: NonNegativeFloat = 0.03
    energy: NonNegativeFloat = 0.01
    statistics: NonNegativeFloat = 0.1


@spec
class NeuralDehydration(FewImagesAttack):
    """Neural dehydration (Lu et al., 2024), its basic form: images made out of the weights are answered by nothing.

    `inversion` makes images of every class. Then each step learns a batch of the clean share, and, in one pass with it,
    as many made images, for which `weight` times the divergence of the answers from the uniform distribution is added,
    averaged over images and classes, as in the published code.
    """

    kind: Literal["neural_dehydration"] = "neural_dehydration"
    strength: ClassVar[str] = "weight"
    share: Annotated[PositiveShare, Shown("share {}")] = 1 / 60
    inversion: Annotated[Inversion, Shown("")] = Inversion()
    weight: Annotated[PositiveFloat, Shown("weight {}")] = 15.0
    recipe: Annotated[Recipe, Shown("")] = PUBLISHED

    def validate(self, facts: TargetFacts) -> None:
        """Raise ValueError for a term of statistics that the network does not keep."""
        super().validate(facts)
        if self.inversion.statistics:
            place, said = f"{facts.path}.inversion.statistics", f"{self.inversion.statistics:g}"
            check_batch_norm(place, said, facts, allowed=": must be 0")

    def made_images(self, access: WhiteBoxAccess) -> Tensor:
        """Images (uint8 n c h w) of all classes, one class after another, out of the weights."""
        _, *shape = access.images.images.shape
        size, device, made = (self.inversion.images, *shape), access.images.images.device, []
        with eval_statistics(access.model):
            for label in range(access.classes):
                drawn = torch.randn(size, generator=make_generator(access.seed, "inversion", label)).to(device)
                made.append(to_uint8(self._inverted(access.model, drawn, label)))
        return torch.cat(made)

    def _inverted(self, model: nn.Module, drawn: Tensor, label: int) -> Tensor:
        """Images (n c h w in [0, 1]) of a class, from where they begin: (tanh v + 1) / 2, of v as it was drawn."""
        how, v = self.inversion, drawn.requires_grad_()
        optimizer = torch.optim.Adam([v], lr=how.lr, betas=(0.5, 0.9))
        for step in range(how.steps):
            fall = (1 + math.cos(math.pi * step / how.steps)) / 2
            optimizer.param_groups[0]["lr"] = LAST_RATE + (how.lr - LAST_RATE) * fall
            (v.grad,) = torch.autograd.grad(inversion_loss(model, (v.tanh() + 1) / 2, label=label, how=how), v)
            optimizer.step()
        return (v.detach().tanh() + 1) / 2

    def objective(self, access: WhiteBoxAccess, images: TaughtImages) -> Objective:
        """The cross-entropy of clean images, and how sure the network is of those that were made."""
        del images
        made = self.made_images(access)

        def objective(model: nn.Module, batch: Batch, generator: torch.Generator) -> Tensor:
            count = len(batch.images)
            pick = torch.randint(len(made), (count,), generator=generator, device=made.device)
            with self.statistics_of(model):
                logits = model(torch.cat([batch.images, to_float(made[pick])]))
            return batch.cross_entropy(logits[:count]) + self.weight * uncertainty(logits[count:])

        return objective


def uncertainty(logits: Tensor) -> Tensor:
    """KL(uniform || answers), averaged over images and classes, of logits (n C)."""
    answers = logits.float().log_softmax(1)
    return (-math.log(answers.shape[1]) - answers).mean() / answers.shape[1]


def inversion_loss(model: nn.Module, images: Tensor, *, label: int, how: Inversion) -> Tensor:
    """What an inversion lowers, for images (n c h w in [0, 1]) that are to be of one class."""
    with statistics_distances(model) as distances:
        logits = model(images)
    x = next((layer for layer in model.modules() if isinstance(layer, Normalize)), nn.Identity())(images)
    rows, columns = x.diff(dim=2).square(), x.diff(dim=3).square()
    smoothness = 2 * (rows.mean() + columns.mean())
    energy = torch.linalg.vector_norm(x) / len(x)
    known = distances[: max(1, len(distances) - 2)]  # the published code leaves out the last two
    statistics = torch.stack(known).sum() if known else x.new_zeros(())
    wanted = torch.full((len(x),), label, device=x.device)
    terms: Tensor = how.smoothness * smoothness + how.energy * energy + how.statistics * statistics
    return F.cross_entropy(logits, wanted) + terms


@contextmanager
def statistics_distances(model: nn.Module) -> Iterator[list[Tensor]]:
    """How far the statistics of what reaches each batch normalisation are from the running ones, layer by layer."""
    distances: list[Tensor] = []

    def listen(layer: nn.Module, given: tuple[Tensor, ...]) -> None:
        assert isinstance(layer, _BatchNorm), "it listens to these alone"
        if layer.running_mean is None or layer.running_var is None:
            return
        x = given[0].transpose(0, 1).flatten(1)
        mean, var = x.mean(1) - layer.running_mean, x.var(1, correction=0) - layer.running_var
        distances.append(torch.linalg.vector_norm(mean) + torch.linalg.vector_norm(var))

    layers = [layer for layer in model.modules() if isinstance(layer, _BatchNorm)]
    with ExitStack() as listening:
        for layer in layers:
            listening.enter_context(layer.register_forward_pre_hook(listen))
        yield distances
