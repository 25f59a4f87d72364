"""Attacks by somebody who can only ask: this union is their catalogue."""

from __future__ import annotations

from mwm.attacks.extraction.active_learning import ActiveLearning as ActiveLearning
from mwm.attacks.extraction.distillation import Distillation as Distillation
from mwm.attacks.extraction.extraction import Extraction as Extraction
from mwm.attacks.extraction.jacobian_augmentation import JacobianAugmentation as JacobianAugmentation
from mwm.attacks.extraction.knockoff_adaptive import KnockoffAdaptive as KnockoffAdaptive

ExtractionAttack = Extraction | Distillation | KnockoffAdaptive | ActiveLearning | JacobianAugmentation
