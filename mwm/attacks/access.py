"""What an attacker is given: the access that its threat model grants, and nothing more."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from mwm.data.splits import LabeledImages
from mwm.oracle.oracle import Oracle


@dataclass(frozen=True)
class Access:
    """All that a thief gets: answers from the oracle and labelled images of its own, and how those may be augmented.

    `validation` is the owner's: it is reported on and never used. `seed` drives all chances. `start` is the state of an
    interrupted training to go on from.
    """

    oracle: Oracle
    images: LabeledImages
    validation: LabeledImages
    classes: int
    flip: bool
    pad: int
    seed: int
    start: dict[str, Any] | None = None
