"""Threat models: what an attacker is given, in words. Attacks are comparable only where these agree."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, kw_only=True)
class ThreatModel:
    """What an attack needs, but for numbers: how many images the attacker holds, and how many calls it spends.

    `access`: answers, or weights. `images`: the victim's, a disjoint part, those of another data set, or none at all.
    `true_labels`: whether the attacker knows the true labels of its images. `answers`: what the victim answers with;
    empty where it is not asked. `start`: what the attacker's network begins as. `adaptive` names the scheme whose
    definition the attacker uses, without its key, or "every scheme" where it uses how any key is proven; empty for
    attacks that know nothing of watermarks.
    """

    access: Literal["black box", "white box"]
    images: str
    true_labels: bool
    answers: str
    start: Literal["fresh", "public weights", "victim's weights", "victim's initial weights"]
    adaptive: str = ""
