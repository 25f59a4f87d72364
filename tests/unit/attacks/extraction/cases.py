"""A case or more of every attack by extraction."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from mwm.attacks import (
    ActiveLearning,
    Attack,
    Dfme,
    Disguide,
    Distillation,
    EnsembleExtraction,
    Extraction,
    GuidedExtraction,
    JacobianAugmentation,
    KnockoffAdaptive,
    MixMatch,
)
from mwm.models.answers import GaussianNoise, Rounding, TopK
from mwm.models.networks import Cnn
from tests.helpers.stealing import COUNT, FILLED, RECIPE, STUDENT

KEPT: dict[str, Any] = {"query_budget": COUNT, **FILLED}
LADDER: dict[str, Any] = {"query_budget": 20, "student": STUDENT, "recipe": replace(RECIPE, epochs=6), "views": 2}

MOVING: dict[str, Any] = {
    "student": STUDENT,
    "recipe": replace(RECIPE, ema=0.5, optimizer="adam", lr=0.01, momentum=0.0),
}

GAME: dict[str, Any] = {"student": STUDENT, "batch_size": 8, "noise_size": 5, "generator_width": 3}
"""What makes a game between small networks."""

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
    KnockoffAdaptive(query_budget=25, round_images=7, **FILLED),
    KnockoffAdaptive(labels="hard", reward="loss", query_budget=12, round_images=5, round_epochs=2, **MOVING),
    KnockoffAdaptive(query_budget=20, round_images=7, oracle=(TopK(k=2), GaussianNoise(deviation=0.1)), **FILLED),
    JacobianAugmentation(query_budget=20, seed_images=8, round_epochs=1, oracle=(Rounding(digits=1),), **FILLED),
    ActiveLearning(query_budget=23, seed_images=9, rounds=3, round_epochs=2, **FILLED),
    ActiveLearning(strategy="k_center", space="features", query_budget=20, rounds=2, labels="hard", **MOVING),
    ActiveLearning(strategy="k_center", space="pixels", query_budget=11, seed_images=1, rounds=1, **FILLED),
    ActiveLearning(strategy="dfal", candidates=12, query_budget=20, rounds=2, round_epochs=1, **FILLED),
    ActiveLearning(strategy="dfal_k_center", query_budget=16, rounds=2, flatten=True, augment=False, **FILLED),
    ActiveLearning(strategy="random", query_budget=20, rounds=2, round_epochs=1, label_smoothing=0.1, **FILLED),
    JacobianAugmentation(query_budget=30, seed_images=8, round_epochs=2, **FILLED),
    JacobianAugmentation(variant="self", labels="hard", query_budget=30, seed_images=8, rounds=1, **FILLED),
    JacobianAugmentation(variant="top_k", targets=2, query_budget=25, seed_images=5, most_per_round=4, **FILLED),
    JacobianAugmentation(variant="random_target", query_budget=20, seed_images=6, round_epochs=1, **MOVING),
    EnsembleExtraction(temperature=2.0, **FILLED),
    EnsembleExtraction(labels="hard", second_seed=11, own_labels="relabel", label_smoothing=0.1, **KEPT),
    EnsembleExtraction(smoothing=2, **LADDER),
    EnsembleExtraction(cache_answers=True, **FILLED),
    GuidedExtraction(labeled_share=0.5, **FILLED),
    GuidedExtraction(labeled_share=0.5, temperature=2.0, normalization="none", label_smoothing=0.1, **LADDER),
    MixMatch(query_budget=20, **FILLED),
    MixMatch(labels="hard", guess_views=3, rampup=0.5, **LADDER),
    Dfme(query_budget=8 * 7 * 5 + 3, epoch_iterations=2, directions=1, **GAME),
    Dfme(query_budget=200, generator_steps=2, student_steps=1, directions=2, epsilon=0.5, rounded=True, **GAME),
    Disguide(query_budget=43, epoch_iterations=2, replay_size=12, **GAME),
    Disguide(labels="hard", query_budget=50, student_steps=2, epoch_iterations=1, replay_steps=0, **GAME),
]
