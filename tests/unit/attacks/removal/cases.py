"""A case or more of every removal attack."""

from __future__ import annotations

from mwm.attacks import (
    AdversarialTuning,
    Attack,
    BatchNormReestimation,
    FinePruning,
    FineTuning,
    Pruning,
    Quantization,
    WeightNoise,
)
from tests.helpers.stealing import RECIPE

CASES: list[Attack] = [
    FineTuning(recipe=RECIPE),
    FineTuning(layers="last", labels="predicted", batchnorm="frozen", recipe=RECIPE),
    BatchNormReestimation(passes=3, batch_size=10),
    FineTuning(layers="last", reinitialize=True, recipe=RECIPE),
    Pruning(share=0.3),
    Pruning(scope="global"),
    FinePruning(share=0.5, recipe=RECIPE),
    Quantization(bits=3),
    Quantization(bits=8, method="int8"),
    WeightNoise(noise_scale=0.2, shift=0.1),
    AdversarialTuning(steps=2, recipe=RECIPE),
]

DRAW_NOTHING: set[str] = {"pruning", "quantization"}
"""The kinds that are the same with every seed."""
