"""Attacks: each is a record with a `run`, and this union is the catalogue."""

from __future__ import annotations

from typing import Annotated

from mwm.attacks.extraction.distillation import Distillation
from mwm.attacks.extraction.extraction import Extraction
from mwm.attacks.removal.batchnorm_reestimation import BatchNormReestimation
from mwm.attacks.removal.fine_tuning import FineTuning
from mwm.attacks.sequence import AttackSequence, SingleAttack
from mwm.config.spec import DISCRIMINATED

Attack = Annotated[SingleAttack | AttackSequence, *DISCRIMINATED]

__all__ = ["Attack", "AttackSequence", "BatchNormReestimation", "Distillation", "Extraction", "FineTuning"]
