"""What a finished network does, measured against plain loops."""

from __future__ import annotations

from copy import deepcopy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from mwm.models.build import build_model
from mwm.models.networks import Cnn
from mwm.training.evaluation import (
    EVAL_BATCH_SIZE,
    accuracy,
    eval_batch_size,
    eval_mode,
    first_choices,
    logit_margins,
    predict_logits,
)


def network() -> nn.Module:
    generator = torch.Generator().manual_seed(0)
    return build_model(Cnn(width=2, depth=1), shape=(1, 3, 3), classes=4, mean=[0.4], std=[0.3], generator=generator)


def pixels(n: int) -> Tensor:
    return torch.randint(256, (n, 1, 3, 3), generator=torch.Generator().manual_seed(1), dtype=torch.uint8)


@st.composite
def answers(draw: st.DrawFn) -> tuple[list[list[float]], list[int]]:
    n, classes = draw(st.integers(1, 12)), draw(st.integers(2, 5))
    value = st.integers(-4, 4).map(float)
    rows = draw(st.lists(st.lists(value, min_size=classes, max_size=classes), min_size=n, max_size=n))
    return rows, draw(st.lists(st.integers(0, classes - 1), min_size=n, max_size=n))


@settings(deadline=None)
@given(answers())
def test_margins_and_accuracy_are_those_of_a_plain_loop(case: tuple[list[list[float]], list[int]]) -> None:
    rows, labels = case
    right, held = 0, []
    for row, label in zip(rows, labels, strict=True):
        right += row.index(max(row)) == label and min(row) < max(row)  # equal scores name no class
        held.append(row[label] - max(value for c, value in enumerate(row) if c != label))
    given_logits, given_labels = torch.tensor(rows), torch.tensor(labels)
    assert accuracy(given_logits, given_labels) == pytest.approx(right / len(rows), abs=1e-15)
    assert accuracy(first_choices(given_logits), given_labels) == accuracy(given_logits, given_labels)
    assert logit_margins(given_logits, given_labels).tolist() == held


def test_a_margin_is_positive_exactly_where_the_label_is_named() -> None:
    drawn = torch.randn(200, 7, generator=torch.Generator().manual_seed(2))
    labels = torch.arange(200) % 7
    assert torch.equal(logit_margins(drawn, labels) > 0, drawn.argmax(1) == labels)
    assert torch.allclose(logit_margins(drawn + 5, labels), logit_margins(drawn, labels), atol=1e-5)


def test_accuracy_is_not_rounded() -> None:
    labels = torch.zeros(3000, dtype=torch.int64)
    labels[0] = 1
    assert accuracy(torch.zeros(3000, dtype=torch.int64), labels) == 2999 / 3000


@pytest.mark.parametrize("count", [1, EVAL_BATCH_SIZE - 1, EVAL_BATCH_SIZE, 2 * EVAL_BATCH_SIZE + 3])
def test_batches_leave_no_trace_in_the_logits(count: int) -> None:
    model, images = network().train(), pixels(count)
    found = predict_logits(model, images)
    plain = deepcopy(model).eval()(images / 255).detach()
    assert found.dtype == torch.float32
    assert not found.requires_grad
    torch.testing.assert_close(found, plain, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("side", "size"), [(8, 1000), (64, 1000), (65, 969), (224, 81), (4096, 1)])
def test_as_many_pixels_are_judged_at_a_time_and_no_more(side: int, size: int) -> None:
    images = torch.empty(1, 3, side, side, dtype=torch.uint8, device="meta")
    assert eval_batch_size(images) == size


def test_large_images_are_judged_a_few_at_a_time() -> None:
    sizes: list[int] = []

    class Sized(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            sizes.append(len(images))
            return images.flatten(1)[:, :2]

    predict_logits(Sized(), torch.zeros(70, 1, 256, 256, dtype=torch.uint8))
    assert sizes == [62, 8]


@pytest.mark.parametrize("training", [True, False])
def test_judging_leaves_the_network_as_it_was(training: bool) -> None:
    model = network().train(training)
    before = deepcopy(model.state_dict())
    predict_logits(model, pixels(50))
    assert {part.training for part in model.modules()} == {training}
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    with eval_mode(model) as judged:
        assert judged is model
        assert not any(part.training for part in model.modules())
        assert not torch.is_grad_enabled()
    assert torch.is_grad_enabled()


def test_the_mode_returns_after_a_failure() -> None:
    model = network().train()
    with pytest.raises(RuntimeError):
        predict_logits(model, pixels(5)[:, :, :, 0])
    assert {part.training for part in model.modules()} == {True}
    assert torch.is_grad_enabled()
