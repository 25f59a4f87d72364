"""A case or more of every attack by extraction."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from mwm.attacks import Attack, Distillation, Extraction
from mwm.models.answers import GaussianNoise, Rounding, TopK
from mwm.models.networks import Cnn
from tests.helpers.stealing import COUNT, FILLED, RECIPE, STUDENT

KEPT: dict[str, Any] = {"query_budget": COUNT, **FILLED}
LADDER: dict[str, Any] = {"query_budget": 20, "student": STUDENT, "recipe": replace(RECIPE, epochs=6), "views": 2}

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
    Extraction(**LADDER),
    Extraction(labels="hard", augment=False, **LADDER),
    Distillation(own_labels="drop", **LADDER),
    Extraction(own_labels="drop", **KEPT),
    Extraction(labels="hard", own_labels="relabel", label_smoothing=0.1, **KEPT),
    Extraction(own_labels="relabel", temperature=2.0, label_smoothing=0.3, **KEPT),
    Extraction(filter="pixels", neighbors=3, **KEPT),
    Extraction(labels="hard", filter="features", neighbors=3, **KEPT),
    Extraction(filter="features", neighbors=5, **LADDER),
    Extraction(flatten=True, **FILLED),
    Distillation(flatten=True, label_smoothing=0.3, **KEPT),
    Extraction(smoothing=3, **KEPT),
    Extraction(labels="hard", smoothing=5, noise=0.3, **LADDER),
    Extraction(oracle=(TopK(k=2), Rounding(digits=2)), **FILLED),
    Extraction(oracle=(GaussianNoise(deviation=0.1),), **FILLED),
    Extraction(oracle=(GaussianNoise(deviation=0.1),), cache_answers=True, **FILLED),
    Extraction(labels="hard", oracle=(GaussianNoise(),), smoothing=3, **KEPT),
    Extraction(oracle=(TopK(k=3),), flatten=True, own_labels="relabel", **KEPT),
    Distillation(temperature=2.0, oracle=(Rounding(digits=1),), label_smoothing=0.2, **LADDER),
    Extraction(same_start=True, student=STUDENT, recipe=replace(RECIPE, keep="best_validation")),
]
