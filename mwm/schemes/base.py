"""The plain watermark: queries are taught as they are."""

from __future__ import annotations

from typing import Literal

from mwm.schemes.marked import Marked
from mwm.spec import spec


@spec
class Base(Marked):
    """Backdoor watermark by wrongly labelled queries, the baseline of Kim et al. (2023).

    One query a step, with full weight, in a pass of its own; with `queries_per_step: all` it is the usual trigger-set
    watermark (Adi et al., 2018).
    """

    kind: Literal["base"] = "base"
