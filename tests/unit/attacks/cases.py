"""A case of every attack in the catalogue, which all go through the contract of `test_catalogue`."""

from __future__ import annotations

from mwm.attacks import Attack, BatchNormReestimation, Distillation, Extraction, FineTuning
from mwm.models.networks import Cnn
from tests.helpers.stealing import COUNT, FILLED, RECIPE

CASES: list[Attack] = [
    Extraction(**FILLED),
    Extraction(labels="hard", **FILLED),
    Extraction(temperature=4.0, seed=5, student=Cnn(width=3, depth=2), recipe=RECIPE),
    Distillation(**FILLED),
    Distillation(temperature=3.0, t_squared=True, alpha=0.4, **FILLED),
    Extraction(query_budget=COUNT, **FILLED),
    Extraction(labels="hard", query_budget=10, **FILLED),
    Distillation(query_budget=25, **FILLED),
    Extraction(cache_answers=True, **FILLED),
    Distillation(temperature=2.0, cache_answers=True, **FILLED),
    FineTuning(recipe=RECIPE),
    FineTuning(layers="last", labels="predicted", batchnorm="frozen", recipe=RECIPE),
    BatchNormReestimation(passes=3, batch_size=10),
]
