"""The oracle: it answers, counts, keeps to its allowance, and neither changes nor shows what is inside."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import pytest
import torch

from mwm.oracle import Oracle, log_probabilities
from tests.stealing import COUNT, same, some, victim


@pytest.mark.parametrize("answers", ["soft", "hard"])
def test_an_oracle_answers_counts_and_stays_as_it_is(answers: Any) -> None:
    model, images = victim().train(), some().images / 255
    before, expected = deepcopy(model.state_dict()), deepcopy(model).eval()(images).detach()
    oracle = Oracle(model, answers)
    found = [oracle(batch) for batch in (images[:7], images[7:], images[:5])]
    assert oracle.calls == COUNT + 5
    assert same(model.state_dict(), before)
    assert not any(answer.requires_grad for answer in found)
    if answers == "hard":
        assert {answer.dtype for answer in found} == {torch.int64}
        assert torch.equal(torch.cat(found[:2]), expected.argmax(1))
    else:
        torch.testing.assert_close(torch.cat(found[:2]), torch.log(torch.softmax(expected, 1)), rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(found[2].exp().sum(1), torch.ones(5))


def test_a_pixel_gets_no_slope_through_the_oracle() -> None:
    images = (some().images / 255).requires_grad_()
    assert not Oracle(victim(), "soft")(images).requires_grad
    assert images.grad is None


def test_an_oracle_answers_nobody_beyond_the_allowance() -> None:
    oracle, images = Oracle(victim(), "hard", 10), some().images / 255
    oracle(images[:10])
    with pytest.raises(AssertionError, match="11 calls of 10"):
        oracle(images[10:11])


def test_log_probabilities_are_float32_at_least() -> None:
    logits = torch.tensor([[0.1, 2.0, -30.0]])
    for given_type, expected in ((torch.bfloat16, torch.float32), (torch.float16, torch.float32)):
        short = logits.to(given_type)
        found = log_probabilities(short)
        assert found.dtype == expected
        torch.testing.assert_close(found.double(), torch.log_softmax(short.double(), 1), rtol=1e-6, atol=1e-6)
    assert log_probabilities(logits).dtype == torch.float32
    assert log_probabilities(logits.double()).dtype == torch.float64
