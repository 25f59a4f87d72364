"""Weights that are made zero, and stay zero."""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Any

import torch
from torch import Tensor, nn


def exact_part(share: float, count: int) -> Fraction:
    """The share of so many, of the decimal number that a user wrote: .7 of 10 is 7, where floats say a little more."""
    return Fraction(repr(float(share))) * count


def smallest(magnitudes: Tensor, share: float) -> Tensor:
    """Marks (bool n) of a share of the values (n), the smallest: ceil(share n) exactly, the first ones of equals."""
    count = math.ceil(exact_part(share, len(magnitudes)))
    if count == 0:
        return torch.zeros_like(magnitudes, dtype=torch.bool)
    most = magnitudes.kthvalue(count).values
    marked = magnitudes < most
    equal = (magnitudes == most).nonzero().squeeze(1)
    marked[equal[: count - int(marked.sum())]] = True
    return marked


def hold_at_zero(weight: nn.Parameter, where: Tensor) -> None:
    """Make a weight zero `where` it is marked (bool, of a shape that broadcasts to its own), and keep it so.

    It gets no gradient there. Momentum, moments, decay and averages of what is zero are zero.
    """
    with torch.no_grad():
        weight.masked_fill_(where, 0.0)
    held: Any = weight
    held.register_hook(lambda gradient: gradient.masked_fill(where, 0.0))
