"""Attacks by somebody who can only ask: this union is their catalogue."""

from __future__ import annotations

from mwm.attacks.extraction.distillation import Distillation as Distillation
from mwm.attacks.extraction.extraction import Extraction as Extraction

ExtractionAttack = Extraction | Distillation
