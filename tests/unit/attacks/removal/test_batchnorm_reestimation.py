"""Re-estimation of batch normalisation: plain averages over clean batches, and no weight moves."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from mwm.attacks import BatchNormReestimation
from mwm.config.randomness import make_generator
from tests.helpers.stealing import access_for, some, steal, victim


def plain_statistics(passes: int, size: int) -> dict[str, Tensor]:
    """The averages over all batches of the mean and the unbiased variance that each layer sees."""
    model, part = victim().train(), some()
    layers = {name: layer for name, layer in model.named_modules() if isinstance(layer, nn.BatchNorm2d)}
    seen: dict[str, list[Tensor]] = {}

    def note(name: str, x: Tensor) -> None:
        seen.setdefault(f"{name}.running_mean", []).append(x.mean((0, 2, 3)))
        seen.setdefault(f"{name}.running_var", []).append(x.var((0, 2, 3), unbiased=True))

    for name, layer in layers.items():
        layer.register_forward_pre_hook(lambda _, given, name=name: note(name, given[0]))
    with torch.no_grad():
        for number in range(passes):
            order = torch.randperm(len(part), generator=make_generator(0, "order", number))
            for rows in torch.split(order, size):
                model(part.images[rows].float() / 255)
    return {name: torch.stack(values).mean(0) for name, values in seen.items()}


@pytest.mark.parametrize(("passes", "size"), [(1, 7), (3, 16)])
def test_statistics_are_the_plain_averages_over_all_batches(passes: int, size: int) -> None:
    attack = BatchNormReestimation(passes=passes, batch_size=size)
    before, after = victim().state_dict(), steal(attack, access_for(attack, views=False))
    expected = plain_statistics(passes, size)
    for name, value in after.items():
        if name in expected:
            torch.testing.assert_close(value, expected[name], rtol=1e-4, atol=1e-6)
            assert not torch.equal(value, before[name])
        elif "tracked" not in name:
            assert torch.equal(value, before[name]), f"{name} has moved"


def test_damaged_statistics_are_undone() -> None:
    """What queries did to the running statistics leaves no trace: only the weights decide."""
    attack = BatchNormReestimation(passes=2, batch_size=10)
    damaged = victim()
    for layer in damaged.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.running_mean.add_(5.0)  # type: ignore[union-attr]
    whole = steal(attack, access_for(attack, victim(), views=True))
    repaired = steal(attack, access_for(attack, damaged, views=True))
    assert all(torch.equal(whole[name], value) for name, value in repaired.items())


def test_every_layer_keeps_its_momentum_and_ends_in_evaluation_mode() -> None:
    attack = BatchNormReestimation(passes=1, batch_size=10)
    *_, last = attack.run(access_for(attack))
    layers = [layer for layer in last.training.model.modules() if isinstance(layer, nn.BatchNorm2d)]
    assert {layer.momentum for layer in layers} == {0.1}
    assert not any(layer.training for layer in layers)
