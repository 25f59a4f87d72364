"""Watermark schemes: each is a record with an `objective`, and this union is the catalogue."""

from __future__ import annotations

from typing import Annotated

from mwm.schemes.base import Base
from mwm.schemes.margin import Margin
from mwm.schemes.none import Unmarked
from mwm.spec import OF_A_KIND

Scheme = Annotated[Unmarked | Base | Margin, *OF_A_KIND]

__all__ = ["Base", "Margin", "Scheme", "Unmarked"]
