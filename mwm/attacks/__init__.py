"""Attacks: each is a record with a `run`, and this union is the catalogue."""

from __future__ import annotations

from typing import Annotated

from mwm.attacks.extraction.distillation import Distillation
from mwm.attacks.extraction.extraction import Extraction
from mwm.config.spec import DISCRIMINATED

Attack = Annotated[Extraction | Distillation, *DISCRIMINATED]

__all__ = ["Attack", "Distillation", "Extraction"]
