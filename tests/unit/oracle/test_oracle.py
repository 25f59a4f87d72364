"""The oracle: it answers, counts, keeps to its allowance, and neither changes nor shows what is inside."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.fx.experimental.proxy_tensor import make_fx

from mwm.config.randomness import make_generator
from mwm.data.images import to_float
from mwm.models.answers import GaussianNoise, Rounding, TopK, form_words, shaped
from mwm.oracle.oracle import Oracle, log_probabilities
from mwm.training.evaluation import EVAL_BATCH_SIZE
from mwm.training.step import WARMUP_STEPS, _CudaGraphStep
from tests.helpers.stealing import COUNT, forwards, same, some, victim


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


class Portions(nn.Module):
    """A victim that remembers how many images it was asked for at a time."""

    def __init__(self) -> None:
        super().__init__()
        self.model, self.sizes = victim(), list[int]()

    def forward(self, images: Tensor) -> Tensor:
        self.sizes.append(len(images))
        answers: Tensor = self.model(images)
        return answers


@pytest.mark.parametrize("answers", ["soft", "hard"])
def test_a_known_answer_is_worked_out_once_and_counted_at_each_asking(answers: Any) -> None:
    model, images = Portions(), some(EVAL_BATCH_SIZE + 5).images
    oracle, plain = Oracle(model, answers, calls=7), Oracle(victim(), answers)
    known = oracle.memoized(images)
    assert (model.sizes, oracle.calls) == ([EVAL_BATCH_SIZE, 5], 7)
    for rows in (torch.tensor([3, EVAL_BATCH_SIZE + 4, 3]), torch.randperm(EVAL_BATCH_SIZE + 5)):
        found, right = known(rows), plain(images[rows] / 255)
        assert found.dtype == right.dtype
        assert not found.requires_grad
        if answers == "hard":
            assert torch.equal(found, right)
        else:
            torch.testing.assert_close(found, right, rtol=1e-5, atol=1e-6)
    assert (model.sizes, oracle.calls) == ([EVAL_BATCH_SIZE, 5], 7 + plain.calls)


@pytest.mark.parametrize("answers", ["soft", "hard"])
def test_many_images_are_asked_in_portions_and_each_is_a_call(answers: Any) -> None:
    model, images = Portions(), some(EVAL_BATCH_SIZE + 5).images
    oracle = Oracle(model, answers, EVAL_BATCH_SIZE + 6, calls=1)
    found = oracle.ask_all(images)
    assert (model.sizes, oracle.calls) == ([EVAL_BATCH_SIZE, 5], EVAL_BATCH_SIZE + 6)
    torch.testing.assert_close(found, Oracle(victim(), answers)(to_float(images)), rtol=1e-5, atol=1e-6)
    with pytest.raises(AssertionError, match=f"{EVAL_BATCH_SIZE + 7} calls of {EVAL_BATCH_SIZE + 6}"):
        oracle.ask_all(images[:1])


def asking(oracle: Oracle, images: Tensor) -> Callable[[Tensor], Tensor]:
    """A step that asks for each picked image twice: as one that is known, and anew."""
    known = oracle.memoized(images)
    return lambda pick: known(pick) + oracle(to_float(images[pick]))


def test_a_recorded_call_is_counted_whenever_it_is_replayed() -> None:
    oracle, rows = Oracle(victim(), "soft"), torch.arange(10)
    recorded = make_fx(asking(oracle, some().images))(rows)  # what torch is told to do; no Python of ours
    assert oracle.calls == 20
    for replays in (1, 2, 3):
        recorded(rows)
        assert oracle.calls == 20 + 20 * replays


@pytest.mark.skipif(not torch.cuda.is_available(), reason="only a GPU can replay a step as one launch")
def test_a_call_of_a_cuda_graph_is_counted_whenever_it_is_replayed() -> None:
    oracle, rows = Oracle(victim().cuda(), "soft"), torch.arange(10, device="cuda")
    ask = asking(oracle, some().images.cuda())

    def step(pick: Tensor) -> None:
        ask(pick)

    asked = _CudaGraphStep(())
    for steps in range(1, WARMUP_STEPS + 4):
        asked.run(step, rows)
        assert oracle.calls == 20 * steps


def test_a_pixel_gets_no_slope_through_the_oracle() -> None:
    images = (some().images / 255).requires_grad_()
    assert not Oracle(victim(), "soft")(images).requires_grad
    assert images.grad is None


def test_an_oracle_answers_nobody_beyond_the_allowance() -> None:
    oracle, images = Oracle(victim(), "hard", 10), some().images / 255
    oracle(images[:10])
    with pytest.raises(AssertionError, match="11 calls of 10"):
        oracle(images[10:11])
    known = Oracle(victim(), "hard", 10).memoized(some().images)
    known(torch.arange(10))
    with pytest.raises(AssertionError, match="11 calls of 10"):
        known(torch.arange(1))


def test_log_probabilities_are_float32_at_least() -> None:
    logits = torch.tensor([[0.1, 2.0, -30.0]])
    for given_type, expected in ((torch.bfloat16, torch.float32), (torch.float16, torch.float32)):
        short = logits.to(given_type)
        found = log_probabilities(short)
        assert found.dtype == expected
        torch.testing.assert_close(found.double(), torch.log_softmax(short.double(), 1), rtol=1e-6, atol=1e-6)
    assert log_probabilities(logits).dtype == torch.float32
    assert log_probabilities(logits.double()).dtype == torch.float64


CUT: Any = (TopK(k=2), Rounding(digits=2))
NOISY: Any = (GaussianNoise(deviation=0.1), Rounding(digits=3))


def plainly(forms: Any, answers: Any, images: Tensor, asked: int = 0, seed: int = 3) -> Tensor:
    """What is answered to images (n c h w) that follow as many others, by the network and the forms alone."""
    known = torch.log_softmax(victim().eval()(images).detach(), 1)
    found = shaped(known, forms, make_generator(seed, "answers", asked))
    return found if answers == "soft" else found.argmax(1)


@pytest.mark.parametrize("answers", ["soft", "hard"])
@pytest.mark.parametrize("forms", [CUT, NOISY], ids=form_words)
def test_forms_are_put_over_every_answer(answers: Any, forms: Any) -> None:
    images = some().images / 255
    oracle = Oracle(victim(), answers, forms=forms, seed=3)
    for part, asked in ((images[:7], 0), (images[7:], 7), (images[:5], COUNT)):
        torch.testing.assert_close(oracle(part), plainly(forms, answers, part, asked))
    assert oracle.calls == COUNT + 5


@pytest.mark.parametrize("answers", ["soft", "hard"])
@pytest.mark.parametrize("forms", [CUT, NOISY], ids=form_words)
def test_many_images_are_answered_in_form_portion_by_portion(answers: Any, forms: Any) -> None:
    images = some(EVAL_BATCH_SIZE + 5).images
    oracle = Oracle(victim(), answers, forms=forms, seed=3, calls=9)
    whole = to_float(images)
    parts = (whole[:EVAL_BATCH_SIZE], 9), (whole[EVAL_BATCH_SIZE:], EVAL_BATCH_SIZE + 9)
    right = torch.cat([plainly(forms, answers, part, asked) for part, asked in parts])
    torch.testing.assert_close(oracle.ask_all(images), right)
    assert oracle.calls == EVAL_BATCH_SIZE + 14


@pytest.mark.parametrize("answers", ["soft", "hard"])
def test_a_known_answer_is_known_in_its_form_but_noise_is_drawn_at_each_asking(answers: Any) -> None:
    images, rows = some().images, torch.tensor([3, 8, 3])
    for forms, fresh in ((CUT, False), (NOISY, answers == "soft")):
        model = Portions()
        oracle = Oracle(model, answers, forms=forms, seed=3)
        known = oracle.memoized(images)
        first, again = known(rows), known(rows)
        assert (model.sizes, oracle.calls) == ([COUNT], 6), "the network is asked once"
        torch.testing.assert_close(first, plainly(forms, answers, images[rows] / 255))
        torch.testing.assert_close(again, plainly(forms, answers, images[rows] / 255, 3))
        assert not fresh or not torch.equal(first, again)


def test_noise_goes_on_where_it_was_interrupted() -> None:
    images = some().images / 255
    whole = Oracle(victim(), "soft", forms=NOISY, seed=3)
    first, then = whole(images[:10]), whole(images[10:])
    assert torch.equal(Oracle(victim(), "soft", forms=NOISY, seed=3, calls=10)(images[10:]), then)
    assert torch.equal(Oracle(victim(), "soft", forms=NOISY, seed=3)(images[:10]), first)
    assert not torch.equal(Oracle(victim(), "soft", forms=NOISY, seed=4)(images[:10]), first)
    assert not torch.equal(Oracle(victim(), "soft", forms=NOISY, seed=3, calls=1)(images[:10]), first)


def test_without_forms_not_a_bit_is_another() -> None:
    images = some().images / 255
    known = victim().eval()(images).detach()
    assert torch.equal(Oracle(victim(), "soft", seed=3)(images), log_probabilities(known))
    assert torch.equal(Oracle(victim(), "hard", seed=3)(images), known.argmax(1))


def test_forms_of_answers_are_counted_and_stopped_as_any() -> None:
    oracle, images = Oracle(victim(), "soft", 10, forms=NOISY), some().images / 255
    oracle(images[:10])
    seen = forwards(oracle._model)
    with pytest.raises(AssertionError, match="11 calls of 10"):
        oracle(images[10:11])
    assert seen == [], "beyond the allowance the network is not even shown"
