"""Watermark schemes: each is a record with an `objective`, and this union is the catalogue."""

from __future__ import annotations

from typing import Annotated

from mwm.config.spec import OF_A_KIND
from mwm.watermarks.schemes.margin import Margin
from mwm.watermarks.schemes.none import Unmarked
from mwm.watermarks.schemes.trigger_set import Base

Scheme = Annotated[Unmarked | Base | Margin, *OF_A_KIND]

__all__ = ["Base", "Margin", "Scheme", "Unmarked"]
