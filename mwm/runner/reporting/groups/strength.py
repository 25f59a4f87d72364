"""How strong attacks are, and which of them differ in nothing else."""

from __future__ import annotations

import math
from collections.abc import Collection
from typing import Any, NamedTuple

from mwm.runner.reporting.groups.catalogue import kinds, strengths
from mwm.runner.reporting.groups.configurations import Configuration, varying_fields


class Curve(NamedTuple):
    """An attack apart from its strength, its kind, the field that says this (empty if none does), and its value.

    A sequence has the kinds of its steps. Attacks that have all but the value in common are one curve. Without a bound
    an attack is as strong as can be.
    """

    attack: Configuration
    kind: str
    field: str
    strength: Any

    @property
    def place(self) -> float:
        """By which attacks of one curve are sorted."""
        return math.inf if self.number is None else self.number

    @property
    def number(self) -> float | None:
        """Where it is drawn; None without a bound, and where no number says how strong it is."""
        told = self.strength
        return told if isinstance(told, int | float) and not isinstance(told, bool) else None


def curves(attacks: Collection[Configuration]) -> dict[Configuration, Curve]:
    """Each attack as a point of its curve.

    The strength of a sequence is that of the first step in which sequences of the same kinds of steps differ.
    """
    alike: dict[tuple[str, ...], list[Configuration]] = {}
    for attack in attacks:
        alike.setdefault(tuple(kinds(attack).values()), []).append(attack)
    varied = {names: {*varying_fields(members)} for names, members in alike.items()}
    found = {}
    for attack in attacks:
        places, own = kinds(attack), dict(attack)
        told = [path for path in strengths(attack) if "" in places or path in varied[tuple(places.values())]]
        field = told[0] if told else ""
        apart = tuple(leaf for leaf in attack if leaf[0] != field)
        found[attack] = Curve(apart, " + ".join(places.values()), field, own.get(field))
    return found
