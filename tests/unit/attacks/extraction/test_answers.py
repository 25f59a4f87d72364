"""What is made of kept answers: means, flattening, corrections, neighbours; each against its definition."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from mwm.attacks.extraction.answers import (
    POINTS_AT_A_TIME,
    agrees_with_neighbors,
    corrected,
    flattened,
    mean_answer,
    named_labels,
)
from mwm.attacks.extraction.losses import distillation_kl
from mwm.models.answers import LOG_ZERO

CHANCES = torch.tensor([[0.7, 0.2, 0.1, 0.0], [0.1, 0.15, 0.5, 0.25], [0.0, 0.0, 1.0, 0.0]])
SHARP = torch.tensor([[0.0, -300.0, -400.0, -500.0]])


def log(chances: Tensor) -> Tensor:
    return chances.clamp_min(1e-30).log()


def test_a_soft_mean_is_that_of_the_probabilities() -> None:
    answers = torch.stack([CHANCES, CHANCES.roll(1, 1), CHANCES.flip(1)])
    found = mean_answer([log(one) for one in answers], 4)
    torch.testing.assert_close(found.exp(), answers.mean(0), rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(mean_answer([SHARP], 4), SHARP)
    assert mean_answer([SHARP, SHARP], 4).isfinite().all(), "a small chance was lost"


def test_a_hard_mean_is_the_label_named_most_often_and_of_several_the_first() -> None:
    answers = [torch.tensor(labels) for labels in ([3, 1, 2], [3, 0, 2], [0, 1, 1], [0, 0, 1])]
    assert mean_answer(answers, 4).tolist() == [0, 0, 1]
    assert mean_answer(answers[:3], 4).tolist() == [3, 1, 2]


def test_flattened_answers_keep_the_first_choice_and_its_chance_and_make_all_others_equal() -> None:
    found = flattened(log(CHANCES))
    assert found.argmax(1).tolist() == CHANCES.argmax(1).tolist()
    expected = [[0.7, 0.1, 0.1, 0.1], [0.5 / 3, 0.5 / 3, 0.5, 0.5 / 3], [0.0, 0.0, 1.0, 0.0]]
    torch.testing.assert_close(found.exp(), torch.tensor(expected), rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(flattened(SHARP), torch.tensor([[0.0, *3 * [-300 - math.log(3)]]]))


def test_a_corrected_answer_is_certain_of_the_true_label_and_a_right_one_stays() -> None:
    truth = torch.tensor([0, 1, 2])
    found = corrected(log(CHANCES), truth)
    assert torch.equal(found[0], log(CHANCES)[0])
    assert found[1].tolist() == pytest.approx([LOG_ZERO, 0.0, LOG_ZERO, LOG_ZERO])
    assert corrected(torch.tensor([0, 3, 1]), truth).tolist() == [0, 1, 2]
    logits = torch.randn(3, 4, requires_grad=True)
    for temperature in (1.0, 20.0):
        loss = distillation_kl(found, logits, temperature, smoothing=0.1)
        (slope,) = torch.autograd.grad(loss, logits)
        assert loss.isfinite()
        assert slope.isfinite().all()


def test_a_correction_is_learnt_as_a_label() -> None:
    logits, truth = torch.randn(3, 4), torch.tensor([1, 0, 0])
    found = distillation_kl(corrected(log(CHANCES), truth), logits, 1.0)
    assert found.item() == pytest.approx(torch.nn.functional.cross_entropy(logits, truth).item(), rel=1e-5)


def test_an_answer_names_its_likeliest_class() -> None:
    assert named_labels(CHANCES).tolist() == [0, 2, 2]
    assert named_labels(torch.tensor([3, 1])).tolist() == [3, 1]


@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_label_smoothing_mixes_the_target_with_the_uniform_distribution(temperature: float) -> None:
    logits = torch.randn(3, 4, dtype=torch.float64)
    target = (log(CHANCES.double()) / temperature).softmax(1) * 0.7 + 0.3 / 4
    student = (logits / temperature).softmax(1)
    expected = (target * (target / student).log()).sum(1).mean()
    found = distillation_kl(log(CHANCES.double()), logits, temperature, smoothing=0.3)
    assert found.item() == pytest.approx(expected.item(), rel=1e-9)


def agreement(points: list[list[float]], labels: list[int], origin: list[int], neighbors: int) -> list[bool]:
    """Point by point, in Python."""
    found = []
    for i, here in enumerate(points):
        others = sorted(
            (math.dist(here, there), j) for j, there in enumerate(points) if origin[j] != origin[i]
        )  # of equal distances the first
        near = [labels[j] for _, j in others[:neighbors]]
        found.append(near.count(labels[i]) == max((near.count(label) for label in near), default=0))
    return found


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**6), st.integers(2, 12), st.integers(1, 3), st.integers(1, 14))
def test_an_answer_is_held_against_its_nearest_other_images(seed: int, n: int, views: int, neighbors: int) -> None:
    drawn = torch.Generator().manual_seed(seed)
    points = torch.rand(n * views, 3, generator=drawn, dtype=torch.float64)
    labels = torch.randint(3, (n * views,), generator=drawn)
    origin = torch.arange(n).repeat(views)
    found = agrees_with_neighbors(points, labels, origin=origin, neighbors=neighbors)
    assert found.tolist() == agreement(points.tolist(), labels.tolist(), origin.tolist(), neighbors)


def test_many_answers_are_held_against_all_others() -> None:
    count = POINTS_AT_A_TIME + 50
    labels = torch.arange(count) % 2
    points = torch.stack([labels * 100.0, torch.zeros(count)], 1) + torch.rand(
        count, 2, generator=torch.Generator().manual_seed(0)
    )
    odd = torch.tensor([3, count - 1])
    labels[odd] = 1 - labels[odd]
    agrees = agrees_with_neighbors(points, labels, origin=torch.arange(count), neighbors=9)
    assert (~agrees).nonzero().flatten().tolist() == odd.tolist()
