"""Attacks by somebody who holds the weights and changes them: this union is their catalogue."""

from __future__ import annotations

from mwm.attacks.removal.batchnorm_reestimation import BatchNormReestimation as BatchNormReestimation
from mwm.attacks.removal.fine_tuning import FineTuning as FineTuning

RemovalAttack = FineTuning | BatchNormReestimation
