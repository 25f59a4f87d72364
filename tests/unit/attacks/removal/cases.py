"""A case or more of every removal attack."""

from __future__ import annotations

from dataclasses import replace

from mwm.attacks import (
    AdversarialNeuronPruning,
    AdversarialTuning,
    Attack,
    AttentionDistillation,
    BatchNormReestimation,
    FinePruning,
    FineTuning,
    NeuralDehydration,
    Overwriting,
    Pruning,
    Quantization,
    Transfer,
    WeightNoise,
    Wrk,
)
from mwm.attacks.removal.neural_dehydration import Inversion
from mwm.watermarks.schemes import Confusion, Margin
from tests.helpers.records import FOREIGN
from tests.helpers.stealing import RECIPE

OWN_KEY = Margin(num_queries=8, queries_per_step=4, steps=2)
SHORT = replace(RECIPE, epochs=2)

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
    Overwriting(scheme=OWN_KEY, queries=12, recipe=RECIPE),
    Overwriting(scheme=Confusion(), queries=20, labels="true", batchnorm="frozen", recipe=RECIPE),
    Transfer(other=FOREIGN, away=SHORT, recipe=RECIPE),
    Transfer(other=FOREIGN, away=SHORT, recipe=SHORT, head="kept", labels="predicted", seed=4),
    Wrk(share=0.6, pushed=12, step_size=0.1, recipe=RECIPE),
    AttentionDistillation(share=0.6, teacher=SHORT, recipe=RECIPE),
    AdversarialNeuronPruning(share=0.6, threshold=0.3, recipe=replace(RECIPE, lr=2.0)),
    AdversarialNeuronPruning(share=0.6, threshold=0.5, perturbation_steps=2, batchnorm="frozen", recipe=RECIPE),
    NeuralDehydration(share=0.6, inversion=Inversion(images=5, steps=4), recipe=RECIPE),
]

DRAW_NOTHING: set[str] = {"pruning", "quantization"}
"""The kinds that are the same with every seed."""
