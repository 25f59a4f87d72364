"""DFME: finite differences against gradients, and a generator that goes where they point."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from mwm.attacks import Attack, Dfme
from mwm.attacks.extraction.dfme import forward_differences, unit_vectors
from mwm.attacks.extraction.generator import as_images
from mwm.config.spec import decode
from tests.helpers.stealing import access_for, victim
from tests.unit.attacks.extraction.cases import GAME

VALUES = 36


def points(count: int = 3) -> Tensor:
    return torch.randn(count, 1, 6, 6, generator=torch.Generator().manual_seed(5), dtype=torch.float64)


def basis(count: int = 3) -> Tensor:
    """All directions of an orthonormal basis, for each of some points (m n c h w)."""
    drawn = torch.Generator().manual_seed(6)
    square, _ = torch.linalg.qr(torch.randn(VALUES, VALUES, generator=drawn, dtype=torch.float64))
    directions: Tensor = square.view(VALUES, 1, 1, 6, 6).expand(-1, count, -1, -1, -1)
    return directions


def test_differences_along_a_basis_are_exact_for_a_linear_loss() -> None:
    slopes = torch.randn(3, 1, 6, 6, dtype=torch.float64)
    found = forward_differences(lambda x: (slopes * x).flatten(1).sum(1), points(), directions=basis(), epsilon=0.7)
    torch.testing.assert_close(found, slopes)


def test_a_single_difference_is_that_of_a_plain_loop() -> None:
    at, directions = points(), unit_vectors(points(), 2, torch.Generator().manual_seed(1))

    def losses(x: Tensor) -> Tensor:
        return (x**3).flatten(1).sum(1)

    found = forward_differences(losses, at, directions=directions, epsilon=0.1)
    for row in range(len(at)):
        total = torch.zeros(1, 6, 6, dtype=torch.float64)
        for u in directions[:, row]:
            total += VALUES * (((at[row] + 0.1 * u) ** 3).sum() - (at[row] ** 3).sum()) / 0.1 * u
        torch.testing.assert_close(found[row], total / 2)


def test_differences_come_to_the_gradient_through_a_victim() -> None:
    """That of the student's loss, with a victim that one could differentiate: direction and length."""
    teacher, student, attack = victim().double().eval(), victim(8).double().eval(), Dfme(**GAME)

    def losses(made: Tensor) -> Tensor:
        images = as_images(made)
        return attack.student_loss(teacher(images).log_softmax(1), student(images))

    at = points().requires_grad_()
    (slope,) = torch.autograd.grad(losses(at).sum(), at)
    with torch.no_grad():
        found = forward_differences(losses, points(), directions=basis(), epsilon=1e-5)
        many = unit_vectors(points(), 300, torch.Generator().manual_seed(2))
        sampled = forward_differences(losses, points(), directions=many, epsilon=1e-5)
    torch.testing.assert_close(found, slope, rtol=1e-2, atol=1e-4 * slope.abs().max().item())
    for one, other in zip(sampled.flatten(1), slope.flatten(1), strict=True):
        assert torch.cosine_similarity(one, other, dim=0) > 0.9
        assert one.norm().item() == pytest.approx(other.norm().item(), rel=0.2)


def test_directions_have_unit_length_and_no_preference() -> None:
    drawn = unit_vectors(points(500), 2, torch.Generator().manual_seed(3))
    torch.testing.assert_close(drawn.flatten(2).norm(dim=2), torch.ones(2, 500).double())
    assert drawn.mean().abs() < 1e-2
    assert not torch.equal(drawn[0], drawn[1])


def test_the_generator_goes_up_the_loss() -> None:
    """Against a student that stays as it is, by exact differences: what the generator makes is lost more and more."""
    attack = Dfme(directions=5, generator_lr=1e-2, epsilon=1e-2, **{**GAME, "generator_width": 8})
    access: Any = access_for(attack)
    game, draw = attack.begin(access), torch.Generator().manual_seed(0)

    def loss() -> float:
        with torch.no_grad():
            images = as_images(game.generator(torch.randn(200, 5, generator=torch.Generator().manual_seed(1))))
            game.model.eval()
            return attack.student_loss(access.oracle(images), game.model(images)).mean().item()

    before = loss()
    for _ in range(25):
        attack.teach_generator(game, access, draw)
    assert loss() > 1.05 * before


def test_the_student_is_asked_in_evaluation_mode_while_the_generator_learns() -> None:
    attack = Dfme(**GAME)
    access: Any = access_for(attack)
    game = attack.begin(access)
    before = {name: value.clone() for name, value in game.model.state_dict().items()}
    attack.teach_generator(game, access, torch.Generator().manual_seed(0))
    assert all(torch.equal(value, before[name]) for name, value in game.model.state_dict().items())
    assert access.calls == 16, "two for each image"


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ({"labels": "hard"}, r"^attack\.labels: 'hard' is not allowed"),
        ({"epsilon": 0.0}, r"^attack\.epsilon: 0.0 is not allowed"),
        ({"directions": 0}, r"^attack\.directions: 0 is not allowed"),
    ],
)
def test_what_makes_no_sense_is_refused(how: Any, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        decode(Attack, {"kind": "dfme", **how}, "attack")
