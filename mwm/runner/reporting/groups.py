"""Configurations: rows that differ in nothing but seeds, what they are called, and what they show on average."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields
from typing import Any, get_args

from mwm.attacks import Attack
from mwm.config.spec import shown_fields
from mwm.runner.reporting.results import Row
from mwm.stats.intervals import clopper_pearson
from mwm.trials.names import INHERITED, describe
from mwm.trials.outcome import PROVEN_AT_DEFAULT

BUDGET = "query_budget"
"""The field of an attack that a curve runs along: attacks that differ in it alone are one curve."""

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
        groups.setdefault((_configuration(_below("victim", row)), attack), []).append(row)
    return groups


def victims_of(groups: Groups) -> list[Configuration]:
    """The settings of victims, each once."""
    return list(dict.fromkeys(victim for victim, _ in groups))


def attacked(groups: Groups) -> list[Configuration]:
    """The settings of victims that were attacked, each once."""
    return list(dict.fromkeys(victim for victim, attack in groups if attack is not None))


def attacks_of(groups: Groups) -> list[Configuration]:
    """The configurations of attacks, each once, in the order of the catalogue, whichever ended first.

    Of one kind, those that are named like the default come first. Those that differ in their query budget alone stand
    together, the smallest first.
    """
    catalogue = {kind.kind: kind for kind in get_args(get_args(Attack)[0])}
    order = [*catalogue]

    def place(attack: Configuration) -> tuple[int, list[bool], str, float]:
        own, kind = dict(attack), catalogue[dict(attack)["kind"]]
        usual = {field.name: field.default for field in fields(kind)}
        apart = [own.get(name) != usual[name] for name, told in shown_fields(kind).items() if told.always]
        return order.index(kind.kind), apart, repr(without_budget(attack)), own.get(BUDGET) or math.inf

    return sorted({attack for _, attack in groups if attack is not None}, key=place)


def without_budget(attack: Configuration) -> Configuration:
    """What an attack is apart from its query budget."""
    return tuple(leaf for leaf in attack if leaf[0] != BUDGET)


def _attack(row: Row, inherit: bool) -> Configuration | None:
    attack = _below("attack", row)
    if not attack:
        return None
    if inherit:
        victim = _below("victim", row)
        for field, like in (("student", "model"), ("recipe", "recipe")):
            attack = _mark_inherited(attack, field, _below(like, victim))
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
    return sorted((path for path, values in seen.items() if len(values) > 1), key=_of_scheme)


def _of_scheme(path: str) -> bool:
    return path.startswith("scheme.")


def configuration_names(configurations: Sequence[Configuration], kind: str) -> dict[Configuration, str]:
    """Each configuration in words: its kind, which is said at the path `kind`, then what tells it from the others."""
    said = [path for path in varying_fields(configurations) if path != kind]
    said.sort(key=lambda path: (_of_scheme(path), path == BUDGET, "" if _of_scheme(path) else path))
    leaves = {one: dict(one) for one in configurations}
    return {
        one: describe(own[kind], [(path, own[path]) for path in said if path in own]) for one, own in leaves.items()
    }


def by_scheme(groups: Groups) -> dict[tuple[str, Configuration], Members]:
    """The students of each attack on each kind of scheme, all its settings together."""
    found: dict[tuple[str, Configuration], list[Mapping[str, Any]]] = {}
    for (victim, attack), members in groups.items():
        if attack is not None:
            found.setdefault((dict(victim)["scheme.kind"], attack), []).extend(members)
    return dict(found)


def present(members: Members, name: str) -> list[float]:
    """What the rows say under a name, where they say something."""
    return [row[name] for row in members if row.get(name) is not None]


def detection_rate(members: Members) -> dict[str, Any]:
    """How many of the students are shown to be copies at the usual level; their share, and its 95 % interval."""
    proofs = present(members, PROVEN_AT_DEFAULT)
    count, students = round(sum(proofs)), len(proofs)
    low, high = clopper_pearson(count, students) if students else (None, None)
    part = count / students if students else None
    return {"students": students, "detected": count, "share": part, "low": low, "high": high}
