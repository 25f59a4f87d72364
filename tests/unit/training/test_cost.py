"""How long a pass takes is measured, and nothing is changed by it."""

from __future__ import annotations

import torch
from torch import nn

from mwm.training.cost import seconds_per_image


def network(layers: int) -> nn.Module:
    wide = [layer for _ in range(layers) for layer in (nn.Linear(768, 768), nn.ReLU())]
    return nn.Sequential(nn.Flatten(), *wide, nn.Dropout(0.5), nn.Linear(768, 5))


IMAGES = torch.randint(256, (64, 3, 16, 16), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)


def test_a_longer_network_takes_longer() -> None:
    short, long = (seconds_per_image(network(layers), IMAGES, threads=1) for layers in (1, 30))
    assert 0 < 3 * short < long


def test_nothing_is_changed() -> None:
    measured, threads, drawn = network(2), torch.get_num_threads(), torch.get_rng_state()
    before = {name: value.clone() for name, value in measured.state_dict().items()}
    seconds_per_image(measured, IMAGES[:1], threads=2)
    assert all(torch.equal(value, before[name]) for name, value in measured.state_dict().items())
    assert all(weight.grad is None for weight in measured.parameters())
    assert torch.get_num_threads() == threads
    assert torch.equal(torch.get_rng_state(), drawn)
