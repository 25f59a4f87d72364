"""Watermark schemes: each is a record with an `objective`, and this union is the catalogue."""

from __future__ import annotations

from typing import Annotated

from mwm.config.spec import DISCRIMINATED
from mwm.watermarks.schemes.combined import Combined
from mwm.watermarks.schemes.confusion import Confusion
from mwm.watermarks.schemes.margin import Margin
from mwm.watermarks.schemes.none import Unwatermarked
from mwm.watermarks.schemes.trigger_set import TriggerSet

Scheme = Annotated[Unwatermarked | TriggerSet | Margin | Confusion | Combined, *DISCRIMINATED]

__all__ = ["Combined", "Confusion", "Margin", "Scheme", "TriggerSet", "Unwatermarked"]
