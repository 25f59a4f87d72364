"""Configurations: rows that differ in nothing but seeds."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from itertools import product
from typing import Any, Literal

from mwm.runner.reporting.groups.catalogue import STEP, strengths
from mwm.trials.names import INHERITED

Row = Mapping[str, Any]
"""What is known of one trial, by column: the fields of the trial under their dotted paths ("victim.scheme.steps"), then
what it measured. Fields that a trial does not have are missing."""

CLASSES: Literal["classes"] = "classes"
"""What `cells` says of a key in which a cell is a class, and no image of its own."""

RECIPE = re.compile(r"(^|\.)recipe\.")
"""Where a field of a recipe stands."""

KEY_SIZE = "scheme.num_queries"
"""The field that says how large a key is: a number of images, or "classes"."""

Configuration = tuple[tuple[str, Any], ...]
"""The dotted paths and values of a record without its seeds."""

Members = Sequence[Row]

Groups = Mapping[tuple[Configuration, Configuration | None], Members]
"""Rows that differ in nothing but seeds, under the configurations of victim and attack (None for victims)."""


def group_by_configuration(table: Members) -> Groups:
    """Rows by configuration, in their order."""
    # What follows the victim is marked so where that makes fewer attacks: "the student is like the victim" is one.
    ways = [[_attack(row, inherit) for row in table] for inherit in (True, False)]
    attacks = min(ways, key=lambda configurations: len(set(configurations)))
    groups: dict[tuple[Configuration, Configuration | None], list[Row]] = {}
    for attack, row in zip(attacks, table, strict=True):
        groups.setdefault((_victim(row), attack), []).append(row)
    return groups


def victims_of(groups: Groups) -> list[Configuration]:
    """The settings of victims, each once."""
    return list(dict.fromkeys(victim for victim, _ in groups))


def attacked(groups: Groups) -> list[Configuration]:
    """The settings of victims that were attacked, each once."""
    return list(dict.fromkeys(victim for victim, attack in groups if attack is not None))


def _victim(row: Row) -> Configuration:
    key = {KEY_SIZE: CLASSES} if row["cells"] == CLASSES else {}
    return _configuration(_below("victim", row) | key)


def _attack(row: Row, inherit: bool) -> Configuration | None:
    attack = _below("attack", row)
    if not attack:
        return None
    if inherit:
        victim, strong = (
            _below("victim", row),
            {path: attack[path] for path in strengths(attack.items()) if path in attack},
        )
        steps = (found[0] for path in attack if (found := STEP.match(path)))
        for place, (field, like) in product(dict.fromkeys(["", *steps]), (("student", "model"), ("recipe", "recipe"))):
            attack = _mark_inherited(attack, f"{place}{field}", _below(like, victim))
        attack |= strong  # how strong an attack is is told as it is
    return _configuration(attack)


def _below(name: str, row: Row) -> dict[str, Any]:
    return {path.removeprefix(f"{name}."): value for path, value in row.items() if path.startswith(f"{name}.")}


def _mark_inherited(attack: dict[str, Any], field: str, like: Mapping[str, Any]) -> dict[str, Any]:
    """An attack in which what equals its victim says so; a record of a kind follows as a whole or not at all."""
    own = _below(field, attack)
    if not own or ("kind" in own and own != like):
        return attack
    if "kind" in own:
        return {path: value for path, value in attack.items() if not path.startswith(f"{field}.")} | {
            f"{field}.kind": INHERITED
        }
    alike = {path for path, value in own.items() if like.get(path) == value and not path.startswith("schedule.")}
    if _below("schedule", own) == _below("schedule", like):
        alike |= {path for path in own if path.startswith("schedule.")}
    return attack | {f"{field}.{path}": INHERITED for path in alike}


def _configuration(leaves: Mapping[str, Any]) -> Configuration:
    own = [(path, value) for path, value in leaves.items() if path.rpartition(".")[2] != "seed"]
    return tuple((path, tuple(value) if isinstance(value, list) else value) for path, value in own)


def varying_fields(configurations: Iterable[Configuration]) -> list[str]:
    """The paths on which two configurations that both have them disagree, in their order; those of a scheme last."""
    seen: dict[str, set[Any]] = {}
    for configuration in configurations:
        for path, value in configuration:
            seen.setdefault(path, set()).add(value)
    return sorted((path for path, values in seen.items() if len(values) > 1), key=is_of_scheme)


def is_of_scheme(path: str) -> bool:
    """Whether a path is that of a scheme's field."""
    return path.startswith("scheme.")
