"""What students learn of answers: flattened ones, smoothed targets."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from mwm.attacks import Distillation, Extraction
from mwm.attacks.extraction.answers import flattened
from mwm.config.spec import Field, spec
from tests.helpers.stealing import CLASSES, FILLED, steal

BUDGET = 20


@spec
class Listening(Extraction):
    """A student that remembers what it was told to learn."""

    heard: list[Any] = Field(default_factory=list)

    def loss(self, answers: Tensor, logits: Tensor, truth: Tensor) -> Tensor:
        del truth
        self.heard.append(answers)
        return logits.square().mean()


@pytest.mark.parametrize("how", [{}, {"query_budget": BUDGET}, {"cache_answers": True}])
def test_an_attacker_that_flattens_learns_flattened_answers(how: Any) -> None:
    plain, flat = (Listening(flatten=flatten, **how, **FILLED) for flatten in (False, True))
    steal(plain)
    steal(flat)
    assert len(plain.heard) == len(flat.heard) > 0
    for one, other in zip(plain.heard, flat.heard, strict=True):
        assert torch.equal(flattened(one), other)


@pytest.mark.parametrize("labels", ["soft", "hard"])
def test_a_smoothed_target_is_learnt(labels: Any) -> None:
    attack, logits = Extraction(labels=labels, label_smoothing=0.3), torch.randn(6, CLASSES, requires_grad=True)
    answers = torch.randn(6, CLASSES).log_softmax(1)
    named = answers.argmax(1)
    (slope,) = torch.autograd.grad(attack.loss(answers if labels == "soft" else named, logits, named), logits)
    target = answers.exp() if labels == "soft" else nn.functional.one_hot(named, CLASSES)
    torch.testing.assert_close(slope, (logits.softmax(1) - 0.7 * target - 0.3 / CLASSES).detach() / 6)


def test_distillation_smooths_both_of_its_targets() -> None:
    logits, truth = torch.randn(6, CLASSES, requires_grad=True), torch.arange(6) % CLASSES
    answers = torch.randn(6, CLASSES).log_softmax(1)
    loss = Distillation(alpha=0.4, label_smoothing=0.2).loss(answers, logits, truth)
    (slope,) = torch.autograd.grad(loss, logits)
    mixed = 0.6 * nn.functional.one_hot(truth, CLASSES) + 0.4 * answers.exp()
    expected = (logits.softmax(1) - (0.8 * mixed + 0.2 / CLASSES)) / 6
    torch.testing.assert_close(slope, expected.detach())
