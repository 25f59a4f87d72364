"""A case or more of every removal attack."""

from __future__ import annotations

from mwm.attacks import Attack, BatchNormReestimation, FineTuning
from tests.helpers.stealing import RECIPE

CASES: list[Attack] = [
    FineTuning(recipe=RECIPE),
    FineTuning(layers="last", labels="predicted", batchnorm="frozen", recipe=RECIPE),
    BatchNormReestimation(passes=3, batch_size=10),
]

DRAW_NOTHING: set[str] = set()
"""The kinds that are the same with every seed."""
