"""Images between 8 bits and floats."""

from __future__ import annotations

import torch

from mwm.data.images import to_float, to_uint8


def test_8_bits_survive_floats_and_a_half_goes_to_the_even_number() -> None:
    every = torch.arange(256).to(torch.uint8).view(1, 1, 16, 16)
    assert torch.equal(to_uint8(to_float(every)), every)
    near = torch.tensor([0.0, 0.4, 0.6, 1.5, 2.5, 254.6, 255.0], dtype=torch.float64) / 255
    assert to_uint8(near).tolist() == [0, 0, 1, 2, 2, 255, 255]
