"""Magnitude pruning: so many zeros and not one more, the smallest ones, and nothing else moves."""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn.utils import prune

from mwm.attacks import Pruning
from mwm.attacks.removal.zeros import smallest
from mwm.config.spec import decode
from tests.helpers.stealing import access_for, some, steal, victim


class Odd(nn.Module):
    """Weights of every kind, under names that say nothing of them."""

    def __init__(self, kernel: int, width: int) -> None:
        super().__init__()
        self.bn_conv = nn.Conv2d(1, width, kernel, padding=kernel // 2)
        self.plain = nn.BatchNorm2d(width)
        self.layer = nn.LayerNorm([width, 6, 6])
        self.group = nn.GroupNorm(1, width)
        self.head = nn.Linear(width, 4)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        normed = self.group(self.layer(self.plain(self.bn_conv(images))))
        found: torch.Tensor = self.head(normed.mean((2, 3)))
        return found


def pruned(attack: Pruning, model: nn.Module) -> dict[str, torch.Tensor]:
    return steal(attack, access_for(attack, model))


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 999).map(lambda n: n / 1000), st.sampled_from([1, 3, 5]), st.integers(1, 9), st.integers(0, 99))
def test_so_many_of_each_tensor_are_zero(share: float, kernel: int, width: int, seed: int) -> None:
    torch.manual_seed(seed)
    model = Odd(kernel, width)
    after = pruned(Pruning(share=share), model)
    for name, before in model.state_dict().items():
        if name not in ("bn_conv.weight", "head.weight"):
            assert torch.equal(after[name], before), name
            continue
        zero, count = after[name] == 0, math.ceil(Fraction(str(share)) * before.numel())
        assert int(zero.sum()) == count
        assert torch.equal(after[name][~zero], before[~zero]), "what is left has moved"
        kept = before[~zero].abs()
        assert kept.numel() == 0 or before[zero].abs().max() <= kept.min()


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(-2, 2), min_size=1, max_size=40), st.integers(1, 99).map(lambda n: n / 100))
def test_equals_are_cut_in_their_order_and_no_more_than_asked(values: list[int], share: float) -> None:
    count = math.ceil(Fraction(str(share)) * len(values))
    order = sorted(range(len(values)), key=lambda i: (abs(values[i]), i))
    marked = smallest(torch.tensor(values).abs().float(), share)
    assert marked.nonzero().flatten().tolist() == sorted(order[:count])


@pytest.mark.parametrize("share", [0.1, 0.37, 0.5, 0.9])
def test_all_together_as_pytorch_prunes_them(share: float) -> None:
    model, expected = victim(), victim()
    layers = [layer for layer in expected.modules() if isinstance(layer, (nn.Conv2d, nn.Linear))]
    total = sum(layer.weight.numel() for layer in layers)
    count = math.ceil(Fraction(str(share)) * total)
    prune.global_unstructured(
        [(layer, "weight") for layer in layers], pruning_method=prune.L1Unstructured, amount=count
    )
    for layer in layers:
        prune.remove(layer, "weight")  # type: ignore[no-untyped-call]
    after = pruned(Pruning(share=share, scope="global"), model)
    assert all(torch.equal(after[name], value) for name, value in expected.state_dict().items())
    assert sum(int((after[name] == 0).sum()) for name, value in model.named_parameters() if value.ndim > 1) == count


def test_a_decimal_share_is_exact() -> None:
    assert int(smallest(torch.rand(10), 0.7).sum()) == 7, ".7 * 10 is a little more than 7 in floats"
    assert int(smallest(torch.rand(3), 0.1).sum()) == 1


def test_its_epoch_tells_how_far_the_network_moved() -> None:
    attack = Pruning(share=0.9)
    (row,) = attack.run(access_for(attack))
    answers = row.training.model.eval()(some().images / 255).log_softmax(1)
    named = victim().eval()(some().images / 255).argmax(1)
    assert row.loss == pytest.approx(-answers[torch.arange(len(named)), named].mean().item(), rel=1e-5)


@pytest.mark.parametrize(
    ("tree", "fault"),
    [
        ({"share": 1.0}, "share: 1.0 is not allowed: "),
        ({"share": 0}, "share: 0 is not allowed: "),
        ({"scope": "layer"}, "scope: 'layer' is not allowed: must be 'tensor' or 'global'"),
        ({"recipe": {}}, "recipe: unknown key"),
    ],
)
def test_a_mistake_is_one_line(tree: dict[str, Any], fault: str) -> None:
    with pytest.raises(ValueError) as told:  # noqa: PT011 - the whole line is compared
        decode(Pruning, tree)
    assert str(told.value).startswith(fault)
    assert "\n" not in str(told.value)
