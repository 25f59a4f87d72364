"""Detection of queries: distances and energies by plain loops, thresholds that reject what was asked for, shares."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from mwm.models.detection import (
    LEAST_LOG,
    Detection,
    Detector,
    Seen,
    first_choices,
    last_layer_heard,
    log_shares,
)

CLASSES = 4


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def detector(**fields: Any) -> Detector:
    """One that remembers forty points, and rejects whatever is further than 1."""
    found = Detector(Detection(**fields))
    labels = torch.randint(CLASSES, (40,), generator=torch.Generator().manual_seed(1))
    found.remember(drawn(40, 5, seed=2), labels)
    found.threshold = torch.tensor(1.0)
    return found


def plain_neighbors(point: list[float], references: Tensor) -> list[tuple[float, int]]:
    """The distance to each reference and its number, the nearest first."""
    return sorted((math.dist(point, one), place) for place, one in enumerate(references.tolist()))


@pytest.mark.parametrize("k", [1, 3, 40])
def test_the_kth_neighbor_is_that_of_a_plain_loop(k: int) -> None:
    one, points = detector(neighbors=k), drawn(12, 5)
    found = one.oddness(Seen(points, drawn(12, CLASSES)))
    for point, distance in zip(points.tolist(), found.tolist(), strict=True):
        assert distance == pytest.approx(plain_neighbors(point, one.references)[k - 1][0], rel=1e-4)


def test_the_energy_is_that_of_a_plain_loop() -> None:
    logits = 5 * drawn(12, CLASSES)
    found = Detector(Detection(method="energy")).oddness(Seen(drawn(12, 5), logits))
    for row, energy in zip(logits.tolist(), found.tolist(), strict=True):
        assert energy == pytest.approx(-math.log(sum(math.exp(one) for one in row)), rel=1e-5)


@pytest.mark.parametrize("action", ["refuse", "relabel"])
@pytest.mark.parametrize("method", ["knn", "energy"])
def test_what_is_too_far_is_answered_otherwise_and_nothing_else(action: Any, method: Any) -> None:
    one, answers = detector(action=action, method=method, neighbors=5), drawn(30, CLASSES)
    seen = Seen(drawn(30, 5, seed=3), drawn(30, CLASSES, seed=4))
    one.threshold = one.oddness(seen).median()
    odd, found = one.oddness(seen) > one.threshold, one(answers, seen)
    assert 0 < odd.sum() < 30
    assert torch.equal(one.rejects(seen), odd)
    assert torch.equal(found[~odd], answers[~odd])
    for point, row in zip(seen.points[odd].tolist(), found[odd].tolist(), strict=True):
        if action == "refuse":
            assert row == [0.0] * CLASSES
            continue
        near = [int(one.labels[place]) for _, place in plain_neighbors(point, one.references)[:5]]
        for label, value in enumerate(row):
            assert value == pytest.approx(math.log(near.count(label) / 5) if label in near else LEAST_LOG, rel=1e-6)


@pytest.mark.parametrize("share", [0.0, 0.05, 0.1, 0.29, 0.5, 0.99])
@pytest.mark.parametrize("count", [1, 10, 100, 333])
def test_the_threshold_rejects_the_share_that_was_asked_for(share: float, count: int) -> None:
    one, logits = Detector(Detection(method="energy")), drawn(count, CLASSES)
    seen = Seen(drawn(count, 5), logits)
    assert not one.rejects(seen).any(), "nothing was learnt yet"
    one.calibrate(one.oddness(seen), share)
    assert int(one.rejects(seen).sum()) == math.floor(round(share * count, 6))


def test_what_is_remembered_is_read_from_a_state() -> None:
    one, other = detector(neighbors=3), Detector(Detection(neighbors=3))
    other.load_state_dict(one.state_dict())
    points = Seen(drawn(9, 5), drawn(9, CLASSES))
    assert torch.equal(other.oddness(points), one.oddness(points))
    fresh = Detector(Detection(neighbors=3))
    fresh.load_state_dict(one.state_dict(), assign=True)
    assert fresh.references.data_ptr() == one.references.data_ptr()
    other.load_state_dict(Detector(Detection()).state_dict())
    assert other.references.shape == (0, 0)


def test_equal_scores_are_no_choice() -> None:
    answers = torch.tensor([[0.0, 0, 0], [1, 2, 2], [-1, -1, -1], [3, 0, 3], [-torch.inf, 0, 0]])
    assert first_choices(answers).tolist() == [-1, 1, -1, 0, 1]


def test_shares_are_counted_without_what_is_no_choice() -> None:
    found = log_shares(torch.tensor([[0, 0, 2, 1], [1, -1, -1, 1], [-1, -1, -1, -1]]), 3).exp()
    torch.testing.assert_close(found[:2], torch.tensor([[0.5, 0.25, 0.25], [0, 1, 0]]))
    assert first_choices(found).tolist() == [0, 1, -1]


class Branched(nn.Module):
    """A network whose last layer is not the last of its modules."""

    def __init__(self) -> None:
        super().__init__()
        self.head, self.body = nn.Linear(6, CLASSES), nn.Linear(8, 6)

    def forward(self, images: Tensor) -> Tensor:
        found: Tensor = self.head(self.body(images.flatten(1)).relu())
        return found.log_softmax(1)


def test_the_last_layer_that_is_called_is_heard() -> None:
    network, images = Branched(), drawn(7, 2, 2, 2)
    with last_layer_heard(network) as heard:
        network(images)
    given = network.body(images.flatten(1)).relu()
    features, pixels = (heard.seen(images, Detection(space=space)) for space in ("features", "pixels"))
    torch.testing.assert_close(features.points, given / given.norm(dim=1, keepdim=True))
    torch.testing.assert_close(features.logits, network.head(given))
    assert torch.equal(pixels.points, images.flatten(1))
    assert not any(layer._forward_hooks for layer in network.modules()), "somebody listens on"
