"""Two watermarks in one network: a step by its definition, and two keys that share neither image nor label."""

from __future__ import annotations

import hmac
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mwm.config.randomness import secret_from_seed
from mwm.data.images import Augmentation
from mwm.data.splits import LabeledImages
from mwm.models.networks import Cnn
from mwm.watermarks.queries import QuerySet, draw_wrong_labels
from mwm.watermarks.schemes import Combined, Confusion, Margin, TriggerSet
from tests.unit.watermarks.schemes.test_catalogue import as_batch, ascended, batch, key, network, put_back, seeded

SECRET = bytes(range(32))
CLASSES, IMAGES = 5, 60


def source() -> LabeledImages:
    """Images of which no two are alike."""
    images = torch.randint(256, (IMAGES, 1, 4, 4), generator=seeded(0), dtype=torch.uint8)
    return LabeledImages(images, torch.arange(IMAGES) % CLASSES)


def drawn(scheme: Any, secret: bytes = SECRET) -> QuerySet:
    found: QuerySet = scheme.draw(source(), classes=CLASSES, augmentation=Augmentation(), secret=secret)
    return found


def pixels(queries: QuerySet | LabeledImages) -> list[bytes]:
    return [image.numpy().tobytes() for image in queries.images]


def plain_loss(model: nn.Module, chances: Tensor, x: Tensor, *, t: Tensor, scheme: Combined) -> Tensor:
    """The loss of a step on queries x with labels t: clean images have `chances` (n C), batch norm its mode."""
    images, how = batch()[0], scheme.queries
    if how.batchnorm == "joint":
        with put_back(model):
            x = ascended(lambda moved: model(torch.cat([images, moved]))[len(images) :], x, t, how)
        first, second = model(torch.cat([images, x])).split([len(images), len(x)])
    elif how.batchnorm == "reference":
        first = model(images)
        second = model(ascended(model, x, t, how))
    else:
        first = model(images)
        with put_back(model):
            x = ascended(model.eval() if how.batchnorm == "frozen" else model, x, t, how)
        with put_back(model.train()):
            second = model(x)
    clean = -(chances * first.log_softmax(1)).sum(1)
    return torch.cat([clean, how.weight * F.cross_entropy(second, t, reduction="none")]).mean()


@pytest.mark.parametrize("batchnorm", ["reference", "clean", "frozen", "joint"])
@pytest.mark.parametrize("kind", [Margin, TriggerSet])
def test_a_step_is_the_mean_over_mixed_clean_losses_and_query_losses(kind: Any, batchnorm: Any) -> None:
    scheme = Combined(
        queries=kind(num_queries=10, queries_per_step=4, weight=0.7, batchnorm=batchnorm), confusion=Confusion(mass=0.2)
    )
    queries, (images, labels) = key(), batch()
    assert queries.second is not None
    ours, plain = (network(Cnn(width=4, depth=2)).double().train() for _ in range(2))
    loss = scheme.objective(queries)(ours, as_batch(images, labels), seeded(7))
    confused = dict(zip(queries.second.truth.tolist(), queries.second.labels.tolist(), strict=True))
    eye = torch.eye(CLASSES, dtype=torch.float64)
    chances = 0.8 * eye[labels] + 0.2 * eye[torch.tensor([confused[y] for y in labels.tolist()])]
    pick = torch.randint(10, (4,), generator=seeded(7))
    expected = plain_loss(plain, chances, queries.float_images[pick], t=queries.labels[pick], scheme=scheme)
    assert loss.item() == pytest.approx(expected.item(), abs=1e-12)
    slopes = (torch.autograd.grad(one, list(model.parameters())) for one, model in ((loss, ours), (expected, plain)))
    assert max(float((a - b).abs().max()) for a, b in zip(*slopes, strict=True)) < 1e-12
    assert all(torch.equal(a, b) for a, b in zip(ours.buffers(), plain.buffers(), strict=True))


@pytest.mark.parametrize("queries", [TriggerSet(num_queries=12), Margin(num_queries=12)])
def test_the_first_key_is_that_of_its_scheme_alone(queries: Any) -> None:
    both, alone = drawn(Combined(queries=queries)), drawn(queries)
    assert both.digest() == alone.digest()
    assert alone.second is None


def test_no_image_is_in_both_keys_and_every_image_in_one() -> None:
    both = drawn(Combined(queries=Margin(num_queries=12)))
    first, second = both.keys
    assert not {*pixels(first)} & {*pixels(second)}
    assert sorted(pixels(first) + pixels(second)) == sorted(pixels(source()))
    assert both.to("cpu").keys[1].digest() == second.digest(), "a second key goes where the first one goes"


def test_the_labels_of_the_second_key_follow_from_a_secret_of_its_own() -> None:
    _, second = drawn(Combined(queries=Margin(num_queries=12), confusion=Confusion(cells_per_class=2))).keys
    own = hmac.digest(SECRET, b"confusion", "sha256")
    assert torch.equal(second.cell_labels, draw_wrong_labels(own, torch.arange(CLASSES).repeat(2), CLASSES))


def test_labels_of_the_two_keys_are_independent() -> None:
    truth, seeds = torch.zeros(1, dtype=torch.int64), 3000
    counts = torch.zeros(CLASSES, CLASSES)
    for seed in range(seeds):
        secret = secret_from_seed(seed)
        one, other = (
            draw_wrong_labels(s, truth, CLASSES) for s in (secret, hmac.digest(secret, b"confusion", "sha256"))
        )
        counts[one, other] += 1
    expected = seeds / (CLASSES - 1) ** 2
    distance = ((counts[1:, 1:] - expected) ** 2 / expected).sum()
    assert distance < 37.7, "chi-square of 15 degrees of freedom, p = 0.001"
