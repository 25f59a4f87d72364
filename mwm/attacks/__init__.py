"""Attacks: each is a record with a `run`, and this union is the catalogue.

A new kind is named in the union of its family, twice: where it is imported, and where it stands in the union.
"""

from __future__ import annotations

from typing import Annotated

from mwm.attacks.evasion import *
from mwm.attacks.extraction import *
from mwm.attacks.removal import *
from mwm.attacks.sequence import AttackSequence as AttackSequence
from mwm.attacks.sequence import SingleAttack
from mwm.config.spec import DISCRIMINATED

Attack = Annotated[SingleAttack | AttackSequence, *DISCRIMINATED]
