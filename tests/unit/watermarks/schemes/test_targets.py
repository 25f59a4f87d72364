"""What is taught beside hard labels: a mixture of the secret and the true one, for queries or for whole classes."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from mwm.data.images import Augmentation
from mwm.data.splits import LabeledImages
from mwm.training.step import Batch
from mwm.watermarks.partition import draw_class_cells, partition
from mwm.watermarks.queries import QuerySet, draw_queries, draw_wrong_labels
from mwm.watermarks.schemes import Confusion, Margin, TriggerSet

SECRET = bytes(range(32))
SHOWN = Augmentation(flip=False, pad=1)
CLASSES = 5


def source(n: int = 30) -> LabeledImages:
    drawn = torch.Generator().manual_seed(0)
    return LabeledImages(
        torch.randint(256, (n, 1, 4, 4), generator=drawn, dtype=torch.uint8), torch.arange(n) % CLASSES
    )


class Linear(torch.nn.Module):
    """A network whose logits (n C) are plain enough to be computed by hand."""

    def __init__(self) -> None:
        super().__init__()
        drawn = torch.Generator().manual_seed(1)
        self.weight = torch.nn.Parameter(torch.randn(16, CLASSES, generator=drawn, dtype=torch.float64))

    def forward(self, images: Tensor) -> Tensor:
        return images.double().flatten(1) @ self.weight


def soft_loss(logits: Tensor, targets: Tensor) -> Tensor:
    """Cross-entropy against chances, by its definition (n)."""
    return -(targets * (logits.exp() / logits.exp().sum(1, keepdim=True)).log()).sum(1)


def mixed(labels: Tensor, truth: Tensor, mass: float) -> Tensor:
    eye = torch.eye(CLASSES, dtype=torch.float64)
    return mass * eye[labels] + (1 - mass) * eye[truth]


@pytest.mark.parametrize("batchnorm", ["clean", "joint"])
@pytest.mark.parametrize("mass", [0.3, 1.0])
def test_queries_are_taught_a_mixture_of_the_secret_label_and_the_true_one(mass: float, batchnorm: Any) -> None:
    queries = draw_queries(source(), num=6, classes=CLASSES, augmentation=SHOWN, secret=SECRET)
    clean, model = source(), Linear()
    batch = Batch(clean.images / 255, clean.labels, torch.arange(len(clean)))
    scheme = TriggerSet(num_queries=6, mass=mass, weight=0.7, queries_per_step="all", batchnorm=batchnorm)
    loss = scheme.objective(queries)(model, batch, torch.Generator())
    first = soft_loss(model(batch.images), mixed(batch.labels, batch.labels, 1))
    second = soft_loss(model(queries.float_images), mixed(queries.labels, queries.truth, mass))
    assert loss.item() == pytest.approx(torch.cat([first, 0.7 * second]).mean().item(), rel=1e-12)


def test_the_ascent_climbs_the_loss_of_the_mixture() -> None:
    queries, model = draw_queries(source(), num=6, classes=CLASSES, augmentation=SHOWN, secret=SECRET), Linear()
    scheme = Margin(num_queries=6, mass=0.3, steps=1, step_size=1 / 255)
    moved = scheme.perturbed_queries(model, queries)
    x = queries.float_images.requires_grad_()
    (slope,) = torch.autograd.grad(soft_loss(model(x), mixed(queries.labels, queries.truth, 0.3)).sum(), x)
    assert torch.equal(moved, (x.detach() + slope.sign() / 255).clamp(0, 1))
    hard = Margin(num_queries=6, steps=1, step_size=1 / 255).perturbed_queries(model, queries)
    assert not torch.equal(moved, hard)


def test_confusion_teaches_every_image_of_a_class_a_little_of_its_secret_class() -> None:
    scheme, clean, model = Confusion(mass=0.2), source(), Linear()
    key = scheme.draw(clean, classes=CLASSES, augmentation=SHOWN, secret=SECRET)
    secret_class = draw_wrong_labels(SECRET, torch.arange(CLASSES), CLASSES)
    batch = Batch(clean.images / 255, clean.labels, torch.arange(len(clean)))
    loss = scheme.objective(key)(model, batch, torch.Generator())
    targets = mixed(secret_class[batch.labels], batch.labels, 0.2)
    assert loss.item() == pytest.approx(soft_loss(model(batch.images), targets).mean().item(), rel=1e-12)


def test_a_key_of_classes_is_a_cell_for_each_class_on_the_images_of_any_key() -> None:
    clean = source()
    key = draw_class_cells(clean, classes=CLASSES, augmentation=SHOWN, secret=SECRET)
    plain = draw_queries(clean, num=len(clean), classes=CLASSES, augmentation=SHOWN, secret=SECRET)
    assert torch.equal(key.images, plain.images), "a control that is asked one key is asked the other"
    assert key.cells is not None
    assert torch.equal(key.cells, key.truth)
    assert torch.equal(key.cell_truth, torch.arange(CLASSES))
    assert torch.equal(key.cell_labels, draw_wrong_labels(SECRET, torch.arange(CLASSES), CLASSES))
    assert (key.cell_labels != key.cell_truth).all()
    assert torch.equal(key.labels, key.cell_labels[key.truth])
    assert QuerySet(**key.tensors(), second=None).digest() == key.digest()


def test_parts_of_a_class_are_cut_by_a_secret_property_of_its_images() -> None:
    clean, parts = source(60), 3
    key = draw_class_cells(clean, classes=CLASSES, augmentation=SHOWN, secret=SECRET, parts=parts)
    other = draw_class_cells(clean, classes=CLASSES, augmentation=SHOWN, secret=SECRET[::-1], parts=parts)
    assert key.cells is not None
    assert torch.bincount(key.cells).tolist() == [4] * parts * CLASSES
    assert torch.equal(key.cell_truth, torch.arange(CLASSES).repeat(parts))
    assert torch.equal(key.cell_labels, draw_wrong_labels(SECRET, key.cell_truth, CLASSES))
    first, second = (partition(one.images, one.truth, classes=CLASSES, parts=parts) for one in (key, other))
    assert torch.equal(first(key.float_images, key.truth), key.cells)
    assert not torch.allclose(first.direction, second.direction), "the direction does not follow from the key"
    bright = first.direction.float()[None, None]
    darker, lighter = (first(x, torch.tensor([0])) for x in (-bright, bright))
    assert darker.item() == 0
    assert lighter.item() == (parts - 1) * CLASSES


def test_each_part_of_a_class_is_taught_its_own_secret_class() -> None:
    scheme, clean, model = Confusion(mass=0.2, cells_per_class=2), source(60), Linear()
    key = scheme.draw(clean, classes=CLASSES, augmentation=Augmentation(), secret=SECRET)
    assert key.cells is not None
    batch = Batch(key.float_images, key.truth, torch.arange(len(key)))
    loss = scheme.objective(key)(model, batch, torch.Generator())
    targets = mixed(key.cell_labels[key.cells], key.truth, 0.2)
    assert loss.item() == pytest.approx(soft_loss(model(batch.images), targets).mean().item(), rel=1e-12)


def test_a_class_without_an_image_is_told() -> None:
    few = source(CLASSES - 1)
    with pytest.raises(ValueError, match="class 4 has 0 images among 4 queries; 1 are needed"):
        draw_class_cells(few, classes=CLASSES, augmentation=SHOWN, secret=SECRET)
