"""Attacks by somebody who can only ask: this union is their catalogue."""

from __future__ import annotations

from mwm.attacks.extraction.active_learning import ActiveLearning as ActiveLearning
from mwm.attacks.extraction.dfme import Dfme as Dfme
from mwm.attacks.extraction.disguide import Disguide as Disguide
from mwm.attacks.extraction.distillation import Distillation as Distillation
from mwm.attacks.extraction.ensemble_extraction import EnsembleExtraction as EnsembleExtraction
from mwm.attacks.extraction.extraction import Extraction as Extraction
from mwm.attacks.extraction.guided_extraction import GuidedExtraction as GuidedExtraction
from mwm.attacks.extraction.jacobian_augmentation import JacobianAugmentation as JacobianAugmentation
from mwm.attacks.extraction.knockoff_adaptive import KnockoffAdaptive as KnockoffAdaptive
from mwm.attacks.extraction.mixmatch import MixMatch as MixMatch

ExtractionAttack = (
    Extraction
    | Distillation
    | KnockoffAdaptive
    | ActiveLearning
    | JacobianAugmentation
    | MixMatch
    | GuidedExtraction
    | EnsembleExtraction
    | Dfme
    | Disguide
)
