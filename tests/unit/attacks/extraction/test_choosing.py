"""What a student could learn most from: entropy, k-centre and DeepFool against brute force."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from mwm.attacks.extraction.choosing import MOST_STEPS, OVERSHOOT, boundary_distances, deepfool, entropy, k_center
from mwm.data.images import to_float
from tests.helpers.stealing import CLASSES, SHAPE, some, victim


def test_entropy_is_that_of_a_plain_sum() -> None:
    logits = 3 * torch.randn(20, CLASSES, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    for row, found in zip(logits.tolist(), entropy(logits).tolist(), strict=True):
        chances = [math.exp(z) / sum(map(math.exp, row)) for z in row]
        assert found == pytest.approx(-sum(p * math.log(p) for p in chances))


def covered(points: list[list[float]], centers: list[list[float]], count: int) -> list[int]:
    """Greedy k-centre, with all distances worked out anew each time."""
    chosen: list[int] = []
    for _ in range(count):
        taken = centers + [points[row] for row in chosen]
        far = [min((math.dist(point, one) for one in taken), default=math.inf) for point in points]
        chosen.append(max((row for row in range(len(points)) if row not in chosen), key=lambda row: far[row]))
    return chosen


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 12), st.integers(0, 5), st.integers(1, 4), st.data())
def test_k_center_is_greedy(seed: int, n: int, known: int, size: int, data: st.DataObject) -> None:
    drawn = torch.Generator().manual_seed(seed)
    points, centers = (torch.rand(k, size, generator=drawn, dtype=torch.float64) for k in (n, known))
    count = data.draw(st.integers(1, n))
    assert k_center(points, centers, count).tolist() == covered(points.tolist(), centers.tolist(), count)


def test_equal_points_are_taken_once_each() -> None:
    assert sorted(k_center(torch.zeros(5, 2), torch.zeros(1, 2), 5).tolist()) == [0, 1, 2, 3, 4]


def plain_deepfool(model: nn.Module, image: Tensor) -> float:
    """One image, one class at a time, as published."""
    start, moved = image, torch.zeros_like(image)
    label = int(model(start[None]).argmax())
    for _ in range(MOST_STEPS):
        x = (start + (1 + OVERSHOOT) * moved).requires_grad_()
        logits = model(x[None])[0]
        if int(logits.argmax()) != label:
            return float(moved.norm())
        moves = []
        for other in set(range(CLASSES)) - {label}:
            (slope,) = torch.autograd.grad(logits[other] - logits[label], x, retain_graph=True)
            if slope.norm() > 0:
                ahead = abs(float((logits[other] - logits[label]).detach()))
                moves.append((ahead / float(slope.norm()), ahead / float(slope.norm()) ** 2 * slope))
        moved = moved + min(moves, key=lambda one: one[0])[1].detach() if moves else moved
    return math.inf


def test_deepfool_is_that_of_a_plain_loop() -> None:
    model, images = victim().double().eval(), some(12).images.double() / 255
    found = deepfool(model, images)
    torch.testing.assert_close(found, torch.tensor([plain_deepfool(model, image) for image in images]).double())
    assert found.isfinite().sum() >= 8, "the comparison says little"


def test_deepfool_of_a_linear_network_is_the_distance_to_its_nearest_plane() -> None:
    drawn = torch.Generator().manual_seed(1)
    weights = torch.randn(CLASSES, math.prod(SHAPE), generator=drawn, dtype=torch.float64)
    images = torch.rand(9, *SHAPE, generator=drawn, dtype=torch.float64)
    logits = images.flatten(1) @ weights.T
    found = deepfool(lambda x: x.flatten(1) @ weights.T, images)
    for row, distance in zip(logits, found, strict=True):
        own = int(row.argmax())
        apart = [(row[own] - row[k]) / (weights[own] - weights[k]).norm() for k in range(CLASSES) if k != own]
        assert float(distance) == pytest.approx(float(min(apart)), rel=1e-9)


def test_what_never_changes_its_label_is_infinitely_far() -> None:
    def deaf(x: Tensor) -> Tensor:
        return torch.tensor([2.0, 1.0, 0.0, 0.0]).expand(len(x), -1) + 0 * x.sum()

    assert deepfool(deaf, torch.rand(3, *SHAPE)).tolist() == [math.inf] * 3


def test_distances_leave_the_network_as_it_was() -> None:
    model, images = victim().train(), some(7).images
    before = {name: value.clone() for name, value in model.state_dict().items()}
    distances = boundary_distances(model, images)
    assert model.training
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    torch.testing.assert_close(distances, deepfool(model.eval(), to_float(images)))
