"""Projected gradient ascent: the textbook rule for one image, nothing but pixels moved."""

from __future__ import annotations

import math
from copy import deepcopy

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from mwm.training.perturbation import projected_gradient_ascent

SHAPE = (1, 3, 4)
STEP_SIZES = st.floats(1e-4, 0.5)


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def linear(seed: int, *, blind: int = 0) -> tuple[nn.Module, Tensor]:
    """A linear network of three classes in float64 blind to the first `blind` pixels; its weights (3, 12)."""
    weights = torch.randn(3, math.prod(SHAPE), generator=seeded(seed), dtype=torch.float64)
    weights[:, :blind] = 0
    model = nn.Sequential(nn.Flatten(), nn.Linear(math.prod(SHAPE), 3, bias=False).double())
    model.load_state_dict({"1.weight": weights})
    return model, weights


def convolutional() -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        layers = (nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4), nn.Tanh(), nn.Flatten(), nn.Linear(48, 3))
    return nn.Sequential(*layers).double()


def some_images(n: int, seed: int) -> tuple[Tensor, Tensor]:
    drawn = torch.rand(n, *SHAPE, generator=seeded(seed), dtype=torch.float64)
    return drawn, torch.randint(3, (n,), generator=seeded(seed + 1))


def textbook(weights: list[list[float]], pixels: list[float], label: int, step_size: float, steps: int) -> list[float]:
    """The rule for one image and a linear network, whose slope is W'(softmax(Wx) - onehot(label))."""
    x = list(pixels)
    for _ in range(steps):
        scores = [sum(w * value for w, value in zip(row, x, strict=True)) for row in weights]
        chances = [math.exp(score) / sum(map(math.exp, scores)) for score in scores]
        errors = [chance - (c == label) for c, chance in enumerate(chances)]
        for i, value in enumerate(x):
            slope = sum(error * row[i] for error, row in zip(errors, weights, strict=True))
            x[i] = min(max(value + step_size * ((slope > 0) - (slope < 0)), 0.0), 1.0)
    return x


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 6), STEP_SIZES, st.integers(1, 4))
def test_each_image_climbs_as_in_the_textbook(seed: int, steps: int, step_size: float, n: int) -> None:
    model, weights = linear(seed)
    images, labels = some_images(n, seed)
    moved = projected_gradient_ascent(model, images, labels, step_size=step_size, steps=steps)
    for image, label, result in zip(images, labels, moved, strict=True):
        expected = textbook(weights.tolist(), image.flatten().tolist(), int(label), step_size, steps)
        assert result.flatten().tolist() == pytest.approx(expected, abs=1e-12)


def test_a_batch_climbs_like_its_images_one_by_one() -> None:
    model = convolutional().eval()
    images, labels = some_images(6, 0)
    moved = projected_gradient_ascent(model, images, labels, step_size=1 / 255, steps=5)
    for i in range(6):
        x = images[i : i + 1].clone()
        for _ in range(5):
            x.requires_grad_()
            (slope,) = torch.autograd.grad(-torch.log_softmax(model(x), 1)[0, labels[i]], x)
            x = torch.clamp(x.detach() + slope.sign() / 255, 0, 1)
        torch.testing.assert_close(moved[i : i + 1], x, rtol=0, atol=1e-12)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 8), STEP_SIZES)
def test_pixels_stay_images_and_drift_no_further_than_allowed(seed: int, steps: int, step_size: float) -> None:
    model, _ = linear(seed)
    images, labels = some_images(5, seed)
    before = images.clone()
    moved = projected_gradient_ascent(model, images, labels, step_size=step_size, steps=steps)
    assert moved.shape == images.shape
    assert moved.dtype == images.dtype
    assert not moved.requires_grad
    assert torch.equal(images, before), "the stored images were overwritten"
    assert 0 <= float(moved.min()) <= float(moved.max()) <= 1
    assert float((moved - images).abs().max()) <= steps * step_size + 1e-12


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 8), STEP_SIZES, st.lists(st.floats(1e-3, 0.3), min_size=4, max_size=4))
def test_a_radius_keeps_each_image_within_its_ball(seed: int, steps: int, size: float, radii: list[float]) -> None:
    """Against a plain loop, whose steps go back to the nearest point of the ball, and of all images."""
    model, _ = linear(seed)
    images, labels = some_images(4, seed)
    radius = torch.tensor(radii, dtype=images.dtype).view(-1, 1, 1, 1)
    moved = projected_gradient_ascent(model, images, labels, step_size=size, steps=steps, radius=radius)
    for image, label, result, most in zip(images, labels, moved, radii, strict=True):
        x = image[None].clone()
        for _ in range(steps):
            x.requires_grad_()
            (slope,) = torch.autograd.grad(F.cross_entropy(model(x), label[None]), x)
            x = x.detach() + size * slope.sign()
            x = (image[None] + (x - image[None]).clamp(-most, most)).clamp(0, 1)
        torch.testing.assert_close(result[None], x, rtol=0, atol=1e-12)
        assert float((result - image).abs().max()) <= most + 1e-12
    free = projected_gradient_ascent(model, images, labels, step_size=size, steps=steps)
    wide = projected_gradient_ascent(model, images, labels, step_size=size, steps=steps, radius=torch.tensor(2.0))
    assert torch.equal(free, wide)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 8), STEP_SIZES)
def test_the_loss_never_falls_where_it_is_convex(seed: int, steps: int, step_size: float) -> None:
    model, _ = linear(seed)
    images, labels = some_images(5, seed)
    moved = projected_gradient_ascent(model, images, labels, step_size=step_size, steps=steps)
    before, after = (F.cross_entropy(model(x), labels, reduction="none").detach() for x in (images, moved))
    assert bool((after >= before - 1e-12).all())
    assert float((after - before).max()) > 0


def test_one_pixel_goes_down_until_it_is_black() -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(1, 2, bias=False))
    model.load_state_dict({"1.weight": torch.tensor([[1.0], [-1.0]])})
    image, label = torch.full((1, 1, 1, 1), 0.5), torch.tensor([0])
    places = [projected_gradient_ascent(model, image, label, step_size=0.125, steps=steps).item() for steps in range(6)]
    assert places == [0.5, 0.375, 0.25, 0.125, 0.0, 0.0]
    assert projected_gradient_ascent(model, image, 1 - label, step_size=0.2, steps=3).item() == 1.0


def test_flat_pixels_stay_where_they_are() -> None:
    model, _ = linear(0, blind=6)
    images, labels = some_images(3, 0)
    moved = projected_gradient_ascent(model, images, labels, step_size=0.01, steps=3)
    assert torch.equal(moved.flatten(1)[:, :6], images.flatten(1)[:, :6])
    assert bool((moved.flatten(1)[:, 6:] != images.flatten(1)[:, 6:]).all())


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("frozen", [True, False])
def test_no_gradient_reaches_the_weights(training: bool, frozen: bool) -> None:
    model = convolutional().train(training).requires_grad_(not frozen)
    before = deepcopy(dict(model.named_parameters()))
    images, labels = some_images(4, 0)
    moved = projected_gradient_ascent(model, images, labels, step_size=1 / 255, steps=3)
    assert not torch.equal(moved, images)
    for name, weight in model.named_parameters():
        assert weight.grad is None, name
        assert torch.equal(weight, before[name]), name
    assert model.state_dict()["1.num_batches_tracked"].item() == (3 if training else 0)
