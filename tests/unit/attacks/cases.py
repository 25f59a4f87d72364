"""A case of every attack in the catalogue, which all go through the contract of `test_catalogue`."""

from __future__ import annotations

from mwm.attacks import (
    ActiveLearning,
    Attack,
    AttackSequence,
    BatchNormReestimation,
    Distillation,
    Extraction,
    FineTuning,
)
from mwm.models.answers import GaussianNoise
from tests.helpers.stealing import FILLED, RECIPE
from tests.unit.attacks.evasion import cases as evasion
from tests.unit.attacks.extraction import cases as extraction
from tests.unit.attacks.removal import cases as removal

REPAIR = BatchNormReestimation(passes=2, batch_size=10)

SEQUENCES: list[Attack] = [
    AttackSequence(steps=(REPAIR, Extraction(**FILLED))),
    AttackSequence(steps=(REPAIR, Extraction(oracle=(GaussianNoise(),), **FILLED))),
    AttackSequence(seed=3, steps=(REPAIR, Extraction(query_budget=20, **FILLED))),
    AttackSequence(
        steps=(Extraction(**FILLED), Distillation(seed=2, smoothing=2, **extraction.KEPT), FineTuning(recipe=RECIPE))
    ),
    AttackSequence(steps=(ActiveLearning(query_budget=20, rounds=2, round_epochs=1, **FILLED), Extraction(**FILLED))),
]

CASES = [*extraction.CASES, *removal.CASES, *evasion.CASES, *SEQUENCES]

DRAW_NOTHING = removal.DRAW_NOTHING | evasion.DRAW_NOTHING
"""The kinds that are the same with every seed."""
